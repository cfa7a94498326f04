"""Numbers as text: percentages, points, megabytes, operation counts."""

import collections
import math
import os
import re
from collections.abc import Sequence
from typing import Any

from compress.audit.entries import number

DASH = '–'
_MINUS = '−'


def fixed(value: float | None, *, digits: int = 2, sign: bool = False) -> str:
  """A number with a fixed count of decimals, or a dash.

  A value too small for the decimals keeps two significant digits, so that
  something measured never reads as zero.
  """
  if value is None or not math.isfinite(value):
    return DASH
  text = f'{abs(value):,.{digits}f}'
  if value and not float(text.replace(',', '')):
    text = f'{abs(value):.1g}'
  if value < 0:
    return _MINUS + text
  return '+' + text if sign and value > 0 else text


def bracket(
  ends: tuple[float, float] | None, *, digits: int = 2, sign: bool = False
) -> str:
  """An interval as '[low, high]', or nothing."""
  if ends is None:
    return ''
  return '[' + ', '.join(fixed(x, digits=digits, sign=sign) for x in ends) + ']'


def megabytes(value: Any) -> str:
  """Bytes as decimal megabytes (1e6 bytes), three significant digits up."""
  value = number(value)
  if value is None:
    return DASH
  value /= 1e6
  return fixed(value, digits=1 if value >= 100 else 2 if value >= 1 else 3)


def count(value: Any) -> str:
  """An operation count with a decimal prefix: 2.61 G, 412 M, or a dash."""
  value = number(value)
  if value is None:
    return DASH
  for size, prefix in ((1e12, 'T'), (1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
    if abs(value) >= size:
      return f'{value / size:.3g} {prefix}'
  return f'{value:.3g}'


def sentence_start(text: str) -> str:
  """The text with its first letter as a capital, the rest as it is."""
  return text[:1].upper() + text[1:]


def shorten(text: str, width: int) -> str:
  """The text, cut in the middle with an ellipsis if longer than `width`."""
  text = re.sub(r'\s+', ' ', str(text)).strip()
  if len(text) <= width:
    return text
  tail = (width - 1) // 3
  return text[: width - 1 - tail] + '…' + (text[-tail:] if tail else '')


def labels(names: Sequence[str], *, width: int) -> dict[str, str]:
  """Names of at most `width` characters that still tell the names apart.

  Args:
    names: distinct names.
    width: most characters of a label.

  Returns:
    name -> label. Names that would be cut to the same text lose what they
    start with in common instead.
  """
  short = {name: shorten(name, width) for name in names}
  alike = collections.defaultdict(list)
  for name, text in short.items():
    alike[text].append(name)
  for group in alike.values():
    common = max(0, len(os.path.commonprefix(group)) - 4)
    if len(group) > 1:
      for name in group:
        short[name] = '…' + name[common : common + width - 2].strip()
        if common + width - 2 < len(name):
          short[name] += '…'
  return short
