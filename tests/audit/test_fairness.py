"""The published table of four groups, and fairness at one threshold."""

import numpy as np
import pytest

from compress import audit
from compress.errors import InputError
from tests.audit.test_bootstrap import people

# Accuracy in % of Caucasian, Indian, Asian, African; printed average, STD, SER;
# STD with ddof 1, with ddof 0, SER; errors in 6000 pairs of each group.
ROWS = (
  # MobileFaceNets, 32 bits, float
  (
    (95.18, 92.00, 89.93, 90.22),
    (91.83, 2.41, 2.09),
    (2.4120, 2.0889, 2.0892),
    (289, 480, 604, 587),
  ),
  # MobileFaceNets, 8 bits, Real
  (
    (95.32, 91.60, 89.27, 90.08),
    (91.57, 2.68, 2.29),
    (2.6816, 2.3224, 2.2927),
    (281, 504, 644, 595),
  ),
  # MobileFaceNets, 8 bits, Synth
  (
    (94.18, 91.83, 88.85, 89.72),
    (91.15, 2.38, 1.92),
    (2.3789, 2.0602, 1.9158),
    (349, 490, 669, 617),
  ),
  # MobileFaceNets, 6 bits, Real
  (
    (90.05, 86.52, 82.88, 83.18),
    (85.66, 3.36, 1.72),
    (3.3611, 2.9108, 1.7206),
    (597, 809, 1027, 1009),
  ),
  # MobileFaceNets, 6 bits, Synth
  (
    (89.97, 86.95, 83.13, 84.40),
    (86.11, 3.02, 1.68),
    (3.0227, 2.6177, 1.6820),
    (602, 783, 1012, 936),
  ),
  # ResNet-18, 32 bits, float
  (
    (97.48, 95.38, 93.72, 94.27),
    (95.21, 1.66, 2.49),
    (1.6619, 1.4392, 2.4921),
    (151, 277, 377, 344),
  ),
  # ResNet-18, 8 bits, Real
  (
    (97.42, 95.33, 93.55, 94.20),
    (95.13, 1.70, 2.50),
    (1.6976, 1.4701, 2.5000),
    (155, 280, 387, 348),
  ),
  # ResNet-18, 8 bits, Synth
  (
    (96.95, 95.07, 93.30, 93.87),
    (94.80, 1.61, 2.20),
    (1.6135, 1.3973, 2.1967),
    (183, 296, 402, 368),
  ),
  # ResNet-18, 6 bits, Real
  (
    (96.93, 94.65, 92.52, 93.22),
    (94.33, 1.95, 2.44),
    (1.9468, 1.6860, 2.4365),
    (184, 321, 449, 407),
  ),
  # ResNet-18, 6 bits, Synth
  (
    (96.80, 94.78, 92.35, 93.28),
    (94.30, 1.94, 2.39),
    (1.9428, 1.6825, 2.3906),
    (192, 313, 459, 403),
  ),
  # ResNet-50, 32 bits, float
  (
    (99.00, 98.15, 97.62, 98.32),
    (98.27, 0.57, 2.38),
    (0.5693, 0.4930, 2.3800),
    (60, 111, 143, 101),
  ),
  # ResNet-50, 8 bits, Real
  (
    (99.07, 98.07, 97.65, 98.40),
    (98.30, 0.60, 2.53),
    (0.5995, 0.5192, 2.5269),
    (56, 116, 141, 96),
  ),
  # ResNet-50, 8 bits, Synth
  (
    (99.02, 97.72, 97.33, 97.88),
    (97.99, 0.73, 2.72),
    (0.7261, 0.6288, 2.7245),
    (59, 137, 160, 127),
  ),
  # ResNet-50, 6 bits, Real
  (
    (98.32, 96.27, 94.55, 95.87),
    (96.25, 1.56, 3.24),
    (1.5620, 1.3527, 3.2440),
    (101, 224, 327, 248),
  ),
  # ResNet-50, 6 bits, Synth
  (
    (97.95, 96.63, 94.97, 96.20),
    (96.44, 1.23, 2.45),
    (1.2295, 1.0647, 2.4537),
    (123, 202, 302, 228),
  ),
  # ResNet-100, 32 bits, float
  (
    (99.65, 98.88, 98.50, 99.00),
    (99.01, 0.48, 4.29),
    (0.4784, 0.4143, 4.2857),
    (21, 67, 90, 60),
  ),
  # ResNet-100, 8 bits, Real
  (
    (99.57, 98.87, 98.15, 98.77),
    (98.84, 0.58, 4.30),
    (0.5816, 0.5037, 4.3023),
    (26, 68, 111, 74),
  ),
  # ResNet-100, 8 bits, Synth
  (
    (99.37, 98.72, 98.13, 98.78),
    (98.75, 0.51, 2.97),
    (0.5068, 0.4389, 2.9683),
    (38, 77, 112, 73),
  ),
  # ResNet-100, 6 bits, Real
  (
    (95.27, 93.15, 90.32, 91.70),
    (92.61, 2.12, 2.05),
    (2.1166, 1.8330, 2.0465),
    (284, 411, 581, 498),
  ),
  # ResNet-100, 6 bits, Synth
  (
    (95.93, 93.40, 91.92, 92.60),
    (93.46, 1.75, 1.99),
    (1.7527, 1.5179, 1.9853),
    (244, 396, 485, 444),
  ),
  # R34-BL, 32 bits, float
  (
    (96.60, 94.50, 94.03, 93.37),
    (94.63, 1.40, 1.95),
    (1.3959, 1.2089, 1.9500),
    (204, 330, 358, 398),
  ),
  # R34-BL, 8 bits, BL
  (
    (94.98, 93.60, 92.77, 90.95),
    (93.08, 1.68, 1.80),
    (1.6846, 1.4589, 1.8028),
    (301, 384, 434, 543),
  ),
  # R34-BL, 8 bits, Synth
  (
    (96.03, 94.40, 93.97, 92.50),
    (94.23, 1.45, 1.89),
    (1.4525, 1.2579, 1.8892),
    (238, 336, 362, 450),
  ),
  # R34-BL, 6 bits, BL
  (
    (89.22, 87.87, 86.25, 82.80),
    (86.54, 2.77, 1.60),
    (2.7703, 2.3991, 1.5955),
    (647, 728, 825, 1032),
  ),
  # R34-BL, 6 bits, Synth
  (
    (94.58, 92.88, 91.45, 91.13),
    (92.51, 1.58, 1.64),
    (1.5758, 1.3647, 1.6365),
    (325, 427, 513, 532),
  ),
  # R34-GL, 32 bits, float
  (
    (97.67, 95.52, 94.15, 93.87),
    (95.30, 1.74, 2.63),
    (1.7352, 1.5027, 2.6309),
    (140, 269, 351, 368),
  ),
  # R34-GL, 8 bits, BL
  (
    (95.42, 92.75, 91.83, 89.88),
    (92.47, 2.30, 2.21),
    (2.3021, 1.9937, 2.2096),
    (275, 435, 490, 607),
  ),
  # R34-GL, 8 bits, GL
  (
    (94.70, 92.15, 90.23, 88.75),
    (91.46, 2.57, 2.12),
    (2.5710, 2.2266, 2.1226),
    (318, 471, 586, 675),
  ),
  # R34-GL, 8 bits, Synth
  (
    (97.33, 95.15, 94.17, 93.55),
    (95.05, 1.66, 2.42),
    (1.6566, 1.4346, 2.4157),
    (160, 291, 350, 387),
  ),
)


