"""Tables of a coder in few bytes: distinct symbols, each with a value.

Gaps between ascending symbols and steps between neighbouring values are small
where a histogram is smooth, and the context coder takes them from there.
"""

import numpy as np

from compress.encode.codec import histogram
from compress.encode.context_models import ContextModel, decode_row, encode_row
from compress.errors import InputError

MAX_SYMBOLS = 1 << 16
_MODEL = ContextModel((4, 7), flags=6, suffix=2, neighbours=False)
_INT32 = np.iinfo(np.int32)


def admitted_histogram(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """`codec.histogram`, if a table can hold it; InputError otherwise."""
  symbols, counts = histogram(codes)
  if symbols.size > MAX_SYMBOLS:
    raise InputError(
      f'{symbols.size} distinct codes: a table holds {MAX_SYMBOLS}'
    )
  if symbols.size and symbols[-1] > _INT32.max:
    raise InputError(f'code {symbols[-1]}: right is at most {_INT32.max}')
  return symbols, counts


def pack_table(symbols: np.ndarray, values: np.ndarray) -> np.ndarray:
  """A table as bytes.

  Args:
    symbols: int64 [k], ascending, from int32's range.
    values: int64 [k], 0 to 2^20.

  Returns:
    uint8 [bytes].
  """
  gaps = np.diff(symbols) - 1
  steps = np.diff(values, prepend=0)
  first = symbols[:1]
  # Gaps go beyond int32 where symbols lie at both of its ends.
  halves = np.stack([gaps >> 16, gaps & 0xFFFF])
  if not halves[0].any():
    halves = halves[1:]
  row = np.concatenate([[len(halves)], first, halves.reshape(-1), steps])
  return encode_row(row.astype(np.int32), model=_MODEL)


def unpack_table(data: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
  """Inverse of `pack_table`.

  Args:
    data: uint8 [bytes].
    size: symbols, at least 1.

  Returns:
    Symbols and values, int64 [size].

  Raises:
    ValueError: not the bytes of such a table.
  """
  if not 1 <= size <= MAX_SYMBOLS:
    raise ValueError(f'{size} symbols: right is 1 to {MAX_SYMBOLS}')
  wide = size - 1
  for halves in (1, 2):
    try:
      row = decode_row(data, 2 + halves * wide + size, model=_MODEL)
    except ValueError:
      continue
    if row[0] == halves:
      break
  else:
    raise ValueError(f'the table is none of {size} symbols')
  row = row.astype(np.int64)
  gaps = row[2 : 2 + halves * wide].reshape(halves, wide)
  if (gaps < 0).any() or (gaps >= 1 << 16).any():
    raise ValueError('a table with symbols that do not ascend')
  gaps = gaps[0] if halves == 1 else (gaps[0] << 16) + gaps[1]
  symbols = np.cumsum(np.concatenate([row[1:2], gaps + 1]))
  values = np.cumsum(row[-size:])
  if symbols[-1] > _INT32.max or (values < 0).any():
    raise ValueError('a table with symbols or values out of range')
  return symbols, values
