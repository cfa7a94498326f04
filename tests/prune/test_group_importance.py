"""Importance of channel groups, and who stays."""

import jax.numpy as jnp
import numpy as np
import pytest

from compress import graph
from compress.errors import InputError
from compress.prune import (
  AMC,
  group_importance,
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
