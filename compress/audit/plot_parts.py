"""What the report's figures share: the drawn figure, error bars, words.

Each drawing function of the sibling modules draws one figure and returns a
`Plot`; with nothing to draw it returns None. Text and lines carry CSS variables
with fallback colours (`var(--series-1, #0072b2)`), so that a page can restyle
them for a dark window, while the file alone still shows as drawn. Figures are
matplotlib `Figure` objects: no pyplot, no global state; the same input gives
the same bytes.
"""

import base64
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from compress.audit import entries

SMALL = 64  # pixels a side, below which an image is not smoothed
NAME = 34  # most characters of a name in a legend


class Plot(NamedTuple):
  """A drawn figure: its name, SVG text, caption and description in words."""

  name: str
  svg: str
  caption: str
  alt: str


def png(image: np.ndarray) -> str:
  """An image uint8 [H, W, 1 or 3] as PNG in base64."""
  buffer = io.BytesIO()
  plain = image[..., 0] if image.shape[-1] == 1 else image
  Image.fromarray(plain).save(buffer, format='PNG')
  return base64.b64encode(buffer.getvalue()).decode()


def numbers(values: Any) -> np.ndarray:
  """Values as a float64 vector; None and text become NaN."""
  if values is None or isinstance(values, str):
    return np.zeros(0)
  values = np.asarray(values)
  if values.dtype == object or values.dtype.kind in 'US':
    found = (entries.number(x) for x in values.ravel())
    return np.array([np.nan if x is None else x for x in found], np.float64)
  return values.astype(np.float64).ravel()


def error_bar(version: entries.Version, *path: str) -> tuple[float, float]:
  """Distances below and above a value: its interval, or the deviation."""
  found = entries.values(version, *path)
  if len(version.runs) > 1:
    spread = float(np.std(found, ddof=1)) if found[1:] else 0.0
    return min(spread, float(np.mean(found))) if found else 0.0, spread
  ends = entries.interval(entries.dig(version.first, *path[:-1]), path[-1])
  if ends is None or not found:
    return 0.0, 0.0
  return max(0.0, found[0] - ends[0]), max(0.0, ends[1] - found[0])


def bar_words(having: Sequence[entries.Version]) -> str:
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


def listing(names: Sequence[str], *, separator: str = ', ') -> str:
  """At most twelve names and how many more there are, as a sentence's end."""
  shown = separator.join(names[:12])
  more = len(names) - 12
  return f'{shown} and {more} more.' if more > 0 else f'{shown}.'
