"""Which operations other forms of a network know, by their layouts."""

import jax
import jax.numpy as jnp
import pytest

from compress import graph as graph_lib

X, W = jnp.zeros((2, 5, 6, 4)), jnp.zeros((3, 3, 4, 8))


def _params(f, *operands):
  (eqn,) = jax.make_jaxpr(f)(*operands).eqns
  return eqn.params


def _conv(x, w, layout=('NHWC', 'HWIO', 'NHWC'), **how):
  ones = (1,) * (len(layout[0]) - 2)

  def conv(x, w):
    return jax.lax.conv_general_dilated(
      x, w, ones, [(1, 1)] * len(ones), dimension_numbers=layout, **how
    )

  return _params(conv, x, w)


@pytest.mark.parametrize(
  'how', [{}, {'rhs_dilation': (2, 2)}, {'feature_group_count': 2}]
)
def test_image_convolutions(how):
  groups = how.get('feature_group_count', 1)
  params = _conv(X, W[:, :, : 4 // groups], **how)
  assert graph_lib.is_image_convolution(params)


@pytest.mark.parametrize(
  'params',
  [
    _conv(X, W, lhs_dilation=(2, 2)),
    _conv(X, W, lhs_dilation=(1, 2)),
    _conv(X, W, batch_group_count=2),
    _conv(X, W.transpose(3, 2, 0, 1), ('NHWC', 'OIHW', 'NHWC')),
    _conv(X.transpose(0, 3, 1, 2), W, ('NCHW', 'HWIO', 'NHWC')),
    _conv(X, W, ('NHWC', 'HWIO', 'NCHW')),
    _conv(X[:, 0], W[0], ('NWC', 'WIO', 'NWC')),
  ],
)
def test_other_convolutions(params):
  assert not graph_lib.is_image_convolution(params)


@pytest.mark.parametrize(
  'shapes, axes, fits',
  [
    (((2, 3), (3, 4)), (((1,), (0,)), ((), ())), True),
    (((2, 5, 3), (3, 4)), (((2,), (0,)), ((), ())), True),
    (((2, 3), (4, 3)), (((1,), (1,)), ((), ())), False),
    (((3, 2), (3, 4)), (((0,), (0,)), ((), ())), False),
    (((2, 3), (3, 4, 5)), (((1,), (0,)), ((), ())), False),
    (((2, 5, 3), (2, 3, 4)), (((2,), (1,)), ((0,), (0,))), False),
    (((2, 3, 4), (3, 4)), (((1, 2), (0, 1)), ((), ())), False),
  ],
)
def test_dense_products(shapes, axes, fits):
  operands = [jnp.zeros(shape) for shape in shapes]
  params = _params(lambda x, w: jax.lax.dot_general(x, w, axes), *operands)
  ranks = tuple(len(shape) for shape in shapes)
  assert graph_lib.is_dense_product(params, ranks) == fits
