"""Uncertainty of verification metrics by a bootstrap over subjects.

Pairs that share a person are not independent, so people are drawn, not pairs:
S subjects with replacement from S, w_s times subject s. A genuine pair of s
then weighs w_s and an impostor pair (s, u) weighs w_s * w_u; copies of one
subject never form an impostor pair. All metrics are recomputed from the
weighted rates, thresholds included, and the percentiles of B draws are the
interval (Efron 1979; for biometric pairs Bolle, Ratha and Pankanti 2004,
"subset bootstrap"). Two models judged on the same draws give the interval of
their difference, which is much narrower than the two intervals suggest.

Shapes: P pairs, S subjects, B draws, F false accept rates. Rates are 0..1.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from compress.audit.accuracy import defined_mean, fold_accuracies, plan_folds
from compress.audit.curves import (
  Weigh,
  check_pairs,
  curve,
  curve_eer,
  curve_tar,
  rank_pairs,
)
from compress.audit.verification import check_far, far_note
from compress.errors import InputError

FARS = (1e-1, 1e-2, 1e-3)
_CELLS = 1 << 20  # float64 weights held at a time: 8 MB


class Subjects(NamedTuple):
  """The two subjects of each pair, numbered 0..S-1; equal if genuine."""

  left: np.ndarray  # int [P]
  right: np.ndarray  # int [P]
  count: int  # S

  def take(self, index) -> 'Subjects':
    """The same subjects for some of the pairs."""
    return self._replace(left=self.left[index], right=self.right[index])


def pair_subjects(identities, pairs, genuine) -> Subjects:
  """Finds the subjects of each pair.

  Args:
    identities: int [N], identity of each image.
    pairs: int [P, 2], indices of images.
    genuine: bool [P].

  Returns:
    The Subjects, numbered in the order of their identities.

  Raises:
    InputError: a pair's label contradicts the identities.
  """
  identities, pairs = np.asarray(identities), np.asarray(pairs)
  genuine = np.asarray(genuine, bool)
  names, number = np.unique(identities[pairs], return_inverse=True)
  left, right = number.reshape(pairs.shape).T
  wrong = (left == right) != genuine
  if wrong.any():
    at = int(np.argmax(wrong))
    label = 'genuine' if genuine[at] else 'impostor'
    a, b = identities[pairs[at]]
    raise InputError(
      f'pair {at} is marked {label}, but its images show identities {a} and {b}'
    )
  return Subjects(left, right, len(names))


def independent_pairs(pairs: int) -> Subjects:
  """Makes every pair a subject of its own, for sets without identities.

  The intervals are then too narrow where pairs share people; say so.
  """
  index = np.arange(pairs)
  return Subjects(index, index, pairs)


def draw_subjects(
  count: int, *, draws: int = 1000, seed: int = 0, strata=None
) -> np.ndarray:
  """Draws subjects with replacement.

  Args:
    count: number of subjects S.
    draws: number of draws B.
    seed: of the generator; the same seed gives the same draws.
    strata: optional [S]: each stratum keeps its number of subjects.

  Returns:
    int32 [B, S]: how often each subject is drawn; rows sum to S.

  Raises:
    InputError: no subjects, no draws, or strata of the wrong shape.
  """
  if count < 1 or draws < 1:
    raise InputError(f'nothing to draw: {count} subjects, {draws} draws')
  strata = np.zeros(count, int) if strata is None else np.asarray(strata)
  if strata.shape != (count,):
    raise InputError(f'strata must be [{count}], got shape {strata.shape}')
  rng = np.random.default_rng(seed)
  counts = np.zeros((draws, count), np.int32)
  for name in np.unique(strata):
    members = np.flatnonzero(strata == name)
    n = len(members)
    for start in range(0, draws, max(1, _CELLS // n)):
      rows = slice(start, min(draws, start + max(1, _CELLS // n)))
      picks = rng.integers(n, size=(rows.stop - rows.start, n))
      picks += np.arange(len(picks))[:, None] * n
      tally = np.bincount(picks.ravel(), minlength=picks.size)
      counts[rows, members] = tally.reshape(picks.shape)
  return counts


def pair_weights(counts, subjects: Subjects) -> np.ndarray:
  """Turns counts of subjects into weights of pairs.

  Args:
    counts: int [S] or [B, S], how often each subject is drawn.
    subjects: of the pairs.

  Returns:
    float64 [P] or [B, P]: w_s for a genuine pair of s, w_s * w_u for (s, u).
  """
  counts = np.asarray(counts, np.float64)
  weights = np.take(counts, subjects.left, axis=-1)
  other = np.take(counts, subjects.right, axis=-1)
  return weights * np.where(subjects.left == subjects.right, 1.0, other)


def map_draws(
  compute: Callable[[Weigh], Mapping[str, np.ndarray]],
  counts,
  subjects: Subjects,
  *,
  width: int | None = None,
) -> dict[str, np.ndarray]:
  """Runs a computation on all draws, a few at a time.

  Args:
    compute: maps `weigh` to arrays [b, ...]; `weigh` maps indices [n] of pairs
      of one class to their weights [b, n].
    counts: int [B, S].
    subjects: of the pairs.
    width: floats per draw that `compute` holds; the number of pairs if None.

  Returns:
    The arrays, concatenated to [B, ...].
  """
  rows = max(1, _CELLS // max(1, width or len(subjects.left)))
  chunks = []
  for start in range(0, len(counts), rows):
    block = np.asarray(counts[start : start + rows], np.float64)

    def weigh(index, block=block):
      left, right = subjects.left[index], subjects.right[index]
      weights = np.take(block, left, axis=1)
      apart = left != right
      if apart.all():
        weights *= np.take(block, right, axis=1)
      elif apart.any():
        weights *= np.where(apart, np.take(block, right, axis=1), 1.0)
      return weights

    chunks.append(compute(weigh))
  return {k: np.concatenate([c[k] for c in chunks]) for k in chunks[0]}


def verification_figures(
  scores,
  genuine,
  subjects: Subjects,
  counts,
  *,
  fars: Sequence[float] = FARS,
  mode: str = 'le',
  folds=None,
  grid: float | None = None,
  balanced: bool = False,
) -> dict[str, np.ndarray]:
  """EER, TAR at FAR and accuracy for every draw of subjects.

  With counts of ones [1, S] this is the point estimate.

  Args:
    scores: real [P], cosines.
    genuine: bool [P].
    subjects: of the pairs.
    counts: int [B, S], from `draw_subjects`.
    fars: the F false accept rates; one that the number of impostor pairs
      cannot measure gives NaN.
    mode: of `tar_at_far`.
    folds: of `ten_fold_accuracy`; None gives the best accuracy.
    grid: of `ten_fold_accuracy`.
    balanced: weigh the two classes equally in the accuracy.

  Returns:
    'eer' [B], 'tar_at_far' [B, F], 'accuracy' [B], float64; NaN where a draw
    has no genuine or no impostor pair.

  Raises:
    InputError: bad scores, labels, folds, FARs or mode.
  """
  scores, genuine = check_pairs(scores, genuine)
  for far in fars:
    check_far(far, mode)
  ranking = rank_pairs(scores, genuine)
  plan = plan_folds(scores, genuine, folds, grid=grid)
  measurable = [
    not far_note(far, len(ranking.impostor), reason_only=True) for far in fars
  ]

  def compute(weigh):
    fmr, fnmr = curve(ranking, weigh)
    tars = [
      curve_tar(fmr, fnmr, far, mode) if known else np.full(len(fmr), np.nan)
      for far, known in zip(fars, measurable, strict=True)
    ]
    accuracy, _ = fold_accuracies(plan, weigh, balanced=balanced)
    return {
      'eer': curve_eer(fmr, fnmr),
      'tar_at_far': np.stack(tars, axis=1) if tars else fmr[:, :0],
      'accuracy': defined_mean(accuracy[:, :, 0], axis=1),
    }

  width = len(scores) + 2 * plan.train[1].accepted.size
  return map_draws(compute, counts, subjects, width=width)


def percentile_interval(samples, *, level: float = 0.95) -> np.ndarray:
  """Percentile interval of bootstrap samples.

  Args:
    samples: real [B, ...]; NaN draws are left out.
    level: coverage, in 0..1 (exclusive).

  Returns:
    float64 [..., 2], the ends; NaN where fewer than two draws are defined.

  Raises:
    InputError: level outside 0..1.
  """
  if not 0 < level < 1:
    raise InputError(f'level must lie between 0 and 1, got {level}')
  samples = np.asarray(samples, np.float64)
  flat = samples.reshape(len(samples), -1)
  tails = [(1 - level) / 2, (1 + level) / 2]
  ends = np.full((flat.shape[1], 2), np.nan)
  for column, values in enumerate(flat.T):
    values = values[~np.isnan(values)]
    if len(values) > 1:
      # Interpolation next to an infinite value (SER) would give NaN.
      method = 'linear' if np.isfinite(values).all() else 'nearest'
      ends[column] = np.quantile(values, tails, method=method)
  return ends.reshape(*samples.shape[1:], 2)


def bootstrap_intervals(
  scores,
  genuine,
  subjects: Subjects,
  *,
  reference_scores=None,
  fars: Sequence[float] = FARS,
  mode: str = 'le',
  folds=None,
  grid: float | None = None,
  balanced: bool = False,
  draws: int = 1000,
  seed: int = 0,
  strata=None,
  level: float = 0.95,
) -> dict[str, Any]:
  """Intervals of EER, TAR at FAR and accuracy over draws of subjects.

  Args:
    scores: real [P], cosines.
    genuine: bool [P].
    subjects: from `pair_subjects`.
    reference_scores: optional real [P], another model's scores of the same
      pairs; it is judged on the same draws.
    fars: the F false accept rates.
    mode: of `tar_at_far`.
    folds: of `ten_fold_accuracy`; None gives the best accuracy.
    grid: of `ten_fold_accuracy`.
    balanced: weigh the two classes equally in the accuracy.
    draws: number of draws B.
    seed: of the draws.
    strata: optional [S], e.g. the group of each subject.
    level: coverage.

  Returns:
    'eer' [2], 'tar_at_far' [F, 2], 'accuracy' [2] (ends, in 0..1), 'undefined'
    (draws without genuine or impostor pairs, left out) and, with a reference,
    'difference' with the first three for this model minus the reference.

  Raises:
    InputError: bad scores, labels, folds, FARs, mode, strata or level.
  """
  counts = draw_subjects(subjects.count, draws=draws, seed=seed, strata=strata)
  options = dict(
    fars=fars, mode=mode, folds=folds, grid=grid, balanced=balanced
  )
  samples = verification_figures(scores, genuine, subjects, counts, **options)
  result = {k: percentile_interval(v, level=level) for k, v in samples.items()}
  result['undefined'] = int(np.isnan(samples['eer']).sum())
  if reference_scores is not None:
    reference = verification_figures(
      reference_scores, genuine, subjects, counts, **options
    )
    result['difference'] = {
      k: percentile_interval(v - reference[k], level=level)
      for k, v in samples.items()
    }
  return result
