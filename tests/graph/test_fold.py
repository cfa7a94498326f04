import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import graph as graph_lib
from compress import models


class Block(nn.Module):
  """Foldable and unfoldable norms, a residual, depthwise, a dense tail."""

  @nn.compact
  def __call__(self, x, train=False):
    def norm(name):
      return nn.BatchNorm(use_running_average=not train, name=name)

    x = nn.Conv(8, (3, 3), use_bias=False, name='stem')(x)
    x = nn.relu(norm('stem_bn')(x))
    y = norm('pre_bn')(x)
    y = nn.Conv(8, (3, 3), name='conv1')(y)
    y = nn.relu(norm('bn1')(y))
    y = nn.Conv(8, (3, 3), feature_group_count=8, name='depthwise')(y)
    x = x + norm('bn2')(y)
    x = norm('tail_bn')(x).reshape((x.shape[0], -1))
    return norm('fc_bn')(nn.Dense(5, name='fc')(x))


def randomised(variables):
  leaves, tree = jax.tree.flatten(variables)
  keys = jax.random.split(jax.random.key(7), len(leaves))
  return jax.tree.unflatten(
    tree,
    [
      a + 0.3 * jnp.abs(jax.random.normal(k, a.shape))
      for k, a in zip(keys, leaves, strict=True)
    ],
  )


def model():
  net = Block()
  x = jax.random.normal(jax.random.key(0), (2, 6, 6, 3))
  return net.apply, randomised(net.init(jax.random.key(1), x)), x


def test_folding_changes_nothing():
  apply, variables, x = model()
  folded = graph_lib.fold(apply, variables, x)
  for batch in (x, jnp.concatenate([x, -2 * x, x])):
    expected = apply(variables, batch)
    out = jax.jit(folded.apply)(folded.variables, batch)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)


def test_what_is_folded_and_what_is_left():
  apply, variables, x = model()
  folded = graph_lib.fold(apply, variables, x)
  assert set(folded.sites) == {'stem', 'conv1', 'depthwise', 'fc'}
  assert set(folded.variables['params']) == {
    'stem',
    'conv1',
    'depthwise',
    'fc',
    'pre_bn',
    'tail_bn',
  }
  assert set(folded.variables['batch_stats']) == {'pre_bn', 'tail_bn'}
  assert folded.variables['params']['stem']['bias'].shape == (8,)


def test_a_folded_model_is_a_model():
  apply, variables, x = model()
  folded = graph_lib.fold(apply, variables, x)
  graph = graph_lib.trace(folded.apply, folded.variables, x)
  assert [s.name for s in graph.sites] == ['stem', 'conv1', 'depthwise', 'fc']
  grads = jax.grad(lambda v: folded.apply(v, x).sum())(folded.variables)
  assert all(jnp.any(g != 0) for g in jax.tree.leaves(grads['params']['stem']))
  again = graph_lib.fold(folded.apply, folded.variables, x)
  jax.tree.map(np.testing.assert_array_equal, again.variables, folded.variables)


def test_batch_statistics_are_not_folded():
  net, (_, variables, x) = Block(), model()

  def train(variables, x):
    return net.apply(variables, x, train=True, mutable=['batch_stats'])[0]

  folded = graph_lib.fold(train, variables, x)
  assert set(folded.sites) == {'conv1', 'depthwise', 'fc'}  # biases only
  np.testing.assert_allclose(
    folded.apply(folded.variables, x), train(variables, x), rtol=1e-3, atol=1e-4
  )


def test_golden_dense():
  # spec section 2: folding a BatchNorm into W', b' by hand.
  variables = {
    'w': jnp.array([[0.2, 1.0], [-0.4, 0.6]]),
    'b': jnp.array([0.05, 0.0]),
    'gamma': jnp.array([1.5, 0.5]),
    'beta': jnp.array([0.1, -0.2]),
    'mean': jnp.array([0.3, -1.0]),
    'var': jnp.array([4.0, 0.25]),
  }

  def apply(v, x):
    y = x @ v['w'] + v['b'][None]
    y = (y - v['mean'][None]) / jnp.sqrt(v['var'] + 1e-3)[None]
    return v['gamma'][None] * y + v['beta'][None]

  x = jnp.array([[1.0, 2.0]])
  folded = graph_lib.fold(apply, variables, x)
  assert set(folded.variables) == {'w', 'bias'}
  np.testing.assert_allclose(
    folded.variables['w'],
    np.array([[0.14998125, 0.99800598], [-0.29996251, 0.59880359]]),
    rtol=1e-6,
  )
  np.testing.assert_allclose(
    folded.variables['bias'], [-0.08747657, 0.79800598], rtol=1e-6
  )
  np.testing.assert_allclose(
    folded.apply(folded.variables, x), [[-0.53742033, 2.99361914]], rtol=1e-6
  )


def shared_kernel(v, x):
  return (x @ v['w'] + v['b'][None]) @ v['w']


def two_readers(v, x):
  y = x @ v['w']
  return y * v['b'][None] + jnp.tanh(y)


def per_position(v, x):
  return x @ v['w'] * v['rows']


@pytest.mark.parametrize('apply', [shared_kernel, two_readers, per_position])
def test_what_must_not_be_folded(apply):
  variables = {
    'w': jnp.eye(3) + 0.1,
    'b': jnp.arange(3.0),
    'rows': jnp.arange(6.0).reshape(2, 3),
  }
  x = jax.random.normal(jax.random.key(0), (2, 3))
  folded = graph_lib.fold(apply, variables, x)
  assert folded.sites == ()
  np.testing.assert_array_equal(
    folded.apply(folded.variables, x), apply(variables, x)
  )


def test_swapped_operands():
  def apply(v, x):
    return v['b'][None] - 2.0 * (x @ v['w'])

  variables = {'w': jnp.eye(3) + 0.1, 'b': jnp.arange(3.0)}
  x = jax.random.normal(jax.random.key(0), (2, 3))
  folded = graph_lib.fold(apply, variables, x)
  assert folded.sites == ('w',)
  np.testing.assert_allclose(
    folded.apply(folded.variables, x), apply(variables, x), rtol=1e-5
  )


def test_variables_must_be_nested_dicts():
  with pytest.raises(TypeError, match='nested dict'):
    graph_lib.fold(lambda v, x: x @ v[0], [jnp.eye(3)], jnp.ones((2, 3)))


NETWORKS = {
  'iresnet': models.IResNet((1, 1), widths=(4, 8), features=6),
  'sface': models.SFace(stem=4, widths=(8, 8), strides=(2, 2), features=6),
}


@pytest.mark.slow
@pytest.mark.parametrize('name', NETWORKS)
def test_face_networks(name):
  module = NETWORKS[name]
  x = jax.random.uniform(jax.random.key(0), (2, 112, 112, 3)) * 255
  variables = randomised(module.init(jax.random.key(1), x))
  folded = graph_lib.fold(module.apply, variables, x)
  expected = jax.jit(module.apply)(variables, x)
  out = jax.jit(folded.apply)(folded.variables, x)
  scale = np.abs(expected).max()
  np.testing.assert_allclose(out, expected, atol=1e-4 * scale)
  left = [path for path in graph_lib.leaf_paths(folded.variables)]
  norms = {path.split('/')[-2] for path in left if path.endswith('mean')}
  # Those that follow no layer: an input of a block, the tail before the
  # flatten.
  assert norms == ({'bn1', 'bn'} if name == 'iresnet' else {'bn'})
  assert 'fc' in folded.sites
