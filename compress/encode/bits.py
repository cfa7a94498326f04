"""Integers of 1 to 16 bits packed without gaps, and back; exact, vectorised."""

import numpy as np


def packed_size(count: int, bits: int) -> int:
  """Bytes that `count` codes of `bits` bits take."""
  return -(-count * bits // 8)


def pack_bits(codes: np.ndarray, bits: int) -> np.ndarray:
  """Packs codes into bytes, lowest bit first.

  Signed codes are stored in two's complement of `bits` bits.

  Args:
    codes: integers of any shape, read in C order; each fits `bits` bits,
      signed or unsigned.
    bits: 1 to 16.

  Returns:
    uint8 [ceil(size * bits / 8)].

  Raises:
    ValueError: `bits` is out of range, or a code does not fit.
  """
  _check_bits(bits)
  codes = np.asarray(codes).reshape(-1)
  if codes.size:
    low, high = int(codes.min()), int(codes.max())
    fits_signed = -(1 << bits - 1) <= low and high < 1 << bits - 1
    if not fits_signed and not (low >= 0 and high < 1 << bits):
      raise ValueError(f'codes in [{low}, {high}] do not fit {bits} bits')
  if bits in (8, 16):
    return codes.astype(f'<u{bits // 8}').view(np.uint8)
  words = codes.astype(np.int64).astype(np.uint16)
  planes = np.unpackbits(
    words.astype('<u2').view(np.uint8).reshape(-1, 2),
    axis=1,
    count=bits,
    bitorder='little',
  )
  return np.packbits(planes.reshape(-1), bitorder='little')


def unpack_bits(
  data: np.ndarray, bits: int, count: int, *, signed: bool
) -> np.ndarray:
  """Inverse of `pack_bits`.

  Args:
    data: uint8 [ceil(count * bits / 8)].
    bits: 1 to 16.
    count: number of codes.
    signed: whether codes are in two's complement.

  Returns:
    int16 or int8 (signed), uint16 or uint8 [count]: the narrower that holds
    `bits` bits.

  Raises:
    ValueError: `data` has not the length that `count` codes take.
  """
  _check_bits(bits)
  if data.size != packed_size(count, bits):
    raise ValueError(
      f'{data.size} bytes, but {count} codes of {bits} bits take '
      f'{packed_size(count, bits)}'
    )
  kind = ('i' if signed else 'u') + ('1' if bits <= 8 else '2')
  if bits in (8, 16):
    return np.ascontiguousarray(data).view(f'<{kind}')
  planes = np.unpackbits(data, count=count * bits, bitorder='little')
  rows = np.zeros((count, 16), np.uint8)
  rows[:, :bits] = planes.reshape(count, bits)
  words = np.packbits(rows, axis=1, bitorder='little').view('<u2')[:, 0]
  if signed:
    offset = 1 << bits - 1
    return ((words.astype(np.int32) ^ offset) - offset).astype(f'<{kind}')
  return words.astype(f'<{kind}')


def _check_bits(bits: int):
  if not 1 <= bits <= 16:
    raise ValueError(f'bits={bits}: 1 to 16 can be packed')
