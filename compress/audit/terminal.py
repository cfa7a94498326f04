"""A checked report dictionary as a plain-text table for the terminal."""

from collections.abc import Mapping
from typing import Any

from compress.audit import (
  accuracies,
  accuracy_tables,
  entries,
  numerals,
  runtimes,
  stated_tables,
  tables,
)

_COLUMNS = 100
_VERIFICATION_LEGEND = (
  '[..]: 95 % interval over people; diff: EER minus the reference, points; '
  '~: not resolved',
  'MB: 1e6 bytes on disk; ms: median for one photograph',
)
_RUNTIME_LEGEND = (
  'a/b: the uncompressed network in float32, in the same runtime and run, and '
  'the compressed one',
  'b1, b32: a batch of 1, of 32; RAM: most MB that the process took for the '
  'model',
)
_ACCURACY_LEGEND = (
  '±: sample standard deviation over runs; diff: top-1 minus the reference, '
  'points'
)
_LEAST_NAME = 16


def table(report: Mapping[str, Any]) -> str:
  """The main figures as a plain-text table of at most 100 columns.

  Args:
    report: a checked dictionary of plain JSON types.

  Returns:
    Lines of at most 100 characters. For verification, per version the bits,
    EER with its
    interval (or deviation over runs), TAR at 1e-2 and 1e-3, the difference in
    EER to the reference ('~': not resolved), MB on disk and the ratio, and
    the median milliseconds of one image. For classification the columns of
    `accuracy_tables.accuracy`. Below it, the runtimes if there are any.
  """
  found = entries.versions(report)
  if accuracies.is_classification(found):
    rows = _accuracy_rows(found)
    text = _layout(rows, _accuracy_legend(found, rows[0]))
  else:
    text = _layout(_verification_rows(found), _VERIFICATION_LEGEND)
  timed = _runtime_rows(found)
  if len(timed) > 1:
    text += '\n\n' + _layout(timed, _RUNTIME_LEGEND)
  return text


def stated_table(stated: Mapping[str, Any]) -> str:
  """A table of `compress.audit.stated_tables` as plain text.

  Args:
    stated: the checked table.

  Returns:
    Lines of at most 100 characters: title, headings, units, a rule, the rows;
    and the names of columns that do not fit.
  """
  (found,) = stated_tables.tables([stated])
  heads = [row for row in zip(*found.columns, strict=True) if any(row)]
  rows = heads + [
    tuple(f'{cell.value} {cell.detail}'.strip() for cell in row)
    for row in found.rows
  ]
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  widths[0] = min(widths[0], _LEAST_NAME)
  fit = len(widths)
  while fit > 2 and sum(widths[:fit]) + 2 * (fit - 1) > _COLUMNS:
    fit -= 1
  legend = ()
  if fit < len(widths):
    rest = ' '.join(' '.join(column).strip() for column in found.columns[fit:])
    legend = (numerals.shorten(f'not shown: {rest}', _COLUMNS),)
  table = _layout([row[:fit] for row in rows], legend, heads=len(heads))
  return f'{found.title}\n{table}'


def _runtime_rows(found) -> list[tuple[str, ...]]:
  rows = [
    ('network', 'runtime', 'thr', 'ms b1', '', 'ms b32', '', 'RAM', 'file MB')
  ]
  for line in runtimes.rows(found)[1]:
    cells = [value for value, _ in line]
    pairs = ['/'.join(cells[i : i + 2]) for i in (3, 6, 9, 11)]
    rows.append(
      (*cells[:3], pairs[0], cells[5], pairs[1], cells[8], *pairs[2:])
    )
  return rows


def _verification_rows(found) -> list[tuple[str, ...]]:
  recognition, resources = tables.recognition(found), tables.resources(found)
  rows = [
    (
      'network',
      'W/A',
      'EER %',
      '',
      'TAR@1e-2',
      'TAR@1e-3',
      'diff',
      'MB',
      'ratio',
      'ms',
    )
  ]
  pairs = zip(recognition.rows, resources.rows, strict=True)
  for left, right in pairs:
    centre, _, spread = left[2].value.partition(' ± ')
    difference = left[3].value.partition(' ± ')[0]
    rows.append(
      (
        numerals.shorten(left[0].value, 25),
        left[1].value.replace(' ', ''),
        centre,
        f'± {spread}' if spread else left[2].detail,
        left[5].value.partition(' ± ')[0],
        left[6].value.partition(' ± ')[0],
        difference + ('~' if left[3].mark == 'not resolved' else ' '),
        right[4].value,
        right[5].value,
        right[8].value,
      )
    )
  return rows


def _accuracy_rows(found) -> list[tuple[str, ...]]:
  table = accuracy_tables.accuracy(found)
  short = {
    'Network': 'network',
    'Sparsity': 'removed %',
    'Accuracy': 'top-1 %',
    'Against reference': 'diff',
    'Top-5': 'top-5 %',
    'Not yet tuned': 'untuned %',
    'Parameters': 'params',
    'Compression': 'ratio',
  }
  heads = {'theoretical': 'speed-up', 'measured': 'measured'}
  head = [
    short.get(name) or heads.get(unit, name) for name, unit in table.columns
  ]
  keep = [i for i, name in enumerate(head) if name != 'untuned %']
  rows = [head]
  for row in table.rows:
    cells = [cell.value for cell in row]
    if 'top-5 %' in head:
      at = head.index('top-5 %')
      cells[at] = cells[at].partition(' ± ')[0]
    rows.append(cells)
  return [tuple(row[i] for i in keep) for row in rows]


def _accuracy_legend(found, heads) -> list[str]:
  ratio = 'bytes on disk' if accuracies.of_bytes(found) else 'parameters'
  meant = {'ratio': ratio, 'speed-up': 'MACs', 'measured': 'latency'}
  told = [f'{name}: {what}' for name, what in meant.items() if name in heads]
  legend = [_ACCURACY_LEGEND]
  if told:
    legend.append(f'{", ".join(told)}; original over new')
  return legend


def _layout(rows, legend, heads=1) -> str:
  """Rows of text in columns of at most 100 characters, and a legend."""
  rows = [(numerals.shorten(row[0], 25), *row[1:]) for row in rows]
  widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
  excess = sum(widths) + 2 * (len(widths) - 1) - _COLUMNS
  if excess > 0:
    widths[0] = max(8, widths[0] - excess)
  lines = []
  for row in rows:
    first = numerals.shorten(row[0], widths[0]).ljust(widths[0])
    rest = (x.rjust(w) for x, w in zip(row[1:], widths[1:], strict=True))
    lines.append('  '.join((first, *rest))[:_COLUMNS].rstrip())
  lines.insert(heads, '-' * max(map(len, lines)))
  return '\n'.join([*lines, *legend])
