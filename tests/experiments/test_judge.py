import numpy as np

from compress import data
from experiments.faces import judge


def a_set(groups):
  people = np.repeat(np.arange(4, dtype=np.int32), 5)
  images = np.zeros((20, 112, 112, 3), np.uint8)
  names = np.array(['a', 'a', 'b', 'b'])[people] if groups else None
  return data.all_pairs(data.FaceDataset('set', images, people, names))


def test_folds_deal_every_kind_of_pair_evenly():
  test = a_set(groups=True)
  folds = judge.pair_folds(test, count=5)
  for group in ('a', 'b'):
    for genuine in (True, False):
      kind = (test.groups == group) & (test.genuine == genuine)
      counts = np.bincount(folds[kind], minlength=5)
      assert counts.max() - counts.min() <= 1


def test_folds_are_the_same_every_time_and_need_no_groups():
  test = a_set(groups=False)
  folds = judge.pair_folds(test)
  np.testing.assert_array_equal(folds, judge.pair_folds(test))
  assert set(folds) == set(range(10))
