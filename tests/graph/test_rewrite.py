import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from compress import graph as graph_lib


class Net(nn.Module):
  @nn.compact
  def __call__(self, x, train=False):
    x = nn.Conv(8, (3, 3), use_bias=False, name='conv1')(x)
    x = nn.BatchNorm(use_running_average=not train, name='bn1')(x)
    x = checkpoint_name(nn.relu(x), 'relu1')
    x = nn.Conv(8, (3, 3), feature_group_count=8, name='depthwise')(x)
    x = x.reshape((x.shape[0], -1))
    return nn.Dense(5, name='fc')(x)


class NnxNet(nnx.Module):
  def __init__(self, rngs):
    self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
    self.fc = nnx.Linear(4, 2, rngs=rngs)

  def __call__(self, x):
    x = nnx.relu(self.conv(x))
    return self.fc(x.mean((1, 2)))


def plain(variables, x):
  x = jnp.tanh(x @ variables['w1'].astype(x.dtype))
  return x @ variables['w2'].T


def linen():
  net = Net()
  x = jax.random.normal(jax.random.key(0), (2, 6, 6, 3))
  return net.apply, net.init(jax.random.key(1), x), x


def nnx_model():
  definition, state = nnx.split(NnxNet(nnx.Rngs(0)))

  def apply(state, x):
    return nnx.merge(definition, state)(x)

  return apply, state, jax.random.normal(jax.random.key(0), (2, 6, 6, 3))


def plain_model():
  keys = jax.random.split(jax.random.key(0), 3)
  variables = {
    'w1': jax.random.normal(keys[0], (3, 4)),
    'w2': jax.random.normal(keys[1], (5, 4)),
  }
  return plain, variables, jax.random.normal(keys[2], (2, 3))


MODELS = {'linen': linen, 'nnx': nnx_model, 'plain': plain_model}


def keep(site, op, *operands):
  del site
  return op(*operands)


def double(site, op, *operands):
  out = op(*operands)
  return out if site.kind == 'name' else 2.0 * out


def take_lhs(site, op, *operands):
  return graph_lib.Emit(op(*operands), operands[0])


@pytest.mark.parametrize('model', MODELS)
def test_names_are_weight_paths(model):
  apply, variables, x = MODELS[model]()
  graph = graph_lib.trace(apply, variables, x)
  expected = {
    'linen': ['conv1', 'depthwise', 'fc'],
    'nnx': ['conv', 'fc'],
    'plain': ['w1', 'w2'],
  }
  assert [site.name for site in graph.sites] == expected[model]


def test_site_facts():
  apply, variables, x = linen()
  graph = graph_lib.trace(apply, variables, x)
  conv, depthwise, dense = graph.sites
  assert conv.weight == 'params/conv1/kernel'
  assert conv.weight_operand == 1
  assert (conv.kind, conv.groups) == ('conv', 1)
  assert conv.macs == 2 * 6 * 6 * 8 * 9 * 3
  assert depthwise.groups == 8
  assert depthwise.macs == 2 * 6 * 6 * 8 * 9
  assert dense.macs == 2 * 288 * 5
  assert dense.out_shape == (2, 5)
  assert [site.name for site in graph.names] == ['relu1']


