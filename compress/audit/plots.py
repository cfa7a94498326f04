"""The report's figures, as SVG text that follows the page's colours.

Each function draws one figure and returns a `Plot`; with nothing to draw it
returns None. Text and lines carry CSS variables with fallback colours
(`var(--series-1, #0072b2)`), so that a page can restyle them for a dark
window, while the file alone still shows as drawn. Figures are matplotlib
`Figure` objects: no pyplot, no global state; the same input gives the same
bytes.

Colours are those of Okabe and Ito, 'Color Universal Design' (2008), which
readers with any common form of colour blindness tell apart; a line style or
marker shape repeats what the colour says.
"""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from scipy.special import ndtri

from compress.audit import tables

MOST_SERIES = 8
_INK, _GRID, _MUTED = '#1b1f23', '#d9dde1', '#9aa0a6'
_SERIES = (
  '#0072b2',
  '#d55e00',
  '#009e73',
  '#cc79a7',
  '#e69f00',
  '#56b4e9',
  '#8c6bb1',
  '#7a6a53',
)
_DASHES = ('-', (0, (5, 1.6)), (0, (1.2, 1.4)), (0, (5, 1.4, 1.2, 1.4)))
_MARKERS = 'oDs^vPX<'
_SALT = 'compress.audit'
_STYLE = {
  'font.family': ['DejaVu Sans'],
  'font.size': 8.5,
  'axes.edgecolor': _INK,
  'axes.labelcolor': _INK,
  'axes.linewidth': 0.7,
  'axes.spines.top': False,
  'axes.spines.right': False,
  'axes.grid': True,
  'axes.axisbelow': True,
  'axes.unicode_minus': True,
  'grid.color': _GRID,
  'grid.linewidth': 0.6,
  'legend.frameon': False,
  'legend.fontsize': 8,
  'legend.labelcolor': _INK,
  'lines.linewidth': 1.5,
  'svg.fonttype': 'path',
  'svg.hashsalt': _SALT,
  'text.color': _INK,
  'xtick.color': _INK,
  'ytick.color': _INK,
  'xtick.labelsize': 8,
  'ytick.labelsize': 8,
  'path.simplify': True,
}


class Plot(NamedTuple):
  """A drawn figure: its name, SVG text, caption and description in words."""

  name: str
  svg: str
  caption: str
  alt: str


def error_tradeoff(
  curves: Mapping[str, Any], names: Sequence[str]
) -> Plot | None:
  """FNMR against FMR on normal-deviate axes (a DET curve).

  Both axes are warped by the inverse normal distribution function, which
  turns Gaussian scores into straight lines (Martin et al., 'The DET curve in
  assessment of detection task performance', Eurospeech 1997).

  Args:
    curves: name -> {'fmr': [T], 'fnmr': [T]}, rates in 0..1, one point per
      threshold, in any order.
    names: which curves, the reference first; the first eight after it are
      coloured and named, the rest are thin and grey.

  Returns:
    The figure, or None without a curve that has two finite points.
  """
  drawn = {}
  for name in names:
    points = _curve(curves.get(name))
    if points is not None:
      drawn[name] = points
  if not drawn:
    return None
  low = [
    _floor([points[:, axis] for points in drawn.values()]) for axis in (0, 1)
  ]
  with matplotlib.rc_context(_STYLE):
    figure, axes = _figure(5.4, 4.4)
    for axis in (axes.xaxis, axes.yaxis):
      axis.set_minor_locator(NullLocator())
    high = [
      min(
        0.6,
        max(0.4, max(points[:, axis].max() for points in [*drawn.values()])),
      )
      for axis in (0, 1)
    ]
    start = max(low)
    edge = ndtri([start, min(high)])
    axes.plot(edge, edge, color=_MUTED, linewidth=0.8, zorder=1)
    axes.annotate(
      'equal error',
      (ndtri(min(high)), ndtri(min(high))),
      xytext=(-4, -2),
      textcoords='offset points',
      ha='right',
      va='top',
      color=_MUTED,
      fontsize=7.5,
    )
    for i, (name, points) in reversed(list(enumerate(drawn.items()))):
      x, y = (ndtri(np.clip(points[:, k], low[k], 0.999)) for k in (0, 1))
      axes.plot(
        x,
        y,
        drawstyle='steps-post',
        label=tables.shorten(name, 34) if i <= MOST_SERIES else None,
        **_line(i),
      )
    _deviate_axis(axes.xaxis, low[0], high[0])
    _deviate_axis(axes.yaxis, low[1], high[1])
    axes.set_xlim(ndtri(low[0]), ndtri(high[0]))
    axes.set_ylim(ndtri(low[1]) - 0.03, ndtri(high[1]))
    axes.set_xlabel('False matches: strangers accepted (FMR, %)')
    axes.set_ylabel('False non-matches: same person refused (FNMR, %)')
    _legend(figure, axes, reverse=True)
    svg = _svg(figure, 'tradeoff')
  rest = len(drawn) - 1 - MOST_SERIES
  caption = (
    'Error trade-off: every point is one threshold. Lower and further left is '
    'better. Rates of zero are drawn on the edge.'
  )
  if rest > 0:
    caption += f' {rest} further networks are drawn in grey.'
  return Plot(
    'error-tradeoff',
    svg,
    caption,
    'Line chart of false non-match rate against false match rate for '
    + _listing(list(drawn)),
  )


