"""Importance of channels that leave together, and which of them stay.

Fang et al. 2023, 'DepGraph: Towards Any Structural Pruning', arXiv:2301.12900:
the importance of channel k of a group g is that of its slice of every weight
that it shares in,

  I[g, k] = reduce over the weights w of g of  sum |w[k]|^p ,

divided by what makes groups comparable. Groups come from
`compress.graph.channels`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import jax
import numpy as np

from compress.errors import InputError
from compress.graph import ChannelGroup, leaf_paths
from compress.prune.rounding import LIBRARY, Rounding, check_sparsity

Reduction = Literal['mean', 'sum', 'max', 'prod', 'first', 'last']
Normalization = Literal['mean', 'sum', 'max', 'min_max', 'gaussian', 'none']
Scope = Literal['local', 'global']

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
  paths = leaf_paths(variables)
  leaves = dict(zip(paths, jax.tree.leaves(variables), strict=True))
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
) -> dict[str, np.ndarray]:
  """Which channels stay, for `graph.shrink`.

  Args:
    importance: group name to [n].
    sparsity: fraction of the channels removed, in [0, 1); one for all or group
      name to its own (`local` only; a group without one stays whole).
    scope: `local`, every group by itself; `global`, one ranking of all.
    round_to: survivors of a group are rounded up to a multiple of this, which
      odd widths on some hardware want; never above n.
    rounding: convention of the counts.
    most: largest fraction that may leave one group, in (0, 1].

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
  elif scope == 'global':
    if isinstance(sparsity, Mapping):
      raise InputError("scope='global' takes one sparsity for all groups")
    counts = _global_counts(importance, check_sparsity(sparsity), rounding)
  else:
    raise InputError(f"scope={scope!r}: possible are 'local' and 'global'")
  keep = {}
  for name, values in importance.items():
    n = len(values)
    least = max(1, int(np.ceil(n * (1 - most) - 1e-9)))
    count = max(counts[name], least)
    count = min(n, -(-count // round_to) * round_to)
    best = np.argsort(-np.asarray(values), kind='stable')[:count]
    keep[name] = np.isin(np.arange(n), best)
  return keep


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
