"""The trade-off curve of accepted pairs, for many rows of pair weights at once.

A pair is accepted when `score >= t`. As t falls from above all scores to below
them, (FMR, FNMR) moves from (0, 1) to (1, 0); joining neighbouring thresholds
linearly gives a polyline. Weights change the lengths of its steps but not
their directions, so its corners are found once, by sorting the scores, and
serve every row of weights: [B, P] weights cost one gather and one running sum.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from compress.errors import InputError

Weigh = Callable[[np.ndarray], np.ndarray]
"""Maps indices of pairs [n] to their weights, float64 [B, n]."""


class Ranking(NamedTuple):
  """Pairs sorted by falling score, and the corners of their ROC.

  The ROC is a polyline. Only its corners are kept: between two of them it is
  straight for any weights, so every metric below is exact on them.
  """

  genuine: np.ndarray  # int [G], pair indices by falling score
  impostor: np.ndarray  # int [I], pair indices by falling score
  true_accepts: np.ndarray  # int [V], genuine pairs accepted at each corner
  false_accepts: np.ndarray  # int [V], impostor pairs accepted at each corner


def rank_pairs(scores, genuine) -> Ranking:
  """Sorts the pairs and finds the corners of their ROC.

  Args:
    scores: real [P], finite.
    genuine: bool [P].

  Returns:
    The Ranking; its corners start at (0, 0) and end at (G, I).

  Raises:
    InputError: shapes differ, a score is not finite, or a class is empty.
  """
  scores, genuine = check_pairs(scores, genuine)
  by_score = np.argsort(-scores, kind='stable')
  is_genuine = genuine[by_score]
  _, first = np.unique(-scores[by_score], return_index=True)
  ends = np.append(first, len(scores))
  taken = np.append(0, np.cumsum(is_genuine))[ends]
  fooled = ends - taken
  corner = _corners(taken, fooled)
  return Ranking(
    by_score[is_genuine],
    by_score[~is_genuine],
    taken[corner],
    fooled[corner],
  )


def _corners(taken, fooled) -> np.ndarray:
  """Leaves out what lies inside a horizontal or vertical run."""
  up, right = np.diff(taken) > 0, np.diff(fooled) > 0
  inside = (up[1:] == up[:-1]) & (right[1:] == right[:-1]) & (up != right)[1:]
  return np.concatenate([[True], ~inside, [True]])


def check_pairs(scores, genuine) -> tuple[np.ndarray, np.ndarray]:
  """Returns float64 scores [P] and bool labels [P], or raises InputError."""
  scores = np.asarray(scores, np.float64)
  genuine = np.asarray(genuine, bool)
  if scores.ndim != 1 or scores.shape != genuine.shape:
    raise InputError(
      'scores and genuine must both be [P], got shapes '
      f'{scores.shape} and {genuine.shape}'
    )
  if not np.isfinite(scores).all():
    index = int(np.argmin(np.isfinite(scores)))
    raise InputError(f'score of pair {index} is not finite: {scores[index]}')
  if not genuine.any() or genuine.all():
    missing = 'impostor' if genuine.any() else 'genuine'
    raise InputError(
      f'there are no {missing} pairs among {len(scores)}; verification '
      'needs both classes'
    )
  return scores, genuine


def as_rows(weights, n: int) -> tuple[int, np.ndarray]:
  """Checks weights of n pairs.

  Args:
    weights: None, [n] or [B, n], finite and non-negative.
    n: number of pairs.

  Returns:
    (B, weights [B, n]); B is 0 where one plain result is wanted.

  Raises:
    InputError: wrong shape, negative or non-finite weights.
  """
  if weights is None:
    return 0, np.ones((1, n))
  weights = np.asarray(weights, np.float64)
  if weights.ndim not in (1, 2) or weights.shape[-1] != n:
    raise InputError(
      f'weights must be [{n}] or [B, {n}], got shape {weights.shape}'
    )
  if not np.isfinite(weights).all() or (weights < 0).any():
    raise InputError('weights must be finite and at least 0')
  return (0, weights[None]) if weights.ndim == 1 else (len(weights), weights)


def cumulate(weights) -> np.ndarray:
  """Running sums [B, n + 1] of weights [B, n], starting with 0."""
  sums = np.zeros((weights.shape[0], weights.shape[1] + 1))
  np.cumsum(weights, axis=1, out=sums[:, 1:])
  return sums


def curve(ranking, weigh: Weigh) -> tuple[np.ndarray, np.ndarray]:
  """Evaluates the corners of the ROC for rows of pair weights.

  Args:
    ranking: from `rank_pairs`.
    weigh: maps pair indices [n] to weights [B, n].

  Returns:
    FMR and FNMR at the corners, float64 [B, V] each.
  """
  accepted = cumulate(weigh(ranking.impostor))
  matched = cumulate(weigh(ranking.genuine))
  with np.errstate(invalid='ignore'):
    fmr = accepted[:, ranking.false_accepts] / accepted[:, -1:]
    missed = matched[:, -1:] - matched[:, ranking.true_accepts]
    fnmr = missed / matched[:, -1:]
  return fmr, fnmr


def curve_eer(fmr, fnmr) -> np.ndarray:
  """Crosses the polyline (FMR, FNMR) with its diagonal.

  Args:
    fmr: float64 [B, V], rising from 0 to 1.
    fnmr: float64 [B, V], falling from 1 to 0.

  Returns:
    float64 [B]; NaN where a row is NaN.
  """
  gap = fmr - fnmr
  after = np.maximum(np.argmax(gap >= 0, axis=1), 1)
  rows = np.arange(len(gap))
  low, high = gap[rows, after - 1], gap[rows, after]
  part = -low / (high - low)
  start = fmr[rows, after - 1]
  return start + part * (fmr[rows, after] - start)


def curve_tar(fmr, fnmr, far: float, mode: str) -> np.ndarray:
  """Reads TAR at a FAR off the polyline; see `tar_at_far`.

  Args:
    fmr: float64 [B, V], rising from 0 to 1.
    fnmr: float64 [B, V], falling from 1 to 0.
    far: the target, 0..1.
    mode: 'le', 'nearest' or 'interp'.

  Returns:
    float64 [B]; NaN where a row is NaN.
  """
  rows, last = np.arange(len(fmr)), fmr.shape[1] - 1
  if mode == 'nearest':
    at = last - np.argmin(np.abs(fmr - far)[:, ::-1], axis=1)
    return 1 - fnmr[rows, at]
  at = np.maximum(np.sum(fmr <= far, axis=1) - 1, 0)
  tar = 1 - fnmr[rows, at]
  if mode == 'le':
    return tar
  after = np.minimum(at + 1, last)
  run = fmr[rows, after] - fmr[rows, at]
  part = (far - fmr[rows, at]) / np.where(run > 0, run, 1)
  return tar + part * (fnmr[rows, at] - fnmr[rows, after])


def det_curve(scores, genuine, *, points: int = 400) -> dict[str, list[float]]:
  """FMR and FNMR at falling thresholds, for the report's trade-off figure.

  Args:
    scores: real [P].
    genuine: bool [P].
    points: at most so many corners are kept, evenly spread over their order.

  Returns:
    {'fmr', 'fnmr'}, rates in 0..1.

  Raises:
    InputError: bad scores or labels.
  """
  fmr, fnmr = curve(
    rank_pairs(scores, genuine), lambda index: np.ones((1, len(index)))
  )
  keep = np.unique(
    np.linspace(0, fmr.shape[1] - 1, min(points, fmr.shape[1])).astype(int)
  )
  return {'fmr': fmr[0, keep].tolist(), 'fnmr': fnmr[0, keep].tolist()}
