"""The tables of a classification study, as ready-made text."""

from collections.abc import Callable, Sequence

from compress.audit import accuracies
from compress.audit.accuracies import Figure
from compress.audit.entries import Version
from compress.audit.entries import mean as entry_mean
from compress.audit.numerals import DASH, count, fixed, megabytes
from compress.audit.tables import Cell, Table, latency, row_title

# With a hyphen at which no line is broken.
_SPEED_UP = 'Speed\N{NON-BREAKING HYPHEN}up'

Column = tuple[str, str, Callable[[Version], Cell]]


def accuracy(found: Sequence[Version]) -> Table:
  """Accuracy, what is left of the network, and the speed-ups of every version.

  Args:
    found: the report's versions, the reference first.

  Returns:
    The table; a column that no version fills is left out, and so is a version
    without any figure.
  """
  base = found[0]
  columns: list[Column] = [
    ('Sparsity', '% removed', lambda v: _share(v)),
    ('Accuracy', 'top-1, %', lambda v: _over_runs(v, 'accuracy')),
    ('Against reference', 'points', lambda v: _change(v, base)),
    ('Top-5', '%', lambda v: _over_runs(v, 'top5')),
    ('Not yet tuned', 'top-1, %', lambda v: _over_runs(v, 'accuracy_before')),
    ('Parameters', 'left', lambda v: _count(v, 'params')),
    ('Compression', 'ratio', lambda v: _times(accuracies.compression(v, base))),
    ('MACs', 'left', lambda v: _count(v, 'macs')),
    (_SPEED_UP, 'theoretical', lambda v: _times(accuracies.speedup(v, base))),
    (_SPEED_UP, 'measured', lambda v: _times(accuracies.measured_speedup(v))),
  ]
  return _build(
    found,
    'Accuracy, compression and speed-up',
    'Mean over runs ± sample standard deviation. Accuracy: higher is better. '
    'Compression and speed-up are ratios, original over new. The theoretical '
    'speed-up counts multiply-accumulates, the measured one is of latencies.',
    columns,
  )


def costs(found: Sequence[Version]) -> Table | None:
  """Bytes and milliseconds; None where no version has any."""
  columns: list[Column] = [
    ('On disk', 'MB', lambda v: Cell(megabytes(_disk(v)))),
    ('Latency', 'ms, batch 1', lambda v: latency(v.first, 'batch1')),
    ('Latency', 'ms, batch 32', lambda v: latency(v.first, 'batch32')),
    ('Timed as', '', lambda v: Cell(str(v.first.get('execution') or DASH))),
  ]
  table = _build(
    found,
    'Bytes and milliseconds',
    'MB is 1e6 bytes. Latency is for a whole batch: median, and its spread in '
    'brackets.',
    columns,
  )
  heads = [heading for heading, _ in table.columns[1:]]
  if not heads:
    return None
  if 'Latency' not in heads:
    return table._replace(title='Bytes', note='MB is 1e6 bytes.')
  return table


def runs(found: Sequence[Version]) -> Table | None:
  """Every single run, where a version lists several; None otherwise."""
  if all(len(v.runs) == 1 for v in found):
    return None
  single = [
    Version(
      f'{v.name} (seed {run.get("seed", i)})' if len(v.runs) > 1 else v.name,
      (run,),
      v.is_reference,
    )
    for v in found
    for i, run in enumerate(v.runs)
  ]
  return accuracy(single)._replace(
    title='Every run', note='The runs behind the means.'
  )


def _build(found, heading, note, columns) -> Table:
  found = [v for v in found if any(_has(make(v)) for *_, make in columns)]
  cells = [[make(v) for v in found] for *_, make in columns]
  filled = [i for i, column in enumerate(cells) if any(map(_has, column))]
  return Table(
    title=heading,
    note=note,
    columns=(
      ('Network', ''),
      *((columns[i][0], columns[i][1]) for i in filled),
    ),
    rows=tuple(
      (row_title(v), *(cells[i][k] for i in filled))
      for k, v in enumerate(found)
    ),
    kinds=tuple('reference' if v.is_reference else 'variant' for v in found),
  )


def _has(cell) -> bool:
  return cell.value != DASH


def percent(found: Figure | None) -> str:
  """A figure as '97.10 ± 0.20', a dash for None."""
  if found is None:
    return DASH
  spread = '' if found.std is None else f' ± {fixed(found.std)}'
  return fixed(found.mean) + spread


def _over_runs(version, key) -> Cell:
  found = accuracies.figure(version, key)
  shown = key == 'accuracy' and found is not None and found.runs > 1
  return Cell(percent(found), f'n = {found.runs}' if shown else '')


def _change(version, reference) -> Cell:
  if version.is_reference:
    return Cell(DASH)
  return Cell(fixed(accuracies.change(version, reference), sign=True))


def _share(version) -> Cell:
  found = accuracies.figure(version, 'sparsity')
  return Cell(DASH if found is None else fixed(100 * found.mean, digits=1))


def _count(version, key) -> Cell:
  found = accuracies.figure(version, key)
  return Cell(count(None if found is None else found.mean))


def _times(ratio) -> Cell:
  if ratio is None:
    return Cell(DASH)
  return Cell(f'{ratio:.1f}×' if ratio >= 10 else f'{ratio:.2f}×')


def _disk(version):
  return entry_mean(version, 'bytes', 'on_disk')
