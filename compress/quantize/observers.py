"""Observers: from the tensors seen so far to the range to quantize.

An observer is three pure functions over a state of arrays, and a fourth that
joins two states:

  state = observer.init(x.shape)
  state = observer.update(state, x)
  lo, hi = observer.range(state, spec)
  q = qparams_from_range(lo, hi, spec)

`axis=None` gives one range per tensor, shape `[]`; an integer gives one per
index of that axis, shape `[1, ..., C, ..., 1]`. `init` reads the rank and the
size of that axis only, so batches may differ in size; per tensor any shape
will do. Everything has static shapes and works under `jit`, `vmap` and `scan`.
A state that has seen nothing has the range (0, 0). Inputs are float; NaN in one
gives a NaN range, which `AffineSpec` quantizers pass on.

Here: minima and maxima, and moments. Histograms are in `histogram.py`, clipping
values from a fitted distribution in `aciq.py`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from compress.errors import InputError


class Observer(NamedTuple):
  """How a range is estimated.

  Attributes:
    init: shape of the tensors -> state.
    update: (state, x) -> state.
    range: (state, spec) -> (lo, hi), shape `[]` or `[1, ..., C, ..., 1]`.
    merge: (state, state) -> state, as if one observer had seen what both saw.
  """

  init: Callable[[tuple[int, ...]], Any]
  update: Callable[[Any, jax.Array], Any]
  range: Callable[[Any, Any], tuple[jax.Array, jax.Array]]
  merge: Callable[[Any, Any], Any]


class Range(NamedTuple):
  """Smallest and largest value, and the number of updates."""

  lo: jax.Array  # float32
  hi: jax.Array  # float32
  count: jax.Array  # int32 []


class Moments(NamedTuple):
  """Count, mean, sum of squared deviations, and the ends.

  Squared deviations, not squares, so that float32 does not cancel.
  """

  count: jax.Array  # float32 [], elements behind each mean
  mean: jax.Array  # float32
  squares: jax.Array  # float32, sum of (x - mean)^2
  lo: jax.Array  # float32
  hi: jax.Array  # float32


def across(observer: Observer, state: Any, axis_name: str) -> Any:
  """Joins the states of all devices on a mapped axis.

  Args:
    observer: whose state it is.
    state: this device's.
    axis_name: of the enclosing `pmap`, `shard_map` or `vmap`.

  Returns:
    One state, the same on every device.
  """
  size = jax.lax.axis_size(axis_name)
  states = jax.lax.all_gather(state, axis_name)
  parts = [jax.tree.map(lambda s, i=i: s[i], states) for i in range(size)]
  return functools.reduce(observer.merge, parts)


def range_shape(shape: tuple[int, ...], axis: int | None) -> tuple[int, ...]:
  """`[]`, or `[1, ..., C, ..., 1]`.

  Args:
    shape: of the tensor.
    axis: the channel axis or None.

  Returns:
    The shape of its range.

  Raises:
    InputError: there is no such axis.
  """
  if axis is None:
    return ()
  if not -len(shape) <= axis < len(shape):
    raise InputError(
      f'axis={axis}: a tensor of shape {tuple(shape)} has no such axis'
    )
  return tuple(n if i == axis % len(shape) else 1 for i, n in enumerate(shape))


def reduce_all_but(x: jax.Array, axis: int | None, reduction) -> jax.Array:
  """`reduction` of float32 `x` over all axes but `axis`, kept as size 1."""
  x = x.astype(jnp.float32)
  if axis is None:
    return reduction(x)
  range_shape(x.shape, axis)
  others = tuple(i for i in range(x.ndim) if i != axis % x.ndim)
  return reduction(x, axis=others, keepdims=True)


def _zeros_range(shape, axis):
  zeros = jnp.zeros(range_shape(shape, axis), jnp.float32)
  return Range(zeros, zeros, jnp.zeros((), jnp.int32))


def _seen(count, lo, hi):
  return jnp.where(count > 0, lo, 0.0), jnp.where(count > 0, hi, 0.0)


def minmax(*, axis: int | None = None) -> Observer:
  """The smallest and largest value ever seen."""

  def init(shape):
    inf = jnp.full(range_shape(shape, axis), jnp.inf, jnp.float32)
    return Range(inf, -inf, jnp.zeros((), jnp.int32))

  def update(state, x):
    return Range(
      jnp.minimum(state.lo, reduce_all_but(x, axis, jnp.min)),
      jnp.maximum(state.hi, reduce_all_but(x, axis, jnp.max)),
      state.count + 1,
    )

  def range_(state, spec):
    del spec
    return _seen(state.count, state.lo, state.hi)

  return Observer(init, update, range_, _merge_ends)


def _merge_ends(a, b):
  return Range(
    jnp.minimum(a.lo, b.lo), jnp.maximum(a.hi, b.hi), a.count + b.count
  )


def cumulative(*, axis: int | None = None) -> Observer:
  """Minimum and maximum that start at 0, so 0 is always inside.

  The activation range of QuantFace (Boutros et al. 2022, arXiv:2206.10526),
  which grows during the first 299 steps and is then no longer updated.
  """
  plain = minmax(axis=axis)

  def init(shape):
    return _zeros_range(shape, axis)

  return plain._replace(init=init)


def ema_minmax(
  *, decay: float = 0.99, debias: bool = False, axis: int | None = None
) -> Observer:
  """Exponential moving averages of each batch's minimum and maximum.

  `lo <- decay lo + (1 - decay) min(x)`. The first batch is copied; or, with
  `debias`, the averages start at 0 and are divided by `1 - decay^n` when read.
  `merge` is for two devices that have each made the same number of updates on
  their share of the same batches: it averages.

  Args:
    decay: in [0, 1).
    debias: start from 0 and divide, in place of copying the first batch.
    axis: channel axis, or None for one range.

  Returns:
    An observer with a `Range` state.

  Raises:
    InputError: decay out of range.
  """
  if not 0 <= decay < 1:
    raise InputError(f'decay={decay!r}: must be at least 0 and below 1')

  def init(shape):
    return _zeros_range(shape, axis)

  def update(state, x):
    keep = jnp.where((state.count == 0) & (not debias), 0.0, decay)

    def average(old, new):
      return keep * old + (1 - keep) * new

    return Range(
      average(state.lo, reduce_all_but(x, axis, jnp.min)),
      average(state.hi, reduce_all_but(x, axis, jnp.max)),
      state.count + 1,
    )

  def range_(state, spec):
    del spec
    if not debias:
      return state.lo, state.hi
    mass = 1 - jnp.float32(decay) ** state.count.astype(jnp.float32)
    mass = jnp.where(state.count > 0, mass, 1.0)
    return state.lo / mass, state.hi / mass

  def merge(a, b):
    return Range(
      0.5 * (a.lo + b.lo), 0.5 * (a.hi + b.hi), jnp.maximum(a.count, b.count)
    )

  return Observer(init, update, range_, merge)


def sample_minmax(*, axis: int | None = None) -> Observer:
  """The mean over samples of each sample's minimum and maximum.

  Axis 0 of the input counts samples. The state holds the means and, as count,
  the number of samples.

  Args:
    axis: channel axis (not 0), or None for one range.

  Returns:
    An observer with a `Range` state.

  Raises:
    InputError: the channel axis is the sample axis (at the first use).
  """

  def init(shape):
    if axis is not None and axis % max(len(shape), 1) == 0:
      raise InputError(f'axis={axis}: axis 0 counts the samples')
    return _zeros_range(shape, axis)

  def mean_of(x, reduction):
    ends = jax.vmap(lambda one: reduce_all_but(one[None], axis, reduction))(x)
    return jnp.mean(ends, axis=0)

  def update(state, x):
    batch = Range(
      mean_of(x, jnp.min), mean_of(x, jnp.max), jnp.int32(x.shape[0])
    )
    return merge(state, batch)

  def range_(state, spec):
    del spec
    return state.lo, state.hi

  def merge(a, b):
    count = a.count + b.count
    share = b.count.astype(jnp.float32) / jnp.maximum(count, 1).astype(
      jnp.float32
    )
    return Range(
      a.lo + share * (b.lo - a.lo), a.hi + share * (b.hi - a.hi), count
    )

  return Observer(init, update, range_, merge)


def init_moments(shape: tuple[int, ...], axis: int | None) -> Moments:
  """The moments of nothing; `shape` is that of the tensors to come."""
  zeros = jnp.zeros(range_shape(shape, axis), jnp.float32)
  inf = jnp.full(zeros.shape, jnp.inf, jnp.float32)
  return Moments(jnp.zeros((), jnp.float32), zeros, zeros, inf, -inf)


def moments_of(x: jax.Array, axis: int | None) -> Moments:
  """The moments of one tensor, or of each of its channels."""
  mean = reduce_all_but(x, axis, jnp.mean)
  deviation = x.astype(jnp.float32) - mean
  return Moments(
    jnp.float32(x.size // mean.size),
    mean,
    reduce_all_but(jnp.square(deviation), axis, jnp.sum),
    reduce_all_but(x, axis, jnp.min),
    reduce_all_but(x, axis, jnp.max),
  )


def merge_moments(a: Moments, b: Moments) -> Moments:
  """The moments of two sets together (Chan, Golub, LeVeque 1979).

  Args:
    a: moments of one set.
    b: moments of another.

  Returns:
    Moments of the union.
  """
  count = a.count + b.count
  share = b.count / jnp.maximum(count, 1.0)
  shift = b.mean - a.mean
  return Moments(
    count,
    a.mean + share * shift,
    a.squares + b.squares + a.count * share * jnp.square(shift),
    jnp.minimum(a.lo, b.lo),
    jnp.maximum(a.hi, b.hi),
  )


def mean_std(*, k: float = 3.0, axis: int | None = None) -> Observer:
  """Mean plus and minus `k` standard deviations, within what was seen.

  Args:
    k: number of standard deviations, positive.
    axis: channel axis, or None for one range.

  Returns:
    An observer with a `Moments` state.

  Raises:
    InputError: k is not positive.
  """
  if not k > 0:
    raise InputError(f'k={k!r}: must be positive')

  def update(state, x):
    return merge_moments(state, moments_of(x, axis))

  def range_(state, spec):
    del spec
    reach = k * jnp.sqrt(state.squares / jnp.maximum(state.count, 1.0))
    return _seen(
      state.count,
      jnp.maximum(state.mean - reach, state.lo),
      jnp.minimum(state.mean + reach, state.hi),
    )

  return Observer(
    functools.partial(init_moments, axis=axis), update, range_, merge_moments
  )
