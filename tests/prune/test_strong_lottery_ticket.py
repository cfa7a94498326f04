import jax
import numpy as np
import pytest

from compress.errors import InputError
from compress.prune.strong_lottery_ticket import (
  approximate_by_pruning,
  candidates_for,
  hit_probability,
  largest_error,
  random_network,
  relu_network,
  success_probability,
)


def make_target(*widths, seed=0):
  rng = np.random.default_rng(seed)
  return [
    rng.uniform(-1, 1, (a, b)) / np.sqrt(a)
    for a, b in zip(widths[:-1], widths[1:], strict=True)
  ]


def found(target, candidates, seed=0):
  network = random_network(
    target, candidates=candidates, key=jax.random.key(seed)
  )
  return network, approximate_by_pruning(target, network)


@pytest.mark.parametrize('widths', [(3, 1), (4, 6, 2), (3, 5, 4, 2)])
def test_uses_nothing_but_the_random_numbers(widths):
  target = make_target(*widths)
  network, sub = found(target, 20)
  assert len(sub.pruned()) == 2 * len(target)
  for kept, random, mask in zip(sub.pruned(), network, sub.masks, strict=True):
    np.testing.assert_array_equal(kept[mask], random[mask])
    assert not kept[~mask].any()
  for first in sub.masks[::2]:
    assert first.sum(axis=0).max() == 1


@pytest.mark.parametrize('widths', [(3, 1), (4, 6, 2), (3, 5, 4, 2)])
@pytest.mark.parametrize('candidates', [1, 8, 200])
def test_error_on_the_unit_ball_is_below_the_bound(widths, candidates):
  target = make_target(*widths)
  for seed in range(3):
    _, sub = found(target, candidates, seed)
    assert largest_error(target, sub) <= sub.bound


def test_bound_of_one_weight_is_reached():
  _, sub = found([np.array([[0.3]])], 5)
  assert largest_error([np.array([[0.3]])], sub) == pytest.approx(
    sub.bound, rel=1e-6
  )


def test_error_falls_with_width():
  target = make_target(4, 6, 2)
  errors, bounds = [], []
  for candidates in (4, 40, 400):
    subs = [found(target, candidates, seed)[1] for seed in range(3)]
    errors.append(np.mean([largest_error(target, sub) for sub in subs]))
    bounds.append(np.mean([sub.bound for sub in subs]))
  assert all(a > 3 * b for a, b in zip(errors, errors[1:], strict=False))
  assert all(a > 3 * b for a, b in zip(bounds, bounds[1:], strict=False))
  assert bounds[-1] < 0.1


def test_as_many_candidates_as_the_theorem_asks_for():
  target = make_target(2, 3, 1)
  candidates = candidates_for(target, error=0.05, failure=0.1)
  off = []
  for seed in range(20):
    network, sub = found(target, candidates, seed)
    u, v = sub.pruned()[2:]
    del network
    off.append(np.abs(u @ v - target[1]).max() <= 0.05)
  assert np.mean(off) >= 0.9


def test_hit_probability_is_that_of_the_product_of_two_uniforms():
  assert hit_probability(0, 1) == 1
  assert hit_probability(0.3, 0.0) == 0
  # Half of (z - z ln z) on either side of zero.
  assert hit_probability(0, 0.5) == pytest.approx(0.5 * (1 + np.log(2)))
  rng = np.random.default_rng(0)
  products = rng.uniform(-1, 1, (20_000, 10)) * rng.uniform(-1, 1, (20_000, 10))
  for weight in (0.0, 0.4, -0.7):
    hits = np.abs(products - weight) <= 0.05
    p = hit_probability(weight, 0.05)
    assert hits.mean() == pytest.approx(p, abs=4 * np.sqrt(p / 200_000))
    q = success_probability(weight, 0.05, 10)
    assert hits.any(axis=1).mean() == pytest.approx(q, abs=0.015)


def test_zero_weights_cost_nothing():
  target = [np.zeros((3, 2)), np.zeros((2, 1))]
  _, sub = found(target, 10)
  assert not any(mask.any() for mask in sub.masks)
  assert sub.bound < 1e-11


def test_relu_network():
  out = relu_network([np.array([[1.0, -1.0]]), np.ones((2, 1))], [[-3.0]])
  np.testing.assert_array_equal(out, [[3.0]])


def test_same_key_same_network():
  target = make_target(2, 2)
  for a, b in zip(found(target, 3)[0], found(target, 3)[0], strict=True):
    np.testing.assert_array_equal(a, b)


def test_refuses_what_does_not_fit():
  target = make_target(2, 3, 1)
  network, _ = found(target, 4)
  with pytest.raises(InputError, match='chain of'):
    approximate_by_pruning([np.ones((2, 3)), np.ones((2, 1))], network)
  with pytest.raises(InputError, match='has 3 layers; right is 4'):
    approximate_by_pruning(target, network[:3])
  with pytest.raises(InputError, match=r'right is \(I, I k\)'):
    approximate_by_pruning(target[::-1][1:], network[2:])
  with pytest.raises(InputError, match='candidates is 0'):
    random_network(target, candidates=0, key=jax.random.key(0))
  with pytest.raises(InputError, match='weight of 2'):
    candidates_for([np.array([[2.0]])], error=0.1, failure=0.1)
  with pytest.raises(InputError, match='failure is 1'):
    candidates_for(target, error=0.1, failure=1)
