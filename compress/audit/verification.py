"""Verification metrics of pair scores: EER, TAR at FAR, AUC, d'.

A pair of images is accepted when its `score >= t`; see `compress.audit.scores`.
With `G` genuine and `I` impostor pairs,

  FMR(t) = #{impostor >= t} / I     (also called FAR, FPR)
  TAR(t) = #{genuine >= t} / G      (also called TPR), FNMR = 1 - TAR.

Everything is float64 numpy on the host, in 0..1. Every metric takes optional
weights, one per pair, or rows of weights `[B, G]`, `[B, I]`: the rates become
ratios of weight sums and the result gains the leading axis B. The scores are
sorted once for all rows. A metric whose classes weigh nothing is NaN.
"""

from typing import NamedTuple

import numpy as np

from compress.audit.curves import (
  as_rows,
  check_pairs,
  cumulate,
  curve,
  curve_eer,
  curve_tar,
  rank_pairs,
)
from compress.errors import InputError

FAR_MODES = ('le', 'nearest', 'interp')
RULE_OF_30 = 30


class Roc(NamedTuple):
  """Receiver operating characteristic, from (0, 0) to (1, 1)."""

  far: np.ndarray  # float64 [V] or [B, V], non-decreasing
  tar: np.ndarray  # float64, same shape, non-decreasing
  thresholds: np.ndarray  # float64 [V], decreasing; the first one is inf


def eer(
  genuine_scores,
  impostor_scores,
  *,
  genuine_weights=None,
  impostor_weights=None,
):
  """Equal error rate: where FMR and FNMR, joined linearly, cross.

  Args:
    genuine_scores: real [G].
    impostor_scores: real [I].
    genuine_weights: optional [G] or [B, G], non-negative.
    impostor_weights: optional [I] or [B, I], non-negative.

  Returns:
    A float in 0..1, or float64 [B] for rows of weights.

  Raises:
    InputError: empty or non-finite scores, weights of the wrong shape.
  """
  ranking, weigh, rows = _prepare(
    genuine_scores, impostor_scores, genuine_weights, impostor_weights
  )
  return _result(curve_eer(*curve(ranking, weigh)), rows)


def auc(
  genuine_scores,
  impostor_scores,
  *,
  genuine_weights=None,
  impostor_weights=None,
):
  """Area under the ROC: P(genuine > impostor) + P(equal) / 2.

  Args and errors as `eer`; returns a float in 0..1, or float64 [B].
  """
  ranking, weigh, rows = _prepare(
    genuine_scores, impostor_scores, genuine_weights, impostor_weights
  )
  fmr, fnmr = curve(ranking, weigh)
  height = 1 - (fnmr[:, 1:] + fnmr[:, :-1]) / 2
  return _result(np.sum(np.diff(fmr, axis=1) * height, axis=1), rows)


def d_prime(
  genuine_scores,
  impostor_scores,
  *,
  genuine_weights=None,
  impostor_weights=None,
):
  """Sensitivity index `|mu_g - mu_i| / sqrt((var_g + var_i) / 2)`.

  The variances divide by n (ddof 0). Args and errors as `eer`; returns a
  float, inf where both variances are 0, or float64 [B].
  """
  scores, weights, rows = _concatenate(
    genuine_scores, impostor_scores, genuine_weights, impostor_weights
  )
  split = len(np.asarray(genuine_scores))
  moments = []
  for part in (slice(None, split), slice(split, None)):
    w, s = weights[:, part], scores[part]
    with np.errstate(invalid='ignore'):
      mean = w @ s / w.sum(1)
      spread = np.sum(w * (s - mean[:, None]) ** 2, 1) / w.sum(1)
    moments.append((mean, spread))
  (mean_g, var_g), (mean_i, var_i) = moments
  with np.errstate(divide='ignore', invalid='ignore'):
    result = np.abs(mean_g - mean_i) / np.sqrt((var_g + var_i) / 2)
  return _result(result, rows)


