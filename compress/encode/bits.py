"""Integers of 1 to 16 bits packed without gaps, and back; exact, compiled."""

import numpy as np

from compress.encode.compiled import compiled


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
    uint8 [ceil(size * bits / 8)]; bits behind the last code are 0.

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
  data = np.zeros(packed_size(codes.size, bits), np.uint8)
  _pack(codes.astype(np.uint16), bits, data)
  return data


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
  if count < 0 or data.size != packed_size(count, bits):
    raise ValueError(
      f'{data.size} bytes, but {count} codes of {bits} bits take '
      f'{packed_size(count, bits)}'
    )
  kind = ('i' if signed else 'u') + ('1' if bits <= 8 else '2')
  data = np.ascontiguousarray(data)
  if bits in (8, 16):
    return data.view(f'<{kind}')
  words = np.empty(count, np.int16)
  _unpack(data.view(np.uint8), bits, signed, words)
  return words.astype(f'<{kind}')


@compiled
def _pack(codes, bits, data):
  held, waiting, place = np.int64(0), 0, 0
  mask = (1 << bits) - 1
  for code in codes:
    held |= (np.int64(code) & mask) << waiting
    waiting += bits
    while waiting >= 8:
      data[place] = held & 255
      place += 1
      held >>= 8
      waiting -= 8
  if waiting:
    data[place] = held


@compiled
def _unpack(data, bits, signed, codes):
  """`data` holds as many codes as there are."""
  held, waiting, place = np.int64(0), 0, 0
  mask, offset = (1 << bits) - 1, (1 << (bits - 1)) if signed else 0
  for index in range(codes.size):
    while waiting < bits:
      held |= np.int64(data[place]) << waiting
      place += 1
      waiting += 8
    codes[index] = ((held & mask) ^ offset) - offset
    held >>= bits
    waiting -= bits


def _check_bits(bits: int):
  if not 1 <= bits <= 16:
    raise ValueError(f'bits={bits}: 1 to 16 can be packed')
