"""Bits for every layer: the least loss that so many bytes can buy.

Cai, Yao, Dong, Gholami, Mahoney and Keutzer 2020, 'ZeroQ: A Novel Zero Shot
Quantization Framework', arXiv:2001.00281, section 3.2: the loss of a network is
taken to be the sum of what each layer costs alone,

  min sum_i loss_i(k_i)   with   sum_i bytes_i(k_i) <= budget ,

solved layer by layer. After each layer only the choices stay that no other one
beats in both bytes and loss; what is left after the last is the Pareto front,
the best choice for every budget at once.
"""

from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import numpy as np

from compress.errors import InputError


class Choice(NamedTuple):
  """One point of the front.

  Attributes:
    cost: bytes, or whatever the costs are.
    loss: the sum over layers.
    picks: layer to key of its option.
  """

  cost: int
  loss: float
  picks: dict[str, Any]


class Front:
  """The choices that no other one beats, cheapest first.

  Attributes:
    costs: int64 [F], rising.
    losses: float64 [F], falling.
  """

  def __init__(self, costs, losses, steps):
    self.costs, self.losses = costs, losses
    self._steps = steps

  def __len__(self) -> int:
    return len(self.costs)

  def __getitem__(self, index: int) -> Choice:
    """The choice at a place of the front."""
    index = range(len(self))[index]
    picks, place = {}, index
    for name, keys, parents, options in reversed(self._steps):
      picks[name] = keys[options[place]]
      place = parents[place]
    found = dict(reversed(picks.items()))
    return Choice(int(self.costs[index]), float(self.losses[index]), found)

  def within(self, budget: float) -> Choice:
    """The choice of least loss that costs at most `budget`.

    Args:
      budget: in units of the costs.

    Returns:
      The choice.

    Raises:
      InputError: the cheapest choice costs more.
    """
    place = int(np.searchsorted(self.costs, budget, side='right')) - 1
    if place < 0:
      raise InputError(
        f'a budget of {budget:,.0f}; the cheapest choice costs '
        f'{self.costs[0]:,}'
      )
    return self[place]


def pareto_front(
  costs: Mapping[str, Mapping[Hashable, int]],
  losses: Mapping[str, Mapping[Hashable, float]],
  *,
  resolution: int = 1,
  budget: int | None = None,
) -> Front:
  """All choices of one option a layer that no other choice beats.

  Exact at resolution 1; then the front may grow with the number of choices. A
  coarser one keeps, of the choices that cost the same in these units, the one
  of least loss: the front has at most `total cost / resolution` points, and
  what is found costs no more than it says, and loses little.

  Args:
    costs: layer -> option -> cost, whole and 0 or more, such as bytes.
    losses: the same layers and options -> what the option costs in accuracy;
      finite.
    resolution: of costs, 1 or more.
    budget: choices that cost more are not kept; None keeps all.

  Returns:
    The front; costs are exact whatever the resolution.

  Raises:
    InputError: other layers or options in the two, none at all, or numbers out
      of range.
  """
  _check(costs, losses)
  if resolution < 1:
    raise InputError(f'resolution is {resolution}; right is 1 or more')
  total, loss = np.zeros(1, np.int64), np.zeros(1)
  steps = []
  # What all later layers cost at least: a choice that cannot end within the
  # budget is not kept.
  least = sum(min(options.values()) for options in costs.values())
  for name, options in costs.items():
    keys = list(options)
    least -= min(options.values())
    added = np.array([options[key] for key in keys], np.int64)
    worse = np.array([losses[name][key] for key in keys], np.float64)
    sums = (total[:, None] + added[None]).ravel()
    falls = (loss[:, None] + worse[None]).ravel()
    if budget is not None:
      fits = np.flatnonzero(sums + least <= budget)
      if not fits.size:
        raise InputError(
          f'a budget of {budget:,}; the cheapest choice costs '
          f'{sum(min(x.values()) for x in costs.values()):,}'
        )
    else:
      fits = np.arange(len(sums))
    order = fits[
      np.lexsort((sums[fits], falls[fits], sums[fits] // resolution))
    ]
    best = np.minimum.accumulate(falls[order])
    better = np.ones(len(order), bool)
    better[1:] = falls[order][1:] < best[:-1]
    kept = order[better]
    steps.append((name, keys, kept // len(keys), kept % len(keys)))
    total, loss = sums[kept], falls[kept]
  return Front(total, loss, steps)


def _check(costs, losses) -> None:
  if not costs or set(costs) != set(losses):
    raise InputError(
      f'costs of {sorted(costs)[:3]} and losses of {sorted(losses)[:3]}; right '
      'are the same layers, at least one'
    )
  for name, options in costs.items():
    if not options or set(options) != set(losses[name]):
      raise InputError(
        f'{name}: costs of the options {list(options)} and losses of '
        f'{list(losses[name])}; right are the same, at least one'
      )
    if any(int(x) != x or x < 0 for x in options.values()):
      raise InputError(f'{name}: costs must be whole numbers, 0 or more')
    if not np.isfinite(list(losses[name].values())).all():
      raise InputError(f'{name}: a loss is not finite')
