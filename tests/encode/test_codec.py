"""What every codec must do, and what its decoder must survive."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress import encode
from compress.encode import codec as codec_lib
from compress.encode.codec import Coded
from compress.errors import InputError

CODECS = {codec.name: codec for codec in encode.all_codecs(row_length=7)}
INT32 = np.iinfo(np.int32)
# Refusals of `encode`, which must be clean and no more than these.
NARROW = {
  'adaptive_ans': lambda codes: np.ptp(codes.astype(np.int64)) < 4096,
  'sparse': lambda codes: 2 * np.count_nonzero(codes) <= codes.size,
}


def admits(name, codes):
  fits = not codes.size or codes.max() <= INT32.max
  if name == 'sparse':
    return NARROW[name](codes)
  if name == 'plain' or not codes.size:
    return True
  return fits and NARROW.get(name, lambda codes: True)(codes)


def round_trip(name, codes):
  codec = CODECS[name]
  if not admits(name, codes):
    with pytest.raises(InputError):
      codec.encode(codes)
    return None
  coded = codec.encode(codes)
  again = codec.encode(codes)
  fields = json.loads(json.dumps(coded.fields))
  assert fields == coded.fields == again.fields
  for key, part in coded.parts.items():
    assert part.dtype == np.uint8 and part.ndim == 1
    np.testing.assert_array_equal(part, again.parts[key])
  out = encode.codec_named(name).decode(Coded(coded.parts, fields), codes.size)
  assert out.dtype == codes.dtype and out.shape == codes.shape
  np.testing.assert_array_equal(out, codes)
  return coded


def arrays():
  def draw(dtype, size, kind, seed):
    rng = np.random.default_rng(seed)
    limits = np.iinfo(dtype)
    if kind == 'uniform':
      return rng.integers(limits.min, limits.max, size, dtype, endpoint=True)
    if kind == 'extremes':
      return rng.choice(np.array([limits.min, 0, limits.max], dtype), size)
    if kind == 'constant':
      return np.full(size, rng.integers(limits.min, limits.max), dtype)
    drawn = rng.laplace(0, 0.4 if kind == 'sparse' else 20, size)
    drawn = np.rint(drawn) + (limits.min == 0) * 100
    return np.clip(drawn, limits.min, limits.max).astype(dtype)

  return st.builds(
    draw,
    st.sampled_from([np.dtype(name) for name in codec_lib.DTYPES]),
    st.one_of(st.integers(0, 40), st.integers(0, 3000)),
    st.sampled_from(['uniform', 'extremes', 'constant', 'sparse', 'laplace']),
    st.integers(0, 2**32),
  )


@pytest.mark.parametrize('name', CODECS)
@settings(deadline=None, max_examples=60)
@given(codes=arrays())
def test_round_trip(name, codes):
  round_trip(name, codes)


@pytest.mark.parametrize('name', CODECS)
@pytest.mark.parametrize(
  'codes',
  [
    [],
    [0],
    [5],
    [0] * 1000,
    [-7] * 1000,
    [INT32.min],
    [INT32.max],
    [INT32.min, INT32.max] * 50,
    [0] * 5000 + [1],
    [1] + [0] * 5000,
    list(range(-300, 300)),
  ],
)
def test_corner_cases(name, codes):
  round_trip(name, np.array(codes, np.int32))


@pytest.mark.parametrize('name', CODECS)
def test_every_other_place(name):
  codes = np.arange(-90, 90, dtype=np.int8)[::2]
  coded = CODECS['plain'].encode(codes)
  assert coded.parts['stream'].size == 90
  round_trip(name, codes)


@pytest.mark.parametrize('name', CODECS)
@pytest.mark.parametrize(
  'codes',
  [
    np.zeros((2, 2), np.int8),
    np.zeros(3, np.float32),
    np.zeros(3, np.int64),
    np.zeros(3, bool),
  ],
)
def test_what_no_codec_admits(name, codes):
  with pytest.raises(InputError, match='right are integers of 8 to 32 bits'):
    CODECS[name].encode(codes)


def test_too_many_symbols_for_a_table():
  codes = np.arange(70000, dtype=np.int32)
  for name in ('ans', 'huffman'):
    with pytest.raises(InputError, match='a table holds 65536'):
      CODECS[name].encode(codes)
  assert round_trip('context', codes) is not None


def test_entropy():
  assert encode.entropy(np.zeros(9, np.int8)) == 0
  assert encode.entropy(np.zeros(0, np.int8)) == 0
  assert encode.entropy(np.arange(8, dtype=np.int8)) == 3
  counts = [5, 9, 12, 13, 16, 45]
  codes = np.repeat(np.arange(6) * 10**6, counts)
  assert 100 * encode.entropy(codes) == pytest.approx(221.988, abs=5e-4)
  # Quantized Laplace of scale 1.5.
  k = np.arange(-60, 61)
  p = np.exp(-abs(k) / 1.5) * (np.exp(1 / 3) - np.exp(-1 / 3)) / 2
  p[60] = 1 - np.exp(-1 / 3)
  found = codec_lib.counts_entropy(np.rint(p[p > 1e-13] * 1e15))
  assert found == pytest.approx(3.0484786574, abs=1e-9)


def test_the_smallest():
  rng = np.random.default_rng(0)
  noise = rng.integers(0, 256, 4000, np.uint8)
  codec, coded = encode.smallest(list(CODECS.values()), noise)
  assert codec.name == 'plain'
  sparse = np.where(rng.random(4000) < 0.01, noise, 0).astype(np.uint8)
  for codes in (noise, sparse, noise[:0]):
    codec, coded = encode.smallest(list(CODECS.values()), codes)
    for other in CODECS.values():
      try:
        size = encode.coded_nbytes(other.encode(codes))
      except InputError:
        continue
      assert encode.coded_nbytes(coded) <= size
    np.testing.assert_array_equal(codec.decode(coded, codes.size), codes)
  with pytest.raises(InputError, match='no codec for these codes; sparse: '):
    encode.smallest([CODECS['sparse']], noise)
  with pytest.raises(ValueError, match="codec 'zip' is not known"):
    encode.codec_named('zip')


SAMPLES = {
  'laplace': np.rint(np.random.default_rng(0).laplace(0, 9, 900)),
  'sparse': np.rint(np.random.default_rng(1).laplace(0, 0.3, 900)),
  'constant': np.full(50, 3),
  'wide': np.random.default_rng(2).integers(-(2**31), 2**31, 60),
}


def encoded():
  for name, codec in CODECS.items():
    for key, sample in SAMPLES.items():
      codes = sample.astype(np.int32 if key == 'wide' else np.int8)
      if admits(name, codes):
        yield codec, codec.encode(codes), codes


@pytest.mark.parametrize('count', [2**60, 2**63, 10**30, -1, 1.5, None, 2**27])
def test_counts_that_are_none(count):
  for codec, coded, codes in encoded():
    if count == 2**27 and (codec.name == 'sparse' or (codes == codes[0]).all()):
      continue
    with pytest.raises(ValueError):
      codec.decode(coded, count)


PADDED = 'sparse', 'plain', 'huffman'


def test_another_count():
  for codec, coded, codes in encoded():
    if (codes == codes[0]).all():
      continue
    for count in (0, 1, codes.size - 1, codes.size + 1, 2 * codes.size):
      try:
        out = codec.decode(coded, count)
      except ValueError as error:
        assert '\n' not in str(error)
      else:
        # Behind the last survivor, and in the last byte, there is room.
        assert out.size == count and codec.name in PADDED


def test_truncated_streams():
  for codec, coded, codes in encoded():
    for name, part in coded.parts.items():
      for size in {0, 1, part.size // 2, part.size - 4, part.size - 1}:
        if not 0 <= size < part.size:
          continue
        with pytest.raises(ValueError):
          cut = Coded(coded.parts | {name: part[:size]}, coded.fields)
          codec.decode(cut, codes.size)
      longer = np.append(part, np.uint8(7))
      with pytest.raises(ValueError):
        codec.decode(
          Coded(coded.parts | {name: longer}, coded.fields), codes.size
        )


STRANGE = [None, -1, 0, 1, 2**70, 1.5, float('nan'), 'x', [], [1], {}, True]


def mutate(coded, rng):
  parts = {name: part.copy() for name, part in coded.parts.items()}
  fields = json.loads(json.dumps(coded.fields))
  kind = rng.integers(6)
  if kind < 3 and parts:
    part = parts[rng.choice(list(parts))]
    for _ in range(rng.integers(1, 4)):
      if part.size:
        part[rng.integers(part.size)] = rng.integers(256)
  elif kind == 3 and parts:
    name = rng.choice(list(parts))
    parts[name] = [
      parts[name][: rng.integers(parts[name].size + 1)],
      parts[name].astype(np.int32),
      parts[name].reshape(1, -1),
      None,
    ][rng.integers(4)]
  elif kind == 4:
    inner = [fields, *(f for f in fields.values() if isinstance(f, dict))]
    chosen = inner[rng.integers(len(inner))]
    name = rng.choice(list(chosen))
    chosen[name] = STRANGE[rng.integers(len(STRANGE))]
    if rng.random() < 0.5:
      chosen[name] = int(rng.integers(-40, 300))
  else:
    source = fields if rng.random() < 0.5 or not parts else parts
    del source[rng.choice(list(source))]
  return Coded(parts, fields)


def assert_survives(rounds, seed):
  rng = np.random.default_rng(seed)
  samples = list(encoded())
  for _ in range(rounds):
    codec, coded, codes = samples[rng.integers(len(samples))]
    try:
      out = codec.decode(mutate(coded, rng), codes.size)
    except ValueError as error:
      assert len(str(error).splitlines()) == 1
    else:
      assert out.shape == codes.shape


def test_a_decoder_raises_nothing_else():
  assert_survives(3000, seed=0)


@pytest.mark.slow
def test_a_decoder_raises_nothing_else_for_long():
  assert_survives(200_000, seed=1)
