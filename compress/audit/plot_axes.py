"""Axes of the report's figures: error rates, sizes, and where points go."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from scipy.special import ndtri


def rate_floor(parts: Sequence[np.ndarray]) -> float:
  """The lower end of a rate axis: below the smallest rate that is not zero."""
  positive = np.concatenate(parts)
  positive = positive[positive > 0]
  smallest = positive.min() if positive.size else 1e-3
  return float(np.clip(smallest * 0.7, 1e-7, 0.05))


def deviate_ticks(axis: Any, low: float, high: float) -> None:
  """Ticks at round percentages on a normal-deviate axis, rates in 0..1."""
  ticks = [10.0**-k for k in range(7, 0, -1)] + [0.2, 0.4]
  if low > 2e-4:
    ticks += [m * 10.0**-k for k in (4, 3, 2) for m in (2, 5)]
  ticks = sorted(t for t in ticks if low <= t <= high)
  names = [f'{100 * t:.6g}' if t > 1e-6 else f'{100 * t:.0e}' for t in ticks]
  axis.set_major_locator(FixedLocator(list(ndtri(ticks))))
  axis.set_minor_locator(NullLocator())
  axis.set_ticklabels(names)


def plain_log_ticks(axis: Any, limits: tuple[float, float]) -> None:
  """Log ticks written as plain numbers, few enough not to touch."""
  low, high = limits
  decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))))
  ticks = []
  for steps in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
    ticks = [m * 10.0**k for k in decades for m in steps]
    ticks = [t for t in ticks if low <= t <= high]
    if len(ticks) <= 7:
      break
  if len(ticks) < 2:
    ticks = list(np.geomspace(low, high, 5)[1:-1])
  axis.set_major_locator(FixedLocator(ticks))
  axis.set_minor_locator(NullLocator())
  axis.set_major_formatter(FuncFormatter(lambda x, _: f'{x:.3g}'))


def error_axis(
  axes: Axes, centres: Sequence[float], errors: Sequence[Sequence[float]]
) -> None:
  """A linear axis from zero; symmetric-log if values span a factor over 30."""
  positive = sorted(c for c in centres if c > 0)
  top = max(c + e[1] for c, e in zip(centres, errors, strict=True))
  if positive and positive[-1] / positive[0] > 30:
    linear = max(positive[0], top / 1e4)
    axes.set_yscale('symlog', linthresh=linear, linscale=0.6)
    ticks = [m * 10.0**k for k in range(-4, 3) for m in (1, 3)]
    ticks = [0.0, *(t for t in ticks if linear <= t <= 1.3 * top)]
    axes.set_yticks(ticks, [f'{t:g}' for t in ticks])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylim(0, top * 1.3)
    return
  axes.set_ylim(0, top * 1.08 if top > 0 else 1)


def dodge(sizes: np.ndarray) -> np.ndarray:
  """Sizes within 3 % of each other, set apart evenly around their mean."""
  shown, order = sizes.astype(float), np.argsort(sizes, kind='stable')
  span = np.log(sizes.max() / sizes.min()) + 2 * np.log(1.25)
  start = 0
  for stop in range(1, len(order) + 1):
    if stop < len(order) and sizes[order[stop]] < 1.03 * sizes[order[start]]:
      continue
    cluster = np.sort(order[start:stop])
    step = min(0.028, 0.22 / len(cluster)) * span
    offsets = (np.arange(len(cluster)) - (len(cluster) - 1) / 2) * step
    shown[cluster] = sizes[cluster].mean() * np.exp(offsets)
    start = stop
  return shown
