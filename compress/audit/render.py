"""A checked report dictionary as a page and as Markdown.

Pure functions from the dictionary that `compress.audit.report` describes to
text; nothing here touches a file but the templates.
"""

import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import numpy as np

from compress.audit import (
  accuracies,
  accuracy_tables,
  accuracy_words,
  entries,
  headline,
  numerals,
  plot_accuracy,
  plot_parts,
  plot_scores,
  plots,
  runtime_tables,
  stated_tables,
  tables,
)
from compress.audit.plot_parts import Plot
from compress.errors import InputError

_MOST_NOTES = 30
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


def html(
  report: Mapping[str, Any],
  curves: Mapping[str, Any],
  *,
  images: np.ndarray | None = None,
  figures: Sequence[Plot] = (),
) -> str:
  """The report as one self-contained page.

  Args:
    report: a checked dictionary of plain JSON types.
    curves: as `compress.audit.report.write_report` takes them.
    images: uint8 [N, 112, 112, 3], example photographs, or None.
    figures: the study's own.

  Returns:
    HTML text: style, figures and photographs inline, no script, nothing
    fetched.

  Raises:
    InputError: images have another shape or type.
  """
  found = entries.versions(report)
  drawn = _figures(found, curves)
  template = _environment(autoescape=True).get_template('report.html')
  return template.render(
    _context(report),
    plots={k: [p for p in v if p is not None] for k, v in drawn.items()},
    photos=_photos(images),
    stated_figures=list(figures),
  )


def _figures(found, curves) -> dict[str, list[Any]]:
  """The figures of each section; None where there is nothing to draw."""
  training = [plots.training_loss(curves.get('training') or {}, found)]
  if accuracies.is_classification(found):
    return {
      'scores': [],
      'recognition': [
        plot_accuracy.accuracy_against(found, 'compression'),
        plot_accuracy.accuracy_against(found, 'speedup'),
      ],
      'resources': [plot_accuracy.kept_widths(found)],
      'groups': [],
      'training': training,
    }
  name = found[0].name
  scores = entries.dig(curves, 'scores', name)
  return {
    'scores': [plot_scores.score_histogram(scores, name=name)],
    'recognition': [
      plot_scores.error_tradeoff(_only_curves(curves), found),
      plots.error_against_size(found),
    ],
    'resources': [],
    'groups': [
      plots.group_errors(found, key=key) for key in ('groups', 'groups_global')
    ],
    'training': training,
  }


def markdown(report: Mapping[str, Any]) -> str:
  """The report as GitHub-flavoured Markdown: all text and tables.

  Args:
    report: a checked dictionary of plain JSON types.

  Returns:
    Markdown text in which nothing from the dictionary acts as markup.
  """
  text = (
    _environment(autoescape=False)
    .get_template('report.md')
    .render(_context(report))
  )
  return re.sub(r'\n{3,}', '\n\n', text).strip() + '\n'


def _subject(found) -> str:
  count = len(found) - 1
  versions = 'version' if count == 1 else 'versions'
  return f'{found[0].name} and {count} compressed {versions} of it'


def _context(report: Mapping[str, Any]) -> dict[str, Any]:
  """What both templates show, as text."""
  found = entries.versions(report)
  description = report.get('description') or ()
  if isinstance(description, str):
    description = (description,)
  if accuracies.is_classification(found):
    words, conventions = accuracy_words, accuracy_words.conventions(found)
    found_tables = _accuracy_tables(found)
  else:
    words, conventions = headline, CONVENTIONS
    found_tables = _verification_tables(found)
  return {
    'title': report.get('title')
    or numerals.sentence_start(str(report['study']).replace('_', ' ')),
    'study': report['study'],
    'command': report['command'],
    'subject': report.get('subject') or _subject(found),
    'summary': report.get('summary') or words.summary(found),
    'done': [
      *(() if report.get('subject') else words.what_was_done(report)),
      *description,
    ],
    'data': headline.data(report['dataset']),
    'stated': stated_tables.tables(report.get('tables')),
    **found_tables,
    'methods': _methods(report.get('methods') or {}),
    'conventions': [*conventions, *(report.get('conventions') or ())],
    'warnings': report.get('warnings') or (),
    'notes': [*(report.get('notes') or ()), *_null_notes(report)],
    'environment': [
      (key, headline.text(value))
      for key, value in report['environment'].items()
    ],
    'reproduce': report.get('reproduce') or (report['command'],),
  }


