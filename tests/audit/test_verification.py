"""The protocol's golden cases, and what must not change a metric."""

import numpy as np
import pytest

from compress import audit
from compress.audit import curves
from compress.errors import InputError

INDEX = np.arange(40)
GENUINE = INDEX % 2 == 0
DISTANCE = np.where(
  GENUINE,
  0.603 + 0.06 * ((7 * INDEX) % 11),
  1.003 + 0.06 * ((5 * INDEX) % 13),
)
SCORES = 1 - DISTANCE / 2
GOOD, BAD = SCORES[GENUINE], SCORES[~GENUINE]


def random_case(seed, *, ties=False, n=60):
  rng = np.random.default_rng(seed)
  genuine = rng.random(n) < 0.4
  genuine[:2] = True, False
  scores = rng.normal(size=n) + genuine
  if ties:
    scores = np.round(scores * 2) / 2
  return scores, genuine, rng


def test_toy_roc_vertices():
  roc = audit.roc(GOOD, BAD)
  points = set(zip(roc.far.round(9), roc.tar.round(9), strict=True))
  assert {(0, 0.65), (0.1, 0.75), (0.15, 0.8), (0.25, 0.9), (0.35, 1)} <= points
  assert roc.thresholds[0] == np.inf
  assert (np.diff(roc.far) >= 0).all() and (np.diff(roc.tar) >= 0).all()


@pytest.mark.parametrize(
  ('mode', 'at_1', 'at_20'),
  [('le', 0.65, 0.8), ('nearest', 0.65, 0.9), ('interp', 0.65, 0.8)],
)
def test_toy_tar_at_far(mode, at_1, at_20):
  found = audit.tar_at_far(GOOD, BAD, 0.01, mode=mode, strict=False)
  assert found == pytest.approx(at_1)
  found = audit.tar_at_far(GOOD, BAD, 0.2, mode=mode)
  assert found == pytest.approx(at_20)


def test_toy_auc_and_eer():
  assert audit.auc(GOOD, BAD) == pytest.approx(0.9225)
  # FMR rises from 0.15 to 0.25 while FNMR stays at 0.2.
  assert audit.eer(GOOD, BAD) == pytest.approx(0.2)


def test_unmeasurable_far_is_nan_with_a_reason():
  assert np.isnan(audit.tar_at_far(GOOD, BAD, 0.01))
  assert 'not measurable with 20 impostor pairs' in audit.far_note(0.01, 20)
  assert 'fewer than 30' in audit.far_note(0.1, 200)
  assert audit.far_note(0.1, 300) == ''
  assert audit.tar_at_far(GOOD, BAD, 0.05) == pytest.approx(0.65)


def test_le_counts_exactly_at_the_target():
  good, bad = [0.9, 0.5, 0.1], [0.8, 0.4, 0.3, 0.2]
  assert audit.tar_at_far(good, bad, 0.25) == pytest.approx(2 / 3)
  assert audit.tar_at_far(good, bad, 0.5) == pytest.approx(2 / 3)
  assert audit.tar_at_far(good, bad, 1) == 1


def test_interp_is_linear_through_ties():
  good, bad = [0.9, 0.5], [0.5, 0.1]
  assert audit.tar_at_far(good, bad, 0.5, mode='interp') == 1
  assert audit.tar_at_far(
    good, bad, 0.25, mode='interp', strict=False
  ) == pytest.approx(0.75)
  assert audit.eer(good, bad) == pytest.approx(1 / 4)


@pytest.mark.parametrize(
  ('good', 'bad', 'eer'),
  [
    ([1.0, 0.9], [0.1, 0.2, 0.3], 0.0),
    ([0.1, 0.2], [0.9, 0.8], 1.0),
    ([0.5], [0.5], 0.5),
    ([0.9, 0.2], [0.5, 0.1], 0.5),
  ],
)
def test_eer_by_hand(good, bad, eer):
  assert audit.eer(good, bad) == pytest.approx(eer)


def test_d_prime_by_hand():
  # Means 3 and 0, variances 1 and 4.
  assert audit.d_prime([2, 4], [-2, 2]) == pytest.approx(3 / np.sqrt(2.5))
  assert audit.d_prime([1.0], [0.0]) == np.inf


@pytest.mark.parametrize('ties', [False, True])
@pytest.mark.parametrize('seed', range(5))
def test_auc_and_eer_against_their_definitions(seed, ties):
  scores, genuine, _ = random_case(seed, ties=ties)
  good, bad = scores[genuine], scores[~genuine]
  above = np.mean(good[:, None] > bad) + np.mean(good[:, None] == bad) / 2
  assert audit.auc(good, bad) == pytest.approx(above)
  levels = np.append(np.sort(scores)[::-1], -np.inf)
  fmr = np.append(0, np.mean(bad >= levels[:, None], axis=1))
  fnmr = np.append(1, np.mean(good < levels[:, None], axis=1))
  t = np.arange(len(fmr))
  fine = np.linspace(0, t[-1], 200001)
  gap = np.abs(np.interp(fine, t, fmr) - np.interp(fine, t, fnmr))
  at = fine[np.argmin(gap)]
  assert audit.eer(good, bad) == pytest.approx(np.interp(at, t, fmr), abs=1e-4)