def test_golden_cost():
  # spec: conv 64 -> 128, 3x3, 16x16 out; W4A8 is 3.125 % of 32 x 32.
  def apply(v, x):
    return jax.lax.conv_general_dilated(
      x, v['w'], (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )

  shapes = [
    jax.ShapeDtypeStruct(s, jnp.float32)
    for s in [(3, 3, 64, 128), (1, 16, 16, 64)]
  ]
  graph = graph_lib.trace(apply, {'w': shapes[0]}, shapes[1])
  cost = graph_lib.cost(graph, weight_bits=4, activation_bits=8)
  assert cost.macs == 18_874_368
  assert cost.bops == 603_979_776
  assert cost.parameters == 3 * 3 * 64 * 128


@pytest.mark.parametrize('model', MODELS)
@pytest.mark.parametrize('wrap', ['jit', 'grad', 'vmap', 'eager'])
def test_identity_rule_changes_nothing(model, wrap):
  apply, variables, x = MODELS[model]()
  same = graph_lib.rewrite(apply, keep)

  def run(function):
    if wrap == 'grad':
      return jax.jit(jax.grad(lambda v: function(v, x).sum()))(variables)
    if wrap == 'vmap':
      return jax.vmap(function, (None, 0))(variables, jnp.stack([x, x + 1.0]))
    return (jax.jit(function) if wrap == 'jit' else function)(variables, x)

  jax.tree.map(np.testing.assert_array_equal, run(same), run(apply))


def test_a_rule_changes_the_result():
  apply, variables, x = plain_model()
  doubled = graph_lib.rewrite(apply, double)(variables, x)
  expected = 2 * (jnp.tanh(2 * (x @ variables['w1'])) @ variables['w2'].T)
  np.testing.assert_allclose(doubled, expected, rtol=1e-6)


def test_composed_rules_nest():
  apply, variables, x = plain_model()
  rule = graph_lib.compose(double, double)
  twice = graph_lib.rewrite(graph_lib.rewrite(apply, double), double)
  np.testing.assert_array_equal(
    graph_lib.rewrite(apply, rule)(variables, x), twice(variables, x)
  )


def test_values_are_read_out():
  apply, variables, x = linen()
  tapped = jax.jit(graph_lib.rewrite(apply, take_lhs, has_aux=True))
  out, aux = tapped(variables, x)
  np.testing.assert_allclose(out, apply(variables, x), rtol=1e-5, atol=1e-6)
  assert set(aux) == {'conv1', 'relu1', 'depthwise', 'fc'}
  np.testing.assert_array_equal(aux['conv1'], x)
  assert aux['relu1'].min() >= 0


def test_repeated_use_is_numbered():
  def apply(v, x):
    return (x @ v['w']) @ v['w']

  graph = graph_lib.trace(apply, {'w': jnp.ones((3, 3))}, jnp.ones((2, 3)))
  assert [site.name for site in graph.sites] == ['w', 'w#1']


def test_masked_weight_keeps_its_name():
  def apply(v, x):
    return x @ (v['params']['fc']['kernel'] * v['masks']['fc']['kernel'])

  leaf = {'fc': {'kernel': jnp.ones((3, 3))}}
  variables = {'params': leaf, 'masks': leaf}
  graph = graph_lib.trace(apply, variables, jnp.ones((2, 3)))
  assert graph.sites[0].weight == 'params/fc/kernel'


def scan_model():
  def apply(v, x):
    def body(carry, w):
      return jnp.tanh(carry @ w), carry.sum()

    return jax.lax.scan(body, x, v['layers'])[0] @ v['head']

  keys = jax.random.split(jax.random.key(0), 3)
  variables = {
    'layers': jax.random.normal(keys[0], (5, 3, 3)),
    'head': jax.random.normal(keys[1], (3, 2)),
  }
  return apply, variables, jax.random.normal(keys[2], (4, 3))


def test_scan_counts_names_and_emits_stacked():
  apply, variables, x = scan_model()
  graph = graph_lib.trace(apply, variables, x)
  assert [s.name for s in graph.sites] == ['layers', 'head']
  assert [s.repeats for s in graph.sites] == [5, 1]
  assert graph.sites[0].macs == 5 * 4 * 3 * 3
  out, aux = jax.jit(graph_lib.rewrite(apply, take_lhs, has_aux=True))(
    variables, x
  )
  np.testing.assert_allclose(out, apply(variables, x), rtol=1e-6)
  assert aux['layers'].shape == (5, 4, 3)
  np.testing.assert_array_equal(aux['layers'][0], x)


def test_gradients_through_scan_and_remat():
  scanned, variables, x = scan_model()
  remat = jax.checkpoint(scanned)
  expected = jax.grad(lambda v: scanned(v, x).sum())(variables)
  for model in (scanned, remat):
    same = graph_lib.rewrite(model, keep)
    grads = jax.jit(jax.grad(lambda v, f=same: f(v, x).sum()))(variables)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), grads, expected
    )
  _, aux = graph_lib.rewrite(remat, take_lhs, has_aux=True)(variables, x)
  assert set(aux) == {'layers', 'head'}


def cond_model(v, x):
  return jax.lax.cond(x.sum() > 0, lambda a: a @ v['w'], lambda a: a, x)


def while_model(v, x):
  return jax.lax.while_loop(
    lambda a: jnp.abs(a).sum() > 1.0, lambda a: a @ v['w'], x
  )


