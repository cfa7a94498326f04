"""The report's numbers as tables of ready-made text.

A table is built once, from the report's dictionary, and is then printed by
every form of the report: the page, the Markdown and the terminal. Missing,
null and non-finite values become a dash and never an exception.

Notation: a *version* is one network in the report (the reference or a
variant); its *runs* are the entries that share its name and differ in seed or
fold. With one run a cell holds the value and its interval, with several the
mean over runs, plus or minus the sample standard deviation (ddof 1).
"""

import collections
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

DASH = '–'
_MINUS = '−'
FARS = ('1e-1', '1e-2', '1e-3')


class Cell(NamedTuple):
  """One cell: the value, a smaller second line, and a mark such as 'worse'."""

  value: str
  detail: str = ''
  mark: str = ''


class Table(NamedTuple):
  """A titled table; `columns` are (heading, unit); the first cell names a row.

  `kinds` says for each row what it is: 'reference' or 'variant'.
  """

  title: str
  note: str
  columns: tuple[tuple[str, str], ...]
  rows: tuple[tuple[Cell, ...], ...]
  kinds: tuple[str, ...]


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


def bits(run: Mapping[str, Any]) -> str:
  """Weight and activation bits as '8 / 8'; 32 is shown for plain floats."""
  pair = (run.get('weight_bits'), run.get('activation_bits'))
  return ' / '.join(DASH if x is None else str(x) for x in pair)


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


def _measured(version: Version, path: Sequence[str], *, digits=2) -> Cell:
  """A value with its interval, or mean and deviation over runs.

  The interval of a value at `[..., head, *rest]` is looked for at
  `[..., 'interval', head, *rest]`, at the deepest mapping that has one.
  """
  found = values(version, *path)
  if not found:
    return Cell(DASH)
  if len(version.runs) > 1:
    if len(found) == 1:
      return Cell(fixed(found[0], digits=digits), 'n = 1')
    spread = fixed(float(np.std(found, ddof=1)), digits=digits)
    centre = fixed(float(np.mean(found)), digits=digits)
    return Cell(f'{centre} ± {spread}', f'n = {len(found)}')
  ends = None
  for i in range(len(path)):
    ends = ends or interval(dig(version.first, *path[:i]), *path[i:])
  return Cell(fixed(found[0], digits=digits), bracket(ends, digits=digits))


def _difference(version: Version, *keys: str, lower_is_better: bool) -> Cell:
  """The difference to the reference, in points, and whether it is resolved."""
  if version.is_reference:
    return Cell(DASH)
  found = values(version, 'difference', *keys)
  if not found:
    return Cell(DASH)
  centre = float(np.mean(found))
  sides = [resolved(run, *keys) for run in version.runs]
  known = [side for side in sides if side is not None]
  if len(version.runs) > 1:
    spread = f' ± {fixed(float(np.std(found, ddof=1)))}' if found[1:] else ''
    text = fixed(centre, sign=True) + spread
    detail = f'n = {len(found)}'
    if known:
      detail += f'; resolved in {sum(known)} of {len(known)}'
    return Cell(text, detail)
  detail = bracket(interval(version.first['difference'], *keys), sign=True)
  if not known:
    return Cell(fixed(centre, sign=True), detail)
  if not known[0]:
    return Cell(fixed(centre, sign=True), detail, 'not resolved')
  mark = 'better' if (centre < 0) == lower_is_better else 'worse'
  return Cell(fixed(centre, sign=True), detail, mark)


