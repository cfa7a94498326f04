import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress import encode


@settings(deadline=None)
@given(
  st.integers(1, 16), st.booleans(), st.integers(0, 70), st.integers(0, 2**32)
)
def test_round_trip(bits, signed, count, seed):
  low = -(1 << bits - 1) if signed else 0
  codes = np.random.default_rng(seed).integers(low, low + (1 << bits), count)
  data = encode.pack_bits(codes, bits)
  assert data.dtype == np.uint8
  assert data.size == encode.packed_size(count, bits)
  out = encode.unpack_bits(data, bits, count, signed=signed)
  assert out.dtype.kind == ('i' if signed else 'u')
  np.testing.assert_array_equal(out, codes)


def test_layout_is_lowest_bit_first():
  np.testing.assert_array_equal(
    encode.pack_bits(np.array([1, 2, 7]), 3), [0b11010001, 0b1]
  )
  np.testing.assert_array_equal(encode.pack_bits(np.array([-1, 0]), 4), [0x0F])


@pytest.mark.parametrize('codes', [[8, -1], [16], [-9]])
def test_codes_that_do_not_fit(codes):
  with pytest.raises(ValueError, match='do not fit 4 bits'):
    encode.pack_bits(np.array(codes), 4)


def test_wrong_length():
  with pytest.raises(ValueError, match='5 codes of 6 bits take 4'):
    encode.unpack_bits(np.zeros(3, np.uint8), 6, 5, signed=False)
