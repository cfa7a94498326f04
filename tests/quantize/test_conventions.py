"""Three notations, one grid."""

import jax.numpy as jnp
import numpy as np
import pytest

from compress.quantize import affine, conventions, ranges
from compress.quantize.spec import AffineSpec, QParams


def away_from_ties(x, scale):
  quotient = np.asarray(x, np.float64) / np.float64(scale)
  return np.abs(quotient - np.floor(quotient) - 0.5) > 1e-3


@pytest.mark.parametrize('bits', [4, 6, 8])
@pytest.mark.parametrize('ends', [(-1.0, 2.7), (-3.0, 0.0), (0.0, 5.1)])
def test_three_forms_agree(bits, ends):
  spec = AffineSpec(bits=bits, symmetric=False, bounds='full')
  q = ranges.qparams_from_range(*ends, spec)
  x = np.random.default_rng(bits).uniform(-5, 7, 4000).astype(np.float32)
  x = jnp.asarray(x[away_from_ties(x, q.scale)])
  codes = affine.quantize(x, q, spec)
  seed = conventions.to_seed(q)
  assert seed.zero_point == -q.zero_point
  np.testing.assert_array_equal(
    conventions.seed_quantize(x, seed, qmin=spec.qmin, qmax=spec.qmax), codes
  )
  zeroq = conventions.zeroq_params(
    jnp.float32(ends[0]), jnp.float32(ends[1]), bits=bits
  )
  assert int(zeroq.offset) == -int(q.zero_point)
  zeroq_codes = conventions.zeroq_quantize(x, zeroq, bits=bits)
  np.testing.assert_array_equal(zeroq_codes, codes)
  values = affine.dequantize(codes, q, spec)
  wide = codes.astype(jnp.int32)
  np.testing.assert_array_equal(conventions.seed_dequantize(wide, seed), values)
  np.testing.assert_allclose(
    conventions.zeroq_dequantize(zeroq_codes, zeroq), values, rtol=1e-6
  )


def test_bit_equal_on_powers_of_two():
  spec = AffineSpec(symmetric=False, bounds='full')
  q = QParams(jnp.float32(0.25), jnp.int32(-6))
  x = jnp.asarray(np.random.default_rng(0).normal(size=999), jnp.float32) * 20
  zeroq = conventions.to_zeroq(q)
  codes = affine.quantize(x, q, spec)
  got = conventions.zeroq_quantize(x, zeroq, bits=8)
  np.testing.assert_array_equal(got, codes)
  np.testing.assert_array_equal(
    conventions.zeroq_dequantize(got, zeroq),
    affine.fake_quantize(x, q, spec),
  )


def test_round_trips():
  q = QParams(jnp.float32(0.5), jnp.int32(3))
  for there, back in (
    (conventions.to_seed, conventions.from_seed),
    (conventions.to_zeroq, conventions.from_zeroq),
  ):
    got = back(there(q))
    assert got == q and got.zero_point.dtype == jnp.int32


def test_ties_differ_where_zeroq_rounds_after_an_odd_offset():
  spec = AffineSpec(symmetric=False, bounds='full')
  q = QParams(jnp.float32(1), jnp.int32(-1))
  x = jnp.array([0.5])
  assert affine.quantize(x, q, spec) == -1
  assert conventions.zeroq_quantize(x, conventions.to_zeroq(q), bits=8) == 0


@pytest.mark.parametrize('bits', [6, 8])
def test_quantface_weights(bits):
  """Per output channel, min-max, as the published formula computes it."""
  w = np.random.default_rng(3).normal(size=(3, 3, 4, 5)).astype(np.float32)
  lo, hi = w.min((0, 1, 2)), w.max((0, 1, 2))
  sigma = (2**bits - 1) / (hi - lo).astype(np.float64)
  z = np.round(sigma * lo) + 2 ** (bits - 1)
  half = 2 ** (bits - 1)
  codes = np.clip(np.round(sigma * w - z), -half, half - 1)
  spec = AffineSpec(
    bits=bits,
    symmetric=False,
    bounds='full',
    granularity='channel',
    gradient='identity',
  )
  q = ranges.tensor_qparams(jnp.asarray(w), spec)
  got = affine.fake_quantize(jnp.asarray(w), q, spec)
  np.testing.assert_allclose(got, (codes + z) / sigma, atol=1e-6)
