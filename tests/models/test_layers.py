import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress.errors import InputError
from compress.models import PReLU
from compress.models.layers import (
  FixedScaleBatchNorm,
  conv,
  named,
  normalize_pixels,
)


def test_prelu_by_hand():
  x = jnp.array([[-2.0, -2.0], [0.0, 3.0]])
  variables = {'params': {'slope': jnp.array([0.5, -1.0])}}
  y = PReLU().apply(variables, x)
  np.testing.assert_array_equal(y, [[-1.0, 2.0], [0.0, 3.0]])


def test_prelu_gradients():
  x = jnp.array([[-2.0, 4.0], [0.0, -3.0]])
  params = {'slope': jnp.array([0.5, 0.25])}

  def total(params, x):
    return PReLU().apply({'params': params}, x).sum()

  slopes, inputs = jax.grad(total, argnums=(0, 1))(params, x)
  np.testing.assert_array_equal(slopes['slope'], [-2.0, -3.0])
  np.testing.assert_array_equal(inputs, [[0.5, 1.0], [1.0, 0.25]])


def test_names_are_module_paths():
  class Inner(nn.Module):
    @nn.compact
    def __call__(self, x):
      return named(self, PReLU(name='prelu')(x), 'add')

  class Outer(nn.Module):
    @nn.compact
    def __call__(self, x):
      return Inner(name='block')(x)

  model, x = Outer(), jnp.ones((1, 2))
  jaxpr = str(jax.make_jaxpr(model.apply)(model.init(jax.random.key(0), x), x))
  assert 'name=block/prelu' in jaxpr
  assert 'name=block/add' in jaxpr


def test_conv_pads_like_torch():
  x = jnp.arange(16.0).reshape(1, 4, 4, 1)
  kernel = {'params': {'kernel': jnp.ones((3, 3, 1, 1))}}
  y = conv('c', 1, 3, stride=2).apply(kernel, x)
  # The corner window covers rows and columns -1..1.
  np.testing.assert_array_equal(y[0, 0, 0], [0 + 1 + 4 + 5])
  same = conv('c', 1, 3, stride=2, padding='SAME').apply(kernel, x)
  np.testing.assert_array_equal(same[0, 0, 0], [3 * (4 + 5 + 6)])


def test_fixed_scale_has_no_gradient():
  module = FixedScaleBatchNorm(use_running_average=True)
  x = jnp.array([[1.0, 2.0]])
  variables = module.init(jax.random.key(0), x)
  assert variables['params']['scale'].shape == (2,)

  def total(params):
    return module.apply({**variables, 'params': params}, x).sum()

  gradients = jax.grad(total)(variables['params'])
  np.testing.assert_array_equal(gradients['scale'], [0, 0])
  np.testing.assert_array_equal(gradients['bias'], [1, 1])


def test_normalize_pixels():
  images = jnp.full((1, 112, 112, 3), 255.0)
  np.testing.assert_array_equal(normalize_pixels(images), np.ones_like(images))
  halved = normalize_pixels(images, center=0.0, scale=510.0)
  np.testing.assert_array_equal(halved, np.full_like(images, 0.5))


@pytest.mark.parametrize(
  ('shape', 'dtype', 'message'),
  [
    ((112, 112, 3), jnp.float32, 'right is \\[B, 112, 112, 3\\]'),
    ((1, 3, 112, 112), jnp.float32, 'shape \\(1, 3, 112, 112\\)'),
    ((1, 112, 112, 3), jnp.uint8, 'right is float32'),
  ],
)
def test_wrong_images(shape, dtype, message):
  with pytest.raises(InputError, match=message):
    normalize_pixels(jnp.zeros(shape, dtype))
