import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress.errors import InputError
from compress.prune import nisp as lib


class Net(nn.Module):
  @nn.compact
  def __call__(self, x):
    x = nn.Conv(3, (3, 3), padding='VALID', name='conv1')(x)
    x = nn.BatchNorm(use_running_average=True, name='bn')(x)
    y = nn.Conv(3, (1, 1), name='conv2')(nn.relu(x))
    x = nn.max_pool(x + y, (2, 2), (2, 2))
    x = nn.relu(nn.Dense(5, name='fc')(x.mean((1, 2))))
    return nn.Dense(2, name='head')(x)


def build():
  net, x = Net(), jax.random.normal(jax.random.key(0), (6, 6, 6, 2))
  return net.apply, jax.jit(net.init)(jax.random.key(1), x), x


def mlp(variables, x):
  for name in ('a', 'b', 'c'):
    x = jnp.tanh(x @ variables[name])
  return x


def mlp_weights():
  shapes = {'a': (4, 3), 'b': (3, 5), 'c': (5, 2)}
  keys = jax.random.split(jax.random.key(2), 3)
  return {
    name: jax.random.normal(key, shape)
    for key, (name, shape) in zip(keys, shapes.items(), strict=True)
  }


def test_golden_importance():
  weights = {'w': jnp.array([[1.0, -2.0], [0.0, 3.0]]).T}
  found = lib.propagate_importance(
    lambda v, x: x @ v['w'], weights, jnp.ones((1, 2)), jnp.array([1.0, 2.0])
  )
  np.testing.assert_array_equal(found.inputs[0], [[1, 8]])


def test_an_mlp_gives_the_product_of_absolute_weights():
  weights, top = mlp_weights(), jnp.array([0.3, 2.0])
  x = jax.random.normal(jax.random.key(3), (1, 4))
  found = lib.propagate_importance(mlp, weights, x, top)
  a, b, c = (np.abs(weights[name]) for name in 'abc')
  np.testing.assert_allclose(found.sites['b'].value[0], c @ top, rtol=1e-5)
  np.testing.assert_allclose(found.sites['a'].value[0], b @ c @ top, rtol=1e-5)
  np.testing.assert_allclose(found.inputs[0][0], a @ b @ c @ top, rtol=1e-5)


def test_linear_in_the_importance_and_blind_to_the_values():
  apply, variables, x = build()
  frl = lib.responses_at(apply, 'head')

  def saliency(importance, x=x):
    return lib.neuron_importance(frl, variables, x, importance=importance)

  one, two = jnp.arange(5.0), jnp.ones(5)
  both, first, second = saliency(2 * one + two), saliency(one), saliency(two)
  elsewhere = saliency(2 * one + two, -3 * x)
  for path, value in both.items():
    expected = 2 * first[path] + second[path]
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(value, elsewhere[path], rtol=1e-5)


def test_a_channel_that_nothing_reads_scores_zero():
  apply, variables, x = build()
  kernel = variables['params']['fc']['kernel'].at[1].set(0.0)
  variables['params']['fc']['kernel'] = kernel
  found = lib.neuron_importance(lib.responses_at(apply, 'head'), variables, x)
  assert set(found) == {'conv1/kernel', 'conv2/kernel', 'fc/kernel'}
  assert found['conv2/kernel'][1] == 0
  # conv1's channel 1 still reaches the others through conv2.
  assert np.all(found['conv1/kernel'] > 0)


def test_convolution_pools_and_residual_by_hand():
  apply, variables, x = build()
  top = jnp.arange(1.0, 6.0)
  found = lib.neuron_importance(
    lib.responses_at(apply, 'head'), variables, x, importance=top
  )
  params = variables['params']
  # The mean over 2 x 2 pooled positions gives each 1/4; a window gives its
  # four positions the whole: 16 positions of 1/4.
  pooled = np.abs(params['fc']['kernel']) @ top
  np.testing.assert_allclose(found['conv2/kernel'], 4 * pooled, rtol=1e-5)
  through = np.abs(params['conv2']['kernel'][0, 0]) @ pooled
  np.testing.assert_allclose(
    found['conv1/kernel'], 4 * (pooled + through), rtol=1e-5
  )


def test_a_learned_scale_counts_only_when_asked_for():
  def apply(variables, x):
    return 0.5 * (x @ variables['w'] * variables['scale'][None] - 1.0)

  weights = {'w': jnp.eye(2), 'scale': jnp.array([3.0, -2.0])}
  options = {'importance': jnp.ones(2)}
  x = jnp.ones((1, 2))
  found = lib.neuron_importance(apply, weights, x, **options)
  np.testing.assert_array_equal(found['w'], [0.5, 0.5])
  found = lib.neuron_importance(apply, weights, x, scales='absolute', **options)
  np.testing.assert_array_equal(found['w'], [1.5, 1.0])


def test_an_activation_of_two_branches_is_one():
  def apply(variables, x):
    return nn.leaky_relu(x @ variables['w'])

  found = lib.neuron_importance(
    apply,
    {'w': jnp.eye(2)},
    jnp.ones((1, 2)),
    importance=jnp.ones(2),
    scales='identity',
  )
  # Half by the branch of slope 1, half by that of slope 0.01 (a literal).
  np.testing.assert_allclose(found['w'], 0.505, rtol=1e-5)


def test_infinite_feature_selection_by_its_series():
  generator = np.random.default_rng(0)
  responses = generator.normal(size=(50, 4)) * [1.0, 2.0, 0.5, 1.0]
  responses[:, 3] = responses[:, 1]
  found = lib.infinite_feature_selection(responses, correlation='pearson')
  deviation = responses.std(0) / responses.std(0).max()
  rho = np.abs(np.corrcoef(responses.T))
  matrix = 0.5 * np.maximum.outer(deviation, deviation) + 0.5 * (1 - rho)
  matrix *= 0.9 / np.abs(np.linalg.eigvals(matrix)).max()
  series, power = np.zeros(4), np.ones(4)
  for _ in range(400):
    power = matrix @ power
    series += power
  np.testing.assert_allclose(found, series, rtol=1e-9)
  np.testing.assert_allclose(found[1], found[3], rtol=1e-9)


def test_features_without_variance_are_no_trouble():
  responses = np.zeros((5, 3))
  assert np.all(np.isfinite(lib.infinite_feature_selection(responses)))
  responses[:, 0] = np.arange(5)
  found = lib.infinite_feature_selection(responses)
  assert found[0] > found[1] == found[2]


def test_bad_input_gets_one_line():
  weights, x = mlp_weights(), jnp.ones((1, 4))
  with pytest.raises(InputError, match='responses of shape'):
    lib.infinite_feature_selection(np.ones((1, 3)))
  with pytest.raises(InputError, match='shrink'):
    lib.infinite_feature_selection(np.ones((3, 3)), shrink=1.0)
  with pytest.raises(InputError, match='importance has shape'):
    lib.propagate_importance(mlp, weights, x, jnp.ones(3))
  with pytest.raises(InputError, match="no site 'd'"):
    lib.responses_at(mlp, 'd')(weights, x)
  with pytest.raises(InputError, match='mul'):
    lib.neuron_importance(
      lambda v, x: jax.nn.swish(x @ v['a']),
      weights,
      x,
      importance=jnp.ones(3),
    )
