"""Multiplying int32 by real constants, with integers of 32 bits alone.

A positive constant is `M = 2^-n M0` with `M0` in [0.5, 1), stored as the int32
`m = round(2^31 M0)` and the shift `n` (Jacob et al. 2018, arXiv:1712.05877,
eq. 6). The 64-bit product of an int32 with `m` is put together from 16-bit
limbs in uint32, since JAX has no int64 unless asked for.

Two ways of rounding are here. That of Jacob, gemmlowp and TFLite is twofold:
the product to its upper half with ties upwards, then the shift with ties away
from zero, so that 5 / 4 becomes 2. `half_even` and `half_away` round the exact
product once, as the quantizer that the network was trained with does.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from compress.errors import InputError

ROUNDINGS = ('half_even', 'half_away', 'jacob')
INT32_MAX = 2**31 - 1
_SHIFTS = 31


class Multiplier(NamedTuple):
  """Real constants in fixed point: `m 2^(-31 - n)`.

  Attributes:
    m: int32, 0 or of magnitude 2^30 to 2^31 - 1.
    n: int32 of m's shape, -31 to 31; negative for a constant of 1 and more.
  """

  m: Any
  n: Any


def quantize_multiplier(value) -> Multiplier:
  """The fixed-point form of real constants, computed in float64.

  The relative error is at most `2^-31`. Constants below `2^-32` become 0, as
  they take every int32 to 0.

  Args:
    value: real numbers of any sign, below `2^31` in magnitude.

  Returns:
    The form, as NumPy arrays of the shape of `value`.

  Raises:
    InputError: a constant is too large, infinite or NaN.
  """
  value = np.asarray(value, np.float64)
  if not (np.abs(value) < 2.0**31).all():
    raise InputError(
      f'a multiplier is {value.flat[np.abs(value).argmax()]}; right is a '
      'magnitude below 2^31'
    )
  mantissa, exponent = np.frexp(value)
  m = np.rint(mantissa * 2.0**31).astype(np.int64)
  full = np.abs(m) == 2**31
  m, n = np.where(full, m // 2, m), -exponent - full
  small = n > _SHIFTS
  m, n = np.where(small, 0, m), np.where(small | (m == 0), 0, n)
  return Multiplier(m.astype(np.int32), n.astype(np.int32))


def multiply_high(a: jax.Array, m: jax.Array) -> jax.Array:
  """Saturating rounding doubling high multiplication, `a m / 2^31`.

  Ties are rounded towards plus infinity; `-2^31 * -2^31` saturates.

  Args:
    a: int32.
    m: int32 that broadcasts to `a`.

  Returns:
    int32 of the shape of `a`.
  """
  negative = (a < 0) != (m < 0)
  high, low = _product(_magnitude(a), _magnitude(m))
  nudge = jnp.where(negative, jnp.uint32(2**30 - 1), jnp.uint32(2**30))
  high, low = _add(high, low, jnp.uint32(0), nudge)
  return _signed(high << 1 | low >> 31, negative)


def shift_right(x: jax.Array, e: jax.Array) -> jax.Array:
  """`x / 2^e` rounded, halves away from zero.

  Args:
    x: int32.
    e: int32 from 0 to 31 that broadcasts to `x`.

  Returns:
    int32 of the shape of `x`.
  """
  magnitude, e = _magnitude(x), jnp.asarray(e).astype(jnp.uint32)
  half = jnp.where(e > 0, _left(jnp.uint32(1), e - jnp.minimum(e, 1)), 0)
  return _signed(_right(magnitude + half, e), x < 0)


def scale_by(
  x: jax.Array, m: jax.Array, n: jax.Array, *, rounding: str = 'half_even'
) -> jax.Array:
  """`x M` for the constants of a `Multiplier`, rounded and saturated.

  Args:
    x: int32.
    m: int32 that broadcasts to `x`.
    n: int32 of m's shape. A negative one shifts left, for `M >= 1`.
    rounding: `half_even` and `half_away` round once; `jacob` as the paper's
      implementation does, twice.

  Returns:
    int32 of the shape of `x`, from `-(2^31 - 1)` to `2^31 - 1`.
  """
  if rounding == 'jacob':
    left, right = jnp.maximum(-n, 0), jnp.maximum(n, 0)
    return shift_right(multiply_high(_saturating_left(x, left), m), right)
  s = (n + 31).astype(jnp.uint32)
  high, low = _product(_magnitude(x), _magnitude(m))
  before = s - jnp.minimum(s, 1)
  one, some = jnp.uint32(1), s > 0
  above = jnp.where(before < 32, 0, _left(one, before - 32))
  below = jnp.where(some, _left(one, before), 0)
  high, low = _add(high, low, above.astype(jnp.uint32), below)
  short = s < 32
  rest = _left(high, 32 - jnp.minimum(s, 32)) | _right(low, s)
  result = jnp.where(short, rest, _right(high, s - jnp.minimum(s, 32)))
  if rounding == 'half_even':
    in_low = _left(one, jnp.minimum(s, 32)) - 1
    in_high = _left(one, s - jnp.minimum(s, 32)) - 1
    tie = some & ((low & in_low) == 0) & ((high & in_high) == 0)
    result = jnp.where(tie, result & ~one, result)
  large = short & (_right(high, s) != 0)
  result = jnp.where(large, jnp.uint32(INT32_MAX), result)
  return _signed(result, (x < 0) != (m < 0))


def requantize(
  acc: jax.Array,
  m: jax.Array,
  n: jax.Array,
  *,
  zero: int,
  low: int,
  high: int,
  rounding: str = 'half_even',
) -> jax.Array:
  """Codes of accumulators: `clip(zero + acc M, low, high)`.

  An activation such as ReLU or ReLU6 is nothing but the bounds: `low = zero`
  (Jacob et al. 2018, section 2.4).

  Args:
    acc: int32 accumulators, their bias added.
    m: int32, one or one a channel (see `quantize_multiplier`).
    n: int32 of m's shape.
    zero: the code of 0.
    low: the lowest code.
    high: the highest code.
    rounding: as in `scale_by`.

  Returns:
    int32 codes of the shape of `acc`.
  """
  offset = scale_by(acc, m, n, rounding=rounding)
  return jnp.clip(offset, low - zero, high - zero) + zero


def _magnitude(x) -> jax.Array:
  bits = jnp.asarray(x).astype(jnp.uint32)
  return jnp.where(x < 0, jnp.uint32(0) - bits, bits)


def _signed(magnitude, negative) -> jax.Array:
  value = jnp.minimum(magnitude, jnp.uint32(INT32_MAX)).astype(jnp.int32)
  return jnp.where(negative, -value, value)


def _product(a, b) -> tuple[jax.Array, jax.Array]:
  """Upper and lower 32 bits of a product of two uint32."""
  a_high, a_low = a >> 16, a & 0xFFFF
  b_high, b_low = b >> 16, b & 0xFFFF
  low, cross, other = a_low * b_low, a_low * b_high, a_high * b_low
  middle = (low >> 16) + (cross & 0xFFFF) + (other & 0xFFFF)
  high = a_high * b_high + (cross >> 16) + (other >> 16) + (middle >> 16)
  return high, middle << 16 | low & 0xFFFF


def _add(high, low, more_high, more_low) -> tuple[jax.Array, jax.Array]:
  total = low + more_low
  return high + more_high + (total < low).astype(jnp.uint32), total


def _left(x, s) -> jax.Array:
  """A shift that takes everything out from 32 on."""
  return jnp.where(s < 32, x << jnp.minimum(s, 31), 0).astype(jnp.uint32)


def _right(x, s) -> jax.Array:
  return jnp.where(s < 32, x >> jnp.minimum(s, 31), 0).astype(jnp.uint32)


def _saturating_left(x, s) -> jax.Array:
  limit = jnp.right_shift(jnp.int32(INT32_MAX), s)
  return jnp.left_shift(jnp.clip(x, -limit, limit), s)
