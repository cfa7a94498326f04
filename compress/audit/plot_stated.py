"""Figures that a study states itself: heat maps, rows of images, lines.

Each gives a `Plot` for `compress.audit.write_report`'s `figures`.
"""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
from matplotlib.figure import Figure

from compress.audit import numerals, plot_axes, plot_parts, plot_style
from compress.audit.plot_parts import Plot
from compress.errors import InputError

# Both ends are readable for every common form of colour blindness.
_DIVERGING = LinearSegmentedColormap.from_list(
  'loss-gain', ['#d55e00', '#f7f7f5', '#0072b2']
)
_SIDE = 76  # width of an image on the page


def heat_map(
  name: str,
  values: np.ndarray,
  *,
  rows: Sequence[str],
  columns: Sequence[str],
  caption: str,
  unit: str,
  deviations: np.ndarray | None = None,
  digits: int = 1,
) -> Plot:
  """Numbers around 0 as colours: orange below, blue above, written in.

  Args:
    name: id of the figure on the page, letters and hyphens.
    values: [R, C]; NaN is left blank.
    rows: R names.
    columns: C names.
    caption: below the figure.
    unit: of the numbers, beside the colour bar.
    deviations: [R, C], written below the numbers; None for none.
    digits: decimals.

  Returns:
    The figure.

  Raises:
    InputError: names that do not fit, or no number at all.
  """
  values = np.asarray(values, np.float64)
  if values.shape != (len(rows), len(columns)) or not np.isfinite(values).any():
    raise InputError(
      f'a heat map of {list(values.shape)} with {len(rows)} rows and '
      f'{len(columns)} columns; right is a name each, and a number somewhere'
    )
  largest = max(np.nanmax(np.abs(values)), 1e-9)
  with matplotlib.rc_context(plot_style.RC | {'axes.grid': False}):
    # As wide as other figures at least: the page scales all to one width.
    width = max(5.4, 1.6 + 0.95 * len(columns))
    figure = _empty(width, 0.9 + 0.31 * len(rows))
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    axes.spines[:].set_visible(False)
    drawn = axes.pcolormesh(
      np.arange(len(columns) + 1) - 0.5,
      np.arange(len(rows) + 1) - 0.5,
      np.ma.masked_invalid(values),
      cmap=_DIVERGING,
      norm=TwoSlopeNorm(0, -largest, largest),
      edgecolors='white',
      linewidth=1.2,
    )
    axes.invert_yaxis()
    for r, c in np.argwhere(np.isfinite(values)):
      text = _signed(values[r, c], digits)
      if deviations is not None and np.isfinite(deviations[r, c]):
        text += f' ±{deviations[r, c]:.{digits}f}'
      dark = abs(values[r, c]) > 0.62 * largest
      colour = 'white' if dark else '#111417'
      axes.text(c, r, text, ha='center', va='center', fontsize=7, color=colour)
    short = [numerals.shorten(x, 30) for x in columns]
    turned = max(map(len, short)) > 13
    axes.set_xticks(
      range(len(columns)),
      short,
      rotation=25 if turned else 0,
      ha='right' if turned else 'center',
    )
    axes.set_yticks(range(len(rows)), [numerals.shorten(x, 34) for x in rows])
    axes.tick_params(length=0)
    bar = figure.colorbar(drawn, ax=axes, fraction=0.04, pad=0.02)
    bar.set_label(unit)
    bar.outline.set_visible(False)
    svg = plot_style.to_svg(figure, prefix=name)
  parts = []
  for row, found in zip(rows, values, strict=True):
    told = [
      f'{_signed(x, digits)} in {column}'
      for x, column in zip(found, columns, strict=True)
      if np.isfinite(x)
    ]
    parts.append(f'{row} {", ".join(told)}')
  alt = f'Heat map, {unit}: {plot_parts.listing(parts, separator="; ")}'
  return Plot(name, svg, caption, alt)


