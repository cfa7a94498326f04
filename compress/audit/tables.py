"""The report's numbers as tables of ready-made text.

A table is built once, from the report's versions, and is then printed by every
form of the report: the page, the Markdown and the terminal. With one run a
cell holds the value and its interval, with several the mean over runs, plus
or minus the sample standard deviation (ddof 1). What is missing is a dash.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from compress.audit import entries, runtimes
from compress.audit.entries import Version
from compress.audit.numerals import DASH, bracket, count, fixed, megabytes

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


def _measured(version: Version, path: Sequence[str], *, digits=2) -> Cell:
  """A value with its interval, or mean and deviation over runs.

  The interval of a value at `[..., head, *rest]` is looked for at
  `[..., 'interval', head, *rest]`, at the deepest mapping that has one.
  """
  found = entries.values(version, *path)
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
    ends = ends or entries.interval(
      entries.dig(version.first, *path[:i]), *path[i:]
    )
  return Cell(fixed(found[0], digits=digits), bracket(ends, digits=digits))


def _difference(version: Version, *keys: str, lower_is_better: bool) -> Cell:
  """The difference to the reference, in points, and whether it is resolved."""
  if version.is_reference:
    return Cell(DASH)
  found = entries.values(version, 'difference', *keys)
  if not found:
    return Cell(DASH)
  centre = float(np.mean(found))
  sides = [entries.resolved(run, *keys) for run in version.runs]
  known = [side for side in sides if side is not None]
  if len(version.runs) > 1:
    spread = f' ± {fixed(float(np.std(found, ddof=1)))}' if found[1:] else ''
    text = fixed(centre, sign=True) + spread
    detail = f'n = {len(found)}'
    if known:
      detail += f'; resolved in {sum(known)} of {len(known)}'
    return Cell(text, detail)
  detail = bracket(
    entries.interval(version.first['difference'], *keys), sign=True
  )
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
    entries.number(entries.dig(x, 'flipped') if isinstance(x, Mapping) else x)
    for x in runs
  ]
  totals = [x for x in totals if x is not None]
  if not totals:
    return Cell(DASH)
  if len(version.runs) > 1:
    spread = f' ± {np.std(totals, ddof=1):,.0f}' if totals[1:] else ''
    return Cell(f'{np.mean(totals):,.0f}{spread}', f'n = {len(totals)}')
  pairs = entries.number(entries.dig(runs[0], 'pairs'))
  share = f'{fixed(100 * totals[0] / pairs)} % of pairs' if pairs else ''
  return Cell(f'{totals[0]:,.0f}', share)


def latency(run: Mapping[str, Any], key: str, *, is_reference=False) -> Cell:
  """Median milliseconds, and the spread as quartiles or one width."""
  return Cell(
    *runtimes.milliseconds(runtimes.plain(run, key, is_reference=is_reference))
  )


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
    rows=tuple(
      (row_title(v), Cell(entries.bits(v.first)), *cells(v)) for v in found
    ),
    kinds=tuple('reference' if v.is_reference else 'variant' for v in found),
  )


def row_title(version: Version) -> Cell:
  """A version's name, and its method where the name does not say it."""
  method = str(version.first.get('method') or '')
  known = method.lower() in version.name.lower()
  return Cell(version.name, '' if known else method)


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
    title='Errors and decisions',
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
    smaller = entries.ratio(v, reference)
    kinds = ('nominal', 'packed', 'on_disk')
    return (
      *(Cell(megabytes(entries.mean(v, 'bytes', kind))) for kind in kinds),
      Cell(DASH if smaller is None else f'{smaller:.2f}×'),
      Cell(count(v.first.get('macs'))),
      Cell(count(v.first.get('bops'))),
      *(
        latency(v.first, key, is_reference=v.is_reference)
        for key in ('batch1', 'batch32')
      ),
      Cell(str(v.first.get('execution') or DASH)),
    )

  return _build(
    found,
    title='Bytes, operations and milliseconds',
    note='MB is 1e6 bytes. Operations are for one photograph. Latency is for '
    'a whole batch: median, and its spread in brackets.',
    columns=(
      ('Nominal', 'MB'),
      ('Packed', 'MB'),
      ('On disk', 'MB'),
      ('Smaller by', 'on disk'),
      ('MACs', 'per photo'),
      ('Bit-ops', 'per photo'),
      ('Latency', 'ms, batch 1'),
      ('Latency', 'ms, batch 32'),
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


def groups(found: Sequence[Version], *, key: str) -> Table | None:
  """Accuracy per group with average, STD and SER; None without groups.

  Args:
    found: the report's versions.
    key: 'groups' (a threshold per group) or 'groups_global' (one for all).
  """
  names = entries.group_names(found, key=key)
  if not names:
    return None
  found = [v for v in found if any(r.get(key) for r in v.runs)]
  mode = 'one threshold for all groups'
  if key == 'groups':
    mode = 'a threshold of its own for each'

  def cells(v):
    return (
      *(_measured(v, (key, name, 'accuracy')) for name in names),
      *(_group_summary(v, key, x) for x in ('avg', 'std', 'ser')),
    )

  return _build(
    found,
    title=f'Accuracy per group, {mode}',
    note='STD is the sample standard deviation of the groups’ accuracies '
    '(ddof 1, in points); SER is the largest error rate over the smallest. '
    'Equal groups give STD 0 and SER 1. A mark compares with the reference '
    'on the same draws of people.',
    columns=(
      *((name, '%') for name in names),
      ('Average', '%'),
      ('STD', 'points'),
      ('SER', 'ratio'),
    ),
    cells=cells,
  )


def _group_summary(version: Version, key: str, name: str) -> Cell:
  """Average, STD or SER, marked by its paired difference to the reference."""
  cell = _measured(version, (key, name))
  change = entries.dig(version.first, 'difference', key)
  ends = entries.interval(change, name)
  if version.is_reference or len(version.runs) > 1 or ends is None:
    return cell
  if ends[0] <= 0 <= ends[1]:
    return cell._replace(mark='not resolved')
  better = (ends[0] > 0) == (name == 'avg')
  return cell._replace(mark='better' if better else 'worse')


def group_rates(found: Sequence[Version]) -> Table | None:
  """FMR and FNMR per group at the one threshold; None if nothing has them."""
  key = 'groups_global'
  names = [
    name
    for name in entries.group_names(found, key=key)
    if any(entries.values(v, key, name, 'fnmr') for v in found)
  ]
  if not names:
    return None

  def cells(v):
    rates = (
      [fixed(entries.mean(v, key, name, rate)) for rate in ('fmr', 'fnmr')]
      for name in names
    )
    return tuple(Cell(' / '.join(pair)) for pair in rates)

  return _build(
    [v for v in found if any(r.get(key) for r in v.runs)],
    title='False matches and false non-matches per group, one threshold',
    note='FMR: strangers accepted; FNMR: the same person refused. A threshold '
    'that suits one group can be too loose or too strict for another.',
    columns=[(name, 'FMR / FNMR, %') for name in names],
    cells=cells,
  )


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
