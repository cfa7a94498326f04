import numpy as np
import pytest

from compress import audit
from compress.errors import InputError
from tests.audit.test_bootstrap import people


def test_a_model_agrees_with_itself():
  x, _, pairs, genuine = people()
  scores = audit.cosine_scores(x, pairs)
  found = audit.agreement(
    x, 3 * x, scores, scores, genuine, reference_threshold=0.4, threshold=0.4
  )
  assert found.embedding_cosine == pytest.approx(1)
  assert found.score_correlation == pytest.approx(1)
  assert found.fixed.flipped == found.recalibrated.flipped == 0
  assert found.fixed.p == 1


def test_flips_by_hand():
  genuine = [1, 1, 1, 0, 0, 0]
  before = [0.9, 0.6, 0.2, 0.7, 0.1, 0.3]
  after = [0.9, 0.4, 0.8, 0.2, 0.6, 0.1]
  found = audit.decision_flips(before, after, genuine, reference_threshold=0.5)
  # Pair 1 and 4 get worse, 2 and 3 better.
  assert found == audit.Flips(
    pairs=6,
    flipped=4,
    regressions=2,
    repairs=2,
    accept_to_reject=2,
    reject_to_accept=2,
    p=1.0,
  )
  own = audit.decision_flips(
    before, after, genuine, reference_threshold=0.5, threshold=0.3
  )
  assert (own.flipped, own.regressions) == (3, 1)


@pytest.mark.parametrize(
  ('first', 'second', 'p'),
  [(0, 0, 1), (5, 5, 1), (1, 0, 1), (5, 0, 2 / 32), (9, 1, 22 / 1024)],
)
def test_mcnemar_exact(first, second, p):
  assert audit.mcnemar(first, second) == pytest.approx(p)
  assert audit.mcnemar(second, first) == pytest.approx(p)


def test_embedding_cosines_and_correlation():
  cosines = audit.embedding_cosines([[1, 0], [3, 4]], [[0, 2], [6, 8]])
  np.testing.assert_allclose(cosines, [0, 1], atol=1e-12)
  assert audit.score_correlation([1, 2, 3], [1, 3, 2]) == pytest.approx(0.5)
  assert np.isnan(audit.score_correlation([1, 1], [0, 1]))
  with pytest.raises(InputError, match='differ in shape'):
    audit.embedding_cosines(np.eye(2), np.eye(3))
