"""Figures of classification studies: trade-off curves and kept widths.

The two trade-offs are those that Blalock et al. 2020, arXiv:2003.03033, ask
for: accuracy against compression ratio, and against theoretical speed-up.
"""

from collections.abc import Callable, Sequence

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from compress.audit import (
  accuracies,
  entries,
  numerals,
  plot_axes,
  plot_parts,
  plot_style,
)
from compress.audit.plot_parts import Plot

_MOST_PANELS = 4
_AXES = {
  'compression': (
    accuracies.compression,
    'Compression ratio (parameters before / after)',
    'compression ratio',
  ),
  'speedup': (
    accuracies.speedup,
    'Theoretical speed-up (MACs before / after)',
    'theoretical speed-up',
  ),
}


def accuracy_against(
  found: Sequence[entries.Version], axis: str
) -> Plot | None:
  """Accuracy of every method over its operating points, on a log axis.

  Args:
    found: the report's versions, the reference first.
    axis: 'compression' or 'speedup'.

  Returns:
    The figure, or None without a variant that has both figures, or where all
    ratios are 1.
  """
  ratio, label, words = _AXES[axis]
  if axis == 'compression' and accuracies.of_bytes(found):
    label = 'Compression ratio (bytes of the file, before / after)'
  lines = _lines(found, ratio)
  ratios = [x for points in lines.values() for x, _ in points]
  if not ratios or max(ratios) < 1.01:
    return None
  methods = plot_style.methods(found)
  labels = numerals.labels(methods, width=plot_parts.NAME)
  dense = accuracies.figure(found[0], 'accuracy')
  with matplotlib.rc_context(plot_style.RC):
    figure, axes = plot_style.canvas(5.4, 3.7)
    limits = min(1.0, *ratios) / 1.06, max(ratios) * 1.12
    axes.set_xscale('log')
    axes.set_xlim(*limits)
    plot_axes.plain_log_ticks(axes.xaxis, limits)
    if dense is not None:
      axes.axhline(
        dense.mean,
        color=plot_style.INK,
        linewidth=1.1,
        linestyle=plot_style.DASHES[1],
        label=f'{numerals.shorten(found[0].name, 22)} (reference)',
        zorder=2,
      )
      if dense.std:
        axes.axhspan(
          dense.mean - dense.std,
          dense.mean + dense.std,
          color=plot_style.MUTED,
          alpha=0.25,
          linewidth=0,
          zorder=1,
        )
    grey = 0
    for name, points in lines.items():
      index = methods.index(name) + 1
      named = index <= plot_style.MOST_COLOURS
      grey += not named
      spread = [y.std or 0.0 for _, y in points]
      style = plot_style.marker(index) | {
        'linestyle': plot_style.DASHES[(index - 1) % len(plot_style.DASHES)],
        'linewidth': 1.4 if named else 0.7,
        'markersize': 4.5 if named else 3,
      }
      axes.errorbar(
        [x for x, _ in points],
        [y.mean for _, y in points],
        yerr=spread if any(spread) else None,
        label=labels[name] if named else None,
        zorder=4 if named else 3,
        **style,
      )
    axes.margins(y=0.06)
    top = axes.get_ylim()[1]
    axes.set_ylim(top=min(top, 100.6))
    axes.set_xlabel(label)
    axes.set_ylabel('Accuracy (top-1, %)')
    plot_style.legend(figure, axes)
    svg = plot_style.to_svg(figure, prefix=axis)
  caption = (
    f'Accuracy against {words}: higher and further right is better. The dashed '
    'line is the reference.'
  )
  if any(y.std for points in lines.values() for _, y in points):
    caption += ' Bars are sample standard deviations over runs'
    caption += ', the band is the reference’s.' if dense and dense.std else '.'
  if grey:
    caption += f' {grey} further methods are grey.'
  parts = [
    f'{name} {", ".join(f"{y.mean:.1f} % at {x:.3g}×" for x, y in points[:8])}'
    for name, points in lines.items()
  ]
  return Plot(
    f'accuracy-{axis}',
    svg,
    caption,
    f'Line chart of accuracy against {words}: '
    + plot_parts.listing(parts, separator='; '),
  )


