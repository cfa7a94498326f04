"""The tables of the teacher gap."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from compress.distill import Gap
from experiments.classification.paired import difference

Runs = Sequence[float]

_POINTS = {'unit': 'points', 'digits': 2, 'sign': True}
_PERCENT = {'unit': '%', 'digits': 2}


class Figures(NamedTuple):
  """Accuracies in percent, a value a seed.

  Attributes:
    widths: of the ladder, the student's last.
    teachers: of each teacher.
    params: of each width.
    alone: of the student on labels.
    direct: of the student by each teacher.
    chosen: which of them the validation images choose.
    chains: through every size between.
    searched: along the path that was found.
    searched_paths: those paths, as places in the ladder.
    paths: every path from the largest teacher -> (test, validation).
    gaps: of each teacher and its direct student, one a seed.
    others: of the student by other schemes.
    ensembles: name -> (accuracies, members).
    attacks: 'plain' and 'defended' -> figures of each seed.
    trees: figures of each tree.
  """

  widths: tuple[int, ...]
  teachers: list[Runs]
  params: list[int]
  alone: Runs
  direct: list[Runs]
  chosen: int
  chains: list[Runs]
  searched: list[Runs]
  searched_paths: list[tuple[int, ...]]
  paths: dict[tuple[int, ...], tuple[Runs, Runs]]
  gaps: list[list[Gap]]
  others: dict[str, Runs]
  ensembles: dict[str, tuple[Runs, int]]
  attacks: Mapping[str, Any]
  trees: list[dict[str, Any]]


def all_tables(settings, found: Figures) -> list[dict[str, Any]]:
  """Every table of the report, in its order."""
  return [
    _ladder(found),
    _paths(found),
    _schemes(settings, found),
    _trees(found),
    _attacks(settings, found),
  ]


def along(found: Figures, path: Sequence[int]) -> str:
  """A path as widths."""
  return ' → '.join(str(found.widths[place]) for place in path)


def points(own: Runs, other: Runs) -> list[Any]:
  """Mean difference over seeds as a cell, its standard error below."""
  mean, error = difference(own, other)
  return [mean, '' if error is None else f'± {error:.2f}']


def _runs(values: Runs) -> list[Any]:
  deviation = f'± {np.std(values, ddof=1):.2f}' if len(values) > 1 else ''
  return [float(np.mean(values)), deviation]


def _ladder(found: Figures) -> dict[str, Any]:
  rows = []
  for i, width in enumerate(found.widths[:-1]):
    gaps = found.gaps[i]
    rows.append(
      [
        [f'width {width}', f'{found.params[i]:,} parameters'],
        _runs(found.teachers[i]),
        _runs(found.direct[i]),
        points(found.direct[i], found.alone),
        _runs(found.chains[i]),
        [*_runs(found.searched[i])[:1], along(found, found.searched_paths[i])],
        points(found.searched[i], found.direct[i]),
        100 * float(np.mean([gap.agreement for gap in gaps])),
      ]
    )
  rows.append(
    [
      [f'width {found.widths[-1]}', f'{found.params[-1]:,} parameters'],
      None,
      _runs(found.alone),
      *[None] * 5,
    ]
  )
  return {
    'title': 'One student, teachers of growing size',
    'note': f'The student has width {found.widths[-1]}; the last row is it on '
    'labels alone. The chain goes through every size between; the path is the '
    'best one found by the search, on validation images. Differences are '
    'paired by seed, ± their standard error.',
    'columns': [
      'Teacher',
      {'heading': 'Its accuracy', **_PERCENT},
      {'heading': 'Student', **_PERCENT},
      {'heading': 'Over alone', **_POINTS},
      {'heading': 'By the chain', **_PERCENT},
      {'heading': 'By the path', **_PERCENT},
      {'heading': 'Path over direct', **_POINTS},
      {'heading': 'Answers like the teacher', 'unit': '%', 'digits': 1},
    ],
    'rows': rows,
    'marked': [len(rows) - 1],
  }


def _paths(found: Figures) -> dict[str, Any]:
  order = sorted(found.paths, key=lambda p: -np.mean(found.paths[p][1]))
  direct = found.paths[0, len(found.widths) - 1][0]
  chosen = found.searched_paths[0]
  return {
    'title': 'Every path from the largest teacher',
    'note': 'By accuracy on the validation images, which choose; the marked '
    'row is what the search found without trying them all.',
    'columns': [
      'Path (widths)',
      {'heading': 'Validation', **_PERCENT},
      {'heading': 'Test', **_PERCENT},
      {'heading': 'Over direct', **_POINTS},
    ],
    'rows': [
      [
        along(found, path),
        _runs(found.paths[path][1]),
        _runs(found.paths[path][0]),
        points(found.paths[path][0], direct),
      ]
      for path in order
    ],
    'marked': [order.index(chosen)] if chosen in order else [],
  }


def _schemes(settings, found: Figures) -> dict[str, Any]:
  direct = found.direct[0]
  size = found.params[-1]
  rows = [
    ['alone', 'labels', _runs(found.alone), None, None, size],
    [
      'plain distillation',
      f'width {found.widths[0]}',
      _runs(direct),
      points(direct, found.alone),
      None,
      size,
    ],
  ]
  for name, values in found.others.items():
    teacher = f'width {found.widths[0]}'
    if name.startswith('born-again'):
      number = int(name.split()[-1])
      teacher = 'itself, alone' if number == 1 else f'born-again {number - 1}'
    elif name in ('CWTM', 'DKPP'):
      teacher = 'itself, alone'
    elif name.startswith('by'):
      teacher = 'the students by each teacher'
    elif name == 'MUNGE':
      teacher += f', {settings.munge_passes} invented images a real one'
    rows.append(
      [
        name,
        teacher,
        _runs(values),
        points(values, found.alone),
        points(values, direct),
        size,
      ]
    )
  for name, (values, members) in found.ensembles.items():
    rows.append(
      [
        name,
        f'{members} networks, mean probability',
        _runs(values),
        points(values, found.alone),
        points(values, direct),
        members * size,
      ]
    )
  return {
    'title': 'The same student by other schemes',
    'note': 'Soft targets alone leave the labels out, and are the control of '
    'MUNGE, whose invented images have none. CWTM and DKPP are the controls of '
    'the first born-again generation. Marked: the student on labels, and plain '
    'distillation.',
    'columns': [
      'Student',
      'Taught by',
      {'heading': 'Accuracy', **_PERCENT},
      {'heading': 'Over alone', **_POINTS},
      {'heading': 'Over plain distillation', **_POINTS},
      'Parameters',
    ],
    'rows': rows,
    'marked': [0, 1],
  }


def _trees(found: Figures) -> dict[str, Any]:
  return {
    'title': 'Students that explain themselves',
    'note': f'Trees taught by the teacher of width {found.widths[0]}. The '
    'first of each kind learns from labels and is the control. A soft tree '
    'answers from its most probable leaf, which its path explains; the mixture '
    'of all leaves explains nothing.',
    'columns': [
      'Tree',
      'Learns from',
      {'heading': 'Accuracy', **_PERCENT},
      {'heading': 'Over labels', **_POINTS},
      {'heading': 'Answers like the teacher', **_PERCENT},
      {'heading': 'Leaves', 'digits': 1},
      {'heading': 'Size', 'unit': 'kB', 'digits': 1},
    ],
    'rows': [
      [
        tree['kind'],
        tree['source'],
        _runs(tree['accuracy']),
        None
        if tree['source'] == 'labels'
        else points(tree['accuracy'], _on_labels(found, tree['kind'])),
        _runs(tree['agreement']),
        tree['leaves'],
        tree['bytes'] / 1000,
      ]
      for tree in sorted(found.trees, key=lambda tree: tree['kind'])
    ],
  }


def _on_labels(found: Figures, kind: str) -> Runs:
  return next(
    tree['accuracy']
    for tree in found.trees
    if tree['kind'] == kind and tree['source'] == 'labels'
  )


def _attacks(settings, found: Figures) -> dict[str, Any]:
  columns = ('accuracy', 'zero', 'fgsm', 'pgd', 'divided', 'margin')
  names = {'plain': 'trained on labels', 'defended': 'defensively distilled'}
  return {
    'title': 'Defensive distillation does not defend',
    'note': f'Width {found.widths[0]}, trained at temperature '
    f'{settings.defensive_temperature:g}, deployed at 1; success is the share '
    'of the images classified right that an attack turns, each pixel by at '
    f'most {settings.epsilon:g} of 1. The last two columns follow the gradient '
    'where it is not hidden: of the logits divided by the temperature, and of '
    'the margin between logits.',
    'columns': [
      'Network',
      {'heading': 'Accuracy', 'unit': '%', 'digits': 1},
      {'heading': 'Gradient exactly 0', 'unit': '% of pixels', 'digits': 1},
      {'heading': 'FGSM', 'unit': '%', 'digits': 1},
      {'heading': 'PGD', 'unit': '%', 'digits': 1},
      {'heading': 'PGD, logits / T', 'unit': '%', 'digits': 1},
      {'heading': 'PGD, margin', 'unit': '%', 'digits': 1},
    ],
    'rows': [
      [
        names[name],
        *(_runs([run[key] for run in found.attacks[name]]) for key in columns),
      ]
      for name in names
    ],
    'marked': [0],
  }
