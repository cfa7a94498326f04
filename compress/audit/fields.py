"""Fields of a report's entry from figures and their bootstrap samples.

Inside the library rates are 0..1; here they become percent, differences
percentage points. A number that is not finite becomes None and gets a sibling
`<field>_note`. Figures have a leading axis of 1, samples one of B.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from compress.audit import disparity
from compress.audit.bootstrap import percentile_interval
from compress.audit.disparity import Spread
from compress.audit.fairness import GroupReport
from compress.audit.verification import far_note

_SPREAD = (('avg', 'average', 100), ('std', 'std', 100), ('ser', 'ser', 1))
_NO_PAIRS = 'there are no genuine or no impostor pairs, or too few folds'


def put(entry: dict[str, Any], key: str, value: float, why: str) -> None:
  """Sets a finite number, or None and its note."""
  value = float(value)
  entry[key] = value if math.isfinite(value) else None
  if entry[key] is None:
    entry[f'{key}_note'] = why


def far_key(far: float) -> str:
  """The key of a false accept rate: 0.001 -> '1e-3'."""
  mantissa, exponent = f'{far:e}'.split('e')
  return f'{float(mantissa):g}e{int(exponent)}'


def ends(samples, *, level: float, unit: float = 100) -> list[float | None]:
  """The percentile interval of samples [B], scaled; None for no end."""
  pair = unit * percentile_interval(samples, level=level)
  return [float(x) if math.isfinite(x) else None for x in pair]


def verification_fields(
  point: Mapping[str, np.ndarray],
  samples: Mapping[str, np.ndarray] | None,
  *,
  fars: Sequence[float],
  level: float,
  impostors: int,
) -> dict[str, Any]:
  """`eer`, `tar_at_far`, `accuracy` and `interval`.

  Args:
    point: 'eer' [1], 'tar_at_far' [1, F], 'accuracy' [1].
    samples: the same with B rows; None for no intervals.
    fars: the F false accept rates.
    level: coverage of the intervals.
    impostors: number of impostor pairs.

  Returns:
    Plain JSON types.
  """
  entry = {}
  put(entry, 'eer', 100 * point['eer'][0], _NO_PAIRS)
  tars = entry['tar_at_far'] = {}
  for i, far in enumerate(fars):
    why = far_note(far, impostors, reason_only=True) if impostors else ''
    value = 100 * point['tar_at_far'][0, i]
    put(tars, far_key(far), value, why or _NO_PAIRS)
  put(entry, 'accuracy', 100 * point['accuracy'][0], _NO_PAIRS)
  if samples is not None:
    entry['interval'] = {
      'eer': ends(samples['eer'], level=level),
      'tar_at_far': {
        far_key(far): ends(samples['tar_at_far'][:, i], level=level)
        for i, far in enumerate(fars)
      },
      'accuracy': ends(samples['accuracy'], level=level),
    }
  return entry


def group_fields(
  point: GroupReport,
  samples: GroupReport | None,
  *,
  fars: Sequence[float],
  level: float,
  genuine_pairs: Sequence[int],
  impostor_pairs: Sequence[int],
) -> dict[str, Any]:
  """Each group's verification fields, with `avg`, `std` and `ser`.

  Args:
    point: point estimates (B = 1).
    samples: bootstrap samples; None for no intervals.
    fars: the F false accept rates.
    level: coverage of the intervals.
    genuine_pairs: of each group, in the order of `point.names`.
    impostor_pairs: of each group.

  Returns:
    The `groups` entry: a threshold for each group.
  """
  found = {}
  for g, name in enumerate(point.names):
    found[name] = verification_fields(
      _pick(point, g),
      _pick(samples, g) if samples else None,
      fars=fars,
      level=level,
      impostors=impostor_pairs[g],
    )
    found[name]['genuine_pairs'] = int(genuine_pairs[g])
    found[name]['impostor_pairs'] = int(impostor_pairs[g])
  drawn = samples.spread if samples else None
  return found | spread_fields(point.spread, drawn, level=level)


def _pick(report: GroupReport, g: int) -> dict[str, np.ndarray]:
  keys = ('eer', 'tar_at_far', 'accuracy')
  return {key: getattr(report, key)[:, g] for key in keys}


def global_fields(
  point: GroupReport, samples: GroupReport | None, *, level: float
) -> dict[str, Any]:
  """Each group at one threshold for all, with differential measures.

  `accuracy` is at the threshold that is best for all groups together; `fmr`
  and `fnmr`, and the measures made of them, at the operating threshold.

  Args:
    point: point estimates (B = 1).
    samples: bootstrap samples; None for no intervals.
    level: coverage of the intervals.

  Returns:
    The `groups_global` entry.
  """
  keys = ('accuracy', 'accuracy_global'), ('fmr', 'fmr'), ('fnmr', 'fnmr')
  found = {}
  for g, name in enumerate(point.names):
    entry = found[name] = {}
    for key, field in keys:
      put(entry, key, 100 * getattr(point, field)[0, g], _NO_PAIRS)
    if samples:
      entry['interval'] = {
        key: ends(getattr(samples, field)[:, g], level=level)
        for key, field in keys
      }
  drawn = samples.spread_global if samples else None
  found |= spread_fields(point.spread_global, drawn, level=level)
  fmr, fnmr = point.fmr[0], point.fnmr[0]
  why = 'a group has no error or no pairs'
  put(found, 'fmr_gap', 100 * disparity.rate_gap(fmr), why)
  put(found, 'fnmr_gap', 100 * disparity.rate_gap(fnmr), why)
  put(found, 'fdr', disparity.fairness_discrepancy_rate(fmr, fnmr), why)
  put(found, 'inequity_rate', disparity.inequity_rate(fmr, fnmr), why)
  if len(point.names) > 1:
    put(found, 'garbe', disparity.garbe(fmr, fnmr), why)
  return found


def spread_fields(
  point: Spread, samples: Spread | None, *, level: float
) -> dict[str, Any]:
  """`avg`, `std` (points), `ser` (ratio) and their `interval`.

  Args:
    point: of one row.
    samples: of B rows; None for no intervals.
    level: coverage of the intervals.

  Returns:
    Plain JSON types.
  """
  entry = {}
  for key, field, unit in _SPREAD:
    value = unit * getattr(point, field)[0]
    why = 'a group is not defined, or there is only one'
    if key == 'ser' and not math.isfinite(value):
      why = 'infinite or not defined: the best group has no error'
    put(entry, key, value, why)
  if samples is not None:
    entry['interval'] = {
      key: ends(getattr(samples, field), level=level, unit=unit)
      for key, field, unit in _SPREAD
    }
  return entry


def group_difference(
  points: tuple[GroupReport, GroupReport],
  samples: tuple[GroupReport, GroupReport] | None,
  rates: str,
  summary: str,
  *,
  level: float,
) -> dict[str, Any]:
  """Accuracies and their spread, a model's minus its reference's.

  Args:
    points: point estimates of the model and of the reference.
    samples: theirs for the same draws; None for no intervals.
    rates: 'accuracy' or 'accuracy_global'.
    summary: 'spread' or 'spread_global'.
    level: coverage of the intervals.

  Returns:
    Group name -> `accuracy` and `interval`; `avg`, `std`, `ser`, `interval`.
  """
  own, base = (getattr(x, rates) for x in points)
  if samples:
    drawn, other = (getattr(x, rates) for x in samples)
  found = {}
  for g, name in enumerate(points[0].names):
    entry = found[name] = {}
    put(entry, 'accuracy', 100 * (own - base)[0, g], _NO_PAIRS)
    if samples:
      pair = ends(drawn[:, g] - other[:, g], level=level)
      entry['interval'] = {'accuracy': pair}
  change = _minus(*(getattr(x, summary) for x in points))
  spreads = _minus(*(getattr(x, summary) for x in samples)) if samples else None
  return found | spread_fields(change, spreads, level=level)


def _minus(a: Spread, b: Spread) -> Spread:
  """The difference of two spreads, NaN where both are infinite."""
  with np.errstate(invalid='ignore'):
    return Spread(*(x - y for x, y in zip(a, b, strict=True)))


def holding_zero(
  intervals: Mapping[str, Any], *, path: tuple[str, ...] = ()
) -> Iterator[str]:
  """Paths, joined by dots, of the intervals of differences that hold 0."""
  for key, value in intervals.items():
    if isinstance(value, Mapping):
      yield from holding_zero(value, path=(*path, key))
    elif None not in value and value[0] <= 0 <= value[1]:
      yield '.'.join((*path, key))
