"""What the students of the distillation benchmark reached, against plain KD."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from compress import audit, distill
from compress.audit import Plot
from experiments.classification import distillation_networks
from experiments.classification.distillation_methods import ALONE, KD

_LEVEL = 0.95
_TIE = 1e-9  # points; means that are equal differ by less


class Results:
  """Accuracies of all runs, [pairs, seeds] a method; NaN where not applicable.

  Attributes:
    pairs: of the settings.
    methods: in order.
    teachers: accuracy of each pair's teacher, percent.
    accuracy: method -> float64 [P, S], percent.
    image: what one test image counts, points.
  """

  def __init__(self, study):
    settings = study.settings
    self.pairs = settings.pairs
    self.methods = settings.all_methods()
    self.seeds = settings.seeds
    self.image = 100 / len(study.splits.test)
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
    """Mean gain over KD and its t-interval over seeds; None for one seed.

    A seed is one observation, the mean over the pairs that have the method:
    pairs share teachers, and students that no teacher has taught. The deviation
    counts as one test image at least.
    """
    gains = self.gain(method, KD)
    gains = gains[np.isfinite(gains).all(axis=1)]
    if self.seeds < 2 or not len(gains):
      return None
    found = gains.mean(axis=0)
    error = max(found.std(ddof=1), self.image) / np.sqrt(self.seeds)
    half = stats.t.ppf((1 + _LEVEL) / 2, self.seeds - 1) * error
    mean = found.mean()
    return float(mean), float(mean - half), float(mean + half)

  def verdict(self, method: str) -> str:
    """Whether a method beats plain distillation, in a word or two."""
    if method == KD:
      return '–'
    if not np.isfinite(self.accuracy[method]).any():
      return 'not applicable'
    found = self.interval(method)
    if found is None:
      return 'one seed'
    _, low, high = found
    if low > 0:
      return 'beats KD'
    return 'behind KD' if high < 0 else 'not resolved'

  def overall(self) -> dict[str, Any]:
    """All methods over all pairs."""
    rows = []
    for method in self.methods:
      if not np.isfinite(self.accuracy[method]).any():
        rows.append([method, *[None] * 5, self.verdict(method)])
        continue
      gain, interval = self.gain(method, ALONE), self.interval(method)
      over = None
      if method != KD:
        mean = float(np.nanmean(self.gain(method, KD)))
        over = mean
        if interval is not None:
          ends = f'[{interval[1]:+.2f}, {interval[2]:+.2f}]'
          over = [mean, ends.replace('-', '−')]
      ahead = [x.mean() > _TIE for x in self.gain(method, KD) if has(x)]
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
      'all runs; in brackets 95 % intervals over seeds, for these pairs.',
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
    ahead = gaps[gaps > _TIE]
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
    if self.seeds < 2:
      return [*told, 'One seed does not tell methods apart.']
    verdicts = {x: self.verdict(x) for x in self.methods if x != KD}
    for word, start in (
      ('beats KD', 'Resolved to be better than plain distillation'),
      ('behind KD', 'Resolved to be worse'),
      ('not resolved', 'Not resolved'),
    ):
      names = [name for name, found in verdicts.items() if found == word]
      told.append(f'{start}: {"; ".join(names) if names else "none"}.')
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
    # Where KD is behind, to be better than it would count as worse.
    if not own or min(np.subtract(base, alone)) < 0:
      return None
    found = distill.average_relative_improvement(own, base, alone=alone)
    return None if found is None else 100 * found


def has(values: np.ndarray) -> bool:
  """Whether a pair has the method."""
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
