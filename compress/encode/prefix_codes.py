"""Canonical Huffman codes of at most 24 bits, with a table decoder.

Huffman 1952; lengths by package-merge (Larmore and Hirschberg 1990), the
optimum under a longest length, with ties by symbol. Codes are canonical, by
(length, symbol), so that lengths alone are stored.
"""

import numpy as np

from compress.encode.codec import (
  Codec,
  Coded,
  cast,
  check_codes,
  check_count,
  integer,
  nothing,
  part,
  symbol_indices,
)
from compress.encode.compiled import compiled
from compress.encode.tables import (
  MAX_SYMBOLS,
  admitted_histogram,
  pack_table,
  unpack_table,
)

MAX_LENGTH = 24
_TABLE = 12
_BLOCK = 1 << 18


def huffman() -> Codec:
  """A codec of a whole number of bits a code: at least one, unless constant.

  Admits at most 65536 distinct codes that int32 holds.
  """
  return Codec('huffman', _encode, _decode)


def code_lengths(
  counts: np.ndarray, *, longest: int = MAX_LENGTH
) -> np.ndarray:
  """Bits of each symbol's code, so that the whole takes the fewest.

  Args:
    counts: int [k], positive.
    longest: bits of a code, at most; k may be 2^longest.

  Returns:
    int64 [k]; 0 where there is but one symbol.

  Raises:
    ValueError: more symbols than codes of that length.
  """
  counts = np.asarray(counts, np.int64)
  if counts.size > 1 << longest:
    raise ValueError(f'{counts.size} symbols have no codes of {longest} bits')
  lengths = np.zeros(counts.size, np.int64)
  if counts.size < 2:
    return lengths
  order = np.argsort(counts, kind='stable')
  leaves = counts[order]
  merged, is_leaf = leaves, [np.ones(leaves.size, bool)]
  for _ in range(longest - 1):
    pairs = merged[: merged.size // 2 * 2].reshape(-1, 2).sum(1)
    both = np.concatenate([leaves, pairs])
    place = np.argsort(both, kind='stable')
    merged = both[place]
    is_leaf.append(place < leaves.size)
  taken = 2 * leaves.size - 2
  for level in reversed(is_leaf):
    found = int(level[:taken].sum())
    lengths[order[:found]] += 1
    taken = 2 * (taken - found)
  return lengths


def canonical_codes(lengths: np.ndarray) -> np.ndarray:
  """Codes of a complete prefix code, by (length, symbol).

  Args:
    lengths: int64 [k], each 1 to `MAX_LENGTH`.

  Returns:
    int64 [k], the code of each symbol in its lowest bits.

  Raises:
    ValueError: the lengths are of no complete code (Kraft's sum is not 1).
  """
  order = np.argsort(lengths, kind='stable')
  if (
    lengths.min() < 1
    or lengths.max() > MAX_LENGTH
    or (1 << (MAX_LENGTH - lengths)).sum() != 1 << MAX_LENGTH
  ):
    raise ValueError('the lengths are of no complete code')
  spans = 1 << (MAX_LENGTH - lengths[order])
  codes = np.zeros(lengths.size, np.int64)
  codes[order] = (np.cumsum(spans) - spans) >> (MAX_LENGTH - lengths[order])
  return codes


def _encode(codes: np.ndarray) -> Coded:
  codes = check_codes(codes)
  symbols, counts = admitted_histogram(codes)
  fields = {'dtype': codes.dtype.name, 'symbols': symbols.size}
  if not codes.size:
    return Coded({}, fields)
  lengths = code_lengths(counts)
  table = pack_table(symbols, lengths)
  if symbols.size == 1:
    return Coded({'table': table}, fields)
  stream = np.empty(-(-int(counts @ lengths) // 8), np.uint8)
  indices = symbol_indices(codes, symbols)
  _write(indices, canonical_codes(lengths), lengths, stream)
  return Coded({'table': table, 'stream': stream}, fields)


def _decode(coded: Coded, count: int) -> np.ndarray:
  dtype = check_count(coded, count)
  size = integer(coded, 'symbols', 0, MAX_SYMBOLS)
  if (size == 0) != (count == 0):
    raise ValueError(f'{count} codes of {size} symbols')
  if not count:
    return nothing(coded, dtype)
  symbols, lengths = unpack_table(part(coded, 'table'), size)
  symbols = cast(symbols, dtype)
  if size == 1:
    return np.full(count, symbols[0])
  codes = canonical_codes(lengths)
  stream = part(coded, 'stream')
  if count > 8 * stream.size:
    raise ValueError(f'{stream.size} bytes cannot hold {count} codes')
  order = np.argsort(lengths, kind='stable').astype(np.int32)
  starts = codes[order] << (MAX_LENGTH - lengths[order])
  edges = np.searchsorted(lengths[order], np.arange(MAX_LENGTH + 2))
  # Where each length begins, as a code of the longest length and as a rank.
  limits = np.append(starts, 1 << MAX_LENGTH)[edges]
  heads = np.arange(1 << _TABLE, dtype=np.int64) << (MAX_LENGTH - _TABLE)
  ranks = np.searchsorted(starts, heads, side='right') - 1
  short = lengths[order][ranks]
  short[short > _TABLE] = 0
  table = np.stack([ranks, short], axis=1).astype(np.int32)
  found = np.empty(count, np.int32)
  used = _read(stream, found, table, limits, edges, int(lengths.max()))
  padding = 8 * stream.size - used
  if not 0 <= padding < 8 or stream[-1] & ((1 << padding) - 1):
    raise ValueError(f'{stream.size} bytes are no encoding of {count} codes')
  out, ordered = np.empty(count, dtype), symbols[order]
  for start in range(0, count, _BLOCK):
    out[start : start + _BLOCK] = ordered[found[start : start + _BLOCK]]
  return out


@compiled
def _write(indices, codes, lengths, stream):
  held, waiting, place = np.int64(0), 0, 0
  for index in indices:
    held = (held << lengths[index]) | codes[index]
    waiting += lengths[index]
    while waiting >= 8:
      waiting -= 8
      stream[place] = (held >> waiting) & 255
      place += 1
    held &= 255
  if waiting:
    stream[place] = (held << (8 - waiting)) & 255


@compiled
def _read(stream, found, table, limits, edges, longest):
  """Ranks of the codes; returns the bits used, more than there are if cut."""
  held, waiting, place = np.int64(0), 0, 0
  for index in range(found.size):
    while waiting < MAX_LENGTH:
      held <<= 8
      if place < stream.size:
        held |= np.int64(stream[place])
      place += 1
      waiting += 8
    head = (held >> (waiting - MAX_LENGTH)) & ((1 << MAX_LENGTH) - 1)
    rank = table[head >> (MAX_LENGTH - _TABLE), 0]
    length = table[head >> (MAX_LENGTH - _TABLE), 1]
    if length == 0:
      length = _TABLE + 1
      while length < longest and head >= limits[length + 1]:
        length += 1
      rank = edges[length] + ((head - limits[length]) >> (MAX_LENGTH - length))
    found[index] = rank
    waiting -= length
    held &= (1 << waiting) - 1
    if 8 * place - waiting > 8 * stream.size:
      break
  return 8 * place - waiting
