"""Accuracy of classifiers, over examples and over repeated runs.

Blalock, Gonzalez Ortiz, Frankle and Guttag 2020, 'What is the State of Neural
Network Pruning?', arXiv:2003.03033, ask for raw accuracies of the compressed
and of the original network, top-1 and top-5, with mean and sample standard
deviation over initialisations, at several compression ratios and speed-ups,
both as original over new.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from compress.errors import InputError


class Classification(NamedTuple):
  """How well a network classifies.

  Attributes:
    top1: share of the examples whose class has the largest logit, 0..1.
    top5: share whose class is among the five largest logits, 0..1; 1 with five
      classes or fewer.
    cross_entropy: mean over the examples, nats.
    count: number of examples.
  """

  top1: float
  top5: float
  cross_entropy: float
  count: int


def classify(logits: np.ndarray, labels: np.ndarray) -> Classification:
  """Judges logits by the true classes.

  A class counts as among the k largest if fewer than k other logits are equal
  to its own or larger: ties, and so a constant network, count as wrong.

  Args:
    logits: [N, K], N at least 1.
    labels: int [N], classes 0..K-1.

  Returns:
    The figures, in float64.

  Raises:
    InputError: shapes that do not fit, labels that are no class, or logits that
      are not finite.
  """
  logits = np.asarray(logits, np.float64)
  labels = np.asarray(labels)
  if logits.ndim != 2 or labels.shape != logits.shape[:1] or not labels.size:
    raise InputError(
      f'logits {list(logits.shape)} and labels {list(labels.shape)}; right is '
      '[N, K] and [N]'
    )
  if not np.isfinite(logits).all():
    raise InputError('logits are not finite')
  low, high, classes = labels.min(), labels.max(), logits.shape[1]
  if low < 0 or high >= classes:
    raise InputError(
      f'labels {low} to {high}; right are classes 0 to {classes - 1}'
    )
  own = np.take_along_axis(logits, labels[:, None], axis=1)
  rivals = (logits >= own).sum(axis=1) - 1
  shifted = logits - logits.max(axis=1, keepdims=True)
  surprise = np.log(np.exp(shifted).sum(axis=1)) - np.take_along_axis(
    shifted, labels[:, None], axis=1
  ).squeeze(1)
  return Classification(
    top1=float((rivals < 1).mean()),
    top5=float((rivals < 5).mean()),
    cross_entropy=float(surprise.mean()),
    count=len(labels),
  )


def over_runs(values: Sequence[float]) -> dict[str, Any]:
  """Mean and sample standard deviation of a figure over runs.

  Args:
    values: one a run (seed, initialisation), at least one.

  Returns:
    {'mean', 'std' (divisor n - 1; None for one run), 'n'}.

  Raises:
    InputError: no value.
  """
  found = np.asarray(values, np.float64)
  if not found.size:
    raise InputError('there is no run to take the mean of')
  std = float(found.std(ddof=1)) if found.size > 1 else None
  return {'mean': float(found.mean()), 'std': std, 'n': int(found.size)}


def accuracy_entry(runs: Sequence[Classification]) -> dict[str, Any]:
  """The fields `accuracy` and `top5` of a report's entry, in percent.

  Args:
    runs: one judgement a run.

  Returns:
    {'accuracy': {'mean', 'std', 'n'}, 'top5': likewise}, for `entry | found`.

  Raises:
    InputError: no run.
  """
  return {
    'accuracy': over_runs([100 * run.top1 for run in runs]),
    'top5': over_runs([100 * run.top5 for run in runs]),
  }
