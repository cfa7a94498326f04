r"""Targets without a teacher: smoothed labels, a virtual teacher, oneself.

Yuan, Tay, Li, Wang and Feng (2020), "Revisiting Knowledge Distillation via
Label Smoothing Regularization", CVPR, arXiv:1909.11723. Smoothed labels (of
Szegedy et al. 2016, arXiv:1512.00567, section 7),

  q' = (1 - e) onehot(y) + e / C ,

are distillation from a uniform teacher; in place of it the paper writes one
that is right with probability `a` and knows nothing else, or takes the network
itself, trained before:

  p_d(y) = a ,  p_d(other) = (1 - a) / (C - 1) ,
  L = (1 - alpha) CE(y, q_s) + alpha KL(p_d(T) || q_s(T)) .

The authors' code computes something else, here `form='reference'`: wrong
classes get `e / (C - 1)`; the virtual teacher's *probabilities* are fed to the
softmax as if they were logits, which leaves it nearly uniform (at C = 100, T =
20 the largest is 1.05 times the smallest); the student's side has T = 1; and
the divergence is averaged over `B * C`, which a multiplier of 50 or 100 undoes.
"""

import chex
import jax
import jax.numpy as jnp

from compress.distill.response import (
  check_temperature,
  cross_entropy,
  soft_cross_entropy,
  soft_target_loss,
)
from compress.errors import InputError


def smooth_labels(
  labels: jax.Array,
  *,
  classes: int,
  smoothing: float = 0.1,
  form: str = 'paper',
) -> jax.Array:
  """Probabilities of the classes that give the true one less than 1.

  Args:
    labels: classes 0..C-1, int `[B]`.
    classes: C, 2 or more.
    smoothing: e, 0..1.
    form: 'paper', or 'reference': `1 - e` for the true class and `e / (C - 1)`
      for each other.

  Returns:
    Float32 `[B, C]`, rows that sum to 1.

  Raises:
    InputError: an option out of its range.
  """
  _check_share('smoothing', smoothing)
  _check_form(form)
  _check_classes(classes)
  off = smoothing / classes if form == 'paper' else smoothing / (classes - 1)
  on = 1 - smoothing + off if form == 'paper' else 1 - smoothing
  return _two_level(labels, classes, on, off)


def label_smoothing_loss(
  logits: jax.Array,
  labels: jax.Array,
  *,
  smoothing: float = 0.1,
  form: str = 'paper',
) -> jax.Array:
  """Cross-entropy of smoothed labels.

  In the paper's form `(1 - e) CE(y, q) + e CE(uniform, q)`, its gradient `(q -
  q') / B`.

  Args:
    logits: `[B, C]`, finite.
    labels: classes 0..C-1, int `[B]`.
    smoothing: e, 0..1.
    form: of the labels, as in `smooth_labels`.

  Returns:
    Float32 scalar > 0, in nats.

  Raises:
    InputError: an option out of its range.
  """
  chex.assert_rank([logits, labels], [2, 1])
  targets = smooth_labels(
    labels, classes=logits.shape[1], smoothing=smoothing, form=form
  )
  return soft_cross_entropy(logits, targets).mean()


def virtual_teacher(
  labels: jax.Array,
  *,
  classes: int,
  correct: float = 0.99,
  temperature: float = 1.0,
  form: str = 'paper',
) -> jax.Array:
  """Probabilities that a virtual teacher gives, softened.

  Args:
    labels: classes 0..C-1, int `[B]`.
    classes: C, 2 or more.
    correct: a, the probability of the true class, 0..1; the paper asks for .9
      or more, its code has .99.
    temperature: T > 0.
    form: 'paper', `p_d^(1/T)` set to sum 1; or 'reference', `softmax(p_d /
      T)`, which is not `p_d` even at T = 1.

  Returns:
    Float32 `[B, C]`, rows that sum to 1.

  Raises:
    InputError: an option out of its range.
  """
  check_temperature(temperature)
  logits = _virtual_logits(labels, classes, correct, form)
  return jax.nn.softmax(logits / temperature)


