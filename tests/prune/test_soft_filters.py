"""Filters that are zeroed, return, and leave at the end."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from compress import graph
from compress.errors import InputError
from compress.prune import (
  filters_by_group,
  live_filters,
  soft_filters,
  strong_filters,
  zero_filters,
)
from compress.train import init_state, make_step

PARAMS = {
  'a': {
    'kernel': jnp.array([[1.0, 0.5, -3.0, 0.1], [-1.0, 0.2, 0.0, 0.1]]),
    'bias': jnp.ones(4),
  },
  'b': {'kernel': jnp.ones((4, 2))},
}
X = jnp.array([[1.0, -2.0], [0.5, 3.0]])
RULES = [('a/kernel', 0.5)]


def apply(params, x):
  x = x @ params['a']['kernel'] + params['a']['bias'].reshape(1, 4)
  return x @ params['b']['kernel']


def run(steps, rules=RULES, **options):
  """States after every step; gradients pull all weights alike."""

  def loss(params, carried, batch, key, axis_name=None):
    return jnp.square(apply(params, batch) - 1).mean(), (carried, {})

  optimizer = optax.sgd(0.01, momentum=0.9)
  after = soft_filters(rules, **options) if rules else None
  step = jax.jit(make_step(loss, optimizer, after_update=after))
  state = init_state(PARAMS, optimizer, (), jax.random.key(0))
  for _ in range(steps):
    state, _ = step(state, X)
    yield state


def zeros(state):
  return int((~live_filters(state.params, ['a/kernel'])['a/kernel']).sum())


@jax.jit
def strong(params):
  return strong_filters(params, {'a/kernel': 0.25})


def test_strong_filters_by_hand():
  sparsities = {'a/kernel': 0.5, 'b/kernel': 0.3}
  keep = jax.jit(lambda params: strong_filters(params, sparsities))(PARAMS)
  assert keep['a/kernel'].tolist() == [True, False, True, False]
  assert keep['b/kernel'].all()  # int(2 * 0.3) is 0.
  out = zero_filters(PARAMS, {'a/kernel': keep['a/kernel']})
  assert not out['a']['kernel'][:, jnp.array([1, 3])].any()
  np.testing.assert_array_equal(out['a']['bias'], 1)
  assert live_filters(out, ['a/kernel'])['a/kernel'].tolist() == [1, 0, 1, 0]


def test_zeros_last_one_step_and_stop():
  counts = [zeros(state) for state in run(6, period=2, start=1, last_step=4)]
  assert counts == [0, 0, 2, 0, 0, 0]


def test_a_filter_comes_back():
  params = zero_filters(PARAMS, {'a/kernel': jnp.arange(4) != 2})
  assert not strong(params)['a/kernel'][2]
  params['a']['kernel'] = params['a']['kernel'].at[:, 2].add(1)
  assert strong(params)['a/kernel'][2]


def test_sparsity_zero_is_plain_training():
  state = init_state(PARAMS, optax.sgd(0.1), (), jax.random.key(0))
  after = soft_filters([('a/kernel', 0.0)], period=1)
  out = jax.jit(after)(state, grads=None, key=None)
  jax.tree.map(np.testing.assert_array_equal, out.params, PARAMS)


def test_final_channels_leave_for_good():
  groups = graph.channels(graph.trace(apply, PARAMS, X)).groups
  params = zero_filters(PARAMS, {'a/kernel': jnp.arange(4) % 2 == 0})
  keep = filters_by_group(live_filters(params, ['a/kernel']), groups)
  small = graph.shrink(apply, params, keep, X, groups=groups)
  assert small.variables['a']['kernel'].shape == (2, 2)
  # The zeroed network still adds the biases of what has left.
  lost = apply(params, X) - small.apply(small.variables, X)
  np.testing.assert_allclose(lost, 2.0, rtol=1e-6)


def test_coupled_channels_leave_together():
  def residual(params, x):
    return (x @ params['a'] + x @ params['b']) @ params['c']

  params = {name: jnp.ones((2, 3)) for name in 'ab'} | {'c': jnp.ones((3, 1))}
  groups = graph.channels(graph.trace(residual, params, X)).groups
  keep = {'a': np.array([0, 0, 1], bool), 'b': np.array([0, 1, 0], bool)}
  (found,) = filters_by_group(keep, groups).values()
  assert found.tolist() == [False, True, True]
  (found,) = filters_by_group({'a': keep['a']}, groups).values()
  assert found.all()


@pytest.mark.parametrize(
  'call, message',
  [
    (lambda: soft_filters(RULES, period=0), 'period=0'),
    (lambda: soft_filters([('.*', 1.0)], period=1), "rule '.*'"),
    (lambda: strong_filters(PARAMS, {'c': 0.5}), "no leaf 'c'"),
    (lambda: zero_filters(PARAMS, {'a/kernel': jnp.ones(3)}), '4 filters'),
    (lambda: next(run(1, [('c', 0.5)], period=1)), 'no weights to prune'),
  ],
)
def test_bad_input(call, message):
  with pytest.raises(InputError, match=message):
    call()