@pytest.mark.parametrize(('percent', 'printed', 'exact', 'errors'), ROWS)
def test_published_rows(percent, printed, exact, errors):
  found = audit.spread(np.array(percent) / 100)
  values = 100 * found.average, 100 * found.std, found.ser
  np.testing.assert_allclose(values, printed, atol=0.0051)
  np.testing.assert_array_equal(audit.round_half_away(values), printed)
  with_ddof_1, with_ddof_0, ser = exact
  assert values[1] == pytest.approx(with_ddof_1, abs=5.1e-5)
  assert np.std(percent) == pytest.approx(with_ddof_0, abs=5.1e-5)
  assert values[2] == pytest.approx(ser, abs=5.1e-5)
  assert audit.round_half_away(np.std(percent)) != printed[1]


@pytest.mark.parametrize(('percent', 'printed', 'exact', 'errors'), ROWS)
def test_published_accuracies_are_counts(percent, printed, exact, errors):
  accuracy = 1 - np.array(errors) / 6000
  np.testing.assert_array_equal(audit.round_half_away(100 * accuracy), percent)
  found = audit.spread(accuracy)
  values = 100 * found.average, 100 * found.std, found.ser
  np.testing.assert_array_equal(audit.round_half_away(values), printed)


def test_exact_counts_change_the_last_digit_of_ten_rows():
  changed = []
  for number, (_, printed, _, errors) in enumerate(ROWS, start=1):
    found = audit.spread(1 - np.array(errors) / 6000, decimals=None)
    values = 100 * found.average, 100 * found.std, found.ser
    if (audit.round_half_away(values) != printed).any():
      changed.append(number)
  assert changed == [6, 12, 13, 15, 17, 18, 20, 22, 24, 26]


