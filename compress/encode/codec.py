"""What every entropy coder is, the yard-stick, and the choice of the smallest.

A codec turns a row of integers into a few byte strings and a few fields, and
back. Its `decode` trusts nothing: what it is given may come from a file that
somebody altered, so each length is checked before memory is taken, and
whatever cannot be right raises a ValueError.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from compress.errors import InputError

# What a decoder may give at most: that many codes, and bytes.
MAX_COUNT = 1 << 27
MAX_BYTES = 1 << 29
DTYPES = tuple(f'{kind}int{bits}' for kind in ('', 'u') for bits in (8, 16, 32))
_DENSE = 1 << 20


class Coded(NamedTuple):
  """Encoded integers: everything that decoding needs besides their count.

  Attributes:
    parts: name to uint8 [bytes].
    fields: what JSON can hold.
  """

  parts: dict[str, np.ndarray]
  fields: dict[str, Any]


class Codec(NamedTuple):
  """An entropy coder; stateless.

  Attributes:
    name: of the method; `decode` is the same for all codecs of a name,
      whatever they were made with.
    encode: `(codes int [n]) -> Coded`; raises an InputError for codes that it
      does not admit.
    decode: `(coded, count) -> codes [count]`, of the dtype that was encoded;
      raises a ValueError for whatever `encode` cannot have made.
  """

  name: str
  encode: Callable[[np.ndarray], Coded]
  decode: Callable[[Coded, int], np.ndarray]


def coded_nbytes(coded: Coded) -> int:
  """Bytes of the parts and of the fields as JSON."""
  fields = json.dumps(coded.fields, separators=(',', ':'))
  return sum(part.nbytes for part in coded.parts.values()) + len(fields)


def smallest(codecs: Sequence[Codec], codes: np.ndarray) -> tuple[Codec, Coded]:
  """The codec that takes the fewest bytes, fields included.

  Args:
    codecs: the first of equals is taken; those that do not admit the codes are
      passed over.
    codes: int [n].

  Returns:
    The codec, and the codes as it encodes them.

  Raises:
    InputError: no codec admits the codes.
  """
  found, refused = [], []
  for codec in codecs:
    try:
      found.append((codec, codec.encode(codes)))
    except InputError as error:
      refused.append(f'{codec.name}: {error}')
  if not found:
    raise InputError('no codec for these codes; ' + '; '.join(refused))
  return min(found, key=lambda pair: coded_nbytes(pair[1]))


def histogram(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Distinct codes, ascending, and how often each occurs; both int64."""
  codes = np.asarray(codes).reshape(-1)
  if not codes.size:
    return np.zeros(0, np.int64), np.zeros(0, np.int64)
  low, high = int(codes.min()), int(codes.max())
  if high - low >= _DENSE:
    symbols, counts = np.unique(codes, return_counts=True)
    return symbols.astype(np.int64), counts.astype(np.int64)
  counts = np.zeros(high - low + 1, np.int64)
  for block in _blocks(codes):
    shifted = np.subtract(block, low, dtype=np.int64)
    counts += np.bincount(shifted, minlength=counts.size)
  present = np.flatnonzero(counts)
  return present + low, counts[present]


def symbol_indices(codes: np.ndarray, symbols: np.ndarray) -> np.ndarray:
  """Place of each code in the ascending symbols, all of which are known.

  Args:
    codes: int [n].
    symbols: int64 [k], ascending, with every code among them.

  Returns:
    int32 [n].
  """
  if not codes.size:
    return np.zeros(0, np.int32)
  low = int(symbols[0])
  if int(symbols[-1]) - low >= _DENSE:
    return np.searchsorted(symbols, codes).astype(np.int32)
  table = np.zeros(int(symbols[-1]) - low + 1, np.int32)
  table[symbols - low] = np.arange(symbols.size)
  indices = np.empty(codes.size, np.int32)
  for start in range(0, codes.size, _DENSE):
    block = codes[start : start + _DENSE]
    indices[start : start + _DENSE] = table[
      np.subtract(block, low, dtype=np.int64)
    ]
  return indices


