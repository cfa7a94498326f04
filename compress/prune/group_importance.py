"""Importance of channels that leave together, and which of them stay.

Fang et al. 2023, 'DepGraph: Towards Any Structural Pruning', arXiv:2301.12900:
the importance of channel k of a group g is that of its slice of every weight
that it shares in,

  I[g, k] = reduce over the weights w of g of  sum |w[k]|^p ,

divided by what makes groups comparable. Groups come from
`compress.graph.channels`. Methods that score units, not groups (norms of
filters, relevance, propagated importance), come to groups by `by_group`.

Ranking only groups of one kind against each other follows Fang, Ma, Mi, Wang
2024, 'Isomorphic Pruning for Vision Models', arXiv:2407.04616: importances of
unlike structures have unlike scales. Kinds here are multisets of leaves, axes
and roles (`group_pattern`), where the paper compares graphs; the reading is
from memory, not verified.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import jax
import numpy as np

from compress.errors import InputError
from compress.graph import ChannelGroup
from compress.prune.paths import by_path
from compress.prune.rounding import LIBRARY, Rounding, check_sparsity

Reduction = Literal['mean', 'sum', 'max', 'prod', 'first', 'last']
Normalization = Literal['mean', 'sum', 'max', 'min_max', 'gaussian', 'none']
Scope = Literal['local', 'global', 'isomorphic']

NOT_COUNTED = r'batch_stats/.*|(.*/)?(bias|mean|var|slope)'
"""Leaves that say nothing of importance: biases, statistics, PReLU slopes."""

_REDUCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
  'mean': lambda x: x.mean(0),
  'sum': lambda x: x.sum(0),
  'max': lambda x: x.max(0),
  'prod': lambda x: x.prod(0),
  'first': lambda x: x[0],
  'last': lambda x: x[-1],
}


def group_importance(
  groups: Sequence[ChannelGroup],
  variables,
  *,
  power: float = 2.0,
  reduction: Reduction = 'mean',
  normalization: Normalization = 'mean',
  not_counted: str = NOT_COUNTED,
) -> dict[str, np.ndarray]:
  """Importance of every channel of every group by the size of its weights.

  Args:
    groups: of `graph.channels`.
    variables: pytree of arrays that the groups' members are paths of.
    power: p, of the absolute value.
    reduction: over the weights of a group; `first` is the producing weight
      alone (filter pruning by norm), `last` the last one.
    normalization: divides a group's importance by its mean, sum or maximum;
      `min_max` maps it to [0, 1], `gaussian` to mean 0 and deviation 1.
    not_counted: regular expression of the leaves to leave out; a group of
      nothing else counts them all.

  Returns:
    Group name to float64 [n]; higher is to be kept.

  Raises:
    InputError: a reduction or normalization is unknown, a member is no leaf of
      the variables, or a weight is not finite.
  """
  if reduction not in _REDUCTIONS:
    raise InputError(
      f'reduction={reduction!r}: possible are {", ".join(_REDUCTIONS)}'
    )
  leaves = by_path(variables)
  left_out = re.compile(not_counted)
  sums: dict[tuple[str, int], np.ndarray] = {}

  def along(member):
    """Sum of |w|^p over all axes but the member's."""
    key = member.path, member.axis
    if key not in sums:
      if member.path not in leaves:
        raise InputError(f'{member.path}: a group has it, the variables do not')
      leaf = np.abs(np.asarray(leaves[member.path], np.float64)) ** power
      others = tuple(a for a in range(leaf.ndim) if a != member.axis)
      sums[key] = leaf.sum(others)
      if not np.isfinite(sums[key]).all():
        raise InputError(f'{member.path}: a weight is not finite')
    return sums[key]

  found = {}
  for group in groups:
    counted = [m for m in group.members if not left_out.fullmatch(m.path)]
    members = counted or group.members
    each = np.stack([along(m)[m.indices].sum(1) for m in members])
    found[group.name] = _normalize(_REDUCTIONS[reduction](each), normalization)
  return found


def by_group(
  saliency: Mapping[str, np.ndarray | jax.Array],
  groups: Sequence[ChannelGroup],
  *,
  reduction: Reduction = 'mean',
  normalization: Normalization = 'none',
) -> dict[str, np.ndarray]:
  """Importance of channel groups from the saliency of single units.

  A channel gets what its units have, summed over the units of one leaf that
  leave with it, reduced over the leaves that have a saliency. So which layer
  decides for coupled ones is said by what is given: without the entries of the
  others, a shortcut's projection decides for its whole stage.

  Args:
    saliency: path of a leaf, with or without `params/`, to [C_out]: of kernels
      that produce the units, or of their norms' scales.
    groups: of `graph.channels`.
    reduction: over the leaves, in the order of the group's members.
    normalization: as for `group_importance`.

  Returns:
    Group name to float64 [n], for `keep_channels`; higher is to be kept.
    Groups without any saliency are left out, so they stay whole.

  Raises:
    InputError: a reduction or normalization is unknown, a saliency is not
      finite or not [C_out], or none belongs to a group.
  """
  if reduction not in _REDUCTIONS:
    raise InputError(
      f'reduction={reduction!r}: possible are {", ".join(_REDUCTIONS)}'
    )
  given = {}
  for path, value in saliency.items():
    given[path.removeprefix('params/')] = np.asarray(value, np.float64)
    if not np.isfinite(value).all():
      raise InputError(f'{path}: a saliency is not finite')
  found = {}
  for group in groups:
    each = [
      _of_units(given[path], member)
      for member in group.members
      if (path := member.path.removeprefix('params/')) in given
      and member.role != 'in'
    ]
    if each:
      values = _REDUCTIONS[reduction](np.stack(each))
      found[group.name] = _normalize(values, normalization)
  if not found:
    raise InputError(
      f'saliencies of {", ".join(saliency) or "nothing"}: none belongs to one '
      f'of the {len(groups)} groups; right are paths of leaves that produce '
      'their channels'
    )
  return found


