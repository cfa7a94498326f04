"""Differences of runs of the same seed, by hand."""

import numpy as np
import pytest
from scipy import stats

from experiments.classification.paired import difference, is_clear


def test_a_difference_and_its_error_by_hand():
  mean, error = difference([3.0, 5.0, 7.0], [2.0, 3.0, 4.0])
  assert mean == 2
  assert error == pytest.approx(1 / 3**0.5)
  assert difference([1.0], [3.0]) == (-2.0, None)


def test_means_that_tie_are_no_difference():
  right = (240, 241, 248), (243, 243, 243)
  own, other = ([100 * (n / 359) for n in x] for x in right)
  assert np.mean(np.subtract(own, other)) != 0
  assert difference(own, other)[0] == 0


def test_clear_is_what_students_t_says():
  rng = np.random.default_rng(0)
  verdicts = []
  for _ in range(200):
    own, other = rng.normal(0.5, 1, (2, 5))
    p = stats.ttest_rel(own, other).pvalue
    assert is_clear(own, other) == (p < 0.05)
    verdicts.append(is_clear(own + 3, other))
  assert any(verdicts)


@pytest.mark.parametrize(
  'own, other',
  [([0.9], [0.1]), ([0.9, 0.8], [0.1, 0.0]), ([90.0] * 3, [89] * 3)],
)
def test_few_seeds_and_equal_differences_are_not_clear(own, other):
  assert not is_clear(own, other)
