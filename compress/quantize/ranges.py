"""Ranges of real numbers, and the scales and zero points that cover them.

Zero is always a code: every range is first extended to contain 0, so zero
padding, ReLU and pruned weights stay exact.

Quotients are true divisions. XLA replaces `x / s` by `x * (1 / s)` where `s` is
a broadcast or a constant, which moves codes whose quotient lies next to a tie;
`divide` prevents that.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from compress.errors import InputError
from compress.quantize.spec import AffineSpec, QParams


def divide(x: jax.Array, y: jax.Array) -> jax.Array:
  """The correctly rounded `x / y`, whatever the compiler knows of `y`.

  A divisor that depends on `x` cannot be turned into a reciprocal; the select
  costs nothing in a memory-bound expression and changes no result.

  Args:
    x: float array.
    y: float array of the same dtype that broadcasts to `x`.

  Returns:
    The quotient, of `x`'s shape.
  """
  return x / jnp.where(jnp.isnan(x), x, y)


def qparams_from_range(
  lo: jax.Array, hi: jax.Array, spec: AffineSpec
) -> QParams:
  """Scale and zero point that cover `[min(lo, 0), max(hi, 0)]`.

  Asymmetric: `S = (hi - lo) / (qmax - qmin)`, `Z = round(qmin - lo / S)`; the
  rounding of Z shifts the covered range by at most S/2 from the given one.
  Symmetric: `S = max(|lo|, |hi|) / (2^(b-1) - 1)` narrow, `2 max / (2^b - 1)`
  full, `hi / (2^b - 1)` unsigned.

  Always finite for finite ranges: ranges are cut at half the largest float32
  (so an infinite range is treated as that one); the all-zero range has S = 1;
  S is never subnormal. NaN in a range gives NaN scales.

  Args:
    lo: float, smallest value of each range.
    hi: float, largest value, same shape.
    spec: the quantizer.

  Returns:
    Parameters of `lo`'s shape; constants for differentiation.
  """
  limit = float(jnp.finfo(jnp.float32).max) / 2
  lo = jnp.asarray(lo).astype(jnp.float32)
  hi = jnp.asarray(hi).astype(jnp.float32)
  lo = lax.stop_gradient(jnp.clip(lo, -limit, 0))
  hi = lax.stop_gradient(jnp.clip(hi, 0, limit))
  steps = jnp.float32(spec.qmax - spec.qmin)
  if not spec.symmetric:
    scale = divide(hi - lo, steps)
  elif spec.bounds == 'full':
    scale = divide(2 * jnp.maximum(-lo, hi), steps)
  elif spec.bounds == 'narrow':
    scale = divide(jnp.maximum(-lo, hi), jnp.float32(spec.qmax))
  else:
    # Keeps NaN from a lower end that is not used otherwise.
    scale = divide(jnp.where(jnp.isnan(lo), lo, hi), steps)
  # A subnormal scale is zero on hardware that flushes them.
  tiny = float(jnp.finfo(jnp.float32).tiny)
  scale = jnp.where(scale == 0, 1.0, jnp.maximum(scale, tiny))
  if spec.power_of_two:
    mantissa, exponent = jnp.frexp(scale)
    exponent = exponent - (mantissa == 0.5).astype(exponent.dtype)
    scale = jnp.where(
      jnp.isnan(scale), scale, jnp.ldexp(jnp.ones_like(scale), exponent)
    )
  if spec.symmetric:
    return QParams(scale, jnp.zeros(scale.shape, jnp.int32))
  zero_point = jnp.round(spec.qmin - divide(lo, scale))
  zero_point = jnp.clip(zero_point, spec.qmin, spec.qmax)
  return QParams(scale, zero_point.astype(jnp.int32))


def tensor_range(x: jax.Array, spec: AffineSpec) -> tuple[jax.Array, jax.Array]:
  """Smallest and largest value of each tensor, channel or group of `x`.

  Args:
    x: float array, not empty.
    spec: the quantizer; its granularity, axis and group size are used.

  Returns:
    `(lo, hi)` with the shapes of `QParams`; NaN where `x` has one.

  Raises:
    InputError: `spec.axis` is no axis of `x`.
  """
  return reduce_over_range(x, spec, jnp.min), reduce_over_range(
    x, spec, jnp.max
  )


def reduce_over_range(
  x: jax.Array, spec: AffineSpec, reduction, *, fill: str = 'edge'
) -> jax.Array:
  """`reduction` over the elements that share a scale; `QParams` shapes.

  Args:
    x: array, not empty.
    spec: the quantizer.
    reduction: a function like `jnp.max`, with `axis` and `keepdims`.
    fill: what a short last group is filled up with: `edge`, its last element,
      or `constant`, zeros.

  Returns:
    The reduced values.

  Raises:
    InputError: `spec.axis` is no axis of `x`.
  """
  if spec.granularity == 'tensor':
    return reduction(x)
  axis = _channel_axis(x.shape, spec)
  if spec.granularity == 'channel':
    others = tuple(i for i in range(x.ndim) if i != axis)
    return reduction(x, axis=others, keepdims=True)
  size = spec.group_size
  columns = jnp.moveaxis(x, axis, -1).reshape(-1, x.shape[axis])
  columns = jnp.pad(columns, ((0, -columns.shape[0] % size), (0, 0)), mode=fill)
  groups = columns.reshape(-1, size, columns.shape[-1])
  return reduction(groups, axis=1, keepdims=True)


def _channel_axis(shape, spec) -> int:
  if not -len(shape) <= spec.axis < len(shape):
    raise InputError(
      f'axis={spec.axis}: a tensor of shape {tuple(shape)} has no such axis'
    )
  return spec.axis % len(shape)


def tensor_qparams(x: jax.Array, spec: AffineSpec) -> QParams:
  """Parameters that cover the values of `x` itself (min-max).

  Args:
    x: float array, not empty.
    spec: the quantizer.

  Returns:
    `qparams_from_range(*tensor_range(x, spec), spec)`.
  """
  return qparams_from_range(*tensor_range(x, spec), spec)


def expand(
  values: jax.Array, shape: tuple[int, ...], spec: AffineSpec
) -> jax.Array:
  """Brings a leaf of `QParams` to a shape that broadcasts to the tensor.

  Args:
    values: `[]`, `[1, ..., C, ..., 1]`, or `[G, 1, C]` for groups.
    shape: the tensor's shape.
    spec: the quantizer.

  Returns:
    `values` itself, or of shape `shape` for groups.
  """
  if spec.granularity != 'group':
    return values
  axis = _channel_axis(shape, spec)
  moved = (*shape[:axis], *shape[axis + 1 :], shape[axis])
  groups, _, channels = values.shape
  rows = jnp.broadcast_to(values, (groups, spec.group_size, channels))
  rows = rows.reshape(-1, channels)
  return jnp.moveaxis(rows[: math.prod(moved[:-1])].reshape(moved), -1, axis)
