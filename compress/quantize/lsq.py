"""Learned step size quantization.

LSQ: Esser, McKinstry, Bablani, Appuswamy, Modha 2019, arXiv:1902.08153. With
step s, `z = v / s`, `Q_N = -qmin`, `Q_P = qmax`:

  v_bar = round(clip(z, -Q_N, Q_P)),   v_hat = s v_bar              (eqs. 1, 2)
  dv_hat/ds = round(z) - z inside, -Q_N at and below, Q_P at and above  (eq. 3)
  dv_hat/dv = 1 inside, 0 at and beyond the ends                        (eq. 5)

The gradient to s is multiplied by `g = 1 / sqrt(N Q_P)`, N the values that one
step serves. LSQ+ (Bhalgat et al. 2020, arXiv:2004.09576) adds an offset beta,
`v_hat = s v_bar + beta`, whose gradient is 0 inside and 1 outside, times g.

A trained s may come to 0 or below it; the step in use is `max(s, epsilon)`,
while the gradient is that of the step in use, so that s can come back. Weight
decay must not touch s.
"""

import functools
import math

import jax
import jax.numpy as jnp

from compress.errors import InputError
from compress.quantize import affine, ranges
from compress.quantize.spec import AffineSpec, QParams

EPSILON = 1e-8


def lsq_init(v: jax.Array, spec: AffineSpec) -> jax.Array:
  """The first step size, `2 mean|v| / sqrt(Q_P)`.

  Args:
    v: weights, or the first batch of activations.
    spec: the quantizer; sets the granularity and Q_P.

  Returns:
    float32 steps of the shape of `QParams.scale`; 1 where all values are 0.
  """
  check_spec(spec)
  magnitude = jnp.abs(v.astype(jnp.float32))
  total = ranges.reduce_over_range(magnitude, spec, jnp.sum, fill='constant')
  count = ranges.reduce_over_range(
    jnp.ones_like(magnitude), spec, jnp.sum, fill='constant'
  )
  step = 2 * total / count / math.sqrt(spec.qmax)
  return jnp.where(step > 0, jnp.maximum(step, EPSILON), 1.0)


def lsq_qparams(
  s: jax.Array, spec: AffineSpec, *, zero_point: jax.Array | None = None
) -> QParams:
  """The steps as parameters to export; `fake_quantize` with them equals `lsq`.

  Args:
    s: learned steps.
    spec: the quantizer.
    zero_point: int32 of `s`'s shape, for an asymmetric spec; else None.

  Returns:
    Scale `max(s, epsilon)` and the zero point, 0 if symmetric.
  """
  check_spec(spec, zero_point)
  scale = jnp.maximum(s.astype(jnp.float32), EPSILON)
  zeros = jnp.zeros(s.shape, jnp.int32)
  return QParams(scale, zeros if zero_point is None else zero_point)


def lsq(
  v: jax.Array,
  s: jax.Array,
  spec: AffineSpec,
  *,
  zero_point: jax.Array | None = None,
  offset: jax.Array | None = None,
  count: int | None = None,
  compact: bool = False,
) -> jax.Array:
  """Quantizes `v` with a step that gets a gradient.

  Forward, without an offset, this is `fake_quantize(v, lsq_qparams(s, spec),
  spec)` bit for bit. An offset is a real number, so with one 0 is not in
  general a level and no integer zero point exports it.

  An asymmetric spec takes a fixed integer zero point Z, which LSQ has not:
  the levels are then `s (q - Z)`, so `Q_N = Z - qmin` and `Q_P = qmax - Z` in
  the formulas above, 0 stays a level, and the step moves both ends.

  Args:
    v: float array.
    s: steps, of the shape of `QParams.scale`.
    spec: the quantizer; not dynamic, deterministic rounding.
    zero_point: int32 of `s`'s shape, in [qmin, qmax], for an asymmetric spec;
      a constant for differentiation.
    offset: LSQ+'s beta, of `s`'s shape; None for LSQ.
    count: N; by default the elements of `v` that share a step. For activations
      the paper takes the features of one example.

    compact: keep one byte a value for the backward pass in place of five. The
      slope `round(z) - z` is then rounded to 1/252, which moves the gradient
      of the step by far less than a batch does; only reverse mode works.

  Returns:
    Array of `v`'s shape and dtype.

  Raises:
    InputError: the spec is dynamic, rounds stochastically or to power-of-two
      scales, or is asymmetric without a zero point (or the reverse).
  """
  check_spec(spec, zero_point)
  if count is None:
    count = v.size / s.size
  step = _per_channel(ranges.expand(_floor(s), v.shape, spec), v)
  if zero_point is None:
    low, high = jnp.float32(spec.qmin), jnp.float32(spec.qmax)
  else:
    zero = ranges.expand(zero_point, v.shape, spec).astype(jnp.float32)
    low, high = spec.qmin - zero, spec.qmax - zero
  scaling = jax.lax.rsqrt(count * jnp.maximum(high, 1.0))
  if offset is None:
    function = _lsq_compact if compact else _lsq
    return function(spec.rounding, v, step, low, high, scaling)
  beta = ranges.expand(offset, v.shape, spec).astype(jnp.float32)
  shifted = v.astype(jnp.float32) - _scale_gradient(scaling, beta)
  # Outside of the levels d v_hat / d beta = 1 - 0, inside 1 - 1.
  out = _lsq(
    spec.rounding, shifted, step, low, high, scaling
  ) + _scale_gradient(scaling, beta)
  return out.astype(v.dtype)


