"""Ten-fold verification accuracy and the folds it needs.

A threshold is chosen on the pairs of all folds but one and judged on the one
left out (Huang et al. 2007, LFW view 2). Two ways to choose it:

* exact (default): every mid-point between neighbouring training scores is a
  candidate; accept where `score >= t`, thresholds are cosines.
* `grid=0.01`: InsightFace's protocol. Squared distances d = 2 - 2 cos of unit
  embeddings, candidates 0, 0.01, ... 3.99, accept where `d < t` (strict);
  thresholds are squared distances.

Of several best candidates the first is taken, counted from the one that
accepts least. With `balanced=True` accuracy is (TAR + 1 - FAR) / 2, so that a
set of all pairs, where impostors outnumber genuine pairs many times, is judged
like a set of as many of both; on balanced folds the two are the same.
"""

from typing import NamedTuple

import numpy as np

from compress.audit.curves import Weigh, as_rows, check_pairs, cumulate
from compress.audit.folds import contiguous_folds
from compress.errors import InputError


class FoldAccuracy(NamedTuple):
  """Accuracy over folds; every field has a leading [B] for rows of weights."""

  mean: float | np.ndarray  # over the folds that are defined, 0..1
  std: float | np.ndarray  # over the same folds, ddof 0
  folds: np.ndarray  # float64 [F], NaN where a fold has no pairs
  thresholds: np.ndarray  # float64 [F], cosine, or squared distance on a grid


class _Cells(NamedTuple):
  """Pairs of one class sorted by (cell, key), and counts per candidate."""

  order: np.ndarray  # int [n], pair indices
  start: np.ndarray  # int [C, 1], where each cell begins
  end: np.ndarray  # int [C, 1]
  accepted: np.ndarray  # int [C, K], start + accepted pairs


class FoldPlan(NamedTuple):
  """Everything about a fold experiment that weights do not change."""

  train: tuple[_Cells, _Cells]  # genuine, impostor; cells are the folds
  test: tuple[_Cells, _Cells]  # cells are folds x parts
  thresholds: np.ndarray  # float64 [F, K]
  parts: int
  held_out: bool


def plan_folds(
  scores, genuine, folds=None, *, parts=None, grid: float | None = None
) -> FoldPlan:
  """Sorts the pairs once for `fold_accuracies`.

  Args:
    scores: real [P], cosines.
    genuine: bool [P].
    folds: int [P], fold of each pair, -1 to leave a pair out; None chooses and
      judges one threshold on all pairs.
    parts: optional int [P] in 0..T-1: accuracy is judged on each part by
      itself while the threshold is chosen on all of them.
    grid: step of squared-distance thresholds; None takes exact candidates.

  Returns:
    The FoldPlan.

  Raises:
    InputError: shapes differ, a class is empty, fewer than two folds.
  """
  scores, genuine = check_pairs(scores, genuine)
  held_out = folds is not None
  folds = np.zeros(len(scores), int) if folds is None else np.asarray(folds)
  parts = np.zeros(len(scores), int) if parts is None else np.asarray(parts)
  if folds.shape != scores.shape or parts.shape != scores.shape:
    raise InputError(
      f'folds and parts must be [{len(scores)}], got {folds.shape} and '
      f'{parts.shape}'
    )
  used = np.flatnonzero(folds >= 0)
  names, fold = np.unique(folds[used], return_inverse=True)
  if held_out and len(names) < 2:
    raise InputError(
      f'cross-validation needs 2 folds or more, got {len(names)}'
    )
  count, part_count = len(names), int(parts.max()) + 1
  key = 2 - 2 * scores[used] if grid else -scores[used]
  is_genuine = genuine[used]
  if grid:
    levels = np.arange(0, 4, grid)
    cuts = np.tile(levels, (count, 1))
    thresholds = cuts
  else:
    levels = _run_ends(key, is_genuine)
    cuts = np.stack(
      [
        _midpoints(key[(fold != f) | (not held_out)], levels)
        for f in range(count)
      ]
    )
    thresholds = -cuts
  side = 'left' if grid else 'right'
  cell = fold * part_count + parts[used]
  return FoldPlan(
    train=tuple(
      _cells(used, key, fold, c, np.tile(levels, (count, 1)), side)
      for c in (is_genuine, ~is_genuine)
    ),
    test=tuple(
      _cells(used, key, cell, c, np.repeat(cuts, part_count, axis=0), side)
      for c in (is_genuine, ~is_genuine)
    ),
    thresholds=thresholds,
    parts=part_count,
    held_out=held_out,
  )


