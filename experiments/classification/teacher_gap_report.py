"""The report of the teacher gap, from trained networks and trees."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from compress import audit, distill
from experiments.classification import teacher_gap_tables as tables
from experiments.classification import teacher_gap_words as words
from experiments.classification.images import describe_splits
from experiments.classification.teacher_gap_lab import STUDY, Lab, Model
from experiments.classification.teacher_gap_schemes import (
  Ladder,
  Others,
  ensemble_percents,
  invent,
  percents,
)
from experiments.classification.teacher_gap_trees import Grown

_SHOWN = 10


def make_report(
  lab: Lab,
  ladder: Ladder,
  others: Others,
  attacks: Mapping[str, Any],
  trees: Sequence[Grown],
  *,
  command: str,
) -> tuple[dict[str, Any], list[Any]]:
  """Words the report.

  Args:
    lab: of the study, with its images and settings.
    ladder: teachers and their students.
    others: students by other schemes.
    attacks: of `teacher_gap_schemes.attack`.
    trees: of `teacher_gap_trees.grow`.
    command: the command line.

  Returns:
    The report and its figures, for `audit.write_report`.
  """
  settings, labels = lab.settings, lab.images.test.labels
  found = tables.Figures(
    widths=settings.ladder,
    teachers=[percents(m, labels) for m in ladder.teachers],
    params=[_cost(lab, w).parameters for w in settings.ladder],
    alone=percents(ladder.alone, labels),
    direct=[percents(m, labels) for m in ladder.direct],
    chosen=int(np.argmax([m.validation.mean() for m in ladder.direct])),
    chains=[percents(m, labels) for m in ladder.chains],
    searched=[percents(m, labels) for m in ladder.searched],
    searched_paths=[one.path for one in ladder.found],
    paths={
      path: (
        percents(model, labels),
        (100 * model.validation).tolist(),
      )
      for path, model in ladder.paths.items()
    },
    gaps=[
      [
        distill.teacher_student_gap(
          student.test[seed],
          teacher.test[seed],
          labels,
          alone=ladder.alone.test[seed],
        )
        for seed in lab.seeds
      ]
      for student, teacher in zip(ladder.direct, ladder.teachers, strict=True)
    ],
    others={k: percents(m, labels) for k, m in others.students.items()},
    ensembles={
      name: (ensemble_percents(lab, members), len(members))
      for name, members in others.ensembles.items()
    },
    attacks=attacks,
    trees=[_tree_figures(lab, ladder.teachers[0], tree) for tree in trees],
  )
  entries = _entries(lab, ladder, others, found)
  report = {
    'study': STUDY,
    'title': 'The teacher gap: large teachers, small students',
    'subject': f'One student, taught by {len(ladder.teachers)} teachers and in '
    'other ways',
    'summary': words.summary(settings, found),
    'description': words.describe(settings, lab.images, lab.steps),
    'command': command,
    'environment': audit.environment(more=['scikit-learn']),
    'dataset': describe_splits(
      lab.images, validation='for the choice of paths'
    ),
    'reference': entries[0],
    'variants': entries[1:],
    'methods': {
      name: words.METHODS[name]
      for name in dict.fromkeys(entry['method'] for entry in entries)
    },
    'conventions': list(words.CONVENTIONS),
    'tables': tables.all_tables(settings, found),
    'notes': words.notes(settings, lab.images),
    'warnings': words.warnings(settings),
    'reproduce': [command],
    'settings': dataclasses.asdict(settings),
  }
  return report, _figures(lab, found, trees)


def _entries(lab, ladder, others, found) -> list[dict[str, Any]]:
  """The reference, then every network of the student's size and teachers."""
  student = lab.settings.student
  entries = [
    _entry(lab, f'teacher {m.width}', 'teacher', m, f)
    for m, f in zip(ladder.teachers, found.teachers, strict=True)
  ]
  entries.append(
    _entry(lab, f'student {student} alone', 'alone', ladder.alone, found.alone)
  )
  for title, method, models, figures in (
    ('by', 'distilled', ladder.direct, found.direct),
    ('chain from', 'chain', ladder.chains, found.chains),
    ('searched from', 'searched', ladder.searched, found.searched),
  ):
    entries += [
      _entry(lab, f'{title} {width}', method, model, figure)
      for width, model, figure in zip(
        lab.settings.ladder, models, figures, strict=False
      )
    ]
  entries += [
    _entry(lab, name, words.method(name), model, found.others[name])
    for name, model in others.students.items()
  ]
  for name, members in others.ensembles.items():
    entries.append(
      _entry(
        lab,
        name,
        'ensemble',
        members[0],
        found.ensembles[name][0],
        count=len(members),
      )
    )
  return entries


