import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from compress import encode, models, packed
from compress import graph as graph_lib
from compress.errors import InputError
from tests.graph.drawn_networks import Drawn, randomised


def groups_of(apply, variables, *inputs):
  graph = graph_lib.trace(apply, variables, *inputs)
  return graph_lib.channels(graph).groups


def drawn_keep(groups, seed=0):
  """About half of every group that may lose channels; at least one stays."""
  rng = np.random.default_rng(seed)
  keep = {}
  for group in groups:
    if not group.tags:
      keep[group.name] = rng.random(group.size) < 0.5
      keep[group.name][rng.integers(group.size)] = True
  return keep


def check(apply, variables, x, *, tolerance, seed=0):
  """Masked and removed agree; returns the groups, the choice and the result."""
  groups = groups_of(apply, variables, x)
  keep = drawn_keep(groups, seed)
  shapes = jax.eval_shape(lambda: variables)
  shrunk = graph_lib.shrink(apply, shapes, keep, x, groups=groups, verify=False)

  def both(variables, x):
    masked = graph_lib.mask_channels(variables, groups, keep)
    small = graph_lib.take_kept(variables, shrunk.kept)
    return apply(masked, x), shrunk.apply(small, x), small

  expected, out, small = jax.jit(both)(variables, x)
  assert out.dtype == expected.dtype
  assert abs(out - expected).max() <= tolerance * abs(expected).max()
  return groups, keep, shrunk._replace(variables=small)


