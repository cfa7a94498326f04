"""Values on their way to integers: codes, and accumulators not yet rescaled.

A value is either `Codes` on a grid, or `Wide`: int32 accumulators with the real
function that they stand for,

  value = clip(g (scale acc + offset) + shift, low, high),

where g is `above` for `scale acc + offset >= 0` and else `below`.
"""

import dataclasses

import numpy as np

from compress.errors import InputError
from compress.quantize.integer_arithmetic import INT32_MAX
from compress.quantize.integer_program import Grid
from compress.quantize.spec import AffineSpec, QParams

LIMIT = 2**30 - 1
# A bias in units of the accumulator is off by at most half of one; how many
# codes a unit may be, before the bias is added at a finer scale instead. In a
# deep network one code in a thousand that differs early is many at the end.
_COARSE = {'exact': 2.0**-11, 'jacob': 2.0**-6}
_MOST_LEFT = 16


def make_grid(name: str, q: QParams, spec: AffineSpec) -> Grid:
  """The grid of an activation.

  Args:
    name: of the activation, for messages.
    q: one scale and zero point.
    spec: the quantizer.

  Returns:
    The grid; unsigned codes are stored half their range lower, so that int8
    and int16 hold them.

  Raises:
    InputError: a grid that integer inference has no rule for.
  """
  fits = (
    spec.granularity == 'tensor'
    and not spec.dynamic
    and spec.rounding != 'stochastic'
    and np.size(q.scale) == 1
  )
  if not fits:
    raise InputError(
      f'activation {name!r}: integer inference takes static ranges of whole '
      'tensors, rounded to the nearest code'
    )
  scale = float(np.asarray(q.scale).reshape(()))
  if not (np.isfinite(scale) and scale > 0):
    raise InputError(f'activation {name!r}: its scale is {scale}')
  zero = int(np.asarray(q.zero_point).reshape(()))
  lift = {255: 128, 65535: 32768}.get(spec.qmax, 0)
  return Grid(
    scale,
    zero - lift,
    spec.qmin - lift,
    spec.qmax - lift,
    lift,
    spec.dtype.name,
    spec.rounding,
  )


@dataclasses.dataclass(frozen=True)
class Codes:
  """Stored codes on a grid, at a place in the program."""

  place: int
  grid: Grid


@dataclasses.dataclass(frozen=True)
class Wide:
  """Accumulators `acc` and what they stand for; see the file's head.

  They are `(raw << left) + bias`, the shift giving a bias its fraction bits.

  All arrays are float64 and broadcast to the value, batch axis first.

  Attributes:
    place: of `raw` in the program.
    left: int64, shift of `raw`.
    bias: int64, to be added.
    bound: the largest magnitude of `acc`, within int32.
    scale: of the accumulators.
    offset: added before the kink at 0.
    above: factor where that is not negative.
    below: factor elsewhere, or None where there is no kink.
    shift: added after the kink; 0 without one.
    low: lower bound, -inf for none.
    high: upper bound.
  """

  place: int
  left: np.ndarray
  bias: np.ndarray
  bound: np.ndarray
  scale: np.ndarray
  offset: np.ndarray
  above: np.ndarray
  below: np.ndarray | None
  shift: np.ndarray
  low: np.ndarray
  high: np.ndarray

  @property
  def bounded(self) -> bool:
    """Whether a bound is finite."""
    return bool(np.isfinite(self.low).any() or np.isfinite(self.high).any())

  def reach(self) -> float:
    """The largest magnitude of the value."""
    inner = np.abs(self.scale) * self.bound + np.abs(self.offset)
    factor = np.abs(self.above)
    if self.below is not None:
      factor = np.maximum(factor, np.abs(self.below))
    value = factor * inner + np.abs(self.shift)
    ends = np.maximum(np.abs(self.low), np.abs(self.high))
    return float(np.max(np.minimum(value, ends)))


