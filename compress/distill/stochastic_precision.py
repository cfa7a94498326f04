"""Distillation from a network's own, more precise moments.

SPEQ: Boo, Shin, Choi, Sung 2021, 'Stochastic Precision Ensemble: Self-Knowledge
Distillation for Quantized Deep Neural Networks', AAAI, arXiv:2009.14502. A
quantized network looks twice at a batch, with the same weights; the second time
each layer's activations have the low or the high precision by chance
(`quantize.draw_precision`), and what comes out is a soft label for the first.
The cosine of the two distributions guides less where the noisy teacher is
unsure, which a divergence does not.

The paper could not be opened: loss and weights are as others report them.
"""

import chex
import jax
import jax.numpy as jnp

from compress.distill.embedding import normalize
from compress.distill.response import check_temperature, cross_entropy
from compress.errors import InputError


def cosine_response_loss(
  student: jax.Array, teacher: jax.Array, *, temperature: float = 1.0
) -> jax.Array:
  """`T^2 (1 - cos(q_s(T), q_t(T)))` of class probabilities, mean over images.

  Computed as half the squared distance of the unit vectors, which is the same
  and 0, with a gradient of 0, where both agree. The teacher carries none.

  Args:
    student: logits `[B, C]`.
    teacher: logits `[B, C]`; -inf is allowed.
    temperature: T > 0.

  Returns:
    Float32 scalar in [0, T^2].

  Raises:
    InputError: the temperature is not finite and above 0.
  """
  chex.assert_equal_shape([student, teacher])
  chex.assert_rank(student, 2)
  check_temperature(temperature)
  teacher = jax.lax.stop_gradient(teacher)
  ours, theirs = (
    normalize(jax.nn.softmax(logits.astype(jnp.float32) / temperature))
    for logits in (student, teacher)
  )
  return temperature**2 * jnp.square(ours - theirs).sum(1).mean() / 2


def stochastic_precision_loss(
  student: jax.Array,
  teacher: jax.Array,
  labels: jax.Array,
  *,
  temperature: float = 1.0,
  weight: float = 1.0,
) -> jax.Array:
  """The labels' cross-entropy, and the cosine to the drawn forward pass.

  Args:
    student: logits `[B, C]` at the low precision.
    teacher: logits `[B, C]` of the same weights at a drawn precision.
    labels: classes 0..C-1, int `[B]`.
    temperature: T > 0 of the cosine.
    weight: lambda of the cosine, 0 or more. The paper's could not be verified.

  Returns:
    Float32 scalar >= 0.

  Raises:
    InputError: the temperature is not finite and above 0, or the weight is
      negative.
  """
  if not weight >= 0:
    raise InputError(f'weight is {weight}; it must be 0 or more.')
  soft = cosine_response_loss(student, teacher, temperature=temperature)
  return cross_entropy(student, labels) + weight * soft