def test_spread_of_equal_and_perfect_groups():
  equal = audit.spread([0.9, 0.9, 0.9])
  assert (equal.std, equal.ser) == (0, 1)
  assert audit.spread([1.0, 1.0]).ser == 1
  assert audit.spread([1.0, 0.9]).ser == np.inf
  assert np.isnan(audit.spread([0.9, np.nan]).ser)
  assert np.isnan(audit.spread([0.9]).std)


def test_round_half_away():
  assert audit.round_half_away([0.125, -0.125, 86.535]).tolist() == [
    0.13,
    -0.13,
    86.54,
  ]


FMR = np.array([1, 2, 4, 1]) * 1e-3
FNMR = np.array([0.01, 0.02, 0.03, 0.02])


def test_differential_measures_golden():
  assert audit.rate_gap(FMR) == pytest.approx(0.003)
  assert audit.rate_gap(FNMR) == pytest.approx(0.02)
  assert audit.fairness_discrepancy_rate(FMR, FNMR) == pytest.approx(0.9885)
  assert audit.inequity_rate(FMR, FNMR) == pytest.approx(3.464102, rel=1e-6)
  assert audit.rate_ratio(FMR) == pytest.approx(4)
  assert audit.rate_ratio(FNMR) == pytest.approx(3)
  assert audit.gini(FMR) == pytest.approx(0.416667, abs=1e-6)
  assert audit.gini(FNMR) == pytest.approx(0.25)
  assert audit.gini(FMR, corrected=False) == pytest.approx(0.3125)
  assert audit.gini(FNMR, corrected=False) == pytest.approx(0.1875)
  assert audit.garbe(FMR, FNMR) == pytest.approx(0.333333, abs=1e-6)
  geometric = audit.max_to_geometric_mean
  assert geometric(FMR) == pytest.approx(2.378414, abs=1e-6)
  assert geometric(FNMR) == pytest.approx(1.611855, abs=1e-6)
  assert np.log10(audit.rate_ratio(FMR)) == pytest.approx(0.60206, abs=1e-6)
  rates = [1.68, 3.73, 5.45, 4.13]
  assert audit.gini(rates) == pytest.approx(0.260396, abs=1e-6)
  assert geometric(rates) == pytest.approx(1.581450, abs=1e-6)


def test_differential_measures_invariances():
  order = [2, 0, 3, 1]
  for measure in (
    audit.fairness_discrepancy_rate,
    audit.inequity_rate,
    audit.garbe,
  ):
    value = measure(FMR, FNMR)
    assert measure(FMR[order], FNMR[order]) == pytest.approx(value)
  assert audit.garbe(7 * FMR, 3 * FNMR) == pytest.approx(audit.garbe(FMR, FNMR))
  assert audit.gini([0, 0, 0, 0.2]) == pytest.approx(1)
  assert audit.gini([0, 0]) == 0
  assert np.isnan(audit.inequity_rate([0, 0.1], [0.1, 0.1]))
  assert np.isnan(audit.max_to_geometric_mean([0, 0.1]))


# Two groups of four genuine and four impostor pairs.
A = (0.9, 0.8, 0.7, 0.6), (0.5, 0.3, 0.2, 0.1)
B = (0.8, 0.6, 0.5, 0.4), (0.65, 0.55, 0.3, 0.2)
TOY = np.concatenate([*A, *B])
TOY_GENUINE = np.tile(np.repeat([True, False], 4), 2)
TOY_GROUPS = np.repeat(['A', 'B'], 8)


def test_global_and_per_group_threshold_golden():
  case = TOY, TOY_GENUINE, TOY_GROUPS
  assert audit.group_accuracy(*case).tolist() == [1, 0.75]
  one = audit.group_accuracy(*case, threshold='global')
  assert one.mean() == 0.8125
  assert audit.best_accuracy(TOY, TOY_GENUINE)[0] == 0.8125
  fmr, fnmr = audit.group_rates(*case, 0.6)
  assert (fmr.tolist(), fnmr.tolist()) == ([0, 0.25], [0, 0.5])


def test_ten_folds_in_each_group():
  rng = np.random.default_rng(0)
  genuine = np.tile(np.arange(40) % 2 == 0, 3)
  groups = np.repeat(['x', 'y', 'z'], 40)
  scores = rng.normal(size=120) / 4 + 0.5 * genuine
  folds = np.tile(audit.contiguous_folds(40), 3)
  found = audit.group_accuracy(scores, genuine, groups, folds=folds)
  for i, name in enumerate('xyz'):
    m = groups == name
    own = audit.ten_fold_accuracy(scores[m], genuine[m])
    assert found[i] == own.mean
  one = audit.group_accuracy(
    scores, genuine, groups, folds=folds, threshold='global'
  )
  whole = audit.ten_fold_accuracy(scores, genuine, folds=folds)
  assert one.mean() == pytest.approx(whole.mean)
  by_hand = []
  for fold, threshold in enumerate(whole.thresholds):
    right = ((scores >= threshold) == genuine)[folds == fold]
    by_hand.append(right.reshape(3, 4).mean(axis=1))
  np.testing.assert_allclose(one, np.mean(by_hand, axis=0))