def virtual_teacher_loss(
  student: jax.Array,
  labels: jax.Array,
  *,
  correct: float = 0.99,
  temperature: float = 20.0,
  soft_weight: float = 0.1,
  multiplier: float | None = None,
  form: str = 'paper',
) -> jax.Array:
  """Teacher-free distillation from a virtual teacher, Tf-KD's regularization.

  `(1 - alpha) CE + alpha * multiplier * KL`. In the paper's form both sides are
  softened, so the divergence's gradient shrinks as 1 / T^2: unscaled, the
  virtual teacher would at T = 20 count for 400 times less than alpha says.
  The multiplier there is T^2 by default, as in Hinton's loss, which leaves
  alpha its meaning at every T; the paper's formula is printed without it. In
  the authors' form the student's side has T = 1 whatever T is, and the default
  is 1. Weights of one form do not fit the other.

  Args:
    student: logits `[B, C]`.
    labels: classes 0..C-1, int `[B]`.
    correct: a, 0..1.
    temperature: T > 0; of both sides in the paper's form, of the virtual
      teacher alone in the other. The paper has 20 or more; its code 10 to 40.
    soft_weight: alpha, the divergence's share, 0..1, the labels having the
      rest; in the authors' code .1 or .95 by network.
    multiplier: 0 or more; None for T^2 in the paper's form and 1 in the
      reference's. In the authors' code 1, 50 or 100 by network.
    form: 'paper', or 'reference': what the authors' code computes (above).

  Returns:
    Float32 scalar >= 0.

  Raises:
    InputError: an option out of its range.
  """
  _check_share('soft_weight', soft_weight)
  check_temperature(temperature)
  _check_form(form)
  if multiplier is None:
    multiplier = temperature**2 if form == 'paper' else 1.0
  _check_multiplier(multiplier)
  hard = cross_entropy(student, labels)
  teacher = _virtual_logits(labels, student.shape[1], correct, form)
  if form == 'paper':
    soft = soft_target_loss(student, teacher, temperature=temperature)
    soft = soft / temperature**2
  else:
    soft = soft_target_loss(
      student, teacher / temperature, temperature=1.0, reduction='reference'
    )
  return (1 - soft_weight) * hard + soft_weight * multiplier * soft


def self_distillation_loss(
  student: jax.Array,
  teacher: jax.Array,
  labels: jax.Array,
  *,
  temperature: float = 20.0,
  soft_weight: float = 0.95,
  multiplier: float = 1.0,
  reduction: str = 'paper',
) -> jax.Array:
  """Teacher-free distillation from the network itself, trained before.

  `(1 - alpha) CE + alpha * multiplier * T^2 KL`: Hinton's loss whose teacher
  has the student's architecture and was trained on labels alone. The defaults
  are the authors' for MobileNetV2 and ShuffleNetV2 on CIFAR-100 (68.38 to
  70.96 % and 70.34 to 72.23 %), where their divergence is the 'reference' one.

  Args:
    student: logits `[B, C]`.
    teacher: logits `[B, C]` of the trained network; without gradient.
    labels: classes 0..C-1, int `[B]`.
    temperature: T > 0.
    soft_weight: alpha, the divergence's share, 0..1, the labels having the
      rest.
    multiplier: 0 or more; in the authors' code 1, 50 or 100 by network.
    reduction: of the divergence, as in `soft_target_loss`.

  Returns:
    Float32 scalar >= 0.

  Raises:
    InputError: an option out of its range.
  """
  _check_share('soft_weight', soft_weight)
  _check_multiplier(multiplier)
  hard = cross_entropy(student, labels)
  soft = soft_target_loss(
    student, teacher, temperature=temperature, reduction=reduction
  )
  return (1 - soft_weight) * hard + soft_weight * multiplier * soft


def _two_level(labels, classes, on, off):
  """`[B, C]`: one value at the labels, another everywhere else."""
  chex.assert_rank(labels, 1)
  hot = jax.nn.one_hot(labels, classes, dtype=bool)
  return jnp.where(hot, jnp.float32(on), jnp.float32(off))


def _virtual_logits(labels, classes, correct, form):
  """What the softmax takes for logits: log p_d, or p_d in the code."""
  _check_share('correct', correct)
  _check_form(form)
  _check_classes(classes)
  wrong = (1 - correct) / (classes - 1)
  given = _two_level(labels, classes, correct, wrong)
  return jnp.log(given) if form == 'paper' else given


def _check_share(name, value):
  if not 0 <= value <= 1:
    raise InputError(f'{name} is {value}; it must be in 0..1.')


def _check_multiplier(multiplier):
  if not multiplier >= 0:
    raise InputError(f'multiplier is {multiplier}; it must be 0 or more.')


def _check_form(form):
  if form not in ('paper', 'reference'):
    raise InputError(f"form is {form!r}; it must be 'paper' or 'reference'.")


def _check_classes(classes):
  if classes < 2:
    raise InputError(f'{classes} classes; there must be 2 or more.')
