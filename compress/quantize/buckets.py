"""Values scaled bucket by bucket onto levels, even ones or learned ones.

Polino, Pascanu, Alistarh 2018, 'Model compression via distillation and
quantization', arXiv:1802.05668, with the choices of its published code. A
tensor, flattened, is cut into buckets of consecutive values; in a bucket with
`beta = min v` and `alpha = max v - min v`

  u = (v - beta) / alpha,   Q(v) = alpha Q^(u) + beta ,

Q^ being the nearest (or, at random, one of the two nearest) of the even levels
`k / (s - 1)`, or the nearest of s points p. What trains the weights under Q is
*quantized distillation*, what trains the points is *differentiable
quantization*: here one `Compressor` each, which any loss goes with.

Q is computed as `beta (1 - Q^) + (beta + alpha) Q^`, so that the extremes of a
bucket are kept to the bit. A bucket of equal values keeps them.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from compress import compressor as compressor_lib
from compress.compressor import KEEP, Compressor, Rules, State
from compress.errors import InputError
from compress.packed import (
  Bucketed,
  between,
  bucket_rows,
  even_levels,
  index_bits,
)
from compress.quantize import kmeans
from compress.quantize.affine import round_to
from compress.quantize.codebook import leaf_key
from compress.quantize.ranges import divide

_GRADIENTS = ('straight_through', 'truncated', 'exact')
MAX_POINTS = 256


@dataclasses.dataclass(frozen=True)
class BucketSpec:
  """How one leaf is quantized to even levels.

  Attributes:
    bits: s = 2^bits levels, 1 to 8; the paper has 2, 4 and 8.
    bucket_size: values of a bucket, 256 in the paper; None for the whole leaf.
    rounding: 'nearest' (half to even), or 'stochastic', whose mean is the value
      itself and which needs a key.
    gradient: to the weights. 'straight_through' passes it on; 'truncated' does
      so for weights in [-1, 1] only; 'exact' is straight-through the rounding
      alone, so that the extremes of a bucket also get what moving the levels
      does to all its values.

  Raises:
    InputError: a field that cannot be.
  """

  bits: int = 4
  bucket_size: int | None = 256
  rounding: str = 'nearest'
  gradient: str = 'straight_through'

  def __post_init__(self):
    if type(self.bits) is not int or not 1 <= self.bits <= 8:
      raise InputError(f'bits={self.bits!r}: right is 1 to 8')
    _check_bucket(self.bucket_size)
    if self.rounding not in ('nearest', 'stochastic'):
      raise InputError(
        f'rounding={self.rounding!r}: right is nearest or stochastic'
      )
    if self.gradient not in _GRADIENTS:
      raise InputError(
        f'gradient={self.gradient!r}: right is one of {", ".join(_GRADIENTS)}'
      )


@dataclasses.dataclass(frozen=True)
class PointSpec:
  """How one leaf is quantized to points of its own.

  Attributes:
    points: s of them, 2 to 256; the code has 16.
    bucket_size: as in `BucketSpec`.
    initial: where they begin: 'quantiles' of the scaled values, or 'uniform'.

  Raises:
    InputError: a field that cannot be.
  """

  points: int = 16
  bucket_size: int | None = 256
  initial: str = 'quantiles'

  def __post_init__(self):
    if type(self.points) is not int or not 2 <= self.points <= MAX_POINTS:
      raise InputError(f'points={self.points!r}: right is 2 to {MAX_POINTS}')
    _check_bucket(self.bucket_size)
    if self.initial not in ('quantiles', 'uniform'):
      raise InputError(
        f'initial={self.initial!r}: right is quantiles or uniform'
      )


def _check_bucket(size) -> None:
  if size is not None and (type(size) is not int or size < 1):
    raise InputError(f'bucket_size={size!r}: right is 1 or more, or None')


class Scaled(NamedTuple):
  """A tensor, scaled bucket by bucket.

  Attributes:
    unit: float32 [G, B], u in [0, 1]; the last bucket is filled up with the
      last value.
    low: float32 [G, 1], the smallest value of each bucket.
    high: float32 [G, 1], the largest.
  """

  unit: jax.Array
  low: jax.Array
  high: jax.Array


def scale_buckets(values: jax.Array, *, bucket_size: int | None) -> Scaled:
  """Scales every bucket of a tensor to [0, 1].

  Args:
    values: float array, not empty.
    bucket_size: values of a bucket; None for a single one.

  Returns:
    The scaled values, which are 0 in a bucket of equal ones.
  """
  rows = bucket_rows(values.astype(jnp.float32), bucket_size)
  low = rows.min(axis=1, keepdims=True)
  high = rows.max(axis=1, keepdims=True)
  span = high - low
  return Scaled(divide(rows - low, jnp.where(span == 0, 1.0, span)), low, high)


def quantize_in_buckets(
  values: jax.Array, spec: BucketSpec, *, key: jax.Array | None = None
) -> jax.Array:
  """A tensor at the even levels of its buckets.

  Args:
    values: float array, not empty.
    spec: levels, buckets, rounding and gradient.
    key: random key, for stochastic rounding.

  Returns:
    Array of the shape and dtype of `values`.
  """
  if spec.gradient == 'exact':
    scaled = scale_buckets(values, bucket_size=spec.bucket_size)
    levels = jnp.asarray(even_levels(spec.bits))
    share = _with_gradient_of(
      scaled.unit, levels[_even_codes(scaled.unit, spec, key)]
    )
    return _put_back(scaled, share, values)
  seen = jax.lax.stop_gradient(values)
  scaled = scale_buckets(seen, bucket_size=spec.bucket_size)
  levels = jnp.asarray(even_levels(spec.bits))
  out = _put_back(scaled, levels[_even_codes(scaled.unit, spec, key)], values)
  if spec.gradient == 'truncated':
    values = jnp.where(jnp.abs(seen) <= 1, values, seen)
  return _with_gradient_of(values, out)


def initial_points(values: jax.Array, spec: PointSpec) -> jax.Array:
  """The points that a tensor begins with.

  Args:
    values: float array, not empty.
    spec: number of points, buckets.

  Returns:
    float32 [s], ascending, from 0 to 1.
  """
  levels = jnp.linspace(0.0, 1.0, spec.points, dtype=jnp.float32)
  if spec.initial == 'uniform':
    return levels
  unit = scale_buckets(values, bucket_size=spec.bucket_size).unit
  return jnp.quantile(unit.reshape(-1)[: values.size], levels)


def quantize_to_points(
  values: jax.Array, points: jax.Array, *, bucket_size: int | None
) -> jax.Array:
  """A tensor at the nearest of some points of its buckets.

  The gradient of a point is the sum, over the values that it is nearest to, of
  their gradients times the widths `alpha` of their buckets; values get none.

  Args:
    values: float array, not empty.
    points: float32 [s], in any order.
    bucket_size: as in `BucketSpec`.

  Returns:
    Array of the shape and dtype of `values`.
  """
  seen = jax.lax.stop_gradient(values)
  scaled = scale_buckets(seen, bucket_size=bucket_size)
  points = jnp.sort(points)
  codes = kmeans.nearest_numbers(scaled.unit, jax.lax.stop_gradient(points))
  return _put_back(scaled, points[codes], values)


def quantize_buckets(
  rules: Rules, *, key: jax.Array | None = None
) -> Compressor:
  """Quantized distillation's weights: projected before every forward pass.

  Buckets are scaled by the weights of the moment; gradients go to the weights
  as they are before the projection. Polino et al. 2018, algorithm 1.

  Args:
    rules: ordered `(pattern, BucketSpec)` pairs over leaf paths.
    key: random key; needed if a spec rounds stochastically. A rounding is that
      of the step that `update` was given last, 0 at first.

  Returns:
    The compressor; nothing is learned, `state.carried` is the step.

  Raises:
    InputError: stochastic rounding without a key.
  """
  specs = [spec for _, spec in rules if spec is not KEEP]
  if key is None and any(spec.rounding == 'stochastic' for spec in specs):
    raise InputError("rounding='stochastic': weights then need a key")

  def noise_key(path, state):
    if key is None:
      return None
    return leaf_key(jax.random.fold_in(key, state.carried['step']), path)

  def init(params) -> State:
    del params
    return State({}, {'step': jnp.int32(0)})

  def apply(params, state):
    def at(leaf, spec, path):
      return quantize_in_buckets(leaf, spec, key=noise_key(path, state))

    return _covered(at, params, rules)

  def update(params, state, *, step, grads=None) -> State:
    del params, grads
    return state._replace(carried={'step': jnp.asarray(step, jnp.int32)})

  def pack(params, state):
    def at(leaf, spec, path):
      scaled = scale_buckets(leaf, bucket_size=spec.bucket_size)
      codes = _even_codes(scaled.unit, spec, noise_key(path, state))
      return _pack(scaled, codes, None, leaf, spec.bucket_size, spec.bits)

    return _covered(at, params, rules, packed=True)

  return Compressor(init, apply, update, pack)


def learn_points(rules: Rules) -> Compressor:
  """Differentiable quantization: the points are learned, the weights stay.

  Each weight is given to the nearest point as the points move. Polino et al.
  2018, algorithm 2.

  Args:
    rules: ordered `(pattern, PointSpec)` pairs over leaf paths.

  Returns:
    The compressor; `state.learned` maps leaf path to points, float32 [s].
  """

  def init(params) -> State:
    points = {}

    def at(leaf, spec, path):
      points[path] = initial_points(leaf, spec)
      return leaf

    _covered(at, params, rules)
    return State(points, {})

  def apply(params, state):
    def at(leaf, spec, path):
      return quantize_to_points(
        leaf, state.learned[path], bucket_size=spec.bucket_size
      )

    return _covered(at, params, rules)

  def pack(params, state):
    def at(leaf, spec, path):
      scaled = scale_buckets(leaf, bucket_size=spec.bucket_size)
      points = jnp.sort(state.learned[path])
      codes = kmeans.nearest_numbers(scaled.unit, points)
      bits = index_bits(spec.points)
      return _pack(scaled, codes, points, leaf, spec.bucket_size, bits)

    return _covered(at, params, rules, packed=True)

  return Compressor(init, apply, compressor_lib.keep_state, pack)


def bits_by_gradient(
  norms: Mapping[str, float], *, bits: int
) -> dict[str, int]:
  """Bits of every tensor: more where the loss is steeper.

  As the code of Polino et al. 2018 does it: every tensor has one bit less than
  the mean, and the bits saved are dealt out in proportion to the norms of the
  gradients: whole bits first, then one each by the largest remainders. A tensor
  has 8 bits at most; what it cannot take goes to the others.

  Args:
    norms: name to the norm of the loss's gradient, finite, 0 or more.
    bits: the mean, 2 to 8, over tensors and not over weights.

  Returns:
    Name to bits; they sum to `bits` times the number of names.

  Raises:
    InputError: `bits` or a norm that cannot be.
  """
  if type(bits) is not int or not 2 <= bits <= 8:
    raise InputError(f'bits={bits!r}: right is 2 to 8')
  for name, norm in norms.items():
    if not 0 <= norm < float('inf'):
      raise InputError(f'norm {norm} of {name}: right is finite, 0 or more')
  found = dict.fromkeys(norms, bits - 1)
  left = len(norms)
  while left:
    free = [name for name in norms if found[name] < 8]
    total = sum(norms[name] for name in free)
    wish = {
      name: left * (norms[name] / total if total else 1 / len(free))
      for name in free
    }
    full = [name for name in free if wish[name] > 8 - found[name]]
    for name in full:
      left -= 8 - found[name]
      found[name] = 8
    if full:
      continue
    for name in free:
      found[name] += int(wish[name])
      left -= int(wish[name])
    for name in sorted(free, key=lambda n: (int(wish[n]) - wish[n], n))[:left]:
      found[name] += 1
    break
  return found


@jax.custom_jvp
def _with_gradient_of(x: jax.Array, value: jax.Array) -> jax.Array:
  """`value`, to the bit, with the gradient of `x`."""
  del x
  return value


@_with_gradient_of.defjvp
def _with_gradient_of_jvp(primals, tangents):
  return primals[1], tangents[0]


def _even_codes(unit, spec, key):
  last = 2**spec.bits - 1
  unit = jax.lax.stop_gradient(unit)
  # Through a select, or it might be fused with the subtraction below.
  ratio = jnp.where(jnp.isnan(unit), unit, unit * last)
  if spec.rounding == 'nearest':
    return jnp.round(ratio).astype(jnp.uint8)
  if key is None:
    raise ValueError('stochastic rounding needs a key')
  floor = jnp.floor(ratio)
  up = jax.random.uniform(key, unit.shape) < ratio - floor
  return (floor + up.astype(floor.dtype)).astype(jnp.uint8)


def _put_back(scaled: Scaled, share, values) -> jax.Array:
  rows = between(scaled.low, scaled.high, share)
  out = rows.reshape(-1)[: values.size].reshape(values.shape)
  return round_to(out, values.dtype)


def _pack(scaled, codes, points, leaf, bucket_size, bits) -> Bucketed:
  codes = codes.reshape(-1)[: leaf.size].reshape(leaf.shape)
  return Bucketed(
    codes.astype(jnp.uint8),
    scaled.low[:, 0],
    scaled.high[:, 0],
    points,
    bits=bits,
    bucket_size=bucket_size,
    dtype=leaf.dtype.name,
  )


def _covered(function, params, rules, *, packed: bool = False) -> Any:
  specs = compressor_lib.resolve(rules, params).specs
  mapped = compressor_lib.pack_covered if packed else compressor_lib.map_covered
  return mapped(function, params, specs)