def error_against_size(found: Sequence[tables.Version]) -> Plot | None:
  """Equal error rate against bytes on disk, with intervals.

  Args:
    found: the report's versions; one with several runs is drawn at the mean,
      plus or minus the sample standard deviation.

  Returns:
    The figure, or None if no version has both an EER and a size.
  """
  points = []
  for v in found:
    size = tables.mean(v, 'bytes', 'on_disk')
    eer = tables.mean(v, 'verification', 'eer')
    if size and size > 0 and eer is not None:
      points.append((v, size / 1e6, eer, _error(v, 'verification', 'eer')))
  if not points:
    return None
  methods = list(
    dict.fromkeys(_method(v) for v, *_ in points if not v.is_reference)
  )
  with matplotlib.rc_context(_STYLE):
    figure, axes = _figure(5.4, 4.4)
    sizes = np.array([x for _, x, *_ in points])
    axes.set_xscale('log')
    shown = _dodge(sizes)
    for i, method in reversed(list(enumerate(methods))):
      chosen = [
        (shown[k], y, e)
        for k, (v, _, y, e) in enumerate(points)
        if not v.is_reference and _method(v) == method
      ]
      chosen.sort(key=lambda c: c[0])
      style = _marker(i + 1)
      axes.errorbar(
        [c[0] for c in chosen],
        [c[1] for c in chosen],
        yerr=np.array([c[2] for c in chosen]).T,
        label=tables.shorten(method, 34) if i < MOST_SERIES else None,
        zorder=4 if i < MOST_SERIES else 2,
        **style,
      )
    for k, (v, _, y, e) in enumerate(points):
      if v.is_reference:
        axes.errorbar(
          [shown[k]],
          [y],
          yerr=np.array([e]).T,
          label=f'{tables.shorten(v.name, 28)} (reference)',
          zorder=5,
          **_marker(0),
        )
        axes.axhline(y, color=_MUTED, linewidth=0.8, zorder=1)
    _plain_log_axis(axes, sizes)
    _error_axis(axes, [p[2] for p in points], [p[3] for p in points])
    axes.set_xlabel('File on disk (MB, 1e6 bytes)')
    axes.set_ylabel('Equal error rate (%)')
    _legend(figure, axes, reverse=True)
    svg = _svg(figure, 'size')
  caption = (
    'Error against bytes: lower and further left is better. Bars are 95 % '
    'intervals (standard deviation where several runs were made); the grey '
    'line is the reference. Networks of equal size are set slightly apart.'
  )
  parts = [
    f'{v.name} {x:.3g} MB, EER {tables.fixed(y)} %' for v, x, y, _ in points
  ]
  return Plot(
    'error-against-size',
    svg,
    caption,
    'Scatter chart of equal error rate against file size: '
    + _listing(parts, separator='; '),
  )