def tar_at_far(
  genuine_scores,
  impostor_scores,
  far: float,
  *,
  mode: str = 'le',
  strict: bool = True,
  genuine_weights=None,
  impostor_weights=None,
):
  """True accept rate at a false accept rate.

  A FAR below 1/I is not measurable with I impostor pairs: when `far * I < 1`
  the result is NaN and `far_note` gives the reason. `strict=False` returns
  the value all the same (at FAR 0 that is the TAR without false accept).

  Modes: 'le' is the largest TAR among thresholds with FAR <= far
  (conservative); 'nearest' takes the ROC point whose FAR is nearest, ties to
  the larger FAR, and may exceed the target (InsightFace's IJB script, with
  scikit-learn's ROC without collinear points); 'interp' is linear in FAR.
  With weights, 'nearest' looks at the corners of the unweighted ROC.

  Args:
    genuine_scores: real [G].
    impostor_scores: real [I].
    far: the target, 0..1.
    mode: 'le', 'nearest' or 'interp'.
    strict: return NaN where the FAR is not measurable.
    genuine_weights: optional [G] or [B, G], non-negative.
    impostor_weights: optional [I] or [B, I], non-negative.

  Returns:
    A float in 0..1 or NaN, or float64 [B] for rows of weights.

  Raises:
    InputError: unknown mode, FAR outside 0..1, empty or non-finite scores.
  """
  check_far(far, mode)
  ranking, weigh, rows = _prepare(
    genuine_scores, impostor_scores, genuine_weights, impostor_weights
  )
  if strict and far_note(far, len(ranking.impostor), reason_only=True):
    return _result(np.full(rows or 1, np.nan), rows)
  if mode == 'nearest' and genuine_weights is impostor_weights is None:
    points = roc(genuine_scores, impostor_scores)
    fmr, fnmr = points.far[None], 1 - points.tar[None]
  else:
    fmr, fnmr = curve(ranking, weigh)
  return _result(curve_tar(fmr, fnmr, far, mode), rows)


def check_far(far: float, mode: str = 'le') -> None:
  """Raises InputError for a FAR outside 0..1 or an unknown mode."""
  if mode not in FAR_MODES:
    raise InputError(
      f"mode must be one of {', '.join(FAR_MODES)}, got '{mode}'"
    )
  if not 0 <= far <= 1:
    raise InputError(f'far must lie in 0..1, got {far}')


def far_note(far: float, impostors: int, *, reason_only: bool = False) -> str:
  """Says why TAR at a FAR is undefined or uncertain.

  Args:
    far: the target, 0..1.
    impostors: number of impostor pairs.
    reason_only: leave out the caution, keep the reason for NaN.

  Returns:
    The reason when `far * impostors < 1`; a caution when fewer than 30 false
    accepts are expected (the rule of 30); '' otherwise.
  """
  expected = far * impostors
  if expected < 1:
    return (
      f'FAR {far:g} is not measurable with {impostors} impostor pairs; the '
      f'smallest measurable one is {1 / impostors:.1e}'
    )
  if expected < RULE_OF_30 and not reason_only:
    return f'FAR {far:g} rests on {expected:.3g} false accepts, fewer than 30'
  return ''


def roc(
  genuine_scores,
  impostor_scores,
  *,
  drop_intermediate: bool = True,
  genuine_weights=None,
  impostor_weights=None,
) -> Roc:
  """Receiver operating characteristic over all distinct scores.

  Args:
    genuine_scores: real [G].
    impostor_scores: real [I].
    drop_intermediate: leave out points in the middle of two equal steps, as
      scikit-learn's `roc_curve` does; ignored where weights are given.
    genuine_weights: optional [G] or [B, G], non-negative.
    impostor_weights: optional [I] or [B, I], non-negative.

  Returns:
    The Roc; `far` and `tar` are [V], or [B, V] for rows of weights.

  Raises:
    InputError: empty or non-finite scores, weights of the wrong shape.
  """
  scores, weights, rows = _concatenate(
    genuine_scores, impostor_scores, genuine_weights, impostor_weights
  )
  genuine = np.arange(len(scores)) < len(np.asarray(genuine_scores))
  check_pairs(scores, genuine)
  by_score = np.argsort(-scores, kind='stable')
  levels, first = np.unique(-scores[by_score], return_index=True)
  ends = np.append(first, len(scores))
  thresholds = np.append(np.inf, -levels)
  matched = cumulate(weights[:, by_score] * genuine[by_score])[:, ends]
  accepted = cumulate(weights[:, by_score] * ~genuine[by_score])[:, ends]
  if drop_intermediate and genuine_weights is impostor_weights is None:
    steps = np.stack([matched[0, 1:], accepted[0, 1:]])
    bend = np.diff(steps, 2, axis=1).any(axis=0)
    keep = np.concatenate([[True, True], bend, [True]])[: len(ends)]
    matched, accepted = matched[:, keep], accepted[:, keep]
    thresholds = thresholds[keep]
  with np.errstate(invalid='ignore'):
    far = accepted / accepted[:, -1:]
    tar = matched / matched[:, -1:]
  if not rows:
    far, tar = far[0], tar[0]
  return Roc(far, tar, thresholds)


