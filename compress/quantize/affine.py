"""Uniform affine quantization: real numbers onto an integer grid and back.

Notation: `x` real, `q` integer code, `S > 0` scale (the step), `Z` integer zero
point, `b` bits. One mapping is used for simulation and for export,

  q = clip(round(x / S) + Z, qmin, qmax),    x_hat = S (q - Z)

(Jacob et al. 2018, arXiv:1712.05877, eq. 1). Other sign conventions are in
`conventions.py`. Zero is always a code: every range is first extended to
contain 0, so zero padding, ReLU and pruned weights stay exact.

The quotient is a true division everywhere, as ONNX `QuantizeLinear` has it.
XLA replaces `x / s` by `x * (1 / s)` where `s` is a broadcast or a constant,
which moves codes whose quotient lies next to a tie; `divide` prevents that, so
that eager, jitted, simulated and exported codes are the same.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from compress.errors import InputError
from compress.quantize.spec import AffineSpec as AffineSpec
from compress.quantize.spec import QParams as QParams

ROUND = {
  'half_even': jnp.round,
  'half_away': lambda x: lax.round(x, lax.RoundingMethod.AWAY_FROM_ZERO),
}
# Half a step, and 1/64 because the ends of a range are themselves rounded.
_SLACK = 0.5 + 2.0**-6


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


def quantize(
  x: jax.Array,
  q: QParams,
  spec: AffineSpec,
  *,
  key: jax.Array | None = None,
) -> jax.Array:
  """Integer codes of `x`.

  Infinities saturate. NaN has no code and becomes Z, the code of 0.

  Args:
    x: float array.
    q: parameters that fit `x`.
    spec: the quantizer.
    key: random key; needed for stochastic rounding only.

  Returns:
    Codes in [qmin, qmax], of `x`'s shape and dtype `spec.dtype`.
  """
  scale, zero_point = _prepare(x, q, spec)
  noise = _noise(x, spec, key)
  low, high = spec.qmin - zero_point, spec.qmax - zero_point
  code = _offset_code(spec.rounding, x, scale, low, high, noise)
  code = jnp.where(jnp.isnan(code), 0, code) + zero_point
  return code.astype(spec.dtype)


def dequantize(
  codes: jax.Array,
  q: QParams,
  spec: AffineSpec,
  *,
  dtype: Any = jnp.float32,
) -> jax.Array:
  """The numbers that codes stand for, `S (q - Z)`.

  Args:
    codes: integer array.
    q: parameters that fit it.
    spec: the quantizer.
    dtype: of the result; the product is rounded to it once.

  Returns:
    Float array of the shape of `codes`.
  """
  scale, zero_point = _prepare(codes, q, spec)
  return _round_to((codes.astype(scale.dtype) - zero_point) * scale, dtype)


def fake_quantize(
  x: jax.Array,
  q: QParams | None,
  spec: AffineSpec,
  *,
  key: jax.Array | None = None,
) -> jax.Array:
  """`dequantize(quantize(x))` in `x`'s dtype, with a straight-through gradient.

  Equal to the round trip through integers bit for bit, for every dtype of `x`,
  except that NaN stays NaN, so that a broken training step shows. Gradients to
  `x` are as `spec.gradient` says; those to `q` are zero. A boolean mask is all
  that is kept for the backward pass. Written with `custom_jvp`, so forward
  mode and second derivatives see the straight-through gradient too.

  Args:
    x: float array.
    q: parameters that fit `x`; None where `spec.dynamic`, which takes them from
      `x`.
    spec: the quantizer.
    key: random key; needed for stochastic rounding only.

  Returns:
    Array of `x`'s shape and dtype.

  Raises:
    InputError: `q` is missing for a static spec or given for a dynamic one.
  """
  if spec.dynamic != (q is None):
    raise InputError(
      f'dynamic={spec.dynamic}: parameters must '
      + ('not be given (pass None)' if spec.dynamic else 'be given')
    )
  if q is None:
    q = tensor_qparams(lax.stop_gradient(x), spec)
  scale, zero_point = _prepare(x, q, spec)
  low, high = spec.qmin - zero_point, spec.qmax - zero_point
  noise = _noise(x, spec, key)
  return _project((spec.rounding, spec.gradient), x, scale, low, high, noise)


def project(
  x: jax.Array,
  scale: jax.Array,
  low: jax.Array,
  high: jax.Array,
  *,
  rounding: str,
  noise: jax.Array | None = None,
) -> jax.Array:
  """The nearest of the levels `scale * (low, low + 1, ..., high)`.

  Without a straight-through gradient; `fake_quantize` and `lsq` add theirs.

  Args:
    x: float array.
    scale: broadcastable to it.
    low: `qmin - Z`, likewise.
    high: `qmax - Z`, likewise.
    rounding: as in `AffineSpec`.
    noise: uniform in [0, 1), of `x`'s shape, for stochastic rounding.

  Returns:
    Array of `x`'s shape and dtype.
  """
  code = _offset_code(rounding, x, scale, low, high, noise)
  # Integers have no negative zero.
  code = jnp.where(code == 0, 0.0, code)
  return _round_to(code * scale, x.dtype)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _project(static, x, scale, low, high, noise):
  return project(x, scale, low, high, rounding=static[0], noise=noise)


@_project.defjvp
def _project_jvp(static, primals, tangents):
  x, scale, low, high, _ = primals
  out, dx = _project(static, *primals), tangents[0]
  if static[1] == 'identity':
    return out, dx
  # In units of x: a comparison that shared the quotient with the forward pass
  # would make the compiler write that quotient to memory.
  wide = x.astype(scale.dtype)
  ends = (low - _SLACK) * scale, (high + _SLACK) * scale
  inside = jnp.clip(wide, *ends) == wide
  return out, keep_where(inside, dx)


# Rematerialized, or the zeros would be kept for the backward pass as well.
@functools.partial(jax.checkpoint, prevent_cse=False)
def keep_where(mask: jax.Array, x: jax.Array) -> jax.Array:
  """`x` where the mask is set, else 0; linear in `x`, keeps the mask only."""
  return jnp.where(mask, x, jnp.zeros_like(x))


def _offset_code(rounding, x, scale, low, high, noise):
  """`q - Z` as floats; clipping to integers first gives the same as after."""
  ratio = divide(x.astype(scale.dtype), scale)
  ratio = jnp.clip(ratio, low, high)
  if rounding != 'stochastic':
    return ROUND[rounding](ratio)
  floor = jnp.floor(ratio)
  # floor(ratio + noise) would round the sum first, and lift large integers.
  return floor + (noise < ratio - floor).astype(ratio.dtype)


def _prepare(x, q, spec):
  """Scale and zero point in the dtype of computation, broadcastable to `x`."""
  dtype = jnp.float64 if x.dtype == jnp.float64 else jnp.float32
  return tuple(expand(p, x.shape, spec).astype(dtype) for p in q)


def _noise(x, spec, key):
  if spec.rounding != 'stochastic':
    return None
  if key is None:
    raise ValueError('stochastic rounding needs a key')
  return jax.random.uniform(key, x.shape)


def _round_to(x, dtype):
  """A cast that the compiler may not skip on the way to a wider dtype."""
  if jnp.dtype(dtype).itemsize < x.dtype.itemsize:
    info = jnp.finfo(dtype)
    x = lax.reduce_precision(
      x, exponent_bits=info.nexp, mantissa_bits=info.nmant
    )
  return x.astype(dtype)
