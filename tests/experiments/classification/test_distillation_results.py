"""Tables of the distillation benchmark, from figures that are made up."""

import types

import numpy as np
import pytest
from scipy import stats

from experiments.classification.distillation_results import Results

PAIRS = ('resnet20:resnet8_thin', 'wrn10_2:wrn10_thin')
# Over the student alone, by pair and seed.
GAINS = {
  'alone': [[0, 0, 0], [0, 0, 0]],
  'KD': [[1, 2, 3], [2, 2, 2]],
  'AT': [[3, 4, 5], [4, 5, 3]],
  'CC': [[0, 1, 1], [1, 0, 1]],
  'FSP': None,
}


def _study(gains):
  return types.SimpleNamespace(
    splits=types.SimpleNamespace(test=range(500)),
    settings=types.SimpleNamespace(
      pairs=PAIRS, seeds=3, all_methods=lambda: tuple(gains)
    ),
    teacher_figures=lambda name: {'accuracy': 84.0},
    figures=lambda pair, method, seed: {
      'accuracy': 80.0 + gains[method][PAIRS.index(pair)][seed]
    },
    reason=lambda pair, method: None if gains[method] else 'not this pair',
  )


def test_the_table_over_all_pairs():
  table = Results(_study(GAINS)).overall()
  rows = {row[0]: row[1:] for row in table['rows']}
  gain, won, over, ahead, relative, verdict = rows['KD']
  assert gain == [2.0, f'± {np.std([1, 2, 3, 2, 2, 2], ddof=1):.2f}']
  assert (won, over, ahead, relative, verdict) == (50.0, None, None, None, '–')
  _, won, over, ahead, relative, verdict = rows['AT']
  # Both pairs win back all four points; KD half of them.
  assert won == 100.0 and over[0] == 2.0 and ahead == '2 of 2'
  np.testing.assert_allclose(relative, 100.0)
  assert verdict == 'beats KD'
  assert rows['CC'][-1] == rows['alone'][-1] == 'behind KD'


def test_a_method_that_no_pair_can_have_is_said_to_be_none():
  results = Results(_study(GAINS))
  (row,) = [x for x in results.overall()['rows'] if x[0] == 'FSP']
  assert row == ['FSP', *[None] * 5, 'not applicable']
  assert results.interval('FSP') is None
  assert not any('FSP' in line for line in results.summary())


def test_one_seed_of_one_pair_settles_nothing():
  study = _study({'alone': [[0]], 'KD': [[1]], 'AT': [[2]]})
  study.settings.pairs, study.settings.seeds = PAIRS[:1], 1
  results = Results(study)
  assert results.verdict('AT') == 'one seed'
  assert results.summary()[1:] == ['One seed does not tell methods apart.']


def test_a_seed_is_one_observation():
  gains = {'alone': [[0] * 3] * 2, 'KD': [[0] * 3] * 2}
  # Over pairs: 1, 2 and 3. Spread within a seed does not count.
  gains['AT'] = [[4, -1, 3], [-2, 5, 3]]
  half = stats.t.ppf(0.975, 2) / np.sqrt(3)
  np.testing.assert_allclose(
    Results(_study(gains)).interval('AT'), [2, 2 - half, 2 + half]
  )


def test_equal_gains_are_not_sure_to_an_image():
  gains = {'alone': [[0] * 3] * 2, 'KD': [[0] * 3] * 2, 'AT': [[0.4] * 3] * 2}
  results = Results(_study(gains))
  half = 0.2 * stats.t.ppf(0.975, 2) / np.sqrt(3)
  np.testing.assert_allclose(
    results.interval('AT'), [0.4, 0.4 - half, 0.4 + half]
  )
  assert results.verdict('AT') == 'not resolved'


def test_means_that_tie_are_no_gap():
  # 240, 241 and 248 of 359 right, and 243: one mean in other last digits.
  right = {
    'alone': [240, 241, 248],
    'KD': [246, 241, 242],
    'AT': [250, 250, 250],
  }
  study = _study({k: [v] for k, v in right.items()})
  study.settings.pairs = PAIRS[:1]
  study.figures = lambda pair, method, seed: {
    'accuracy': 100 * (right[method][seed] / 359)
  }
  study.teacher_figures = lambda name: {'accuracy': 100 * (243 / 359)}
  results = Results(study)
  assert results.won_back('KD') is None
  assert results.summary()[0].startswith('No teacher is ahead')
  (row,) = [x for x in results.overall()['rows'] if x[0] == 'AT']
  won, improvement = row[2], row[5]
  assert won is None and improvement is None


@pytest.mark.parametrize('ahead', [True, False])
def test_the_summary_tells_the_gap(ahead):
  study = _study({k: v for k, v in GAINS.items() if v})
  study.teacher_figures = lambda name: {'accuracy': 84.0 if ahead else 79.0}
  first = Results(study).summary()[0]
  if ahead:
    assert 'In 2 of 2 pairs the teacher is ahead' in first
    assert 'wins back 50 % of these gaps on average' in first
  else:
    assert first.startswith('No teacher is ahead of its student alone.')
    assert 'wins back' not in first
