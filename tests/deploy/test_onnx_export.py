import collections

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest

from compress import deploy, graph, models, quantize
from compress.errors import InputError
from compress.models.layers import PReLU
from compress.packed import Dense, Quantized, is_packed, unpack_tree
from tests.deploy.processor import exact_products
from tests.experiments.small_network import SIDE, photographs, small_network

ACTIVATION = quantize.AffineSpec(symmetric=False, bounds='unsigned')
WEIGHT = quantize.AffineSpec(granularity='channel')


class Chain(nn.Module):
  """Convolutions of all sorts with nothing but PReLU between them."""

  @nn.compact
  def __call__(self, x):
    x = PReLU(name='p0')(nn.Conv(8, (3, 3), name='c0')(x))
    x = nn.Conv(8, (3, 3), 2, feature_group_count=8, name='c1')(x)
    x = PReLU(name='p1')(x)
    x = PReLU(name='p2')(nn.Conv(12, (1, 1), name='c2')(x))
    x = nn.relu(nn.Conv(4, (3, 3), padding=((1, 1), (1, 1)), name='c3')(x))
    return nn.Dense(5, name='fc')(x.reshape(x.shape[0], -1))


def slopes(params, name, values):
  slope = jnp.asarray(np.resize(values, params[name]['slope'].shape))
  return {**params, name: {'slope': slope.astype(jnp.float32)}}


def chain(convex=False, *, seed=0):
  module = Chain()

  def apply(variables, x):
    return module.apply(variables, x)

  x = jnp.zeros((1, SIDE, SIDE, 3))
  params = jax.jit(module.init)(jax.random.key(seed), x)['params']
  params = slopes(params, 'p0', [0.25, 0.5, 0.0])
  params = slopes(params, 'p1', [0.25] if convex else [-0.5, 1.5, 0.25])
  params = slopes(params, 'p2', [0.5] if convex else [1.25])
  rng = np.random.default_rng(seed)
  for name in ('c0', 'c1', 'c2', 'c3', 'fc'):
    bias = rng.normal(size=params[name]['bias'].shape, scale=0.1)
    bias = np.round(bias * 1024) / 1024
    params[name] = {**params[name], 'bias': jnp.asarray(bias, jnp.float32)}
  return apply, {'params': params}


def images(count=4, *, seed=0):
  rng = np.random.default_rng(seed)
  return rng.uniform(-1, 1, (count, SIDE, SIDE, 3)).astype(np.float32)


def quantized(apply, variables, x, *, activation=ACTIVATION, weight=WEIGHT):
  """The network's packed variables, ranges, specs and simulation."""
  traced = graph.trace(apply, variables, x[:1])
  rules = [('.*', activation)]
  specs = quantize.activation_plan(traced, quantize.INPUTS, rules).specs
  ranges = quantize.calibrate(
    apply,
    variables,
    [x],
    placement=quantize.INPUTS,
    specs=specs,
    observer=quantize.minmax(),
  )
  weights = quantize.quantize_weights([('(.*/)?kernel', weight)])
  state = weights.init(variables['params'])
  packed = {**variables, 'params': weights.pack(variables['params'], state)}
  given = {'activations': ranges, 'specs': specs}
  simulate = jax.jit(
    quantize.quantize_activations(apply, quantize.INPUTS, specs)
  )
  plain = unpack_tree(_all_packed(packed))
  return packed, given, lambda x: np.asarray(simulate(plain, ranges, x))


def _all_packed(tree):
  return jax.tree.map(
    lambda leaf: leaf if is_packed(leaf) else Dense(leaf),
    tree,
    is_leaf=is_packed,
  )


def census(model):
  return collections.Counter(node.op_type for node in model.graph.node)


def optimized(model, tmp_path):
  session = deploy.open_session(
    model, threads=1, optimized=tmp_path / 'optimized.onnx'
  )
  return session, census(onnx.load(tmp_path / 'optimized.onnx'))


def run(session, x):
  return session.run(None, {session.get_inputs()[0].name: x})[0]


def lowered(apply, variables, x, **given):
  network = deploy.lower(apply, variables, x, **given)
  tree = unpack_tree(network.variables)
  evaluate = jax.jit(network.apply)
  return lambda x: np.asarray(evaluate(tree, x))


def alike(out, want):
  return np.corrcoef(out.ravel(), want.ravel())[0, 1] > 0.999


@pytest.mark.parametrize('count', [1, 3])
def test_a_float_network_gives_the_same(count):
  apply, variables = chain()
  model = deploy.to_onnx(apply, variables, images(2))
  x = images(count)
  out = run(deploy.open_session(model, threads=1), x)
  np.testing.assert_allclose(out, apply(variables, x), atol=2e-6)
  # One for the pixels, which come channels last.
  assert census(model)['Transpose'] == 1


@exact_products
@pytest.mark.parametrize('convex', [True, False])
def test_a_quantized_network_gives_what_was_simulated(convex, tmp_path):
  apply, variables = chain(convex)
  x = images(8)
  packed, given, simulate = quantized(apply, variables, x)
  model = deploy.to_onnx(apply, packed, x, **given)
  session, ops = optimized(model, tmp_path)
  out = run(session, x)
  np.testing.assert_array_equal(out, lowered(apply, packed, x, **given)(x))
  assert alike(out, simulate(x))
  assert ops['Conv'] == ops['Gemm'] == ops['MatMul'] == 0
  assert ops['QLinearConv'] >= 4
  # Of the image, and nothing between the layers.
  assert ops['QuantizeLinear'] == 1
  assert ops['DequantizeLinear'] == ops['PRelu'] == 0
  assert ops['Transpose'] <= 1