def size(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def site_names(apply, variables, x):
  graph = graph_lib.trace(apply, variables, x)
  return [site.name for site in (*graph.sites, *graph.names)]


NETWORKS = {
  'lenet300': lambda: models.lenet300(widths=(8, 6), image_shape=(4, 4, 1)),
  'lenet5': lambda: models.lenet5(widths=(4, 6), hidden=8),
  'cifar_resnet': lambda: models.cifar_resnet8(widths=(4, 6, 8)),
  'bottleneck': lambda: models.ResNet(
    (1, 1), (4, 6), 3, bottleneck=True, small=True
  ),
  'vit': lambda: models.VisionTransformer(
    (8, 8, 3), patch=4, features=12, blocks=2, heads=3, hidden=10, classes=5
  ),
  'iresnet': lambda: models.IResNet((1, 2, 1, 1), (4, 6, 8, 10), 7),
  'sface': lambda: models.SFace(4, (6, 6, 8), (2, 2, 2), 5),
  'mobilefacenet': lambda: models.MobileFaceNet(
    stem=4,
    widths=(4, 6, 6),
    expansions=((8, 8), (8, 8), (8, 8)),
    blocks=(1, 1, 1),
    head=8,
    features=5,
  ),
}


@pytest.mark.slow
@pytest.mark.parametrize('network', NETWORKS)
@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_networks(network, dtype):
  net = NETWORKS[network]()
  shape = {'cifar_resnet': (2, 8, 8, 3), 'bottleneck': (2, 8, 8, 3)}.get(
    network, (1, *getattr(net, 'image_shape', (112, 112, 3)))
  )
  image = jax.ShapeDtypeStruct(shape, jnp.float32)
  abstract = jax.eval_shape(net.init, jax.random.key(0), image)
  promotion = jax.numpy_dtype_promotion('standard')  # Flax's LayerNorm asks it
  with jax.enable_x64(dtype == 'float64'), promotion:
    variables = randomised(abstract, dtype=dtype)
    x = jnp.asarray(np.random.default_rng(1).uniform(0, 255, shape), dtype)
    tolerance = {'float32': 1e-5, 'float64': 1e-12}[dtype]
    *_, shrunk = check(net.apply, variables, x, tolerance=tolerance)
    assert size(shrunk.variables) < 0.8 * size(variables)
    names = site_names(net.apply, variables, x)
    assert site_names(shrunk.apply, shrunk.variables, x) == names


def test_golden_count():
  # Every width of IResNet-18 times 0.8, rounded down; embeddings stay at 512.
  net = models.iresnet18()
  x = jax.ShapeDtypeStruct((1, 112, 112, 3), jnp.float32)
  variables = jax.eval_shape(net.init, jax.random.key(0), x)
  groups = groups_of(net.apply, variables, x)
  keep = {g.name: np.arange(g.size) < g.size * 8 // 10 for g in groups}
  shrunk = graph_lib.shrink(
    net.apply, variables, keep, x, groups=groups, verify=False
  )
  assert size(shrunk.variables['params']) == 17_388_240
  more = jax.ShapeDtypeStruct((4, 112, 112, 3), jnp.float32)
  out = jax.eval_shape(shrunk.apply, shrunk.variables, more)
  assert out.shape == (4, 512)


def drawn(seed, dtype):
  net = Drawn(seed)
  x = np.random.default_rng(seed).standard_normal((2, 4, 4, 3))
  shape = jax.ShapeDtypeStruct(x.shape, jnp.float32)
  with jax.enable_x64(False):
    abstract = jax.eval_shape(net.init, jax.random.key(0), shape)
  return net.apply, randomised(abstract, seed, dtype), jnp.asarray(x, dtype)


@pytest.mark.parametrize('seed', range(30))
def test_drawn_networks(seed):
  with jax.enable_x64(True):
    apply, variables, x = drawn(seed, 'float64')
    *_, shrunk = check(apply, variables, x, tolerance=1e-12, seed=seed)
  assert size(shrunk.variables) < size(variables)


@pytest.mark.slow
@pytest.mark.parametrize('seed', range(3))
def test_drawn_networks_train(seed):
  apply, variables, x = drawn(seed, 'float32')
  groups, keep, shrunk = check(apply, variables, x, tolerance=1e-5, seed=seed)
  names = site_names(apply, variables, x)
  assert site_names(shrunk.apply, shrunk.variables, x) == names
  masked = graph_lib.mask_channels(variables, groups, keep)

  def gradients(function, variables):
    x_more = jnp.concatenate([x, 2.0 * x, -x])

    def loss(params):
      out = function({**variables, 'params': params}, x_more)
      return (out**2).mean()

    return loss, *jax.jit(jax.value_and_grad(loss))(variables['params'])

  loss, value, grads = gradients(shrunk.apply, shrunk.variables)
  _, expected_value, whole = gradients(apply, masked)
  np.testing.assert_allclose(value, expected_value, rtol=1e-4)
  expected = graph_lib.take_kept({'params': whole}, shrunk.kept)['params']
  scale = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(expected))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * scale),
    grads,
    expected,
  )
  norm = sum(float((g**2).sum()) for g in jax.tree.leaves(grads))
  step = 1e-2 * float(value) / norm
  params = shrunk.variables['params']
  stepped = jax.tree.map(lambda w, g: w - step * g, params, grads)
  assert jax.jit(loss)(stepped) < value


class NnxNet(nnx.Module):
  def __init__(self, rngs):
    self.conv = nnx.Conv(3, 6, (3, 3), rngs=rngs)
    self.norm = nnx.BatchNorm(6, use_running_average=True, rngs=rngs)
    self.fc = nnx.Linear(6, 2, rngs=rngs)

  def __call__(self, x):
    return self.fc(nnx.relu(self.norm(self.conv(x))).mean((1, 2)))


def nnx_model():
  definition, state = nnx.split(NnxNet(nnx.Rngs(0)))

  def apply(state, x):
    return nnx.merge(definition, state)(x)

  return apply, state, jax.random.normal(jax.random.key(0), (2, 6, 6, 3))


def plain(variables, x):
  x = jnp.tanh(x @ variables['w1'] + variables['b1'])
  return x @ variables['w2'].T


def plain_model():
  keys = jax.random.split(jax.random.key(0), 4)
  variables = {
    'w1': jax.random.normal(keys[0], (3, 8)),
    'b1': jax.random.normal(keys[3], (1, 8)),
    'w2': jax.random.normal(keys[1], (5, 8)),
  }
  return plain, variables, jax.random.normal(keys[2], (2, 3))


