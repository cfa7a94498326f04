"""Reading the entries of a classification study: accuracy, ratios, widths.

Accuracies are in percent. A figure of an entry is a number, or a mapping with
`mean`, `std` and `n` over runs that are not listed one by one; of several
entries of one name the figures are averaged here.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from compress.audit import entries
from compress.audit.entries import Version


class Figure(NamedTuple):
  """A figure over runs; the deviation is None for a single run."""

  mean: float
  std: float | None
  runs: int


def is_classification(found: Sequence[Version]) -> bool:
  """Whether the versions are classifiers and not verification networks."""
  return any(figure(v, 'accuracy') is not None for v in found) and not any(
    run.get('verification') for v in found for run in v.runs
  )


def figure(version: Version, *path: str) -> Figure | None:
  """A figure of a version over its runs; None without one.

  Args:
    version: the network.
    *path: where the number, or the mapping with `mean`, stands in an entry.

  Returns:
    One entry's own mean, deviation and count, or those of several entries'
    means (deviation with divisor n - 1).
  """
  cells = [entries.dig(run, *path) for run in version.runs]
  means = [
    entries.number(c.get('mean') if isinstance(c, Mapping) else c)
    for c in cells
  ]
  known = [x for x in means if x is not None]
  if not known:
    return None
  if len(version.runs) > 1:
    std = float(np.std(known, ddof=1)) if known[1:] else None
    return Figure(float(np.mean(known)), std, len(known))
  cell = cells[0] if isinstance(cells[0], Mapping) else {}
  count = entries.number(cell.get('n'))
  return Figure(known[0], entries.number(cell.get('std')), int(count or 1))


def of_bytes(found: Sequence[Version]) -> bool:
  """Whether the compression ratios are of bytes, and not of parameters."""
  return found[0].first.get('compression_of') == 'bytes'


def compression(version: Version, reference: Version) -> float | None:
  """Parameters of the reference over those left; `compression` if stated."""
  return _stated_or_ratio(version, reference, ('compression',), 'params')


def speedup(version: Version, reference: Version) -> float | None:
  """Theoretical: MACs of the reference over those left, or as stated."""
  path = ('speedup', 'theoretical')
  return _stated_or_ratio(version, reference, path, 'macs')


def measured_speedup(version: Version) -> float | None:
  """Measured: the stated ratio of latencies."""
  found = figure(version, 'speedup', 'measured')
  return found.mean if found else None


def change(version: Version, reference: Version) -> float | None:
  """Accuracy minus the reference's, in points, of the means over runs."""
  base = _own_reference(version, reference)
  own, base = (figure(v, 'accuracy') for v in (version, base))
  # Means of the same values in another order differ in their last bits.
  return round(own.mean - base.mean, 9) if own and base else None


def widths(version: Version) -> dict[str, tuple[float, float]]:
  """Layer -> (channels kept, channels before), of the first run."""
  found = {}
  for layer, pair in (entries.dig(version.first, 'widths') or {}).items():
    numbers = _pair(pair)
    if numbers is not None:
      found[str(layer)] = numbers
  return found


def _pair(value: Any) -> tuple[float, float] | None:
  if not isinstance(value, Sequence) or isinstance(value, str):
    return None
  kept, before = ([entries.number(x) for x in value] + [None, None])[:2]
  if kept is None or not before or before < 0 or not 0 <= kept <= before:
    return None
  return kept, before


def _stated_or_ratio(version, reference, path, key) -> float | None:
  stated = figure(version, *path)
  if stated is not None:
    return stated.mean if stated.mean > 0 else None
  if version.is_reference:
    return 1.0
  base = _own_reference(version, reference)
  own, base = (figure(v, key) for v in (version, base))
  if not own or not base or own.mean <= 0:
    return None
  return base.mean / own.mean


def _own_reference(version, reference) -> Version:
  """What a version is compared with: the network it states, or the report's."""
  stated = version.first.get('reference')
  if not isinstance(stated, Mapping):
    return reference
  return Version(str(stated.get('name') or reference.name), (stated,), True)
