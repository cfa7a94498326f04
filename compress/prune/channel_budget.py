"""How many channels must leave for a budget of multiply-accumulates.

The number that a removal of channels leaves is not a product of densities:
both sides of a kernel shrink, inputs and outputs of the network do not, coupled
layers go together. So the network is shrunk, in shapes alone, and counted.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from compress import graph
from compress.errors import InputError
from compress.graph import ChannelGroup
from compress.prune.group_importance import keep_channels


class ChannelBudget(NamedTuple):
  """Channels that meet a budget.

  Attributes:
    keep: group name to bool [n], for `graph.shrink`.
    sparsity: that `keep` was made with, the lowest found to meet the budget.
    macs: multiply-accumulates that are left, for the batch of the inputs.
  """

  keep: dict[str, np.ndarray]
  sparsity: float
  macs: int


def channel_mac_budget(
  apply: Callable[..., Any],
  variables,
  groups: Sequence[ChannelGroup],
  importance: Mapping[str, np.ndarray],
  *inputs,
  macs: int,
  most: float = 1.0,
  tolerance: float = 1e-3,
  **options,
) -> ChannelBudget:
  """The least sparsity of channels whose shrunk network meets a budget.

  By bisection; nothing but shapes is computed. It takes fewer
  multiply-accumulates at higher sparsity for granted, which holds unless a
  rounding breaks it.

  Args:
    apply: pure function `apply(variables, *inputs)`.
    variables: pytree of arrays or `jax.ShapeDtypeStruct`s.
    groups: of `graph.channels`.
    importance: group name to [n].
    *inputs: an example, or its shapes; MACs are counted for its batch.
    macs: most multiply-accumulates that may be left.
    most: of `keep_channels`.
    tolerance: the sparsity is found to within this.
    **options: of `keep_channels` (`scope`, `round_to`, `rounding`).

  Returns:
    What stays, its sparsity and its multiply-accumulates.

  Raises:
    InputError: no sparsity meets the budget; names the fewest that can be
      left.
  """
  shapes, inputs = jax.tree.map(_shape, (variables, inputs))
  if options.get('scope') == 'isomorphic':
    options['groups'] = groups
  counted: dict[tuple[int, ...], int] = {}

  def at(sparsity):
    keep = keep_channels(importance, sparsity, most=most, **options)
    counts = tuple(int(stays.sum()) for stays in keep.values())
    if counts not in counted:
      small = graph.shrink(
        apply, shapes, keep, *inputs, groups=groups, verify=False
      )
      traced = graph.trace(small.apply, small.variables, *inputs)
      counted[counts] = graph.cost(traced).macs
    return ChannelBudget(keep, sparsity, counted[counts])

  low, best = at(0.0), at(np.nextafter(1.0, 0.0))
  if low.macs <= macs:
    return low
  if best.macs > macs:
    raise InputError(
      f'a budget of {macs:,} multiply-accumulates: the fewest that can be left '
      f'are {best.macs:,}, of {low.macs:,}'
    )
  bottom = 0.0
  while best.sparsity - bottom > tolerance:
    middle = at((bottom + best.sparsity) / 2)
    if middle.macs <= macs:
      best = middle
    else:
      bottom = middle.sparsity
  return best


def _shape(leaf):
  return jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf))
