"""Sums of products of codes, against plain integers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import graph
from compress.errors import InputError
from compress.quantize import integer_arithmetic, integer_layers

requantize = jax.jit(
  integer_arithmetic.requantize,
  static_argnames=('zero', 'low', 'high', 'rounding'),
)
integer_dot = jax.jit(
  integer_layers.integer_dot, static_argnames=('zero1', 'zero2')
)


def test_the_layer_of_the_specification():
  q1 = jnp.asarray([[130, 255, 0], [128, 1, 200]], jnp.uint8)
  q2 = jnp.asarray([[0, 255], [121, 120], [200, 40]], jnp.uint8)
  acc = integer_dot(q1, q2, zero1=128, zero2=120)
  np.testing.assert_array_equal(acc, [[-10353, 10510], [5633, -5760]])
  acc = acc + jnp.asarray([[1000, -2000]], jnp.int32)
  m, n = integer_arithmetic.quantize_multiplier(0.02 * 0.005 / 0.1)
  for rounding in integer_arithmetic.ROUNDINGS:
    out = requantize(
      acc,
      jnp.asarray(m),
      jnp.asarray(n),
      zero=10,
      low=0,
      high=255,
      rounding=rounding,
    )
    np.testing.assert_array_equal(out, [[1, 19], [17, 2]])


def test_folding_a_batch_norm():
  gamma, beta = jnp.array([1.5, 0.5]), jnp.array([0.1, -0.2])
  mean, var = jnp.array([0.3, -1.0]), jnp.array([4.0, 0.25])

  def apply(variables, x):
    p = variables['params']
    y = x @ p['kernel'] + p['b'][None]
    y = (y - mean[None]) * (gamma / jnp.sqrt(var + 1e-3))[None]
    return y + beta[None]

  variables = {
    'params': {
      'kernel': jnp.array([[0.2, 1.0], [-0.4, 0.6]]),
      'b': jnp.array([0.05, 0.0]),
    }
  }
  x = jnp.array([[1.0, 2.0]])
  folded = graph.fold(apply, variables, x)
  params = folded.variables['params']
  kernel = [[0.14998125, 0.99800598], [-0.29996251, 0.59880359]]
  np.testing.assert_allclose(params['kernel'], kernel, rtol=1e-5)
  out = [[-0.53742033, 2.99361914]]
  np.testing.assert_allclose(folded.apply(folded.variables, x), out, rtol=1e-5)
  np.testing.assert_allclose(apply(variables, x), out, rtol=1e-5)


@pytest.mark.parametrize('kind', [np.int8, np.uint8])
@pytest.mark.parametrize('channels', [False, True])
def test_expansion_is_direct_subtraction(kind, channels):
  rng = np.random.default_rng(0)
  low, high = np.iinfo(kind).min, np.iinfo(kind).max
  q1 = rng.integers(low, high + 1, (2, 5, 7)).astype(kind)
  q2 = rng.integers(low, high + 1, (7, 4)).astype(kind)
  zero2 = rng.integers(low, high + 1, 4) if channels else 17
  out = integer_layers.integer_dot(
    jnp.asarray(q1), jnp.asarray(q2), zero1=9, zero2=zero2
  )
  direct = (q1.astype(int) - 9) @ (q2.astype(int) - zero2)
  np.testing.assert_array_equal(out, direct)


@pytest.mark.parametrize(
  ('groups', 'strides', 'dilation'),
  [(1, (1, 1), (1, 1)), (2, (2, 1), (1, 1)), (4, (2, 2), (1, 2))],
)
def test_convolution_is_a_sum_of_differences(groups, strides, dilation):
  rng = np.random.default_rng(1)
  q1 = rng.integers(0, 256, (2, 9, 8, 4)).astype(np.uint8)
  q2 = rng.integers(0, 256, (3, 3, 4 // groups, 4)).astype(np.uint8)
  zero1, zero2 = 77, rng.integers(0, 256, 4)
  padding = ((1, 0), (2, 1))
  out = integer_layers.integer_conv(
    jnp.asarray(q1),
    jnp.asarray(q2),
    zero1=zero1,
    zero2=zero2,
    strides=strides,
    padding=padding,
    dilation=dilation,
    groups=groups,
  )
  x = np.pad(q1.astype(int) - zero1, ((0, 0), *padding, (0, 0)))
  w = q2.astype(int) - zero2
  direct = np.zeros(out.shape, int)
  per = 4 // groups
  for i in range(out.shape[1]):
    for j in range(out.shape[2]):
      top, left = i * strides[0], j * strides[1]
      patch = x[:, top : top + 2 * dilation[0] + 1 : dilation[0]]
      patch = patch[:, :, left : left + 2 * dilation[1] + 1 : dilation[1]]
      for o in range(4):
        first = o // per * per
        part = patch[..., first : first + per]
        direct[:, i, j, o] = (part * w[..., o]).sum((1, 2, 3))
  np.testing.assert_array_equal(out, direct)


def test_a_depthwise_kernel_over_the_whole_image():
  rng = np.random.default_rng(2)
  q1 = rng.integers(-128, 128, (2, 4, 5, 3)).astype(np.int8)
  q2 = rng.integers(-127, 128, (4, 5, 1, 3)).astype(np.int8)
  out = integer_layers.integer_conv(
    jnp.asarray(q1), jnp.asarray(q2), zero1=-5, groups=3
  )
  direct = ((q1.astype(int) + 5) * q2[:, :, 0].astype(int)).sum((1, 2))
  np.testing.assert_array_equal(out[:, 0, 0], direct)


def check(terms, zero1=-128, zero2=0):
  kernel = np.full((terms, 2), 127, np.int8)
  return integer_layers.check_accumulators(
    kernel, zero1, zero2, -128, 127, "dot at site 'fc'"
  )


def test_accumulators_that_int32_holds():
  # 66,311 products of uint8 and int8 fit (255 * 127 each).
  np.testing.assert_array_equal(check(66_311), [66_311 * 255 * 127] * 2)


@pytest.mark.parametrize(
  ('terms', 'zero1', 'zero2', 'sum_'),
  [
    (66_312, -128, 0, r'sum \(q1 - Z1\)'),
    (140_000, 0, 0, 'sum q1 q2'),
    (132_000, -128, -128, 'K Z1 Z2|sum q1'),
  ],
)
def test_accumulators_that_int32_does_not_hold(terms, zero1, zero2, sum_):
  with pytest.raises(
    InputError, match=rf"site 'fc': .*({sum_}).*{terms} terms"
  ):
    check(terms, zero1, zero2)