def _run_ends(key, genuine) -> np.ndarray:
  """Keys worth cutting at: below all, and the last of each genuine run.

  Going down the scores, training accuracy rises with a genuine pair and falls
  with an impostor, whatever their weights, so it is largest only there.
  """
  levels, index = np.unique(key, return_inverse=True)
  has_genuine = np.bincount(index, genuine, len(levels)) > 0
  has_impostor = np.bincount(index, ~genuine, len(levels)) > 0
  last = has_genuine & np.append(has_impostor[1:], True)
  return np.append(-np.inf, levels[last])


def _midpoints(train_key, levels) -> np.ndarray:
  """Cuts half-way between the training keys around each level.

  The ends are infinite: nothing is accepted, everything is.
  """
  known = np.unique(train_key)
  if not known.size:
    return levels
  after = np.searchsorted(known, levels, side='right')
  below = known[np.maximum(after - 1, 0)]
  above = known[np.minimum(after, known.size - 1)]
  cut = (below + above) / 2
  cut = np.where(cut < above, cut, below)
  cut = np.where(after == known.size, np.inf, cut)
  return np.where(after == 0, -np.inf, cut)


def _cells(pairs, key, cell, chosen, cuts, side) -> _Cells:
  pairs, key, cell = pairs[chosen], key[chosen], cell[chosen]
  order = np.lexsort((key, cell))
  key, cell = key[order], cell[order]
  bounds = np.searchsorted(cell, np.arange(len(cuts) + 1))
  accepted = np.stack(
    [
      low + np.searchsorted(key[low:high], cut, side=side)
      for low, high, cut in zip(bounds[:-1], bounds[1:], cuts, strict=True)
    ]
  )
  return _Cells(pairs[order], bounds[:-1, None], bounds[1:, None], accepted)


def fold_accuracies(
  plan: FoldPlan, weigh: Weigh, *, balanced: bool = False
) -> tuple[np.ndarray, np.ndarray]:
  """Accuracy of every fold and part, for rows of pair weights.

  Weights change how much each pair counts, not which thresholds are candidates.

  Args:
    plan: from `plan_folds`.
    weigh: maps pair indices [n] to weights [B, n].
    balanced: weigh the two classes equally.

  Returns:
    accuracy float64 [B, F, T], NaN where nothing can be trained or judged, and
    thresholds float64 [B, F].
  """
  sums = [cumulate(weigh(cells.order)) for cells in plan.train]
  (tp, positives), (fp, negatives) = (
    _train_mass(cells, s, plan.held_out)
    for cells, s in zip(plan.train, sums, strict=True)
  )
  if balanced:
    gain = tp * negatives - fp * positives
  else:
    gain = tp - fp
  best = np.argmax(gain, axis=2)  # [B, F]
  if plan.parts > 1:
    sums = [cumulate(weigh(cells.order)) for cells in plan.test]
  at = np.repeat(best, plan.parts, axis=1)
  (tp, p), (fp, n) = (
    _test_mass(cells, s, at) for cells, s in zip(plan.test, sums, strict=True)
  )
  with np.errstate(invalid='ignore', divide='ignore'):
    if balanced:
      accuracy = (tp / p + (n - fp) / n) / 2
    else:
      accuracy = (tp + n - fp) / (p + n)
  accuracy = accuracy.reshape(*best.shape, plan.parts)
  trained = (positives > 0) & (negatives > 0)
  accuracy = np.where(trained, accuracy, np.nan)
  thresholds = plan.thresholds[np.arange(best.shape[1]), best]
  return accuracy, thresholds


