"""Distillation of a network's response: its class probabilities.

Notation: `z` are logits `[B, C]`, `q(T) = softmax(z / T)`, subscript s is the
student, t the teacher. Losses are float32 scalars whatever the input dtype and
average over the batch, not over the classes: a mean over `B * C` hides a factor
`1 / C` that some public code then undoes by hand. Where published numbers came
out of such code, `reduction='reference'` is what it computes.
"""

import math

import chex
import jax
import jax.numpy as jnp

from compress.distill.maps import check_reduction
from compress.errors import InputError


def pick(values: jax.Array, labels: jax.Array) -> jax.Array:
  """The value of each row's class.

  Args:
    values: `[..., K]`, any float dtype.
    labels: classes 0..K-1, int `[...]`.

  Returns:
    `[...]`, of the values' dtype; NaN where a label is no class, on either
    side: -1 is not the last class.
  """
  chex.assert_shape(labels, values.shape[:-1])
  labels = labels.astype(jnp.int32)
  labels = jnp.where(labels < 0, values.shape[-1], labels)[..., None]
  found = jnp.take_along_axis(
    values, labels, axis=-1, mode='fill', fill_value=jnp.nan
  )
  return found.squeeze(-1)


def soft_cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
  """Cross-entropy of each row's target probabilities.

  Args:
    logits: `[..., C]`; -inf where the target is 0 counts nothing.
    targets: float32 `[..., C]`, rows that sum to 1.

  Returns:
    Float32 `[...]`, in nats.
  """
  log_q = jax.nn.log_softmax(logits.astype(jnp.float32))
  return -jnp.where(targets == 0, 0.0, targets * log_q).sum(axis=-1)


def check_temperature(temperature: float) -> None:
  """Raises unless the temperature is finite and above 0.

  Args:
    temperature: T, as the losses take it.

  Raises:
    InputError: any other.
  """
  if not 0 < temperature < math.inf:
    raise InputError(
      f'temperature is {temperature}; it must be finite and above 0.'
    )


def cross_entropy(
  logits: jax.Array, labels: jax.Array, *, where: jax.Array | None = None
) -> jax.Array:
  """Cross-entropy of integer labels, averaged over the batch.

  Args:
    logits: `[B, C]`.
    labels: classes 0..C-1, int `[B]`. One that is no class, on either side,
      makes the loss NaN; leave such rows out by `where`.
    where: bool `[B]`, the examples that count; all by default. Where none
      does, the loss is 0. What stands in the others, NaN in logits or a label
      that is no class, reaches neither the loss nor its gradient.

  Returns:
    Float32 scalar, in nats.

  Raises:
    InputError: `where` is not of the labels' shape.
  """
  chex.assert_rank([logits, labels], [2, 1])
  logits = logits.astype(jnp.float32)
  if where is None:
    return -pick(jax.nn.log_softmax(logits), labels).mean()
  if where.shape != labels.shape:
    raise InputError(
      f'where of shape {list(where.shape)} for labels {list(labels.shape)}; '
      'right is one a label'
    )
  where = where.astype(bool)
  # Before the logarithm as well: 0 times its gradient would be NaN.
  log_q = jax.nn.log_softmax(jnp.where(where[:, None], logits, 0.0))
  each = jnp.where(where, -pick(log_q, labels), 0.0)
  return each.sum() / jnp.maximum(where.sum(dtype=jnp.float32), 1.0)


def logit_loss(
  student: jax.Array, teacher: jax.Array, *, reduction: str = 'paper'
) -> jax.Array:
  """Half the squared distance of the logits, averaged over the batch.

  `mean_B || z_s - z_t ||^2 / 2`; Bucila, Caruana and Niculescu-Mizil (2006),
  "Model Compression", KDD, who fit a network to real-valued answers; Ba and
  Caruana (2014), "Do Deep Nets Really Need to be Deep?", arXiv:1312.6184,
  equation 1, who fit logits. Up to a constant added to each network's logits
  it is C times the limit of `soft_target_loss` for T to infinity.

  Args:
    student: logits `[B, C]`.
    teacher: logits `[B, C]`, finite; without gradient.
    reduction: 'paper', or 'reference': the mean over `B * C` without the half,
      which libraries call mean squared error.

  Returns:
    Float32 scalar >= 0.

  Raises:
    InputError: an unknown reduction.
  """
  chex.assert_equal_shape([student, teacher])
  chex.assert_rank(student, 2)
  check_reduction(reduction)
  teacher = jax.lax.stop_gradient(teacher.astype(jnp.float32))
  square = jnp.square(student.astype(jnp.float32) - teacher)
  if reduction == 'reference':
    return square.mean()
  return square.sum(axis=1).mean() / 2