def _flips(version: Version) -> Cell:
  """Decisions that differ from the reference's, as a share of the pairs."""
  if version.is_reference:
    return Cell(DASH)
  runs = [run.get('flips') for run in version.runs]
  totals = [
    number(dig(x, 'flipped') if isinstance(x, Mapping) else x) for x in runs
  ]
  totals = [x for x in totals if x is not None]
  if not totals:
    return Cell(DASH)
  if len(version.runs) > 1:
    spread = f' ± {np.std(totals, ddof=1):,.0f}' if totals[1:] else ''
    return Cell(f'{np.mean(totals):,.0f}{spread}', f'n = {len(totals)}')
  pairs = number(dig(runs[0], 'pairs'))
  share = f'{fixed(100 * totals[0] / pairs)} % of pairs' if pairs else ''
  return Cell(f'{totals[0]:,.0f}', share)


def ratio(version: Version, reference: Version) -> float | None:
  """How many times smaller a version's file is than the reference's."""
  before = mean(reference, 'bytes', 'on_disk')
  after = mean(version, 'bytes', 'on_disk')
  return before / after if before and after else None


def _latency(run: Mapping[str, Any], key: str) -> Cell:
  """Median milliseconds, and the spread as quartiles or one width."""
  entry = dig(run, 'latency_ms', key)
  if not isinstance(entry, Mapping):
    return Cell(fixed(number(entry), digits=1))
  median, spread = number(entry.get('median')), entry.get('spread')
  digits = 2 if median is not None and median < 10 else 1
  ends = interval({'interval': {'x': spread}}, 'x')
  if ends is not None:
    return Cell(fixed(median, digits=digits), bracket(ends, digits=digits))
  width = number(spread)
  detail = '' if width is None else f'± {fixed(width, digits=digits)}'
  return Cell(fixed(median, digits=digits), detail)


def _build(
  found: Sequence[Version],
  *,
  title: str,
  note: str,
  columns: Sequence[tuple[str, str]],
  cells: Callable[[Version], Sequence[Cell]],
) -> Table:
  return Table(
    title=title,
    note=note,
    columns=(('Network', ''), ('Bits', 'W / A'), *columns),
    rows=tuple((_title(v), Cell(bits(v.first)), *cells(v)) for v in found),
    kinds=tuple('reference' if v.is_reference else 'variant' for v in found),
  )


def _title(version: Version) -> Cell:
  method = str(version.first.get('method') or '')
  return Cell(version.name, '' if method == version.name else method)


def recognition(found: Sequence[Version]) -> Table:
  """Errors of every version, the difference to the reference, and flips."""

  def cells(v):
    return (
      _measured(v, ('verification', 'eer')),
      _difference(v, 'eer', lower_is_better=True),
      *(_measured(v, ('verification', 'tar_at_far', far)) for far in FARS),
      _measured(v, ('verification', 'accuracy')),
      _flips(v),
    )

  return _build(
    found,
    title='Recognition: what it cost',
    note='In brackets the 95 % interval. EER: lower is better; TAR and '
    'accuracy: higher is better. The difference is measured on the same '
    'draws of people for both networks.',
    columns=(
      ('EER', '%'),
      ('EER against reference', 'points'),
      *((f'TAR at FAR {far}', '%') for far in FARS),
      ('Accuracy', '%'),
      ('Decisions flipped', 'pairs'),
    ),
    cells=cells,
  )


def resources(found: Sequence[Version]) -> Table:
  """Bytes, operations and time of every version."""
  reference = found[0]

  def cells(v):
    smaller = ratio(v, reference)
    sizes = (
      megabytes(mean(v, 'bytes', key))
      for key in ('nominal', 'packed', 'on_disk')
    )
    return (
      *(Cell(x) for x in sizes),
      Cell(DASH if smaller is None else f'{smaller:.2f}×'),
      Cell(count(v.first.get('macs'))),
      Cell(count(v.first.get('bops'))),
      _latency(v.first, 'batch1'),
      _latency(v.first, 'batch32'),
      Cell(str(v.first.get('execution') or DASH)),
    )

  return _build(
    found,
    title='Size, computation and time: what it saved',
    note='MB is 1e6 bytes. Operations are for one photograph. Latency is for '
    'a whole batch: median, and its spread in brackets.',
    columns=(
      ('Nominal', 'MB'),
      ('Packed', 'MB'),
      ('On disk', 'MB'),
      ('Smaller by', 'on disk'),
      ('MACs', ''),
      ('Bit-operations', ''),
      ('Latency, batch 1', 'ms'),
      ('Latency, batch 32', 'ms'),
      ('Timed as', ''),
    ),
    cells=cells,
  )


