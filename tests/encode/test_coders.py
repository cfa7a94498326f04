"""Golden values of the single coders, and their sizes."""

import dataclasses
import itertools

import numpy as np
import pytest

from compress import encode
from compress.encode import rate_distortion, sparse_index, tables
from compress.encode.context_models import PAPER, decode_row, encode_row
from compress.encode.prefix_codes import canonical_codes, code_lengths
from compress.errors import InputError


def bits(coded, count):
  return 8 * encode.coded_nbytes(coded) / count


def laplace(scale, count, seed=0):
  codes = np.rint(np.random.default_rng(seed).laplace(0, scale, count))
  return np.clip(codes, -127, 127).astype(np.int8)


def test_huffman_by_hand():
  lengths = code_lengths(np.array([5, 9, 12, 13, 16, 45]))
  np.testing.assert_array_equal(lengths, [4, 4, 3, 3, 3, 1])
  assert lengths @ [5, 9, 12, 13, 16, 45] == 224
  codes = canonical_codes(lengths)
  written = [f'{c:0{n}b}' for c, n in zip(codes, lengths, strict=True)]
  assert written == ['1110', '1111', '100', '101', '110', '0']
  coded = encode.huffman().encode(np.array([5, 0, 2, 5, 1], np.int8))
  assert coded.parts['stream'].size == 2


@pytest.mark.parametrize('longest', [4, 5, 9, 24])
def test_lengths_are_the_best_under_a_limit(longest):
  counts = np.array([1, 1, 2, 3, 5, 8, 13, 21, 34, 55])
  lengths = code_lengths(counts, longest=longest)
  assert lengths.max() <= longest
  assert (2.0**-lengths).sum() == 1
  if longest >= 9:
    np.testing.assert_array_equal(lengths, [9, 9, 8, 7, 6, 5, 4, 3, 2, 1])
  best = min(
    counts @ np.array(each)
    for each in itertools.combinations_with_replacement(
      range(min(longest, 9), 0, -1), 10
    )
    if sum(2.0**-n for n in each) <= 1
  )
  assert counts @ lengths == best


def test_lengths_that_are_no_code():
  with pytest.raises(ValueError, match='5 symbols have no codes of 2 bits'):
    code_lengths(np.ones(5, int), longest=2)
  for lengths in ([1, 1, 1], [2, 2, 2], [0, 1], [25, 1]):
    with pytest.raises(ValueError, match='no complete code'):
      canonical_codes(np.array(lengths))


def test_codes_beyond_the_first_table():
  counts = [1, 1] + [1 << n for n in range(1, 18)]
  codes = np.repeat(np.arange(len(counts)), counts).astype(np.uint8)
  np.random.default_rng(0).shuffle(codes)
  coded = encode.huffman().encode(codes)
  assert code_lengths(np.array(counts)).max() == 18
  out = encode.huffman().decode(coded, codes.size)
  np.testing.assert_array_equal(out, codes)


GOLDEN = np.array(
  [0, 0, 1, -3, 12, 0, -1, 25, 0, 0, 2, -2, 11, -11, 10, 0], np.int32
)


@pytest.mark.parametrize(
  'rates, golden',
  [
    ((4, 7), '00d5308ea0d56d054cbdd60c3bcc2116'),
    ((5, 8), '00d6c092a798ef1b33c990013feda430'),
  ],
)
def test_context_coder_bytes(rates, golden):
  model = dataclasses.replace(PAPER, rates=rates)
  data = encode_row(GOLDEN, model=model, row_length=4)
  # The first byte is always 0, and left out.
  assert '00' + data.tobytes().hex() == golden
  out = decode_row(data, 16, model=model, row_length=4)
  np.testing.assert_array_equal(out, GOLDEN)


def published():
  rng = np.random.default_rng(0)
  for scale, sizes in (
    (0.3, (118357, 117557)),
    (0.7, (252563, 251306)),
    (1.5, (384384, 382510)),
  ):
    yield np.rint(rng.laplace(0, scale, 10**6)).astype(np.int32), sizes


def test_context_coder_sizes():
  for codes, sizes in published():
    for rates, size in zip(((4, 7), (5, 8)), sizes, strict=True):
      model = dataclasses.replace(PAPER, rates=rates)
      data = encode_row(codes, model=model, row_length=1000)
      assert abs(data.size - size) <= 1


def test_zeros_cost_next_to_nothing():
  codes = np.zeros(10**6, np.int8)
  for codec in encode.all_codecs():
    if codec.name not in ('plain',):
      assert bits(codec.encode(codes), codes.size) < 0.005


@pytest.mark.parametrize('scale', [0.3, 1.5, 15])
def test_ans_is_within_a_hundredth_of_the_entropy(scale):
  codes = laplace(scale, 10**6)
  for codec in (encode.ans(), encode.adaptive_ans()):
    found = bits(codec.encode(codes), codes.size)
    assert found < 1.002 * encode.entropy(codes)


