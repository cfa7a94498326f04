"""Latency and memory by runtime: how entries hold them, and their table.

`latency_ms` of a report's entry may hold, beside `batch1` and `batch32` (the
simulation's, or what there was before runtimes), one entry a runtime:

  {'onnxruntime': {'float32': {'threads1': {'batch1': X, 'batch32': X}, ...},
                   'compressed': {...}}}

`float32` is the uncompressed network in the same runtime and run, measured in
turn; X is what `compress.audit.measure` gives. `memory_bytes` has the same
shape down to the threads, and there `resident` and `peak`; `bytes` may hold
`runtime`, {runtime: {'float32': bytes of the file, 'compressed': ...}}.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from compress.audit import entries
from compress.audit.entries import Version
from compress.audit.numerals import DASH, bracket, fixed, megabytes

KINDS = ('float32', 'compressed')
BATCHES = ('batch1', 'batch32')


class Timed(NamedTuple):
  """What one runtime does with a number of threads.

  Attributes:
    runtime: its name.
    threads: how many.
    latency: kind -> batch -> entry.
    memory: kind -> {'resident', 'peak'} in bytes, empty where not measured.
    files: kind -> bytes of the file, empty where there is none.
  """

  runtime: str
  threads: int
  latency: dict[str, Mapping[str, Any]]
  memory: dict[str, Mapping[str, Any]]
  files: Mapping[str, Any]


def timed(run: Mapping[str, Any]) -> Iterator[Timed]:
  """The runtimes of an entry, and their numbers of threads, in order.

  Args:
    run: an entry of a report; without runtimes it has none.

  Yields:
    One `Timed` each.
  """
  latency = entries.dig(run, 'latency_ms')
  for runtime, kinds in (latency or {}).items():
    if not isinstance(kinds, Mapping) or not set(kinds) & set(KINDS):
      continue
    threads = {
      key: None
      for kind in KINDS
      for key in entries.dig(kinds, kind) or {}
      if key.startswith('threads') and key[7:].isdigit()
    }
    for key in sorted(threads, key=lambda key: int(key[7:])):
      yield Timed(
        runtime,
        int(key[7:]),
        {kind: entries.dig(kinds, kind, key) or {} for kind in KINDS},
        {
          kind: entries.dig(run, 'memory_bytes', runtime, kind, key) or {}
          for kind in KINDS
        },
        entries.dig(run, 'bytes', 'runtime', runtime) or {},
      )


def plain(run: Mapping[str, Any], batch: str, *, is_reference: bool) -> Any:
  """The one latency of an entry that a table of versions has room for.

  Args:
    run: an entry of a report.
    batch: `batch1` or `batch32`.
    is_reference: whether it is the uncompressed network.

  Returns:
    What stands at `latency_ms[batch]`; without it that of the first runtime,
    at its largest number of threads; or None.
  """
  found = entries.dig(run, 'latency_ms', batch)
  if found is not None:
    return found
  ways = list(timed(run))
  if not ways:
    return None
  last = [way for way in ways if way.runtime == ways[0].runtime][-1]
  return last.latency[KINDS[not is_reference]].get(batch)


def rows(
  found: Sequence[Version],
) -> tuple[tuple[tuple[str, str], ...], list[tuple[tuple[str, str], ...]]]:
  """Headings (text, unit), and rows of (value, detail)."""
  columns = (
    ('Network', ''),
    ('Runtime', ''),
    ('Threads', ''),
    *(
      column
      for batch in ('1', '32')
      for column in (
        ('Float32', f'ms, batch {batch}'),
        ('Compressed', f'ms, batch {batch}'),
        ('Faster by', f'batch {batch}'),
      )
    ),
    ('Memory, float32', 'MB'),
    ('Memory, compressed', 'MB'),
    ('File, float32', 'MB'),
    ('File, compressed', 'MB'),
  )
  lines = []
  for version in found:
    for way in timed(version.first):
      cells = [(version.name, ''), (way.runtime, ''), (str(way.threads), '')]
      for batch in BATCHES:
        pair = [way.latency[kind].get(batch) for kind in KINDS]
        cells += [milliseconds(x) for x in pair]
        before, after = (_median(x) for x in pair)
        known = before is not None and after
        cells.append((f'{before / after:.2f}×' if known else DASH, ''))
      cells += [_memory(way.memory[kind]) for kind in KINDS]
      cells += [(megabytes(way.files.get(kind)), '') for kind in KINDS]
      lines.append(tuple(cells))
  return columns, lines


def milliseconds(entry: Any) -> tuple[str, str]:
  """A latency and its spread, as quartiles or one width."""
  if not isinstance(entry, Mapping):
    return fixed(entries.number(entry), digits=1), ''
  median, spread = _median(entry), entry.get('spread')
  digits = 2 if median is not None and median < 10 else 1
  ends = entries.interval({'interval': {'x': spread}}, 'x')
  if ends is not None:
    return fixed(median, digits=digits), bracket(ends, digits=digits)
  width = entries.number(spread)
  return fixed(median, digits=digits), (
    '' if width is None else f'± {fixed(width, digits=digits)}'
  )


def _median(entry: Any) -> float | None:
  if isinstance(entry, Mapping):
    return entries.number(entry.get('median'))
  return entries.number(entry)


def _memory(entry: Mapping[str, Any]) -> tuple[str, str]:
  peak = megabytes(entry.get('peak'))
  resident = entry.get('resident')
  kept = '' if resident is None else f'{megabytes(resident)} resident'
  return peak, kept