def soft_target_loss(
  student: jax.Array,
  teacher: jax.Array,
  *,
  temperature: float,
  reduction: str = 'paper',
) -> jax.Array:
  """Softened Kullback-Leibler divergence from teacher to student.

  `T^2 * mean_B KL(q_t(T) || q_s(T))`; Hinton, Vinyals and Dean (2015),
  "Distilling the Knowledge in a Neural Network", arXiv:1503.02531, section 2,
  in the divergence form, which differs from the paper's cross-entropy by the
  teacher's entropy and has the same gradient, `T * (q_s(T) - q_t(T))` per
  image. As T grows the value tends to
  `|| (z_s - mean z_s) - (z_t - mean z_t) ||^2 / (2 C)`.

  The teacher carries no gradient. Teacher logits of -inf (a one-hot teacher)
  are allowed.

  Args:
    student: logits `[B, C]`.
    teacher: logits `[B, C]`.
    temperature: T > 0; 1 leaves the probabilities as they are.
    reduction: 'paper', which RepDistiller's code computes too; or 'reference',
      divided by C: the mean over `B * C` in the code of TAKD (Mirzadeh et al.
      2020, arXiv:1902.03393) and Tf-KD (Yuan et al. 2020, arXiv:1909.11723).

  Returns:
    Float32 scalar >= 0, in nats times T squared.

  Raises:
    InputError: the temperature is not finite and above 0, an unknown reduction.
  """
  chex.assert_equal_shape([student, teacher])
  chex.assert_rank(student, 2)
  check_temperature(temperature)
  check_reduction(reduction)
  student = student.astype(jnp.float32) / temperature
  teacher = jax.lax.stop_gradient(teacher.astype(jnp.float32)) / temperature
  terms = _divergence_terms(teacher, student)
  if reduction == 'reference':
    return temperature**2 * jnp.mean(terms)
  return temperature**2 * jnp.mean(jnp.sum(terms, axis=-1))


def hinton_loss(
  student: jax.Array,
  teacher: jax.Array,
  labels: jax.Array,
  *,
  temperature: float = 4.0,
  hard_weight: float = 0.1,
  reduction: str = 'paper',
) -> jax.Array:
  """Hinton's mix of true labels and softened teacher probabilities.

  `a * CE(labels, q_s(1)) + (1 - a) * T^2 * KL(q_t(T) || q_s(T))`, `a` being
  `hard_weight`; Hinton, Vinyals and Dean (2015), arXiv:1503.02531, section 2.
  The defaults, T = 4 and a = .1, are those of the RepDistiller benchmark; the
  paper gives the hard term the smaller weight and names no single T.

  Args:
    student: logits `[B, C]`.
    teacher: logits `[B, C]`, of the same (augmented) images.
    labels: classes 0..C-1, int `[B]`.
    temperature: T > 0 of the soft term; the hard term has T = 1.
    hard_weight: `a`, 0..1.
    reduction: of the soft term, as in `soft_target_loss`.

  Returns:
    Float32 scalar >= 0.

  Raises:
    InputError: the temperature is not finite and above 0, the weight not in
      0..1, or an unknown reduction.
  """
  if not 0 <= hard_weight <= 1:
    raise InputError(f'hard_weight is {hard_weight}; it must be in 0..1.')
  hard = cross_entropy(student, labels)
  soft = soft_target_loss(
    student, teacher, temperature=temperature, reduction=reduction
  )
  return hard_weight * hard + (1 - hard_weight) * soft


def _divergence_terms(teacher: jax.Array, student: jax.Array) -> jax.Array:
  """Terms of KL(q_t || q_s) over the last axis, each of them >= 0.

  With `u = log(q_t / q_s)` each term is `q_t (u - 1 + exp(-u))`, the plain
  `q_t u` plus something that sums to zero. For small `u` it is a series: in
  float32 the plain sum is off by 3e-5 of its value at T = 20, 1 % at T = 1000.
  """
  log_t = jax.nn.log_softmax(teacher)
  log_s = jax.nn.log_softmax(student)
  q_t, q_s = jnp.exp(log_t), jnp.exp(log_s)
  seen = q_t > 0
  shift = jax.nn.logsumexp(teacher, axis=-1, keepdims=True)
  shift = shift - jax.nn.logsumexp(student, axis=-1, keepdims=True)
  # The difference of logits is exact where that of log-probabilities is not.
  u = jnp.where(seen, teacher, student) - student - shift
  small = jnp.abs(u) < 0.3
  v = jnp.where(small, u, 0.0)
  series = 1 - v / 5 * (1 - v / 6 * (1 - v / 7))
  series = v * v / 2 * (1 - v / 3 * (1 - v / 4 * series))
  plain = jnp.where(seen, q_t * u - q_t + q_s, q_s)
  return jnp.where(seen & small, q_t * series, plain)
