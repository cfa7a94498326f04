"""Context-adaptive binary arithmetic coding, in the manner of DeepCABAC.

Wiedemann et al. 2020, arXiv:1907.11900, section III, written anew from its
description. What differs, in `ContextModel` as it stands by default:

* Magnitudes of the neighbours choose the models: of the codes before, and of
  those above in the same column. A Flax kernel has its output channels in
  columns, each with a spread of its own.
* Estimates begin as plain means and turn into running ones once they have seen
  enough: a new model is right sooner and an old one steadier.
* Four greater-than flags and not ten, and models for the first two bits behind
  the Exp-Golomb prefix, so that large codes take fewer decisions.

The coder is a generic byte-wise range coder. Nothing of the reference software
or of ISO/IEC 15938-17 is used; both come without a patent grant.
"""

import dataclasses

import numpy as np

from compress.encode import context_loops as loops
from compress.encode.codec import (
  Codec,
  Coded,
  cast,
  check_codes,
  check_count,
  histogram,
  integer,
  nothing,
  part,
)
from compress.errors import InputError

_INT32 = np.iinfo(np.int32)
_MAX_FLAGS, _MAX_SUFFIX, _MAX_RATE = 32, 4, 12
# A decision takes at least that many bits.
_LEAST_BITS = 3.5e-4
# Longer rows are none.
MAX_ROW = 1 << 20
_TRIAL = 1 << 15, 1 << 18
_FIELDS = 'flags', 'suffix', 'neighbours', 'warm'


def _within(value, low: int, high: int) -> bool:
  return type(value) is int and low <= value <= high


@dataclasses.dataclass(frozen=True)
class ContextModel:
  """How the context coder models its decisions.

  Attributes:
    rates: the fast and the slow estimate move by 2^-rate of what they are
      wrong by, 1 to 12.
    flags: greater-than flags before the Exp-Golomb code, 0 to 32.
    suffix: bits behind the Exp-Golomb prefix that have models, 0 to 4.
    neighbours: whether magnitudes around a code choose its models.
    warm: whether estimates begin as means (with 22 bits and not 16).

  Raises:
    InputError: a field outside of what is said above.
  """

  rates: tuple[int, int] = (7, 10)
  flags: int = 4
  suffix: int = 2
  neighbours: bool = True
  warm: bool = True

  def __post_init__(self):
    right = (
      isinstance(self.rates, tuple)
      and len(self.rates) == 2
      and all(_within(rate, 1, _MAX_RATE) for rate in self.rates)
      and _within(self.flags, 0, _MAX_FLAGS)
      and _within(self.suffix, 0, _MAX_SUFFIX)
      and isinstance(self.neighbours, bool)
      and isinstance(self.warm, bool)
    )
    if not right:
      raise InputError(
        f'{self}: right are two rates of 1 to {_MAX_RATE}, flags of 0 to '
        f'{_MAX_FLAGS} and a suffix of 0 to {_MAX_SUFFIX}'
      )


# What the paper describes: ten flags, contexts from the sign to the left.
PAPER = ContextModel((5, 8), flags=10, suffix=0, neighbours=False, warm=False)
MODELS = (
  ContextModel(neighbours=False),
  ContextModel(),
  ContextModel((5, 8)),
)


