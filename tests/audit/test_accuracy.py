import numpy as np
import pytest

from compress import audit
from compress.errors import InputError
from tests.audit.test_verification import GENUINE, SCORES, random_case

FOLDS = [0.75, 0.75, 0.75, 0.5, 1, 0.75, 1, 0.75, 0.75, 0.5]
GRID = [1.15, 0.97, 1.21, 0.97, 0.97, 0.97, 0.97, 0.97, 0.97, 1.03]


def test_insightface_golden():
  found = audit.ten_fold_accuracy(SCORES, GENUINE, grid=0.01)
  np.testing.assert_array_equal(found.folds, FOLDS)
  np.testing.assert_allclose(found.thresholds, GRID, rtol=1e-12)
  assert found.mean == 0.75
  assert found.std == pytest.approx(0.158114, abs=1e-6)
  assert np.std(found.folds, ddof=1) == pytest.approx(0.166667, abs=1e-6)


def test_exact_candidates_golden():
  found = audit.ten_fold_accuracy(SCORES, GENUINE)
  np.testing.assert_array_equal(found.folds, FOLDS)
  # Between the training distances 0.963 and 1.003, as a cosine.
  assert found.thresholds[1] == pytest.approx(1 - (0.963 + 1.003) / 4)


def test_best_threshold_is_above_the_cross_validated():
  accuracy, threshold = audit.best_accuracy(SCORES, GENUINE)
  assert accuracy == 0.825
  assert np.mean((SCORES >= threshold) == GENUINE) == 0.825


def brute(scores, genuine, folds, *, grid):
  """Every candidate, one after the other."""
  result = []
  for fold in np.unique(folds[folds >= 0]):
    train, test = (folds != fold) & (folds >= 0), folds == fold
    if grid:
      cuts, key = np.arange(0, 4, grid), 2 - 2 * scores
    else:
      known = np.unique(-scores[train])
      inner = (known[1:] + known[:-1]) / 2
      cuts, key = [-np.inf, *inner, np.inf], -scores
    right = [np.mean((key[train] < cut) == genuine[train]) for cut in cuts]
    cut = cuts[int(np.argmax(right))]
    result.append(np.mean((key[test] < cut) == genuine[test]))
  return np.array(result)


@pytest.mark.parametrize('grid', [None, 0.01])
@pytest.mark.parametrize('ties', [False, True])
@pytest.mark.parametrize('seed', range(6))
def test_against_brute_force(seed, ties, grid):
  scores, genuine, rng = random_case(seed, ties=ties, n=80)
  scores = scores / 8
  folds = rng.integers(-1, 5, size=80)
  found = audit.ten_fold_accuracy(scores, genuine, folds=folds, grid=grid)
  np.testing.assert_allclose(
    found.folds, brute(scores, genuine, folds, grid=grid), atol=1e-12
  )


@pytest.mark.parametrize('balanced', [False, True])
def test_weights_are_repetitions(balanced):
  scores, genuine, rng = random_case(2)
  counts = rng.integers(0, 3, size=(5, len(scores)))
  accuracy, _ = audit.best_accuracy(
    scores, genuine, balanced=balanced, weights=counts
  )
  for row, count in zip(accuracy, counts, strict=True):
    index = np.repeat(np.arange(len(scores)), count)
    again, _ = audit.best_accuracy(
      scores[index], genuine[index], balanced=balanced
    )
    assert row == pytest.approx(again, abs=1e-12)


def test_balanced_equals_plain_on_balanced_folds():
  plain = audit.ten_fold_accuracy(SCORES, GENUINE)
  balanced = audit.ten_fold_accuracy(SCORES, GENUINE, balanced=True)
  np.testing.assert_allclose(plain.folds, balanced.folds, atol=1e-12)


def test_balanced_ignores_the_number_of_impostors():
  scores = np.array([0.9, 0.4] + [0.5] + [0.1] * 97)
  genuine = np.arange(100) < 2
  assert audit.best_accuracy(scores, genuine)[0] == 0.99
  balanced, _ = audit.best_accuracy(scores, genuine, balanced=True)
  assert balanced == pytest.approx((1 + 97 / 98) / 2)


def test_weighted_rows_and_undefined_folds():
  weights = np.ones((3, 40))
  weights[1, :4] = 0  # the first fold has no pairs
  weights[2, GENUINE] = 0  # nothing can be trained
  found = audit.ten_fold_accuracy(SCORES, GENUINE, weights=weights)
  assert found.folds.shape == (3, 10)
  np.testing.assert_array_equal(found.folds[0], FOLDS)
  assert np.isnan(found.folds[1, 0]) and np.isfinite(found.mean[1])
  assert np.isnan(found.mean[2])


def test_order_within_folds_does_not_matter():
  folds = audit.contiguous_folds(40)
  order = np.random.default_rng(0).permutation(40)
  found = audit.ten_fold_accuracy(
    SCORES[order], GENUINE[order], folds=folds[order]
  )
  np.testing.assert_array_equal(found.folds, FOLDS)


def test_contiguous_folds():
  assert audit.contiguous_folds(7, 3).tolist() == [0, 0, 0, 1, 1, 2, 2]
  with pytest.raises(InputError, match='n_folds'):
    audit.contiguous_folds(3, 4)


def test_identity_disjoint_folds():
  identities = np.repeat(np.arange(12), 2) + 5
  pairs = np.stack(np.triu_indices(24, 1), axis=1)
  strata = np.where(np.arange(12) < 4, 'a', 'b')
  folds = audit.identity_disjoint_folds(
    identities, pairs, n_folds=2, strata=strata
  )
  sides = [set(identities[pairs[folds == f]].ravel()) for f in (0, 1)]
  assert not sides[0] & sides[1]
  assert [len(side & {5, 6, 7, 8}) for side in sides] == [2, 2]
  genuine = identities[pairs[:, 0]] == identities[pairs[:, 1]]
  assert (folds[genuine] >= 0).all()
  assert (folds == -1).sum() == 12 * 12
  with pytest.raises(InputError, match='two per fold'):
    audit.identity_disjoint_folds(identities, pairs, n_folds=7)


def test_bad_folds():
  with pytest.raises(InputError, match='2 folds or more'):
    audit.ten_fold_accuracy(SCORES, GENUINE, folds=np.zeros(40, int))
  with pytest.raises(InputError, match='folds and parts'):
    audit.ten_fold_accuracy(SCORES, GENUINE, folds=np.zeros(39, int))
