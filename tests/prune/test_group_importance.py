"""Importance of channel groups, and who stays."""

import jax.numpy as jnp
import numpy as np
import pytest

from compress import graph
from compress.errors import InputError
from compress.prune import (
  AMC,
  by_group,
  group_importance,
  group_pattern,
  keep_channels,
  random_importance,
)


def apply(variables, x):
  x = x @ variables['a']['kernel'] + variables['a']['bias'][None]
  x = jnp.maximum(x, 0)
  return x @ variables['b']['kernel']


VARIABLES = {
  'a': {
    'kernel': jnp.array([[1.0, -2.0, 0.0], [1.0, 0.0, 3.0]]),
    'bias': jnp.array([5.0, 5.0, 5.0]),
  },
  'b': {'kernel': jnp.array([[2.0, 0.0], [1.0, 1.0], [0.0, 1.0]])},
}


def groups():
  return graph.channels(graph.trace(apply, VARIABLES, jnp.zeros((1, 2)))).groups


@pytest.mark.parametrize(
  'options, expected',
  [
    # Squares: out (2, 4, 9), in (4, 2, 1).
    ({'normalization': 'none'}, [3, 3, 5]),
    ({'normalization': 'none', 'reduction': 'sum'}, [6, 6, 10]),
    ({'normalization': 'none', 'reduction': 'max'}, [4, 4, 9]),
    ({'normalization': 'none', 'reduction': 'prod'}, [8, 8, 9]),
    ({'normalization': 'none', 'reduction': 'first'}, [2, 4, 9]),
    ({'normalization': 'none', 'reduction': 'last'}, [4, 2, 1]),
    ({'normalization': 'none', 'reduction': 'first', 'power': 1}, [2, 2, 3]),
    ({}, [9 / 11, 9 / 11, 15 / 11]),
    ({'normalization': 'sum'}, [3 / 11, 3 / 11, 5 / 11]),
    ({'normalization': 'max'}, [0.6, 0.6, 1]),
    ({'normalization': 'min_max'}, [0, 0, 1]),
    ({'normalization': 'gaussian'}, [-(0.5**0.5), -(0.5**0.5), 2**0.5]),
    (
      {'normalization': 'none', 'reduction': 'sum', 'not_counted': '-'},
      [31, 31, 35],
    ),
  ],
)
def test_importance_by_hand(options, expected):
  (found,) = group_importance(groups(), VARIABLES, **options).values()
  np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_permuted_channels_permute_importance():
  order = jnp.array([2, 0, 1])
  moved = {
    'a': {k: v[..., order] for k, v in VARIABLES['a'].items()},
    'b': {'kernel': VARIABLES['b']['kernel'][order]},
  }
  (before,) = group_importance(groups(), VARIABLES).values()
  (after,) = group_importance(groups(), moved).values()
  np.testing.assert_allclose(after, before[np.asarray(order)])


def test_local_counts_and_ties():
  importance = {'a': np.array([1.0, 3, 3, 2, 0]), 'b': np.ones(4)}
  keep = keep_channels(importance, 0.5)
  assert keep['a'].tolist() == [False, True, True, False, False]
  assert keep['b'].tolist() == [True, True, False, False]
  keep = keep_channels(importance, {'a': 0.99})
  assert keep['a'].sum() == 1 and keep['b'].all()
  assert keep_channels(importance, 0.5, round_to=4)['a'].sum() == 4
  assert keep_channels(importance, 0.99, most=0.4)['a'].sum() == 3
  wide = {'a': np.arange(20.0)}
  assert keep_channels(wide, 0.5, rounding=AMC)['a'].sum() == 16


def test_global_ranking():
  importance = {'a': np.array([5.0, 4, 3]), 'b': np.array([2.0, 1, 0])}
  keep = keep_channels(importance, 0.5, scope='global')
  assert keep['a'].all() and keep['b'].tolist() == [True, False, False]


def coupled(variables, x):
  """Two layers whose units are added; a third reads the sum."""
  x = x @ variables['a']['kernel'] + x @ variables['b']['kernel']
  return jnp.maximum(x, 0) @ variables['c']['kernel']


COUPLED = {
  'a': {'kernel': jnp.ones((2, 3))},
  'b': {'kernel': jnp.ones((2, 3))},
  'c': {'kernel': jnp.ones((3, 2))},
}


