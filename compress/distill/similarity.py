"""Relations of a batch by inner products: which images look alike.

Three losses on the B x B similarities of a batch, which need no adapters since
they compare images with images. They are written on the whole batch: under jit
over several devices the value is that of one device; mapped by hand, each
device would have its own pairs, which is another loss. Features that are all 0
have no direction, count as the zero vector and get no gradient.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from compress.distill.embedding import normalize
from compress.distill.hints import Regressor, init_regressor, regress
from compress.distill.maps import as_rows, check_reduction
from compress.errors import InputError

_FLOOR = 1e-7


class Embeds(NamedTuple):
  """Linear maps of both networks' features to one width."""

  student: Regressor
  teacher: Regressor


def similarity_loss(student: jax.Array, teacher: jax.Array) -> jax.Array:
  """Similarity-preserving distillation, `|| G_t - G_s ||_F^2 / B^2`.

  Tung and Mori 2019, 'Similarity-Preserving Knowledge Distillation',
  arXiv:1907.09682, equations 2 to 4: `G = A A^T` of flattened features, each
  row scaled to unit norm. Only one scale for the whole batch leaves the value
  as it is.

  Args:
    student: `[B, ...]`.
    teacher: `[B, ...]`, of any other size; without gradient.

  Returns:
    Float32 scalar, 0 to 4 / B; 0 for a single image.

  Raises:
    InputError: batches of different size.
  """
  student, teacher = as_rows(student, teacher)
  batch = student.shape[0]
  gap = normalize(_gram(teacher)) - normalize(_gram(student))
  return jnp.square(gap).sum() / batch**2


def init_embeds(
  key: jax.Array, *, student: int, teacher: int, width: int = 128
) -> Embeds:
  """Two linear maps to a common width, for `correlation_loss`.

  Both are trained: what they throw away, they throw away together, so that a
  loss of 0 alone does not say that the features agree.

  Args:
    key: a `jax.random.key`.
    student: length of the student's flattened features.
    teacher: length of the teacher's.
    width: of both results; 128 in RepDistiller.

  Returns:
    Float32 parameters.
  """
  ours, theirs = jax.random.split(key)
  return Embeds(
    init_regressor(ours, student=(student,), teacher=(width,)),
    init_regressor(theirs, student=(teacher,), teacher=(width,)),
  )


def correlation_loss(
  student: jax.Array,
  teacher: jax.Array,
  params: Embeds | None = None,
  *,
  reduction: str = 'paper',
  gamma: float = 0.4,
  order: int = 2,
) -> jax.Array:
  """Correlation congruence, of embedded features.

  Peng, Jin, Liu, Zhou, Wu, Liu, Zhang and Liu 2019, 'Correlation Congruence
  for Knowledge Distillation', arXiv:1904.01802. 'paper' is
  `|| K_t - K_s ||_F^2 / B^2` with the Gaussian kernel of unit vectors,
  `exp(-gamma |x - y|^2)`, by its Taylor series in the cosine, `exp(-2 gamma)
  sum_{p <= order} (2 gamma)^p / p! (x . y)^p`. 'reference' is what the author
  gave RepDistiller in its place: with `d_i = | E_s(s_i) - E_t(t_i) |`, the mean
  over neighbours in the batch of `d_i . d_{i+1}`, which depends on the order of
  the batch and is no correlation.

  Args:
    student: `[B, ...]`, flattened.
    teacher: `[B, ...]`, flattened; without gradient (its embedding has one).
    params: of `init_embeds`; None compares the features themselves.
    reduction: 'paper' or 'reference'.
    gamma: of the Gaussian kernel, above 0.
    order: last power of the series, 1 or more.

  Returns:
    Float32 scalar >= 0.

  Raises:
    InputError: other shapes or options; 'reference' with fewer than two images
      or with widths that differ.
  """
  check_reduction(reduction)
  student, teacher = as_rows(student, teacher)
  if params is not None:
    student = regress(student, params.student)
    teacher = regress(teacher, params.teacher)
  if reduction == 'paper':
    if not (gamma > 0 and order >= 1):
      raise InputError(
        f'gamma {gamma}, order {order}; right is above 0, and 1 or more'
      )
    gap = _gaussian(teacher, gamma, order) - _gaussian(student, gamma, order)
    return jnp.square(gap).mean()
  if student.shape != teacher.shape or student.shape[0] < 2:
    raise InputError(
      f'embedded features {list(student.shape)} and {list(teacher.shape)}; '
      'right are the same widths, of two images or more'
    )
  gap = student - teacher
  gap = gap * jnp.sign(gap)  # without a slope at 0, where abs has 1
  return (gap[:-1] * gap[1:]).sum(1).mean()


def probabilistic_loss(
  student: jax.Array, teacher: jax.Array, *, reduction: str = 'paper'
) -> jax.Array:
  """Probabilistic knowledge transfer: divergence of neighbourhoods.

  Passalis and Tefas 2018, 'Learning Deep Representations with Probabilistic
  Knowledge Transfer', arXiv:1803.10837, equations 4 to 8: each image has
  probabilities of its neighbours, `(cos + 1) / 2` scaled to sum 1, and the loss
  is the teacher's times `log((K_t + e) / (K_s + e))`, e = 1e-7. Scaling any
  one image's features changes nothing.

  Args:
    student: `[B, ...]`, flattened.
    teacher: `[B, ...]`, of any other size; without gradient.
    reduction: 'paper', over neighbours other than the image itself, the sum
      over neighbours and mean over images; or 'reference' (the authors' code),
      the image among its own neighbours, the mean over all B^2 entries.

  Returns:
    Float32 scalar, 0 where all cosines agree, or for a single image. A negative
    value can only be of the size of e.

  Raises:
    InputError: batches of different size, or another reduction.
  """
  check_reduction(reduction)
  student, teacher = as_rows(student, teacher)
  others = reduction == 'paper'
  ours, theirs = (_neighbours(rows, others) for rows in (student, teacher))
  # The plain sum loses the small value among terms of both signs; the added
  # differences sum to 0 over each row.
  ratio = jnp.log1p((theirs - ours) / (ours + _FLOOR))
  terms = theirs * ratio - theirs + ours
  return terms.sum(1).mean() if others else terms.mean()


def _gram(rows):
  return jnp.matmul(rows, rows.T, precision='highest')


def _gaussian(rows, gamma, order):
  """Taylor series of the Gaussian kernel of unit rows, by Horner's rule."""
  cosine = _gram(normalize(rows))
  coefficients = [
    math.exp(-2 * gamma) * (2 * gamma) ** power / math.factorial(power)
    for power in range(order, -1, -1)
  ]
  total = jnp.zeros_like(cosine)
  for coefficient in coefficients:
    total = total * cosine + coefficient
  return total


def _neighbours(rows, others):
  """Rows of probabilities `[B, B]`; the diagonal is 0 where `others`."""
  nearness = (_gram(normalize(rows)) + 1) / 2
  nearness = jnp.maximum(nearness, 0.0)
  if others:
    nearness = nearness * (1 - jnp.eye(len(rows)))
  total = nearness.sum(1, keepdims=True)
  return jnp.where(total > 0, nearness / jnp.where(total > 0, total, 1), 0.0)