def image_rows(
  name: str, rows: Mapping[str, np.ndarray], *, caption: str, most: int = 10
) -> Plot:
  """Images, a row a kind, each row with its name.

  Args:
    name: id of the figure on the page, letters and hyphens.
    rows: name -> uint8 [N, H, W, 1 or 3]; N may differ.
    caption: below the figure.
    most: images of a row that are shown, the first ones.

  Returns:
    The figure: an SVG with the images inside, pixels of small ones repeated.

  Raises:
    InputError: no images, or of another shape or type.
  """
  if not rows:
    raise InputError('no rows of images')
  parts, top, widest = [], 0, 0
  for label, images in rows.items():
    images = np.asarray(images)
    fits = images.ndim == 4 and images.shape[3] in (1, 3) and len(images)
    if not fits or images.dtype != np.uint8:
      raise InputError(
        f'{label}: images are {images.dtype} {list(images.shape)}; right is '
        'uint8 [N, H, W, 1 or 3]'
      )
    shown = images[:most]
    height = round(_SIDE * images.shape[1] / images.shape[2])
    parts.append(
      f'<text x="0" y="{top + 12}" font-size="12" fill="var(--ink, '
      f'{plot_style.INK})" font-family="sans-serif">{_escaped(label)}</text>'
    )
    for i, image in enumerate(shown):
      style = ''
      if max(images.shape[1:3]) < plot_parts.SMALL:
        style = ' style="image-rendering: pixelated"'
      parts.append(
        f'<image x="{i * (_SIDE + 4)}" y="{top + 18}" width="{_SIDE}" '
        f'height="{height}"{style} href="data:image/png;base64,'
        f'{plot_parts.png(image)}"/>'
      )
    top += height + 30
    widest = max(widest, len(shown) * (_SIDE + 4) - 4)
  widest = max(widest, 320)
  svg = (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {widest} {top}">'
    f'{"".join(parts)}</svg>\n'
  )
  return Plot(name, svg, caption, f'Images: {plot_parts.listing(list(rows))}')


def lines(
  name: str,
  series: Mapping[str, Sequence[tuple[float, float, float | None]]],
  *,
  x: str,
  y: str,
  caption: str,
  levels: Mapping[str, float] | None = None,
  log_x: bool = False,
  log_y: bool = False,
) -> Plot:
  """Lines with bars of deviation, and horizontal levels to compare with.

  Args:
    name: id of the figure on the page, letters and hyphens.
    series: line -> points (x, y, deviation or None), at least one point.
    x: label of the axis.
    y: label of the axis.
    caption: below the figure.
    levels: name -> height of a dashed line across.
    log_x: a logarithmic axis.
    log_y: the other one, too.

  Returns:
    The figure.

  Raises:
    InputError: nothing to draw.
  """
  if not any(series.values()):
    raise InputError(f'{name}: no points to draw')
  with matplotlib.rc_context(plot_style.RC):
    figure, axes = plot_style.canvas(5.4, 3.6)
    axes.set_xscale('log' if log_x else 'linear')
    axes.set_yscale('log' if log_y else 'linear')
    for axis in (axes.xaxis, axes.yaxis):
      if axis.get_scale() == 'log':
        # The default writes powers in mathematical notation.
        axis.set_major_formatter(ticker.FuncFormatter(lambda x, _: f'{x:g}'))
        axis.set_minor_formatter(ticker.NullFormatter())
    for i, (label, height) in enumerate((levels or {}).items()):
      axes.axhline(
        height,
        color=plot_style.INK,
        linewidth=1.1,
        linestyle=plot_style.DASHES[1 + i % 3],
        label=label,
        zorder=2,
      )
    for i, (label, points) in enumerate(series.items(), start=1):
      spread = [deviation or 0.0 for _, _, deviation in points]
      axes.errorbar(
        [point[0] for point in points],
        [point[1] for point in points],
        yerr=spread if any(spread) else None,
        label=label,
        **plot_style.marker(i)
        | {
          'linestyle': plot_style.DASHES[(i - 1) % len(plot_style.DASHES)],
          'linewidth': 1.4,
        },
      )
    if log_x:
      plot_axes.plain_log_ticks(axes.xaxis, axes.get_xlim())
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    plot_style.legend(figure, axes)
    svg = plot_style.to_svg(figure, prefix=name)
  parts = [
    f'{label} {", ".join(f"{b:.4g} at {a:.4g}" for a, b, _ in points)}'
    for label, points in series.items()
  ]
  alt = f'{y} against {x}: {plot_parts.listing(parts, separator="; ")}'
  return Plot(name, svg, caption, alt)


def _signed(value: float, digits: int) -> str:
  """A number with its sign and so many decimals, 0 without."""
  rounded = round(float(value), digits) + 0.0
  return f'{rounded:{"+" if rounded else ""}.{digits}f}'.replace('-', '−')


def _empty(width: float, height: float) -> Figure:
  figure = Figure(figsize=(width, height), layout='constrained')
  FigureCanvasSVG(figure)
  figure.patch.set_alpha(0)
  return figure


def _escaped(text: str) -> str:
  return text.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')