def test_group_report_and_its_draws():
  x, identities, pairs, genuine = people(count=8)
  scores = audit.cosine_scores(x, pairs)
  groups = audit.pair_groups(np.where(identities < 3, 'a', 'b'), pairs)
  subjects = audit.pair_subjects(identities, pairs, genuine)
  strata = audit.subject_strata(groups, subjects)
  assert strata.tolist() == ['a'] * 3 + ['b'] * 5
  counts = audit.draw_subjects(subjects.count, draws=5, strata=strata)
  case = scores, genuine, groups, subjects
  options = dict(threshold=0.5, fars=(0.1,))
  point = audit.group_report(*case, **options)
  drawn = audit.group_report(*case, counts, **options)
  assert point.names == ('a', 'b')
  m = groups == 'b'
  own = scores[m & genuine], scores[m & ~genuine]
  assert point.eer[0, 1] == audit.eer(*own)
  assert point.tar_at_far[0, 1, 0] == audit.tar_at_far(*own, 0.1)
  assert point.accuracy[0, 1] == audit.best_accuracy(scores[m], genuine[m])[0]
  for row, count in enumerate(counts):
    weights = audit.pair_weights(count, subjects)
    own = audit.eer(
      scores[m & genuine],
      scores[m & ~genuine],
      genuine_weights=weights[m & genuine],
      impostor_weights=weights[m & ~genuine],
    )
    assert drawn.eer[row, 1] == pytest.approx(own)
    fmr, fnmr = audit.error_rates(
      scores[m], genuine[m], 0.5, weights=weights[m]
    )
    assert drawn.fmr[row, 1] == pytest.approx(fmr)
    assert drawn.fnmr[row, 1] == pytest.approx(fnmr)
  assert drawn.spread.std.shape == drawn.spread_global.ser.shape == (5,)


def test_a_group_without_impostors_is_nan():
  groups = np.where(TOY_GENUINE | (TOY_GROUPS == 'A'), TOY_GROUPS, '')
  found = audit.group_accuracy(TOY, TOY_GENUINE, groups)
  assert found[0] == 1 and np.isnan(found[1])
  fmr, fnmr = audit.group_rates(TOY, TOY_GENUINE, groups, 0.6)
  assert np.isnan(fmr[1]) and fnmr[1] == 0.5
  subjects = audit.independent_pairs(16)
  point = audit.group_report(TOY, TOY_GENUINE, groups, subjects, threshold=0.6)
  assert np.isnan(point.eer[0, 1]) and np.isnan(point.spread.std[0])


def test_pair_groups():
  groups = audit.pair_groups(['a', 'a', 'b'], [[0, 1], [0, 2]])
  assert groups.tolist() == ['a', '']
  assert audit.group_names(groups) == ('a',)


def test_bad_input():
  with pytest.raises(InputError, match="'group' or 'global'"):
    audit.group_accuracy(TOY, TOY_GENUINE, TOY_GROUPS, threshold='own')
  with pytest.raises(InputError, match='groups must be names'):
    audit.group_accuracy(TOY, TOY_GENUINE, [''] * 16)


def test_proportions_golden():
  found = audit.wilson_interval([21, 90], 6000)
  np.testing.assert_allclose(
    found, [[0.002290, 0.005345], [0.012220, 0.018401]], atol=5.1e-7
  )
  assert audit.zero_error_bound(300) == pytest.approx(0.009936, abs=5e-7)
  assert audit.wilson_interval(0, 10)[0] == 0


@pytest.mark.parametrize(
  ('worst', 'best', 'interval'),
  [
    (90, 21, (2.669, 6.882)),
    (111, 26, (2.790, 6.534)),
    (604, 289, (1.825, 2.393)),
  ],
)
def test_ser_interval_golden(worst, best, interval):
  found = audit.ser_interval(worst, best, 6000)
  np.testing.assert_allclose(found, interval, atol=5.1e-4)


def test_homogeneity_golden():
  statistic, p = audit.homogeneity([60, 111, 143, 101], 6000)
  assert statistic == pytest.approx(34.473, abs=5e-4)
  assert p == pytest.approx(1.6e-7, rel=0.02)
  assert np.isnan(audit.homogeneity([0, 0], 10)).all()
  assert np.isnan(audit.ser_interval(3, 0, 10)).all()
  with pytest.raises(InputError, match='errors must lie'):
    audit.wilson_interval(11, 10)
