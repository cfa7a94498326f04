"""Figures of errors against size, of groups of people, and of training."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np

from compress.audit import (
  entries,
  numerals,
  plot_axes,
  plot_parts,
  plot_style,
)


def error_against_size(
  found: Sequence[entries.Version],
) -> plot_parts.Plot | None:
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
      points.append(
        (v, size / 1e6, eer, plot_parts.error_bar(v, 'verification', 'eer'))
      )
  if not points:
    return None
  methods = plot_style.methods(found)
  labels = numerals.labels(methods, width=plot_parts.NAME)
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
  bars = plot_parts.bar_words([v for v, *_, error in points if any(error)])
  caption = (
    f'Error against bytes: lower and further left is better.{bars} The grey '
    'line is the reference. Networks of equal size are set slightly apart.'
  )
  parts = [
    f'{v.name} {size:.3g} MB, EER {numerals.fixed(eer)} %'
    for v, size, eer, _ in points
  ]
  return plot_parts.Plot(
    'error-against-size',
    svg,
    caption,
    'Scatter chart of equal error rate against file size: '
    + plot_parts.listing(parts, separator='; '),
  )


def group_errors(
  found: Sequence[entries.Version], *, key: str = 'groups'
) -> plot_parts.Plot | None:
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
  labels = numerals.labels([v.name for v in chosen], width=plot_parts.NAME)
  width = 0.8 / len(chosen)
  crowded = len(names) > 6
  with matplotlib.rc_context(plot_style.RC):
    figure, axes = plot_style.canvas(5.4, 3.4)
    for i, v in enumerate(chosen):
      place, height, error = [], [], []
      for k, name in enumerate(names):
        accuracy = entries.mean(v, key, name, 'accuracy')
        if accuracy is not None:
          below, above = plot_parts.error_bar(v, key, name, 'accuracy')
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
    if any(
      any(plot_parts.error_bar(v, key, name, 'accuracy')) for name in names
    )
  ]
  caption = (
    f'Wrong decisions per group, {mode}.{plot_parts.bar_words(with_error)}'
  )
  if len(chosen) < len(having):
    caption += ' Drawn are the reference and the best of each bit width.'
  return plot_parts.Plot(
    key.replace('_', '-') + '-errors',
    svg,
    caption,
    f'Bar chart of wrong decisions per group ({", ".join(names[:12])}) for '
    + plot_parts.listing([v.name for v in chosen]),
  )


def training_loss(
  training: Mapping[str, Any], found: Sequence[entries.Version]
) -> plot_parts.Plot | None:
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
    step = plot_parts.numbers(entries.dig(run, 'step'))
    loss = plot_parts.numbers(entries.dig(run, 'loss'))
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
  labels = numerals.labels(list(drawn), width=plot_parts.NAME)
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
  return plot_parts.Plot(
    'training-loss',
    svg,
    caption,
    'Line chart of training loss against step for '
    + plot_parts.listing(list(drawn)),
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
