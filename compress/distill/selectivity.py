"""Neuron selectivity transfer: which places the channels like, as a set.

Huang and Wang 2017, 'Like What You Like: Knowledge Distill via Neuron
Selectivity Transfer', arXiv:1707.01219, equations 4 to 7. Each channel of a
map, flattened over its places and scaled to unit norm, is a sample; the loss is
the squared maximum mean discrepancy of the teacher's samples and the student's,

  L = mean k(t, t') + mean k(s, s') - 2 mean k(s, t) ,
  k(a, b) = (a . b + c)^d ,

for each image, mean over the batch. The numbers of channels may differ.
"""

import jax
import jax.numpy as jnp

from compress.distill.maps import match_places
from compress.errors import InputError


def selectivity_loss(
  student: jax.Array,
  teacher: jax.Array,
  *,
  degree: int = 2,
  constant: float = 0.0,
) -> jax.Array:
  """Maximum mean discrepancy of channels with a polynomial kernel.

  Scaling a channel of an image by a positive factor, or another order of the
  channels, changes nothing. A channel that is 0 everywhere counts as the zero
  vector and gets no gradient. The defaults are the paper's and RepDistiller's.

  Args:
    student: `[B, H, W, C_s]`.
    teacher: `[B, H, W, C_t]`, without gradient; the larger map is averaged to
      the size of the smaller.
    degree: d, 1 or more.
    constant: c, 0 or more.

  Returns:
    Float32 scalar, 0 or more up to rounding.

  Raises:
    InputError: other shapes or options.
  """
  if not (degree >= 1 and degree == int(degree) and constant >= 0):
    raise InputError(
      f'degree {degree}, constant {constant}; right are a whole number of 1 or '
      'more, and 0 or more'
    )
  student, teacher = match_places(student, jax.lax.stop_gradient(teacher))
  ours, theirs = (
    maps.reshape(len(maps), -1, maps.shape[-1]) for maps in (student, teacher)
  )
  products = [
    jnp.einsum('bnc,bnd->bcd', a, b, precision='highest')
    for a, b in ((ours, ours), (theirs, theirs), (ours, theirs))
  ]
  # Products are divided by the norms, which is less work than the maps.
  s, t = (_inverse_norms(x) for x in products[:2])

  def mean(product, rows, columns):
    cosines = product * rows[:, :, None] * columns[:, None, :]
    return ((cosines + constant) ** int(degree)).mean()

  same, other, mixed = products
  return mean(other, t, t) + mean(same, s, s) - 2 * mean(mixed, s, t)


def _inverse_norms(products):
  """`[B, C]` of the channels whose products are given; 0 for a norm of 0."""
  squares = jnp.diagonal(products, axis1=1, axis2=2)
  positive = squares > 0
  return jnp.where(
    positive, jax.lax.rsqrt(jnp.where(positive, squares, 1.0)), 0.0
  )