def stacked(variables, x):
  """A scan over layers, with a residual stream and a hidden width."""

  def body(carry, layer):
    hidden = nn.relu(carry @ layer['up'])
    return carry + hidden @ layer['down'], None

  x = x @ variables['embed']
  x, _ = jax.lax.scan(body, x, variables['layers'])
  return x @ variables['head']


def stacked_model():
  rng = np.random.default_rng(0)
  shapes = {
    'embed': (3, 6),
    'layers': {'up': (4, 6, 8), 'down': (4, 8, 6)},
    'head': (6, 2),
  }
  variables = jax.tree.map(
    lambda s: jnp.asarray(0.4 * rng.standard_normal(s), jnp.float32),
    shapes,
    is_leaf=lambda s: isinstance(s, tuple),
  )
  return stacked, variables, jnp.asarray(rng.standard_normal((2, 3)), 'float32')


MODELS = {'nnx': nnx_model, 'plain': plain_model, 'scan': stacked_model}
KINDS = ['eager', 'jit', 'vmap', 'remat', 'rewrite', 'sharded']


@pytest.mark.slow
@pytest.mark.parametrize('model', MODELS)
@pytest.mark.parametrize('kind', KINDS)
def test_composes(model, kind):
  apply, variables, x = MODELS[model]()
  groups, keep, shrunk = check(apply, variables, x, tolerance=1e-5)
  assert keep
  masked = graph_lib.mask_channels(variables, groups, keep)
  function = shrunk.apply
  x = jnp.concatenate([x] * 4)
  if kind == 'jit':
    out = jax.jit(function)(shrunk.variables, x)
  elif kind == 'vmap':
    out = jax.vmap(function, (None, 0))(shrunk.variables, x[:, None])[:, 0]
  elif kind == 'remat':
    wrapped = jax.checkpoint(apply)
    again = graph_lib.shrink(wrapped, variables, keep, x, groups=groups)
    out = again.apply(again.variables, x)
    grads = jax.grad(lambda v: again.apply(v, x).sum())(again.variables)
    assert all(jnp.isfinite(g).all() for g in jax.tree.leaves(grads))
  elif kind == 'rewrite':
    out = graph_lib.rewrite(function, lambda site, op, *xs: op(*xs))(
      shrunk.variables, x
    )
  elif kind == 'sharded':
    mesh = jax.make_mesh((8,), ('data',))
    spec = jax.sharding.PartitionSpec('data')
    placed = jax.device_put(x, jax.sharding.NamedSharding(mesh, spec))
    out = jax.jit(function)(shrunk.variables, placed)
    assert len(out.sharding.device_set) == 8
  else:
    out = function(shrunk.variables, x)
  np.testing.assert_allclose(out, apply(masked, x), rtol=1e-4, atol=1e-5)
  names = site_names(apply, variables, x)
  assert site_names(function, shrunk.variables, x) == names


@pytest.mark.parametrize('model', [*MODELS, 'drawn'])
def test_shrinks_twice(model):
  if model == 'drawn':
    apply, variables, x = drawn(3, 'float32')
  else:
    apply, variables, x = MODELS[model]()
  groups, keep, once = check(apply, variables, x, tolerance=1e-5)
  again, _, twice = check(once.apply, once.variables, x, tolerance=1e-5, seed=1)
  if model != 'drawn':  # where a factor of two is left with one, names merge
    ones = {g.name: np.ones(g.size, bool) for g in groups} | keep
    left = {name: int(stays.sum()) for name, stays in ones.items()}
    assert {g.name: g.size for g in again} == left
  kept = graph_lib.compose_kept(once.kept, twice.kept)
  taken = graph_lib.take_kept(variables, kept)
  jax.tree.map(np.testing.assert_array_equal, taken, twice.variables)
  described = graph_lib.describe_kept(kept, twice.shapes | once.shapes)
  direct = graph_lib.restore_shrunk(apply, described)
  np.testing.assert_allclose(
    direct(taken, x), twice.apply(twice.variables, x), rtol=1e-5, atol=1e-6
  )


