"""Filters chosen by their norms, and sweeps of one group at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import graph
from compress.errors import InputError
from compress.prune import (
  filter_norms,
  filter_saliency,
  filter_sensitivity,
  l1_filters,
  tolerated_sparsity,
)

X = jnp.array([[1.0, -2.0], [0.5, 3.0]])


def apply(variables, x):
  for name in 'ab':
    x = jnp.maximum(x @ variables[name]['kernel'], 0)
  return x @ variables['c']['kernel']


# The third unit of b is the largest, but for what it reads from the first of a.
VARIABLES = {
  'a': {'kernel': jnp.array([[1.0, 0.5, -3.0], [-1.0, 0.2, 0.0]])},
  'b': {
    'kernel': jnp.array([[1.0, 1.0, 1.0], [0.0, 0.0, 4.0], [2.0, 3.0, 1.0]])
  },
  'c': {'kernel': jnp.ones((3, 1))},
}
GROUPS = graph.channels(graph.trace(apply, VARIABLES, X)).groups


@pytest.mark.parametrize(
  'order, expected',
  [(1, [2, 0.7, 3]), (2, [2**0.5, 0.29**0.5, 3])],
)
def test_golden_scores(order, expected):
  found = filter_saliency(VARIABLES, GROUPS, order=order)
  np.testing.assert_allclose(found['a/kernel'], expected, rtol=1e-6)
  norms = filter_norms(VARIABLES['a']['kernel'].T, order=order, axis=0)
  np.testing.assert_allclose(norms, expected, rtol=1e-6)


def test_independent_and_greedy_disagree():
  keep = l1_filters(VARIABLES, GROUPS, 0.34)
  assert keep['a'].tolist() == [False, False, True]
  keep = l1_filters(VARIABLES, GROUPS, 0.33)
  assert keep['a'].tolist() == [True, False, True]
  assert keep['b'].tolist() == [False, True, True]
  keep = l1_filters(VARIABLES, GROUPS, 0.33, mode='greedy')
  assert keep['a'].tolist() == [True, False, True]
  assert keep['b'].tolist() == [True, True, False]


def test_what_is_kept_shrinks_to_the_masked_network():
  keep = l1_filters(VARIABLES, GROUPS, 0.33)
  small = graph.shrink(apply, VARIABLES, keep, X, groups=GROUPS)
  assert small.variables['b']['kernel'].shape == (2, 2)


def test_the_leader_decides():
  def residual(variables, x):
    x = x @ variables['a'] + x @ variables['b']
    return x @ variables['c']

  variables = {
    'a': jnp.array([[1.0, 2.0, 3.0]]),
    'b': jnp.array([[9.0, 1.0, 2.0]]),
    'c': jnp.ones((3, 1)),
  }
  groups = graph.channels(graph.trace(residual, variables, X[:, :1])).groups
  (name,) = (group.name for group in groups)

  def removed(**options):
    keep = l1_filters(variables, groups, 0.33, **options)
    return int(np.flatnonzero(~keep[name])[0])

  assert removed() == 1
  assert removed(leaders={name: 'a'}) == 0
  with pytest.raises(InputError, match='does not produce'):
    removed(leaders={name: 'c'})


def test_sensitivity_masks_one_group_at_a_time():
  evaluate = jax.jit(lambda variables: apply(variables, X).sum())
  importance = {'a': np.array([2.0, 0.7, 3]), 'b': np.array([3.0, 4, 6])}
  curves = filter_sensitivity(
    VARIABLES, GROUPS, importance, evaluate, sparsities=(0.0, 0.3)
  )
  # Hidden a: (3, .1, 0) and (0, .85, 0); b: (3, 3, 3.4) and (0, 0, 3.4).
  np.testing.assert_allclose(curves['a'], [12.8, 9.0], rtol=1e-5)
  np.testing.assert_allclose(curves['b'], [12.8, 9.8], rtol=1e-5)


def test_tolerated_sparsity_by_hand():
  curves = {'a': [0.9, 0.8, 0.85], 'b': [0.7, 0.9, 0.9], 'c': [0.9, 0.9, 0.86]}
  found = tolerated_sparsity(curves, (0.1, 0.2, 0.3), baseline=0.9, drop=0.05)
  assert found == {'a': 0.1, 'b': 0.0, 'c': 0.3}


@pytest.mark.parametrize(
  'call, message',
  [
    (lambda: filter_norms(jnp.ones((2, 2)), order=3), 'order=3'),
    (lambda: l1_filters(VARIABLES, GROUPS, 0.5, mode='lazy'), 'mode'),
    (lambda: l1_filters(VARIABLES, GROUPS, 1.5), 'sparsity'),
    (lambda: filter_saliency({}, GROUPS), 'the variables do not'),
    (
      lambda: tolerated_sparsity({}, (0.2, 0.1), baseline=1, drop=0),
      'do not rise',
    ),
    (
      lambda: tolerated_sparsity({'a': [1]}, (0.1, 0.2), baseline=1, drop=0),
      'a curve of 1',
    ),
  ],
)
def test_bad_input(call, message):
  with pytest.raises(InputError, match=message):
    call()
