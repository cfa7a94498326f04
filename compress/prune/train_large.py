"""Train large, then compress: a protocol, and its arithmetic.

Li, Wallace, Shen, Lin, Keutzer, Klein, Gonzalez 2020, "Train Large, Then
Compress", ICML, arXiv:2002.11794. Under one budget of training compute, train
networks of several sizes, the large ones far from convergence; prune and
quantize each to several degrees; compare accuracy at equal inference cost.
The claims (abstract): larger networks reach a loss with less compute, lose
less accuracy to compression, and heavily compressed large ones beat lightly
compressed small ones. The paper trains RoBERTa on MNLI and SST-2 and machine
translation Transformers; no number of it is asserted here.

Everything is compared at equal *training* compute: that is what this file
counts. Training is whatever the caller has.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from compress.errors import InputError


@dataclasses.dataclass(frozen=True)
class Trial:
  """One network of a sweep, under one compression.

  Attributes:
    model: name of the uncompressed network.
    compression: name of what is done to it after training.
    steps: training steps that the budget pays for.
    training_macs: what they cost, at most the budget.
  """

  model: str
  compression: str
  steps: int
  training_macs: int


class Point(NamedTuple):
  """A result.

  Attributes:
    name: for reports.
    cost: bytes or MACs of the compressed network; lower is better.
    accuracy: higher is better.
  """

  name: Any
  cost: float
  accuracy: float


def step_macs(macs: int, *, batch: int, backward: float = 2.0) -> int:
  """MACs of one training step.

  Args:
    macs: of one forward pass of one example.
    batch: examples in a step.
    backward: cost of the backward pass in forward passes; two, since it has a
      product for the inputs and one for the weights of each layer.

  Returns:
    `macs * batch * (1 + backward)`.
  """
  return round(macs * batch * (1 + backward))


def affordable_steps(
  budget: int, macs: int, *, batch: int, backward: float = 2.0
) -> int:
  """Whole training steps within a budget of MACs; see `step_macs`.

  Raises:
    InputError: the budget does not pay for one step.
  """
  cost = step_macs(macs, batch=batch, backward=backward)
  if cost <= 0 or budget < cost:
    raise InputError(
      f'a step costs {cost} MACs, the budget is {budget}; right is a budget '
      'of at least one step that costs something'
    )
  return budget // cost


def sweep(
  models: Mapping[str, int],
  compressions: Sequence[str],
  *,
  budget: int,
  batch: int,
  backward: float = 2.0,
) -> tuple[Trial, ...]:
  """Every network under every compression, at equal training compute.

  Compression costs nothing here; fine-tuning after it has to be paid for by a
  smaller budget.

  Args:
    models: MACs of one forward pass of one example, by name.
    compressions: names, `'none'` among them if the plain networks count.
    budget: training MACs of each network.
    batch: examples in a step.
    backward: see `step_macs`.

  Returns:
    The trials, in order of models, then of compressions.

  Raises:
    InputError: the budget does not pay for one step of a network.
  """
  trials = []
  for model, macs in models.items():
    steps = affordable_steps(budget, macs, batch=batch, backward=backward)
    spent = steps * step_macs(macs, batch=batch, backward=backward)
    trials += [Trial(model, name, steps, spent) for name in compressions]
  return tuple(trials)


def front(points: Iterable[Point]) -> tuple[Point, ...]:
  """The points that no other one beats in cost and accuracy at once.

  Args:
    points: results.

  Returns:
    Those of which no other costs as little or less and is as accurate or more
    (of equals the first), by rising cost.

  Raises:
    InputError: a cost or an accuracy is no number.
  """
  points = list(points)
  for point in points:
    if math.isnan(point.cost) or math.isnan(point.accuracy):
      raise InputError(f'point {point.name!r} has no cost or accuracy: {point}')
  kept, best = [], -math.inf
  for point in sorted(points, key=lambda p: (p.cost, -p.accuracy)):
    if point.accuracy > best:
      kept.append(point)
      best = point.accuracy
  return tuple(kept)


def best_within(points: Iterable[Point], cost: float) -> Point | None:
  """The most accurate point that costs no more, the cheapest of equals."""
  within = [point for point in front(points) if point.cost <= cost]
  return within[-1] if within else None