def test_columns_with_scales_of_their_own():
  rng = np.random.default_rng(0)
  scales = np.exp(rng.normal(0, 1, 64)) * 4
  codes = np.rint(rng.laplace(0, 1, (4000, 64)) * scales).astype(np.int16)
  flat = codes.reshape(-1)
  sizes = [
    bits(encode.context_coder(row_length=row).encode(flat), flat.size)
    for row in (None, 64)
  ]
  ideal = np.mean([encode.entropy(column) for column in codes.T])
  assert sizes[1] < 0.94 * sizes[0]
  assert sizes[1] < 1.03 * ideal < encode.entropy(flat)
  rows = codes.T.reshape(-1).copy()
  assert bits(encode.context_coder().encode(rows), rows.size) < 1.03 * ideal


@pytest.mark.parametrize(
  'fields',
  [
    {'rates': (0, 8)},
    {'rates': (5, 13)},
    {'rates': 5},
    {'flags': 33},
    {'flags': True},
    {'suffix': -1},
    {'warm': 1},
  ],
)
def test_models_that_are_none(fields):
  with pytest.raises(InputError, match='right are two rates'):
    encode.ContextModel(**fields)


@pytest.mark.parametrize('flags', [0, 1, 32])
@pytest.mark.parametrize('suffix', [0, 4])
@pytest.mark.parametrize('warm', [False, True])
def test_models_round_trip(flags, suffix, warm):
  model = encode.ContextModel(
    (1, 12), flags=flags, suffix=suffix, neighbours=warm, warm=warm
  )
  codec = encode.context_coder(row_length=10, models=(model,))
  codes = np.array([2**31 - 1, -(2**31), 0, 1, -1, 1000] * 200, np.int32)
  out = encode.context_coder().decode(codec.encode(codes), codes.size)
  np.testing.assert_array_equal(out, codes)


def test_carries():
  """Streams in which a carry runs back over bytes of 255."""
  rng = np.random.default_rng(0)
  for _ in range(300):
    codes = rng.integers(-(2**31), 2**31, 40).astype(np.int32)
    data = encode_row(codes, model=PAPER)
    out = decode_row(data, 40, model=PAPER)
    np.testing.assert_array_equal(out, codes)


def test_tables():
  for symbols in ([3], [-128, 127], [-(2**31), 5, 2**31 - 1], range(300)):
    symbols = np.array(symbols, np.int64)
    values = np.arange(symbols.size) ** 2 % 77
    data = tables.pack_table(symbols, values)
    for found, right in zip(
      tables.unpack_table(data, symbols.size), (symbols, values), strict=True
    ):
      np.testing.assert_array_equal(found, right)
    for size in (0, symbols.size + 1, 10**9):
      with pytest.raises(ValueError):
        tables.unpack_table(data, size)


def test_relative_indices_by_hand():
  positions = np.array([0, 3, 25, 26, 60])
  entries = sparse_index.relative_indices(positions, bits=4)
  np.testing.assert_array_equal(entries, [0, 2, 15, 5, 0, 15, 15, 1])
  found = sparse_index.relative_positions(entries)
  np.testing.assert_array_equal(found[[0, 1, 3, 4, 7]], positions)
  values = sparse_index.filler_values(np.arange(1, 6), positions, bits=4)
  np.testing.assert_array_equal(values, [1, 2, 0, 3, 4, 0, 0, 5])


@pytest.mark.parametrize('density', [0, 1e-4, 0.01, 0.1, 1])
def test_positions_there_and_back(density):
  count = 20003
  mask = np.random.default_rng(0).random(count) < density
  positions = np.flatnonzero(mask)
  for width in (1, 4, 16):
    entries = sparse_index.relative_indices(positions, bits=width)
    values = sparse_index.filler_values(positions + 1, positions, bits=width)
    found = sparse_index.relative_positions(entries)
    np.testing.assert_array_equal(found[values > 0], positions)
  data = sparse_index.bitmap(positions, count)
  assert data.size == 2501
  found = sparse_index.bitmap_positions(data, count)
  np.testing.assert_array_equal(found, positions)
  runs = sparse_index.run_lengths(positions, count)
  found = sparse_index.run_positions(runs, count)
  np.testing.assert_array_equal(found, positions)


def test_runs_by_hand():
  runs = sparse_index.run_lengths(np.array([0, 1, 4]), 7)
  np.testing.assert_array_equal(runs, [0, 2, 2, 1, 2])
  for wrong in ([0, 2], [-1, 8], [2**62, 2**62]):
    with pytest.raises(ValueError, match='do not sum to 7'):
      sparse_index.run_positions(np.array(wrong), 7)
  with pytest.raises(ValueError, match='a bitmap of 2 bytes for 7 places'):
    sparse_index.bitmap_positions(np.zeros(2, np.uint8), 7)
  with pytest.raises(ValueError, match='bits behind its 7 places'):
    sparse_index.bitmap_positions(np.full(1, 255, np.uint8), 7)