def threshold_at_far(impostor_scores, far: float) -> float:
  """Lowest score threshold whose FAR does not exceed a target.

  Args:
    impostor_scores: real [I].
    far: the target, 0..1.

  Returns:
    The least t with `#{impostor >= t} / I <= far`: the float just above the
    first impostor score that must be rejected, or -inf at FAR 1.

  Raises:
    InputError: FAR outside 0..1, or no scores.
  """
  check_far(far)
  scores = np.sort(np.asarray(impostor_scores, np.float64))[::-1]
  if not scores.size:
    raise InputError('there are no impostor scores to set a threshold on')
  allowed = np.sum(np.arange(1, scores.size + 1) / scores.size <= far)
  if allowed == scores.size:
    return float('-inf')
  return float(np.nextafter(scores[allowed], np.inf))


def error_rates(scores, genuine, threshold: float, *, weights=None):
  """FMR and FNMR at a fixed threshold (accept where score >= threshold).

  Args:
    scores: real [P].
    genuine: bool [P].
    threshold: cosine.
    weights: optional [P] or [B, P].

  Returns:
    (fmr, fnmr): floats in 0..1, or float64 [B] each.
  """
  scores, genuine = check_pairs(scores, genuine)
  rows, weights = as_rows(weights, len(scores))
  accept = scores >= threshold
  with np.errstate(invalid='ignore'):
    fmr = weights @ (accept & ~genuine) / (weights @ ~genuine)
    fnmr = weights @ (~accept & genuine) / (weights @ genuine)
  return _result(fmr, rows), _result(fnmr, rows)


def _concatenate(genuine_scores, impostor_scores, genuine_w, impostor_w):
  genuine_scores = np.asarray(genuine_scores, np.float64)
  impostor_scores = np.asarray(impostor_scores, np.float64)
  if genuine_scores.ndim != 1 or impostor_scores.ndim != 1:
    raise InputError(
      'genuine and impostor scores must be vectors, got shapes '
      f'{genuine_scores.shape} and {impostor_scores.shape}'
    )
  rows_g, weights_g = as_rows(genuine_w, len(genuine_scores))
  rows_i, weights_i = as_rows(impostor_w, len(impostor_scores))
  if rows_g and rows_i and rows_g != rows_i:
    raise InputError(f'{rows_g} rows of genuine weights, {rows_i} of impostor')
  rows = max(rows_g, rows_i)
  shape = max(rows, 1)
  weights = np.concatenate(
    [
      np.broadcast_to(weights_g, (shape, weights_g.shape[1])),
      np.broadcast_to(weights_i, (shape, weights_i.shape[1])),
    ],
    axis=1,
  )
  return np.concatenate([genuine_scores, impostor_scores]), weights, rows


def _prepare(genuine_scores, impostor_scores, genuine_w, impostor_w):
  scores, weights, rows = _concatenate(
    genuine_scores, impostor_scores, genuine_w, impostor_w
  )
  genuine = np.arange(len(scores)) < len(np.asarray(genuine_scores))
  ranking = rank_pairs(scores, genuine)
  return ranking, lambda index: weights[:, index], rows


def _result(values, rows: int):
  return values if rows else float(values[0])
