import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress.errors import InputError
from compress.prune import penalties

TREE = {'a': jnp.array([[1.0, -2.0], [0.5, 0.0]]), 'b': jnp.array([3.0])}


def test_weight_decay():
  assert float(penalties.weight_decay(TREE, strength=0.1)) == pytest.approx(
    1.425
  )
  grad = jax.grad(lambda t: penalties.weight_decay(t, strength=0.1))(TREE)
  rate = 0.5
  np.testing.assert_allclose(
    TREE['b'] - rate * grad['b'], (1 - 2 * rate * 0.1) * TREE['b'], rtol=1e-6
  )


def test_l1():
  assert float(penalties.l1(TREE, strength=2.0)) == pytest.approx(13)
  grad = jax.grad(lambda t: penalties.l1(t, strength=2.0))(TREE)
  np.testing.assert_array_equal(grad['a'], [[2, -2], [2, 0]])


def test_l1_prox_golden():
  out = penalties.l1_prox({'w': jnp.array([0.3, -0.1])}, threshold=0.2)
  np.testing.assert_allclose(out['w'], [0.1, 0], atol=1e-7)
  assert out['w'][1] == 0


def test_l1_prox_minimises():
  w = jnp.array([0.7, -0.4, 0.05])
  grid = jnp.linspace(-1, 1, 2001)
  cost = 0.5 * (grid[:, None] - w[None]) ** 2 + 0.3 * jnp.abs(grid)[:, None]
  best = grid[cost.argmin(0)]
  np.testing.assert_allclose(
    penalties.l1_prox(w, threshold=0.3), best, atol=1e-3
  )


def eliminate(w, strength=0.4, scale=0.5):
  return penalties.weight_elimination(w, strength=strength, scale=scale)


def test_weight_elimination():
  assert float(eliminate(jnp.array([0.5]))) == pytest.approx(0.2)
  assert float(eliminate(jnp.array([500.0, -500]))) == pytest.approx(
    0.8, rel=1e-5
  )
  small = 1e-3
  assert float(eliminate(jnp.array([small]))) == pytest.approx(
    0.4 * (small / 0.5) ** 2, rel=1e-4
  )


def test_weight_elimination_gradient():
  w = jnp.array([0.3, -0.5, 2.0])
  expected = 2 * 0.4 * (w / 0.25) / (1 + w**2 / 0.25) ** 2
  np.testing.assert_allclose(jax.grad(eliminate)(w), expected, rtol=1e-5)


@pytest.mark.parametrize('power', [0, 1, 2])
def test_unit_energy_gradient(power):
  outputs = jnp.array([[0.2, -1.0], [3.0, 0.0]])
  grad = jax.grad(
    lambda o: penalties.unit_energy(o, strength=0.5, power=power)
  )(outputs)
  expected = 0.5 * 2 * outputs / (1 + outputs**2) ** power
  np.testing.assert_allclose(grad, expected, rtol=1e-5)
  assert penalties.unit_energy(0 * outputs, strength=0.5, power=power) == 0


def test_unit_energy_of_another_power_is_refused():
  with pytest.raises(InputError, match='right is 0, 1 or 2'):
    penalties.unit_energy(jnp.ones(2), strength=1, power=3)


def test_ji_of_scalar_units():
  w_in, w_out = np.array([[0.5, 2.0]]), np.array([[1.0], [-3.0]])

  def f(w):
    return w**2 / (1 + w**2)

  expected = 0.3 * (f(0.5) * f(1) + f(2) * f(3))
  got = penalties.ji_smoothness(
    jnp.asarray(w_in, jnp.float32),
    jnp.asarray(w_out, jnp.float32),
    strength=0.3,
  )
  assert float(got) == pytest.approx(expected)


