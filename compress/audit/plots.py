"""The report's figures, as SVG text that follows the page's colours.

Each function draws one figure and returns a `Plot`; with nothing to draw it
returns None. Text and lines carry CSS variables with fallback colours
(`var(--series-1, #0072b2)`), so that a page can restyle them for a dark
window, while the file alone still shows as drawn. Figures are matplotlib
`Figure` objects: no pyplot, no global state; the same input gives the same
bytes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from scipy.special import ndtri

from compress.audit import entries, numerals, plot_axes, plot_style

_NAME = 34
_TOP_RATE = 0.6
_MOST_POINTS = 400


class Plot(NamedTuple):
  """A drawn figure: its name, SVG text, caption and description in words."""

  name: str
  svg: str
  caption: str
  alt: str


def error_tradeoff(
  curves: Mapping[str, Any], found: Sequence[entries.Version]
) -> Plot | None:
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
  labels = numerals.labels(list(drawn), width=_NAME)
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
  return Plot(
    'error-tradeoff',
    svg,
    caption,
    'Line chart of false non-match rate against false match rate for '
    + _listing(list(drawn)),
  )


def error_against_size(found: Sequence[entries.Version]) -> Plot | None:
  """Equal error rate against bytes on disk, with intervals.

  Args:
    found: the report's versions; one with several runs is drawn at the mean,
      plus or minus the sample standard deviation.

  Returns:
    The figure, or None if no version has both an EER and a size.
  """
  points = []
  for v in found:
    size = entries.mean(v, 'bytes', 'on_disk')
    eer = entries.mean(v, 'verification', 'eer')
    if size and size > 0 and eer is not None:
      points.append((v, size / 1e6, eer, _error(v, 'verification', 'eer')))
  if not points:
    return None
  methods = plot_style.methods(found)
  labels = numerals.labels(methods, width=_NAME)
  sizes = np.array([size for _, size, *_ in points])
  shown = plot_axes.dodge(sizes)
  with matplotlib.rc_context(plot_style.RC):
    figure, axes = plot_style.canvas(5.4, 3.7)
    limits = (shown.min() / 1.2, shown.max() * 1.2)
    axes.set_xscale('log')
    axes.set_xlim(*limits)
    plot_axes.plain_log_ticks(axes.xaxis, limits)
    labelled = set()
    for x, (v, _, eer, error) in zip(shown, points, strict=True):
      index, name = 0, f'{numerals.shorten(v.name, 22)} (reference)'
      if not v.is_reference:
        name = plot_style.method(v)
        index = methods.index(name) + 1
        name = labels[name]
      else:
        axes.axhline(eer, color=plot_style.MUTED, linewidth=0.8, zorder=1)
      first = index not in labelled and index <= plot_style.MOST_COLOURS
      labelled.add(index)
      axes.errorbar(
        [x],
        [eer],
        yerr=np.array([error]).T if any(error) else None,
        label=name if first else None,
        zorder=2 if index > plot_style.MOST_COLOURS else 4,
        **plot_style.marker(index),
      )
    plot_axes.error_axis(axes, [p[2] for p in points], [p[3] for p in points])
    axes.set_xlabel('File on disk (MB, 1e6 bytes)')
    axes.set_ylabel('Equal error rate (%)')
    plot_style.legend(figure, axes)
    svg = plot_style.to_svg(figure, prefix='size')
  bars = _bars([v for v, *_, error in points if any(error)])
  caption = (
    f'Error against bytes: lower and further left is better.{bars} The grey '
    'line is the reference. Networks of equal size are set slightly apart.'
  )
  parts = [
    f'{v.name} {size:.3g} MB, EER {numerals.fixed(eer)} %'
    for v, size, eer, _ in points
  ]
  return Plot(
    'error-against-size',
    svg,
    caption,
    'Scatter chart of equal error rate against file size: '
    + _listing(parts, separator='; '),
  )


def group_errors(
  found: Sequence[entries.Version], *, key: str = 'groups'
) -> Plot | None:
  """Error rate (100 - accuracy) per group, as bars with intervals.

  Bars start at zero, so that lengths compare. Up to four versions are all
  drawn; of more, the reference and the best of each bit width, at most five.

  Args:
    found: the report's versions.
    key: 'groups' or 'groups_global', see `compress.audit.tables.groups`.

  Returns:
    The figure, or None without groups.
  """
  names = entries.group_names(found, key=key)
  having = [v for v in found if any(r.get(key) for r in v.runs)]
  if not names or not having:
    return None
  chosen = _best_of_each_width(having)
  styles = plot_style.series(found)
  if any(styles[v.name].colour is None for v in chosen):
    styles = plot_style.series(chosen)
  labels = numerals.labels([v.name for v in chosen], width=_NAME)
  width = 0.8 / len(chosen)
  crowded = len(names) > 6
  with matplotlib.rc_context(plot_style.RC):
    figure, axes = plot_style.canvas(5.4, 3.4)
    for i, v in enumerate(chosen):
      place, height, error = [], [], []
      for k, name in enumerate(names):
        accuracy = entries.mean(v, key, name, 'accuracy')
        if accuracy is not None:
          below, above = _error(v, key, name, 'accuracy')
          place.append(k + (i - (len(chosen) - 1) / 2) * width)
          height.append(100 - accuracy)
          error.append((min(above, 100 - accuracy), below))
      if not place:
        continue
      style = styles[v.name]
      axes.bar(
        place,
        height,
        width * 0.86,
        color=plot_style.MUTED if v.is_reference else style.colour,
        alpha=style.shade,
        label=labels[v.name],
        zorder=2,
      )
      if not np.any(error):
        continue
      axes.errorbar(
        place,
        height,
        yerr=np.array(error).T,
        fmt='none',
        color=plot_style.INK,
        elinewidth=0.9,
        capsize=2,
        capthick=0.9,
        zorder=3,
      )
    axes.set_xticks(
      np.arange(len(names), dtype=float),
      [numerals.shorten(name, 16) for name in names],
      rotation=35 if crowded else 0,
      ha='right' if crowded else 'center',
    )
    axes.grid(visible=False, axis='x')
    axes.set_ylim(bottom=0)
    axes.margins(x=0.04)
    axes.set_ylabel('Wrong decisions (100 − accuracy, %)')
    plot_style.legend(figure, axes)
    svg = plot_style.to_svg(figure, prefix=key)
  mode = 'a threshold of its own for each group'
  if key == 'groups_global':
    mode = 'one threshold for all groups'
  with_error = [
    v
    for v in chosen
    if any(any(_error(v, key, name, 'accuracy')) for name in names)
  ]
  caption = f'Wrong decisions per group, {mode}.{_bars(with_error)}'
  if len(chosen) < len(having):
    caption += ' Drawn are the reference and the best of each bit width.'
  return Plot(
    key.replace('_', '-') + '-errors',
    svg,
    caption,
    f'Bar chart of wrong decisions per group ({", ".join(names[:12])}) for '
    + _listing([v.name for v in chosen]),
  )


def training_loss(
  training: Mapping[str, Any], found: Sequence[entries.Version]
) -> Plot | None:
  """Loss against step for each fine-tuned network, on a log axis if positive.

  Args:
    training: version name -> {'step': [S], 'loss': [S]}. Runs longer than 200
      points are averaged in equal windows, which the caption says.
    found: the report's versions, for names and colours.

  Returns:
    The figure, or None without a finite point.
  """
  drawn, averaged = {}, False
  for name, run in training.items():
    step = _numbers(entries.dig(run, 'step'))
    loss = _numbers(entries.dig(run, 'loss'))
    n = min(step.size, loss.size)
    keep = np.isfinite(step[:n]) & np.isfinite(loss[:n])
    step, loss = step[:n][keep], loss[:n][keep]
    if step.size > 200:
      averaged = True
      parts = (np.array_split(x, 200) for x in (step, loss))
      step, loss = (np.array([x.mean() for x in part]) for part in parts)
    if step.size:
      drawn[name] = (step, loss)
  if not drawn:
    return None
  styles = plot_style.series(found)
  labels = numerals.labels(list(drawn), width=_NAME)
  with matplotlib.rc_context(plot_style.RC):
    figure, axes = plot_style.canvas(5.4, 3.4)
    for name, (step, loss) in drawn.items():
      style = styles.get(name, plot_style.Series(None))
      named = style.colour is not None
      axes.plot(
        step,
        loss,
        marker='o' if step.size == 1 else None,
        label=labels[name] if named else None,
        **style.line | {'linewidth': 1.2 if named else 0.6},
      )
    if all((loss > 0).all() for _, loss in drawn.values()):
      axes.set_yscale('log')
      plot_axes.plain_log_ticks(axes.yaxis, axes.get_ylim())
    axes.margins(x=0.02)
    axes.set_xlabel('Step')
    axes.set_ylabel('Training loss')
    plot_style.legend(figure, axes)
    svg = plot_style.to_svg(figure, prefix='training')
  caption = (
    'Training loss. Losses of different methods are different quantities: '
    'compare the shape of a curve, not its height.'
  )
  if averaged:
    caption += ' Long runs are averaged over equal windows of steps.'
  return Plot(
    'training-loss',
    svg,
    caption,
    'Line chart of training loss against step for ' + _listing(list(drawn)),
  )


def score_histogram(
  scores: Mapping[str, Any] | None, *, name: str
) -> Plot | None:
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
    x = _numbers(entries.dig(scores, key))
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
  return Plot(
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
  fmr, fnmr = (_numbers(entries.dig(entry, key)) for key in ('fmr', 'fnmr'))
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


def _numbers(values: Any) -> np.ndarray:
  """Values as a float64 vector; None and text become NaN."""
  if values is None or isinstance(values, str):
    return np.zeros(0)
  values = np.asarray(values)
  if values.dtype == object or values.dtype.kind in 'US':
    found = (entries.number(x) for x in values.ravel())
    return np.array([np.nan if x is None else x for x in found], np.float64)
  return values.astype(np.float64).ravel()


def _error(version: entries.Version, *path: str) -> tuple[float, float]:
  """Distances below and above a value: its interval, or the deviation."""
  found = entries.values(version, *path)
  if len(version.runs) > 1:
    spread = float(np.std(found, ddof=1)) if found[1:] else 0.0
    return min(spread, float(np.mean(found))) if found else 0.0, spread
  ends = entries.interval(entries.dig(version.first, *path[:-1]), path[-1])
  if ends is None or not found:
    return 0.0, 0.0
  return max(0.0, found[0] - ends[0]), max(0.0, ends[1] - found[0])


def _bars(having: Sequence[entries.Version]) -> str:
  """What the error bars of these versions are, as a sentence."""
  if not having:
    return ''
  if all(len(v.runs) == 1 for v in having):
    return ' Thin bars are 95 % intervals.'
  if all(len(v.runs) > 1 for v in having):
    return ' Thin bars are standard deviations over runs.'
  return (
    ' Thin bars are standard deviations over runs, or 95 % intervals where '
    'there is one run.'
  )


def _best_of_each_width(
  found: Sequence[entries.Version],
) -> list[entries.Version]:
  """All of four versions; else the reference and the best of each width."""
  if len(found) <= 4:
    return list(found)
  best: dict[str, entries.Version] = {}
  for v in found:
    key = 'reference' if v.is_reference else entries.bits(v.first)
    if key not in best or _eer(v) < _eer(best[key]):
      best[key] = v
  return list(best.values())[:5]


def _eer(version: entries.Version) -> float:
  value = entries.mean(version, 'verification', 'eer')
  return float('inf') if value is None else value


def _listing(names: Sequence[str], *, separator: str = ', ') -> str:
  shown = separator.join(names[:12])
  more = len(names) - 12
  return f'{shown} and {more} more.' if more > 0 else f'{shown}.'
