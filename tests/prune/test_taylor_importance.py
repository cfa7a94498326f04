"""First-order importance of channel groups."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import graph
from compress.errors import InputError
from compress.prune import output_importance, taylor_importance


def apply(variables, x):
  x = x @ variables['a']['kernel'] + variables['a']['bias'][None]
  x = jnp.maximum(x, 0)
  return x @ variables['b']['kernel']


VARIABLES = {
  'a': {
    'kernel': jnp.array([[1.0, -2.0, 0.0], [1.0, 0.0, 3.0]]),
    'bias': jnp.array([5.0, 5.0, 5.0]),
  },
  'b': {'kernel': jnp.array([[2.0, 0.0], [1.0, 1.0], [0.0, -1.0]])},
}


def find(apply, variables, *inputs):
  return graph.channels(graph.trace(apply, variables, *inputs)).groups


def test_taylor_by_hand():
  # Activations of x = (1, 1): 7, 3, 8; the loss is the sum of the outputs, so
  # a gate's derivative is the activation times the sum of its row: 14, 6, -8.
  groups = find(apply, VARIABLES, jnp.zeros((1, 2)))
  (found,) = taylor_importance(
    lambda v, x: apply(v, x).sum(),
    VARIABLES,
    [jnp.ones((1, 2)), jnp.zeros((1, 2))],
    groups=groups,
  ).values()
  # x = 0: activations 5, 5, 5, derivatives 10, 10, -5.
  expected = [(196 + 100) / 2, (36 + 100) / 2, (64 + 25) / 2]
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  assert found.dtype == np.float64


def test_outputs_by_hand():
  # |J|^2 of both examples: activation^2 x |row|^2, in expectation.
  groups = find(apply, VARIABLES, jnp.zeros((1, 2)))
  inputs = jnp.array([[1.0, 1.0], [0.0, 0.0]])
  (found,) = output_importance(
    apply, VARIABLES, [inputs] * 600, groups=groups, seed=0
  ).values()
  rows = np.array([4, 2, 1])
  expected = (np.square([7, 3, 8]) + np.square([5, 5, 5])) * rows
  np.testing.assert_allclose(found, expected, rtol=4 * (2 / 600) ** 0.5)


def test_equals_the_derivative_by_a_gate_behind_norms():
  """Whatever stands between the producer and the reader of a channel."""
  rng = np.random.default_rng(0)

  def normed(variables, x, gate=None):
    x = x @ variables['a']
    x = (x - variables['mean'][None]) * variables['scale'][None]
    x = jax.nn.silu(x + variables['shift'][None])
    x = x if gate is None else x * gate[None]
    return jnp.tanh(x @ variables['b']) @ variables['c']

  shapes = {
    'a': (4, 6),
    'mean': (6,),
    'scale': (6,),
    'shift': (6,),
    'b': (6, 5),
    'c': (5, 2),
  }
  variables = {k: jnp.asarray(rng.normal(size=s)) for k, s in shapes.items()}
  inputs = jnp.asarray(rng.normal(size=(7, 4)))

  def loss(gate):
    return jnp.square(normed(variables, inputs, gate)).sum()

  groups = find(normed, variables, inputs)
  found = taylor_importance(
    lambda v, x: jnp.square(normed(v, x)).sum(),
    variables,
    [inputs],
    groups=groups,
  )
  expected = jnp.square(jax.grad(loss)(jnp.ones(6)))
  np.testing.assert_allclose(found['a'], expected, rtol=1e-4)


def test_a_channel_that_nothing_reads_is_worth_nothing():
  kernel = VARIABLES['b']['kernel'].at[1].set(0)
  variables = {**VARIABLES, 'b': {'kernel': kernel}}
  groups = find(apply, variables, jnp.zeros((1, 2)))
  (found,) = output_importance(
    apply, variables, [jnp.ones((1, 2))], groups=groups, seed=0
  ).values()
  assert found[1] == 0 and found[0] > 0 and found[2] > 0


def test_the_seed_decides():
  groups = find(apply, VARIABLES, jnp.zeros((1, 2)))

  def draw(seed):
    (found,) = output_importance(
      apply, VARIABLES, [jnp.ones((3, 2))], groups=groups, seed=seed
    ).values()
    return found.tolist()

  assert draw(0) == draw(0)
  assert len({tuple(draw(seed)) for seed in range(8)}) > 1


def test_bad_input():
  groups = find(apply, VARIABLES, jnp.zeros((1, 2)))

  def loss(variables, x):
    return apply(variables, x).sum()

  with pytest.raises(InputError, match='no batch'):
    taylor_importance(loss, VARIABLES, [], groups=groups)
  with pytest.raises(InputError, match='a/kernel|b/kernel'):
    taylor_importance(loss, {'other': jnp.ones(3)}, [], groups=groups)
  with pytest.raises(InputError, match='not finite'):
    taylor_importance(
      loss, VARIABLES, [jnp.full((1, 2), jnp.nan)], groups=groups
    )