def _entry(lab, name, method, model: Model, figures, *, count=1):
  cost = _cost(lab, model.width)
  return {
    'name': name,
    'method': method,
    'accuracy': audit.over_runs(figures),
    'params': count * cost.parameters,
    'macs': count * cost.macs,
    'bytes': {'on_disk': round(count * model.nbytes)},
    'seeds': [
      {'seed': seed, 'accuracy': value}
      for seed, value in zip(lab.seeds, figures, strict=True)
    ],
  }


def _cost(lab, width):
  network = lab.network(width)
  return network.cost(jax.eval_shape(network.init, jax.random.key(0)))


def _tree_figures(lab, teacher: Model, tree: Grown) -> dict[str, Any]:
  labels = lab.images.test.labels
  gaps = [
    distill.teacher_student_gap(tree.answers[s], teacher.test[s], labels)
    for s in lab.seeds
  ]
  return {
    'kind': tree.kind,
    'source': tree.source,
    'accuracy': [100 * gap.student for gap in gaps],
    'agreement': [100 * gap.agreement for gap in gaps],
    'leaves': tree.leaves,
    'bytes': tree.nbytes,
  }


def _figures(lab, found, trees) -> list[Any]:
  images, settings = lab.images, lab.settings
  shape, classes = images.train.image_shape, images.train.classes
  params = [count / 1000 for count in found.params[:-1]]

  def line(figures):
    return [
      (size, float(np.mean(x)), float(np.std(x, ddof=1)) if x[1:] else None)
      for size, x in sorted(zip(params, figures, strict=True))
    ]

  def first(kind):
    same = [t for t in trees if t.kind == kind and t.source != 'labels']
    return same[-1].trees[0]

  invented = invent(lab).images
  passes = settings.munge_passes
  return [
    audit.lines(
      'teacher-gap',
      {
        'student by the teacher': line(found.direct),
        'through every size between': line(found.chains),
        'along the searched path': line(found.searched),
      },
      x='Parameters of the teacher (thousands)',
      y='Accuracy of the student (%)',
      caption='The same student by teachers of growing size, directly and '
      'through assistants. Bars are sample standard deviations over seeds; the '
      'dashed line is the student on labels alone.',
      levels={'student alone': float(np.mean(found.alone))},
      log_x=True,
    ),
    audit.regression_tree_picture(
      'regression-tree',
      first('regression tree'),
      image_shape=shape,
      classes=classes,
      caption='The regression tree of the first seed, grown on the largest '
      'teacher’s logits of real and invented images. Each split looks at one '
      'pixel (row, column), scaled to mean 0 and variance 1; what is at most '
      'the bound goes left.',
      most_depth=3,
    ),
    audit.image_rows(
      'invented',
      {
        'Training images': invented[:_SHOWN],
        **{
          f'Invented from them, pass {i}': invented[
            i * len(images.train) : i * len(images.train) + _SHOWN
          ]
          for i in range(1, min(passes, 2) + 1)
        },
      },
      caption='What MUNGE makes of training images, pixel by pixel, next to '
      'their nearest neighbours.',
    ),
    audit.soft_tree_picture(
      'soft-tree',
      first('soft tree'),
      image_shape=shape,
      classes=classes,
      caption='The soft decision tree of the first seed, taught by the largest '
      'teacher on real and invented images. An image goes right the more it is '
      'like the blue and unlike the orange pixels; bars are the leaves’ '
      'probabilities of the classes.',
      most_depth=4,
    ),
  ]
