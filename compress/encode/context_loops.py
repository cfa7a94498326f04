"""The compiled loops of the context coder: binarization, contexts, coder.

An integer becomes binary decisions: is it zero; its sign; is its magnitude
above 1, 2, ... `flags`; and what is left by an Exp-Golomb code of order 0, the
position of whose leading one is coded in unary. Each decision has a model,
which holds two running estimates of its probability, a fast and a slow one,
and how often it was seen (DeepCABAC, Wiedemann et al. 2020, arXiv:1907.11900,
section III). A byte-wise range coder with carries codes the decisions. All
arithmetic is in integers, so that bytes do not depend on the machine.

Compiled functions that hand arrays to each other count references at every
call, which costs more than a decision does; hence few functions, and long ones.

Arguments that the loops share:
  layout: (row, neighbours, flags, suffix, scale); `row` codes a row; whether
    the magnitudes of the neighbours choose the models, 0 not, 1 those before
    and above, 2 those before; greater-than flags; bits of the Exp-Golomb
    suffix that have models; bits of an estimate.
  models: int32 [contexts, 3], fast estimate, slow estimate, times seen.
  fast, slow: int64 [times seen], how far an estimate moves, in 2^-16.
  memory: int32, the mean magnitude of the codes before, the code to the left
    and, if `neighbours` is 1, the mean magnitude of each column, in 2^-8.
"""

import numpy as np

from compress.encode.compiled import compiled

CLASSES = 24
STEPS = 1024
_PREFIXES = 32
_CEILING = 1 << 20
_FLOOR, _TOP = 16, 65520
_PLAN = 128
# Bits of a decision of probability (i + 1/2) / 4096.
_PRICES = -np.log2((np.arange(4096) + 0.5) / 4096)


@compiled(inlined=True)
def context_count(layout):
  """Models of one class of magnitudes."""
  flags, suffix = layout[2], layout[3]
  return 6 + 2 * flags + _PREFIXES + (_PREFIXES << suffix)


@compiled(inlined=True)
def _context(memory, index, column, layout):
  """First model of the neighbourhood's class, and the sign to the left."""
  left = memory[1]
  side = 0 if left == 0 else (1 if left < 0 else 2)
  if not layout[1]:
    return 0, side
  above = memory[0]
  if layout[1] == 1 and index >= layout[0]:
    above = memory[2 + column]
  mean = (3 * np.int64(above) + memory[0]) >> 8
  octave = 0
  while mean >> (octave + 1):
    octave += 1
  half = (mean >> (octave - 1)) & 1 if octave else mean
  return min(2 * octave + half, CLASSES - 1) * context_count(layout), side


@compiled(inlined=True)
def _remember(memory, index, column, code, layout):
  """Takes a code into the means; columns begin as the mean so far."""
  memory[1] = 0 if column == layout[0] - 1 else min(max(code, -1), 1)
  if layout[1]:
    size = min(abs(code), _CEILING) << 8
    if layout[1] == 1:
      if index < layout[0]:
        memory[2 + column] = memory[0]
      memory[2 + column] += (size - memory[2 + column]) >> 5
    memory[0] += (size - memory[0]) >> 5


@compiled(inlined=True)
def _probability(a, b, scale):
  """Probability of a one in 2^-16."""
  return min(max((np.int64(a) + b) >> (scale - 15), _FLOOR), _TOP)


@compiled(inlined=True)
def _decisions(code, base, side, layout, plan):
  """Writes a code's decisions, `2 * model + bit`, and tells how many.

  Bits that have no model are -1 and -2. There are at most 100.
  """
  flags, suffix = layout[2], layout[3]
  plan[0] = 2 * (base + side) + (code != 0)
  if code == 0:
    return 1
  negative, size = code < 0, abs(code)
  plan[1] = 2 * (base + 3 + side) + negative
  used = 2
  at = base + 6 + (flags if negative else 0)
  for n in range(min(size - 1, flags)):
    plan[used] = 2 * (at + n) + 1
    used += 1
  if size <= flags:
    plan[used] = 2 * (at + size - 1)
    return used + 1
  rest, k = size - flags, 0
  at = base + 6 + 2 * flags
  while rest >> (k + 1):
    plan[used] = 2 * (at + k) + 1
    used += 1
    k += 1
  plan[used] = 2 * (at + k)
  used += 1
  at += _PREFIXES + (k << suffix)
  node = 1
  for n in range(k):
    bit = (rest >> (k - 1 - n)) & 1
    if n < suffix:
      plan[used] = 2 * (at + node) + bit
      node = 2 * node + bit
    else:
      plan[used] = bit - 2
    used += 1
  return used


