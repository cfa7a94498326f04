"""Codes packed to as few bits as the widest of them needs; no modelling."""

import numpy as np

from compress.encode.bits import pack_bits, unpack_bits
from compress.encode.codec import (
  Codec,
  Coded,
  cast,
  check_codes,
  check_count,
  integer,
  nothing,
  part,
)


def plain() -> Codec:
  """A codec that admits all codes, in 1 to 16 bits each or as they are."""
  return Codec('plain', _encode, _decode)


def _encode(codes: np.ndarray) -> Coded:
  codes = check_codes(codes)
  fields = {'dtype': codes.dtype.name}
  if not codes.size:
    return Coded({}, fields)
  low, high = int(codes.min()), int(codes.max())
  signed = low < 0
  bits = max(1, signed + max(high, -1 - low if signed else 0).bit_length())
  if bits > 16:
    kind = codes.dtype.newbyteorder('<')
    stream = codes.astype(kind).view(np.uint8)
    return Coded({'stream': stream}, fields | {'bits': 32})
  stream = np.ascontiguousarray(pack_bits(codes, bits)).view(np.uint8)
  return Coded({'stream': stream}, fields | {'bits': bits, 'signed': signed})


def _decode(coded: Coded, count: int) -> np.ndarray:
  dtype = check_count(coded, count)
  if not count:
    return nothing(coded, dtype)
  stream, bits = part(coded, 'stream'), integer(coded, 'bits', 1, 32)
  if bits > 16:
    if bits != 32 or dtype.itemsize != 4 or stream.size != 4 * count:
      raise ValueError(f'{stream.size} bytes are not {count} codes of 32 bits')
    return stream.view(dtype.newbyteorder('<')).astype(dtype)
  signed = coded.fields.get('signed')
  if not isinstance(signed, bool):
    raise ValueError(f'signed {signed!r}: right is true or false')
  return cast(unpack_bits(stream, bits, count, signed=signed), dtype)