def test_folds_after_shrinking():
  apply, variables, x = drawn(2, 'float32')
  *_, shrunk = check(apply, variables, x, tolerance=1e-5)
  folded = graph_lib.fold(shrunk.apply, shrunk.variables, x)
  assert folded.sites
  expected = shrunk.apply(shrunk.variables, x)
  np.testing.assert_allclose(
    folded.apply(folded.variables, x), expected, rtol=1e-4, atol=1e-4
  )


def test_cost_follows():
  apply, variables, x = plain_model()
  keep = {'w1': np.arange(8) % 4 == 0}
  shrunk = graph_lib.shrink(apply, variables, keep, x)
  graph = graph_lib.trace(shrunk.apply, shrunk.variables, x)
  assert graph_lib.cost(graph).macs == 2 * (3 * 2 + 2 * 5)
  assert graph_lib.cost(graph).parameters == 3 * 2 + 2 + 5 * 2
  np.testing.assert_array_equal(shrunk.kept['w1'][1], [0, 4])
  np.testing.assert_array_equal(shrunk.kept['w2'][1], [0, 4])


def test_training_mode_shrinks_too():
  net = Drawn(9)
  apply, variables, x = drawn(9, 'float32')
  assert 'batch_stats' in variables

  def train(variables, x):
    return net.apply(variables, x, train=True, mutable=['batch_stats'])

  groups, keep, shrunk = check(apply, variables, x, tolerance=1e-5)
  small = graph_lib.restore_shrunk(
    train, graph_lib.describe_kept(shrunk.kept, shrunk.shapes)
  )
  out, updates = jax.jit(small)(shrunk.variables, x)
  masked = graph_lib.mask_channels(variables, groups, keep)
  expected, full = train(masked, x)
  np.testing.assert_allclose(out, expected, rtol=1e-3, atol=1e-4)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    updates,
    graph_lib.take_kept(full, shrunk.kept),
  )


def test_file_round_trip(tmp_path):
  apply, variables, x = drawn(4, 'float32')
  *_, shrunk = check(apply, variables, x, tolerance=1e-5)
  described = graph_lib.describe_kept(shrunk.kept, shrunk.shapes)
  assert json.loads(json.dumps(described)) == described
  tree = jax.tree.map(packed.Dense, shrunk.variables)
  encode.save(tmp_path / 'small.safetensors', tree, {'kept': described})
  loaded = encode.load(tmp_path / 'small.safetensors')
  function = graph_lib.restore_shrunk(apply, loaded.metadata['kept'])
  again = jax.tree.map(packed.unpack, loaded.tree, is_leaf=packed.is_packed)
  np.testing.assert_array_equal(
    function(again, x), shrunk.apply(shrunk.variables, x)
  )


def test_custom_derivatives_stay():
  @jax.custom_vjp
  def rounded(x):
    return jnp.round(x * jnp.ones(x.shape))

  rounded.defvjp(
    lambda x: (rounded(x), jnp.ones(x.shape)), lambda one, g: (g * one,)
  )

  @jax.custom_jvp
  def gate(x):
    return jnp.where(x > 0, x, jnp.zeros(x.shape))

  gate.defjvp(lambda p, t: (gate(*p), 3.0 * t[0] * jnp.ones(p[0].shape)))

  def apply(v, x):
    return rounded(gate(x @ v['w1'])) @ v['w2'].T

  _, variables, x = plain_model()
  variables = {k: variables[k] for k in ('w1', 'w2')}
  groups, keep, shrunk = check(apply, variables, x, tolerance=1e-5)
  masked = graph_lib.mask_channels(variables, groups, keep)
  full = jax.grad(lambda v: (apply(v, x) ** 2).sum())(masked)
  assert jnp.abs(full['w1']).max() > 0
  small = jax.grad(lambda v: (shrunk.apply(v, x) ** 2).sum())(shrunk.variables)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
    small,
    graph_lib.take_kept(full, shrunk.kept),
  )