def _lines(
  found: Sequence[entries.Version], ratio: Callable[..., float | None]
) -> dict[str, list[tuple[float, accuracies.Figure]]]:
  """Method -> its (ratio, accuracy) points, from left to right."""
  lines: dict[str, list[tuple[float, accuracies.Figure]]] = {}
  for v in found:
    x, y = ratio(v, found[0]), accuracies.figure(v, 'accuracy')
    if not v.is_reference and x is not None and y is not None:
      lines.setdefault(plot_style.method(v), []).append((x, y))
  return {name: sorted(points) for name, points in lines.items()}


def kept_widths(found: Sequence[entries.Version]) -> Plot | None:
  """Channels kept of every layer, as bars inside the original width.

  Args:
    found: the report's versions; of more than four with widths, four are
      drawn, evenly spread.

  Returns:
    The figure, a panel a version, or None without widths.
  """
  having = [v for v in found if not v.is_reference and accuracies.widths(v)]
  if not having:
    return None
  count = min(len(having), _MOST_PANELS)
  picked = np.linspace(0, len(having) - 1, count).round().astype(int)
  chosen = [having[i] for i in picked]
  layers = list(
    dict.fromkeys(name for v in chosen for name in accuracies.widths(v))
  )
  methods = plot_style.methods(found)
  written = len(layers) <= 14
  with matplotlib.rc_context(plot_style.RC):
    figure = Figure(figsize=(5.4, 0.75 + 1.05 * count), layout='constrained')
    FigureCanvasSVG(figure)
    figure.patch.set_alpha(0)
    panels = figure.subplots(count, 1, sharex=True, sharey=True, squeeze=False)
    for v, axes in zip(chosen, panels[:, 0], strict=True):
      axes.patch.set_alpha(0)
      widths = accuracies.widths(v)
      index = methods.index(plot_style.method(v)) % plot_style.MOST_COLOURS
      place = [i for i, name in enumerate(layers) if name in widths]
      pairs = [widths[layers[i]] for i in place]
      axes.bar(place, [100.0] * len(place), 0.8, color=plot_style.GRID)
      axes.bar(
        place,
        [100 * kept / before for kept, before in pairs],
        0.8,
        color=plot_style.PALETTE[index],
      )
      if written:
        for i, (kept, before) in zip(place, pairs, strict=True):
          axes.annotate(
            f'{kept:g}/{before:g}',
            (i, 100),
            xytext=(0, 1.5),
            textcoords='offset points',
            ha='center',
            fontsize=6.5,
          )
      axes.set_title(
        numerals.shorten(v.name, 60),
        loc='left',
        fontsize=8.5,
        pad=10 if written else 4,
      )
      axes.set_ylim(0, 100)
      axes.set_yticks([0, 50, 100])
      axes.grid(visible=False, axis='x')
    step = -(-len(layers) // 32)
    shown = list(range(0, len(layers), step))
    panels[-1, 0].set_xticks(
      shown,
      [numerals.shorten(layers[i], 24) for i in shown],
      rotation=90 if len(layers) > 6 else 0,
      fontsize=7 if len(layers) <= 16 else 6,
    )
    panels[-1, 0].set_xlim(-0.6, len(layers) - 0.4)
    figure.supylabel('Channels kept (%)', fontsize=8.5)
    svg = plot_style.to_svg(figure, prefix='widths')
  caption = (
    'Channels kept of each layer (coloured) within its original width (grey).'
  )
  if len(chosen) < len(having):
    caption += f' {len(chosen)} of {len(having)} networks are drawn.'
  parts = []
  for v in chosen:
    pairs = accuracies.widths(v).values()
    kept, before = (sum(x) for x in zip(*pairs, strict=True))
    parts.append(f'{v.name} keeps {kept:g} of {before:g} channels')
  return Plot(
    'kept-widths',
    svg,
    caption,
    'Bar chart of kept channels per layer: '
    + plot_parts.listing(parts, separator='; '),
  )
