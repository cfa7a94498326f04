"""Asymmetric numeral systems over the whole histogram, or over what was seen.

Duda et al. 2015, "The use of asymmetric numeral systems as an accurate
replacement for Huffman coding"; the coder is that of the library constriction
(64 bits of state, words of 32, probabilities of 24). Ours are the models:

* static: counts of the symbols, rounded to as many leading bits as pay, stand
  in a table; decoding is exact for any rounding, as both sides use the table.
* adaptive: no table. Blocks grow from 64 to 4096 codes, and each is coded with
  the counts of those before it, old ones fading.

A state that is known begins each stream, 4 bytes of it. Decoding must end
there, so that a stream which was cut or altered is found out.
"""

import math

import constriction
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
from compress.encode.tables import (
  MAX_SYMBOLS,
  admitted_histogram,
  pack_table,
  unpack_table,
)
from compress.errors import InputError

_INT32 = np.iinfo(np.int32)
_FIRST = np.array([0x636F6D70, 1], np.uint32)
_BLOCK = 1 << 18
_LEADING = range(2, 13)
_MAX_RANGE = 1 << 12
_GAIN, _FADE = 32, 1 << 21


def ans() -> Codec:
  """A codec with a static model: within a table of the entropy.

  Admits at most 65536 distinct codes that int32 holds.
  """
  return Codec('ans', _encode_static, _decode_static)


def adaptive_ans() -> Codec:
  """A codec that learns the histogram as it goes: no table, slower.

  Admits codes that span less than 4096.
  """
  return Codec('adaptive_ans', _encode_adaptive, _decode_adaptive)


def _encode_static(codes: np.ndarray) -> Coded:
  codes = check_codes(codes)
  symbols, counts = admitted_histogram(codes)
  fields = {'dtype': codes.dtype.name, 'symbols': symbols.size}
  if not codes.size:
    return Coded({}, fields)
  if symbols.size == 1:
    table = pack_table(symbols, np.zeros(1, np.int64))
    return Coded({'table': table}, fields)
  leading, table, weights = _best_table(symbols, counts)
  coder = constriction.stream.stack.AnsCoder(_FIRST)
  model = _model(weights)
  indices = symbol_indices(codes, symbols)
  for start in reversed(range(0, codes.size, _BLOCK)):
    coder.encode_reverse(indices[start : start + _BLOCK], model)
  fields['leading'] = leading
  return Coded({'table': table, 'stream': _stream(coder)}, fields)


def _decode_static(coded: Coded, count: int) -> np.ndarray:
  dtype = check_count(coded, count)
  size = integer(coded, 'symbols', 0, MAX_SYMBOLS)
  if (size == 0) != (count == 0):
    raise ValueError(f'{count} codes of {size} symbols')
  if not count:
    return nothing(coded, dtype)
  symbols, values = unpack_table(part(coded, 'table'), size)
  symbols = cast(symbols, dtype)
  if size == 1:
    return np.full(count, symbols[0])
  leading = integer(coded, 'leading', _LEADING[0], _LEADING[-1])
  if (values >= 29 << (leading - 1)).any() or not values.all():
    raise ValueError('the table has counts that none can be')
  weights = _widened(values, leading)
  words = _words(part(coded, 'stream'))
  # The coder's probabilities are off by less than that, and so are its states.
  likeliest = weights.max() / weights.sum() + size * 2.0**-23
  bits = -0.99 * math.log2(min(likeliest, 1 - 2.0**-24))
  if count * bits > 32 * words.size:
    raise ValueError(f'{words.size} words cannot hold {count} codes')
  coder = constriction.stream.stack.AnsCoder(words)
  model, codes = _model(weights), np.empty(count, dtype)
  for start in range(0, count, _BLOCK):
    block = codes[start : start + _BLOCK]
    block[:] = symbols[coder.decode(model, block.size)]
    _check_rest(coder)
  _check_end(coder)
  return codes