def _train_mass(cells, sums, held_out):
  """Accepted weight [B, F, K] and all weight [B, F, 1] of the other folds."""
  accepted = sums[:, cells.accepted] - sums[:, cells.start]
  everything = sums[:, cells.end] - sums[:, cells.start]
  if not held_out:
    return accepted, everything
  return (
    accepted.sum(axis=1, keepdims=True) - accepted,
    everything.sum(axis=1, keepdims=True) - everything,
  )


def _test_mass(cells, sums, at):
  """Accepted and all weight [B, C] of each cell at its chosen candidate."""
  stop = cells.accepted[np.arange(at.shape[1]), at]  # [B, C]
  start, end = cells.start[:, 0], cells.end[:, 0]
  accepted = np.take_along_axis(sums, stop, axis=1) - sums[:, start]
  return accepted, sums[:, end] - sums[:, start]


def defined_mean(values, axis: int) -> np.ndarray:
  """Mean over the entries that are not NaN; NaN where there are none."""
  known = ~np.isnan(values)
  with np.errstate(invalid='ignore'):
    return np.where(known, values, 0).sum(axis) / known.sum(axis)


def ten_fold_accuracy(
  scores,
  genuine,
  *,
  folds=None,
  n_folds: int = 10,
  grid: float | None = None,
  balanced: bool = False,
  weights=None,
) -> FoldAccuracy:
  """Cross-validated verification accuracy.

  Args:
    scores: real [P], cosines.
    genuine: bool [P].
    folds: int [P], -1 to leave a pair out; None cuts the pairs, in their
      order, into `n_folds` contiguous blocks (the layout of LFW-type sets).
    n_folds: number of contiguous blocks where `folds` is None.
    grid: 0.01 for InsightFace's protocol; None for exact candidates.
    balanced: weigh the two classes equally.
    weights: optional [P] or [B, P].

  Returns:
    The FoldAccuracy. A fold without pairs is NaN and left out of the mean.

  Raises:
    InputError: shapes differ, a class is empty, fewer than two folds.
  """
  if folds is None:
    folds = contiguous_folds(len(np.asarray(scores)), n_folds)
  rows, weights = as_rows(weights, len(np.asarray(scores)))
  plan = plan_folds(scores, genuine, folds, grid=grid)
  accuracy, thresholds = fold_accuracies(
    plan, lambda index: weights[:, index], balanced=balanced
  )
  accuracy = accuracy[:, :, 0]
  mean = defined_mean(accuracy, axis=1)
  std = np.sqrt(defined_mean((accuracy - mean[:, None]) ** 2, axis=1))
  if rows:
    return FoldAccuracy(mean, std, accuracy, thresholds)
  return FoldAccuracy(float(mean[0]), float(std[0]), accuracy[0], thresholds[0])


def best_accuracy(scores, genuine, *, balanced: bool = False, weights=None):
  """Accuracy at the best single threshold, chosen on the judged pairs.

  It is never below the cross-validated accuracy: an upper bound, not an
  estimate.

  Args:
    scores: real [P], cosines.
    genuine: bool [P].
    balanced: weigh the two classes equally.
    weights: optional [P] or [B, P].

  Returns:
    (accuracy, threshold): floats, or float64 [B] each. Accept where
    score >= threshold.

  Raises:
    InputError: shapes differ or a class is empty.
  """
  rows, weights = as_rows(weights, len(np.asarray(scores)))
  accuracy, thresholds = fold_accuracies(
    plan_folds(scores, genuine),
    lambda index: weights[:, index],
    balanced=balanced,
  )
  accuracy, thresholds = accuracy[:, 0, 0], thresholds[:, 0]
  if rows:
    return accuracy, thresholds
  return float(accuracy[0]), float(thresholds[0])
