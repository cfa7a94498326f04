import collections

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest

from compress import deploy, graph
from compress.errors import InputError
from compress.packed import unpack_tree
from tests.experiments.small_network import photographs, small_network


class Wide(nn.Module):
  """Layers of every sort that blocks can lie in."""

  @nn.compact
  def __call__(self, x):
    x = nn.relu(nn.Conv(32, (3, 3), name='stem')(x))
    x = nn.Conv(32, (3, 3), feature_group_count=32, name='depthwise')(x)
    x = nn.relu(nn.Conv(24, (1, 1), use_bias=False, name='whole')(x) * 0.5)
    x = nn.relu(nn.Conv(16, (3, 3), 2, name='crossing')(x))
    x = x.reshape(x.shape[0], -1)
    return nn.Dense(5, name='last')(nn.relu(nn.Dense(64, name='fc')(x)))


def wide():
  module = Wide()
  x = np.random.default_rng(0).uniform(-1, 1, (3, 8, 8, 3)).astype(np.float32)
  variables = jax.jit(module.init)(jax.random.key(0), x)
  return module.apply, variables, x


def run(model, x):
  session = deploy.open_session(model, threads=1)
  return session.run(None, {session.get_inputs()[0].name: x})[0]


def kinds(model):
  return {t.name: t.data_type for t in model.graph.initializer}


@pytest.mark.parametrize('bits', [4, 8])
@pytest.mark.parametrize('group_size', [16, 32])
def test_the_integers_of_the_tree_are_those_of_the_model(bits, group_size):
  apply, variables, x = wide()
  packed = deploy.quantize_weights_only(
    variables, bits=bits, group_size=group_size
  )
  model, floats = deploy.to_onnx_weight_only(apply, packed, x)
  assert floats == ()
  kind = onnx.TensorProto.INT4 if bits == 4 else onnx.TensorProto.INT8
  stored = kinds(model)
  for name in ('stem', 'depthwise', 'whole', 'crossing', 'fc', 'last'):
    assert stored[f'{name}/kernel/codes'] == kind
  wanted = jax.jit(apply)(unpack_tree(packed), x)
  np.testing.assert_allclose(run(model, x), wanted, atol=1e-5)
  np.testing.assert_allclose(run(model, x[:1]), wanted[:1], atol=1e-5)


def test_the_model_is_smaller():
  network = small_network()
  x = photographs()[0].astype(np.float32)
  folded = graph.fold(network.apply, network.variables, x[:1])
  packed = deploy.quantize_weights_only(folded.variables, bits=8)
  model, floats = deploy.to_onnx_weight_only(folded.apply, packed, x)
  assert floats == ()
  sizes = collections.Counter()
  for tensor in model.graph.initializer:
    sizes[tensor.data_type] += int(np.prod(tensor.dims))
  kernels = [
    leaf.size for leaf in jax.tree.leaves(folded.variables) if leaf.ndim > 1
  ]
  assert sizes[onnx.TensorProto.INT8] == sum(kernels)
  np.testing.assert_allclose(
    run(model, x), folded.apply(unpack_tree(packed), x), rtol=1e-4, atol=1e-4
  )


def test_onnxruntime_has_one_product_for_four_bits(tmp_path):
  apply, variables, x = wide()
  packed = deploy.quantize_weights_only(variables, bits=4)
  model, _ = deploy.to_onnx_weight_only(apply, packed, x)
  deploy.open_session(model, threads=1, optimized=tmp_path / 'run.onnx')
  found = onnx.load(tmp_path / 'run.onnx')
  ops = collections.Counter(node.op_type for node in found.graph.node)
  # Of two in a row it fuses the last.
  assert ops['MatMulNBits'] == 1


def test_what_stays_float_is_told():
  def apply(variables, x):
    return x @ jnp.square(variables['params']['kernel'])

  packed = deploy.quantize_weights_only(
    {'params': {'kernel': jnp.arange(64.0).reshape(32, 2)}}, bits=4
  )
  x = np.ones((1, 32), np.float32)
  model, floats = deploy.to_onnx_weight_only(apply, packed, x)
  assert floats == ('params/kernel',)
  assert onnx.TensorProto.INT4 not in kinds(model).values()


def test_other_bits_are_refused():
  with pytest.raises(InputError, match='4 or 8'):
    deploy.quantize_weights_only({'params': {'kernel': jnp.ones(3)}}, bits=5)
