"""Intervals and tests for error counts of independent trials.

They hold for independent pairs only; where pairs share people use the subject
bootstrap of `compress.audit.bootstrap`.
"""

import numpy as np
from scipy import special

from compress.errors import InputError


def wilson_interval(errors, trials, *, level: float = 0.95) -> np.ndarray:
  """Score interval of a proportion (Wilson 1927).

  Args:
    errors: int [...], 0..trials.
    trials: int [...], at least 1.
    level: coverage.

  Returns:
    float64 [..., 2], the ends in 0..1.

  Raises:
    InputError: counts out of range.
  """
  k, n = _counts(errors, trials)
  z = _quantile(level)
  p = k / n
  centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
  half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
  return np.stack(
    [np.maximum(centre - half, 0), np.minimum(centre + half, 1)], -1
  )


def zero_error_bound(trials: int, *, level: float = 0.95) -> float:
  """Upper bound of an error rate after no error in n trials.

  It is 1 - (1 - level)^(1 / n).

  Args:
    trials: n, at least 1.
    level: one-sided coverage.

  Returns:
    The bound in 0..1; about 3 / n at 95 % (the rule of three).

  Raises:
    InputError: no trials.
  """
  _, n = _counts(0, trials)
  return float(1 - (1 - level) ** (1 / n))


def ser_interval(
  most_errors: int, least_errors: int, trials: int, *, level: float = 0.95
) -> np.ndarray:
  """Interval of a ratio of two error rates, by the delta method on its log.

  Args:
    most_errors: errors of the worst group.
    least_errors: errors of the best group; 0 gives NaN.
    trials: pairs per group.
    level: coverage.

  Returns:
    float64 [2].

  Raises:
    InputError: counts out of range.
  """
  (worst, best), n = _counts([most_errors, least_errors], trials)
  if not best:
    return np.full(2, np.nan)
  error = np.sqrt(1 / worst - 1 / n + 1 / best - 1 / n)
  return worst / best * np.exp(_quantile(level) * error * np.array([-1.0, 1.0]))


def homogeneity(errors, trials) -> tuple[float, float]:
  """Chi-square test that all groups share one error rate (Pearson 1900).

  Args:
    errors: int [G].
    trials: int, or int [G].

  Returns:
    (statistic, p), df = G - 1; (NaN, NaN) when nothing or everything failed.

  Raises:
    InputError: counts out of range.
  """
  k, n = _counts(errors, trials)
  n = np.broadcast_to(n, k.shape)
  rate = k.sum() / n.sum()
  if rate in (0, 1):
    return float('nan'), float('nan')
  statistic = float(np.sum((k - n * rate) ** 2 / (n * rate * (1 - rate))))
  return statistic, float(special.chdtrc(k.size - 1, statistic))


def mcnemar(only_first: int, only_second: int) -> float:
  """Exact two-sided p of McNemar's test (1947) on discordant pairs.

  Args:
    only_first: pairs that only the first model gets right.
    only_second: pairs that only the second one gets right.

  Returns:
    The binomial p in 0..1; 1 without discordant pairs.
  """
  n = only_first + only_second
  if not n:
    return 1.0
  return min(1.0, 2 * float(special.bdtr(min(only_first, only_second), n, 0.5)))


def _counts(errors, trials):
  k, n = np.asarray(errors, np.float64), np.asarray(trials, np.float64)
  if (n < 1).any() or (k < 0).any() or (k > n).any():
    raise InputError(
      f'errors must lie in 0..trials and trials be 1 or more, got {errors} '
      f'in {trials}'
    )
  return k, n


def _quantile(level: float) -> float:
  if not 0 < level < 1:
    raise InputError(f'level must lie between 0 and 1, got {level}')
  return float(special.ndtri((1 + level) / 2))
