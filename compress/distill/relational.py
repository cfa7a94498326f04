"""Relational knowledge distillation: distances and angles within a batch.

Park, Kim, Lu and Cho 2019, 'Relational Knowledge Distillation',
arXiv:1904.05068, equations 4 to 9. A potential is a distance of two images in
units of the mean distance, `psi_D = |x_i - x_j| / mu`, or the cosine of the
angle that two images have at a third, `psi_A = <e_ij, e_kj>`, e of unit norm;
the loss is Huber's (delta = 1) of the teacher's and the student's potentials.
Both are written on the whole batch: under jit over several devices the value is
that of one; mapped by hand, each device would have its own tuples.

Shifting, rotating or scaling all features of a network changes nothing. Images
with equal features are at distance 0, have no angle, and get no gradient there.

The reductions differ in the tuples that the mean is taken over: those of
distinct images ('paper'), or all B^2 pairs and B^3 triples with the trivial
ones, whose loss is 0 ('reference', RepDistiller and the authors' code). The
weights that go with the benchmark, 25 and 50, are for the second.
"""

import jax
import jax.numpy as jnp

from compress.distill.embedding import normalize
from compress.distill.maps import as_rows, check_reduction
from compress.errors import InputError


def relational_distance_loss(
  student: jax.Array, teacher: jax.Array, *, reduction: str = 'paper'
) -> jax.Array:
  """Huber loss of distances in units of their mean; equations 4 to 6.

  The mean distance is that of pairs of distinct images, with those of equal
  features among them: so in the paper, and so, since it keeps distances above
  1e-6, in the reference.

  Args:
    student: `[B, ...]`, flattened.
    teacher: `[B, ...]`, of any other size; without gradient.
    reduction: 'paper' or 'reference'.

  Returns:
    Float32 scalar >= 0; 0 where there are no two images.

  Raises:
    InputError: batches of different size, or another reduction.
  """
  check_reduction(reduction)
  student, teacher = as_rows(student, teacher)
  gap = _huber(_distances(student) - _distances(teacher)).sum()
  batch = len(student)
  count = batch**2 if reduction == 'reference' else batch * (batch - 1)
  return gap / max(count, 1)


def relational_angle_loss(
  student: jax.Array,
  teacher: jax.Array,
  *,
  reduction: str = 'paper',
  chunk: int | None = None,
) -> jax.Array:
  """Huber loss of the cosines of angles; equations 7 to 9.

  Args:
    student: `[B, ...]`, flattened to width D_s.
    teacher: `[B, ...]`, flattened to any other width; without gradient.
    reduction: 'paper' or 'reference'.
    chunk: vertices computed at a time, again in the backward pass, so that
      memory is chunk B (B + D) in place of B^2 (B + D) floats (B = 1024: above
      4 GB); all by default.

  Returns:
    Float32 scalar >= 0; 0 where there are no three images.

  Raises:
    InputError: batches of different size, another reduction, a chunk below 1.
  """
  check_reduction(reduction)
  if chunk is not None and chunk < 1:
    raise InputError(f'chunk is {chunk}; right is 1 or more, or None')
  student, teacher = as_rows(student, teacher)
  batch = len(student)
  # With the trivial triples left out, i = k is: it is 0 but at equal features.
  counted = jnp.ones((batch, batch))
  if reduction == 'paper':
    counted -= jnp.eye(batch)

  def at_vertex(vertex):
    ours, theirs = vertex
    gap = _cosines_at(student, ours) - _cosines_at(teacher, theirs)
    return (_huber(gap) * counted).sum()

  vertices = (student, teacher)
  if chunk is None:
    total = jax.vmap(at_vertex)(vertices).sum()
  else:
    again = jax.checkpoint(at_vertex)
    total = jax.lax.map(again, vertices, batch_size=min(chunk, batch)).sum()
  count = batch * (batch - 1) * (batch - 2)
  if reduction == 'reference':
    count = batch**3
  return total / max(count, 1)


def relational_loss(
  student: jax.Array,
  teacher: jax.Array,
  *,
  distance_weight: float = 1.0,
  angle_weight: float = 2.0,
  reduction: str = 'paper',
  chunk: int | None = None,
) -> jax.Array:
  """Weighted sum of both losses; equation 10 without the task's.

  The defaults are the paper's for metric learning. For classification the
  benchmark has 25 and 50 with `reduction='reference'`.

  Args:
    student: `[B, ...]`, flattened.
    teacher: `[B, ...]`, of any other size; without gradient.
    distance_weight: lambda_D, 0 or more.
    angle_weight: lambda_A, 0 or more.
    reduction: 'paper' or 'reference'.
    chunk: as in `relational_angle_loss`.

  Returns:
    Float32 scalar >= 0.

  Raises:
    InputError: a weight below 0, and as in the two losses.
  """
  if not (distance_weight >= 0 and angle_weight >= 0):
    raise InputError(
      f'distance_weight {distance_weight}, angle_weight {angle_weight}; right '
      'is 0 or more'
    )
  distance = relational_distance_loss(student, teacher, reduction=reduction)
  angle = relational_angle_loss(
    student, teacher, reduction=reduction, chunk=chunk
  )
  return distance_weight * distance + angle_weight * angle


def _huber(gap):
  size = jnp.abs(gap)
  return jnp.where(size < 1, 0.5 * gap * gap, size - 0.5)


def _distances(rows):
  """Distances of all pairs `[B, B]` over the mean of distinct ones."""
  # Differences, not inner products: those lose what is small next to a shift.
  square = jnp.square(rows[:, None] - rows[None]).sum(2)
  apart = square > 0
  distance = jnp.where(apart, jnp.sqrt(jnp.where(apart, square, 1.0)), 0.0)
  pairs = max(len(rows) * (len(rows) - 1), 1)
  mean = distance.sum() / pairs
  return distance / jnp.where(mean > 0, mean, 1.0)


def _cosines_at(rows, vertex):
  """Cosines `[B, B]` of the angles at one image."""
  edges = normalize(rows - vertex[None])
  return jnp.matmul(edges, edges.T, precision='highest')