@compiled
def encode_codes(
  codes, begin, state, out, offset, layout, models, memory, fast, slow
):
  """Encodes int32 codes, each less `offset`, until there is no more room.

  Args:
    codes: int32 [n].
    begin: the first to encode.
    state: int64 [4], low end and width of the interval, bytes written (at
      least one, which stays 0 before a stream), column.
    out: uint8, where bytes go.
    offset: the code that becomes 0.
    layout: as everywhere here, and so on.
    models: they learn.
    memory: it takes in.
    fast: rates.
    slow: rates.

  Returns:
    How many codes are encoded in all; out is full where that is not n.
  """
  low, width, place, column = state[0], state[1], state[2], state[3]
  row, scale = layout[0], layout[4]
  plan = np.empty(_PLAN, np.int64)
  index = begin
  # A decision takes at most 12 bits and a part of one.
  while index < codes.size and place + 2 * _PLAN < out.size:
    code = np.int64(codes[index]) - offset
    base, side = _context(memory, index, column, layout)
    for n in range(_decisions(code, base, side, layout, plan)):
      bit = plan[n] & 1
      if plan[n] < 0:
        width >>= 1
        low += width * bit
      else:
        at = plan[n] >> 1
        a, b = np.int64(models[at, 0]), np.int64(models[at, 1])
        bound = (width >> 16) * _probability(a, b, scale)
        seen = models[at, 2]
        models[at, 2] = min(seen + 1, STEPS - 1)
        if bit:
          width = bound
          models[at, 0] = a + ((((1 << scale) - a) * fast[seen]) >> 16)
          models[at, 1] = b + ((((1 << scale) - b) * slow[seen]) >> 16)
        else:
          low += bound
          width -= bound
          models[at, 0] = a - ((a * fast[seen]) >> 16)
          models[at, 1] = b - ((b * slow[seen]) >> 16)
      while width < 1 << 24:
        if low >= 1 << 32:
          back = place - 1
          while out[back] == 255:
            out[back] = 0
            back -= 1
          out[back] += 1
        out[place] = (low >> 24) & 255
        place += 1
        low = (low & 0xFFFFFF) << 8
        width <<= 8
    _remember(memory, index, column, code, layout)
    index += 1
    column = column + 1 if column + 1 < row else 0
  state[0], state[1], state[2], state[3] = low, width, place, column
  return index


