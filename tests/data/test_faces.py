import dataclasses

import numpy as np
import pytest

from compress.data import faces
from compress.data.faces import FaceDataset, VerificationSet
from compress.errors import InputError


def _images(count):
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (count, 112, 112, 3), np.uint8)


def _dataset(identities, groups=None):
  return FaceDataset(
    name='toy',
    images=_images(len(identities)),
    identities=np.array(identities, np.int32),
    groups=None if groups is None else np.array(groups),
    paths=tuple(f'{i}.png' for i in range(len(identities))),
  )


def _verification(**changes):
  fields = {
    'name': 'toy',
    'images': _images(3),
    'pairs': np.array([[0, 1], [1, 2]], np.int32),
    'genuine': np.array([True, False]),
  }
  return VerificationSet(**(fields | changes))


@pytest.mark.parametrize(
  'changes',
  [
    {'images': np.zeros((2, 112, 112, 3), np.float32)},
    {'images': np.zeros((2, 112, 112, 1), np.uint8)},
    {'images': np.zeros((2, 112, 96, 3), np.uint8)},
    {'images': np.zeros((0, 112, 112, 3), np.uint8)},
    {'images': [1, 2]},
    {'identities': np.array([1, 2])},
    {'identities': np.array([1, 2, 3], np.int32)},
    {'identities': [1, 2]},
    {'groups': np.array([1, 2])},
    {'groups': np.array(['a'])},
    {'paths': ('a',)},
  ],
)
def test_face_dataset_refuses(changes):
  with pytest.raises(InputError, match='toy'):
    dataclasses.replace(_dataset([1, 2]), **changes)


@pytest.mark.parametrize(
  'changes',
  [
    {'pairs': np.array([[0, 1], [1, 2]])},
    {'pairs': np.array([[0, 1], [1, 3]], np.int32)},
    {'pairs': np.array([[0, 1], [-1, 2]], np.int32)},
    {'pairs': np.zeros((0, 2), np.int32)},
    {'pairs': np.zeros((2, 3), np.int32)},
    {'genuine': np.array([1, 0])},
    {'genuine': np.array([True])},
    {'folds': np.array([0, 1])},
    {'folds': np.array([0], np.int32)},
    {'identities': np.array([1, 2, 3], np.int32)},  # contradicts genuine[0]
    {'identities': np.array([1, 1], np.int32)},
    {'groups': np.array(['a', 'b', 'c'])},
  ],
)
def test_verification_set_refuses(changes):
  with pytest.raises(InputError, match='toy'):
    _verification(**changes)


def test_verification_set_holds_what_it_is_given():
  made = _verification(
    identities=np.array([1, 1, 2], np.int32),
    folds=np.array([0, 1], np.int32),
    groups=np.array(['a', '']),
  )
  assert len(made) == 2
  with pytest.raises(dataclasses.FrozenInstanceError):
    made.name = 'other'


def test_all_pairs_lists_each_pair_once():
  dataset = _dataset([5, 5, 7, 9], ['a', 'a', 'b', 'a'])
  made = faces.all_pairs(dataset)
  assert made.pairs.tolist() == [
    [0, 1],
    [0, 2],
    [0, 3],
    [1, 2],
    [1, 3],
    [2, 3],
  ]
  assert made.genuine.tolist() == [True] + [False] * 5
  assert made.groups.tolist() == ['a', '', 'a', '', 'a', '']
  assert made.folds is None
  assert made.images is dataset.images


def test_all_pairs_refuses_none_and_too_many():
  with pytest.raises(InputError, match='1 photographs make 0 pairs'):
    faces.all_pairs(_dataset([1]))
  with pytest.raises(InputError, match='make 6 pairs'):
    faces.all_pairs(_dataset([1, 1, 2, 2]), max_pairs=5)


def test_contiguous_folds():
  assert faces.contiguous_folds(7, folds=3).tolist() == [0, 0, 0, 1, 1, 2, 2]
  assert faces.contiguous_folds(6000).tolist() == sorted([*range(10)] * 600)
  assert faces.contiguous_folds(3, folds=3).dtype == np.int32
  with pytest.raises(InputError, match='2 pairs cannot be cut into 3 folds'):
    faces.contiguous_folds(2, folds=3)


def test_merge_groups_shifts_pairs_and_people():
  first = _verification(
    identities=np.array([4, 4, 9], np.int32), folds=np.array([0, 1], np.int32)
  )
  merged = faces.merge_groups({'x': first, 'y': first}, name='both')
  assert merged.pairs.tolist() == [[0, 1], [1, 2], [3, 4], [4, 5]]
  assert merged.identities.tolist() == [0, 0, 1, 2, 2, 3]
  assert merged.folds.tolist() == [0, 1, 0, 1]
  assert merged.groups.tolist() == ['x', 'x', 'y', 'y']
  plain = faces.merge_groups({'x': first, 'y': _verification()}, name='both')
  assert plain.identities is None and plain.folds is None
  with pytest.raises(InputError, match='no group'):
    faces.merge_groups({}, name='both')


def test_take_keeps_fields_together():
  dataset = _dataset([1, 2, 3], ['a', 'b', 'c'])
  taken = faces.take(dataset, [2, 0])
  assert taken.identities.tolist() == [3, 1]
  assert taken.groups.tolist() == ['c', 'a']
  assert taken.paths == ('2.png', '0.png')
  np.testing.assert_array_equal(taken.images, dataset.images[[2, 0]])
  assert len(taken) == 2 and taken.people == (1, 3)