def _encode_adaptive(codes: np.ndarray) -> Coded:
  codes = check_codes(codes)
  fields = {'dtype': codes.dtype.name}
  if not codes.size:
    return Coded({}, fields)
  low, span = int(codes.min()), int(codes.max()) - int(codes.min()) + 1
  if span > _MAX_RANGE or low > _INT32.max:
    raise InputError(
      f'codes that span {span}: the adaptive coder takes {_MAX_RANGE}'
    )
  fields |= {'low': low, 'span': span}
  if span == 1:
    return Coded({}, fields)
  indices = (codes.astype(np.int64) - low).astype(np.int32)
  models, counts = [], _Counts(span)
  for start, stop in _block_edges(codes.size):
    models.append((start, stop, counts.model()))
    counts.take(indices[start:stop])
  coder = constriction.stream.stack.AnsCoder(_FIRST)
  for start, stop, model in reversed(models):
    coder.encode_reverse(indices[start:stop], model)
  return Coded({'stream': _stream(coder)}, fields)


def _decode_adaptive(coded: Coded, count: int) -> np.ndarray:
  dtype = check_count(coded, count)
  if not count:
    return nothing(coded, dtype)
  span = integer(coded, 'span', 1, _MAX_RANGE)
  low = integer(coded, 'low', _INT32.min, _INT32.max)
  cast(np.array([low, low + span - 1]), dtype)
  if span == 1:
    return np.full(count, low, dtype)
  words = _words(part(coded, 'stream'))
  # No symbol is ever likelier than beside all the others once.
  bits = -0.99 * math.log2(1 - (span - 1) / (2 * _FADE))
  if count * bits > 32 * words.size:
    raise ValueError(f'{words.size} words cannot hold {count} codes')
  coder = constriction.stream.stack.AnsCoder(words)
  codes, counts = np.empty(count, dtype), _Counts(span)
  for start, stop in _block_edges(count):
    indices = coder.decode(counts.model(), stop - start)
    _check_rest(coder)
    counts.take(indices)
    codes[start:stop] = indices.astype(np.int64) + low
  _check_end(coder)
  return codes


class _Counts:
  """Counts of the codes seen, each once to begin with; old ones fade."""

  def __init__(self, span: int):
    self._seen = np.zeros(span, np.int64)

  def model(self):
    return _model(self._seen + 1)

  def take(self, indices: np.ndarray):
    self._seen += _GAIN * np.bincount(indices, minlength=self._seen.size)
    if self._seen.sum() > _FADE:
      self._seen -= self._seen >> 1


def _block_edges(count: int):
  start = 0
  while start < count:
    stop = min(count, start + min(max(start // 4, 64), 4096))
    yield start, stop
    start = stop


def _best_table(symbols, counts):
  """Leading bits, table and weights of the fewest bytes, stream included."""
  found = []
  for leading in _LEADING:
    values = _narrowed(counts, leading)
    weights = _widened(values, leading)
    table = pack_table(symbols, values)
    bits = np.log2(weights.sum()) * counts.sum() - counts @ np.log2(weights)
    found.append((bits + 8 * table.size, leading, table, weights))
  return min(found, key=lambda each: each[:2])[1:]


def _narrowed(counts: np.ndarray, leading: int) -> np.ndarray:
  """Counts to their leading bits and how many follow, as one number.

  Ascends with the counts without gaps; those below 2^leading stay as they are.
  """
  lengths = np.floor(np.log2(counts)).astype(np.int64) + 1
  shifts = np.maximum(lengths - leading, 0)
  halves = (1 << shifts) >> 1
  return (shifts << (leading - 1)) + ((counts + halves) >> shifts)


def _widened(values: np.ndarray, leading: int) -> np.ndarray:
  """The count in the middle of those that `_narrowed` gives a value."""
  shifts = np.maximum((values >> (leading - 1)) - 1, 0)
  return (values - (shifts << (leading - 1))) << shifts


def _model(weights: np.ndarray):
  return constriction.stream.model.Categorical(
    weights.astype(np.float64), perfect=False
  )


def _stream(coder) -> np.ndarray:
  return coder.get_compressed().astype('<u4').view(np.uint8)


def _words(stream: np.ndarray) -> np.ndarray:
  if stream.size % 4 or stream.size < 4:
    raise ValueError(f'a stream of {stream.size} bytes: right are words of 4')
  words = stream.view('<u4').astype(np.uint32)
  if not words[-1]:
    raise ValueError('a stream that ends in an empty word')
  return words


def _check_rest(coder):
  # What is above the first state takes its two words.
  if coder.num_words() < _FIRST.size:
    raise ValueError('a stream that was cut, or altered')


def _check_end(coder):
  if not np.array_equal(coder.get_compressed(), _FIRST):
    raise ValueError('a stream that was cut, or altered')