def group_errors(
  found: Sequence[tables.Version], *, key: str = 'groups'
) -> Plot | None:
  """Error rate (100 - accuracy) per group, as bars with intervals.

  Bars start at zero, so lengths compare; a bar per chosen network: the
  reference, then at most five variants (first of each bit width first).

  Args:
    found: the report's versions.
    key: 'groups' or 'groups_global', see `compress.audit.tables.groups`.

  Returns:
    The figure, or None without groups.
  """
  names = tables.group_names(found, key=key)
  having = [v for v in found if any(r.get(key) for r in v.runs)]
  if not names or not having:
    return None
  chosen = _few(having, 6)
  with matplotlib.rc_context(_STYLE):
    figure, axes = _figure(5.4, 4.0)
    width = 0.8 / len(chosen)
    position = np.arange(len(names), dtype=float)
    for i, v in enumerate(chosen):
      place, height, error = [], [], []
      for k, name in enumerate(names):
        accuracy = tables.mean(v, key, name, 'accuracy')
        if accuracy is None:
          continue
        below, above = _error(v, key, name, 'accuracy')
        place.append(position[k] + (i - (len(chosen) - 1) / 2) * width)
        height.append(100 - accuracy)
        error.append((above, below))
      if not place:
        continue
      index = 0 if v.is_reference else i + (not having[0].is_reference)
      axes.bar(
        place,
        height,
        width * 0.86,
        color=_MUTED if v.is_reference else _SERIES[(index - 1) % 8],
        label=tables.shorten(v.name, 34),
        zorder=2,
      )
      axes.errorbar(
        place,
        height,
        yerr=np.array(error).T,
        fmt='none',
        ecolor=_INK,
        elinewidth=0.9,
        capsize=2,
        capthick=0.9,
        zorder=3,
      )
    axes.set_xticks(
      position,
      [tables.shorten(n, 18) for n in names],
      rotation=30 if len(names) > 6 else 0,
      ha='right' if len(names) > 6 else 'center',
    )
    axes.grid(visible=False, axis='x')
    axes.set_ylim(bottom=0)
    axes.margins(x=0.04)
    axes.set_ylabel('Wrong decisions (100 − accuracy, %)')
    _legend(figure, axes)
    svg = _svg(figure, key)
  mode = 'one threshold for all' if key == 'groups_global' else 'own threshold'
  caption = (
    f'Wrong decisions per group ({mode}), with 95 % intervals. '
    'Bars of equal height mean equal treatment.'
  )
  if len(chosen) < len(having):
    caption += f' {len(chosen)} of {len(having)} networks are drawn.'
  return Plot(
    key.replace('_', '-'),
    svg,
    caption,
    f'Bar chart of error per group ({_listing(names)}) for '
    + _listing([v.name for v in chosen]),
  )