@pytest.mark.parametrize('apply', [cond_model, while_model])
def test_control_flow_is_rewritten_but_emits_nothing(apply):
  variables, x = {'w': 0.5 * jnp.eye(3)}, jnp.ones((2, 3))

  def halve(site, op, *operands):
    return 0.5 * op(*operands)

  same = graph_lib.rewrite(apply, keep)(variables, x)
  np.testing.assert_array_equal(same, apply(variables, x))
  changed = graph_lib.rewrite(apply, halve)(variables, x)
  quarter = {'w': 0.25 * jnp.eye(3)}
  np.testing.assert_array_equal(changed, apply(quarter, x))
  with pytest.raises(NotImplementedError, match="site 'w'"):
    graph_lib.rewrite(apply, take_lhs, has_aux=True)(variables, x)


def test_while_has_no_static_cost():
  graph = graph_lib.trace(while_model, {'w': jnp.eye(3)}, jnp.ones((2, 3)))
  with pytest.raises(ValueError, match="site 'w'"):
    graph_lib.cost(graph)


def test_custom_derivatives_without_sites_are_kept():
  @jax.custom_vjp
  def ste(x):
    return jnp.round(x)

  ste.defvjp(lambda x: (ste(x), None), lambda _, g: (g,))

  def apply(v, x):
    return ste(x @ v['w'])

  variables, x = {'w': jnp.ones((3, 2))}, jnp.ones((2, 3))
  grads = jax.grad(lambda v: graph_lib.rewrite(apply, keep)(v, x).sum())(
    variables
  )
  np.testing.assert_array_equal(grads['w'], 2 * jnp.ones((3, 2)))


@pytest.mark.parametrize('kind', ['jvp', 'vjp'])
def test_sites_inside_custom_derivatives(kind):
  if kind == 'jvp':
    inner = jax.custom_jvp(lambda w, x: x @ w)
    inner.defjvp(lambda p, t: (inner(*p), p[1] @ t[0] + t[1] @ p[0]))
  else:
    inner = jax.custom_vjp(lambda w, x: x @ w)
    inner.defvjp(
      lambda w, x: (inner(w, x), (w, x)),
      lambda r, g: (r[1].T @ g, g @ r[0].T),
    )

  def apply(v, x):
    return inner(v['w'], x)

  variables, x = {'w': jnp.ones((3, 2))}, jnp.ones((2, 3))
  assert graph_lib.trace(apply, variables, x).sites[0].name == 'w'
  out = graph_lib.rewrite(apply, double)(variables, x)
  np.testing.assert_array_equal(out, 2 * apply(variables, x))


def test_ranges_may_be_closed_over_tracers():
  apply, variables, x = plain_model()

  def scaled(factor, v, x):
    def rule(site, op, lhs, rhs):
      return op(lhs * factor[site.name], rhs)

    return graph_lib.rewrite(apply, rule)(v, x)

  factor = {'w1': jnp.float32(0.5), 'w2': jnp.float32(2.0)}
  grads = jax.jit(jax.grad(lambda f: scaled(f, variables, x).sum()))(factor)
  expected = jax.grad(
    lambda f: (
      (jnp.tanh((x * f['w1']) @ variables['w1']) * f['w2']) @ variables['w2'].T
    ).sum()
  )(factor)
  np.testing.assert_allclose(grads['w1'], expected['w1'], rtol=1e-5)
  np.testing.assert_allclose(grads['w2'], expected['w2'], rtol=1e-5)


def test_sharded_mesh():
  apply, variables, x = linen()
  mesh = jax.make_mesh((8,), ('data',))
  x = jnp.concatenate([x] * 4)
  spec = jax.sharding.PartitionSpec
  put = jax.device_put(x, jax.sharding.NamedSharding(mesh, spec('data')))
  rewritten = jax.jit(graph_lib.rewrite(apply, take_lhs, has_aux=True))
  out, aux = rewritten(variables, put)
  np.testing.assert_allclose(out, apply(variables, x), rtol=1e-4, atol=1e-5)
  assert len(aux['conv1'].sharding.device_set) == 8


def test_shard_map_is_refused_by_name():
  automatic = (jax.sharding.AxisType.Auto,)
  mesh = jax.make_mesh((8,), ('data',), axis_types=automatic)
  spec = jax.sharding.PartitionSpec

  def apply(v, x):
    return jax.shard_map(
      lambda w, x: x @ w,
      mesh=mesh,
      in_specs=(spec(), spec('data')),
      out_specs=spec('data'),
    )(v['w'], x)

  with pytest.raises(NotImplementedError, match="site 'w'.*shard_map"):
    graph_lib.rewrite(apply, keep)({'w': jnp.ones((3, 2))}, jnp.ones((8, 3)))
