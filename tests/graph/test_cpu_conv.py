"""Convolutions written for CPUs give the library's numbers."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from compress.errors import InputError
from compress.graph import cpu_conv
from compress.graph.cpu_conv import cpu_rules
from compress.graph.dense_conv import dense_conv
from compress.graph.depthwise import depthwise_conv
from compress.graph.window import DIMENSIONS

ONE, TWO = (1, 1), (2, 2)
CENTRED = ((1, 1), (1, 1))
# images, kernel, strides, padding
GEOMETRIES = [
  ((8, 8), (3, 3), ONE, 'SAME'),
  ((8, 8), (3, 3), TWO, CENTRED),
  ((8, 8), (3, 3), TWO, 'SAME'),
  ((7, 9), (3, 3), TWO, CENTRED),
  ((7, 9), (3, 3), ONE, 'VALID'),
  ((6, 11), (2, 4), (1, 2), ((0, 2), (1, 0))),
  ((9, 7), (5, 3), (3, 2), ((2, 3), (-1, 2))),
  ((8, 6), (1, 1), ONE, 'VALID'),
  ((7, 6), (1, 1), TWO, 'VALID'),
]


def library(x, w, *, strides, padding):
  groups = x.shape[3] // w.shape[2]
  return lax.conv_general_dilated(
    x,
    w,
    strides,
    padding,
    dimension_numbers=DIMENSIONS,
    feature_group_count=groups,
  )


def operands(images, kernel, inputs, outputs, *, batch=2, dtype=jnp.float32):
  rng = np.random.default_rng(0)
  x = rng.standard_normal((batch, *images, inputs[0]))
  w = rng.standard_normal((*kernel, inputs[1], outputs))
  return jnp.asarray(x, dtype), jnp.asarray(w, dtype)


def assert_same(ours, x, w, *, rtol=2e-5, **geometry):
  """Value and both gradients against the library, relative to the largest."""

  def both(conv):
    def value(x, w):
      return conv(x, w, **geometry)

    y, pull = jax.vjp(value, x, w)
    g = jnp.sin(jnp.arange(y.size, dtype=jnp.float32))
    return y, *pull(g.reshape(y.shape).astype(y.dtype))

  for a, b in zip(
    jax.jit(lambda: both(ours))(), jax.jit(lambda: both(library))(), strict=True
  ):
    assert a.shape == b.shape and a.dtype == b.dtype
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    np.testing.assert_allclose(a, b, rtol=0, atol=rtol * np.abs(b).max())


@pytest.mark.parametrize('images, kernel, strides, padding', GEOMETRIES)
def test_depthwise_is_the_librarys(images, kernel, strides, padding):
  x, w = operands(images, kernel, (6, 1), 6)
  assert_same(depthwise_conv, x, w, strides=strides, padding=padding)


@pytest.mark.parametrize('inputs', [3, 12])
@pytest.mark.parametrize('images, kernel, strides, padding', GEOMETRIES)
def test_dense_is_the_librarys(images, kernel, strides, padding, inputs):
  x, w = operands(images, kernel, (inputs, inputs), 5)
  assert_same(dense_conv, x, w, strides=strides, padding=padding)


def test_strided_input_gradient_of_a_large_image():
  x, w = operands((49, 48), (3, 3), (12, 12), 4)
  assert_same(dense_conv, x, w, strides=TWO, padding=CENTRED)


def test_global_depthwise():
  x, w = operands((7, 7), (7, 7), (8, 1), 8)
  assert_same(depthwise_conv, x, w, strides=ONE, padding='VALID')


@pytest.mark.parametrize('strides', [ONE, TWO])
def test_bfloat16(strides):
  geometry = {'strides': strides, 'padding': CENTRED, 'rtol': 2e-2}
  x, w = operands((8, 8), (3, 3), (6, 1), 6, dtype=jnp.bfloat16)
  assert_same(depthwise_conv, x, w, **geometry)
  x, w = operands((8, 8), (3, 3), (12, 12), 5, dtype=jnp.bfloat16)
  assert_same(dense_conv, x, w, **geometry)


@pytest.mark.parametrize('conv, inputs', [(depthwise_conv, 1), (dense_conv, 9)])
def test_vmap_over_both_operands(conv, inputs):
  x, w = operands((6, 6), (3, 3), (9, inputs), 9, batch=6)
  x, w = x.reshape(3, 2, 6, 6, 9), jnp.stack([w, 2 * w, -w])

  def loss(conv):
    def value(x, w):
      return jnp.sum(conv(x, w, strides=TWO, padding=CENTRED) ** 2)

    return jax.jit(jax.vmap(jax.grad(value, (0, 1))))(x, w)

  for a, b in zip(loss(conv), loss(library), strict=True):
    np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-3)


@pytest.mark.parametrize('conv, inputs', [(depthwise_conv, 1), (dense_conv, 9)])
def test_second_derivative(conv, inputs):
  x, w = operands((6, 6), (3, 3), (9, inputs), 9)

  def curvature(conv):
    def value(w):
      y = conv(x, w, strides=TWO, padding=CENTRED)
      return jnp.sum(jnp.tanh(conv(y, w, strides=ONE, padding=CENTRED) / 50))

    def slope(w):
      return jnp.sum(jax.grad(value)(w) ** 2)

    return jax.jit(jax.grad(slope))(w)

  ours, theirs = curvature(conv), curvature(library)
  scale = np.abs(theirs).max()
  np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * scale)


def test_forward_mode_says_that_it_has_none():
  x, w = operands((6, 6), (3, 3), (4, 1), 4)
  with pytest.raises(TypeError, match='forward-mode'):
    jax.jvp(lambda x: depthwise_conv(x, w), (x,), (x,))


@pytest.mark.parametrize('conv', [depthwise_conv, dense_conv])
def test_bad_operands(conv):
  x, w = operands((6, 6), (3, 3), (4, 2), 4)
  with pytest.raises(InputError, match='4 channels'):
    conv(x, w)
  with pytest.raises(InputError, match='one type'):
    conv(x, w.astype(jnp.bfloat16))
  with pytest.raises(InputError, match='one type'):
    conv(x[0], w)


def by_rule(rule, x, w, **changes):
  """Whether the rule ran the library's op, and what came out."""
  numbers = lax.conv_dimension_numbers(x.shape, w.shape, DIMENSIONS)
  params = {
    'window_strides': TWO,
    'padding': CENTRED,
    'lhs_dilation': ONE,
    'rhs_dilation': ONE,
    'dimension_numbers': numbers,
    'feature_group_count': 1,
    'batch_group_count': 1,
    'preferred_element_type': None,
  }
  ran = []

  def op(*values):
    ran.append(True)
    return values[0]

  kind = changes.pop('kind', 'conv')
  site = types.SimpleNamespace(kind=kind, params={**params, **changes})
  return bool(ran), rule(site, op, x, w), bool(ran)


