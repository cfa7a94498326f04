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
    reference, with paired intervals.
  flips: pairs, flipped, accept_to_reject, reject_to_accept (counts).
  groups (a threshold per group) and groups_global (one threshold): group name
    -> the shape of verification, where fmr and fnmr (percent) may be added;
    beside the groups avg, std, ser and interval {avg, std, ser}.
  bytes: nominal, packed, on_disk. macs, bops: per image.
  latency_ms: batch1, batch32, each {'median', 'spread': [q25, q75]} or a
    number; execution: 'simulated', 'integer' or 'float'.

Optional beside them: title, description (text or paragraphs), methods {name:
{summary, paper, url}}, conventions, warnings, notes, reproduce (lists of
text). Other fields are kept in the JSON and not shown.
"""

import base64
import io
import json
import math
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from compress.audit import headline, plots, tables
from compress.errors import InputError

_REQUIRED = (
  'study',
  'command',
  'environment',
  'dataset',
  'reference',
  'variants',
)
_MOST_PHOTOS = 14
_TEMPLATES = pathlib.Path(__file__).parent / 'templates'
_RESERVED_CURVES = ('scores', 'training')

CONVENTIONS = (
  'MB means 1,000,000 bytes. Nominal is bits times weights; packed is the '
  'integers, scales and remaining floats as they lie in memory; on disk is '
  'the file itself.',
  'FAR is the share of impostor pairs (two people) that are accepted. TAR at '
  'FAR x is the share of genuine pairs (one person) accepted at the lowest '
  'threshold whose FAR is at most x.',
  'EER, the equal error rate, is the error at the threshold where strangers '
  'are accepted as often as the right person is refused.',
  'Accuracy is the share of right decisions at the best threshold, chosen on '
  'other folds than the one measured where folds are given.',
  'Intervals are 95 % bootstrap intervals over people, not over pairs: pairs '
  'that share a person are not independent. A difference uses the same draws '
  'for both networks, and is called not resolved if its interval holds zero.',
  'W / A are the bits of weights and activations. Simulated means that the '
  'network computes in float32 with values rounded to the low-bit grid: its '
  'errors are those of the low-bit network, its latency is not. Latency is '
  'always measured, operations are always computed; neither stands in for '
  'the other.',
  'MACs are multiply-accumulates for one photograph; bit-operations are MACs '
  'times weight bits times activation bits.',
)


def write_report(
  report: Mapping[str, Any],
  curves: Mapping[str, Any],
  folder: str | os.PathLike,
  *,
  images: np.ndarray | None = None,
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
    images: uint8 [N, 112, 112, 3], example photographs; at most 14, evenly
      spread, are shown.

  Returns:
    {'json': path, 'md': path, 'html': path}.

  Raises:
    InputError: a required field is missing or of the wrong kind, images have
      another shape or type, or the folder cannot be written.
  """
  clean = _plain(report, 'report')
  _check(clean, 'the report')
  texts = {
    'json': to_json(clean),
    'md': render_markdown(clean),
    'html': render_html(clean, curves, images=images),
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


def to_json(report: Mapping[str, Any]) -> str:
  """The report as strict JSON: fields in their order, indent 2, no NaN."""
  return (
    json.dumps(
      _plain(report, 'report'), indent=2, allow_nan=False, ensure_ascii=False
    )
    + '\n'
  )


def render_html(
  report: Mapping[str, Any],
  curves: Mapping[str, Any],
  *,
  images: np.ndarray | None = None,
) -> str:
  """The report as one self-contained page; arguments as `write_report`."""
  report = _plain(report, 'report')
  _check(report, 'the report')
  context = _context(report)
  names = [v.name for v in tables.versions(report)]
  scores = curves.get('scores') or {}
  drawn = {
    'recognition': [
      plots.error_tradeoff(_only_curves(curves), names),
      plots.error_against_size(tables.versions(report)),
      plots.score_histogram(scores.get(names[0]), names[0]),
    ],
    'groups': [
      plots.group_errors(tables.versions(report), key=key)
      for key in ('groups', 'groups_global')
    ],
    'training': [plots.training_loss(curves.get('training') or {})],
  }
  template = _environment(html=True).get_template('report.html')
  return template.render(
    context,
    plots={k: [p for p in v if p is not None] for k, v in drawn.items()},
    photos=_photos(images),
  )


def render_markdown(report: Mapping[str, Any]) -> str:
  """The report as GitHub-flavoured Markdown: all text and tables."""
  report = _plain(report, 'report')
  _check(report, 'the report')
  text = (
    _environment(html=False).get_template('report.md').render(_context(report))
  )
  return re.sub(r'\n{3,}', '\n\n', text).strip() + '\n'


def format_table(report: Mapping[str, Any]) -> str:
  """The main figures as a plain-text table of at most 100 columns.

  Args:
    report: the dictionary `write_report` takes.

  Returns:
    Lines of at most 100 characters: per version the bits, EER with its
    interval (or deviation over runs), TAR at 1e-2 and 1e-3, the difference in
    EER to the reference ('~': not resolved), MB on disk and the ratio, and
    the median milliseconds of one image.
  """
  found = tables.versions(_plain(report, 'report'))
  columns = {
    x.title: x for x in (tables.recognition(found), tables.resources(found))
  }
  recognition, resources = columns.values()
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
        tables.shorten(left[0].value, 25),
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
  widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
  excess = sum(widths) + 2 * (len(widths) - 1) - 100
  if excess > 0:
    widths[0] = max(8, widths[0] - excess)
  lines = []
  for row in rows:
    first = tables.shorten(row[0], widths[0]).ljust(widths[0])
    rest = (x.rjust(w) for x, w in zip(row[1:], widths[1:], strict=True))
    lines.append('  '.join((first, *rest))[:100].rstrip())
  lines.insert(1, '-' * min(100, max(map(len, lines))))
  lines.append(
    '[..]: 95 % interval over people; diff: EER minus the reference, points; '
    '~: not resolved'
  )
  lines.append('MB: 1e6 bytes on disk; ms: median for one photograph')
  return '\n'.join(lines)


def _context(report: Mapping[str, Any]) -> dict[str, Any]:
  """What both templates show, as text."""
  found = tables.versions(report)
  description = report.get('description') or ()
  if isinstance(description, str):
    description = (description,)
  return {
    'title': report.get('title')
    or tables.sentence_start(str(report['study']).replace('_', ' ')),
    'study': report['study'],
    'command': report['command'],
    'reference': found[0],
    'variant_count': len(found) - 1,
    'summary': headline.summary(found),
    'done': [*headline.what_was_done(report), *description],
    'data': headline.data(report['dataset']),
    'recognition': tables.recognition(found),
    'resources': tables.resources(found),
    'differences': tables.differences(found),
    'groups': [
      table
      for key in ('groups', 'groups_global')
      if (table := tables.groups(found, key=key)) is not None
    ],
    'runs': tables.runs(found),
    'methods': _methods(report.get('methods') or {}),
    'conventions': [*CONVENTIONS, *(report.get('conventions') or ())],
    'warnings': report.get('warnings') or (),
    'notes': [*(report.get('notes') or ()), *_null_notes(report)],
    'environment': [
      (key, headline.text(value))
      for key, value in report['environment'].items()
    ],
    'reproduce': report.get('reproduce') or (report['command'],),
  }


def _methods(methods: Mapping[str, Any]) -> list[dict[str, str | None]]:
  """Name, one line, paper and a link where a paper names one."""
  found = []
  for name, entry in methods.items():
    paper = tables.dig(entry, 'paper') or ''
    url = tables.dig(entry, 'url')
    arxiv = re.search(r'(?i)arxiv[:\s]*(\d{4}\.\d{4,5})', str(paper))
    if not url and arxiv:
      url = f'https://arxiv.org/abs/{arxiv[1]}'
    if not re.match(r'https?://', str(url or '')):
      url = None
    summary = entry if isinstance(entry, str) else tables.dig(entry, 'summary')
    found.append(
      {'name': name, 'summary': summary or '', 'paper': paper, 'url': url}
    )
  return found


def _photos(images: np.ndarray | None) -> list[str]:
  """Example photographs as base64 PNG."""
  if images is None:
    return []
  images = np.asarray(images)
  if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
    raise InputError(
      f'images are {images.dtype} {list(images.shape)}; example photographs '
      'are uint8 [N, 112, 112, 3]'
    )
  n = min(len(images), _MOST_PHOTOS)
  chosen = np.linspace(0, len(images) - 1, n).round().astype(int) if n else ()
  encoded = []
  for i in chosen:
    buffer = io.BytesIO()
    Image.fromarray(images[i]).save(buffer, format='PNG')
    encoded.append(base64.b64encode(buffer.getvalue()).decode())
  return encoded


def _only_curves(curves: Mapping[str, Any]) -> dict[str, Any]:
  return {k: v for k, v in curves.items() if k not in _RESERVED_CURVES}


def _environment(*, html: bool) -> jinja2.Environment:
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_TEMPLATES),
    autoescape=html,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  environment.filters['md'] = _markdown
  return environment


