"""Differential measures of error rates over groups at one threshold.

`fmr` and `fnmr` are rates 0..1 of G groups at the same threshold, `[..., G]`.
None of these depends on the order of the groups. FDR is ruled by FNMR, because
FMR is far smaller; the inequity rate is undefined with an error-free group.
"""

import numpy as np


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
