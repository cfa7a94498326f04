import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from compress import graph, models


class Net(nn.Module):
  """BatchNorm after a biased convolution, after a ReLU, and on vectors."""

  @nn.compact
  def __call__(self, x):
    def norm(name):
      return nn.BatchNorm(use_running_average=True, name=name)

    x = norm('first')(nn.Conv(4, (3, 3), name='conv')(x))
    x = norm('second')(nn.relu(x))
    return norm('last')(x.reshape(x.shape[0], -1))


def drawn(tree, seed=0):
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda a: jnp.asarray(rng.uniform(0.5, 2.0, a.shape), a.dtype), tree
  )


def test_finds_every_batch_norm_and_what_enters_it():
  x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3, 3, 2)), 'f4')
  variables = drawn(Net().init(jax.random.key(0), x))
  found = graph.batch_norms(Net().apply, variables, x)
  assert [n.name for n in found] == ['first', 'second', 'last']
  assert [n.shape for n in found] == [(2, 3, 3, 4), (2, 3, 3, 4), (2, 36)]
  assert found[1].mean == 'batch_stats/second/mean'
  assert found[1].variance == 'batch_stats/second/var'
  out, taps = jax.jit(graph.tap_batch_norms(Net().apply))(variables, x)
  np.testing.assert_allclose(out, Net().apply(variables, x), rtol=1e-5)
  layer = variables['params']['conv']
  conv = nn.Conv(4, (3, 3)).apply({'params': layer}, x)
  np.testing.assert_allclose(taps['first'].value, conv, rtol=1e-5)
  np.testing.assert_array_equal(
    taps['last'].mean, variables['batch_stats']['last']['mean']
  )
  assert taps['last'].value.shape == (2, 36)


FORMS = {
  'divided': lambda x, v, s: (x - v['m']) / jnp.sqrt(v['s'] + 1e-3),
  'negated': lambda x, v, s: (x + -v['m']) * (v['s'] + 1e-3) ** -0.5,
  'scaled': lambda x, v, s: (x - v['m']) * (s * jax.lax.rsqrt(v['s'] + 1e-3)),
  'merged': lambda x, v, s: (
    x * (s / jnp.sqrt(v['s'] + 1e-3))
    + (v['b'] - v['m'] * (s / jnp.sqrt(v['s'] + 1e-3)))
  ),
  'cast': lambda x, v, s: (
    (x.astype('f2').astype('f4') - v['m']) / jnp.sqrt(jnp.maximum(v['s'], 1e-3))
  ),
}


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('axis', [1, 3])
def test_form_and_axis_do_not_matter(form, axis):
  shape = [2, 5, 5, 5]
  x = jnp.ones(shape)
  wide = [1] * 4
  wide[axis] = -1
  variables = {k: jnp.arange(1.0, 6.0) for k in ('m', 's', 'b', 'g')}

  def apply(variables, x):
    v = {k: a.reshape(wide) for k, a in variables.items()}
    return jax.nn.relu(FORMS[form](x, v, v['g']))

  (norm,) = graph.batch_norms(apply, variables, x)
  assert (norm.mean, norm.variance, norm.axis) == ('m', 's', axis)


def test_other_affine_operations_are_none():
  variables = {'a': jnp.ones(3), 'b': jnp.ones(3)}

  def apply(variables, x):
    x = (x - variables['a']) * variables['b']
    x = x + variables['a']
    x = (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(
      x.var(-1, keepdims=True) + 1e-5
    )
    return x * jax.lax.rsqrt(variables['b'])

  jnp_x = jnp.ones((2, 3))
  with jax.numpy_rank_promotion('allow'):
    assert graph.batch_norms(apply, variables, jnp_x) == ()


def test_batch_statistics_and_folded_statistics_are_none():
  x = jnp.ones((2, 3, 3, 2))
  variables = Net().init(jax.random.key(0), x)
  module = nn.BatchNorm(use_running_average=False)
  live = module.init(jax.random.key(0), x)

  def apply(variables, x):
    return module.apply(variables, x, mutable=['batch_stats'])[0]

  assert graph.batch_norms(apply, live, x) == ()
  folded = graph.fold(Net().apply, variables, x)
  left = graph.batch_norms(folded.apply, folded.variables, x)
  assert [n.name for n in left] == ['second', 'last']


def test_nnx_and_shared_statistics():
  norm = nnx.BatchNorm(3, use_running_average=True, rngs=nnx.Rngs(0))
  definition, state = nnx.split(norm)
  variables = {'norm': nnx.to_pure_dict(state)}

  def apply(variables, x):
    module = nnx.merge(definition, nnx.restore_int_paths(variables['norm']))
    return module(module(x))

  found = graph.batch_norms(apply, variables, jnp.ones((2, 3)))
  assert [n.name for n in found] == ['norm', 'norm#1']


def test_inside_remat_it_is_read_and_inside_scan_refused():
  x = jnp.ones((2, 3, 3, 2))
  variables = drawn(Net().init(jax.random.key(0), x))
  plain = graph.tap_batch_norms(Net().apply)(variables, x)
  kept = graph.tap_batch_norms(jax.checkpoint(Net().apply))(variables, x)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), plain, kept
  )

  def apply(variables, x):
    def step(x, v):
      mean = v['mean'].reshape(1, -1)
      return (x - mean) * jax.lax.rsqrt(v['var'].reshape(1, -1)), None

    return jax.lax.scan(step, x, variables['layers'])[0]

  stacked = {'layers': {'mean': jnp.zeros((4, 3)), 'var': jnp.ones((4, 3))}}
  with pytest.raises(NotImplementedError, match="'layers' lies inside 'scan'"):
    graph.batch_norms(apply, stacked, jnp.ones((2, 3)))


def test_every_batch_norm_of_sface():
  module = models.SFace(stem=2, widths=(2, 3), strides=(1, 2))
  image = jax.ShapeDtypeStruct((1, 112, 112, 3), 'float32')
  variables = jax.eval_shape(module.init, jax.random.key(0), image)
  found = graph.batch_norms(module.apply, variables, image)
  assert [n.name for n in found] == [
    'stem/bn',
    'block1/bn1',
    'block1/bn2',
    'block2/bn1',
    'block2/bn2',
    'bn',
    'features_bn',
  ]
