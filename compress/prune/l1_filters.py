"""Filters of small norm leave: the plainest pruning of channels.

Li, Kadav, Durdanovic, Samet, Graf 2017, 'Pruning Filters for Efficient
ConvNets', arXiv:1608.08710: the filter j of a layer has the score

  s_j = sum |F_j|,

the m smallest of each layer leave with their feature maps and with what reads
these, all layers at once, and the network is trained on. `independent` scores
are those of the whole filters; `greedy` ones leave out the kernels of input
channels that have already gone. How much leaves a layer is read from a sweep of
one layer at a time (`filter_sensitivity`, `tolerated_sparsity`). What adds up
in a residual connection leaves together, and the shortcut's projection decides
(`leaders`).

Departures: the groups of `graph.channels` say what leaves, also norms' scales,
where the paper treats a few architectures by hand; a group that several layers
produce and no leader decides takes the sum of their scores. Greedy goes through
the groups in order, so of a residual connection only the layers before it count
as pruned. Scores ignore the scale of a BatchNorm behind the filter; `fold` it
first, or use `group_importance`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from compress import graph
from compress.errors import InputError
from compress.graph import ChannelGroup
from compress.prune.group_importance import (
  Reduction,
  by_group,
  keep_channels,
)
from compress.prune.paths import by_path
from compress.prune.rounding import LIBRARY, Rounding


def filter_norms(
  kernel: jax.Array, *, order: int = 1, axis: int = -1
) -> jax.Array:
  """Norm of every filter of a kernel.

  Args:
    kernel: float [..., C_out], C_out at `axis`.
    order: 1, the sum of absolute values, or 2, the Euclidean norm.
    axis: of the filters.

  Returns:
    [C_out] of the kernel's dtype.

  Raises:
    InputError: another order.
  """
  if order not in (1, 2):
    raise InputError(f'order={order} of a norm of filters; right is 1 or 2')
  rows = jnp.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1)
  if order == 1:
    return jnp.abs(rows).sum(1)
  return jnp.sqrt(jnp.square(rows).sum(1))


def producing_kernels(groups: Sequence[ChannelGroup]) -> dict[str, int]:
  """The leaves that make channels of groups.

  Args:
    groups: of `graph.channels`.

  Returns:
    Leaf path, as in the groups, to the axis of its units; biases are none.
  """
  return {
    member.path: member.axis
    for group in groups
    for member in group.members
    if member.role == 'out'
  }


def filter_saliency(
  variables, groups: Sequence[ChannelGroup], *, order: int = 1
) -> dict[str, np.ndarray]:
  """Norms of all filters that make channels of groups.

  Args:
    variables: pytree of arrays that the groups' members are paths of.
    groups: of `graph.channels`.
    order: of the norm, 1 or 2.

  Returns:
    Kernel path to [C_out], for `by_group`.

  Raises:
    InputError: a member is no leaf of the variables, or another order.
  """
  leaves = by_path(variables)
  found = {}
  for path, axis in producing_kernels(groups).items():
    if path not in leaves:
      raise InputError(f'{path}: a group has it, the variables do not')
    found[path] = np.asarray(filter_norms(leaves[path], order=order, axis=axis))
  return found


def l1_filters(
  variables,
  groups: Sequence[ChannelGroup],
  sparsity: float | Mapping[str, float],
  *,
  mode: Literal['independent', 'greedy'] = 'independent',
  leaders: Mapping[str, str] | None = None,
  order: int = 1,
  reduction: Reduction = 'sum',
  rounding: Rounding = LIBRARY,
) -> dict[str, np.ndarray]:
  """Chooses filters by their norms.

  Args:
    variables: pytree of arrays that the groups' members are paths of.
    groups: of `graph.channels`, those that may lose channels.
    sparsity: fraction of the filters removed, in [0, 1); one for all or group
      name to its own.
    mode: whether scores count inputs that are already removed.
    leaders: group name to the path of the kernel that decides for it.
    order: of the norm; the paper's is 1.
    reduction: over the kernels of a group without a leader.
    rounding: convention of the counts.

  Returns:
    Group name to bool [n], for `graph.shrink`; groups that no kernel produces
    are left out.

  Raises:
    InputError: an unknown mode or leader, or what `by_group` and
      `keep_channels` refuse.
  """
  if mode not in ('independent', 'greedy'):
    raise InputError(f"mode={mode!r}: possible are 'independent' and 'greedy'")
  leaders = dict(leaders or {})
  _check_leaders(leaders, groups)
  leaves = {path: np.asarray(leaf) for path, leaf in by_path(variables).items()}
  keep: dict[str, np.ndarray] = {}
  for group in groups:
    scores = filter_saliency(leaves, [group], order=order)
    if group.name in leaders:
      scores = {leaders[group.name]: scores[leaders[group.name]]}
    if not scores:
      continue
    importance = by_group(scores, [group], reduction=reduction)
    keep |= keep_channels(importance, sparsity, rounding=rounding)
    if mode == 'greedy':
      leaves = _without_inputs(leaves, group, keep[group.name])
  return keep


def filter_sensitivity(
  variables,
  groups: Sequence[ChannelGroup],
  importance: Mapping[str, np.ndarray],
  evaluate: Callable[[Any], float],
  *,
  sparsities: Sequence[float],
  rounding: Rounding = LIBRARY,
) -> dict[str, np.ndarray]:
  """Scores of the model with one group pruned at a time, not retrained.

  Channels are masked, so `evaluate` compiles once.

  Args:
    variables: pytree of arrays that the groups' members are paths of.
    groups: of `graph.channels`.
    importance: group name to [n]; of `by_group` or `group_importance`.
    evaluate: from variables to a number such as the validation accuracy.
    sparsities: fractions removed, in [0, 1).
    rounding: convention of the counts.

  Returns:
    Group name to float64 [len(sparsities)].

  Raises:
    InputError: a sparsity out of range, or importance of other groups.
  """
  curves = {}
  for name, values in importance.items():
    curve = []
    for sparsity in sparsities:
      keep = keep_channels({name: values}, sparsity, rounding=rounding)
      curve.append(evaluate(graph.mask_channels(variables, groups, keep)))
    curves[name] = np.array(curve, np.float64)
  return curves


def tolerated_sparsity(
  curves: Mapping[str, np.ndarray],
  sparsities: Sequence[float],
  *,
  baseline: float,
  drop: float,
) -> dict[str, float]:
  """The most that can leave each group before the score falls too far.

  Args:
    curves: of `filter_sensitivity`.
    sparsities: the same as there, rising.
    baseline: score of the whole model, higher is better.
    drop: >= 0, how far below it a score may be.

  Returns:
    Group name to the last sparsity up to which all scores are at least
    `baseline - drop`, 0 where there is none; for `l1_filters`.

  Raises:
    InputError: the sparsities do not rise, or do not fit the curves.
  """
  rising = np.asarray(sparsities, np.float64)
  if (np.diff(rising) <= 0).any():
    raise InputError(f'sparsities {list(sparsities)} do not rise')
  out = {}
  for name, curve in curves.items():
    if np.shape(curve) != rising.shape:
      raise InputError(
        f'{name}: a curve of {np.size(curve)} scores; right is '
        f'{len(rising)}, one a sparsity'
      )
    fine = np.cumprod(np.asarray(curve) >= baseline - drop).sum()
    out[name] = float(rising[fine - 1]) if fine else 0.0
  return out


def _check_leaders(leaders, groups):
  made = {group.name: producing_kernels([group]) for group in groups}
  for name, path in leaders.items():
    if path not in made.get(name, ()):
      raise InputError(
        f'leaders[{name!r}]={path!r} does not produce that group; right is '
        f'one of {", ".join(made.get(name, ())) or "no such group"}'
      )


def _without_inputs(leaves, group, keep):
  """The leaves with zeros where kernels read what the group has lost."""
  leaves = dict(leaves)
  for member in group.members:
    if member.role == 'in':
      leaf = np.moveaxis(leaves[member.path].copy(), member.axis, 0)
      leaf[member.indices[~keep].ravel()] = 0
      leaves[member.path] = np.moveaxis(leaf, 0, member.axis)
  return leaves
