"""The report of the distillation benchmark: tables, heat map, what beats KD."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from compress import audit, distill
from compress.audit import Plot
from experiments.classification import distillation_networks
from experiments.classification.distillation_methods import ALONE, KD, METHODS
from experiments.classification.distillation_networks import KNOWN

_LEVEL = 0.95


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
    'summary': table.summary(),
    'description': _describe(study),
    'command': command,
    'environment': audit.environment(),
    'dataset': _dataset(study),
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
  'to it. It means little where KD gains nothing.',
  'Resolved means that a 95 % t-interval of the paired differences, over pairs '
  'and seeds, does not hold zero. Students of one teacher are not independent, '
  'and 23 comparisons make one false alarm likely.',
]


class Results:
  """Accuracies of all runs, [pairs, seeds] a method; NaN where not applicable.

  Attributes:
    pairs: of the settings.
    methods: in order.
    teachers: accuracy of each pair's teacher, percent.
    accuracy: method -> float64 [P, S], percent.
  """

  def __init__(self, study):
    settings = study.settings
    self.pairs = settings.pairs
    self.methods = settings.all_methods()
    self.seeds = settings.seeds
    self.teachers = np.array(
      [
        study.teacher_figures(distillation_networks.parse_pair(x)[0])[
          'accuracy'
        ]
        for x in self.pairs
      ]
    )
    self.accuracy = {
      method: np.array(
        [
          [
            study.figures(pair, method, seed)['accuracy']
            if study.reason(pair, method) is None
            else np.nan
            for seed in range(self.seeds)
          ]
          for pair in self.pairs
        ]
      )
      for method in self.methods
    }

  def gain(self, method: str, base: str) -> np.ndarray:
    """Points gained over another method, by pair and seed, [P, S]."""
    return self.accuracy[method] - self.accuracy[base]

  def won_back(self, method: str) -> float | None:
    """Mean share of the gap won back, over the pairs that have a gap."""
    shares = []
    for p in range(len(self.pairs)):
      own, alone = (self.accuracy[x][p].mean() for x in (method, ALONE))
      if np.isfinite(own):
        shares.append(
          distill.share_won_back(self.teachers[p], own, alone=alone)
        )
    shares = [x for x in shares if x is not None]
    return float(np.mean(shares)) if shares else None

  def interval(self, method: str) -> tuple[float, float, float] | None:
    """Mean of the gains over KD and its t-interval; None for a single run."""
    found = self.gain(method, KD).ravel()
    found = found[np.isfinite(found)]
    if len(found) < 2:
      return None
    mean, error = found.mean(), stats.sem(found)
    half = stats.t.ppf((1 + _LEVEL) / 2, len(found) - 1) * error
    return float(mean), float(mean - half), float(mean + half)

  def verdict(self, method: str) -> str:
    """Whether a method beats plain distillation, in a word or two."""
    if method == KD:
      return '–'
    found = self.interval(method)
    if found is None:
      return 'one run'
    _, low, high = found
    if low > 0:
      return 'beats KD'
    return 'behind KD' if high < 0 else 'not resolved'

  def overall(self) -> dict[str, Any]:
    """All methods over all pairs."""
    rows = []
    for method in self.methods:
      gain, interval = self.gain(method, ALONE), self.interval(method)
      over = None
      if method != KD:
        mean = float(np.nanmean(self.gain(method, KD)))
        over = mean
        if interval is not None:
          over = [mean, f'[{interval[1]:+.2f}, {interval[2]:+.2f}]']
      ahead = [np.nanmean(x) > 0 for x in self.gain(method, KD) if _has(x)]
      won = self.won_back(method)
      rows.append(
        [
          method,
          None if method == ALONE else _cell(gain[np.isfinite(gain)]),
          None if method == ALONE or won is None else 100 * won,
          over,
          None if method == KD else f'{sum(ahead)} of {len(ahead)}',
          self._improvement(method),
          self.verdict(method),
        ]
      )
    return {
      'title': 'All pairs',
      'note': 'Means over pairs and seeds, ± sample standard deviation over '
      'all runs; in brackets 95 % intervals of the paired difference.',
      'columns': [
        'Method',
        {'heading': 'Gain', 'unit': 'over alone, points', 'sign': True},
        {'heading': 'Won back', 'unit': '% of the gap', 'digits': 0},
        {'heading': 'Gain', 'unit': 'over KD, points', 'sign': True},
        {'heading': 'Ahead of KD', 'unit': 'pairs'},
        {'heading': 'Relative', 'unit': 'improvement, %', 'digits': 0},
        'Verdict',
      ],
      'rows': rows,
      'marked': [self.methods.index(KD)],
    }

  def of_pair(self, study, pair: str) -> dict[str, Any]:
    """The students of one pair."""
    p = self.pairs.index(pair)
    teacher, student = distillation_networks.parse_pair(pair)
    rows = [['teacher', float(self.teachers[p]), *[None] * 5]]
    for method in self.methods:
      if study.reason(pair, method) is not None:
        rows.append([method, *[None] * 6])
        continue
      runs = [study.figures(pair, method, seed) for seed in range(self.seeds)]
      own, alone = (self.accuracy[x][p] for x in (method, ALONE))
      won = distill.share_won_back(
        self.teachers[p], own.mean(), alone=alone.mean()
      )
      rows.append(
        [
          method,
          _cell(own),
          None if method == ALONE else _cell(self.gain(method, ALONE)[p]),
          None if method == KD else _cell(self.gain(method, KD)[p]),
          None if method == ALONE or won is None else 100 * won,
          float(np.mean([run['agreement'] for run in runs])),
          float(np.mean([run['divergence'] for run in runs])),
        ]
      )
    params = [
      study.teacher_figures(teacher)['params'],
      study.student_cost(student)[0],
    ]
    return {
      'title': distillation_networks.title(pair),
      'note': f'{params[0]:,} parameters to {params[1]:,}, '
      f'{params[0] / params[1]:.1f} times fewer. Means over seeds ± sample '
      'standard deviation. A dash throughout: the pair cannot have the method.',
      'columns': [
        'Method',
        {'heading': 'Accuracy', 'unit': 'test, %'},
        {'heading': 'Gain', 'unit': 'over alone, points', 'sign': True},
        {'heading': 'Gain', 'unit': 'over KD, points', 'sign': True},
        {'heading': 'Won back', 'unit': '% of the gap', 'digits': 0},
        {'heading': 'Agreement', 'unit': 'with the teacher, %', 'digits': 1},
        {'heading': 'Divergence', 'unit': 'nats', 'digits': 3},
      ],
      'rows': rows,
      'marked': [0],
    }

  def figures(self) -> list[Plot]:
    """The heat map: gain over KD by method and pair."""
    methods = [x for x in self.methods if x != KD]
    gains = [self.gain(x, KD) for x in methods]
    deviations = None
    if self.seeds > 1:
      deviations = np.array([x.std(axis=1, ddof=1) for x in gains])
    caption = (
      'Points gained over plain distillation (KD): blue is better than KD, '
      'orange worse, blank where a pair cannot have the method.'
    )
    if self.seeds > 1:
      caption += ' ± is the sample standard deviation over seeds.'
    return [
      audit.heat_map(
        'gain-over-kd',
        np.array([x.mean(axis=1) for x in gains]),
        rows=methods,
        columns=[pair.replace(':', ' to ') for pair in self.pairs],
        deviations=deviations,
        unit='points over KD',
        caption=caption,
      )
    ]

  def summary(self) -> list[str]:
    """What came out, in sentences."""
    alone = self.accuracy[ALONE].mean(axis=1)
    gaps = self.teachers - alone
    won = self.won_back(KD)
    ahead = gaps[gaps > 0]
    first = 'No teacher is ahead of its student alone.'
    if len(ahead):
      first = (
        f'In {len(ahead)} of {len(gaps)} pairs the teacher is ahead of its '
        f'student alone, by {ahead.min():.1f} to {ahead.max():.1f} points.'
      )
    gained = _told(self.gain(KD, ALONE).ravel())
    first += f' Plain distillation gains {gained} points over all pairs'
    if won is not None:
      first += f', and wins back {100 * won:.0f} % of these gaps on average'
    told = [f'{first}.']
    verdicts = {x: self.verdict(x) for x in self.methods if x != KD}
    for word, start in (
      ('beats KD', 'Resolved to be better than plain distillation'),
      ('behind KD', 'Resolved to be worse'),
      ('not resolved', 'Not resolved'),
    ):
      names = [name for name, found in verdicts.items() if found == word]
      told.append(f'{start}: {", ".join(names) if names else "none"}.')
    return told

  def _improvement(self, method) -> float | None:
    """Average relative improvement over KD, percent."""
    if method in (ALONE, KD):
      return None
    having = np.isfinite(self.accuracy[method]).all(axis=1)
    own, base, alone = (
      self.accuracy[x][having].mean(axis=1).tolist()
      for x in (method, KD, ALONE)
    )
    if not own:
      return None
    found = distill.average_relative_improvement(own, base, alone=alone)
    return None if found is None else 100 * found


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
      if not _has(values):
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
    'number of updates for every method. Methods of two stages have '
    f'{settings.first_share:.1%} more epochs, before the others. {pooled}',
    'Weights, features and reductions are those of the RepDistiller benchmark '
    '(Tian, Krishnan and Isola 2020, arXiv:1910.10699) for CIFAR-100, for '
    'every pair the same: no method was tuned, for this data or at all.',
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
  found.append(
    'CRD draws a third of the training images as negatives, as the paper does, '
    'but at most 256. AB looks at values before the activation, in wide '
    'ResNets at the sums of blocks.'
  )
  found.append(
    'AT and FT compare unit vectors and average over places: on maps smaller '
    'than those of CIFAR’s 32 x 32 pixels the same weights weigh more.'
  )
  found.append(
    'Losses that are not here: subclass distillation, whose teacher has to be '
    'trained for it; sequences; and EKD, which is for verification.'
  )
  if settings.smoke:
    found.append('A smoke run: too little of everything for its figures.')
  return found


def _warnings(settings) -> list[str]:
  found = []
  if settings.smoke:
    found.append(
      'A smoke run: one epoch on 64 images. The figures say nothing.'
    )
  elif settings.seeds < 3:
    found.append(f'{settings.seeds} seed(s): too few to tell methods apart.')
  return found


def _dataset(study) -> dict[str, Any]:
  train, validation, test = study.splits
  rows, columns, colours = train.image_shape
  return {
    'name': study.settings.dataset,
    'images': f'{rows} x {columns} x {colours}',
    'classes': len(train.classes),
    'split': {
      'train': f'{len(train)} images',
      'validation': f'{len(validation)} images, not used',
      'test': f'{len(test)} images, for the report',
    },
  }


def _has(values: np.ndarray) -> bool:
  return bool(np.isfinite(values).all())


def _cell(values: Sequence[float]):
  """A cell: mean, and its deviation below it."""
  mean = float(np.mean(values))
  if len(values) < 2:
    return mean
  return [mean, f'± {np.std(values, ddof=1):.2f}']


def _told(values: np.ndarray) -> str:
  spread = f' ± {np.std(values, ddof=1):.2f}' if len(values) > 1 else ''
  return f'{np.mean(values):.2f}{spread}'.replace('-', '−')