def _markdown(value: Any) -> str:
  """Text as one line of Markdown: nothing in it is markup."""
  text = re.sub(r'\s+', ' ', str(value)).strip()
  text = text.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')
  return re.sub(r'([\\`*_|\[\]~#])', r'\\\1', text)


def _plain(value: Any, path: str) -> Any:
  """Plain JSON types; non-finite numbers become null with a sibling note."""
  if isinstance(value, Mapping):
    found = {}
    for key, item in value.items():
      key = str(key)
      found[key] = _plain(item, f'{path}.{key}')
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
      return _plain(value, path)
  if isinstance(value, Sequence):
    return [_plain(item, f'{path}[{i}]') for i, item in enumerate(value)]
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


def _null_notes(entry: Any, path: str = '') -> list[str]:
  """The notes beside null fields, once per kind of field, for the reader."""
  found: dict[str, None] = {}

  def walk(value, path):
    if isinstance(value, Mapping):
      for key, item in value.items():
        if key.endswith('_note') and isinstance(item, str):
          where = '.'.join([*path, key.removesuffix('_note')])
          found[f'{where} is shown as {tables.DASH}: {item}.'] = None
        walk(item, [*path, key])
    elif isinstance(value, list):
      for i, item in enumerate(value):
        walk(item, [*path, str(tables.dig(item, 'name') or i)])

  walk(entry, [path] if path else [])
  return list(found)


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
  entries = [('reference', report['reference'])]
  entries += [(f'variants[{i}]', x) for i, x in enumerate(report['variants'])]
  for name, entry in entries:
    if not isinstance(entry, Mapping) or not entry.get('name'):
      raise InputError(f'{where}: {name} must be a mapping with a name')
    for key in ('verification', 'difference', 'groups', 'bytes'):
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
