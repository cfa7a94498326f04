"""Flow of solution procedure: how one stage's features turn into the next's.

Yim, Joo, Bae and Kim 2017, 'A Gift from Knowledge Distillation: Fast
Optimization, Network Minimization and Transfer Learning', CVPR, equations 1
and 2. The flow of two maps is the matrix of inner products of their channels
over the places, `M = F_low^T F_high / (H W)`; the student's first stage of
training brings its flows to the teacher's, and labels alone follow. It needs
stages with the teacher's numbers of channels.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from compress.distill.maps import (
  check_batches,
  check_reduction,
  match_places,
)
from compress.errors import InputError


def flow_matrix(low: jax.Array, high: jax.Array) -> jax.Array:
  """Mean over places of the products of channels; equation 1.

  The same order of places in both maps, whatever it is, gives the same matrix.

  Args:
    low: `[B, H, W, C_1]`.
    high: `[B, H', W', C_2]`; the larger map is averaged to the size of the
      smaller (the paper takes maxima).

  Returns:
    Float32 `[B, C_1, C_2]`.

  Raises:
    InputError: not maps of the same images.
  """
  low, high = match_places(low, high)
  total = jnp.einsum('bhwc,bhwd->bcd', low, high, precision='highest')
  return total / (low.shape[1] * low.shape[2])


def flow_loss(
  student: Sequence[jax.Array],
  teacher: Sequence[jax.Array],
  *,
  reduction: str = 'paper',
) -> jax.Array:
  """Squared distance of flows between consecutive stages; equation 2.

  Args:
    student: two maps or more, `[B, H_l, W_l, C_l]`, from input to output.
    teacher: as many, with the same channels, of any size; without gradient.
    reduction: 'paper', the squared Frobenius norm of each image's differences,
      mean over the batch; or 'reference' (RepDistiller), the mean over all
      elements. Summed over stages, each with weight 1.

  Returns:
    Float32 scalar >= 0.

  Raises:
    InputError: other stages, or another reduction.
  """
  check_reduction(reduction)
  channels = [[stage.shape[-1] for stage in net] for net in (student, teacher)]
  if channels[0] != channels[1] or len(student) < 2:
    raise InputError(
      f'stages of {channels[0]} channels in the student and {channels[1]} in '
      'the teacher; right are the same, two stages or more'
    )
  check_batches(student[0], teacher[0])
  total = jnp.zeros(())
  for stage in range(len(student) - 1):
    ours = flow_matrix(student[stage], student[stage + 1])
    theirs = flow_matrix(teacher[stage], teacher[stage + 1])
    gap = jnp.square(ours - jax.lax.stop_gradient(theirs))
    if reduction == 'paper':
      gap = gap.sum((1, 2))
    total += gap.mean()
  return total