def group_pattern(group: ChannelGroup) -> tuple[tuple[str, int, str], ...]:
  """What kind of group it is, whatever its size and where it stands.

  Args:
    group: of `graph.channels`.

  Returns:
    Last part of the path, axis and role of every member, sorted. Groups of
    equal patterns are ranked together in the scope `isomorphic`.
  """
  return tuple(
    sorted((m.path.rsplit('/', 1)[-1], m.axis, m.role) for m in group.members)
  )


def random_importance(
  groups: Sequence[ChannelGroup], *, seed: int
) -> dict[str, np.ndarray]:
  """The control: importance drawn at random.

  Args:
    groups: of `graph.channels`.
    seed: of the draw.

  Returns:
    Group name to float64 [n] in [0, 1).
  """
  rng = np.random.default_rng(seed)
  return {group.name: rng.random(group.size) for group in groups}


def keep_channels(
  importance: Mapping[str, np.ndarray],
  sparsity: float | Mapping[str, float],
  *,
  scope: Scope = 'local',
  round_to: int = 1,
  rounding: Rounding = LIBRARY,
  most: float = 1.0,
  groups: Sequence[ChannelGroup] | None = None,
) -> dict[str, np.ndarray]:
  """Which channels stay, for `graph.shrink`.

  Args:
    importance: group name to [n].
    sparsity: fraction of the channels removed, in [0, 1); one for all or group
      name to its own (`local` only; a group without one stays whole).
    scope: `local`, every group by itself; `global`, one ranking of all;
      `isomorphic`, one ranking for the groups of each kind.
    round_to: survivors of a group are rounded up to a multiple of this, which
      odd widths on some hardware want; never above n.
    rounding: convention of the counts.
    most: largest fraction that may leave one group, in (0, 1].
    groups: of `graph.channels`, for `isomorphic` alone.

  Returns:
    Group name to bool [n]; at least one stays. Ties by lowest index.

  Raises:
    InputError: no groups, or an option out of its range.
  """
  if not importance:
    raise InputError('no channel groups: nothing can be removed')
  if round_to < 1 or not 0 < most <= 1:
    raise InputError(
      f'round_to={round_to}, most={most:g}: right is round_to of 1 or more and '
      'most in (0, 1]'
    )
  if scope == 'local':
    counts = {}
    for name, values in importance.items():
      own = sparsity
      if isinstance(sparsity, Mapping):
        own = sparsity.get(name, 0.0)
      counts[name] = rounding.count(len(values), check_sparsity(own, name))
  elif scope in ('global', 'isomorphic'):
    if isinstance(sparsity, Mapping):
      raise InputError(f'scope={scope!r} takes one sparsity for all groups')
    check_sparsity(sparsity)
    counts = {}
    for names in _kinds(importance, groups, scope):
      kind = {name: importance[name] for name in names}
      counts.update(_global_counts(kind, sparsity, rounding))
  else:
    raise InputError(
      f"scope={scope!r}: possible are 'local', 'global' and 'isomorphic'"
    )
  keep = {}
  for name, values in importance.items():
    n = len(values)
    least = max(1, int(np.ceil(n * (1 - most) - 1e-9)))
    count = max(counts[name], least)
    count = min(n, -(-count // round_to) * round_to)
    best = np.argsort(-np.asarray(values), kind='stable')[:count]
    keep[name] = np.isin(np.arange(n), best)
  return keep


def _kinds(importance, groups, scope):
  """Names of groups that are ranked together."""
  if scope == 'global':
    return [list(importance)]
  known = {group.name: group for group in groups or ()}
  kinds: dict[tuple, list[str]] = {}
  for name in importance:
    if name not in known:
      raise InputError(
        f"scope='isomorphic' needs the group {name!r} in groups=, to know its "
        'kind; right are the groups of graph.channels'
      )
    kinds.setdefault(group_pattern(known[name]), []).append(name)
  return list(kinds.values())


def _of_units(values, member):
  """Saliency of a leaf's units to that of the channels they leave with."""
  if values.ndim != 1 or member.indices.max() >= len(values):
    raise InputError(
      f'{member.path}: a saliency of shape {list(values.shape)}; right is one '
      f'number for each index of axis {member.axis}'
    )
  return values[member.indices].sum(1)


def _global_counts(importance, sparsity, rounding):
  every = np.concatenate([np.asarray(v) for v in importance.values()])
  names = np.repeat(
    np.arange(len(importance)), [len(v) for v in importance.values()]
  )
  count = rounding.count(len(every), sparsity)
  best = np.argsort(-every, kind='stable')[:count]
  counts = np.bincount(names[best], minlength=len(importance))
  return dict(zip(importance, counts.tolist(), strict=True))


def _normalize(values, normalization):
  mean, low, high = values.mean(), values.min(), values.max()
  if normalization == 'none':
    return values
  if normalization == 'min_max':
    return (values - low) / _or_one(high - low)
  if normalization == 'gaussian':
    return (values - mean) / _or_one(values.std())
  divisors = {'mean': mean, 'sum': values.sum(), 'max': high}
  if normalization not in divisors:
    raise InputError(
      f'normalization={normalization!r}: possible are mean, sum, max, min_max, '
      'gaussian and none'
    )
  return values / _or_one(divisors[normalization])


def _or_one(value):
  return value if value else 1.0