METRICS = {
  'eer': audit.eer,
  'auc': audit.auc,
  'le': lambda g, i, **w: audit.tar_at_far(g, i, 0.2, **w),
  'interp': lambda g, i, **w: audit.tar_at_far(g, i, 0.2, mode='interp', **w),
  'nearest': lambda g, i, **w: audit.tar_at_far(g, i, 0.2, mode='nearest', **w),
}


@pytest.mark.parametrize('name', METRICS)
def test_invariant_to_monotone_transforms_and_order(name):
  scores, genuine, rng = random_case(3)
  good, bad = scores[genuine], scores[~genuine]
  value = METRICS[name](good, bad)
  assert METRICS[name](np.exp(3 * good), np.exp(3 * bad)) == value
  assert METRICS[name](rng.permutation(good), rng.permutation(bad)) == value


@pytest.mark.parametrize('ties', [False, True])
@pytest.mark.parametrize('name', [*(n for n in METRICS if n != 'nearest'), 'd'])
def test_weights_are_repetitions(name, ties):
  metric = METRICS.get(name, audit.d_prime)
  scores, genuine, rng = random_case(7, ties=ties)
  counts = rng.integers(0, 3, size=(4, len(scores)))
  rows = metric(
    scores[genuine],
    scores[~genuine],
    genuine_weights=counts[:, genuine],
    impostor_weights=counts[:, ~genuine],
  )
  for row, count in zip(rows, counts, strict=True):
    index = np.repeat(np.arange(len(scores)), count)
    s, g = scores[index], genuine[index]
    assert row == pytest.approx(metric(s[g], s[~g]), abs=1e-12)


def test_weightless_class_is_nan():
  weights = np.zeros((2, len(BAD)))
  weights[0] = 1
  rows = audit.eer(GOOD, BAD, impostor_weights=weights)
  assert rows[0] == pytest.approx(0.2) and np.isnan(rows[1])


def test_tar_rises_with_far():
  for mode in ('le', 'nearest', 'interp'):
    tars = [
      audit.tar_at_far(GOOD, BAD, far, mode=mode, strict=False)
      for far in np.linspace(0, 1, 41)
    ]
    assert (np.diff(tars) >= 0).all()


def test_threshold_at_far():
  scores = [0.1, 0.2, 0.3, 0.3]
  assert np.mean(np.array(scores) >= audit.threshold_at_far(scores, 0.5)) == 0.5
  assert audit.threshold_at_far(scores, 0.25) > 0.3
  assert audit.threshold_at_far(scores, 1) == -np.inf
  fmr, fnmr = audit.error_rates([0.9, 0.5, 0.6, 0.1], [1, 1, 0, 0], 0.6)
  assert (fmr, fnmr) == (0.5, 0.5)


def test_cosine_scores():
  x = np.array([[3, 4], [4, 3], [-3, -4], [0, 2]], np.float32)
  scores = audit.cosine_scores(x, [[0, 1], [0, 2], [0, 3]])
  np.testing.assert_allclose(scores, [0.96, -1, 0.8], rtol=1e-12)
  assert scores.dtype == np.float64


def test_corners_are_where_the_curve_turns():
  ranking = curves.rank_pairs(
    [0.9, 0.8, 0.7, 0.6, 0.5, 0.5, 0.4, 0.3], [1, 1, 0, 0, 1, 0, 1, 0]
  )
  corners = zip(ranking.false_accepts, ranking.true_accepts, strict=True)
  assert list(corners) == [(0, 0), (0, 2), (2, 2), (3, 3), (3, 4), (4, 4)]


def test_det_curve_is_thinned():
  scores, genuine, _ = random_case(1)
  points = audit.det_curve(scores, genuine, points=5)
  assert len(points['fmr']) == len(points['fnmr']) == 5
  assert points['fmr'][0] == 0 and points['fnmr'][-1] == 0


@pytest.mark.parametrize(
  ('call', 'match'),
  [
    (
      lambda: audit.cosine_scores([[1, 0], [0, 0]], [[0, 1]]),
      'image 1 is all zero',
    ),
    (
      lambda: audit.cosine_scores([[1, 0], [0, np.nan]], [[0, 1]]),
      'image 1 is not finite',
    ),
    (lambda: audit.cosine_scores(np.eye(2), [[0, 2]]), 'images 0..1'),
    (lambda: audit.cosine_scores(np.eye(2), [0, 1]), r'\[P, 2\]'),
    (lambda: audit.cosine_scores(np.ones(3), [[0, 1]]), r'\[N, D\]'),
    (lambda: audit.eer([0.1, np.nan], [0.2]), 'not finite'),
    (lambda: audit.eer([0.1], []), 'no impostor pairs'),
    (lambda: audit.eer([], [0.1]), 'no genuine pairs'),
    (lambda: audit.tar_at_far([1.0], [0.0], 2), 'far must lie in 0..1'),
    (lambda: audit.tar_at_far([1.0], [0.0], 1, mode='x'), 'mode'),
    (lambda: audit.eer([1.0], [0.0], genuine_weights=[-1.0]), 'at least 0'),
    (lambda: audit.eer([1.0], [0.0], genuine_weights=[1.0, 1]), 'weights'),
  ],
)
def test_bad_input(call, match):
  with pytest.raises(InputError, match=match):
    call()
