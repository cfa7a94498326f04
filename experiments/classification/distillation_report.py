"""The report of the distillation benchmark: tables, heat map, what beats KD."""

import dataclasses
from typing import Any

from compress import audit
from compress.audit import Plot
from experiments.classification import distillation_networks
from experiments.classification.distillation_methods import METHODS
from experiments.classification.distillation_networks import KNOWN
from experiments.classification.distillation_results import Results, has
from experiments.classification.images import describe_splits


def make_report(study, *, command: str) -> tuple[dict[str, Any], list[Plot]]:
  """The report of a finished study, for `audit.write_report`.

  Args:
    study: `distillation_study.Study`, after `run`.
    command: the command line.

  Returns:
    The dictionary, and the heat map.
  """
  settings = study.settings
  table = Results(study)
  entries = _entries(study, table)
  report = {
    'study': 'distillation_benchmark',
    'title': 'What knowledge a student gains by',
    'subject': f'Students of {_count(settings.pairs, "pair")} of networks, '
    f'taught in {_count(table.methods, "way")}',
    'summary': table.summary(),
    'description': _describe(study),
    'command': command,
    'environment': audit.environment(),
    'dataset': describe_splits(study.splits),
    'reference': entries[0],
    'variants': entries[1:],
    'methods': {
      name: {'summary': METHODS[name].summary, 'paper': METHODS[name].paper}
      for name in table.methods
    },
    'tables': [
      table.overall(),
      *(table.of_pair(study, pair) for pair in settings.pairs),
    ],
    'conventions': _CONVENTIONS,
    'notes': _notes(study, table),
    'reproduce': [command],
    'settings': dataclasses.asdict(settings),
  }
  report['warnings'] = _warnings(settings)
  return report, table.figures()


_CONVENTIONS = [
  'Gain is accuracy less that of the same student alone, or by KD, of the same '
  'seed, in points. Won back is the gain over the student alone as a share of '
  'what the teacher is ahead of it. Agreement is the share of test images that '
  'get the teacher’s class; divergence is KL(teacher || student) at '
  'temperature 1.',
  'Average relative improvement is the mean over pairs of (method − KD) / '
  '(KD − alone), of means over seeds: how much of KD’s own gain a method adds '
  'to it. There is none where KD loses in a pair.',
  'Resolved means that a 95 % t-interval over seeds does not hold zero. It is '
  'of the mean over the pairs, which share teachers and students: it holds for '
  'these pairs, and not for others. Of two dozen comparisons one is likely to '
  'be resolved by chance.',
]


def _count(things, noun) -> str:
  return f'{len(things)} {noun}{"" if len(things) == 1 else "s"}'


_REMARKS = {
  ('CRD', 'CRD + KD'): 'CRD draws a third of the training images as negatives, '
  'as the paper does, but at most 256.',
  ('AB',): 'AB looks at values before the activation, in wide ResNets at the '
  'sums of blocks.',
  ('AT', 'FT'): 'AT and FT compare unit vectors and average over places: on '
  'maps smaller than those of CIFAR’s 32 x 32 pixels the same weights weigh '
  'more.',
}


def _entries(study, table: Results) -> list[dict[str, Any]]:
  """A teacher each and every pair's students; the first teacher leads."""
  teachers = {}
  for pair in table.pairs:
    name, _ = distillation_networks.parse_pair(pair)
    teachers.setdefault(name, study.teacher_figures(name))
  found = [
    {'name': KNOWN[name].title, 'method': 'teacher', **figures}
    for name, figures in teachers.items()
  ]
  for p, pair in enumerate(table.pairs):
    teacher, student = distillation_networks.parse_pair(pair)
    params, macs = study.student_cost(student)
    for method in table.methods:
      values = table.accuracy[method][p]
      if not has(values):
        continue
      found.append(
        {
          'name': f'{pair.replace(":", " to ")}, {method}',
          'method': method,
          'pair': pair,
          'accuracy': audit.over_runs(values),
          'params': params,
          'macs': macs,
          'reference': {'name': KNOWN[teacher].title, **teachers[teacher]},
          'seeds': [
            {'seed': seed, **study.figures(pair, method, seed)}
            for seed in range(table.seeds)
          ],
        }
      )
  return found


def _describe(study) -> list[str]:
  settings = study.settings
  tuning = settings.tuning
  pooled = ''
  if settings.pool > 1:
    pooled = (
      f' Images are averaged over squares of {settings.pool} x {settings.pool} '
      'pixels.'
    )
  return [
    f'Every teacher was trained once, for {settings.teacher_epochs} epochs. '
    f'Every student was trained for {tuning.epochs} epochs from '
    f'{settings.seeds} seeds: the same first weights, order of images and '
    'number of updates for every method. Of two stages that teach the student '
    f'the first has {settings.first_epochs} of these epochs; what FT and the '
    f'professor learn of the teacher first takes {settings.first_epochs} more.'
    f'{pooled}',
    'Weights, features and reductions are those of the RepDistiller benchmark '
    '(Tian, Krishnan and Isola 2020, arXiv:1910.10699) for CIFAR-100. Methods '
    'that it does not have, marked so in their list, have the shares of plain '
    'distillation or the values of their papers. All are the same for every '
    'pair: no method was tuned, for this data or at all.',
  ]


def _notes(study, table: Results) -> list[str]:
  settings, found = study.settings, []
  test = len(study.splits.test)
  found.append(
    f'A test image is {100 / test:.2f} points. Accuracies are those at the end '
    'of training, not the best on the way.'
  )
  reasons = {
    reason
    for pair in table.pairs
    for method in table.methods
    if (reason := study.reason(pair, method)) is not None
  }
  found += sorted(reasons)
  found += [
    text for names, text in _REMARKS.items() if set(names) & set(table.methods)
  ]
  found += _own_teachers(study, table)
  found.append(
    'Losses that are not here: sequences, and EKD, which is for verification.'
  )
  if settings.smoke:
    found.append('A smoke run: too little of everything for its figures.')
  return found


def _warnings(settings) -> list[str]:
  found = []
  if settings.smoke:
    found.append(
      'A smoke run: two epochs on 64 images. The figures say nothing.'
    )
  elif settings.seeds < 3:
    found.append(f'{settings.seeds} seed(s): too few to tell methods apart.')
  return found


def _own_teachers(study, table: Results) -> list[str]:
  """The teachers of methods that ordinary ones cannot serve."""
  found = []
  names = dict.fromkeys(
    distillation_networks.parse_pair(pair)[0] for pair in table.pairs
  )
  for method in table.methods:
    subclasses = METHODS[method].subclasses
    if subclasses == 1:
      continue
    reached = ', '.join(
      f'{KNOWN[name].title} '
      f'{study.teacher_figures(name, subclasses)["accuracy"]:.2f} %'
      for name in names
    )
    found.append(
      f'{method.capitalize()} have teachers of their own, trained for as long '
      f'with {subclasses} logits a class: {reached}. Won back, agreement and '
      'divergence are still by the ordinary teacher; students have the larger '
      'last layer, too.'
    )
  return found