def differences(found: Sequence[Version]) -> Table | None:
  """Every paired difference to the reference; None if no variant has one."""
  variants = [v for v in found if any(r.get('difference') for r in v.runs)]
  variants = [v for v in variants if not v.is_reference]
  if not variants:
    return None

  def cells(v):
    return (
      _difference(v, 'eer', lower_is_better=True),
      *(
        _difference(v, 'tar_at_far', far, lower_is_better=False) for far in FARS
      ),
      _difference(v, 'accuracy', lower_is_better=False),
    )

  return _build(
    variants,
    title='Paired differences to the reference',
    note='In percentage points, network minus reference. A difference whose '
    'interval holds zero is not resolved: these people do not tell the two '
    'networks apart.',
    columns=(
      ('EER', 'points'),
      *((f'TAR at FAR {far}', 'points') for far in FARS),
      ('Accuracy', 'points'),
    ),
    cells=cells,
  )


def group_names(found: Sequence[Version], *, key: str = 'groups') -> list[str]:
  """The groups' names in order of appearance (avg, std, ser left out)."""
  names = {}
  for run in (run for v in found for run in v.runs):
    for name, entry in (run.get(key) or {}).items():
      if isinstance(entry, Mapping) and name != 'interval':
        names[name] = None
  return list(names)


def groups(found: Sequence[Version], *, key: str) -> Table | None:
  """Accuracy per group with average, STD and SER; None without groups.

  Args:
    found: the report's versions.
    key: 'groups' (a threshold per group) or 'groups_global' (one for all).
  """
  names = group_names(found, key=key)
  if not names:
    return None
  found = [v for v in found if any(r.get(key) for r in v.runs)]
  mode = 'one threshold for all groups'
  if key == 'groups':
    mode = 'a threshold of its own for each group'

  def cells(v):
    return (
      *(_group_cell(v, key, name) for name in names),
      *(_measured(v, (key, x)) for x in ('avg', 'std', 'ser')),
    )

  return _build(
    found,
    title=f'Groups: accuracy with {mode}',
    note='STD is the sample standard deviation of the groups’ accuracies '
    '(ddof 1, in points); SER is the largest error rate over the smallest. '
    'Equal groups give STD 0 and SER 1.',
    columns=(
      *((name, '%') for name in names),
      ('Average', '%'),
      ('STD', 'points'),
      ('SER', 'ratio'),
    ),
    cells=cells,
  )


def _group_cell(version: Version, key: str, name: str) -> Cell:
  cell = _measured(version, (key, name, 'accuracy'))
  rates = [mean(version, key, name, rate) for rate in ('fmr', 'fnmr')]
  if None in rates:
    return cell
  both = f'FMR {fixed(rates[0])}, FNMR {fixed(rates[1])}'
  return Cell(cell.value, '; '.join(filter(None, (cell.detail, both))))


def runs(found: Sequence[Version]) -> Table | None:
  """Every single run, where a version has several; None otherwise."""
  if all(len(v.runs) == 1 for v in found):
    return None
  single = [
    Version(f'{v.name} ({_run_label(run)})', (run,), v.is_reference)
    for v in found
    for run in v.runs
  ]
  table = recognition(single)
  return table._replace(
    title='Every run',
    note='The runs behind the means, each with its own interval.',
  )


def _run_label(run: Mapping[str, Any]) -> str:
  parts = [
    f'{key} {run[key]}' for key in ('seed', 'fold') if run.get(key) is not None
  ]
  return ', '.join(parts) or 'one run'
