"""Decay that is stronger for weaker channels, and budgets of channels."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from compress import graph
from compress.errors import InputError
from compress.prune import (
  add_group_sparsity,
  channel_mac_budget,
  group_factors,
  group_importance,
  group_sparsity_penalty,
  group_squares,
  shrinkage_factors,
)


def apply(variables, x):
  params = variables['params']
  x = x @ params['a']['kernel'] + params['a']['bias'].reshape(1, 3)
  return jnp.maximum(x, 0) @ params['b']['kernel']


# Squares of the channels: out (4, 1, 0), in (1, 1, 4); sums (5, 2, 4).
PARAMS = {
  'a': {'kernel': jnp.array([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])}
  | {'bias': jnp.ones(3)},
  'b': {'kernel': jnp.array([[0.0, 1.0], [1.0, 0.0], [0.0, -2.0]])},
}
X = jnp.zeros((1, 2))
GROUPS = graph.channels(graph.trace(apply, {'params': PARAMS}, X)).groups
# Of I (5, 2, 4): 2^(4 (5 - I) / 3).
GAMMA = [1.0, 16.0, 2 ** (4 / 3)]


def test_golden_factors():
  found = shrinkage_factors(jnp.array([1.0, 2.0, 3.0]))
  np.testing.assert_allclose(found, [16, 4, 1], rtol=1e-6)
  np.testing.assert_array_equal(shrinkage_factors(jnp.full(3, 2.0)), 1)
  np.testing.assert_array_equal(shrinkage_factors(jnp.zeros(2)), 1)
  np.testing.assert_array_equal(
    shrinkage_factors(jnp.array([1.0, 3.0]), alpha=0.0), 1
  )


@pytest.mark.parametrize('params', [PARAMS, {'params': PARAMS}])
def test_factors_of_a_group_by_hand(params):
  np.testing.assert_allclose(group_squares(params, GROUPS)['a'], [5, 2, 4])
  np.testing.assert_allclose(
    group_factors(params, GROUPS)['a'], GAMMA, rtol=1e-6
  )
  root = group_factors(params, GROUPS, measure='norm')['a']
  exponent = 4 * (5**0.5 - 2) / (5**0.5 - 2**0.5)
  np.testing.assert_allclose(root, [1, 16, 2**exponent], rtol=1e-5)


def test_penalty_and_its_gradient_by_hand():
  value, pulls = jax.value_and_grad(group_sparsity_penalty)(
    PARAMS, GROUPS, strength=0.1
  )
  np.testing.assert_allclose(value, 0.05 * np.dot(GAMMA, [5, 2, 4]), rtol=1e-6)
  gamma = np.array(GAMMA)
  kernels = {name: np.asarray(PARAMS[name]['kernel']) for name in 'ab'}
  np.testing.assert_allclose(
    pulls['a']['kernel'], 0.1 * gamma * kernels['a'], rtol=1e-6
  )
  np.testing.assert_allclose(
    pulls['b']['kernel'],
    0.1 * gamma[:, None] * kernels['b'],
    rtol=1e-6,
  )
  np.testing.assert_array_equal(pulls['a']['bias'], 0)


def test_given_factors_stay():
  ones = {'a': jnp.ones(3)}
  found = group_sparsity_penalty(PARAMS, GROUPS, strength=2.0, factors=ones)
  np.testing.assert_allclose(found, 11, rtol=1e-6)


def test_steps_drive_the_weakest_channel_down_first():
  optimizer = optax.chain(
    add_group_sparsity(GROUPS, strength=0.1), optax.sgd(0.1)
  )

  @jax.jit
  def step(params, state):
    still = jax.tree.map(jnp.zeros_like, params)
    updates, state = optimizer.update(still, state, params)
    return optax.apply_updates(params, updates), state

  params, state = step(PARAMS, optimizer.init(PARAMS))
  np.testing.assert_allclose(
    params['a']['kernel'],
    np.asarray(PARAMS['a']['kernel']) * (1 - 0.01 * np.array(GAMMA)),
    rtol=1e-6,
  )
  for _ in range(20):
    params, state = step(params, state)
  before, after = (group_squares(p, GROUPS)['a'] for p in (PARAMS, params))
  left = np.asarray(after / before)
  assert left[1] < 0.1 < left[2] < left[0]


def test_the_budget_is_met_and_no_more_than_needed():
  variables = jax.eval_shape(
    lambda: {
      'params': {
        'a': {'kernel': jnp.ones((2, 10)), 'bias': jnp.ones(10)},
        'b': {'kernel': jnp.ones((10, 4))},
      }
    }
  )

  def wide(variables, x):
    return (
      x
      @ variables['params']['a']['kernel']
      @ (variables['params']['b']['kernel'])
    )

  groups = graph.channels(graph.trace(wide, variables, X)).groups
  importance = {'a': np.arange(10.0)}
  # Every channel costs 2 + 4.
  found = channel_mac_budget(wide, variables, groups, importance, X, macs=41)
  assert found.macs == 36 and found.keep['a'].tolist() == 4 * [0] + 6 * [1]
  assert 0.3 < found.sparsity <= 0.302
  whole = channel_mac_budget(wide, variables, groups, importance, X, macs=60)
  assert whole.sparsity == 0 and whole.keep['a'].all()
  even = channel_mac_budget(
    wide, variables, groups, importance, X, macs=41, round_to=4
  )
  assert even.macs == 24
  with pytest.raises(InputError, match='that can be left are 6, of 60'):
    channel_mac_budget(wide, variables, groups, importance, X, macs=5)


def test_budget_over_kinds_of_groups():
  variables = {'params': PARAMS}
  found = channel_mac_budget(
    apply,
    variables,
    GROUPS,
    group_importance(GROUPS, variables),
    X,
    macs=8,
    scope='isomorphic',
  )
  assert found.keep['a'].tolist() == [True, False, True] and found.macs == 8


@pytest.mark.parametrize(
  'call, message',
  [
    (lambda: group_factors(PARAMS, GROUPS, measure='x'), 'measure'),
    (lambda: group_squares({}, GROUPS), 'the params do not'),
    (
      lambda: group_sparsity_penalty(PARAMS, GROUPS, strength=1.0, factors={}),
      "factors of group 'a'",
    ),
    (
      lambda: add_group_sparsity(GROUPS, strength=1.0).update(PARAMS, ()),
      'needs params',
    ),
  ],
)
def test_bad_input(call, message):
  with pytest.raises(InputError, match=message):
    call()
