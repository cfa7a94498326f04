"""Tables that a study states itself, beside those computed from its entries.

A table is {'title', 'note', 'columns', 'rows', 'marked'}; `note` and `marked`
are optional. A column is a heading or {'heading', 'unit', 'digits', 'sign'}:
decimals of its numbers that are no integers (2), and whether gains get a plus.
A row has a cell a column: text, a number, or null, which is shown as a dash; a
pair [cell, detail] has a smaller second line. `marked` are the numbers of the
rows that stand out, from 0.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from compress.audit.numerals import DASH, fixed
from compress.audit.tables import Cell, Table
from compress.errors import InputError


def check(stated: Any, where: str) -> None:
  """Checks the tables of a report.

  Args:
    stated: what stands in the report's field `tables`, or None.
    where: what to call the report in an error.

  Raises:
    InputError: they do not have the shape described above.
  """
  if not isinstance(stated or [], list):
    raise InputError(f'{where}: tables must be a list')
  for i, one in enumerate(stated or ()):
    name = f'{where}: tables[{i}]'
    if not isinstance(one, Mapping) or not isinstance(one.get('title'), str):
      raise InputError(f'{name} must be a mapping with a title')
    columns, rows = one.get('columns'), one.get('rows')
    if not isinstance(columns, list) or not columns:
      raise InputError(f'{name}: columns must be a list of headings')
    if not all(_is_column(column) for column in columns):
      raise InputError(
        f'{name}: a column is a text or a mapping with a heading, and digits, '
        'if it has any, a whole number from 0'
      )
    if not isinstance(rows, list):
      raise InputError(f'{name}: rows must be a list')
    for k, row in enumerate(rows):
      if not isinstance(row, list) or len(row) != len(columns):
        raise InputError(
          f'{name}: row {k} must be a list of {len(columns)} cells, one a '
          'column'
        )
      if not all(_is_cell(cell) for cell in row):
        raise InputError(
          f'{name}: row {k}: a cell is text, a number, null, or a pair of one '
          'of these and text'
        )
    marked = one.get('marked') or []
    known = range(len(rows))
    if not isinstance(marked, list) or any(x not in known for x in marked):
      raise InputError(f'{name}: marked must be a list of rows, from 0')


def tables(stated: Sequence[Mapping[str, Any]] | None) -> list[Table]:
  """The tables as ready-made text.

  Args:
    stated: checked tables.

  Returns:
    One `Table` each; marked rows are of kind 'reference'.
  """
  return [_table(one) for one in stated or ()]


def _table(one: Mapping[str, Any]) -> Table:
  columns = [
    {'heading': column} if isinstance(column, str) else column
    for column in one['columns']
  ]
  marked = set(one.get('marked') or ())
  return Table(
    title=one['title'],
    note=str(one.get('note') or ''),
    columns=tuple((x['heading'], str(x.get('unit') or '')) for x in columns),
    rows=tuple(
      tuple(_cell(*pair) for pair in zip(row, columns, strict=True))
      for row in one['rows']
    ),
    kinds=tuple(
      'reference' if i in marked else 'variant' for i in range(len(one['rows']))
    ),
  )


def _cell(value: Any, column: Mapping[str, Any]) -> Cell:
  if isinstance(value, list):
    return _cell(value[0], column)._replace(detail=value[1])
  if value is None:
    return Cell(DASH)
  if isinstance(value, str):
    return Cell(value)
  digits = 0 if isinstance(value, int) else column.get('digits', 2)
  return Cell(fixed(value, digits=digits, sign=bool(column.get('sign'))))


def _is_column(column: Any) -> bool:
  if isinstance(column, str):
    return True
  if not isinstance(column, Mapping):
    return False
  digits = column.get('digits', 2)
  whole = isinstance(digits, int) and not isinstance(digits, bool)
  return isinstance(column.get('heading'), str) and whole and digits >= 0


def _is_cell(value: Any) -> bool:
  if isinstance(value, list):
    plain = len(value) == 2 and not isinstance(value[0], list)
    return plain and _is_cell(value[0]) and isinstance(value[1], str)
  if isinstance(value, bool):
    return False
  return value is None or isinstance(value, str | int | float)