def test_relu_keeps_its_derivative_at_zero():
  def apply(v, x):
    return nn.relu(x @ v['w1']) @ v['w2']

  variables = {'w1': jnp.zeros((3, 4)), 'w2': jnp.ones((4, 2))}
  x = jnp.ones((1, 3))
  shrunk = graph_lib.shrink(apply, variables, {'w1': np.arange(4) < 2}, x)
  grads = jax.grad(lambda v: shrunk.apply(v, x).sum())(shrunk.variables)
  np.testing.assert_array_equal(grads['w1'], jnp.zeros((3, 2)))


@pytest.mark.parametrize(
  'keep, message',
  [
    ({'nothing': np.ones(8, bool)}, "'nothing'"),
    ({'w1': np.ones(7, bool)}, r"keep\['w1'\].*bool\[8\]"),
    ({'w1': np.ones(8, int)}, r"keep\['w1'\].*bool\[8\]"),
    ({'w1': np.zeros(8, bool)}, r"keep\['w1'\] keeps none"),
  ],
)
def test_bad_choices(keep, message):
  apply, variables, x = plain_model()
  with pytest.raises(InputError, match=message) as error:
    graph_lib.shrink(apply, variables, keep, x)
  assert '\n' not in str(error.value)
  groups = groups_of(apply, variables, x)
  with pytest.raises(InputError, match=message):
    graph_lib.mask_channels(variables, groups, keep)


def normalised(variables, x):
  x = x @ variables['w1']
  x = x - x.mean(-1, keepdims=True)
  return x @ variables['w2']


def test_coupled_groups_are_refused():
  variables = {'w1': jnp.ones((3, 4)), 'w2': jnp.arange(8.0).reshape(4, 2)}
  x = jnp.ones((2, 3))
  keep = {'w1': np.arange(4) < 3}
  with pytest.raises(InputError, match="group 'w1' is tagged norm"):
    graph_lib.shrink(normalised, variables, keep, x)
  shrunk = graph_lib.shrink(normalised, variables, keep, x, allow_coupled=True)
  # The mean still divides by four, as of the masked model.
  expected = (3.0 - 9.0 / 4.0) * variables['w2'][:3].sum(0)
  np.testing.assert_allclose(
    shrunk.apply(shrunk.variables, x)[0], expected, rtol=1e-6
  )


def test_coupled_groups_equal_the_masked_model_where_sums_do():
  # Flax takes LayerNorm's variance from the sum of squares: zeros add nothing.
  net = NETWORKS['vit']()
  x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
  variables = randomised(jax.eval_shape(net.init, jax.random.key(0), x))
  groups = groups_of(net.apply, variables, x)
  tagged = [g for g in groups if g.tags]
  assert tagged
  keep = {g.name: np.arange(g.size) % 3 > 0 for g in tagged}
  shrunk = graph_lib.shrink(
    net.apply, variables, keep, x, groups=groups, allow_coupled=True
  )
  assert size(shrunk.variables) < size(variables)


def two_pass(variables, x):
  x = x @ variables['w1']
  x = x - x.mean(-1, keepdims=True)
  x = x / jnp.sqrt((x * x).mean(-1, keepdims=True))
  return x @ variables['w2']


def test_verification_names_the_site():
  rng = np.random.default_rng(0)
  variables = {
    'w1': jnp.asarray(rng.standard_normal((3, 4)), jnp.float32),
    'w2': jnp.asarray(rng.standard_normal((4, 2)), jnp.float32),
  }
  x = jnp.ones((2, 3))
  keep = {'w1': np.arange(4) < 2}
  with pytest.raises(InputError, match="site 'w2' differs first"):
    graph_lib.shrink(two_pass, variables, keep, x, allow_coupled=True)
  with pytest.raises(InputError, match='pass arrays, or verify=False'):
    graph_lib.shrink(
      plain, plain_model()[1], {}, jax.ShapeDtypeStruct((2, 3), jnp.float32)
    )


