import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress.errors import InputError
from compress.prune.grasp import balanced_indices, grasp_saliency


def quadratic(params, hessian):
  w = params['w']
  return w @ hessian @ w / 2


def test_golden():
  saliency = grasp_saliency(
    quadratic,
    {'w': jnp.array([1.0, 3.0])},
    jnp.diag(jnp.array([2.0, 1.0])),
    prunable='w',
  )['w']
  # S = (-4, -9): the highest S goes first, so index 0 does.
  np.testing.assert_array_equal(-saliency, [-4, -9])
  assert np.argmin(saliency) == 0


def test_is_half_the_change_of_the_squared_gradient_norm():
  hessian = jnp.array([[2.0, 0.5, 0.1], [0.5, 1.0, -0.3], [0.1, -0.3, 3.0]])
  params = {'w': jnp.array([1.0, -2.0, 0.5])}
  saliency = grasp_saliency(quadratic, params, hessian, prunable='w')['w']

  def norm(factor):
    grad = jax.grad(quadratic)({'w': params['w'] * factor}, hessian)['w']
    return grad @ grad

  np.testing.assert_allclose(
    saliency, jax.grad(norm)(jnp.ones(3)) / 2, rtol=1e-5
  )


def test_hessian_is_that_of_the_prunable_leaves():
  params = {'a': {'kernel': jnp.array([2.0])}, 'bias': jnp.array([5.0])}

  def loss(params, batch):
    del batch
    return jnp.sum((params['a']['kernel'] * params['bias']) ** 2) / 2

  # H = b^2 = 25, g = 50 over the kernel alone.
  saliency = jax.jit(lambda p: grasp_saliency(loss, p, None))(params)
  assert set(saliency) == {'a/kernel'}
  np.testing.assert_allclose(saliency['a/kernel'], [2 * 25 * 50])


def test_balanced_indices():
  labels = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])
  chosen = balanced_indices(labels, per_class=2, seed=3)
  assert len(set(chosen.tolist())) == 6
  np.testing.assert_array_equal(np.bincount(labels[chosen]), [2, 2, 2])
  np.testing.assert_array_equal(
    chosen, balanced_indices(labels, per_class=2, seed=3)
  )
  with pytest.raises(InputError, match='class 1 has 2 examples; 3'):
    balanced_indices(labels, per_class=3, seed=0)
