import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from compress.prune.skeletonization import (
  average_relevance,
  linear_error,
  skeleton_relevance,
)
from compress.prune.units import gate_units, tap_units


def linear(params, x):
  return x @ params['w']


def net(params, x):
  hidden = checkpoint_name(
    jnp.tanh(x @ params['one'] + params['b'][None]), 'hidden'
  )
  return hidden @ params['two']


def make_net():
  k = jax.random.split(jax.random.key(0), 5)
  params = {
    'one': jax.random.normal(k[0], (3, 6)),
    'b': jax.random.normal(k[1], (6,)),
    'two': jax.random.normal(k[2], (6, 2)),
  }
  batch = (jax.random.normal(k[3], (8, 3)), jax.random.normal(k[4], (8, 2)))
  return params, batch


def test_golden():
  params = {'w': jnp.array([[2.0], [-1.0]])}
  batch = (jnp.ones((1, 2)), jnp.array([[3.0]]))
  places, gates = {'x': 'w:input'}, {'x': jnp.ones(2)}
  got = skeleton_relevance(linear, params, gates, batch, places=places)
  np.testing.assert_allclose(got['x'], [2, -1])
  gated = gate_units(linear, places)
  for i, removed in enumerate(([0.0, 1.0], [1.0, 0.0])):
    without = gated(params, {'x': jnp.array(removed)}, batch[0])
    with_it = linear(params, batch[0])
    change = linear_error(without, batch[1]) - linear_error(with_it, batch[1])
    np.testing.assert_allclose(change, [2, -1][i])


def test_relevance_is_first_order_taylor_on_the_outputs():
  params, (x, t) = make_net()
  places, gates = {'one': 'hidden'}, {'one': jnp.ones(6)}
  got = jax.jit(
    lambda p: skeleton_relevance(net, p, gates, (x, t), places=places)
  )(params)
  hidden = tap_units(net, places)(params, x)[1]['one']
  grad = jax.grad(lambda h: linear_error(h @ params['two'], t))(hidden)
  np.testing.assert_allclose(
    got['one'], -(hidden * grad).sum(0), rtol=1e-5, atol=1e-6
  )


def test_a_unit_that_nothing_reads_is_irrelevant():
  params, batch = make_net()
  params['two'] = params['two'].at[3].set(0)
  got = skeleton_relevance(
    net, params, {'one': jnp.ones(6)}, batch, places={'one': 'hidden'}
  )
  assert got['one'][3] == 0
  assert (np.delete(got['one'], 3) != 0).all()


def test_squared_error_is_blind_where_the_linear_is_not():
  params, (x, _) = make_net()
  targets = net(params, x) + 1e-4

  def squared(outputs, targets):
    return jnp.square(targets - outputs).sum() / outputs.shape[0]

  gates, places = {'one': jnp.ones(6)}, {'one': 'hidden'}
  seen, blind = (
    skeleton_relevance(
      net, params, gates, (x, targets), places=places, error=error
    )['one']
    for error in (linear_error, squared)
  )
  np.testing.assert_allclose(blind, 2e-4 * seen, rtol=2e-2, atol=1e-6)


def test_running_average():
  out = average_relevance({'k': jnp.array([1.0])}, {'k': jnp.array([6.0])})
  np.testing.assert_allclose(out['k'], [2.0], rtol=1e-6)
