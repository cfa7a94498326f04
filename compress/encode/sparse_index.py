"""Where the survivors of a sparse tensor stand, in three ways, and their codec.

* relative: distances from survivor to survivor in a fixed number of bits, with
  filler survivors of value 0 where a distance is too long (Deep Compression,
  Han et al. 2016, arXiv:1510.00149, section 2);
* bitmap: one bit a place;
* runs: lengths of the runs of zeros and of survivors in turns, zeros first.

Positions are int64, ascending, in [0, n).
"""

import numpy as np

from compress.encode import codec as codec_lib
from compress.encode.codec import Codec, Coded, cast, check_codes, integer
from compress.errors import InputError

_BITS = range(2, 17)


def relative_indices(positions: np.ndarray, *, bits: int) -> np.ndarray:
  """Distances less 1, with fillers.

  Args:
    positions: [k].
    bits: of an entry, 1 to 16. A distance above 2^bits takes fillers, entries
      of 2^bits - 1 that stand for a survivor of value 0.

  Returns:
    uint16 [k + fillers].
  """
  rest = _distances(positions) - 1
  fillers = rest >> bits
  entries = np.full(rest.size + int(fillers.sum()), (1 << bits) - 1, np.uint16)
  entries[np.cumsum(fillers + 1) - 1] = rest & ((1 << bits) - 1)
  return entries


def relative_positions(entries: np.ndarray) -> np.ndarray:
  """Positions of all entries, fillers among them: `cumsum(entry + 1) - 1`."""
  return np.cumsum(np.asarray(entries, np.int64) + 1) - 1


def filler_values(
  values: np.ndarray, positions: np.ndarray, *, bits: int
) -> np.ndarray:
  """Values of the survivors with a 0 for each filler.

  Args:
    values: [k].
    positions: [k].
    bits: as for `relative_indices`.

  Returns:
    [k + fillers], one for each entry.
  """
  fillers = (_distances(positions) - 1) >> bits
  places = np.cumsum(fillers + 1) - 1
  out = np.zeros(values.size + int(fillers.sum()), values.dtype)
  out[places] = values
  return out


def expected_fillers(density: float, *, bits: int) -> float:
  """Fillers for each survivor where survivors stand at random.

  Args:
    density: share of survivors, 0 to 1.
    bits: of an entry.

  Returns:
    `u / (1 - u)` with `u = (1 - density)^(2^bits)`.
  """
  gone = (1 - density) ** (1 << bits)
  return gone / (1 - gone)


def best_bits(positions: np.ndarray, *, value_bits: float = 0.0) -> int:
  """Bits of a relative entry that take the fewest in all, 2 to 16.

  Args:
    positions: [k].
    value_bits: what the value of an entry, or of a filler, takes besides.

  Returns:
    The bits.
  """
  rest = _distances(positions) - 1
  sizes = [
    (rest.size + int((rest >> bits).sum())) * (bits + value_bits)
    for bits in _BITS
  ]
  return _BITS[int(np.argmin(sizes))]


def bitmap(positions: np.ndarray, count: int) -> np.ndarray:
  """One bit a place, lowest first: uint8 [ceil(count / 8)]."""
  mask = np.zeros(count, np.uint8)
  mask[positions] = 1
  return np.packbits(mask, bitorder='little')


def bitmap_positions(data: np.ndarray, count: int) -> np.ndarray:
  """Inverse of `bitmap`; ValueError for another length, or bits behind it."""
  if data.size != -(-count // 8):
    raise ValueError(f'a bitmap of {data.size} bytes for {count} places')
  bits = np.unpackbits(data, bitorder='little')
  if bits[count:].any():
    raise ValueError(f'a bitmap with bits behind its {count} places')
  return np.flatnonzero(bits)


def run_lengths(positions: np.ndarray, count: int) -> np.ndarray:
  """Runs of zeros and of survivors in turns.

  Args:
    positions: [k].
    count: places.

  Returns:
    int64: first zeros (none, perhaps), then survivors, and so on; sums to
    `count`.
  """
  mask = np.zeros(count + 2, np.int8)
  mask[np.asarray(positions, np.int64) + 1] = 1
  edges = np.flatnonzero(np.diff(mask))
  return np.diff(edges, prepend=0, append=count)


def run_positions(runs: np.ndarray, count: int) -> np.ndarray:
  """Inverse of `run_lengths`; ValueError unless the runs sum to `count`."""
  runs = np.asarray(runs, np.int64)
  if (runs < 0).any() or (runs > count).any() or runs.sum() != count:
    raise ValueError(f'runs that do not sum to {count} places')
  survives = np.arange(runs.size) % 2 == 1
  return np.flatnonzero(np.repeat(survives, runs))


def sparse(inner: tuple[Codec, ...]) -> Codec:
  """A codec of what is not 0 and, by relative indices, of where it stands.

  Args:
    inner: codecs of which the smallest codes the indices, and the smallest
      the values; `decode` knows no others.

  Returns:
    The codec. It admits codes of which at most half survive.
  """
  known = {codec.name: codec for codec in inner}

  def encode(codes: np.ndarray) -> Coded:
    codes = check_codes(codes)
    fields = {'dtype': codes.dtype.name}
    if not codes.size:
      return Coded({}, fields)
    positions = np.flatnonzero(codes)
    if 2 * positions.size > codes.size:
      raise InputError(
        f'{positions.size} of {codes.size} codes are not 0: right is half'
      )
    kept = codes[positions]
    bits = best_bits(positions, value_bits=codec_lib.entropy(kept))
    entries = relative_indices(positions, bits=bits)
    streams = {
      'indices': entries,
      'values': filler_values(kept, positions, bits=bits),
    }
    parts, fields = {}, fields | {'bits': bits, 'entries': entries.size}
    for name, stream in streams.items():
      codec, coded = codec_lib.smallest(inner, stream)
      parts |= {f'{name}.{key}': part for key, part in coded.parts.items()}
      fields[name] = {'codec': codec.name, **coded.fields}
    return Coded(parts, fields)

  def decode(coded: Coded, count: int) -> np.ndarray:
    dtype = codec_lib.check_count(coded, count)
    if not count:
      return codec_lib.nothing(coded, dtype)
    # Each entry stands for a place of its own.
    size = integer(coded, 'entries', 0, count)
    bits = integer(coded, 'bits', _BITS[0], _BITS[-1])
    entries, values = (
      _decode_stream(known, coded, name, size) for name in _STREAMS
    )
    if entries.dtype != np.uint16 or (entries >> bits).any():
      raise ValueError(f'indices that are none of {bits} bits')
    positions = relative_positions(entries)
    if size and positions[-1] >= count:
      raise ValueError(f'an index beyond {count} codes')
    codes = np.zeros(count, dtype)
    codes[positions] = cast(values, dtype)
    return codes

  return Codec('sparse', encode, decode)


_STREAMS = 'indices', 'values'


def _decode_stream(known, coded: Coded, name: str, size: int) -> np.ndarray:
  fields = coded.fields.get(name)
  chosen = fields.get('codec') if isinstance(fields, dict) else None
  codec = known.get(chosen) if isinstance(chosen, str) else None
  if codec is None:
    raise ValueError(f'{name}: no codec that is known')
  parts = {
    key.removeprefix(f'{name}.'): part
    for key, part in coded.parts.items()
    if key.startswith(f'{name}.')
  }
  return codec.decode(Coded(parts, fields), size)


def _distances(positions: np.ndarray) -> np.ndarray:
  return np.diff(np.asarray(positions, np.int64), prepend=-1)
