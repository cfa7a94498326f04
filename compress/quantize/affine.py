"""Uniform affine quantization: real numbers onto an integer grid and back.

Notation: `x` real, `q` integer code, `S > 0` scale (the step), `Z` integer zero
point, `b` bits. One mapping is used for simulation and for export,

  q = clip(round(x / S) + Z, qmin, qmax),    x_hat = S (q - Z)

(Jacob et al. 2018, arXiv:1712.05877, eq. 1). Other sign conventions are in
`conventions.py`; where S and Z come from, in `ranges.py`.

The quotient is a true division everywhere (`ranges.divide`), as ONNX
`QuantizeLinear` has it, so that eager, jitted, simulated and exported codes are
the same.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from compress.errors import InputError
from compress.quantize.ranges import divide, expand, tensor_qparams
from compress.quantize.spec import AffineSpec, QParams

ROUND = {
  'half_even': jnp.round,
  'half_away': lambda x: lax.round(x, lax.RoundingMethod.AWAY_FROM_ZERO),
}
# Half a step, and 1/64 because the ends of a range are themselves rounded.
_SLACK = 0.5 + 2.0**-6


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
  return round_to((codes.astype(scale.dtype) - zero_point) * scale, dtype)


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
  return round_to(code * scale, x.dtype)


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


def round_to(x: jax.Array, dtype: Any) -> jax.Array:
  """A cast that the compiler may not skip on the way to a wider dtype."""
  if jnp.dtype(dtype).itemsize < x.dtype.itemsize:
    info = jnp.finfo(dtype)
    x = lax.reduce_precision(
      x, exponent_bits=info.nexp, mantissa_bits=info.nmant
    )
  return x.astype(dtype)