@pytest.mark.parametrize(
  'density, width, fillers',
  [(0.11, 4, 0.185), (0.08, 5, 0.074), (0.04, 5, 0.38), (0.01, 8, 0.07)],
)
def test_fillers_are_as_expected(density, width, fillers):
  expected = sparse_index.expected_fillers(density, bits=width)
  # The spec's figures have two or three digits.
  assert expected == pytest.approx(fillers, rel=0.2)
  mask = np.random.default_rng(0).random(2 * 10**6) < density
  positions = np.flatnonzero(mask)
  entries = sparse_index.relative_indices(positions, bits=width)
  found = entries.size / positions.size - 1
  assert found == pytest.approx(expected, rel=0.03)


def quality(weights, codes, step):
  error = np.square(weights - codes * step).mean()
  return 10 * np.log10(np.square(weights).mean() / error)


def test_rate_distortion_trades_error_for_bits():
  weights = np.random.default_rng(1).laplace(0, 0.05, 100_000)
  model = PAPER
  found = []
  for rate in (0, 0.05, 0.1, 0.2):
    codes = rate_distortion.choose_codes(
      weights, step=0.04, rate=rate, model=model, row_length=1000
    )
    data = encode_row(codes, model=model, row_length=1000)
    found.append((8 * data.size / codes.size, quality(weights, codes, 0.04)))
  sizes, qualities = zip(*found, strict=True)
  assert sizes == pytest.approx((2.8068, 2.7806, 2.7515, 2.6814), abs=4e-3)
  assert qualities == pytest.approx((15.83, 15.79, 15.67, 15.14), abs=0.02)


def test_without_a_rate_codes_are_the_nearest():
  weights = np.random.default_rng(0).normal(0, 3, (50, 40))
  steps = np.linspace(0.1, 0.3, 40)
  codes = encode.choose_codes(weights, step=steps, rate=0, bounds=(-8, 7))
  right = np.clip(np.rint(weights / steps), -8, 7)
  np.testing.assert_array_equal(codes, right)
  assert codes.dtype == np.int32


def test_rate_distortion_rounds_both_ways():
  weights = np.random.default_rng(0).normal(0, 8, 50_000) + 20
  codes = encode.choose_codes(weights, step=1.0, rate=0.5)
  assert abs((codes - weights).mean()) < 0.1
  moved = codes - np.rint(weights)
  assert (moved > 0).any() and (moved < 0).any()


def test_importance():
  weights = np.random.default_rng(0).laplace(0, 2, 4000)
  important = np.where(np.arange(4000) % 2, 1e6, 1.0)
  codes = encode.choose_codes(weights, step=1.0, rate=0.3, importance=important)
  np.testing.assert_array_equal(codes[1::2], np.rint(weights[1::2]))
  assert (codes[::2] != np.rint(weights[::2])).any()


@pytest.mark.parametrize(
  'fields, message',
  [
    ({'step': 0.0}, 'step: right is'),
    ({'rate': -1.0}, 'rate=-1.0'),
    ({'bounds': (3, 2)}, 'bounds='),
    ({'importance': np.ones(2)}, 'importance: right is'),
  ],
)
def test_what_cannot_be_chosen(fields, message):
  given = {'step': 1.0, 'rate': 0.1} | fields
  with pytest.raises(InputError, match=message):
    encode.choose_codes(np.zeros(3), **given)
  with pytest.raises(InputError, match='not finite'):
    encode.choose_codes(np.array([np.nan]), step=1.0, rate=0.0)


@pytest.mark.slow
@pytest.mark.parametrize('width', [8, 4])
def test_below_the_entropy_on_real_weights(width):
  import jax

  from compress import models, packed, quantize

  _, variables = models.load_sface()
  spec = quantize.AffineSpec(width, symmetric=True, granularity='channel')
  method = quantize.quantize_weights([('(.*/)?kernel', spec)])
  params = variables['params']
  tree = method.pack(params, method.init(params))
  total, least, ans = 0, 0.0, 0
  for leaf in jax.tree.leaves(tree, is_leaf=packed.is_packed):
    if not isinstance(leaf, packed.Quantized):
      continue
    codes = np.asarray(leaf.codes)
    flat = codes.reshape(-1)
    codec = encode.context_coder(row_length=codes.shape[-1])
    coded = codec.encode(flat)
    np.testing.assert_array_equal(codec.decode(coded, flat.size), flat)
    total += 8 * encode.coded_nbytes(coded)
    ans += 8 * encode.coded_nbytes(encode.ans().encode(flat))
    least += flat.size * encode.entropy(flat)
  assert total < 0.995 * least
  assert least < ans < 1.002 * least