def test_ji_sums_over_all_pairs_of_a_unit():
  k = jax.random.split(jax.random.key(0))
  w_in = jax.random.normal(k[0], (3, 3, 2, 4))
  w_out = jax.random.normal(k[1], (1, 2, 4, 5))
  f_in = np.square(w_in) / (1 + np.square(w_in))
  f_out = np.square(w_out) / (1 + np.square(w_out))
  expected = np.einsum('abcu,deuk->', f_in, f_out)
  got = penalties.ji_smoothness(w_in, w_out, strength=1.0)
  assert float(got) == pytest.approx(expected, rel=1e-5)
  dead = penalties.ji_smoothness(0 * w_in, w_out, strength=1.0)
  assert dead == 0
  with pytest.raises(InputError, match=r'\[..., 4, K\]'):
    penalties.ji_smoothness(w_in, w_out.swapaxes(2, 3), strength=1.0)


def test_group_lasso_value_and_gradient():
  w = jnp.array([[3.0, 0], [4.0, 0]])
  got, grad = jax.value_and_grad(
    lambda w: penalties.group_lasso(w, strength=0.5)
  )(w)
  assert float(got) == pytest.approx(0.5 * np.sqrt(2) * 5)
  expected = 0.5 * np.sqrt(2) * np.array([[0.6, 0], [0.8, 0]])
  np.testing.assert_allclose(grad, expected, rtol=1e-6)
  rows = penalties.group_lasso(w, strength=0.5, axis=-2)
  assert float(rows) == pytest.approx(0.5 * np.sqrt(2) * 7)


@pytest.mark.parametrize('axis', [-1, -2])
def test_group_lasso_prox_is_zero_exactly_within_reach(axis):
  w = jax.random.normal(jax.random.key(0), (3, 3, 4, 8))
  w = np.moveaxis(
    np.moveaxis(np.asarray(w), axis, -1) * np.linspace(0, 1, w.shape[axis]),
    -1,
    axis,
  )
  w = jnp.asarray(w, jnp.float32)
  n = w.size // w.shape[axis]
  norms = np.linalg.norm(np.moveaxis(w, axis, 0).reshape(-1, n), axis=1)
  threshold = float(np.median(norms) / np.sqrt(n))
  out = penalties.group_lasso_prox({'w': w}, threshold=threshold, axis=axis)
  groups = np.moveaxis(out['w'], axis, 0).reshape(-1, n)
  np.testing.assert_array_equal(
    (groups == 0).all(1), norms <= threshold * np.sqrt(n)
  )
  left = np.maximum(norms - threshold * np.sqrt(n), 0)
  np.testing.assert_allclose(
    np.linalg.norm(groups, axis=1), left, rtol=1e-4, atol=1e-5
  )


def test_group_lasso_prox_without_a_threshold_is_the_identity():
  w = jnp.array([[1.0, 0], [2.0, 0]])
  np.testing.assert_array_equal(penalties.group_lasso_prox(w, threshold=0.0), w)


def test_slimming():
  params = {
    'conv': {'kernel': jnp.ones((3, 2))},
    'bn': {'scale': jnp.array([-0.5, 2]), 'bias': jnp.ones(2)},
  }
  assert float(penalties.scale_l1(params, strength=0.1)) == pytest.approx(0.25)
  saliency = penalties.scale_saliency(params, {'conv/kernel': 'bn/scale'})
  np.testing.assert_array_equal(saliency['conv/kernel'], [0.5, 2])
  with pytest.raises(InputError, match='matches no scale'):
    penalties.scale_l1(params, strength=0.1, pattern='gamma')
  with pytest.raises(InputError, match=r'right for .* is \[3\]'):
    params['conv']['kernel'] = jnp.ones((2, 3))
    penalties.scale_saliency(params, {'conv/kernel': 'bn/scale'})


def test_penalties_keep_the_dtype():
  w = jnp.ones((2, 2), jnp.bfloat16)
  for out in (
    penalties.weight_decay(w, strength=0.1),
    penalties.group_lasso(w, strength=0.1),
    penalties.group_lasso_prox(w, threshold=0.1),
    penalties.l1_prox(w, threshold=0.1),
  ):
    assert out.dtype == jnp.bfloat16


def test_nothing_costs_nothing():
  assert penalties.weight_decay({}, strength=1.0) == 0
