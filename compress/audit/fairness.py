"""How evenly a model serves groups of people.

Accuracy per group with its average, STD and SER follows the study of race bias
in quantized face networks and RFW's practice (Wang et al. 2019, arXiv
1812.00194): pairs of one group only, ten folds per group, a threshold of its
own for each group. That hides thresholds that do not transfer, so everything
is also offered at one threshold for all groups, with the differential measures
of FMR and FNMR. STD is absolute and SER relative, and they may disagree: read
both. A difference inside its interval is not resolved.

G groups, B draws of subjects, rates 0..1. A pair's group is a string; '' means
that its two images belong to different groups, and leaves it out.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from compress.audit.accuracy import defined_mean, fold_accuracies, plan_folds
from compress.audit.bootstrap import (
  FARS,
  Subjects,
  map_draws,
  verification_figures,
)
from compress.audit.curves import check_pairs
from compress.audit.disparity import Spread, spread
from compress.errors import InputError

MODES = ('group', 'global')


class GroupReport(NamedTuple):
  """Figures per group for B draws of subjects (B = 1: point estimates)."""

  names: tuple[str, ...]
  eer: np.ndarray  # float64 [B, G]
  tar_at_far: np.ndarray  # float64 [B, G, F]
  accuracy: np.ndarray  # float64 [B, G], a threshold per group
  spread: Spread  # of `accuracy`, [B]
  accuracy_global: np.ndarray  # float64 [B, G], one threshold for all
  spread_global: Spread  # of `accuracy_global`, [B]
  fmr: np.ndarray  # float64 [B, G], at the fixed threshold
  fnmr: np.ndarray  # float64 [B, G], at the fixed threshold


def pair_groups(image_groups, pairs) -> np.ndarray:
  """Group of each pair, '' where its images belong to different groups.

  Args:
    image_groups: str [N].
    pairs: int [P, 2].

  Returns:
    str array [P].
  """
  names = np.asarray(image_groups)[np.asarray(pairs)]
  return np.where(names[:, 0] == names[:, 1], names[:, 0], '')


def subject_strata(groups, subjects: Subjects) -> np.ndarray:
  """Group of each subject, for a stratified bootstrap.

  Args:
    groups: str [P], '' for pairs across groups.
    subjects: of the pairs.

  Returns:
    str array [S]: the group of the subject's pairs (the last in alphabetical
    order where there are several), '' where no pair tells.
  """
  names, index = np.unique(np.asarray(groups), return_inverse=True)
  last = np.zeros(subjects.count, int)
  np.maximum.at(last, subjects.left, index)
  np.maximum.at(last, subjects.right, index)
  return names[last]


def group_names(groups) -> tuple[str, ...]:
  """The distinct groups of pairs in alphabetical order, '' left out."""
  return tuple(str(x) for x in np.unique(np.asarray(groups)) if str(x))


def group_accuracy(
  scores,
  genuine,
  groups,
  *,
  threshold: str = 'group',
  folds=None,
  grid: float | None = None,
  balanced: bool = False,
  weigh=None,
) -> np.ndarray:
  """Accuracy of each group on its own pairs.

  Args:
    scores: real [P], cosines.
    genuine: bool [P].
    groups: str [P], '' to leave a pair out.
    threshold: 'group' chooses a threshold for each group, 'global' one on the
      pairs of all groups.
    folds: int [P], -1 to leave a pair out: thresholds are chosen on the other
      folds (RFW: ten folds in each group, group by group); None chooses the
      best one on the judged pairs.
    grid: of `ten_fold_accuracy`.
    balanced: weigh the two classes equally.
    weigh: maps pair indices [n] to weights [B, n], see `map_draws`; None
      weighs all equally.

  Returns:
    float64 [G] in the order of `group_names`, or [B, G] with `weigh`. NaN for
    a group without genuine or impostor pairs, or without two folds.

  Raises:
    InputError: bad scores, shapes or mode, no groups.
  """
  compute = _group_planner(
    scores, genuine, groups, threshold, folds, grid, balanced
  )
  if weigh is None:
    return compute(lambda index: np.ones((1, len(index))))[0]
  return compute(weigh)


def _group_planner(scores, genuine, groups, threshold, folds, grid, balanced):
  """Sorts once; returns weigh -> accuracies [B, G]."""
  if threshold not in MODES:
    raise InputError(
      f"threshold must be 'group' or 'global', got '{threshold}'"
    )
  scores, genuine = check_pairs(scores, genuine)
  groups = np.asarray(groups)
  names = group_names(groups)
  if groups.shape != scores.shape or not names:
    raise InputError(
      f'groups must be names [{len(scores)}], at least one of them not empty; '
      f'got shape {groups.shape}'
    )
  masks = [groups == name for name in names]
  if threshold == 'global':
    members = np.flatnonzero(np.any(masks, axis=0))
    part = np.argmax(masks, axis=0)[members]
    split = [_plan(scores, genuine, folds, members, grid, part)]
  else:
    split = [
      _plan(scores, genuine, folds, np.flatnonzero(mask), grid, None)
      for mask in masks
    ]

  def compute(weigh):
    columns = []
    for members, plan in split:
      if plan is None:
        missing = len(names) if threshold == 'global' else 1
        columns.append(np.full((len(weigh(members[:1])), missing), np.nan))
        continue
      accuracy, _ = fold_accuracies(
        plan, lambda i, m=members: weigh(m[i]), balanced=balanced
      )
      columns.append(defined_mean(accuracy, axis=1))
    return np.concatenate(columns, axis=1)

  return compute


def _plan(scores, genuine, folds, members, grid, part):
  """The members' fold plan, or None where it cannot be made."""
  kept = genuine[members]
  chosen = None if folds is None else np.asarray(folds)[members]
  if not kept.any() or kept.all():
    return members, None
  if chosen is not None and len(np.unique(chosen[chosen >= 0])) < 2:
    return members, None
  return members, plan_folds(
    scores[members], kept, chosen, parts=part, grid=grid
  )


