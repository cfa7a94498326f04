"""The report of a study: one JSON file, and the same as a page and Markdown.

`report.json` is the record; `report.html` and `report.md` are derived from it
and hold no figure that is not in it or in the curves.

The dictionary
  study, command: text.
  environment: name -> text or number (versions, device, precision).
  dataset: name, people, photos, genuine_pairs, impostor_pairs, split (text or
    a mapping such as {'train': 'people 1-30', 'test': 'people 31-40'}).
  reference: one entry (below); with several folds, `runs` lists its entries.
  variants: a list of entries. Entries that share `name` are runs of the same
    variant, told apart by `seed` and `fold`, and are shown as mean +- sample
    standard deviation (n).

An entry (all but `name` optional)
  name, method, weight_bits, activation_bits, seed, fold: the method is a key
    of `methods`. baseline: true marks the plain post-training baseline.
  verification: eer, tar_at_far {'1e-1', '1e-2', '1e-3'}, accuracy, in percent;
    interval: the same keys, each [low, high].
  difference: the same shape as verification, in points, variant minus
    reference, with paired intervals; groups and groups_global may be added,
    each with avg, std, ser and interval {avg, std, ser}.
  flips: pairs, flipped, accept_to_reject, reject_to_accept (counts).
  groups (a threshold per group) and groups_global (one threshold): group name
    -> the shape of verification, where fmr and fnmr (percent) may be added;
    beside the groups avg, std, ser and interval {avg, std, ser}.
  bytes: nominal, packed, on_disk. macs, bops: per image.
  latency_ms: batch1, batch32, each {'median', 'spread': [q25, q75]} or a
    number; execution: 'simulated', 'integer' or 'float'. latency_ms may hold
    an entry a runtime too, memory_bytes the same, and bytes the files of the
    runtimes: see `compress.audit.runtimes`.

An entry of a classification study has, instead of verification, groups and
flips, figures that are a number or, over runs that are not listed one by one,
{'mean', 'std', 'n'}
  accuracy, top5, accuracy_before (not yet tuned): percent.
  sparsity: share removed, 0..1. params, macs: what is left of the network;
    compression: the ratio, if it is not that of the reference's params to
    these (compression_of: 'bytes' in the reference: all are of files).
    speedup: theoretical (if it is not that of macs), measured.
  widths: layer -> [channels kept, channels before].
  reference: {name, accuracy, params, macs} of the network it is compared with,
    where that is not the report's.
The variants of one method make one line of the figures, a point each.

Optional beside them: title, subject (text: what is compared, where it is not
compressed versions of the reference; the description then says all of what was
done), description (text or paragraphs), methods {name: {summary, paper, url}},
summary (instead of the sentences computed from the
figures), conventions, warnings, notes, reproduce (lists of text), tables (a
list; see `compress.audit.stated_tables`). Other fields are kept in the JSON and
not shown.
"""

import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from compress.audit import render, stated_tables, terminal
from compress.audit.plot_parts import Plot
from compress.errors import InputError

_REQUIRED = (
  'study',
  'command',
  'environment',
  'dataset',
  'reference',
  'variants',
)

_MAPPINGS = (
  'verification',
  'difference',
  'groups',
  'groups_global',
  'bytes',
  'latency_ms',
  'memory_bytes',
  'speedup',
  'widths',
)


def write_report(
  report: Mapping[str, Any],
  curves: Mapping[str, Any],
  folder: str | os.PathLike,
  *,
  images: np.ndarray | None = None,
  figures: Sequence[Plot] = (),
) -> dict[str, pathlib.Path]:
  """Writes `report.json`, `report.md` and `report.html` into a folder.

  All three are rendered before the first is written, and each is written to a
  temporary name and renamed. The same input gives the same bytes.

  Args:
    report: the dictionary described above. Arrays and numpy scalars become
      lists and numbers; a number that is not finite becomes null, and its
      field gets a sibling `<field>_note` that says which it was.
    curves: variant name -> {'fmr': [T], 'fnmr': [T]}, rates in 0..1, one pair
      per threshold; for the reference and as many variants as there are. Two
      keys are reserved: 'scores', network name -> {'genuine': [G],
      'impostor': [I], 'threshold': float (optional)}, cosine similarities, of
      which the reference's are drawn; and 'training', variant name -> {'step':
      [S], 'loss': [S]}. Curves go into the figures only.
    folder: made if it does not exist.
    images: uint8 [N, H, W, 1 or 3], example photographs (faces: 112 x 112);
      at most 14, evenly spread, are shown.
    figures: the study's own, of `heat_map`, `image_rows` or `lines`; they
      stand on the page after the study's own tables.

  Returns:
    {'json': path, 'md': path, 'html': path}.

  Raises:
    InputError: a required field is missing or of the wrong kind, images have
      another shape or type, or the folder cannot be written.
  """
  clean = to_plain(report)
  _check(clean, 'the report')
  texts = {
    'json': json.dumps(clean, indent=2, allow_nan=False, ensure_ascii=False)
    + '\n',
    'md': render.markdown(clean),
    'html': render.html(clean, curves, images=images, figures=figures),
  }
  folder = pathlib.Path(folder)
  try:
    folder.mkdir(parents=True, exist_ok=True)
    return {
      kind: _write(folder / f'report.{kind}', text)
      for kind, text in texts.items()
    }
  except OSError as error:
    raise InputError(
      f'cannot write the report into {folder}: {error.strerror or error}; '
      'give a folder that can be written'
    ) from error