@exact_products
@pytest.mark.parametrize(
  'spec',
  [
    quantize.AffineSpec(bits=4, symmetric=False, bounds='unsigned'),
    quantize.AffineSpec(bits=8, symmetric=True, bounds='narrow'),
    quantize.AffineSpec(bits=5, symmetric=False, bounds='full'),
  ],
)
def test_narrow_grids(spec):
  apply, variables = chain(convex=True)
  x = images(8)
  packed, given, simulate = quantized(apply, variables, x, activation=spec)
  model = deploy.to_onnx(apply, packed, x, **given)
  out = run(deploy.open_session(model, threads=1), 2 * x)
  want = lowered(apply, packed, x, **given)(2 * x)
  np.testing.assert_array_equal(out, want)
  assert alike(out, simulate(2 * x))


@exact_products
def test_a_residual_network_is_integer_in_every_product(tmp_path):
  network = small_network()
  x = photographs()[0].astype(np.float32)
  folded = graph.fold(network.apply, network.variables, x[:1])
  packed, given, simulate = quantized(folded.apply, folded.variables, x)
  model = deploy.to_onnx(folded.apply, packed, x, **given)
  session, ops = optimized(model, tmp_path)
  out = run(session, x)
  want = lowered(folded.apply, packed, x, **given)(x)
  np.testing.assert_array_equal(out, want)
  assert alike(out, simulate(x))
  assert ops['Conv'] == ops['Gemm'] == ops['MatMul'] == 0
  assert ops['QLinearConv'] + ops['QGemm'] >= 5


def test_weights_alone_stay_small_in_the_file():
  apply, variables = chain()
  x = images(2)
  packed, _, _ = quantized(apply, variables, x)
  model = deploy.to_onnx(apply, packed, x)
  stored = {t.name: t.data_type for t in model.graph.initializer}
  assert stored['c2/kernel'] == onnx.TensorProto.INT8
  out = run(deploy.open_session(model, threads=1), x)
  plain = unpack_tree(_all_packed(packed))
  np.testing.assert_allclose(out, apply(plain, x), atol=2e-6)


def test_lines_share_their_codes():
  apply, variables = chain()
  x = images(2)
  packed, given, _ = quantized(apply, variables, x)
  assert isinstance(packed['params']['c1']['kernel'], Quantized)
  model = deploy.to_onnx(apply, packed, x, **given)
  names = [t.name for t in model.graph.initializer if 'c1/kernel' in t.name]
  # The third line's is another: the lowest code wherever it takes no part.
  assert names == ['c1/kernel', 'c1/kernel_1']


def test_pooling_and_other_shapes():
  module = models.LeNet5()
  x = np.random.default_rng(0).uniform(size=(2, 28, 28, 1)).astype(np.float32)
  variables = jax.jit(module.init)(jax.random.key(0), x)

  def apply(variables, x):
    return module.apply(variables, x)

  model = deploy.to_onnx(apply, variables, x)
  out = run(deploy.open_session(model, threads=1), x)
  np.testing.assert_allclose(out, apply(variables, x), atol=1e-5)


def test_an_unknown_operation_is_named():
  def apply(variables, x):
    return jnp.sort(x @ variables['params']['kernel'], axis=-1)

  variables = {'params': {'kernel': jnp.ones((3, 2))}}
  with pytest.raises(InputError, match='sort'):
    deploy.to_onnx(apply, variables, jnp.ones((1, 3)))


def test_a_convolution_of_two_activations_is_named():
  def apply(variables, x):
    del variables
    return jax.lax.dot_general(x, x, (((1,), (1,)), ((0,), (0,))))

  with pytest.raises(InputError, match='dot_general'):
    deploy.to_onnx(apply, {}, jnp.ones((1, 3)))


def test_activations_without_parameters_are_named():
  apply, variables = chain()
  with pytest.raises(InputError, match="'c0'"):
    deploy.to_onnx(apply, variables, images(), specs={'c0': ACTIVATION})


def test_activations_that_the_model_lacks_are_named():
  apply, variables = chain()
  given = {
    'specs': {'nothing': ACTIVATION},
    'activations': {'nothing': quantize.QParams(1.0, 0)},
  }
  with pytest.raises(InputError, match="'nothing'"):
    deploy.to_onnx(apply, variables, images(), **given)


def test_wide_activations_are_refused():
  apply, variables = chain()
  wide = quantize.AffineSpec(bits=16, symmetric=False, bounds='unsigned')
  packed, given, _ = quantized(apply, variables, images())
  given['specs'] = {**given['specs'], 'c1': wide}
  with pytest.raises(InputError, match="'c1'"):
    deploy.to_onnx(apply, packed, images(), **given)


def test_a_missing_file_is_named():
  with pytest.raises(InputError, match='nowhere.onnx'):
    deploy.open_session('nowhere.onnx')
