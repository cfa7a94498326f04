"""One call from embeddings to the entries of a report.

`summarize` judges one model, alone or against a reference that sees the same
images, and returns the fields `verification`, `groups`, `groups_global`,
`difference`, `flips` and `agreement` of a report's entry: plain JSON types,
rates in percent, differences in percentage points. What is not defined is None
with a sibling `<field>_note` that says why.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from compress.audit import fairness, fields
from compress.audit.accuracy import ten_fold_accuracy
from compress.audit.agreement import agreement
from compress.audit.bootstrap import (
  FARS,
  draw_subjects,
  independent_pairs,
  pair_subjects,
  verification_figures,
)
from compress.audit.curves import check_pairs
from compress.audit.fields import put
from compress.audit.folds import contiguous_folds, identity_disjoint_folds
from compress.audit.scores import cosine_scores
from compress.audit.verification import (
  auc,
  check_far,
  d_prime,
  far_note,
  threshold_at_far,
)
from compress.errors import InputError


@dataclasses.dataclass(frozen=True)
class Protocol:
  """How verification is judged; the same for every model of a report.

  Attributes:
    fars: false accept rates of TAR at FAR, 0..1.
    mode: of `tar_at_far`.
    operating_far: false accept rate of the operating threshold, at which flips
      and the groups' FMR and FNMR are read; where the impostor pairs cannot
      measure it, the next larger one of `fars` is used.
    n_folds: folds of the accuracy where none are given.
    grid: of `ten_fold_accuracy`; 0.01 for InsightFace's protocol.
    balanced: weigh genuine and impostor pairs equally in the accuracy.
    decimals: of `fairness.spread`.
    draws: of the bootstrap over subjects; 0 for no intervals.
    seed: of the draws and of the folds.
    level: coverage of the intervals.
  """

  fars: tuple[float, ...] = FARS
  mode: str = 'le'
  operating_far: float = 1e-3
  n_folds: int = 10
  grid: float | None = None
  balanced: bool = True
  decimals: int | None = 2
  draws: int = 1000
  seed: int = 0
  level: float = 0.95

  def __post_init__(self):
    for far in (*self.fars, self.operating_far):
      check_far(far, self.mode)
    if self.draws < 0 or self.n_folds < 2 or not 0 < self.level < 1:
      raise InputError(
        'a protocol needs draws >= 0, n_folds >= 2 and a level in 0..1, got '
        f'{self.draws}, {self.n_folds}, {self.level}'
      )


class _Judged(NamedTuple):
  """One model: point estimates (leading axis 1) and bootstrap samples [B]."""

  scores: np.ndarray
  threshold: float
  point: dict[str, np.ndarray]
  samples: dict[str, np.ndarray] | None
  group_point: fairness.GroupReport | None
  group_samples: fairness.GroupReport | None


def summarize(
  embeddings,
  pairs,
  genuine,
  *,
  identities=None,
  groups=None,
  folds=None,
  reference=None,
  protocol: Protocol | None = None,
) -> dict[str, Any]:
  """Judges a model on a verification set.

  Args:
    embeddings: real [N, D], the model's.
    pairs: int [P, 2], indices of images.
    genuine: bool [P].
    identities: int [N], for the bootstrap over subjects; None draws pairs.
    groups: str [P], group of each pair, '' across groups; None for no groups.
    folds: int [P], -1 to leave a pair out; None makes folds that share no
      person, or contiguous blocks without identities.
    reference: real [N, E], the reference's embeddings of the same images; None
      when the model is the reference itself.
    protocol: the Protocol; its defaults if None.

  Returns:
    'verification': eer, tar_at_far {'1e-1', ...}, accuracy, accuracy_std (over
    folds), interval, auc, d_prime, the numbers of pairs, threshold, protocol
    (text) and cautions (list of text). With groups: 'groups' and
    'groups_global'. With a reference: 'difference' (with `not_resolved`, the
    figures whose interval holds 0), 'flips' (at the reference's threshold) and
    'agreement'.

  Raises:
    InputError: bad embeddings, pairs, labels, groups or folds.
  """
  protocol = protocol or Protocol()
  genuine = np.asarray(genuine, bool)
  scores, genuine = check_pairs(cosine_scores(embeddings, pairs), genuine)
  if identities is None:
    subjects = independent_pairs(len(scores))
  else:
    subjects = pair_subjects(identities, pairs, genuine)
  strata = None
  if groups is not None:
    groups = np.asarray(groups)
    strata = fairness.subject_strata(groups, subjects)
  folds, kind = _choose_folds(folds, identities, pairs, strata, protocol)
  counts = None
  if protocol.draws:
    counts = draw_subjects(
      subjects.count, draws=protocol.draws, seed=protocol.seed, strata=strata
    )
  common = (genuine, groups, folds, subjects, counts, protocol)
  own = _judge(scores, *common)
  result = {'verification': _verification(own, genuine, folds, kind, protocol)}
  if identities is None and protocol.draws:
    result['verification']['cautions'].append(
      'No identities are known, so the intervals take pairs as independent; '
      'they are too narrow where pairs share people.'
    )
  if groups is not None:
    result.update(_groups(own, genuine, groups, protocol))
  if reference is not None:
    base = _judge(cosine_scores(reference, pairs), *common)
    result['difference'] = _difference(
      own, base, protocol, int((~genuine).sum())
    )
    result.update(_agreement(embeddings, reference, own, base, genuine))
  return result


def _choose_folds(folds, identities, pairs, strata, protocol):
  if folds is not None:
    count = len(np.unique(np.asarray(folds)[np.asarray(folds) >= 0]))
    return np.asarray(folds), f'{count} given folds'
  if identities is None:
    count = min(protocol.n_folds, len(pairs))
    return contiguous_folds(len(pairs), count), f'{count} contiguous folds'
  people = len(np.unique(np.asarray(identities)[np.asarray(pairs)]))
  sizes = [] if strata is None else np.unique(strata, return_counts=True)[1]
  # A group of fewer than four people has no folds, and shall not decide.
  sizes = [int(size) for size in sizes if size >= 4]
  count = min(protocol.n_folds, *(n // 2 for n in (people, *sizes)))
  if count < 2:
    return None, 'best threshold (too few people for folds)'
  folds = identity_disjoint_folds(
    identities, pairs, n_folds=count, seed=protocol.seed, strata=strata
  )
  return folds, f'{count} folds that share no person'


def _judge(scores, genuine, groups, folds, subjects, counts, protocol):
  impostors = scores[~genuine]
  options = dict(
    fars=protocol.fars,
    mode=protocol.mode,
    folds=folds,
    grid=protocol.grid,
    balanced=protocol.balanced,
  )
  far = _operating_far(protocol, len(impostors))
  threshold = threshold_at_far(impostors, far)
  once = np.ones((1, subjects.count), np.int32)

  def figures(counts):
    return verification_figures(scores, genuine, subjects, counts, **options)

  def by_group(counts):
    return fairness.group_report(
      scores,
      genuine,
      groups,
      subjects,
      counts,
      threshold=threshold,
      decimals=protocol.decimals,
      **options,
    )

  draw, grouped = counts is not None, groups is not None
  return _Judged(
    scores=scores,
    threshold=threshold,
    point=figures(once),
    samples=figures(counts) if draw else None,
    group_point=by_group(once) if grouped else None,
    group_samples=by_group(counts) if draw and grouped else None,
  )


def _operating_far(protocol: Protocol, impostors: int) -> float:
  """The operating FAR, or the next larger one that can be measured."""
  larger = sorted(x for x in protocol.fars if x > protocol.operating_far)
  for far in (protocol.operating_far, *larger):
    if not far_note(far, impostors, reason_only=True):
      return far
  return max(protocol.operating_far, *larger, 1 / impostors)


def _verification(own, genuine, folds, kind, protocol) -> dict[str, Any]:
  impostors = int((~genuine).sum())
  entry = fields.verification_fields(
    own.point,
    own.samples,
    fars=protocol.fars,
    level=protocol.level,
    impostors=impostors,
  )
  good, bad = own.scores[genuine], own.scores[~genuine]
  if folds is not None:
    spread = ten_fold_accuracy(
      own.scores,
      genuine,
      folds=folds,
      grid=protocol.grid,
      balanced=protocol.balanced,
    ).std
    put(entry, 'accuracy_std', 100 * spread, 'no fold is defined')
  put(entry, 'auc', auc(good, bad), 'not defined')
  put(entry, 'd_prime', d_prime(good, bad), 'the scores do not vary')
  entry['genuine_pairs'] = int(genuine.sum())
  entry['impostor_pairs'] = impostors
  entry['operating_far'] = _operating_far(protocol, impostors)
  put(entry, 'threshold', own.threshold, 'everything is accepted')
  weight = 'both classes weigh the same' if protocol.balanced else 'per pair'
  entry['protocol'] = f'accuracy over {kind}, {weight}'
  cautions = [far_note(far, impostors) for far in protocol.fars]
  entry['cautions'] = [x for x in cautions if x]
  if entry['eer'] == 0:
    entry['cautions'].append(
      'No error was seen, so the bootstrap interval of the EER has no width; '
      'this does not show that errors cannot happen.'
    )
  return entry


def _groups(own, genuine, groups, protocol) -> dict[str, Any]:
  point, samples = own.group_point, own.group_samples
  per_group = fields.group_fields(
    point,
    samples,
    fars=protocol.fars,
    level=protocol.level,
    genuine_pairs=[int((genuine & (groups == x)).sum()) for x in point.names],
    impostor_pairs=[int((~genuine & (groups == x)).sum()) for x in point.names],
  )
  one = fields.global_fields(point, samples, level=protocol.level)
  put(one, 'threshold', own.threshold, 'everything is accepted')
  return {'groups': per_group, 'groups_global': one}


def _difference(own, base, protocol, impostors: int) -> dict[str, Any]:
  draw = own.samples is not None
  entry = fields.verification_fields(
    {k: v - base.point[k] for k, v in own.point.items()},
    {k: v - base.samples[k] for k, v in own.samples.items()} if draw else None,
    fars=protocol.fars,
    level=protocol.level,
    impostors=impostors,
  )
  intervals = dict(entry['interval']) if draw else {}
  if own.group_point is not None:
    for place, rates, key in (
      ('groups', 'accuracy', 'spread'),
      ('groups_global', 'accuracy_global', 'spread_global'),
    ):
      nested = fields.group_difference(
        (own.group_point, base.group_point),
        (own.group_samples, base.group_samples) if draw else None,
        rates,
        key,
        level=protocol.level,
      )
      entry[place] = nested
      intervals[place] = nested.get('interval', {}) | {
        name: nested[name].get('interval', {}) for name in own.group_point.names
      }
  if draw:
    entry['not_resolved'] = sorted(fields.holding_zero(intervals))
  return entry


def _agreement(embeddings, reference, own, base, genuine) -> dict[str, Any]:
  found = agreement(
    reference,
    embeddings,
    base.scores,
    own.scores,
    genuine,
    reference_threshold=base.threshold,
    threshold=own.threshold,
  )
  entry = {
    'embedding_cosine': found.embedding_cosine,
    'least_embedding_cosine': found.least_embedding_cosine,
  }
  put(entry, 'score_correlation', found.score_correlation, 'scores do not vary')
  entry['recalibrated_flips'] = found.recalibrated._asdict()
  return {'flips': found.fixed._asdict(), 'agreement': entry}
