"""The report of quantization with a teacher, from the figures of its rows."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from compress import audit
from experiments.classification import quantization_aware_words as words
from experiments.classification.images import describe_splits
from experiments.hybrids import runs as runs_lib
from experiments.hybrids.runs import Figures, Version


def make_report(
  study, figures: Mapping[str, Sequence[Figures]], *, command: str
) -> dict[str, Any]:
  """The report of a finished study, for `audit.write_report`.

  Args:
    study: `quantization_aware_study.Study`.
    figures: of its `run`.
    command: the command line.

  Returns:
    The dictionary.
  """
  cost = study.student.cost(
    jax.eval_shape(study.student.init, jax.random.key(0))
  )
  whole = _bytes(figures['labels'])
  entries = []
  for row in study.rows:
    entry = runs_lib.entry(Version(_name(row), row.method), figures[row.name])
    entry['bytes'] = {k: round(v) for k, v in entry['bytes'].items()}
    entry |= {
      'params': cost.parameters,
      'macs': cost.macs,
      'compression': whole / _bytes(figures[row.name]),
      'baseline': row.method == 'post_training',
      'seeds': [
        {'seed': i, 'accuracy': run['accuracy']}
        for i, run in enumerate(figures[row.name])
      ],
    }
    if row.bits:
      entry |= {'weight_bits': row.bits, 'activation_bits': row.bits}
    entries.append(entry)
  entries[0]['compression_of'] = 'bytes'
  used = dict.fromkeys(('teacher', *(row.method for row in study.rows)))
  return {
    'study': words.STUDY,
    'title': 'Quantization with a teacher',
    'summary': words.summary(study, figures),
    'description': words.describe(study),
    'command': command,
    'environment': audit.environment(more=['scikit-learn']),
    'dataset': describe_splits(
      study.splits, test='for the report; nothing was chosen'
    ),
    'reference': entries[0],
    'variants': entries[1:],
    'methods': {name: words.METHODS[name] for name in used},
    'conventions': list(words.CONVENTIONS),
    'tables': [
      method_table(study, figures),
      *(rival_table(study, figures, bits) for bits in study.settings.bits),
    ],
    'notes': words.notes(study),
    'warnings': _warnings(study.settings),
    'reproduce': [command],
    'updates': study.steps,
    'teacher': audit.over_runs([run['accuracy'] for run in figures['teacher']]),
    'settings': dataclasses.asdict(study.settings),
  }


def method_table(study, figures) -> dict[str, Any]:
  """Every method at every width, beside training without a teacher."""
  columns: list[Any] = ['Method', 'Teacher']
  for bits in study.settings.bits:
    columns += [
      {'heading': f'w{bits}a{bits}', 'unit': 'test, %'},
      {'heading': 'Against QAT', 'unit': 'points', 'sign': True},
      {'heading': 'File', 'unit': 'bytes'},
    ]
  rows = []
  for method in dict.fromkeys(row.method for row in study.rows):
    cells: list[Any] = [words.TITLES[method], words.TEACHERS[method]]
    for bits in study.settings.bits:
      made = figures.get(f'{method}_w{bits}a{bits}', figures.get(method))
      gap = words.difference(made, figures[f'qat_w{bits}a{bits}'])
      cells += [
        _accuracy(made),
        None if method == 'qat' else _pair(gap),
        [round(_bytes(made)), f'packed {_bytes(made, "packed"):,.0f}'],
      ]
    rows.append(cells)
  teacher = figures['teacher']
  blank = [_accuracy(teacher), None, None]
  rows.insert(0, ['Teacher, float', 'none'] + blank * len(study.settings.bits))
  return {
    'title': 'Every method after the same number of updates',
    'note': f'{study.steps} updates each from the same float student. Against '
    'QAT: accuracy less that of quantization-aware training alone, within '
    'seeds. Float rows stand in every width for comparison. File: bytes on '
    'disk, and those of the numbers alone, codes packed to their bits.',
    'columns': columns,
    'rows': rows,
    'marked': [
      i for i, row in enumerate(rows) if row[0] == words.TITLES['iterated']
    ],
  }


def rival_table(study, figures, bits: int) -> dict[str, Any]:
  """Iterated quantize-then-distil against its rivals, at one width."""
  ours = figures[f'iterated_w{bits}a{bits}']
  rungs = ', '.join(f'{b} bits {n}' for b, n in study.ladder(bits))
  half = study.steps // 2
  updates = {
    'iterated': f'quantized and taught: {rungs}',
    'qat': f'{bits} bits, labels: {study.steps}',
    'once': f'{bits} bits and taught: {study.steps}',
    'distil_then_qat': f'float and taught: {half}; {bits} bits, labels: '
    f'{study.steps - half}',
    'distil_then_post_training': f'float and taught: {study.steps}; then '
    f'{bits} bits',
  }
  rows = []
  for method, text in updates.items():
    made = figures[f'{method}_w{bits}a{bits}']
    gap = words.difference(ours, made)
    better = f'{gap["better"]} of {gap["n"]}'
    own = method == 'iterated'
    rows.append(
      [
        words.TITLES[method],
        text,
        _accuracy(made),
        None if own else _pair(gap),
        None if own else better,
      ]
    )
  return {
    'title': f'Quantize and distil in turns, or otherwise: w{bits}a{bits}',
    'note': 'In turns; quantize and learn from labels alone; both at once; one '
    'after the other. Iterated is the worse one where the difference is below '
    '0.',
    'columns': [
      'Method',
      'Updates',
      {'heading': 'Accuracy', 'unit': 'test, %'},
      {'heading': 'Iterated less this', 'unit': 'points', 'sign': True},
      {'heading': 'Iterated better', 'unit': 'seeds'},
    ],
    'rows': rows,
    'marked': [0],
  }


def _name(row) -> str:
  title = words.TITLES[row.method]
  return f'{title} w{row.bits}a{row.bits}' if row.bits else title


def _bytes(runs, kind: str = 'on_disk') -> float:
  return sum(run['bytes'][kind] for run in runs) / len(runs)


def _accuracy(runs):
  return _pair(audit.over_runs([run['accuracy'] for run in runs]))


def _pair(found):
  text = words.spread(found)
  return [found['mean'], text] if text else found['mean']


def _warnings(settings) -> list[str]:
  if settings.smoke:
    return [
      'A smoke run: a few updates on 128 images. The figures say nothing.'
    ]
  if settings.seeds < 3:
    return [f'{settings.seeds} seed(s): too few to tell methods apart.']
  return []
