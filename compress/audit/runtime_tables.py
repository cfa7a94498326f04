"""The table of a report's runtimes."""

from collections.abc import Sequence

from compress.audit import runtimes
from compress.audit.entries import Version
from compress.audit.tables import Cell, Table


def table(found: Sequence[Version]) -> Table | None:
  """Time and memory in every runtime; None if none was run."""
  columns, lines = runtimes.rows(found)
  if not lines:
    return None
  kinds = {v.name: 'reference' if v.is_reference else 'variant' for v in found}
  return Table(
    title='In every runtime, beside float32',
    note='Float32 is the uncompressed network in the same runtime, measured in '
    'turn with the compressed one. Milliseconds of a whole batch: median, and '
    'quartiles in brackets. Memory: what the process takes more than before it '
    'read the model, at most and afterwards.',
    columns=columns,
    rows=tuple(tuple(Cell(*cell) for cell in line) for line in lines),
    kinds=tuple(kinds[line[0][0]] for line in lines),
  )