def test_rules_take_what_they_know():
  x, w = operands((8, 8), (3, 3), (6, 1), 6)
  _, y, ran = by_rule(cpu_rules(True), x, w, feature_group_count=6)
  expected = library(x, w, strides=TWO, padding=CENTRED)
  assert not ran
  np.testing.assert_allclose(y, expected, atol=1e-5)
  x, w = operands((8, 8), (3, 3), (6, 6), 5)
  _, y, ran = by_rule(cpu_rules(True), x, w)
  expected = library(x, w, strides=TWO, padding=CENTRED)
  assert not ran
  np.testing.assert_allclose(y, expected, atol=1e-4)


@pytest.mark.parametrize(
  'changes',
  [
    {'kind': 'dot'},
    {'rhs_dilation': TWO},
    {'lhs_dilation': TWO},
    {'feature_group_count': 3},
    {'batch_group_count': 2},
    {'preferred_element_type': jnp.float64},
    {
      'dimension_numbers': lax.conv_dimension_numbers(
        (2, 8, 8, 6), (3, 3, 6, 6), ('NHWC', 'OIHW', 'NHWC')
      )
    },
  ],
)
def test_rules_leave_the_rest(changes):
  x, w = operands((8, 8), (3, 3), (6, 6), 6)
  assert by_rule(cpu_rules(True), x, w, **changes)[2]


def test_rules_by_platform():
  assert cpu_rules() is cpu_rules(jax.default_backend() == 'cpu')
  assert cpu_rules(False) is cpu_conv.library_only
