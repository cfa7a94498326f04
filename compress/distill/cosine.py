"""Distillation of features by their direction, across widths.

Aghli and Ribeiro 2021, 'Combining Weight Pruning and Knowledge Distillation
for CNN Compression', CVPR Workshops: the student of a residual network whose
shortcuts forbid pruning is narrower throughout, and learns with a loss of its
own beside that of the task, on the cosine between its features and the
teacher's. Its exact form was not read; this is the library's:

  L = L_task + lambda (1 - cos(f_t, P f_s)) ,

P being the identity where the widths agree, or a linear map of the student's
channels onto the teacher's that is trained along and then thrown away.
"""

import jax
import jax.numpy as jnp

from compress.distill.embedding import normalize
from compress.errors import InputError


def init_projection(key: jax.Array, *, student: int, teacher: int) -> jax.Array:
  """A linear map of channels, [C_s, C_t] ~ N(0, 1 / C_s), to be trained."""
  kernel = jax.random.normal(key, (student, teacher))
  return kernel / jnp.sqrt(jnp.float32(student))


def cosine_feature_loss(
  student: jax.Array,
  teacher: jax.Array,
  *,
  projection: jax.Array | None = None,
) -> jax.Array:
  """Mean over images of `1 - cos(f_t, P f_s)`, features flattened.

  Computed as half the squared distance of the unit vectors, which is the same
  and does not lose what is small next to 1 where both are nearly equal.
  Features of norm zero count as the zero vector: 0 against another zero, 1/2
  against anything else, without gradient. The teacher carries none.

  Args:
    student: `[B, ..., C_s]`, channels last.
    teacher: `[B, ..., C_t]`, the same places.
    projection: `[C_s, C_t]`; None where the widths agree.

  Returns:
    Float32 scalar in [0, 2].

  Raises:
    InputError: shapes that do not fit.
  """
  width = student.shape[-1]
  if projection is not None:
    if projection.shape != (width, teacher.shape[-1]):
      raise InputError(
        f'a projection of shape {list(projection.shape)}; right is '
        f'{[width, teacher.shape[-1]]}, from the channels of the student to '
        'those of the teacher'
      )
    student = jnp.einsum(
      '...s,st->...t',
      student.astype(jnp.float32),
      projection.astype(jnp.float32),
    )
  if student.shape != teacher.shape:
    raise InputError(
      f'features {list(student.shape)} of the student and '
      f'{list(teacher.shape)} of the teacher; right are the same places, and '
      'a projection where the widths differ'
    )
  batch = student.shape[0]
  ours = normalize(student.reshape(batch, -1))
  theirs = normalize(jax.lax.stop_gradient(teacher).reshape(batch, -1))
  return jnp.square(ours - theirs).sum(1).mean() / 2