def _verification_tables(found) -> dict[str, Any]:
  return {
    'heading': 'recognition',
    'figures_first': False,
    'images': 'photographs',
    'recognition': tables.recognition(found),
    'resources': tables.resources(found),
    'runtimes': runtime_tables.table(found),
    'differences': tables.differences(found),
    'groups': [
      table
      for table in (
        tables.groups(found, key='groups'),
        tables.groups(found, key='groups_global'),
        tables.group_rates(found),
      )
      if table is not None
    ],
    'runs': tables.runs(found),
  }


def _accuracy_tables(found) -> dict[str, Any]:
  return {
    'heading': 'accuracy',
    'figures_first': True,
    'images': 'images',
    'recognition': accuracy_tables.accuracy(found),
    'resources': accuracy_tables.costs(found),
    'runtimes': runtime_tables.table(found),
    'differences': None,
    'groups': [],
    'runs': accuracy_tables.runs(found),
  }


def _methods(methods: Mapping[str, Any]) -> list[dict[str, Any]]:
  """Name, one line, and the paper in parts (text, link or None)."""
  found = []
  for name, entry in methods.items():
    paper = str(entries.dig(entry, 'paper') or '')
    url = str(entries.dig(entry, 'url') or '')
    parts = [(paper, url)] if re.match(r'https?://', url) else _linked(paper)
    summary = entry if isinstance(entry, str) else entries.dig(entry, 'summary')
    found.append({'name': name, 'summary': summary or '', 'paper': parts})
  return found


def _linked(paper: str) -> list[tuple[str, str | None]]:
  """The text cut at arXiv numbers, each with its link."""
  parts, end = [], 0
  for match in re.finditer(r'(?i)arxiv[:\s]*(\d{4}\.\d{4,5})', paper):
    if match.start() > end:
      parts.append((paper[end : match.start()], None))
    parts.append((match[0], f'https://arxiv.org/abs/{match[1]}'))
    end = match.end()
  return parts + ([(paper[end:], None)] if paper[end:] else [])


def _photos(images: np.ndarray | None) -> list[tuple[str, bool]]:
  """Example photographs as base64 PNG, and whether to show their pixels."""
  if images is None:
    return []
  images = np.asarray(images)
  fits = images.ndim == 4 and images.shape[3] in (1, 3)
  if not fits or images.dtype != np.uint8:
    raise InputError(
      f'images are {images.dtype} {list(images.shape)}; example photographs '
      'are uint8 [N, 112, 112, 3], or [N, H, W, 1 or 3]'
    )
  n = min(len(images), _MOST_PHOTOS)
  chosen = np.linspace(0, len(images) - 1, n).round().astype(int) if n else ()
  encoded = []
  for i in chosen:
    small = max(images.shape[1:3]) < plot_parts.SMALL
    encoded.append((plot_parts.png(images[i]), small))
  return encoded


def _only_curves(curves: Mapping[str, Any]) -> dict[str, Any]:
  return {k: v for k, v in curves.items() if k not in _RESERVED_CURVES}


def _environment(*, autoescape: bool) -> jinja2.Environment:
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_TEMPLATES),
    autoescape=autoescape,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  environment.filters['md'] = _markdown
  environment.filters['unbroken'] = headline.unbroken
  return environment


def _markdown(value: Any, strip: bool = True) -> str:
  """Text as one line of Markdown: nothing in it is markup."""
  text = re.sub(r'\s+', ' ', str(value))
  text = text.strip() if strip else text
  text = text.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')
  text = re.sub(r'([\\`*_|~#])', r'\\\1', text)
  return re.sub(r'\](?=[(\[:])', r'\\]', text)


def _null_notes(report: Mapping[str, Any]) -> list[str]:
  """The notes beside null fields, for the reader."""
  found = []

  def walk(value, path):
    if isinstance(value, Mapping):
      for key, item in value.items():
        if key.endswith('_note') and isinstance(item, str):
          where = ' / '.join([*path, key.removesuffix('_note')])
          found.append(f'{where}: {item}')
        walk(item, [*path, key])
    elif isinstance(value, list):
      for i, item in enumerate(value):
        walk(item, [*path[:-1], str(entries.dig(item, 'name') or i)])

  walk(report, [])
  found = list(dict.fromkeys(found))
  if len(found) > _MOST_NOTES:
    rest = len(found) - _MOST_NOTES
    found = [*found[:_MOST_NOTES], f'{rest} more such notes in report.json']
  return found