def training_loss(training: Mapping[str, Any]) -> Plot | None:
  """Loss against step for each fine-tuned network, on a log axis if positive.

  Args:
    training: name -> {'step': [S], 'loss': [S]}. Runs longer than 200 points
      are averaged in equal windows, which the caption says.

  Returns:
    The figure, or None without a finite point.
  """
  drawn, averaged = {}, False
  for name, run in (training or {}).items():
    step = _numbers(tables.dig(run, 'step'))
    loss = _numbers(tables.dig(run, 'loss'))
    n = min(step.size, loss.size)
    keep = np.isfinite(step[:n]) & np.isfinite(loss[:n])
    step, loss = step[:n][keep], loss[:n][keep]
    if step.size > 200:
      averaged = True
      step, loss = (
        np.array([part.mean() for part in np.array_split(x, 200)])
        for x in (step, loss)
      )
    if step.size:
      drawn[name] = (step, loss)
  if not drawn:
    return None
  with matplotlib.rc_context(_STYLE):
    figure, axes = _figure(5.4, 3.8)
    for i, (name, (step, loss)) in reversed(list(enumerate(drawn.items()))):
      axes.plot(
        step,
        loss,
        label=tables.shorten(name, 34) if i < MOST_SERIES else None,
        **(_line(i + 1) | ({'marker': '.'} if step.size == 1 else {})),
      )
    if all((loss > 0).all() for _, loss in drawn.values()):
      axes.set_yscale('log')
      _plain_log_ticks(axes.yaxis, axes.get_ylim())
    axes.margins(x=0.02)
    axes.set_xlabel('Step')
    axes.set_ylabel('Training loss')
    _legend(figure, axes, reverse=True)
    svg = _svg(figure, 'training')
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


def score_histogram(scores: Mapping[str, Any] | None, name: str) -> Plot | None:
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
    x = _numbers(tables.dig(scores, key))
    parts[key] = x[np.isfinite(x)]
  if not any(x.size for x in parts.values()):
    return None
  everything = np.concatenate(list(parts.values()))
  low, high = everything.min(), everything.max()
  pad = max(1e-3, 0.02 * (high - low))
  edges = np.linspace(low - pad, high + pad, 61)
  threshold = tables.number(tables.dig(scores, 'threshold'))
  with matplotlib.rc_context(_STYLE):
    figure, axes = _figure(5.4, 3.8)
    for key, colour in (('impostor', _SERIES[1]), ('genuine', _SERIES[0])):
      x = parts[key]
      if not x.size:
        continue
      share = np.histogram(x, edges)[0] * (100 / x.size)
      words = 'different people' if key == 'impostor' else 'same person'
      axes.stairs(
        share,
        edges,
        fill=True,
        facecolor=colour,
        edgecolor=colour,
        alpha=0.55,
        linewidth=1,
        hatch='////' if key == 'impostor' else None,
        label=f'{words} ({key}, {x.size:,} pairs)',
      )
    if threshold is not None:
      axes.axvline(
        threshold,
        color=_INK,
        linewidth=1,
        linestyle=_DASHES[1],
        label=f'threshold {threshold:.3f}',
      )
    axes.set_ylim(bottom=0)
    axes.set_xlabel('Cosine similarity of the two photographs')
    axes.set_ylabel('Share of the pairs (%)')
    _legend(figure, axes)
    svg = _svg(figure, 'scores')
  return Plot(
    'score-histogram',
    svg,
    f'Similarity of pairs under the reference, {name}. The less the two '
    'hills overlap, the fewer errors.',
    f'Histogram of similarity for {parts["genuine"].size:,} genuine and '
    f'{parts["impostor"].size:,} impostor pairs.',
  )


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
  figure = Figure(figsize=(width, height), layout='constrained')
  FigureCanvasSVG(figure)
  figure.patch.set_alpha(0)
  axes = figure.add_subplot()
  axes.patch.set_alpha(0)
  return figure, axes


def _legend(figure: Figure, axes: Axes, *, reverse: bool = False) -> None:
  """Names below the axes, in as many columns as fit."""
  handles, labels = axes.get_legend_handles_labels()
  if not labels:
    return
  if reverse:
    handles, labels = handles[::-1], labels[::-1]
  columns = 2 if max(map(len, labels)) > 18 or len(labels) < 3 else 3
  figure.legend(
    handles,
    labels,
    loc='outside lower center',
    ncols=min(columns, len(labels)),
    columnspacing=1.4,
    handlelength=2.4,
  )


