import numpy as np
import pytest

from compress import audit
from compress.errors import InputError


def test_top_one_and_top_five_by_hand():
  logits = np.zeros((3, 7), np.float32)
  logits[0] = [7, 6, 5, 4, 3, 2, 1]
  logits[1] = [7, 6, 5, 4, 3, 2, 1]
  logits[2] = [7, 6, 5, 4, 3, 2, 1]
  found = audit.classify(logits, np.array([0, 4, 5], np.int32))
  assert found.top1 == pytest.approx(1 / 3)
  assert found.top5 == pytest.approx(2 / 3)
  total = np.log(np.exp(np.arange(1.0, 8)).sum())
  expected = np.mean([total - 7, total - 3, total - 2])
  assert found.cross_entropy == pytest.approx(expected)
  assert found.count == 3


def test_ties_and_constant_networks_are_wrong():
  found = audit.classify(np.zeros((4, 3)), np.array([0, 1, 2, 0]))
  assert (found.top1, found.top5) == (0.0, 1.0)
  assert found.cross_entropy == pytest.approx(np.log(3))
  assert audit.classify(np.full((1, 2), 1e4), np.array([0])).top1 == 0


def test_runs_have_a_sample_deviation():
  assert audit.over_runs([1.0, 2.0, 3.0]) == {'mean': 2.0, 'std': 1.0, 'n': 3}
  assert audit.over_runs([5.0]) == {'mean': 5.0, 'std': None, 'n': 1}
  runs = [audit.Classification(x, 1.0, 0.1, 9) for x in (0.5, 0.7)]
  entry = audit.accuracy_entry(runs)
  assert entry['accuracy']['mean'] == pytest.approx(60)
  assert entry['accuracy']['std'] == pytest.approx(np.sqrt(200))
  assert entry['top5'] == {'mean': 100.0, 'std': 0.0, 'n': 2}
  with pytest.raises(InputError, match='no run'):
    audit.over_runs([])


@pytest.mark.parametrize(
  ('logits', 'labels'),
  [
    (np.zeros((2, 3)), np.zeros(3, int)),
    (np.zeros(3), np.zeros(3, int)),
    (np.zeros((0, 3)), np.zeros(0, int)),
    (np.full((1, 2), np.nan), np.zeros(1, int)),
    (np.zeros((2, 3)), np.array([-1, 0])),
    (np.zeros((2, 3)), np.array([0, 3])),
  ],
)
def test_wrong_arrays_are_refused(logits, labels):
  with pytest.raises(InputError):
    audit.classify(logits, labels)
