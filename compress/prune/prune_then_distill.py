r"""The student's widths from what unstructured pruning left of its teacher.

Park and No 2022, 'Prune Your Model Before Distill It', ECCV, arXiv:2109.14960.
A teacher is pruned weight by weight, 20 % of all that are left a round
(`lottery_ticket.next_masks`), each followed by training with the learning rate
wound back, and teaches a student that has about as many weights in each layer
as the teacher has left there:

  c_1 = round(R_1 / (9 * 3)),   c_l = round(R_l / (9 c_{l-1})) ,

R_l being the weights of layer l that survive. The student is dense and starts
anew; the loss is Hinton's, alpha = 0.95 and T = 10 (`distill.hinton_loss`,
`hard_weight` = 0.05). The paper's teachers of 36, 59 and 79 % are those of 2, 4
and 7 rounds; its VGG-19 students have 36.2, 59.3 and 79.3 % fewer weights in
convolutions. Its claim: a pruned teacher teaches better than a dense one.

Departures: any kernel area, and dense layers, where the formula has 9 and
convolutions alone; a width is at least 1. The authors' automatic plan divides
by 3 c_{l-1} after the first layer, which their own published plans do not.
"""

import math
from collections.abc import Sequence

from compress.errors import InputError
from compress.prune.rounding import check_sparsity


def rewinding_rounds(sparsity: float, *, fraction: float = 0.2) -> int:
  """Rounds that come nearest to a sparsity, argmin_n |1 - (1 - p)^n - s|.

  Args:
    sparsity: fraction removed, in [0, 1).
    fraction: p, what a round removes of the survivors, in (0, 1).

  Returns:
    n; the smaller of two that come equally near.

  Raises:
    InputError: either is out of its range.
  """
  check_sparsity(sparsity)
  if not 0 < fraction < 1:
    raise InputError(f'fraction={fraction:g}: right is in (0, 1)')
  most = math.ceil(math.log(1 - sparsity) / math.log(1 - fraction)) + 1
  return min(
    range(most + 1), key=lambda n: abs(1 - (1 - fraction) ** n - sparsity)
  )


def student_widths(
  surviving: Sequence[int],
  *,
  areas: int | Sequence[int] = 9,
  channels: int = 3,
) -> tuple[int, ...]:
  """Widths of a student of as many weights; the formula above.

  Args:
    surviving: weights that survive in each layer of a chain, R_l.
    areas: weights between one channel and another, for all or each layer: the
      area of a kernel, 1 of a dense layer, the number of places of one after
      flattening.
    channels: of the input.

  Returns:
    A width for each layer, 1 or more. A layer that must keep its width (the
    last) is simply not asked for.

  Raises:
    InputError: a count or an area below 1, or other numbers of them.
  """
  if isinstance(areas, int):
    areas = [areas] * len(surviving)
  if len(areas) != len(surviving) or channels < 1:
    raise InputError(
      f'{len(surviving)} layers, {len(areas)} areas, {channels} channels: '
      'right is an area a layer and at least one channel'
    )
  widths = []
  for i, (left, area) in enumerate(zip(surviving, areas, strict=True)):
    if left < 1 or area < 1:
      raise InputError(
        f'layer {i}: {left} weights survive, area {area}: right is 1 or more'
      )
    channels = max(1, round(left / (area * channels)))
    widths.append(channels)
  return tuple(widths)
