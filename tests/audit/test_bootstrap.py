import numpy as np
import pytest

from compress import audit
from compress.audit import bootstrap
from compress.errors import InputError


def people(count=8, photos=4, *, noise=0.9, seed=0):
  """Embeddings, identities, all pairs and labels of made-up people."""
  rng = np.random.default_rng(seed)
  identities = np.repeat(np.arange(count), photos)
  centres = rng.normal(size=(count, 16))
  x = centres[identities] + noise * rng.normal(size=(len(identities), 16))
  pairs = np.stack(np.triu_indices(len(x), 1), axis=1)
  genuine = identities[pairs[:, 0]] == identities[pairs[:, 1]]
  return x, identities, pairs, genuine


def test_golden_weights():
  # Subjects A, B, C drawn (2, 0, 1) times.
  left, right = np.array([0, 1, 2, 0, 0, 1]), np.array([0, 1, 2, 1, 2, 2])
  subjects = audit.Subjects(left, right, 3)
  weights = audit.pair_weights([2, 0, 1], subjects)
  assert weights.tolist() == [2, 0, 1, 0, 2, 0]
  found = bootstrap.map_draws(
    lambda weigh: {'w': weigh(np.arange(6))}, np.array([[2, 0, 1]]), subjects
  )
  np.testing.assert_array_equal(found['w'], [weights])


def test_draws_are_deterministic_and_keep_strata():
  strata = np.array(['a', 'b', 'a', 'b', 'b'])
  draws = audit.draw_subjects(5, draws=50, seed=3, strata=strata)
  again = audit.draw_subjects(5, draws=50, seed=3, strata=strata)
  np.testing.assert_array_equal(draws, again)
  assert (draws.sum(axis=1) == 5).all()
  assert (draws[:, strata == 'a'].sum(axis=1) == 2).all()
  other = audit.draw_subjects(5, draws=50, seed=4, strata=strata)
  assert (draws != other).any()


def test_draws_are_multinomial():
  draws = audit.draw_subjects(4, draws=20000)
  np.testing.assert_allclose(draws.mean(axis=0), 1, atol=0.03)
  np.testing.assert_allclose(draws.var(axis=0), 0.75, atol=0.03)


def test_figures_of_ones_are_the_plain_metrics():
  x, identities, pairs, genuine = people()
  scores = audit.cosine_scores(x, pairs)
  subjects = audit.pair_subjects(identities, pairs, genuine)
  folds = audit.contiguous_folds(len(scores), 4)
  ones = np.ones((1, subjects.count), int)
  found = audit.verification_figures(
    scores, genuine, subjects, ones, folds=folds, fars=(1e-1, 1e-2, 1e-3)
  )
  good, bad = scores[genuine], scores[~genuine]
  assert found['eer'][0] == audit.eer(good, bad)
  tars = [audit.tar_at_far(good, bad, far) for far in (1e-1, 1e-2, 1e-3)]
  np.testing.assert_array_equal(found['tar_at_far'][0], tars)
  assert np.isnan(tars[2])
  accuracy = audit.ten_fold_accuracy(scores, genuine, folds=folds).mean
  assert found['accuracy'][0] == accuracy


def test_rows_do_not_depend_on_each_other():
  x, identities, pairs, genuine = people()
  scores = audit.cosine_scores(x, pairs)
  subjects = audit.pair_subjects(identities, pairs, genuine)
  counts = audit.draw_subjects(subjects.count, draws=40)
  found = audit.verification_figures(scores, genuine, subjects, counts)
  for row in range(40):
    one = audit.verification_figures(
      scores, genuine, subjects, counts[row : row + 1]
    )
    for key, value in found.items():
      np.testing.assert_array_equal(value[row], one[key][0])


def test_a_draw_is_the_model_judged_on_the_drawn_people():
  x, identities, pairs, genuine = people()
  scores = audit.cosine_scores(x, pairs)
  subjects = audit.pair_subjects(identities, pairs, genuine)
  counts = audit.draw_subjects(subjects.count, draws=3, seed=1)
  found = audit.verification_figures(
    scores, genuine, subjects, counts, fars=(0.1,)
  )
  for row, count in enumerate(counts):
    weights = audit.pair_weights(count, subjects).astype(int)
    index = np.repeat(np.arange(len(scores)), weights)
    s, g = scores[index], genuine[index]
    assert found['eer'][row] == pytest.approx(audit.eer(s[g], s[~g]))
    tar = audit.tar_at_far(s[g], s[~g], 0.1)
    assert found['tar_at_far'][row, 0] == pytest.approx(tar)
    assert found['accuracy'][row] == pytest.approx(audit.best_accuracy(s, g)[0])


def test_degenerate_draws_are_left_out():
  x, identities, pairs, genuine = people(count=2)
  scores = audit.cosine_scores(x, pairs)
  subjects = audit.pair_subjects(identities, pairs, genuine)
  found = audit.bootstrap_intervals(scores, genuine, subjects, draws=100)
  # Half of the draws hold one person only.
  assert 30 < found['undefined'] < 70
  assert np.isfinite(found['eer']).all()


def test_paired_difference():
  x, identities, pairs, genuine = people(noise=1.4)
  rng = np.random.default_rng(5)
  scores = audit.cosine_scores(x, pairs)
  near = audit.cosine_scores(x + 0.05 * rng.normal(size=x.shape), pairs)
  subjects = audit.pair_subjects(identities, pairs, genuine)
  same = audit.bootstrap_intervals(
    scores, genuine, subjects, reference_scores=scores, draws=200
  )
  assert not same['difference']['eer'].any()
  assert not same['difference']['accuracy'].any()
  paired = audit.bootstrap_intervals(
    near, genuine, subjects, reference_scores=scores, draws=200
  )
  width = np.diff(paired['difference']['eer'])
  assert width < np.diff(paired['eer']) / 2


def test_percentile_interval():
  samples = np.arange(1001.0)
  np.testing.assert_allclose(audit.percentile_interval(samples), [25, 975])
  samples[0] = np.nan
  assert np.isfinite(audit.percentile_interval(samples)).all()
  samples[500:] = np.inf
  low, high = audit.percentile_interval(samples)
  assert np.isfinite(low) and high == np.inf
  assert np.isnan(audit.percentile_interval([np.nan, 1.0])).all()


def test_pairs_as_units():
  x, _, pairs, genuine = people()
  scores = audit.cosine_scores(x, pairs)
  subjects = audit.independent_pairs(len(scores))
  counts = audit.draw_subjects(subjects.count, draws=2)
  np.testing.assert_array_equal(audit.pair_weights(counts, subjects), counts)
  found = audit.bootstrap_intervals(scores, genuine, subjects, draws=50)
  low, high = found['eer']
  assert low <= audit.eer(scores[genuine], scores[~genuine]) <= high


def test_bad_input():
  with pytest.raises(InputError, match='pair 0 is marked genuine'):
    audit.pair_subjects([3, 4], [[0, 1]], [True])
  with pytest.raises(InputError, match='nothing to draw'):
    audit.draw_subjects(0)
  with pytest.raises(InputError, match='strata'):
    audit.draw_subjects(3, strata=[0, 1])
  with pytest.raises(InputError, match='level'):
    audit.percentile_interval([1.0, 2.0], level=95)
