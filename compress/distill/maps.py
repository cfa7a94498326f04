"""Features of two networks made comparable: places, rows, reductions.

The losses of features compare maps `[B, H, W, C]` or vectors `[B, D]` of a
student and a teacher for the same images. Where the maps differ in size, the
larger is averaged down to the smaller.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from compress.errors import InputError

REDUCTIONS = ('paper', 'reference')


def adaptive_average_pool(
  maps: jax.Array, *, places: tuple[int, int]
) -> jax.Array:
  """Averages maps over windows that cover them as evenly as integers allow.

  Of n places, output i of m is the mean of those from floor(i n / m) up to,
  not including, ceil((i + 1) n / m); windows overlap where m does not divide
  n. This is the adaptive average pooling of the common frameworks.

  Args:
    maps: `[B, H, W, C]`, any float dtype.
    places: height and width of the result, each 1 or more.

  Returns:
    Float32 `[B, height, width, C]`; the same values where the size is the same.

  Raises:
    InputError: maps of another rank, or no places.
  """
  _check_maps(maps)
  if min(places) < 1:
    raise InputError(f'pooling to {list(places)} places; right is 1 or more')
  maps = maps.astype(jnp.float32)
  if maps.shape[1:3] == tuple(places):
    return maps
  down, across = (
    jnp.asarray(_windows(n, m))
    for n, m in zip(maps.shape[1:3], places, strict=True)
  )
  return jnp.einsum('bhwc,ih,jw->bijc', maps, down, across, precision='highest')


def match_places(
  student: jax.Array, teacher: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Maps of one size: on each axis, the larger is averaged to the smaller.

  Args:
    student: `[B, H_s, W_s, C_s]`.
    teacher: `[B, H_t, W_t, C_t]`.

  Returns:
    Both, float32, with min(H_s, H_t) x min(W_s, W_t) places.

  Raises:
    InputError: maps of another rank, or of batches of different size.
  """
  _check_maps(student)
  _check_maps(teacher)
  check_batches(student, teacher)
  places = tuple(
    min(ours, theirs)
    for ours, theirs in zip(student.shape[1:3], teacher.shape[1:3], strict=True)
  )
  return (
    adaptive_average_pool(student, places=places),
    adaptive_average_pool(teacher, places=places),
  )


def as_rows(
  student: jax.Array, teacher: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Features flattened to a row an image, float32, the teacher's constant.

  Args:
    student: `[B, ...]`.
    teacher: `[B, ...]`, of any other size.

  Returns:
    `[B, D_s]` and `[B, D_t]`.

  Raises:
    InputError: features without a row, or of batches of different size.
  """
  check_batches(student, teacher)
  batch = student.shape[0]
  return (
    student.astype(jnp.float32).reshape(batch, -1),
    jax.lax.stop_gradient(teacher.astype(jnp.float32)).reshape(batch, -1),
  )


def check_batches(student: jax.Array, teacher: jax.Array) -> None:
  """Raises unless both are features of the same number of images.

  Args:
    student: `[B, ...]`.
    teacher: `[B, ...]`.

  Raises:
    InputError: rank below 2, or another number of images.
  """
  shapes = list(student.shape), list(teacher.shape)
  if min(student.ndim, teacher.ndim) < 2 or shapes[0][0] != shapes[1][0]:
    raise InputError(
      f'features {shapes[0]} of the student and {shapes[1]} of the teacher; '
      'right is [B, ...] of the same images'
    )


def check_reduction(reduction: str) -> None:
  """Raises unless the reduction is 'paper' or 'reference'.

  Args:
    reduction: as the losses take it.

  Raises:
    InputError: any other.
  """
  if reduction not in REDUCTIONS:
    raise InputError(
      f'reduction is {reduction!r}; right is one of {", ".join(REDUCTIONS)}'
    )


def _check_maps(maps: jax.Array) -> None:
  if maps.ndim != 4:
    raise InputError(f'maps of shape {list(maps.shape)}; right is [B, H, W, C]')


def _windows(count: int, places: int) -> np.ndarray:
  """Weights `[places, count]` of the mean over each window."""
  weights = np.zeros((places, count), np.float32)
  for place in range(places):
    start = place * count // places
    stop = math.ceil((place + 1) * count / places)
    weights[place, start:stop] = 1 / (stop - start)
  return weights
