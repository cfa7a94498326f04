"""Ranges from histograms: percentile and least error (`kl.py` has a third).

The state is one histogram per tensor, symmetric about 0, whose limit is a power
of two. Where a batch exceeds it, the limit grows to the next power of two that
holds it and bins are joined, exactly, so shapes are static, batches of any size
and order give the same counts, and two histograms of different limits add up.
Counts are exact within a batch of 2^31 elements and float32 across batches.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from compress.errors import InputError
from compress.quantize import affine, ranges
from compress.quantize.observers import Observer
from compress.quantize.spec import AffineSpec

_EXPONENTS = (-100, 127)


class Histogram(NamedTuple):
  """Counts on [-2^exponent, 2^exponent), and the ends."""

  counts: jax.Array  # float32 [2 bins]
  exponent: jax.Array  # int32 []
  lo: jax.Array  # float32 [], smallest value
  hi: jax.Array  # float32 [], largest value


# Rounds of searching one end and then the other; more change nothing.
_TURNS = 3


def init_histogram(bins: int) -> Histogram:
  """A histogram of nothing.

  Args:
    bins: number on each side of 0, a power of two.

  Returns:
    A state.

  Raises:
    InputError: bins is no power of two.
  """
  if bins < 2 or bins & (bins - 1):
    raise InputError(f'bins={bins!r}: must be a power of two')
  inf = jnp.float32(jnp.inf)
  zeros = jnp.zeros((2 * bins,), jnp.float32)
  return Histogram(zeros, jnp.int32(_EXPONENTS[0]), inf, -inf)


def update_histogram(state: Histogram, x: jax.Array) -> Histogram:
  """Counts the elements of `x`.

  Args:
    state: what was seen before.
    x: float array of any shape.

  Returns:
    The new state.
  """
  x = x.astype(jnp.float32).reshape(-1)
  lo, hi = jnp.min(x), jnp.max(x)
  top = jnp.maximum(jnp.abs(lo), jnp.abs(hi))
  mantissa, exponent = jnp.frexp(jnp.minimum(top, jnp.finfo(jnp.float32).max))
  exponent = exponent - (mantissa == 0.5).astype(exponent.dtype)
  exponent = jnp.maximum(jnp.clip(exponent, *_EXPONENTS), state.exponent)
  bins = state.counts.size // 2
  shift = bins.bit_length() - 1 - exponent
  index = jnp.floor(x * jnp.ldexp(jnp.float32(1), shift))
  index = jnp.clip(index, -bins, bins - 1).astype(jnp.int32) + bins
  counts = jnp.zeros((2 * bins,), jnp.int32).at[index].add(1)
  return Histogram(
    _grown(state, exponent) + counts.astype(jnp.float32),
    exponent,
    jnp.minimum(lo, state.lo),
    jnp.maximum(hi, state.hi),
  )


def merge_histograms(a: Histogram, b: Histogram) -> Histogram:
  """The histogram of all that either saw.

  Args:
    a: a state.
    b: another with as many bins.

  Returns:
    A state.
  """
  exponent = jnp.maximum(a.exponent, b.exponent)
  return Histogram(
    _grown(a, exponent) + _grown(b, exponent),
    exponent,
    jnp.minimum(a.lo, b.lo),
    jnp.maximum(a.hi, b.hi),
  )


def _grown(state, exponent):
  """Counts on a limit that is larger by a power of two."""
  bins = state.counts.size // 2
  offsets = jnp.arange(2 * bins, dtype=jnp.int32) - bins
  doublings = jnp.minimum(exponent - state.exponent, 31)
  index = jnp.right_shift(offsets, doublings) + bins
  return jnp.zeros_like(state.counts).at[index].add(state.counts)


def edges(state: Histogram) -> jax.Array:
  """Where bins begin and end, [2 bins + 1]."""
  bins = state.counts.size // 2
  width = jnp.ldexp(jnp.float32(1), state.exponent - (bins.bit_length() - 1))
  return (jnp.arange(2 * bins + 1, dtype=jnp.float32) - bins) * width


def magnitudes(state: Histogram) -> tuple[jax.Array, jax.Array]:
  """Counts [bins] of |x| and their edges [bins + 1]."""
  bins = state.counts.size // 2
  negative, positive = jnp.split(state.counts, 2)
  return positive + negative[::-1], edges(state)[bins:]


def tail(counts: jax.Array) -> jax.Array:
  """Mass at and above each edge; summed from the top, where it is small."""
  tail = jnp.cumsum(counts[::-1])[::-1]
  return jnp.concatenate([tail, jnp.zeros((1,), tail.dtype)])


def _upper_quantile(counts, grid, mass):
  above = tail(counts)
  return jnp.interp(mass * above[0], above[::-1], grid[::-1])


def ends(
  state: Histogram, lo: jax.Array, hi: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """`[lo, hi]` within what was seen; (0, 0) if nothing was."""
  seen = state.lo <= state.hi
  missing = jnp.where(jnp.isnan(state.lo), state.lo, 0.0)
  lo, hi = jnp.maximum(lo, state.lo), jnp.minimum(hi, state.hi)
  return jnp.where(seen, lo, missing), jnp.where(seen, hi, missing)


def histogram_observer(bins: int, range_) -> Observer:
  """An observer with a `Histogram` state and the given `range`."""
  init_histogram(bins)
  return Observer(
    lambda shape: init_histogram(bins),
    update_histogram,
    range_,
    merge_histograms,
  )


def percentile(*, p: float = 99.99, bins: int = 8192) -> Observer:
  """The range that holds `p` percent of the values.

  For a symmetric spec, the p-th percentile of |x|; for an asymmetric one, half
  of what is left out lies beyond either end. (The same for a symmetric
  distribution: 99.9 % is 3.2877 sigma of a Gaussian.)

  Args:
    p: percent, in (0, 100].
    bins: on each side of 0, a power of two; sets the resolution.

  Returns:
    An observer with a `Histogram` state, per tensor.

  Raises:
    InputError: p or bins out of range.
  """
  if not 0 < p <= 100:
    raise InputError(f'p={p!r}: must be above 0 and at most 100 percent')
  mass = 1 - p / 100

  def range_(state, spec):
    if spec.symmetric:
      top = _upper_quantile(*magnitudes(state), mass)
      return ends(state, -top, top)
    cuts = edges(state)
    hi = _upper_quantile(state.counts, cuts, mass / 2)
    lo = -_upper_quantile(state.counts[::-1], -cuts[::-1], mass / 2)
    return ends(state, lo, hi)

  return histogram_observer(bins, range_)


def mse(
  *,
  grid: int = 100,
  shrink: float = 0.8,
  exponent: float = 2.4,
  apart: bool = False,
  bins: int = 8192,
) -> Observer:
  """The shrunken min-max range with the least quantization error.

  Tries `(1 - i / grid)` times the min-max range for `i < shrink * grid` and
  keeps the one with the least sum of `|x_hat - x|^exponent`. The defaults are
  those of GPTQ's search (Frantar et al. 2022, arXiv:2210.17323). Elements are
  taken to lie in the middle of their bins, so steps should be wider than bins:
  for 16 bits the search means little.

  Args:
    grid: steps that the full range is divided into.
    shrink: largest part of the range to give up, in (0, 1).
    exponent: of the error; 2 gives the least mean squared error.
    apart: shrink the two ends by factors of their own, found in turns. Worth
      much where the two tails differ, as behind a PReLU.
    bins: on each side of 0, a power of two.

  Returns:
    An observer with a `Histogram` state, per tensor.

  Raises:
    InputError: grid, shrink or bins out of range.
  """
  factors = _factors(grid, shrink)

  def range_(state, spec):
    lo, hi = ends(state, state.lo, state.hi)
    cuts = edges(state)
    middles = (cuts[1:] + cuts[:-1]) / 2
    one = dataclasses.replace(
      _plain(spec), granularity='tensor', group_size=None
    )

    def error(lo, hi):
      q = ranges.qparams_from_range(lo, hi, one)
      off = jnp.abs(affine.fake_quantize(middles, q, one) - middles)
      return jnp.sum(state.counts * off**exponent)

    def least(error_of):
      return factors[jnp.argmin(lax.map(error_of, factors))]

    low = high = least(lambda f: error(f * lo, f * hi))
    for _ in range(_TURNS if apart else 0):
      high = least(lambda f, low=low: error(low * lo, f * hi))
      low = least(lambda f, high=high: error(f * lo, high * hi))
    return low * lo, high * hi

  return histogram_observer(bins, range_)


def mse_range(
  x: jax.Array,
  spec: AffineSpec,
  *,
  grid: int = 100,
  shrink: float = 0.8,
  exponent: float = 2.4,
) -> tuple[jax.Array, jax.Array]:
  """`mse` of a tensor itself, for each of its scales (channels, groups).

  Args:
    x: float array.
    spec: the quantizer, of any granularity.
    grid: as in `mse`.
    shrink: as in `mse`.
    exponent: as in `mse`.

  Returns:
    `(lo, hi)` with the shapes of `ranges.tensor_range`.

  Raises:
    InputError: grid or shrink out of range.
  """
  x = x.astype(jnp.float32)
  lo, hi = ranges.tensor_range(x, spec)
  plain = _plain(spec)

  def step(best, factor):
    q = ranges.qparams_from_range(factor * lo, factor * hi, plain)
    off = jnp.abs(affine.fake_quantize(x, q, plain) - x) ** exponent
    error = ranges.reduce_over_range(off, spec, jnp.sum, fill='constant')
    better = error < best[0]
    return (
      jnp.where(better, error, best[0]),
      jnp.where(better, factor, best[1]),
    ), None

  first = jnp.full(lo.shape, jnp.inf), jnp.ones_like(lo)
  (_, factor), _ = lax.scan(step, first, _factors(grid, shrink))
  return factor * lo, factor * hi


def _factors(grid, shrink):
  if grid < 1 or not 0 < shrink < 1:
    raise InputError(
      f'grid={grid!r}, shrink={shrink!r}: grid is at least 1, shrink in (0, 1)'
    )
  count = max(1, int(grid * shrink))
  return 1 - jnp.arange(count, dtype=jnp.float32) / grid


def _plain(spec):
  """Searching needs neither a key nor a range taken at every call."""
  rounding = 'half_even' if spec.rounding == 'stochastic' else spec.rounding
  return dataclasses.replace(spec, rounding=rounding, dynamic=False)