def _blocks(codes: np.ndarray):
  for start in range(0, codes.size, _DENSE):
    yield codes[start : start + _DENSE]


def entropy(codes: np.ndarray) -> float:
  """Zeroth-order entropy: bits a symbol that no static code goes below.

  Args:
    codes: integers of any shape.

  Returns:
    `-sum_k f_k log2 f_k` over the frequencies of the distinct codes; 0 where
    there are none.
  """
  counts = histogram(codes)[1]
  return counts_entropy(counts)


def counts_entropy(counts: np.ndarray) -> float:
  """`entropy` of counts that are all positive."""
  total = int(counts.sum())
  if not total:
    return 0.0
  return max(0.0, np.log2(total) - float(counts @ np.log2(counts)) / total)


def check_codes(codes: np.ndarray) -> np.ndarray:
  """Codes as a contiguous row, if a decoder could give them back.

  Args:
    codes: an array.

  Returns:
    The codes, [n].

  Raises:
    InputError: no integers of 8 to 32 bits in one row, or too many.
  """
  codes = np.asarray(codes)
  if codes.ndim != 1 or codes.dtype.name not in DTYPES:
    raise InputError(
      f'codes {codes.dtype.name}{list(codes.shape)}: right are integers of 8 '
      'to 32 bits in one row'
    )
  if codes.size > MAX_COUNT or codes.nbytes > MAX_BYTES:
    raise InputError(f'{codes.size} codes: at most {MAX_COUNT} in one tensor')
  return np.ascontiguousarray(codes)


def check_count(coded: Coded, count: int) -> np.dtype:
  """The dtype that is to be decoded, if so many of it may be.

  Args:
    coded: has a field `dtype`.
    count: codes asked for.

  Returns:
    The dtype.

  Raises:
    ValueError: another dtype than of `DTYPES`, no count, or one too large.
  """
  name = coded.fields.get('dtype')
  if name not in DTYPES:
    raise ValueError(f'dtype {name!r}: right is one of {", ".join(DTYPES)}')
  dtype = np.dtype(name)
  if not isinstance(count, int | np.integer) or not (
    0 <= count <= min(MAX_COUNT, MAX_BYTES // dtype.itemsize)
  ):
    raise ValueError(f'{count} codes: right is 0 to {MAX_COUNT}')
  return dtype


def integer(coded: Coded, name: str, low: int, high: int) -> int:
  """A field that is an integer in [low, high]; ValueError otherwise."""
  value = coded.fields.get(name)
  if type(value) is not int or not low <= value <= high:
    raise ValueError(f'{name} {value!r}: right is {low} to {high}')
  return value


def part(coded: Coded, name: str) -> np.ndarray:
  """A part that is uint8 [n]; ValueError otherwise."""
  data = coded.parts.get(name)
  if not isinstance(data, np.ndarray):
    raise ValueError(f'there is no part {name!r}')
  if data.dtype != np.uint8 or data.ndim != 1:
    raise ValueError(
      f'part {name!r} is {data.dtype.name}{list(data.shape)}: right is uint8 '
      'in one row'
    )
  return np.ascontiguousarray(data)


def cast(codes: np.ndarray, dtype: np.dtype) -> np.ndarray:
  """Codes in a dtype that must hold them; ValueError otherwise."""
  if codes.size:
    low, high = int(codes.min()), int(codes.max())
    limits = np.iinfo(dtype)
    if low < limits.min or high > limits.max:
      raise ValueError(f'codes in [{low}, {high}] are no {dtype.name}')
  return codes.astype(dtype, copy=False)


def nothing(coded: Coded, dtype: np.dtype) -> np.ndarray:
  """No codes; ValueError if there are parts to decode."""
  if coded.parts:
    raise ValueError(f'no codes, but parts {", ".join(coded.parts)}')
  return np.zeros(0, dtype)
