"""Figures of scores and thresholds: the trade-off of errors, the histogram."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from scipy.special import ndtri

from compress.audit import (
  entries,
  numerals,
  plot_axes,
  plot_parts,
  plot_style,
)

_TOP_RATE = 0.6
_MOST_POINTS = 400


def error_tradeoff(
  curves: Mapping[str, Any], found: Sequence[entries.Version]
) -> plot_parts.Plot | None:
  """FNMR against FMR on normal-deviate axes (a DET curve).

  Both axes are warped by the inverse normal distribution function, which
  turns Gaussian scores into straight lines (Martin et al., 'The DET curve in
  assessment of detection task performance', Eurospeech 1997).

  Args:
    curves: version name -> {'fmr': [T], 'fnmr': [T]}, rates in 0..1, one
      point per threshold, in any order.
    found: the report's versions, the reference first.

  Returns:
    The figure, or None without a curve that has two finite points.
  """
  drawn = {v.name: thinned(curves.get(v.name)) for v in found}
  drawn = {name: points for name, points in drawn.items() if points is not None}
  if not drawn:
    return None
  styles = plot_style.series(found)
  labels = numerals.labels(list(drawn), width=plot_parts.NAME)
  low = [
    plot_axes.rate_floor([p[:, axis] for p in drawn.values()])
    for axis in (0, 1)
  ]
  with matplotlib.rc_context(plot_style.RC):
    figure, axes = plot_style.canvas(5.4, 3.7)
    ends = ndtri([max(low), _TOP_RATE])
    axes.plot(ends, ends, color=plot_style.MUTED, linewidth=0.8, zorder=1)
    axes.annotate(
      'equal error',
      (ends[1], ends[1]),
      xytext=(-16, -4),
      textcoords='offset points',
      ha='right',
      va='top',
      color=plot_style.MUTED,
      fontsize=7.5,
    )
    for name, points in drawn.items():
      x, y = (ndtri(np.clip(points[:, k], low[k], 0.999)) for k in (0, 1))
      named = styles[name].colour is not None
      axes.plot(
        x,
        y,
        drawstyle='steps-post',
        label=labels[name] if named else None,
        **styles[name].line,
      )
    for axis, start in zip((axes.xaxis, axes.yaxis), low, strict=True):
      plot_axes.deviate_ticks(axis, start, _TOP_RATE)
    axes.set_xlim(ndtri(low[0]), ndtri(_TOP_RATE))
    axes.set_ylim(ndtri(low[1]) - 0.03, ndtri(_TOP_RATE))
    axes.set_xlabel('Strangers accepted (FMR, %)')
    axes.set_ylabel('Same person refused (FNMR, %)')
    plot_style.legend(figure, axes)
    svg = plot_style.to_svg(figure, prefix='tradeoff')
  grey = sum(styles[name].colour is None for name in drawn)
  caption = (
    'Error trade-off: every point is one threshold. Lower and further left is '
    'better. Rates of zero are drawn on the edge.'
  )
  if grey:
    caption += (
      f' The {plot_style.MOST_COLOURS} networks of lowest EER are named, '
      f'{grey} others are grey.'
    )
  return plot_parts.Plot(
    'error-tradeoff',
    svg,
    caption,
    'Line chart of false non-match rate against false match rate for '
    + plot_parts.listing(list(drawn)),
  )


def score_histogram(
  scores: Mapping[str, Any] | None, *, name: str
) -> plot_parts.Plot | None:
  """Cosine similarity of genuine and impostor pairs of one network.

  Args:
    scores: {'genuine': [G], 'impostor': [I]} and optionally 'threshold', the
      decision threshold; cosine similarities in -1..1.
    name: the network's name.

  Returns:
    The figure, or None without a finite score.
  """
  parts = {}
  for key in ('impostor', 'genuine'):
    x = plot_parts.numbers(entries.dig(scores, key))
    parts[key] = x[np.isfinite(x)]
  everything = np.concatenate(list(parts.values()))
  if not everything.size:
    return None
  low, high = everything.min(), everything.max()
  pad = max(1e-3, 0.02 * (high - low))
  edges = np.linspace(low - pad, high + pad, 61)
  threshold = entries.number(entries.dig(scores, 'threshold'))
  words = {'impostor': 'different people', 'genuine': 'same person'}
  colours = {
    'impostor': plot_style.PALETTE[1],
    'genuine': plot_style.PALETTE[0],
  }
  with matplotlib.rc_context(plot_style.RC):
    figure, axes = plot_style.canvas(5.4, 3.0)
    for key, x in parts.items():
      if x.size:
        axes.stairs(
          np.histogram(x, edges)[0] * (100 / x.size),
          edges,
          fill=True,
          facecolor=colours[key],
          edgecolor=colours[key],
          alpha=0.6,
          hatch='////' if key == 'impostor' else None,
          label=f'{words[key]} ({x.size:,} pairs)',
        )
    if threshold is not None:
      axes.axvline(
        threshold,
        color=plot_style.INK,
        linewidth=1,
        linestyle=plot_style.DASHES[1],
        label=f'threshold {threshold:.3f}',
      )
    axes.set_ylim(bottom=0)
    axes.set_xlabel('Cosine similarity of the two photographs')
    axes.set_ylabel('Share of the pairs (%)')
    plot_style.legend(figure, axes)
    svg = plot_style.to_svg(figure, prefix='scores')
  return plot_parts.Plot(
    'score-histogram',
    svg,
    f'Similarity of the pairs under the reference, {name}. The less the two '
    'hills overlap, the fewer errors.',
    f'Histogram of similarity for {parts["genuine"].size:,} genuine and '
    f'{parts["impostor"].size:,} impostor pairs.',
  )


def thinned(entry: Any) -> np.ndarray | None:
  """The points of a trade-off curve that its drawing needs.

  Args:
    entry: {'fmr': [T], 'fnmr': [T]}; what is not a rate in 0..1 is left out.

  Returns:
    float64 [<= 400, 2], (FMR, FNMR) sorted by FMR, or None below two points.
  """
  fmr, fnmr = (
    plot_parts.numbers(entries.dig(entry, key)) for key in ('fmr', 'fnmr')
  )
  n = min(fmr.size, fnmr.size)
  points = np.stack([fmr[:n], fnmr[:n]], axis=1)
  points = points[((points >= 0) & (points <= 1)).all(axis=1)]
  if len(points) < 2:
    return None
  points = points[np.lexsort((-points[:, 1], points[:, 0]))]
  corner = np.ones(len(points), bool)
  corner[1:-1] = np.diff(points[:-1, 1]) != 0
  points = points[corner]
  if len(points) > _MOST_POINTS:
    # Evenly along the drawn curve, not along the thresholds: those lie dense
    # where the rates barely change.
    where = ndtri(np.clip(points, 1e-7, 1 - 1e-7))
    length = np.abs(np.diff(where, axis=0)).sum(axis=1).cumsum()
    at = np.linspace(0, length[-1], _MOST_POINTS)
    chosen = np.unique(np.searchsorted(np.append(0, length), at))
    points = points[np.minimum(chosen, len(points) - 1)]
  return points
