"""Tables of the distillation benchmark, from figures that are made up."""

import types

import numpy as np
import pytest

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
  assert Results(study).verdict('AT') == 'one run'


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