def wide_value(place: int, bias, bound, scale, rank: int) -> Wide:
  """Accumulators that stand for `scale (raw + bias)`, for a rank."""
  one = np.ones((1,) * rank)
  return Wide(
    place,
    np.zeros(one.shape, np.int64),
    np.asarray(bias, np.int64) * one.astype(np.int64),
    np.asarray(bound, np.float64) * one,
    np.asarray(scale, np.float64) * one,
    0 * one,
    one,
    None,
    0 * one,
    -np.inf * one,
    np.inf * one,
  )


def single(v: Wide) -> Wide:
  """Without a kink, one scale and one offset."""
  if v.below is not None:
    return v
  return dataclasses.replace(
    v,
    scale=v.scale * v.above,
    offset=v.offset * v.above + v.shift,
    above=np.ones_like(v.above),
    shift=np.zeros_like(v.shift),
  )


def plain(v: Wide) -> bool:
  """Whether a value is nothing but accumulators of one scale."""
  return (
    v.below is None
    and not v.bounded
    and not v.offset.any()
    and not v.bias.any()
    and not v.left.any()
    and v.scale.size == 1
    and v.scale.flat[0] > 0
    and (v.above == 1).all()
  )


def with_bias(v: Wide, step: float, arithmetic: str) -> Wide:
  """The offset as an int32 bias in units of the accumulator (section 2.4).

  Only where that is exact or fine enough for a grid of step `step`, in all
  channels; else the offset stays. The paper's unit is the product of both
  scales; `exact` gives it as many more fraction bits as int32 has room for. A
  channel whose accumulators are always 0 gets a scale at which it is fine.
  """
  if not v.offset.any() or v.left.any():
    return v
  scale = np.where(v.bound == 0, step * 2.0**-16, v.scale)
  if (scale == 0).any():
    return v
  units = v.offset / scale
  left = np.zeros(np.broadcast_shapes(units.shape, v.bound.shape), np.int64)
  if arithmetic == 'exact':
    room = np.log2(INT32_MAX / (np.abs(units) + v.bound + 1))
    left = np.clip(np.floor(room), 0, _MOST_LEFT).astype(np.int64)
  unit = 2.0**left
  whole = np.rint(units * unit)
  factor = np.abs(v.above)
  if v.below is not None:
    factor = np.maximum(factor, np.abs(v.below))
  fine = np.abs(scale) * factor / unit <= _COARSE[arithmetic] * step
  fine |= units * unit == whole
  bound, bias = np.abs(whole) + v.bound * unit, v.bias * unit + whole
  fits = (bound < INT32_MAX) & (np.abs(bias) < INT32_MAX)
  if not (fine & fits).all():
    return v
  return dataclasses.replace(
    v,
    left=left,
    bias=bias.astype(np.int64),
    bound=bound,
    scale=scale / unit,
    offset=np.zeros_like(v.offset),
  )


def step_of(reach: float) -> float:
  """The finest power of two in whose units int32 holds a magnitude."""
  if not reach > 0:
    return 1.0
  return 2.0 ** np.ceil(np.log2(reach / (LIMIT / 2)))


def bounded_int(values) -> np.ndarray:
  """Whole numbers that leave int32 room for a sum of two."""
  return np.rint(np.clip(values, -LIMIT, LIMIT)).astype(np.int64)


def rounded_bounds(values, grid: Grid) -> np.ndarray:
  """Real bounds as codes without zero point, as the grid rounds."""
  values = np.clip(values, -LIMIT, LIMIT)
  if grid.rounding == 'half_away':
    values = np.sign(values) * np.floor(np.abs(values) + 0.5)
  return np.rint(values).astype(np.int64)


def clamped(multiplier) -> np.ndarray:
  """Multipliers that have a fixed-point form; larger ones saturate anyway."""
  limit = float(INT32_MAX)
  return np.clip(multiplier, -limit, limit)
