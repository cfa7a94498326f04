"""Metrics as JSON lines: one object per logged step, in order, without gaps.

A line is `{"step": n, <name>: <number or nested list>, ...}`, where step n is
the state of that number, after n updates. Nothing in it depends on the clock,
so a run that was killed and resumed leaves the same file as one that was not.
JSON has no infinities: a metric that is not finite is null, and its value
stands as text under `"<name>_note"`.
"""

import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from compress.errors import InputError

_NOTE = '_note'


def to_line(step: int, metrics: Mapping[str, Any]) -> str:
  """Write the metrics of a step as one line.

  Args:
    step: number of updates done.
    metrics: name to number or array, on the host.

  Returns:
    The line, with its line break. Numbers are written so that they are read
    back bit-equal.

  Raises:
    ValueError: a metric is called `step`.
  """
  if 'step' in metrics:
    raise ValueError('A metric may not be called step.')
  record: dict[str, Any] = {'step': step}
  for name, value in sorted(metrics.items()):
    value = np.asarray(value, np.float64)
    if np.isfinite(value).all():
      record[name] = value.tolist()
    else:
      record[name] = None
      record[name + _NOTE] = json.loads(
        json.dumps(value.tolist()), parse_constant=str
      )
  return json.dumps(record, allow_nan=False) + '\n'


def from_line(line: str) -> dict[str, Any]:
  """Read a line that `to_line` wrote.

  Args:
    line: the line.

  Returns:
    `{'step': int, name: float or nested list}`, non-finite values included.

  Raises:
    ValueError: it is not such a line.
  """
  record = json.loads(line)
  if not isinstance(record, dict) or not isinstance(record.get('step'), int):
    raise ValueError('no step')
  read = {}
  for name, value in record.items():
    if name.endswith(_NOTE) and record.get(name[: -len(_NOTE)], 0) is None:
      continue
    read[name] = _floats(record[name + _NOTE]) if value is None else value
  return read


def read_history(
  path: str | Path, *, last: float = math.inf
) -> list[dict[str, Any]]:
  """Read a metrics file up to a step.

  Args:
    path: the file; it need not exist. A last line without its line break was
      cut when its process died and is left out.
    last: steps above it are left out.

  Returns:
    One dictionary per line, as `from_line`.

  Raises:
    InputError: a complete line is not one that `to_line` wrote (names it).
  """
  path = Path(path)
  if not path.exists():
    return []
  records = []
  for number, line in enumerate(path.read_bytes().split(b'\n')[:-1], start=1):
    try:
      record = from_line(line.decode())
    except (ValueError, KeyError) as error:
      raise InputError(
        f'{path}: line {number} is not a line of metrics; remove the file or '
        'take another folder.'
      ) from error
    if record['step'] <= last:
      records.append(record)
  return records


def rewind(path: str | Path, *, last: int) -> list[dict[str, Any]]:
  """Cut a metrics file after a step, so that a run can go on from there.

  The file is replaced as a whole; a kill leaves the old or the new one.

  Args:
    path: the file; its folder must exist.
    last: the step from which the run goes on.

  Returns:
    What is left in the file, as `read_history`.

  Raises:
    InputError: as `read_history`.
  """
  path = Path(path)
  records = read_history(path, last=last)
  text = ''.join(
    to_line(r['step'], {k: v for k, v in r.items() if k != 'step'})
    for r in records
  )
  with tempfile.NamedTemporaryFile(
    'w', dir=path.parent, prefix=path.name, suffix='.tmp', delete=False
  ) as file:
    file.write(text)
  os.replace(file.name, path)
  return records


def _floats(value):
  if isinstance(value, list):
    return [_floats(part) for part in value]
  return float(value)
