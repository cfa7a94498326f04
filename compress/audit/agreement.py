"""Agreement of a compressed model with its reference, pair by pair.

Equal error rates can hide that different people are now refused. A *flip* is
a pair that one model accepts and the other rejects; a *regression* is a flip
of a pair the reference got right. The compressed model is judged twice: at
the reference's threshold (what a deployment that only swaps the model sees),
and with each model at its own (what a re-calibrated deployment sees).
"""

from typing import NamedTuple

import numpy as np

from compress.audit.curves import check_pairs
from compress.audit.proportions import mcnemar
from compress.audit.scores import normalize
from compress.errors import InputError


class Flips(NamedTuple):
  """Changed decisions between a reference and a compressed model."""

  pairs: int
  flipped: int  # decisions that differ: regressions + repairs
  regressions: int  # the reference was right, the compressed model is wrong
  repairs: int  # the reference was wrong, the compressed model is right
  accept_to_reject: int  # the reference accepts, the compressed model rejects
  reject_to_accept: int
  p: float  # exact two-sided McNemar p; holds for independent pairs


class Agreement(NamedTuple):
  """How far a compressed model agrees with its reference."""

  embedding_cosine: float  # mean over images of cos(reference, compressed)
  least_embedding_cosine: float  # its minimum
  score_correlation: float  # Pearson, over pairs; NaN if a side is constant
  fixed: Flips  # both at the reference's threshold
  recalibrated: Flips  # each at its own threshold


def embedding_cosines(reference, compressed) -> np.ndarray:
  """Cosine of each image's two embeddings.

  Args:
    reference: real [N, D].
    compressed: real [N, D].

  Returns:
    float64 [N] in [-1, 1].

  Raises:
    InputError: shapes differ, zero or non-finite embedding.
  """
  a, b = normalize(reference), normalize(compressed)
  if a.shape != b.shape:
    raise InputError(
      f'embeddings of the two models differ in shape: {a.shape} and {b.shape}'
    )
  return np.clip(np.sum(a * b, axis=1), -1, 1)


def score_correlation(reference_scores, scores) -> float:
  """Pearson correlation of two models' scores of the same pairs.

  Args:
    reference_scores: real [P].
    scores: real [P].

  Returns:
    A float in [-1, 1]; NaN where a side is constant.
  """
  a = np.asarray(reference_scores, np.float64)
  b = np.asarray(scores, np.float64)
  a, b = a - a.mean(), b - b.mean()
  scale = np.sqrt((a @ a) * (b @ b))
  return float(np.clip(a @ b / scale, -1, 1)) if scale else float('nan')


def decision_flips(
  reference_scores,
  scores,
  genuine,
  *,
  reference_threshold: float,
  threshold: float | None = None,
) -> Flips:
  """Counts decisions that differ between two models.

  Args:
    reference_scores: real [P].
    scores: real [P], the compressed model's.
    genuine: bool [P].
    reference_threshold: the reference accepts where score >= this.
    threshold: the compressed model's; the reference's if None.

  Returns:
    The Flips.

  Raises:
    InputError: bad scores or shapes.
  """
  if threshold is None:
    threshold = reference_threshold
  reference_scores, genuine = check_pairs(reference_scores, genuine)
  scores, _ = check_pairs(scores, genuine)
  before, after = reference_scores >= reference_threshold, scores >= threshold
  flipped = before != after
  regressions = int((flipped & (before == genuine)).sum())
  repairs = int((flipped & (after == genuine)).sum())
  return Flips(
    pairs=len(scores),
    flipped=regressions + repairs,
    regressions=regressions,
    repairs=repairs,
    accept_to_reject=int((before & ~after).sum()),
    reject_to_accept=int((after & ~before).sum()),
    p=mcnemar(regressions, repairs),
  )


def agreement(
  reference,
  compressed,
  reference_scores,
  scores,
  genuine,
  *,
  reference_threshold: float,
  threshold: float,
) -> Agreement:
  """Compares a compressed model with its reference on the same pairs.

  Args:
    reference: real [N, D], the reference's embeddings.
    compressed: real [N, D].
    reference_scores: real [P].
    scores: real [P].
    genuine: bool [P].
    reference_threshold: the reference's operating threshold.
    threshold: the compressed model's own one.

  Returns:
    The Agreement.

  Raises:
    InputError: bad embeddings, scores or shapes.
  """
  cosines = embedding_cosines(reference, compressed)
  at = dict(reference_threshold=reference_threshold)
  return Agreement(
    embedding_cosine=float(cosines.mean()),
    least_embedding_cosine=float(cosines.min()),
    score_correlation=score_correlation(reference_scores, scores),
    fixed=decision_flips(reference_scores, scores, genuine, **at),
    recalibrated=decision_flips(
      reference_scores, scores, genuine, threshold=threshold, **at
    ),
  )