@pytest.mark.parametrize(
  'reduction, expected',
  [('mean', [2, 2, 2.5]), ('sum', [4, 4, 5]), ('max', [3, 2, 5])],
)
def test_units_come_to_groups(reduction, expected):
  traced = graph.trace(coupled, COUPLED, jnp.zeros((1, 2)))
  (group,) = graph.channels(traced).groups
  saliency = {
    'a/kernel': jnp.array([1.0, 2.0, 5.0]),
    'b/kernel': jnp.array([3.0, 2.0, 0.0]),
    'c/kernel': jnp.array([9.0, 9.0]),
  }
  found = by_group(saliency, [group], reduction=reduction)
  np.testing.assert_array_equal(found[group.name], expected)
  leader = by_group({'b/kernel': saliency['b/kernel']}, [group])
  np.testing.assert_array_equal(leader[group.name], [3, 2, 0])


def test_a_group_sums_the_units_that_leave_together():
  def merged(variables, x):
    x = (x @ variables['a']['kernel']).reshape(-1, 3, 2)
    return (x * variables['s'].reshape(1, 3, 1)).sum(2) @ variables['c']

  variables = {
    'a': {'kernel': jnp.ones((2, 6))},
    's': jnp.ones(3),
    'c': jnp.ones((3, 2)),
  }
  (group,) = [
    g
    for g in graph.channels(
      graph.trace(merged, variables, jnp.zeros((1, 2)))
    ).groups
    if g.size == 3
  ]
  found = by_group({'a/kernel': np.arange(6.0), 's': np.zeros(3)}, [group])
  np.testing.assert_array_equal(found[group.name], [0.5, 2.5, 4.5])


def test_isomorphic_groups_are_ranked_together():
  def three(variables, x):
    for name in 'abc':
      x = jnp.maximum(x @ variables[name]['kernel'], 0)
      if name == 'c':
        x = x + variables[name]['bias'].reshape(1, 4)
    return x @ variables['d']['kernel']

  variables = {name: {'kernel': jnp.ones((4, 4))} for name in 'abcd'}
  variables['c']['bias'] = jnp.ones(4)
  found = graph.channels(graph.trace(three, variables, jnp.ones((1, 4)))).groups
  a, b, c = found
  assert group_pattern(a) == group_pattern(b) != group_pattern(c)
  importance = {
    a.name: np.array([8.0, 7, 6, 5]),
    b.name: np.array([4.0, 3, 2, 1]),
    c.name: np.array([0.1, 0.4, 0.2, 0.3]),
  }
  keep = keep_channels(importance, 0.5, scope='isomorphic', groups=found)
  assert keep[a.name].all() and keep[b.name].tolist() == [True] + 3 * [False]
  assert keep[c.name].tolist() == [False, True, False, True]


def test_random_control_depends_on_the_seed_alone():
  one, same, other = (
    random_importance(groups(), seed=seed) for seed in (0, 0, 1)
  )
  for name in one:
    assert (one[name] == same[name]).all() and (one[name] != other[name]).any()


@pytest.mark.parametrize(
  'call, message',
  [
    (lambda: keep_channels({}, 0.5), 'no channel groups'),
    (lambda: keep_channels({'a': np.ones(3)}, 1.0), 'a: sparsity 1'),
    (lambda: keep_channels({'a': np.ones(3)}, 0.5, scope='x'), 'scope'),
    (lambda: keep_channels({'a': np.ones(3)}, 0.5, round_to=0), 'round_to=0'),
    (
      lambda: keep_channels({'a': np.ones(3)}, {'a': 0.1}, scope='global'),
      'one sparsity',
    ),
    (
      lambda: keep_channels({'a': np.ones(3)}, 0.5, scope='isomorphic'),
      "needs the group 'a'",
    ),
    (lambda: by_group({'b/kernel': np.ones(2)}, groups()), 'none belongs'),
    (
      lambda: by_group({'a/kernel': np.ones(2)}, groups()),
      'each index of axis',
    ),
    (
      lambda: by_group({'a/kernel': np.full(3, np.nan)}, groups()),
      'a/kernel: a saliency is not finite',
    ),
    (
      lambda: by_group({'a/kernel': np.ones(3)}, groups(), reduction='x'),
      'reduction',
    ),
    (lambda: group_importance(groups(), {}), 'the variables do not'),
    (
      lambda: group_importance(groups(), VARIABLES, reduction='median'),
      'reduction',
    ),
    (
      lambda: group_importance(groups(), VARIABLES, normalization='z'),
      'normalization',
    ),
    (
      lambda: group_importance(
        groups(), {**VARIABLES, 'b': {'kernel': jnp.full((3, 2), jnp.nan)}}
      ),
      'b/kernel: a weight is not finite',
    ),
  ],
)
def test_bad_input(call, message):
  with pytest.raises(InputError, match=message):
    call()
