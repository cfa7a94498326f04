"""Measures of how far groups differ, from their accuracies or error rates.

Of accuracies: average, STD and the skewed error ratio. Of `fmr` and `fnmr`,
rates 0..1 of G groups at the same threshold, `[..., G]`: the differential
measures. None of them depends on the order of the groups. FDR is ruled by
FNMR, because FMR is far smaller; the inequity rate is undefined with an
error-free group.
"""

from typing import NamedTuple

import numpy as np


class Spread(NamedTuple):
  """Summary of accuracies over groups, each float64 [...]."""

  average: np.ndarray  # 0..1
  std: np.ndarray  # sample standard deviation, ddof 1, 0..1
  ser: np.ndarray  # largest error / smallest error, 1..inf


def round_half_away(x, decimals: int = 2) -> np.ndarray:
  """Rounds halves away from zero, as printed tables do.

  A value within 1e-9 units of the last place of a half counts as the half, so
  that 86.535 rounds to 86.54 although its float64 lies below.
  """
  scaled = np.abs(np.asarray(x, np.float64)) * 10.0**decimals
  return np.copysign(np.floor(scaled + 0.5 + 1e-9), x) / 10.0**decimals


def spread(accuracy, *, decimals: int | None = 2) -> Spread:
  """Average, STD and skewed error ratio of group accuracies.

  Args:
    accuracy: float [..., G], 0..1.
    decimals: round the accuracies, in percent, to so many decimals first (the
      printed tables of the literature are made so: 2); None for exact.

  Returns:
    The Spread; `ser` is inf where only the best group is free of errors and 1
    where all groups are equal. NaN where a group is NaN; STD is NaN for one
    group.
  """
  percent = 100 * np.asarray(accuracy, np.float64)
  if decimals is not None:
    percent = round_half_away(percent, decimals)
  groups = percent.shape[-1]
  average = percent.mean(-1)
  squares = np.sum((percent - average[..., None]) ** 2, -1)
  std = np.sqrt(squares / (groups - 1)) if groups > 1 else np.nan * average
  worst, best = 100 - percent.min(-1), 100 - percent.max(-1)
  with np.errstate(divide='ignore', invalid='ignore'):
    ser = np.where(worst == best, 1.0, worst / best)
  return Spread(average / 100, std / 100, ser)


def rate_gap(rates) -> np.ndarray:
  """Largest difference of two groups' rates, 0 is fair.

  Args:
    rates: float [..., G].

  Returns:
    float64 [...].
  """
  rates = np.asarray(rates, np.float64)
  return rates.max(-1) - rates.min(-1)


def rate_ratio(rates) -> np.ndarray:
  """Largest rate over the smallest, 1 is fair.

  Args:
    rates: float [..., G].

  Returns:
    float64 [...], NaN where the smallest rate is 0.
  """
  rates = np.asarray(rates, np.float64)
  low = rates.min(-1)
  return np.where(low > 0, rates.max(-1), np.nan) / np.where(low > 0, low, 1)


def fairness_discrepancy_rate(fmr, fnmr, *, alpha: float = 0.5) -> np.ndarray:
  """FDR = 1 - (alpha gap(FMR) + (1 - alpha) gap(FNMR)), 1 is fair.

  de Freitas Pereira and Marcel 2022, arXiv 2011.02395.

  Args:
    fmr: float [..., G].
    fnmr: float [..., G].
    alpha: weight of FMR, 0..1.

  Returns:
    float64 [...].
  """
  return 1 - (alpha * rate_gap(fmr) + (1 - alpha) * rate_gap(fnmr))


def inequity_rate(fmr, fnmr, *, alpha: float = 0.5) -> np.ndarray:
  """IR = ratio(FMR)^alpha ratio(FNMR)^(1 - alpha) (Grother), 1 is fair.

  Args:
    fmr: float [..., G].
    fnmr: float [..., G].
    alpha: weight of FMR, 0..1.

  Returns:
    float64 [...], NaN where a smallest rate is 0.
  """
  return rate_ratio(fmr) ** alpha * rate_ratio(fnmr) ** (1 - alpha)


def gini(rates, *, corrected: bool = True) -> np.ndarray:
  """Gini coefficient of rates, 0 is fair.

  Args:
    rates: float [..., G], G at least 2 if corrected.
    corrected: scale by G / (G - 1), so that the largest value is 1.

  Returns:
    float64 [...], 0 where all rates are 0.
  """
  x = np.asarray(rates, np.float64)
  n = x.shape[-1]
  apart = np.abs(x[..., :, None] - x[..., None, :]).sum((-1, -2))
  mean = x.mean(-1)
  value = apart / (2 * n**2 * np.where(mean > 0, mean, 1))
  return value * n / (n - 1) if corrected else value


def garbe(fmr, fnmr, *, alpha: float = 0.5) -> np.ndarray:
  """GARBE = alpha gini(FMR) + (1 - alpha) gini(FNMR), 0 is fair, at most 1.

  Howard et al. 2022, arXiv 2203.05051.

  Args:
    fmr: float [..., G].
    fnmr: float [..., G].
    alpha: weight of FMR, 0..1.

  Returns:
    float64 [...].
  """
  return alpha * gini(fmr) + (1 - alpha) * gini(fnmr)


def max_to_geometric_mean(rates) -> np.ndarray:
  """Largest rate over the geometric mean of all, 1 is fair.

  Args:
    rates: float [..., G].

  Returns:
    float64 [...], NaN where a rate is 0.
  """
  x = np.asarray(rates, np.float64)
  known = x > 0
  mean = np.exp(np.log(np.where(known, x, 1)).mean(-1))
  return np.where(known.all(-1), x.max(-1), np.nan) / mean
