"""Differences between runs of the same seed."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

_LEVEL = 0.95

RULE = (
  'A difference counts as clear where its 95 % t-interval over seeds leaves '
  'out zero; of twenty that are none, one is likely to.'
)


def difference(
  own: Sequence[float], other: Sequence[float]
) -> tuple[float, float | None]:
  """Mean of the differences seed by seed, and its standard error.

  Args:
    own: a value a seed.
    other: of the same seeds.

  Returns:
    (mean, standard error); the latter None for one seed. Means of equal values
    differ in their last digits: rounded to nine.
  """
  found = np.round(np.subtract(own, other, dtype=np.float64), 9)
  mean = round(float(found.mean()), 9)
  if found.size < 2:
    return mean, None
  return mean, float(found.std(ddof=1) / found.size**0.5)


def is_clear(own: Sequence[float], other: Sequence[float]) -> bool:
  """Whether the 95 % t-interval of the mean difference leaves out zero.

  Args:
    own: a value a seed.
    other: of the same seeds.

  Returns:
    False for fewer than three seeds, and for differences that are all the
    same, which have no deviation to go by.
  """
  mean, error = difference(own, other)
  if not error or len(own) < 3:
    return False
  half = stats.t.ppf((1 + _LEVEL) / 2, len(own) - 1) * error
  return abs(mean) > half