@compiled
def decode_codes(data, out, offset, layout, models, memory, fast, slow):
  """Fills int32 [n]; returns the bytes that took, or -1 if there is no such.

  `data` is what `encode_codes` wrote, without the first byte.
  """
  row, flags, suffix, scale = layout[0], layout[2], layout[3], layout[4]
  value, width, place, column = np.int64(0), np.int64(0xFFFFFFFF), 4, 0
  for n in range(4):
    value = (value << 8) | (data[n] if n < data.size else 0)
  for index in range(out.size):
    base, side = _context(memory, index, column, layout)
    at, stage, negative = base + side, 0, False
    size, rest, node, k, left = np.int64(0), np.int64(1), 1, 0, 0
    while stage >= 0:
      if at < 0:
        width >>= 1
        bit = 1 if value >= width else 0
        value -= width * bit
      else:
        a, b = np.int64(models[at, 0]), np.int64(models[at, 1])
        bound = (width >> 16) * _probability(a, b, scale)
        seen = models[at, 2]
        models[at, 2] = min(seen + 1, STEPS - 1)
        if value < bound:
          bit = 1
          width = bound
          models[at, 0] = a + ((((1 << scale) - a) * fast[seen]) >> 16)
          models[at, 1] = b + ((((1 << scale) - b) * slow[seen]) >> 16)
        else:
          bit = 0
          value -= bound
          width -= bound
          models[at, 0] = a - ((a * fast[seen]) >> 16)
          models[at, 1] = b - ((b * slow[seen]) >> 16)
      while width < 1 << 24:
        if place >= data.size:
          return -1
        value = (value << 8) | data[place]
        place += 1
        width <<= 8
      if stage == 2:
        if bit == 0:
          stage = -1
        else:
          size += 1
          at += 1
          if size > flags:
            at, stage = base + 6 + 2 * flags, 3
      elif stage == 0:
        at, stage = base + 3 + side, 1 if bit else -1
      elif stage == 1:
        negative, size = bit == 1, np.int64(1)
        if flags == 0:
          at, stage = base + 6, 3
        else:
          at, stage = base + 6 + (flags if negative else 0), 2
      elif stage == 3:
        if bit:
          k += 1
          at += 1
          if k == _PREFIXES:
            return -1
        elif k == 0:
          size, stage = 1 + flags, -1
        else:
          left, stage = k, 4
          at = base + 7 + 2 * flags + _PREFIXES + (k << suffix)
          if suffix == 0:
            at = -1
      else:
        rest = 2 * rest + bit
        node = 2 * node + bit
        left -= 1
        if left == 0:
          size, stage = rest + flags, -1
        elif k - left < suffix:
          at = base + 6 + 2 * flags + _PREFIXES + (k << suffix) + node
        else:
          at = -1
    code = -size if negative else size
    shifted = code + offset
    if shifted < -(1 << 31) or shifted >= 1 << 31:
      return -1
    out[index] = shifted
    _remember(memory, index, column, code, layout)
    column = column + 1 if column + 1 < row else 0
  # A stream ends in the low end of its last interval.
  return place if value == 0 else -1


@compiled
def choose_codes(
  levels, weight, rate, low, high, layout, models, memory, fast, slow
):
  """Codes of least distortion + rate * bits, one after the other.

  Args:
    levels: float64 [n], weights in steps.
    weight: float64 [n] or [1], what a squared error counts.
    rate: squared steps that a bit costs.
    low: smallest code.
    high: largest code.
    layout: as everywhere here, and so on.
    models: they learn from each choice.
    memory: it takes each choice in.
    fast: rates.
    slow: rates.

  Returns:
    int32 [n].
  """
  chosen = np.empty(levels.size, np.int32)
  plan = np.empty(_PLAN, np.int64)
  row, scale, column = layout[0], layout[4], 0
  for index in range(levels.size):
    level = levels[index]
    counts = weight[index] if weight.size > 1 else weight[0]
    nearest = np.int64(np.rint(min(max(level, low), high)))
    base, side = _context(memory, index, column, layout)
    best, least = nearest, np.inf
    for candidate in range(4):
      code = nearest + (candidate + 1) // 2 * (1 - candidate % 2 * 2)
      if candidate == 3:
        code = np.int64(0)
      if code < low or code > high:
        continue
      cost = counts * (level - code) ** 2
      for n in range(_decisions(code, base, side, layout, plan)):
        if plan[n] < 0:
          cost += rate
        else:
          at = plan[n] >> 1
          p = _probability(models[at, 0], models[at, 1], scale) >> 4
          cost += rate * _PRICES[p if plan[n] & 1 else 4095 - p]
      if cost < least:
        best, least = code, cost
    chosen[index] = best
    for n in range(_decisions(best, base, side, layout, plan)):
      if plan[n] >= 0:
        at = plan[n] >> 1
        a, b = np.int64(models[at, 0]), np.int64(models[at, 1])
        seen = models[at, 2]
        models[at, 2] = min(seen + 1, STEPS - 1)
        if plan[n] & 1:
          models[at, 0] = a + ((((1 << scale) - a) * fast[seen]) >> 16)
          models[at, 1] = b + ((((1 << scale) - b) * slow[seen]) >> 16)
        else:
          models[at, 0] = a - ((a * fast[seen]) >> 16)
          models[at, 1] = b - ((b * slow[seen]) >> 16)
    _remember(memory, index, column, best, layout)
    column = column + 1 if column + 1 < row else 0
  return chosen
