"""How every figure of the report looks: canvas, colours, legends, SVG text.

Colours are those of Okabe and Ito, 'Color Universal Design' (2008), which
readers with any common form of colour blindness tell apart; a line style or
marker shape repeats what the colour says.
"""

import io
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from compress.audit import entries

INK, GRID, MUTED = '#1b1f23', '#d9dde1', '#9aa0a6'
PALETTE = (
  '#0072b2',
  '#d55e00',
  '#009e73',
  '#cc79a7',
  '#e69f00',
  '#56b4e9',
  '#8c6bb1',
  '#7a6a53',
)
DASHES = ('-', (0, (5, 1.6)), (0, (1.2, 1.4)), (0, (5, 1.4, 1.2, 1.4)))
MOST_COLOURS = len(PALETTE)
_MARKERS = 'oDs^vPX<'
_MOST_NAMED = 12
RC = {
  'font.family': ['DejaVu Sans'],
  'font.size': 8.5,
  'axes.edgecolor': INK,
  'axes.labelcolor': INK,
  'axes.linewidth': 0.7,
  'axes.spines.top': False,
  'axes.spines.right': False,
  'axes.grid': True,
  'axes.axisbelow': True,
  'axes.unicode_minus': True,
  'grid.color': GRID,
  'grid.linewidth': 0.6,
  'hatch.linewidth': 0.6,
  'legend.frameon': False,
  'legend.fontsize': 8,
  'legend.labelcolor': INK,
  'lines.linewidth': 1.5,
  'path.simplify': True,
  'svg.fonttype': 'path',
  'svg.hashsalt': 'compress.audit',
  'text.color': INK,
  'text.parse_math': False,
  'text.usetex': False,
  'xtick.color': INK,
  'xtick.labelsize': 8,
  'ytick.color': INK,
  'ytick.labelsize': 8,
}


class Series(NamedTuple):
  """How one network is drawn; without a colour it is thin, grey, unnamed."""

  colour: str | None
  dash: Any = '-'
  shade: float = 1.0

  @property
  def line(self) -> dict[str, Any]:
    """Keyword arguments of `Axes.plot`."""
    if self.colour is None:
      return {'color': MUTED, 'linewidth': 0.6, 'zorder': 1.5}
    if self.colour == INK:
      return {'color': INK, 'linewidth': 2.2, 'zorder': 5}
    return {'color': self.colour, 'linestyle': self.dash, 'zorder': 3}


def series(found: Sequence[entries.Version]) -> dict[str, Series]:
  """One style per version, the same in every figure.

  The reference is ink. Colour says the method, dash and shade the bit width,
  where that tells all variants apart; otherwise the eight variants of lowest
  EER get a colour each and the rest are grey.
  """
  variants = [v for v in found if not v.is_reference]
  order = methods(found)
  widths = list(dict.fromkeys(entries.bits(v.first) for v in variants))
  keys = [
    (order.index(method(v)), widths.index(entries.bits(v.first)))
    for v in variants
  ]
  styles = {v.name: Series(INK) for v in found if v.is_reference}
  if (
    len(variants) <= _MOST_NAMED
    and len(order) <= MOST_COLOURS
    and len(widths) <= len(DASHES)
    and len(set(keys)) == len(keys)
  ):
    for v, (colour, dash) in zip(variants, keys, strict=True):
      shade = (1.0, 0.75, 0.5, 0.3)[dash]
      styles[v.name] = Series(PALETTE[colour], DASHES[dash], shade)
    return styles
  best = sorted(variants, key=_eer)[:MOST_COLOURS]
  for v in variants:
    named = [i for i, x in enumerate(best) if x.name == v.name]
    dash = DASHES[named[0] % len(DASHES)] if named else '-'
    styles[v.name] = Series(PALETTE[named[0]] if named else None, dash)
  return styles


def marker(index: int) -> dict[str, Any]:
  """Keyword arguments of `Axes.errorbar` for the reference (0) or a method."""
  style = {
    'linestyle': 'none',
    'elinewidth': 1.1,
    'capsize': 2.5,
    'markersize': 5.5,
  }
  if index == 0:
    return style | {'color': INK, 'marker': '*', 'markersize': 9}
  if index > MOST_COLOURS:
    return style | {'color': MUTED, 'marker': '.', 'markersize': 4}
  return style | {'color': PALETTE[index - 1], 'marker': _MARKERS[index - 1]}


def methods(found: Sequence[entries.Version]) -> list[str]:
  """The variants' methods in order of appearance."""
  return list(dict.fromkeys(method(v) for v in found if not v.is_reference))


def method(version: entries.Version) -> str:
  """A version's method; its name where it states none."""
  return str(version.first.get('method') or version.name)


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
  """A transparent figure of width x height inches with one set of axes."""
  figure = Figure(figsize=(width, height), layout='constrained')
  FigureCanvasSVG(figure)
  figure.patch.set_alpha(0)
  axes = figure.add_subplot()
  axes.patch.set_alpha(0)
  return figure, axes


def legend(figure: Figure, axes: Axes) -> None:
  """Names below the axes; the figure grows by what they take."""
  handles, labels = axes.get_legend_handles_labels()
  if not labels:
    return
  longest = max(map(len, labels))
  columns = 1 if longest > 30 else 2 if longest > 18 else 3
  rows = -(-len(labels) // columns)
  figure.set_figheight(figure.get_figheight() + 0.1 + 0.165 * rows)
  figure.legend(
    handles,
    labels,
    loc='outside lower center',
    ncols=min(columns, len(labels)),
    columnspacing=1.4,
    handlelength=2.6,
  )


def to_svg(figure: Figure, *, prefix: str) -> str:
  """The figure as SVG text for a page.

  Args:
    figure: what to draw.
    prefix: put before every id, so that several figures share a page.

  Returns:
    The `<svg>` element: no XML head, no date, colours as CSS variables
    (`--ink`, `--grid`, `--muted`, `--series-1` ...) with a fallback.
  """
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
  colours = {INK: 'ink', GRID: 'grid', MUTED: 'muted'}
  colours |= {c: f'series-{i}' for i, c in enumerate(PALETTE, 1)}
  for colour, name in colours.items():
    svg = svg.replace(colour, f'var(--{name}, {colour})')
  return svg.strip() + '\n'


def _eer(version: entries.Version) -> float:
  value = entries.mean(version, 'verification', 'eer')
  return float('inf') if value is None else value
