import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress.errors import InputError
from compress.prune.growing_regularization import (
  grow_strengths,
  growing_decay,
)


def test_least_important_grows_by_delta_and_most_important_not():
  strengths = {'k': jnp.array([0.1, 0.1, 0.1])}
  out = grow_strengths(strengths, {'k': jnp.array([1.0, 3.0, 2.0])}, delta=0.2)
  np.testing.assert_allclose(out['k'], [0.3, 0.1, 0.2], rtol=1e-6)


def test_equal_importance_does_not_grow():
  strengths = {'k': jnp.array([0.1, 0.1])}
  out = grow_strengths(strengths, {'k': jnp.ones(2)}, delta=0.2)
  np.testing.assert_array_equal(out['k'], strengths['k'])


def test_uniform_growth_stops_at_the_ceiling():
  strengths = {'k': jnp.array([0.1, 0.9])}
  out = grow_strengths(strengths, delta=0.2, ceiling=1.0)
  np.testing.assert_allclose(out['k'], [0.3, 1.0], rtol=1e-6)


def test_other_paths_are_refused():
  with pytest.raises(InputError, match='same paths and shapes'):
    grow_strengths({'k': jnp.ones(2)}, {'j': jnp.ones(2)}, delta=0.1)


@pytest.mark.parametrize('per_unit', [True, False])
def test_decay_and_its_gradient(per_unit):
  params = {'k': jnp.array([[1.0, 2.0], [3.0, 4.0]]), 'b': jnp.ones(2)}
  strength = jnp.array([0.1, 0.2])
  full = jnp.broadcast_to(strength, (2, 2))
  strengths = {'k': strength if per_unit else full}
  value, grad = jax.value_and_grad(growing_decay)(params, strengths)
  assert float(value) == pytest.approx((0.1 * 10 + 0.2 * 20) / 2)
  np.testing.assert_allclose(grad['k'], full * params['k'], rtol=1e-6)
  np.testing.assert_array_equal(grad['b'], 0)
  with pytest.raises(InputError, match=r'right is \(2, 2\) or \[2\]'):
    growing_decay(params, {'k': jnp.ones(3)})


def test_growing_separates_weights_by_their_curvature():
  curvature = jnp.array([0.1, 1.0])

  def loss(params, strengths):
    error = 0.5 * (curvature * jnp.square(params['w'] - 1)).sum()
    return error + growing_decay(params, strengths)

  params, strengths = {'w': jnp.ones(2)}, {'w': jnp.zeros(2)}
  for _ in range(5):
    strengths = grow_strengths(strengths, delta=0.1)
    for _ in range(50):
      grads = jax.grad(loss)(params, strengths)
      params = jax.tree.map(lambda p, g: p - 0.5 * g, params, grads)
  np.testing.assert_allclose(
    params['w'], curvature / (curvature + 0.5), rtol=1e-3
  )