def _per_channel(step, v):
  """A single step, repeated for each index of the last axis.

  The gradient of a single step is a sum over all of `v`, which XLA takes one
  element after the other on a CPU; a sum for each channel runs in vectors. The
  barrier keeps the compiler from joining the two sums again.
  """
  if step.ndim or not v.ndim:
    return step
  row = jnp.broadcast_to(step, (1,) * (v.ndim - 1) + v.shape[-1:])
  return jax.lax.optimization_barrier(row)


@jax.custom_jvp
def _floor(s):
  return jnp.maximum(s.astype(jnp.float32), EPSILON)


@_floor.defjvp
def _floor_jvp(primals, tangents):
  return _floor(*primals), tangents[0].astype(jnp.float32)


@jax.custom_jvp
def _scale_gradient(scaling, x):
  del scaling
  return x


@_scale_gradient.defjvp
def _scale_gradient_jvp(primals, tangents):
  scaling, x = primals
  return x, scaling * tangents[1]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _lsq(rounding, v, step, low, high, scaling):
  del scaling
  return affine.project(v, step, low, high, rounding=rounding)


@_lsq.defjvp
def _lsq_jvp(rounding, primals, tangents):
  v, step, low, high, scaling = primals
  dv, ds = tangents[:2]
  out = _lsq(rounding, *primals)
  ratio = ranges.divide(v.astype(step.dtype), step)
  inside = (ratio > low) & (ratio < high)
  level = affine.ROUND[rounding](jnp.clip(ratio, low, high))
  slope = jnp.where(inside, level - ratio, level) * scaling
  return out, affine.keep_where(inside, dv) + (slope * ds).astype(v.dtype)


_BELOW, _ABOVE, _SLOPE_STEPS = -128, 127, 252


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _lsq_compact(rounding, v, step, low, high, scaling):
  return _lsq(rounding, v, step, low, high, scaling)


def _compact_forward(rounding, v, step, low, high, scaling):
  out = _lsq(rounding, v, step, low, high, scaling)
  ratio = ranges.divide(v.astype(step.dtype), step)
  slope = affine.ROUND[rounding](jnp.clip(ratio, low, high)) - ratio
  code = jnp.round(jnp.clip(slope, -0.5, 0.5) * _SLOPE_STEPS)
  code = jnp.where(ratio <= low, float(_BELOW), code)
  code = jnp.where(ratio >= high, float(_ABOVE), code)
  return out, (code.astype(jnp.int8), step, low, high, scaling)


def _compact_backward(rounding, kept, g):
  del rounding
  code, step, low, high, scaling = kept
  inside = (code > _BELOW) & (code < _ABOVE)
  slope = code.astype(step.dtype) / _SLOPE_STEPS
  slope = jnp.where(code == _BELOW, low, slope)
  slope = jnp.where(code == _ABOVE, high, slope)
  each = g.astype(step.dtype) * slope * scaling
  axes = tuple(
    i
    for i in range(each.ndim)
    if i >= step.ndim or step.shape[i] != each.shape[i]
  )
  gradient = each.sum(axes, keepdims=True).reshape(step.shape)
  zeros = [jnp.zeros_like(x) for x in (low, high, scaling)]
  return jnp.where(inside, g, jnp.zeros_like(g)), gradient, *zeros


_lsq_compact.defvjp(_compact_forward, _compact_backward)


def check_spec(spec: AffineSpec, zero_point: jax.Array | None = None) -> None:
  """Checks that a spec's step can be learned.

  Args:
    spec: the quantizer.
    zero_point: the fixed zero point of an asymmetric one.

  Raises:
    InputError: the spec is dynamic, rounds stochastically or to power-of-two
      scales, or is asymmetric without a zero point (or the reverse).
  """
  if spec.symmetric != (zero_point is None):
    raise InputError(
      'learned steps need a zero point for an asymmetric spec, and only there'
    )
  if spec.dynamic or spec.power_of_two:
    raise InputError('learned steps need a spec not dynamic, not power_of_two')
  if spec.rounding == 'stochastic':
    raise InputError("learned steps round 'half_even' or 'half_away'")
