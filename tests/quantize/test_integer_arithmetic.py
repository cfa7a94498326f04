"""Fixed-point multiplication against Python's integers of any size."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress.errors import InputError
from compress.quantize import integer_arithmetic as arithmetic

multiply_high = jax.jit(arithmetic.multiply_high)
shift_right = jax.jit(arithmetic.shift_right)
scale_by = jax.jit(arithmetic.scale_by, static_argnames='rounding')
requantize = jax.jit(
  arithmetic.requantize, static_argnames=('zero', 'low', 'high', 'rounding')
)
EDGES = (0, 1, -1, 2, 3, -3, 2**30, -(2**30), 2**31 - 1, 1 - 2**31, -(2**31))


@pytest.mark.parametrize(
  ('value', 'm', 'n'),
  [
    (0.02 * 0.005 / 0.1, 1099511628, 9),
    ((1 / 128) * (1 / 255) / 0.05, 1347440720, 10),
    (0.0117 * 0.0039 / 0.0235, 2134924067, 9),
    (0.5, 1073741824, 0),
    (0.25, 1073741824, 1),
    (0.75, 1610612736, 0),
    (0.3, 1288490189, 1),
    (0.0072474, 1992150143, 7),
    (0.9999999999, 1073741824, -1),
    (-0.75, -1610612736, 0),
    (3.0, 1610612736, -2),
    (0.0, 0, 0),
    (2.0**-40, 0, 0),
  ],
)
def test_multipliers(value, m, n):
  found = arithmetic.quantize_multiplier(value)
  assert (int(found.m), int(found.n)) == (m, n)


def test_multipliers_are_exact_to_31_bits():
  values = np.random.default_rng(0).uniform(1e-6, 4, 1000)
  m, n = arithmetic.quantize_multiplier(values)
  error = np.abs(m * 2.0 ** (-31.0 - n) / values - 1)
  assert error.max() <= 2.0**-31


@pytest.mark.parametrize('value', [2.0**31, np.inf, np.nan])
def test_multipliers_that_do_not_fit(value):
  with pytest.raises(InputError, match='magnitude'):
    arithmetic.quantize_multiplier([1.0, value])


@pytest.mark.parametrize(
  ('a', 'm', 'out'),
  [
    (3, 2**30, 2),
    (-3, 2**30, -1),
    (1, 2**30, 1),
    (-1, 2**30, 0),
    (-(2**31), -(2**31), 2**31 - 1),
  ],
)
def test_high_multiplication(a, m, out):
  assert int(multiply_high(jnp.int32(a), jnp.int32(m))) == out


def pairs():
  rng = np.random.default_rng(1)
  a = rng.integers(-(2**31), 2**31, 20_000)
  m = rng.integers(-(2**31), 2**31, 20_000)
  edges = np.array([(x, y) for x in EDGES for y in EDGES])
  return np.concatenate([a, edges[:, 0]]), np.concatenate([m, edges[:, 1]])


def test_high_multiplication_is_that_of_whole_numbers():
  a, m = pairs()
  out = multiply_high(jnp.asarray(a, jnp.int32), jnp.asarray(m, jnp.int32))

  def reference(x, y):
    product = int(x) * int(y)
    total = product + (2**30 if product >= 0 else 1 - 2**30)
    whole = abs(total) // 2**31 * (1 if total >= 0 else -1)
    return min(whole, 2**31 - 1)

  np.testing.assert_array_equal(
    out, [reference(x, y) for x, y in zip(a, m, strict=True)]
  )


@pytest.mark.parametrize(
  ('x', 'e', 'out'),
  [
    (3, 1, 2),
    (-3, 1, -2),
    (2, 2, 1),
    (-2, 2, -1),
    (6, 2, 2),
    (-6, 2, -2),
    (7, 0, 7),
    (-(2**31), 31, -1),
    (2**31 - 1, 31, 1),
  ],
)
def test_right_shift(x, e, out):
  assert int(shift_right(jnp.int32(x), jnp.int32(e))) == out


@pytest.mark.parametrize('rounding', ['half_even', 'half_away'])
def test_scaling_rounds_the_product_once(rounding):
  a, m = pairs()
  m = np.clip(m, 1 - 2**31, None)
  n = np.random.default_rng(2).integers(-31, 32, a.size)
  out = jax.jit(lambda *x: scale_by(*x, rounding=rounding))(
    *(jnp.asarray(v, jnp.int32) for v in (a, m, n))
  )

  def reference(x, y, shift):
    exact = abs(Fraction(int(x) * int(y)) / Fraction(2) ** (31 + int(shift)))
    whole = exact.numerator // exact.denominator
    rest = exact - whole
    half = Fraction(1, 2)
    if rest > half or (
      rest == half and (rounding == 'half_away' or whole % 2 == 1)
    ):
      whole += 1
    sign = -1 if (x < 0) != (y < 0) else 1
    return sign * min(whole, 2**31 - 1)

  np.testing.assert_array_equal(
    out, [reference(*v) for v in zip(a, m, n, strict=True)]
  )


@pytest.mark.parametrize('rounding', arithmetic.ROUNDINGS)
def test_requantization(rounding):
  m, n = arithmetic.quantize_multiplier(0.02 * 0.005 / 0.1)
  acc = jnp.asarray([499, 501, 12345, -501, -12345, 10**6, -(10**6)], jnp.int32)
  out = requantize(
    acc,
    jnp.asarray(m),
    jnp.asarray(n),
    zero=0,
    low=-2000,
    high=2000,
    rounding=rounding,
  )
  np.testing.assert_array_equal(out, [0, 1, 12, -1, -12, 1000, -1000])


def test_requantization_rounds_ties_as_the_paper_does():
  m, n = arithmetic.quantize_multiplier(0.001)
  acc = jnp.asarray([499, 500, -500], jnp.int32)
  out = requantize(
    acc,
    jnp.asarray(m),
    jnp.asarray(n),
    zero=0,
    low=-99,
    high=99,
    rounding='jacob',
  )
  np.testing.assert_array_equal(out, [0, 1, -1])


def test_two_roundings_are_not_one():
  quarter = [jnp.asarray(v) for v in arithmetic.quantize_multiplier(0.25)]
  five = jnp.int32(5)
  assert int(scale_by(five, *quarter, rounding='jacob')) == 2
  assert int(scale_by(five, *quarter, rounding='half_even')) == 1


def test_multipliers_above_one_saturate():
  m, n = (jnp.asarray(v) for v in arithmetic.quantize_multiplier(3.0))
  x = jnp.asarray([5, -7, 2**30, -(2**30)], jnp.int32)
  for rounding in arithmetic.ROUNDINGS:
    out = scale_by(x, m, n, rounding=rounding)
    np.testing.assert_array_equal(out[:2], [15, -21])
    assert int(out[2]) > 2**30 and int(out[3]) < -(2**30)
  once = scale_by(x, m, n, rounding='half_even')
  np.testing.assert_array_equal(once[2:], [2**31 - 1, 1 - 2**31])
