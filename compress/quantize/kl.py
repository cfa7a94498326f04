"""The range of least information loss, from a histogram."""

import jax
import jax.numpy as jnp
from jax import lax

from compress.errors import InputError
from compress.quantize import histogram
from compress.quantize.observers import Observer


def kl(
  *, candidate_bins: int = 2048, signed: bool = False, bins: int = 32768
) -> Observer:
  """The threshold with the least information lost (TensorRT's calibration).

  |x| is counted in `candidate_bins` bins up to its maximum. For each threshold
  at the upper edge of bin i, P is the first i bins, the mass above added to the
  last; Q is the same bins without that mass, joined into as many groups as
  there are levels and spread evenly over each group's occupied bins. Empty bins
  get 1e-4 counts, taken from the others. The i of least KL(P || Q) wins.
  (Migacz 2017, "8-bit inference with TensorRT", GTC. MXNet's version leaves the
  last bin of the last group out; this one does not.)

  Levels are `2^(b-1)`, or `2^b` for unsigned symmetric specs; as many levels as
  bins means no clipping. With `signed`, bins and levels of both signs
  are kept apart, so that a skewed distribution is judged as it is.

  Args:
    candidate_bins: thresholds to try, at least 2.
    signed: keep the sign.
    bins: of the state, on each side of 0, a power of two; many times the
      candidates, so that resampling adds no noise.

  Returns:
    An observer with a `Histogram` state, per tensor.

  Raises:
    InputError: bins or candidates out of range.
  """
  if candidate_bins < 2:
    raise InputError(f'candidate_bins={candidate_bins!r}: must be at least 2')

  def range_(state, spec):
    lo, hi = histogram.ends(state, state.lo, state.hi)
    top = jnp.maximum(jnp.abs(lo), jnp.abs(hi))
    one_sided = spec.symmetric and spec.bounds == 'unsigned'
    levels = 2 ** (spec.bits - (not one_sided))
    if levels >= candidate_bins:
      return lo, hi
    if signed:
      negative, positive = jnp.split(state.counts, 2)
      edges = histogram.edges(state)[positive.size :]
      right = _resample(positive, edges, top, candidate_bins)
      left = _resample(negative[::-1], edges, top, candidate_bins)
      counts = jnp.concatenate([left[::-1], right])
      levels = spec.qmax - spec.qmin + 1
    else:
      counts = _resample(*histogram.magnitudes(state), top, candidate_bins)
    kept = kl_threshold(counts, levels, signed=signed).astype(jnp.float32)
    threshold = top * kept / candidate_bins
    return histogram.ends(state, -threshold, threshold)

  return histogram.histogram_observer(bins, range_)


def kl_threshold(
  counts: jax.Array, levels: int, *, signed: bool = False
) -> jax.Array:
  """How many bins to keep: the search of `kl` on a given histogram.

  Args:
    counts: float32 [bins] of |x|; or [2 bins] about 0, if signed.
    levels: number of codes that the kept bins get.
    signed: which of the two `counts` is.

  Returns:
    int32, bins kept (on each side of 0).
  """
  bins = counts.size // 2 if signed else counts.size
  fewest = min(bins, -(-levels // 2) if signed else levels)
  stops = jnp.arange(fewest, bins + 1, dtype=jnp.int32)

  def loss(stop):
    if signed:
      return _divergence(counts, bins - stop, bins + stop, levels)
    return _divergence(counts, 0, stop, levels)

  return stops[jnp.argmin(lax.map(loss, stops))]


def _resample(counts, edges, top, bins):
  """Counts in `bins` bins of [0, top].

  Whole counts, because an element split over two bins of a sparse tail would
  hide that one of them is empty.
  """
  fresh = jnp.linspace(0.0, 1.0, bins + 1, dtype=jnp.float32) * top
  return -jnp.diff(jnp.round(jnp.interp(fresh, edges, histogram.tail(counts))))


def _divergence(counts, start, stop, levels):
  """KL of bins [start, stop) from their `levels`-level approximation."""
  index = jnp.arange(counts.size, dtype=jnp.int32)
  inside = (index >= start) & (index < stop)
  kept = jnp.where(inside, counts, 0.0)
  below = jnp.sum(jnp.where(index < start, counts, 0.0))
  above = jnp.sum(jnp.where(index >= stop, counts, 0.0))
  p = kept + jnp.where(index == start, below, 0.0)
  p = p + jnp.where(index == stop - 1, above, 0.0)
  group = jnp.clip((index - start) * levels // (stop - start), 0, levels - 1)
  occupied = (kept > 0).astype(jnp.float32)
  mass = jax.ops.segment_sum(kept, group, levels)
  share = mass / jnp.maximum(jax.ops.segment_sum(occupied, group, levels), 1.0)
  p, q = _smooth(p, inside), _smooth(share[group] * occupied, inside)
  ratio = jnp.where(inside, p / jnp.where(inside, q, 1.0), 1.0)
  return jnp.sum(p * jnp.log(ratio))


def _smooth(counts, inside, epsilon=1e-4):
  empty = inside & (counts == 0)
  full = inside & (counts > 0)
  holes, rest = (jnp.sum(part).astype(counts.dtype) for part in (empty, full))
  taken = epsilon * holes / jnp.maximum(rest, 1.0)
  smooth = jnp.where(full, jnp.maximum(counts - taken, epsilon), 0.0)
  smooth = jnp.where(empty, epsilon, smooth)
  return smooth / jnp.sum(smooth)