def group_rates(scores, genuine, groups, threshold: float, *, weigh=None):
  """FMR and FNMR of each group at one fixed threshold.

  Args:
    scores: real [P], cosines.
    genuine: bool [P].
    groups: str [P], '' to leave a pair out.
    threshold: cosine; accept where score >= threshold.
    weigh: maps pair indices [n] to weights [B, n]; None weighs all equally.

  Returns:
    (fmr, fnmr), float64 [G] each, or [B, G] with `weigh`; NaN without pairs.

  Raises:
    InputError: bad scores or shapes.
  """
  compute = _rate_planner(scores, genuine, groups, threshold)
  if weigh is None:
    fmr, fnmr = compute(lambda index: np.ones((1, len(index))))
    return fmr[0], fnmr[0]
  return compute(weigh)


def _rate_planner(scores, genuine, groups, threshold):
  """Sorts the pairs into groups once; returns weigh -> (fmr, fnmr)."""
  scores, genuine = check_pairs(scores, genuine)
  groups, accept = np.asarray(groups), scores >= threshold
  split = [
    [
      (index, wrong[index].astype(np.float64))
      for index in (
        np.flatnonzero(kind & (groups == name)) for name in group_names(groups)
      )
    ]
    for kind, wrong in ((~genuine, accept), (genuine, ~accept))
  ]

  def compute(weigh):
    rates = []
    for members in split:
      columns = []
      for index, wrong in members:
        weights = weigh(index)
        with np.errstate(invalid='ignore', divide='ignore'):
          columns.append(weights @ wrong / weights.sum(axis=1))
      rates.append(np.stack(columns, axis=1))
    return tuple(rates)

  return compute


def group_report(
  scores,
  genuine,
  groups,
  subjects: Subjects,
  counts=None,
  *,
  threshold: float,
  fars: Sequence[float] = FARS,
  mode: str = 'le',
  folds=None,
  grid: float | None = None,
  balanced: bool = False,
  decimals: int | None = 2,
) -> GroupReport:
  """All figures of all groups, for draws of subjects.

  Args:
    scores: real [P], cosines.
    genuine: bool [P].
    groups: str [P], '' for pairs across groups, which are left out.
    subjects: of the pairs.
    counts: int [B, S] from `draw_subjects`, stratified by `subject_strata`;
      None for the point estimates (B = 1).
    threshold: cosine at which FMR and FNMR are read, the same in all draws.
    fars: the F false accept rates, each read within a group.
    mode: of `tar_at_far`.
    folds: int [P], or None for the best accuracy; see `group_accuracy`.
    grid: of `ten_fold_accuracy`.
    balanced: weigh the two classes equally in the accuracies.
    decimals: of `spread`.

  Returns:
    The GroupReport; its rows pair with those of another model judged with the
    same `counts`.

  Raises:
    InputError: bad scores, labels, groups, folds, FARs or modes.
  """
  scores, genuine = check_pairs(scores, genuine)
  groups = np.asarray(groups)
  names = group_names(groups)
  if counts is None:
    counts = np.ones((1, subjects.count), np.int32)
  planners = [
    _group_planner(scores, genuine, groups, m, folds, grid, balanced)
    for m in MODES
  ]
  rates = _rate_planner(scores, genuine, groups, threshold)

  def compute(weigh):
    fmr, fnmr = rates(weigh)
    per_group, one_for_all = (planner(weigh) for planner in planners)
    return dict(
      fmr=fmr, fnmr=fnmr, accuracy=per_group, accuracy_global=one_for_all
    )

  folds_count = 1 if folds is None else len(np.unique(folds))
  width = len(scores) * (1 + folds_count)
  found = map_draws(compute, counts, subjects, width=width)
  errors, tars = [], []
  for name in names:
    member = np.flatnonzero(groups == name)
    kept = genuine[member]
    if not kept.any() or kept.all():
      errors.append(np.full(len(counts), np.nan))
      tars.append(np.full((len(counts), len(fars)), np.nan))
      continue
    figures = verification_figures(
      scores[member],
      kept,
      subjects.take(member),
      counts,
      fars=fars,
      mode=mode,
    )
    errors.append(figures['eer'])
    tars.append(figures['tar_at_far'])
  return GroupReport(
    names=names,
    eer=np.stack(errors, axis=1),
    tar_at_far=np.stack(tars, axis=1),
    spread=spread(found['accuracy'], decimals=decimals),
    spread_global=spread(found['accuracy_global'], decimals=decimals),
    **found,
  )