def _line(index: int) -> dict[str, Any]:
  """Ink for the reference, eight colours, thin grey for the rest."""
  if index == 0:
    return {'color': _INK, 'linewidth': 2.2, 'zorder': 5}
  if index > MOST_SERIES:
    return {'color': _MUTED, 'linewidth': 0.6, 'zorder': 1.5}
  return {
    'color': _SERIES[index - 1],
    'linestyle': _DASHES[(index - 1) % len(_DASHES)],
    'zorder': 3,
  }


def _marker(index: int) -> dict[str, Any]:
  style = {
    'linestyle': 'none',
    'elinewidth': 1.1,
    'capsize': 2.5,
    'markersize': 5.5,
  }
  if index == 0:
    return style | {'color': _INK, 'marker': '*', 'markersize': 9}
  if index > MOST_SERIES:
    return style | {'color': _MUTED, 'marker': '.', 'markersize': 4}
  return style | {
    'color': _SERIES[index - 1],
    'marker': _MARKERS[index - 1],
  }


def _curve(entry: Any) -> np.ndarray | None:
  """Points [T, 2] of (FMR, FNMR), sorted, finite, at most 400."""
  fmr, fnmr = (_numbers(tables.dig(entry, key)) for key in ('fmr', 'fnmr'))
  n = min(fmr.size, fnmr.size)
  points = np.stack([fmr[:n], fnmr[:n]], axis=1)
  points = points[np.isfinite(points).all(axis=1)]
  points = points[((points >= 0) & (points <= 1)).all(axis=1)]
  if len(points) < 2:
    return None
  points = points[np.lexsort((-points[:, 1], points[:, 0]))]
  changed = np.ones(len(points), bool)
  changed[1:-1] = np.diff(points[:-1, 1]) != 0
  points = points[changed]
  if len(points) > 400:
    chosen = np.linspace(0, len(points) - 1, 400).round().astype(int)
    points = points[chosen]
  return points


def _numbers(values: Any) -> np.ndarray:
  """Values as a float64 vector; None and text become NaN."""
  if values is None or isinstance(values, str):
    return np.zeros(0)
  found = (tables.number(x) for x in np.ravel(np.asarray(values, object)))
  return np.array([np.nan if x is None else x for x in found], np.float64)


def _floor(parts: Sequence[np.ndarray]) -> float:
  """The lower end of a rate axis: below the smallest rate that is not zero."""
  positive = np.concatenate(parts)
  positive = positive[positive > 0]
  smallest = positive.min() if positive.size else 1e-3
  return float(np.clip(smallest * 0.7, 1e-7, 0.05))


def _deviate_axis(axis: Any, low: float, high: float) -> None:
  ticks = [m * 10.0**-k for k in range(7, 0, -1) for m in (1, 2, 5)]
  ticks = [t for t in [*ticks, 0.3, 0.4] if low <= t <= high]
  if len(ticks) > 9:
    ticks = [t for t in ticks if f'{t:e}'[0] == '1' or t > 0.15]
  axis.set_major_locator(FixedLocator(ndtri(ticks)))
  names = {round(float(ndtri(t)), 6): f'{100 * t:g}' for t in ticks}
  axis.set_major_formatter(
    FuncFormatter(lambda x, _: names.get(round(float(x), 6), ''))
  )


def _plain_log_axis(axes: Axes, sizes: np.ndarray) -> None:
  low, high = sizes.min() / 1.25, sizes.max() * 1.25
  axes.set_xlim(low, high)
  _plain_log_ticks(axes.xaxis, (low, high))


def _plain_log_ticks(axis: Any, limits: tuple[float, float]) -> None:
  """Log ticks written as plain numbers, few enough not to touch."""
  low, high = limits
  decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))))
  steps: tuple[float, ...] = (1,)
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


