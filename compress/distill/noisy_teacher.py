"""A teacher that is noisy: one that teaches like many.

Sau and Balasubramanian (2016), "Deep Model Compression: Distilling Knowledge
from Noisy Teachers", arXiv:1610.09650. For a random share of each batch the
teacher's logits are disturbed by Gaussian noise; the student regresses the
logits. The noise has mean zero, so that the loss keeps its expectation but for
a constant: what changes is the noise of the gradient.

The paper is read as multiplying, `(1 + xi) z`; others report it as adding, `z +
xi`. Both are here.
"""

import chex
import jax
import jax.numpy as jnp

from compress.distill.response import logit_loss
from compress.errors import InputError


def noisy_logits(
  key: jax.Array,
  logits: jax.Array,
  *,
  deviation: float,
  share: float = 0.5,
  kind: str = 'multiplicative',
) -> jax.Array:
  """Logits, disturbed in a random share of the rows.

  Args:
    key: a PRNG key, a new one each step.
    logits: `[B, C]`.
    deviation: sigma of `xi ~ N(0, sigma^2)`, drawn for every logit: relative
      if multiplicative, in units of logits if additive; 0 or more.
    share: alpha, the probability that a row is disturbed, 0..1.
    kind: 'multiplicative', `(1 + xi) z`, or 'additive', `z + xi`.

  Returns:
    Float32 `[B, C]`; in expectation the logits given.

  Raises:
    InputError: an option out of its range.
  """
  chex.assert_rank(logits, 2)
  if not deviation >= 0:
    raise InputError(f'deviation is {deviation}; it must be 0 or more.')
  if not 0 <= share <= 1:
    raise InputError(f'share is {share}; it must be in 0..1.')
  if kind not in ('multiplicative', 'additive'):
    raise InputError(
      f"kind is {kind!r}; it must be 'multiplicative' or 'additive'."
    )
  logits = logits.astype(jnp.float32)
  of_rows, of_logits = jax.random.split(key)
  chosen = jax.random.bernoulli(of_rows, share, (logits.shape[0], 1))
  noise = deviation * jax.random.normal(of_logits, logits.shape)
  if kind == 'multiplicative':
    noise = noise * logits
  return jnp.where(chosen, logits + noise, logits)


def noisy_teacher_loss(
  student: jax.Array,
  teacher: jax.Array,
  key: jax.Array,
  *,
  deviation: float,
  share: float = 0.5,
  kind: str = 'multiplicative',
  reduction: str = 'paper',
) -> jax.Array:
  """Logit matching with a noisy teacher.

  `logit_loss` of the disturbed logits: without noise it is that of the clean
  ones; in expectation larger by `alpha sigma^2 mean_B ||z_t||^2 / 2` if
  multiplicative, `alpha sigma^2 C / 2` if additive, whatever the student says.

  Args:
    student: logits `[B, C]`.
    teacher: logits `[B, C]`, finite; without gradient.
    key: a PRNG key, a new one each step.
    deviation: sigma, 0 or more. The paper's was not read; sweep it.
    share: alpha, 0..1.
    kind: 'multiplicative' or 'additive'.
    reduction: as in `logit_loss`.

  Returns:
    Float32 scalar >= 0.

  Raises:
    InputError: an option out of its range.
  """
  noisy = noisy_logits(
    key, teacher, deviation=deviation, share=share, kind=kind
  )
  return logit_loss(student, noisy, reduction=reduction)