def test_shapes_are_enough():
  apply, variables, x = plain_model()
  abstract = jax.eval_shape(lambda: (variables, x))
  keep = {'w1': np.arange(8) < 3}
  shrunk = graph_lib.shrink(apply, abstract[0], keep, abstract[1], verify=False)
  assert shrunk.variables['w2'].shape == (5, 3)
  assert jax.eval_shape(shrunk.apply, shrunk.variables, x).shape == (2, 5)


def test_wrong_variables_are_named():
  apply, variables, x = plain_model()
  shrunk = graph_lib.shrink(apply, variables, {'w1': np.arange(8) < 3}, x)
  with pytest.raises(InputError, match='^b1 has shape'):
    shrunk.apply(variables, x)


@pytest.mark.parametrize(
  'entry',
  [
    3,
    {},
    {'shape': [8], 'kept': {'0': 'zz'}},
    {'shape': [8]},
    {'shape': [8], 'kept': {'0': 'ffff'}},
  ],
)
def test_descriptions_are_parsed(entry):
  with pytest.raises(InputError, match="kept channels of 'w1'"):
    graph_lib.restore_shrunk(plain, {'w1': entry})


def written_rows(method):
  """A table is written at indices before it is read again."""

  def apply(variables, x):
    y = x @ variables['a']
    table = jnp.ones((5, y.shape[-1]), y.dtype)
    place = jnp.array([3, 0, 3])
    table = getattr(table.at[place], method)(y)
    return table @ variables['b']

  return apply


@pytest.mark.parametrize('method', ['set', 'add', 'multiply', 'min', 'max'])
def test_scattered_writes(method):
  rng = np.random.default_rng(0)
  variables = {
    'a': jnp.asarray(rng.normal(size=(4, 7)), jnp.float32),
    'b': jnp.asarray(rng.normal(size=(7, 2)), jnp.float32),
  }
  x = jnp.asarray(rng.normal(size=(3, 4)), jnp.float32)
  apply = written_rows(method)
  groups, keep, shrunk = check(apply, variables, x, tolerance=1e-5)
  assert [g.name for g in groups] == ['a'] and not keep['a'].all()
  assert shrunk.variables['a'].shape == (4, keep['a'].sum())


def test_scattered_along_the_channels_stay():
  def apply(variables, x):
    y = x @ variables['a']
    return y.at[:, 2].add(1.0) @ variables['b']

  variables = {'a': jnp.ones((4, 7)), 'b': jnp.ones((7, 2))}
  assert not groups_of(apply, variables, jnp.ones((3, 4)))


def test_any_reduction():
  def apply(variables, x):
    y = x @ variables['a']
    pooled = jax.lax.reduce(
      (y, -y),
      (jnp.float32(0), jnp.float32(0)),
      lambda a, b: (a[0] + b[0], jnp.minimum(a[1], b[1])),
      (1,),
    )
    return (pooled[0] * pooled[1]) @ variables['b']

  rng = np.random.default_rng(0)
  variables = {
    'a': jnp.asarray(rng.normal(size=(4, 7)), jnp.float32),
    'b': jnp.asarray(rng.normal(size=(7, 2)), jnp.float32),
  }
  x = jnp.asarray(rng.normal(size=(3, 5, 4)), jnp.float32)
  groups, keep, _ = check(apply, variables, x, tolerance=1e-5)
  assert len(groups) == 1 and not keep['a'].all()


def test_a_shrunk_network_takes_any_number_of_examples():
  module = models.lenet5(widths=(4, 6), hidden=8)
  x = np.random.default_rng(0).uniform(size=(3, 28, 28, 1)).astype(np.float32)
  variables = jax.jit(module.init)(jax.random.key(0), x)

  def apply(variables, x):
    return module.apply(variables, x)

  *_, shrunk = check(apply, variables, x, tolerance=1e-5)
  (batch,) = jax.export.symbolic_shape('batch')
  struct = jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype)
  exported = jax.export.export(jax.jit(shrunk.apply))(
    jax.tree.map(
      lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype), shrunk.variables
    ),
    struct,
  )
  out = exported.call(shrunk.variables, x)
  expected = shrunk.apply(shrunk.variables, x)
  np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-6)