def _error_axis(
  axes: Axes, centres: Sequence[float], errors: Sequence[Sequence[float]]
) -> None:
  """A linear axis from zero; symmetric-log if values span a factor over 30."""
  positive = sorted(c for c in centres if c > 0)
  top = max(c + e[1] for c, e in zip(centres, errors, strict=True))
  if positive and positive[-1] / positive[0] > 30:
    linear = max(positive[0], top / 1e4)
    axes.set_yscale('symlog', linthresh=linear, linscale=0.6)
    ticks = [0] + [m * 10.0**k for k in range(-4, 3) for m in (1, 3)]
    ticks = [t for t in ticks if t == 0 or linear <= t <= 1.3 * top]
    axes.set_yticks(ticks, [f'{t:g}' for t in ticks])
    axes.set_yticks([], minor=True)
  axes.set_ylim(0, top * 1.08 if top > 0 else 1)


def _error(version: tables.Version, *path: str) -> tuple[float, float]:
  """Distances below and above a value: its interval, or the deviation."""
  found = tables.values(version, *path)
  if len(version.runs) > 1:
    spread = float(np.std(found, ddof=1)) if found[1:] else 0.0
    return min(spread, np.mean(found)), spread
  ends = tables.interval(tables.dig(version.first, *path[:-1]), path[-1])
  if ends is None or not found:
    return 0.0, 0.0
  return max(0.0, found[0] - ends[0]), max(0.0, ends[1] - found[0])


def _dodge(sizes: np.ndarray) -> np.ndarray:
  """Sizes within 1.5 % of each other, moved apart evenly around their mean."""
  shown, order = sizes.astype(float), np.argsort(sizes, kind='stable')
  start = 0
  span = np.log(sizes.max() / sizes.min()) + np.log(1.25**2)
  for stop in range(1, len(order) + 1):
    if stop < len(order) and sizes[order[stop]] < 1.03 * sizes[order[start]]:
      continue
    cluster = np.sort(order[start:stop])
    step = min(0.028, 0.22 / len(cluster)) * span
    offsets = (np.arange(len(cluster)) - (len(cluster) - 1) / 2) * step
    shown[cluster] = sizes[cluster].mean() * np.exp(offsets)
    start = stop
  return shown


def _few(found: Sequence[tables.Version], most: int) -> list[tables.Version]:
  """The reference, then variants taken in turn from every bit width."""
  if len(found) <= most:
    return list(found)
  queues: dict[str, list[tables.Version]] = {}
  for v in found:
    if not v.is_reference:
      queues.setdefault(tables.bits(v.first), []).append(v)
  chosen = [v for v in found if v.is_reference]
  while len(chosen) < most and any(queues.values()):
    for queue in queues.values():
      if queue and len(chosen) < most:
        chosen.append(queue.pop(0))
  return [v for v in found if v in chosen]


def _method(version: tables.Version) -> str:
  return str(version.first.get('method') or version.name)


def _listing(names: Sequence[str], *, separator: str = ', ') -> str:
  shown = separator.join(names[:12])
  more = len(names) - 12
  return f'{shown} and {more} more.' if more > 0 else f'{shown}.'


def _svg(figure: Figure, prefix: str) -> str:
  """SVG text: own ids, CSS variables for colours, no XML head, no date."""
  buffer = io.StringIO()
  empty = dict.fromkeys(('Date', 'Creator', 'Format', 'Type'))
  figure.savefig(buffer, format='svg', metadata=empty)
  svg = buffer.getvalue()
  svg = svg[svg.index('<svg') :]
  svg = re.sub(r'<metadata>.*?</metadata>', '', svg, flags=re.S)
  svg = re.sub(r'<!--.*?-->\s*', '', svg, flags=re.S)
  svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
  svg = re.sub(r'url\(#([^)]+)\)', rf'url(#{prefix}-\1)', svg)
  svg = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', svg)
  colours = {_INK: 'ink', _GRID: 'grid', _MUTED: 'muted'}
  colours |= {c: f'series-{i}' for i, c in enumerate(_SERIES, 1)}
  for colour, name in colours.items():
    svg = svg.replace(colour, f'var(--{name}, {colour})')
  return svg.strip() + '\n'
