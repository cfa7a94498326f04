"""Convolutions, matrix products and pooling of integer codes.

A code q of a grid with zero point Z stands for `S (q - Z)`. A layer sums

  sum (q1 - Z1)(q2 - Z2)
    = sum q1 q2 - Z1 sum q2 - Z2 sum q1 + K Z1 Z2

over its K terms in int32 (Jacob et al. 2018, arXiv:1712.05877, eq. 7), so that
the products are of 8-bit codes. Zero padding pads with Z1. uint8 codes are
moved to int8, their zero points with them: XLA multiplies int8 with int8.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from compress.errors import InputError
from compress.quantize.integer_arithmetic import INT32_MAX

_NHWC = ('NHWC', 'HWIO', 'NHWC')
_MOVED = 128


def integer_dot(
  q1: jax.Array, q2: jax.Array, *, zero1: int = 0, zero2=0
) -> jax.Array:
  """Accumulators of a matrix product of codes.

  Args:
    q1: int8 or uint8 [..., K].
    q2: int8 or uint8 [K, O].
    zero1: zero point of `q1`.
    zero2: zero point of `q2`, or one a column, [O].

  Returns:
    int32 [..., O].
  """
  acc = raw_dot(as_int8(q1), as_int8(q2))
  zero1, zero2 = moved(zero1, q1), moved(zero2, q2)
  if np.any(zero2):
    rows = q1_sums_dot(as_int8(q1))
    acc = acc - rows * along_last(zero2, acc.ndim)
  correction = corrections(as_int8(q2), zero1, zero2)
  return acc + along_last(correction, acc.ndim)


def integer_conv(
  q1: jax.Array,
  q2: jax.Array,
  *,
  zero1: int = 0,
  zero2=0,
  strides: Sequence[int] = (1, 1),
  padding: Sequence[tuple[int, int]] = ((0, 0), (0, 0)),
  dilation: Sequence[int] = (1, 1),
  groups: int = 1,
) -> jax.Array:
  """Accumulators of a convolution of codes.

  Args:
    q1: int8 or uint8 [B, H, W, C].
    q2: int8 or uint8 [KH, KW, C / groups, O].
    zero1: zero point of `q1`, and what pads it.
    zero2: zero point of `q2`, or one an output channel, [O].
    strides: of rows and columns.
    padding: before and after the rows, before and after the columns.
    dilation: steps between the taps of the kernel.
    groups: of channels.

  Returns:
    int32 [B, H', W', O].
  """
  zero1, zero2 = moved(zero1, q1), moved(zero2, q2)
  q1, q2 = as_int8(q1), as_int8(q2)
  options = {'strides': strides, 'dilation': dilation, 'groups': groups}
  q1 = pad_with(q1, ((0, 0), *padding, (0, 0)), zero1)
  acc = raw_conv(q1, q2, **options)
  if np.any(zero2):
    acc = acc - q1_sums_conv(q1, q2.shape, **options) * along_last(zero2, 4)
  return acc + along_last(corrections(q2, zero1, zero2), 4)


def corrections(q2, zero1: int, zero2) -> jax.Array:
  """`K Z1 Z2 - Z1 sum q2` of each output channel, known before any input.

  Args:
    q2: int8, output channels last.
    zero1: zero point of the activations.
    zero2: zero point of the weights, or one a channel, [O].

  Returns:
    int32 [O].
  """
  sums = jnp.sum(q2.astype(jnp.int32), tuple(range(q2.ndim - 1)))
  terms = math.prod(q2.shape[:-1])
  return (terms * jnp.asarray(zero2, jnp.int32) - sums) * jnp.int32(zero1)


def check_accumulators(
  q2: np.ndarray, zero1: int, zero2, low1: int, high1: int, where: str
) -> np.ndarray:
  """The largest accumulator of each output channel, over all inputs.

  Args:
    q2: int8, output channels last.
    zero1: zero point of the activations.
    zero2: zero point of the weights, or one a channel, [O].
    low1: lowest code of the activations.
    high1: their highest code.
    where: the layer, for the message.

  Returns:
    float64 [O], the largest magnitude of `sum (q1 - Z1)(q2 - Z2)`.

  Raises:
    InputError: one of the four sums of the expansion, or their total, may leave
      int32.
  """
  wide = np.asarray(q2, np.float64).reshape(-1, q2.shape[-1])
  zero2 = np.asarray(zero2, np.float64)
  largest, terms = max(abs(low1), abs(high1)), len(wide)
  sums = {
    'sum q1 q2': np.abs(wide).sum(0) * largest,
    'Z1 sum q2': abs(zero1) * np.abs(wide.sum(0)),
    'Z2 sum q1': np.abs(zero2) * terms * largest,
    'K Z1 Z2': np.abs(terms * zero1 * zero2),
    'sum (q1 - Z1)(q2 - Z2)': np.abs(wide - zero2).sum(0)
    * max(abs(low1 - zero1), abs(high1 - zero1)),
  }
  for name, values in sums.items():
    if np.max(values) > INT32_MAX:
      raise InputError(
        f'{where}: {name} over its {terms} terms may reach '
        f'{np.max(values):.4g}, more than int32 holds ({INT32_MAX}); right '
        'are fewer bits, or fewer terms'
      )
  return sums['sum (q1 - Z1)(q2 - Z2)']


def as_int8(q: jax.Array) -> jax.Array:
  """uint8 codes as int8 ones, 128 lower; int8 codes as they are."""
  if q.dtype != jnp.uint8:
    return q
  return lax.bitcast_convert_type(q ^ jnp.uint8(_MOVED), jnp.int8)


def moved(zero, q):
  """The zero point that belongs to `as_int8(q)`."""
  return zero - _MOVED if q.dtype == jnp.uint8 else zero


def along_last(values, ndim: int) -> jax.Array:
  """A number a channel as an array of a rank, channels last."""
  values = jnp.asarray(values, jnp.int32)
  return values.reshape((1,) * (ndim - 1) + (-1,)) if values.ndim else values


def pad_with(x: jax.Array, padding, value: int) -> jax.Array:
  """Pads each axis, before and after, with an integer."""
  if not any(map(any, padding)):
    return x
  lengths = [(low, high, 0) for low, high in padding]
  return lax.pad(x, jnp.asarray(value, x.dtype), lengths)


def raw_dot(q1: jax.Array, q2: jax.Array) -> jax.Array:
  """`sum q1 q2` of int8 [..., K] and [K, O], as int32 [..., O]."""
  numbers = ((q1.ndim - 1,), (0,)), ((), ())
  return lax.dot_general(q1, q2, numbers, preferred_element_type=jnp.int32)


def q1_sums_dot(q1: jax.Array) -> jax.Array:
  """`sum q1` of each row, int32 [..., 1]."""
  return jnp.sum(q1.astype(jnp.int32), -1, keepdims=True)


def raw_conv(
  q1: jax.Array, q2: jax.Array, *, strides, dilation, groups
) -> jax.Array:
  """`sum q1 q2` of a convolution of int8 without padding, int32.

  A depthwise one is a sum of shifted products: XLA's own takes a hundred times
  as long.
  """
  if groups == q1.shape[3] and q2.shape[2:] == (1, groups):
    return _depthwise(q1, q2, strides, dilation)
  return lax.conv_general_dilated(
    q1,
    q2,
    tuple(strides),
    'VALID',
    rhs_dilation=tuple(dilation),
    dimension_numbers=_NHWC,
    feature_group_count=groups,
    preferred_element_type=jnp.int32,
  )


def q1_sums_conv(
  q1: jax.Array, kernel_shape, *, strides, dilation, groups
) -> jax.Array:
  """`sum q1` under each position of a kernel, int32 [B, H', W', O or 1]."""
  kh, kw, _, features = kernel_shape
  b, h, w, c = q1.shape
  split = q1.reshape(b, h, w, groups, c // groups)
  sums = jnp.sum(split.astype(jnp.int32), -1)
  window = lax.reduce_window(
    sums,
    jnp.int32(0),
    lax.add,
    (1, kh, kw, 1),
    (1, *strides, 1),
    'VALID',
    window_dilation=(1, *dilation, 1),
  )
  return window if groups == 1 else jnp.repeat(window, features // groups, -1)


def _depthwise(q1, q2, strides, dilation) -> jax.Array:
  """Shifted products, summed; exact in int32."""
  x, taps = q1.astype(jnp.int32), q2.astype(jnp.int32)
  b, h, w, c = q1.shape
  kh, kw = q2.shape[:2]
  reach = [(n - 1) * d for n, d in zip((kh, kw), dilation, strict=True)]
  if (h - reach[0], w - reach[1]) == (1, 1) and tuple(dilation) == (1, 1):
    return jnp.sum(x * taps.reshape(1, h, w, c), (1, 2), keepdims=True)
  total = jnp.int32(0)
  for i in range(kh):
    for j in range(kw):
      top, left = i * dilation[0], j * dilation[1]
      end = (b, h - reach[0] + top, w - reach[1] + left, c)
      part = lax.slice(x, (0, top, left, 0), end, (1, *strides, 1))
      total = total + part * taps[i, j].reshape(1, 1, 1, c)
  return total


def max_pool(x: jax.Array, *, window, strides, padding) -> jax.Array:
  """The largest integer of each window; padding is never the largest."""
  lowest = jnp.asarray(jnp.iinfo(x.dtype).min, x.dtype)
  return lax.reduce_window(x, lowest, lax.max, window, strides, padding)


def sum_pool(x: jax.Array, *, window, strides, padding) -> jax.Array:
  """The int32 sum of each window of integers that stand for 0 at 0."""
  return lax.reduce_window(
    x.astype(jnp.int32), jnp.int32(0), lax.add, window, strides, padding
  )
