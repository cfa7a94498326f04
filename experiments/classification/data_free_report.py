"""The report of inputs without data, from the figures of all seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from compress import audit
from experiments.classification import data_free_words as words
from experiments.classification.data_free_kinds import KINDS
from experiments.classification.data_free_words import METHODS, TITLES
from experiments.classification.images import describe_splits

CONTROLS = ('alone', 'plain')
_SHOWN = 7


def make_report(study, found, *, command: str) -> dict[str, Any]:
  """Words the report.

  Args:
    study: `data_free_study.Study`.
    found: `data_free_study.Found`.
    command: the command line.

  Returns:
    The report, for `audit.write_report`.
  """
  kinds = study.settings.kinds
  reference = {
    'name': study.teacher.name,
    'method': 'float32',
    'compression_of': 'bytes',
    'compression': 1.0,
    **_cost(study.teacher),
    **_judged(found.teacher),
  }
  whole = reference['bytes']['on_disk']
  variants = [
    {
      'name': f'w{bits}a{bits}, {TITLES[kind]}',
      'method': f'{kind}, quantized',
      'weight_bits': bits,
      'activation_bits': bits,
      'baseline': kind == 'real',
      **_cost(study.teacher),
      **_judged(runs),
    }
    for (kind, bits), runs in found.twins.items()
  ]
  variants += [
    {
      'name': f'{study.student.name}, {TITLES[who]}',
      'method': who,
      'student': {'name': study.student.name, **_cost(study.student)},
      **_judged(runs),
      'agreement': audit.over_runs([100 * run['agreement'] for run in runs]),
    }
    for who, runs in found.students.items()
  ]
  # All students are of one size: the ratios compare the quantized teachers.
  for entry in variants:
    if 'student' not in entry:
      entry['compression'] = whole / entry['bytes']['on_disk']
  methods = {name: METHODS[name] for name in (*CONTROLS, *kinds)}
  methods |= {
    f'{kind}, quantized': {
      'summary': 'The teacher, quantized after training; ranges of its '
      f'activations from: {TITLES[kind]}.'
    }
    for kind in kinds
  }
  return {
    'study': 'data_free',
    'title': 'Distillation and quantization without data',
    'subject': f'A student and a quantized teacher, by '
    f'{len(study.settings.kinds)} kinds of inputs',
    'summary': words.summary(study, found),
    'description': words.describe(study),
    'command': command,
    'environment': audit.environment(),
    'dataset': describe_splits(study.splits, train='for teachers and controls'),
    'reference': reference,
    'variants': variants,
    'methods': methods,
    'tables': [
      student_table(found),
      twin_table(study, found),
      input_table(found),
    ],
    'conventions': list(words.CONVENTIONS),
    'notes': words.notes(study, found),
    'warnings': _warnings(study),
    'reproduce': [command],
  }


def student_table(found) -> dict[str, Any]:
  """Students by what they were taught on, beside their controls.

  Args:
    found: `data_free_study.Found`.

  Returns:
    A table of `audit.stated_tables`; the controls on all real images stand out.
  """
  alone = _accuracies(found.students['alone'])
  plain = _accuracies(found.students['plain'])
  rows = []
  for who, runs in found.students.items():
    own = _accuracies(runs)
    rows.append(
      [
        TITLES[who],
        {'alone': 'labels', 'plain': 'labels and answers'}.get(who, 'answers'),
        _photographs(who),
        _spread(own),
        None if who == 'alone' else _spread(own - alone),
        None if who == 'plain' else _spread(own - plain),
        _spread([100 * run['agreement'] for run in runs]),
      ]
    )
  gain = {'digits': 1, 'sign': True, 'unit': 'points'}
  return {
    'title': 'Students, by the inputs that they were taught on',
    'note': 'Means over seeds ± sample standard deviation; differences are of '
    'the same seed. Agreement: test images that student and teacher put into '
    'the same class, right or wrong. Real images: what they were needed for, '
    'beyond the training of the teacher.',
    'columns': [
      'Inputs',
      'Learned from',
      'Real images',
      {'heading': 'Accuracy', 'unit': 'test, %', 'digits': 1},
      {'heading': 'Against alone', **gain},
      {'heading': 'Against plain', **gain},
      {'heading': 'Agreement', 'unit': '%', 'digits': 1},
    ],
    'rows': rows,
    'marked': [0, 1],
  }


def twin_table(study, found) -> dict[str, Any]:
  """Quantized teachers by what their ranges were calibrated on.

  Args:
    study: `data_free_study.Study`.
    found: its figures.

  Returns:
    The table: a column of accuracies and one of losses a width; the teacher in
    float32 stands out.
  """
  float32 = _accuracies(found.teacher)
  widths = study.settings.bits
  rows = [['float32', None, *([_spread(float32), None] * len(widths))]]
  for kind in study.settings.kinds:
    row = [TITLES[kind], _photographs(kind)]
    for bits in widths:
      own = _accuracies(found.twins[kind, bits])
      row += [_spread(own), _spread(own - float32)]
    rows.append(row)
  columns: list[Any] = ['Calibrated on', 'Real images']
  for bits in widths:
    name = f'w{bits}a{bits}'
    columns += [
      {'heading': name, 'unit': 'test, %', 'digits': 1},
      {'heading': name, 'unit': 'points', 'digits': 1, 'sign': True},
    ]
  return {
    'title': 'The teacher quantized after training, by calibration',
    'note': 'Accuracy, and the change against float32 of the same seed; means '
    'over seeds ± sample standard deviation.',
    'columns': columns,
    'rows': rows,
    'marked': [0],
  }


def input_table(found) -> dict[str, Any]:
  """What the teachers make of the inputs.

  Args:
    found: `data_free_study.Found`.

  Returns:
    The table.
  """
  keys = {'as_asked': 1, 'confidence': 1, 'classes': 1, 'batch_norm_gap': 2}
  rows = [
    [
      TITLES[kind],
      _photographs(kind),
      *(
        _spread([run[key] for run in runs], digits) if key in runs[0] else None
        for key, digits in keys.items()
      ),
    ]
    for kind, runs in found.inputs.items()
  ]
  return {
    'title': 'What the teacher makes of the inputs',
    'note': 'As asked: taken for the class that an input was made for (a real '
    'image: its label). Classes: the exponential of the entropy of the '
    'answers, the number of classes where all are as frequent. BatchNorm gap: '
    'of the means of channels to those stored, root mean square, in stored '
    'deviations.',
    'columns': [
      'Inputs',
      'Real images',
      {'heading': 'As asked', 'unit': '%', 'digits': 1},
      {'heading': 'Confidence', 'unit': 'mean, %', 'digits': 1},
      {'heading': 'Classes', 'unit': 'effective', 'digits': 1},
      {'heading': 'BatchNorm gap', 'unit': 'deviations', 'digits': 2},
    ],
    'rows': rows,
  }


def figures(study, found, pictures: Mapping[str, np.ndarray]):
  """The inputs as pictures, and what calibration without data costs.

  Args:
    study: `data_free_study.Study`.
    found: its figures.
    pictures: kind -> uint8 [N, H, W, C], of the first seed.

  Returns:
    Figures for `audit.write_report`.
  """
  kinds, widths = study.settings.kinds, study.settings.bits
  drawn = [
    audit.image_rows(
      'inputs',
      {TITLES[kind]: images for kind, images in pictures.items()},
      most=_SHOWN,
      caption=_caption(kinds),
    )
  ]
  float32 = _accuracies(found.teacher)
  gaps = np.array(
    [
      [_accuracies(found.twins[kind, bits]) - float32 for bits in widths]
      for kind in kinds
    ]
  )
  many = gaps.shape[-1] > 1
  drawn.append(
    audit.heat_map(
      'calibration',
      gaps.mean(-1).round(9),
      rows=[TITLES[kind] for kind in kinds],
      columns=[f'w{bits}a{bits}' for bits in widths],
      deviations=gaps.std(-1, ddof=1) if many else None,
      unit='points against float32',
      caption='Accuracy of the quantized teacher less that of the same teacher '
      'in float32, by the inputs that it was calibrated on; mean over seeds '
      'and sample standard deviation.',
    )
  )
  return drawn


def _caption(kinds) -> str:
  text = 'The first inputs of every kind, of the first seed.'
  wide = [TITLES[kind] for kind in kinds if not KINDS[kind].in_range]
  if wide:
    text += (
      f' Images of {" and ".join(wide)} exceed the range of pixels and are '
      'stretched to it.'
    )
  return text


def _photographs(who: str) -> str:
  """What a kind, or a control, needs real images for."""
  return 'all' if who in CONTROLS else KINDS[who].photographs or 'none'


def _accuracies(runs: Sequence[Mapping[str, Any]]) -> np.ndarray:
  """Percent, a seed each."""
  return np.array([100 * run['test']['top1'] for run in runs])


def _spread(values: Sequence[float], digits: int = 1):
  """A cell: mean, and its deviation below it."""
  found = audit.over_runs(values)
  mean = round(found['mean'], 9)
  return (
    mean if found['std'] is None else [mean, f'± {found["std"]:.{digits}f}']
  )


def _judged(runs) -> dict[str, Any]:
  """Accuracy over seeds; bytes, a mean; top-5 says little of ten classes."""
  return {
    'accuracy': audit.over_runs(_accuracies(runs).round(9)),
    'bytes': {'on_disk': round(float(np.mean([x['on_disk'] for x in runs])))},
    'seeds': [
      {'seed': i, 'accuracy': value}
      for i, value in enumerate(_accuracies(runs).tolist())
    ],
  }


def _cost(network) -> dict[str, int]:
  """Parameters; not the MACs, which quantization leaves as they are."""
  found = network.cost(jax.eval_shape(network.init, jax.random.key(0)))
  return {'params': found.parameters}


def _warnings(study) -> list[str]:
  settings, found = study.settings, []
  if settings.smoke:
    found.append('A smoke run: one seed, one step. The figures say nothing.')
  elif settings.seeds < 3:
    found.append(f'{settings.seeds} seed(s): too few to tell kinds apart.')
  controls = [kind for kind in KINDS if KINDS[kind].control]
  absent = [TITLES[k] for k in controls if k not in settings.kinds]
  if absent:
    found.append(f'Controls that were not run: {", ".join(absent)}.')
  return found
