r"""A professor between teacher and student: soft targets made better.

After Bang, Lee and Shim (2021), "Distilling from professors: Enhancing the
knowledge distillation of teachers", Information Sciences 576, pp. 743-755,
doi:10.1016/j.ins.2021.08.020. A network refines the teacher's soft targets
before the student sees them: to be right more often, and to keep the teacher's
likeness of classes. It is a conditional adversarial autoencoder, of the input
and the teacher's answer.

**This is a reconstruction.** Only the abstract was read, and no public code was
found; networks, losses and weights below are the library's:

  latent = E(x, q_t(T)) ,  z_p = z_t + D_z(latent) ,  (x', q') = D_r(latent) ,
  L_professor = CE(y, q_p) + mu L_adv + nu mean |(x', q') - (x, q_t)|^2 ,
  L_adv = -log disc(q_p(T)) ,
  L_disc = -log disc(q_t(T)) - log(1 - disc(q_p(T))) ,
  L_student = T^2 KL(q_p || q_s) , or its mean with T^2 KL(q_t || q_s) .

x are features `[B, F]`: the teacher's penultimate ones, or pixels in a row. The
discriminator keeps refined targets like a teacher's. `D_z` starts at zero: an
untrained professor is its teacher, and the student's loss is plain
distillation's. Professor and discriminator take turns, each with an optimizer
of its own; neither is exported.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from compress.distill.response import (
  check_temperature,
  cross_entropy,
  soft_target_loss,
)
from compress.errors import InputError

Layer = dict[str, jax.Array]


class Refined(NamedTuple):
  """What a professor makes of a teacher's answer.

  Attributes:
    logits: float32 `[B, C]`, refined.
    inputs: float32 `[B, F + C]`, what the encoder was given.
    reconstruction: float32 `[B, F + C]`, what the decoder makes of the latent.
  """

  logits: jax.Array
  inputs: jax.Array
  reconstruction: jax.Array


def init_professor(
  key: jax.Array,
  *,
  features: int,
  classes: int,
  width: int = 128,
  latent: int = 32,
) -> dict[str, Layer]:
  """A professor that changes nothing yet.

  Args:
    key: a PRNG key.
    features: F.
    classes: C.
    width: of the hidden layers.
    latent: of the code between encoder and decoder.

  Returns:
    Layers {'kernel', 'bias'} by name; kernels He-normal, that of 'correct'
    zero.
  """
  keys = jax.random.split(key, 4)
  size = features + classes
  return {
    'encode': _dense(keys[0], size, width),
    'latent': _dense(keys[1], width, latent),
    'decode': _dense(keys[2], latent, width),
    'reconstruct': _dense(keys[3], width, size),
    'correct': {
      'kernel': jnp.zeros((width, classes)),
      'bias': jnp.zeros(classes),
    },
  }


def init_discriminator(
  key: jax.Array, *, classes: int, width: int = 128
) -> dict[str, Layer]:
  """What tells a teacher's softened probabilities from a professor's."""
  keys = jax.random.split(key)
  return {
    'hidden': _dense(keys[0], classes, width),
    'verdict': _dense(keys[1], width, 1),
  }


def refine(
  professor: dict[str, Layer],
  features: jax.Array,
  teacher: jax.Array,
  *,
  temperature: float = 4.0,
) -> Refined:
  """The teacher's logits, refined.

  Args:
    professor: of `init_professor`.
    features: `[B, F]`, without gradient.
    teacher: logits `[B, C]`, finite; without gradient.
    temperature: T > 0 at which the professor sees them.

  Returns:
    The refined logits, and the autoencoder's two sides.

  Raises:
    InputError: the temperature is not finite and above 0.
  """
  chex.assert_rank([features, teacher], [2, 2])
  check_temperature(temperature)
  features, teacher = jax.lax.stop_gradient(
    (features.astype(jnp.float32), teacher.astype(jnp.float32))
  )
  answers = jax.nn.softmax(teacher / temperature)
  inputs = jnp.concatenate([features, answers], axis=1)
  hidden = jax.nn.relu(_apply(professor['encode'], inputs))
  latent = _apply(professor['latent'], hidden)
  hidden = jax.nn.relu(_apply(professor['decode'], latent))
  return Refined(
    teacher + _apply(professor['correct'], hidden),
    inputs,
    _apply(professor['reconstruct'], hidden),
  )


def professor_loss(
  features: jax.Array,
  teacher: jax.Array,
  labels: jax.Array,
  professor: dict[str, Layer],
  discriminator: dict[str, Layer],
  *,
  temperature: float = 4.0,
  adversarial_weight: float = 1.0,
  reconstruction_weight: float = 1.0,
) -> jax.Array:
  """What the professor is trained by; the discriminator gets no gradient.

  Args:
    features: `[B, F]`.
    teacher: logits `[B, C]`.
    labels: classes 0..C-1, int `[B]`.
    professor: of `init_professor`.
    discriminator: of `init_discriminator`.
    temperature: T > 0 of the softened targets; that of the labels is 1.
    adversarial_weight: mu, 0 or more. The smaller, the less of the likeness
      between classes is kept.
    reconstruction_weight: nu, 0 or more.

  Returns:
    Float32 scalar >= 0.

  Raises:
    InputError: an option out of its range.
  """
  if not (adversarial_weight >= 0 and reconstruction_weight >= 0):
    raise InputError(
      f'adversarial_weight {adversarial_weight}, reconstruction_weight '
      f'{reconstruction_weight}: right is 0 or more'
    )
  refined = refine(professor, features, teacher, temperature=temperature)
  verdict = _judge(
    jax.lax.stop_gradient(discriminator), refined.logits, temperature
  )
  gap = jnp.square(refined.reconstruction - refined.inputs).mean()
  return (
    cross_entropy(refined.logits, labels)
    + adversarial_weight * jax.nn.softplus(-verdict).mean()
    + reconstruction_weight * gap
  )


def discriminator_loss(
  features: jax.Array,
  teacher: jax.Array,
  professor: dict[str, Layer],
  discriminator: dict[str, Layer],
  *,
  temperature: float = 4.0,
) -> jax.Array:
  """What the discriminator is trained by; the professor gets no gradient.

  Args:
    features: `[B, F]`.
    teacher: logits `[B, C]`.
    professor: of `init_professor`.
    discriminator: of `init_discriminator`.
    temperature: T > 0.

  Returns:
    Float32 scalar > 0; 2 log 2 where it cannot tell.

  Raises:
    InputError: the temperature is not finite and above 0.
  """
  refined = refine(professor, features, teacher, temperature=temperature)
  teacher = jax.lax.stop_gradient(teacher.astype(jnp.float32))
  real = _judge(discriminator, teacher, temperature)
  fake = jax.lax.stop_gradient(refined.logits)
  fake = _judge(discriminator, fake, temperature)
  return (jax.nn.softplus(-real) + jax.nn.softplus(fake)).mean()


def professor_student_loss(
  student: jax.Array,
  teacher: jax.Array,
  refined: jax.Array,
  *,
  temperature: float = 4.0,
  form: str = 'professor',
) -> jax.Array:
  """What the student is taught, beside its labels.

  Args:
    student: logits `[B, C]`.
    teacher: logits `[B, C]`, without gradient.
    refined: logits `[B, C]` of `refine`, without gradient.
    temperature: T > 0.
    form: 'professor', its softened divergence alone, or 'both', the mean of it
      and the teacher's.

  Returns:
    Float32 scalar >= 0; with `refined` the teacher's logits, the
    `soft_target_loss`.

  Raises:
    InputError: an option out of its range.
  """
  if form not in ('professor', 'both'):
    raise InputError(f"form is {form!r}; it must be 'professor' or 'both'.")
  best = soft_target_loss(student, refined, temperature=temperature)
  if form == 'professor':
    return best
  plain = soft_target_loss(student, teacher, temperature=temperature)
  return (best + plain) / 2


def class_likeness_kept(
  teacher: np.ndarray, refined: np.ndarray, labels: np.ndarray
) -> float | None:
  """How far the order of class likenesses stays the teacher's.

  The likeness of class c to another is the mean probability of the other over
  the examples of c, at T = 1.

  Args:
    teacher: logits `[N, C]`.
    refined: logits `[N, C]`.
    labels: int `[N]`.

  Returns:
    Spearman's rank correlation of the likenesses of different classes, -1..1,
    equal ones sharing their mean rank; None where all of either are equal.

  Raises:
    InputError: shapes that do not fit.
  """
  teacher, refined = (np.asarray(z, np.float64) for z in (teacher, refined))
  labels = np.asarray(labels)
  if (
    teacher.ndim != 2
    or teacher.shape != refined.shape
    or labels.shape != teacher.shape[:1]
  ):
    raise InputError(
      f'logits {list(teacher.shape)}, {list(refined.shape)} and labels '
      f'{list(labels.shape)}; right is [N, C] twice and [N]'
    )
  ranks = [_ranks(_likeness(z, labels)) for z in (teacher, refined)]
  ours, theirs = (r - r.mean() for r in ranks)
  size = np.sqrt((ours**2).sum() * (theirs**2).sum())
  return float((ours * theirs).sum() / size) if size > 0 else None


def _likeness(logits, labels):
  """Mean probabilities of other classes, for each class that occurs."""
  odds = np.exp(logits - logits.max(1, keepdims=True))
  q = odds / odds.sum(1, keepdims=True)
  rows = [np.delete(q[labels == c].mean(0), c) for c in np.unique(labels)]
  return np.concatenate(rows)


def _ranks(values):
  """Mean rank of each value among all."""
  _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
  last = np.cumsum(counts)
  return (last - (counts - 1) / 2)[place]


def _judge(discriminator, logits, temperature):
  """Logits `[B]`, positive for a teacher, of softened probabilities."""
  hidden = jax.nn.relu(
    _apply(discriminator['hidden'], jax.nn.softmax(logits / temperature))
  )
  return _apply(discriminator['verdict'], hidden).squeeze(1)


def _dense(key, size, width):
  kernel = jax.random.normal(key, (size, width)) * np.float32(np.sqrt(2 / size))
  return {'kernel': kernel, 'bias': jnp.zeros(width)}


def _apply(layer, inputs):
  return inputs @ layer['kernel'] + layer['bias'][None]