def encode_row(
  codes: np.ndarray,
  *,
  model: ContextModel,
  row_length: int | None = None,
  offset: int = 0,
) -> np.ndarray:
  """Encodes integers under one model.

  Args:
    codes: int32 [n].
    model: of the decisions.
    row_length: codes in a row, up to `MAX_ROW`; 0 or None for a single row.
    offset: the code that becomes 0.

  Returns:
    uint8 [bytes].
  """
  arguments = start(model, codes.size, row_length)
  state = np.array([0, 0xFFFFFFFF, 1, 0], np.int64)
  out = np.zeros(codes.size // 2 + 1024, np.uint8)
  done = 0
  while True:
    done = loops.encode_codes(codes, done, state, out, offset, *arguments)
    if done == codes.size:
      return _finish(out, *state[[0, 2]].tolist())
    out = np.concatenate([out, np.empty_like(out)])


def _finish(out: np.ndarray, low: int, place: int) -> np.ndarray:
  """The stream with what is left in the interval's low end."""
  if low >> 32:
    back = place - 1
    while out[back] == 255:
      out[back] = 0
      back -= 1
    out[back] += 1
  rest = (low & 0xFFFFFFFF).to_bytes(4, 'big')
  return np.concatenate([out[1:place], np.frombuffer(rest, np.uint8)])


def decode_row(
  data: np.ndarray,
  count: int,
  *,
  model: ContextModel,
  row_length: int | None = None,
  offset: int = 0,
) -> np.ndarray:
  """Inverse of `encode_row`.

  Args:
    data: uint8 [bytes].
    count: codes asked for; the caller sees to it that memory is there.
    model: as it was encoded with.
    row_length: as it was encoded with.
    offset: as it was encoded with.

  Returns:
    int32 [count].

  Raises:
    ValueError: the data are no encoding of so many codes.
  """
  if count * _LEAST_BITS > 8 * (data.size + 8):
    raise ValueError(f'{data.size} bytes cannot hold {count} codes')
  codes = np.empty(count, np.int32)
  arguments = start(model, count, row_length)
  used = loops.decode_codes(data, codes, offset, *arguments)
  if used != data.size:
    raise ValueError(f'{data.size} bytes are no encoding of {count} codes')
  return codes


def start(model: ContextModel, count: int, row_length: int | None):
  """What the loops begin with: layout, models, memory, fast and slow rates."""
  scale = 22 if model.warm else 16
  columns = row_length if row_length and row_length <= MAX_ROW else 0
  neighbours = 0 if not model.neighbours else 1 if columns else 2
  layout = columns or count, neighbours, model.flags, model.suffix, scale
  classes = loops.CLASSES if model.neighbours else 1
  models = np.zeros((classes * loops.context_count(layout), 3), np.int32)
  models[:, :2] = 1 << (scale - 1)
  memory = np.zeros(2 + columns * model.neighbours, np.int32)
  seen = np.arange(loops.STEPS)
  moves = [np.full(loops.STEPS, 65536 >> rate) for rate in model.rates]
  if model.warm:
    mean = (131072 // (2 * seen + 3)).astype(np.int64)
    moves = [np.maximum(move, mean) for move in moves]
  return layout, models, memory, *moves


def context_coder(
  *, row_length: int | None = None, models: tuple[ContextModel, ...] = MODELS
) -> Codec:
  """A codec that adapts to what it has coded, and to where.

  Args:
    row_length: codes in a row, for what is above a code: the last axis of a
      kernel. None where there are no rows.
    models: each is tried on the first part of the codes, and the best is kept.

  Returns:
    The codec. It admits what int32 holds.
  """

  def encode(codes: np.ndarray) -> Coded:
    codes = check_codes(codes)
    fields = {'dtype': codes.dtype.name}
    if not codes.size:
      return Coded({}, fields)
    if int(codes.max()) > _INT32.max:
      raise InputError(f'code {codes.max()}: right is at most {_INT32.max}')
    symbols, counts = histogram(codes)
    offset = int(symbols[counts.argmax()])
    wide = codes.astype(np.int32, copy=False)
    found = row_length or 0
    if found >= min(codes.size, MAX_ROW + 1):
      found = 0
    rows = dict.fromkeys((found, 0))
    # Rows tell nothing where neighbours are not asked for.
    trials = [(m, r) for m in models for r in rows if m.neighbours]
    trials += [(m, found) for m in models if not m.neighbours]
    model, row = trials[0]
    if len(trials) > 1:
      first = wide[: min(max(_TRIAL[0], codes.size // 8), _TRIAL[1])]
      sizes = [
        encode_row(first, model=m, row_length=r, offset=offset).size
        for m, r in trials
      ]
      model, row = trials[int(np.argmin(sizes))]
    shared = {'row_length': row, 'offset': offset}
    stream = encode_row(wide, model=model, **shared)
    return Coded({'stream': stream}, fields | shared | _described(model))

  return Codec('context', encode, _decode)


def _described(model: ContextModel) -> dict:
  fields = {name: getattr(model, name) for name in _FIELDS}
  return {'rates': list(model.rates)} | fields


def _decode(coded: Coded, count: int) -> np.ndarray:
  dtype = check_count(coded, count)
  if not count:
    return nothing(coded, dtype)
  rates = coded.fields.get('rates')
  model = ContextModel(
    tuple(rates) if isinstance(rates, list) else rates,
    **{name: coded.fields.get(name) for name in _FIELDS},
  )
  codes = decode_row(
    part(coded, 'stream'),
    count,
    model=model,
    row_length=integer(coded, 'row_length', 0, MAX_ROW),
    offset=integer(coded, 'offset', _INT32.min, _INT32.max),
  )
  return cast(codes, dtype)
