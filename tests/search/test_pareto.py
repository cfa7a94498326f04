"""The front against all choices, its shape, and what it refuses."""

import itertools

import numpy as np
import pytest

from compress import search
from compress.errors import InputError


def _tables(layers, options, seed):
  rng = np.random.default_rng(seed)
  costs = {
    f'layer{i}': {k: int(c) for k, c in enumerate(row)}
    for i, row in enumerate(rng.integers(1, 60, (layers, options)))
  }
  losses = {
    name: {k: float(x) for k, x in enumerate(rng.random(options))}
    for name in costs
  }
  return costs, losses


def _all_choices(costs, losses):
  names = list(costs)
  for picked in itertools.product(*(costs[name] for name in names)):
    pairs = list(zip(names, picked, strict=True))
    yield (
      sum(costs[n][k] for n, k in pairs),
      sum(losses[n][k] for n, k in pairs),
    )


@pytest.mark.parametrize('seed', range(5))
def test_every_budget_gives_what_trying_all_gives(seed):
  costs, losses = _tables(6, 3, seed)
  front = search.pareto_front(costs, losses)
  everything = list(_all_choices(costs, losses))
  for budget in range(int(front.costs[0]), 6 * 60, 7):
    best = min(loss for cost, loss in everything if cost <= budget)
    choice = front.within(budget)
    assert choice.cost <= budget
    np.testing.assert_allclose(choice.loss, best, rtol=1e-12)
    paid = sum(costs[n][k] for n, k in choice.picks.items())
    lost = sum(losses[n][k] for n, k in choice.picks.items())
    assert paid == choice.cost
    np.testing.assert_allclose(lost, choice.loss, rtol=1e-12)
    assert list(choice.picks) == list(costs)


def test_more_bytes_lose_less():
  front = search.pareto_front(*_tables(7, 4, 0))
  assert len(front) > 3
  assert (np.diff(front.costs) > 0).all()
  assert (np.diff(front.losses) < 0).all()


def test_a_budget_cuts_the_front_and_nothing_else():
  costs, losses = _tables(6, 3, 1)
  whole = search.pareto_front(costs, losses)
  budget = int(whole.costs[len(whole) // 2])
  part = search.pareto_front(costs, losses, budget=budget)
  np.testing.assert_array_equal(part.costs, whole.costs[whole.costs <= budget])


@pytest.mark.parametrize('resolution', [3, 10])
def test_coarse_costs_are_paid_exactly_and_lose_little(resolution):
  costs, losses = _tables(6, 3, 2)
  exact = search.pareto_front(costs, losses)
  coarse = search.pareto_front(costs, losses, resolution=resolution)
  assert len(coarse) <= len(exact)
  slack = resolution * len(costs)
  for choice in (coarse[i] for i in range(len(coarse))):
    assert choice.cost == sum(costs[n][k] for n, k in choice.picks.items())
    if choice.cost - slack >= exact.costs[0]:
      worst = exact.within(choice.cost - slack).loss
      assert exact.within(choice.cost).loss - 1e-12 <= choice.loss
      assert choice.loss <= worst + 1e-12


def test_many_layers_are_linear_work():
  costs, losses = _tables(60, 7, 3)
  front = search.pareto_front(costs, losses, resolution=8)
  assert len(front) < 60 * 60 // 8 + 1
  assert front.within(60 * 30).cost <= 60 * 30


@pytest.mark.parametrize(
  ('costs', 'losses', 'options'),
  [
    ({}, {}, {}),
    ({'a': {8: 1}}, {'b': {8: 0.0}}, {}),
    ({'a': {8: 1}}, {'a': {4: 0.0}}, {}),
    ({'a': {8: 1.5}}, {'a': {8: 0.0}}, {}),
    ({'a': {8: -1}}, {'a': {8: 0.0}}, {}),
    ({'a': {8: 1}}, {'a': {8: float('nan')}}, {}),
    ({'a': {8: 1}}, {'a': {8: 0.0}}, {'resolution': 0}),
    ({'a': {8: 5}}, {'a': {8: 0.0}}, {'budget': 4}),
  ],
)
def test_bad_tables_are_refused(costs, losses, options):
  with pytest.raises(InputError):
    search.pareto_front(costs, losses, **options)


def test_a_budget_below_the_cheapest_is_refused():
  front = search.pareto_front({'a': {8: 5}}, {'a': {8: 0.0}})
  with pytest.raises(InputError, match='cheapest'):
    front.within(4)