def read_report(path: str | os.PathLike) -> dict[str, Any]:
  """Reads and checks a `report.json`.

  Args:
    path: the file, or the folder that holds it.

  Returns:
    The dictionary as written (null stays None).

  Raises:
    InputError: there is no such file, it is not strict JSON in UTF-8, or a
      required field is missing or of the wrong kind.
  """
  path = pathlib.Path(path)
  if path.is_dir():
    path = path / 'report.json'
  try:
    text = path.read_text(encoding='utf-8')
  except FileNotFoundError as error:
    raise InputError(
      f'{path} does not exist; give a report.json or its folder'
    ) from error
  except (OSError, UnicodeDecodeError) as error:
    raise InputError(f'{path} cannot be read as UTF-8 text: {error}') from error
  try:
    found = json.loads(text, parse_constant=_no_constant)
  except (ValueError, RecursionError) as error:
    raise InputError(f'{path} is not strict JSON: {error}') from error
  _check(found, str(path))
  return found


def format_table(report: Mapping[str, Any]) -> str:
  """The main figures as a plain-text table of at most 100 columns.

  Args:
    report: the dictionary `write_report` takes, or what `read_report` gives.

  Returns:
    Lines without a final newline; see `compress.audit.terminal.table`.

  Raises:
    InputError: a required field is missing or of the wrong kind.
  """
  clean = to_plain(report)
  _check(clean, 'the report')
  return terminal.table(clean)


def format_stated(table: Mapping[str, Any]) -> str:
  """A table of a report's `tables` as plain text of at most 100 columns.

  Args:
    table: see `compress.audit.stated_tables`.

  Returns:
    Lines without a final newline.

  Raises:
    InputError: it is none.
  """
  clean = to_plain({'tables': [table]})
  stated_tables.check(clean['tables'], 'the report')
  return terminal.stated_table(clean['tables'][0])


def to_plain(value: Any, *, path: str = 'report') -> Any:
  """Plain JSON types; a number that is not finite becomes null with a note.

  Args:
    value: mappings, sequences, arrays, numbers, text, paths, None.
    path: what to call the value in an error.

  Returns:
    The same with dicts, lists, str, int, float, bool and None only. A field
    that lost a number gets a sibling `<field>_note`, unless it has one.

  Raises:
    TypeError: something else is in it.
  """
  if isinstance(value, Mapping):
    found = {}
    for key, item in value.items():
      key = str(key)
      found[key] = to_plain(item, path=f'{path}.{key}')
      note = _note(item)
      if note and f'{key}_note' not in value:
        found[f'{key}_note'] = note
    return found
  if value is None or isinstance(value, bool | str | int):
    return value
  if isinstance(value, np.bool_):
    return bool(value)
  if isinstance(value, float | np.floating):
    return float(value) if math.isfinite(value) else None
  if isinstance(value, np.integer):
    return int(value)
  if isinstance(value, os.PathLike):
    return os.fspath(value)
  if hasattr(value, '__array__'):
    value = np.asarray(value).tolist()
    if not isinstance(value, list):
      return to_plain(value, path=path)
  if isinstance(value, Sequence):
    return [to_plain(item, path=f'{path}[{i}]') for i, item in enumerate(value)]
  raise TypeError(f'{path} is a {type(value).__name__}, which JSON cannot hold')


def _note(value: Any) -> str | None:
  """What was not finite in a number or a list of numbers, in words."""
  if isinstance(value, str | Mapping) or value is None:
    return None
  if isinstance(value, Sequence) or np.ndim(value):
    notes = [_note(item) for item in value]
    return next(filter(None, notes), None)
  if not isinstance(value, float | np.floating) and not hasattr(
    value, '__array__'
  ):
    return None
  value = float(value)
  if math.isfinite(value):
    return None
  return 'not a number' if math.isnan(value) else 'infinite'


def _check(report: Any, where: str) -> None:
  """Raises InputError unless the report has the shape described above."""
  if not isinstance(report, Mapping):
    raise InputError(f'{where} is not a mapping; expected an object')
  missing = [key for key in _REQUIRED if key not in report]
  if missing:
    raise InputError(f'{where} lacks {", ".join(missing)}')
  for key in ('environment', 'dataset', 'reference'):
    if not isinstance(report[key], Mapping):
      raise InputError(f'{where}: {key} must be a mapping')
  if not isinstance(report['variants'], list):
    raise InputError(f'{where}: variants must be a list')
  for key in ('summary', 'conventions', 'warnings', 'notes', 'reproduce'):
    if not isinstance(report.get(key) or [], list):
      raise InputError(f'{where}: {key} must be a list of text')
  if not isinstance(report.get('subject') or '', str):
    raise InputError(f'{where}: subject must be text')
  stated_tables.check(report.get('tables'), where)
  if not isinstance(report.get('methods') or {}, Mapping):
    raise InputError(f'{where}: methods must be a mapping')
  entries = [('reference', report['reference'])]
  entries += [(f'variants[{i}]', x) for i, x in enumerate(report['variants'])]
  for name, entry in entries:
    known = entry.get('name') if isinstance(entry, Mapping) else None
    if not isinstance(known, str) or not known:
      raise InputError(f'{where}: {name} must be a mapping with a name')
    for key in _MAPPINGS:
      if not isinstance(entry.get(key) or {}, Mapping):
        raise InputError(f'{where}: {name}.{key} must be a mapping')


def _no_constant(text: str) -> None:
  raise ValueError(f'{text} is no JSON number')


def _write(path: pathlib.Path, text: str) -> pathlib.Path:
  """Writes to a temporary name in the same folder, then renames."""
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  try:
    with open(temporary, 'w', encoding='utf-8', newline='\n') as file:
      file.write(text)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)
  return path
