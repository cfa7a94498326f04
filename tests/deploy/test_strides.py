import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from compress import deploy
from compress.deploy.chains import users_of
from compress.deploy.network import read_network
from compress.models.layers import PReLU
from tests.deploy import test_onnx_export as example
from tests.deploy.processor import exact_products


class Block(nn.Module):
  """A residual block behind one layer, its shortcut strided."""

  @nn.compact
  def __call__(self, x):
    x = PReLU(name='p0')(nn.Conv(6, (3, 3), name='stem')(x))
    y = nn.Conv(4, (3, 3), 2, padding=((1, 1), (1, 1)), name='conv')(x * 1.5)
    return y + nn.Conv(4, (1, 1), 2, padding='VALID', name='shortcut')(x)


def block():
  module = Block()

  def apply(variables, x):
    return module.apply(variables, x)

  x = example.images(4)
  params = jax.jit(module.init)(jax.random.key(0), x)['params']
  params = example.slopes(params, 'p0', [0.25])
  params['stem'] = {**params['stem'], 'bias': jnp.linspace(-0.1, 0.1, 6)}
  tree, given, _ = example.quantized(apply, {'params': params}, x)
  return apply, tree, given, x


def test_the_layer_before_a_strided_shortcut_is_strided():
  apply, tree, given, x = block()
  _, outputs = read_network(apply, tree, x, **given)
  layers = sorted(
    (node.where, node['strides'], node.shape)
    for node in users_of(outputs)
    if node.op == 'conv'
  )
  # The stem twice: for the shortcut at a quarter of the pixels.
  assert [(strides, shape) for _, strides, shape in layers] == [
    ((2, 2), (8, 8, 4)),
    ((1, 1), (8, 8, 4)),
    ((1, 1), (16, 16, 6)),
    ((2, 2), (8, 8, 6)),
  ]


@exact_products
def test_the_result_is_that_of_onnxruntime():
  apply, tree, given, x = block()
  model = deploy.to_onnx(apply, tree, x, **given)
  out = example.run(deploy.open_session(model, threads=1), x)
  want = example.lowered(apply, tree, x, **given)(x)
  np.testing.assert_array_equal(out, want)


def test_without_quantizers_everything_stays():
  apply, tree, _, x = block()
  _, outputs = read_network(apply, tree, x)
  strides = [node['strides'] for node in users_of(outputs) if node.op == 'conv']
  assert sorted(strides) == [(1, 1), (2, 2), (2, 2)]
