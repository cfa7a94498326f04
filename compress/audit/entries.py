"""Reading a report's dictionary: versions, their runs, values, intervals.

Notation: a *version* is one network in the report (the reference or a
variant); its *runs* are the entries that share its name and differ in seed or
fold. Missing, null and non-finite values read as None, never as an exception.
"""

import collections
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Version(NamedTuple):
  """One network of the report and its runs (seeds, folds)."""

  name: str
  runs: tuple[Mapping[str, Any], ...]
  is_reference: bool

  @property
  def first(self) -> Mapping[str, Any]:
    """The first run, for what all runs share (method, bits, MACs)."""
    return self.runs[0]


def versions(report: Mapping[str, Any]) -> tuple[Version, ...]:
  """Groups a report's entries by name: the reference first, then variants.

  Args:
    report: a report dictionary (see `compress.audit.report.write_report`). The
      reference may carry its runs over folds as `reference['runs']`.

  Returns:
    One `Version` per distinct name, in order of first appearance.
  """
  reference = report['reference']
  runs = tuple(
    {**{k: v for k, v in reference.items() if k != 'runs'}, **run}
    for run in reference.get('runs') or ()
  )
  grouped = collections.defaultdict(list)
  for variant in report['variants']:
    grouped[variant['name']].append(variant)
  return (
    Version(str(reference['name']), runs or (reference,), True),
    *(Version(str(k), tuple(v), False) for k, v in grouped.items()),
  )


def number(value: Any) -> float | None:
  """The value as a finite float, or None for anything else."""
  if isinstance(value, bool | str) or value is None:
    return None
  try:
    value = float(value)
  except (TypeError, ValueError):
    return None
  return value if math.isfinite(value) else None


def dig(entry: Any, *keys: str) -> Any:
  """`entry[key]...` for nested mappings; None where a level is missing."""
  for key in keys:
    if not isinstance(entry, Mapping):
      return None
    entry = entry.get(key)
  return entry


def interval(entry: Any, *keys: str) -> tuple[float, float] | None:
  """The two finite ends at `entry['interval'][key]...`, or None."""
  pair = dig(entry, 'interval', *keys)
  if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
    return None
  low, high = number(pair[0]), number(pair[1])
  return None if low is None or high is None else (low, high)


def values(version: Version, *keys: str) -> list[float]:
  """The finite values at a path of keys, over the runs of a version."""
  found = (number(dig(run, *keys)) for run in version.runs)
  return [x for x in found if x is not None]


def mean(version: Version, *keys: str) -> float | None:
  """The mean over runs of the value at a path of keys; None without any."""
  found = values(version, *keys)
  return float(np.mean(found)) if found else None


def resolved(run: Mapping[str, Any], *keys: str) -> bool | None:
  """Whether a run's difference to the reference is told apart from zero.

  Args:
    run: a variant; `difference` holds points relative to the reference, with
      paired intervals under `difference['interval']`.
    *keys: which figure, e.g. 'eer' or 'tar_at_far', '1e-2'.

  Returns:
    True if the interval leaves out zero, False if it holds zero, None without
    an interval.
  """
  ends = interval(run.get('difference'), *keys)
  return None if ends is None else not ends[0] <= 0 <= ends[1]


def ratio(version: Version, reference: Version) -> float | None:
  """How many times smaller a version's file is than the reference's."""
  before = mean(reference, 'bytes', 'on_disk')
  after = mean(version, 'bytes', 'on_disk')
  return before / after if before and after else None


def bits(run: Mapping[str, Any]) -> str:
  """Weight and activation bits as '8 / 8'; 32 is shown for plain floats."""
  pair = (run.get('weight_bits'), run.get('activation_bits'))
  return ' / '.join('–' if x is None else str(x) for x in pair)


def group_names(found: Sequence[Version], *, key: str = 'groups') -> list[str]:
  """The groups' names in order of appearance (avg, std, ser left out)."""
  names = {}
  for run in (run for v in found for run in v.runs):
    for name, entry in (run.get(key) or {}).items():
      if isinstance(entry, Mapping) and name != 'interval':
        names[name] = None
  return list(names)
