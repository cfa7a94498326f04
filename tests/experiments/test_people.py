import numpy as np
import pytest

from compress import data
from compress.errors import InputError
from experiments.faces.people import load_faces, load_test_set, make_splits
from tests.experiments.small_network import photographs


@pytest.fixture(scope='module')
def faces():
  images, identities = photographs(people=6, each=2, side=112)
  return data.FaceDataset('six', images, identities + np.int32(1))


def test_one_split(faces):
  [split] = make_splits(faces, train_people='1-3,5', test_people='4,6')
  assert split.train.people == (1, 2, 3, 5)
  assert np.unique(split.test.identities).tolist() == [4, 6]
  assert (len(split.test), split.test.genuine.sum()) == (6, 2)
  assert split.split == 'train on people 1-3, 5, test on people 4, 6'


def test_folds_test_everybody_once(faces):
  splits = make_splits(
    faces, train_people='unused', test_people='unused', folds=3
  )
  tested = [np.unique(s.test.identities).tolist() for s in splits]
  assert tested == [[1, 2], [3, 4], [5, 6]]
  assert splits[1].split == 'train on people 1-2, 5-6, test on people 3-4'
  for split in splits:
    assert not set(split.train.people) & set(split.test.identities.tolist())


def test_a_test_set_of_its_own(faces):
  other = data.all_pairs(data.select(faces, '1-2'))
  options = {'test_people': 'unused', 'test_set': other}
  [split] = make_splits(faces, train_people='all', **options)
  assert split.train is faces and split.test is other
  [split] = make_splits(faces, train_people='2-3', **options)
  assert split.train.people == (2, 3)
  assert split.split == 'train: six; test: six'


@pytest.mark.parametrize(
  'train, test, message',
  [
    ('1-3', '3-6', 'person 3 is in the training and in the test'),
    ('', '1', 'neither a number nor a range'),
    ('1-3', '', 'neither a number nor a range'),
    ('all', '1', "'all' is neither"),
    ('1-3', '7', 'no person 7'),
    ('3-1', '4', 'must run upwards'),
  ],
)
def test_bad_splits(train, test, message, faces):
  with pytest.raises(InputError, match=message):
    make_splits(faces, train_people=train, test_people=test)


@pytest.mark.parametrize(
  'test, message', [('6', 'two people'), ('4-6', 'two photographs')]
)
def test_nothing_to_tell_apart(test, message):
  images, _ = photographs(people=6, each=1, side=112)
  people = np.array([1, 2, 3, 4, 5, 6], np.int32)
  if test == '6':
    people[4] = 6
  faces = data.FaceDataset('six', images, people)
  with pytest.raises(InputError, match=message):
    make_splits(faces, train_people='1-3', test_people=test)


def test_too_many_folds(faces):
  with pytest.raises(InputError, match='7 folds over 6 people'):
    make_splits(faces, train_people='', test_people='', folds=7)


def test_what_a_loader_needs():
  with pytest.raises(InputError, match='folder needs --data_path'):
    load_faces('folder')
  with pytest.raises(InputError, match='--test_set=bin needs --test_path'):
    load_test_set('bin', None, None)
  with pytest.raises(InputError, match='pairs needs --test_images'):
    load_test_set('pairs', 'pairs.txt', None)
  with pytest.raises(InputError, match='missing'):
    load_faces('folder', 'missing')
  for kind in ('bin', 'rfw'):
    with pytest.raises(InputError, match='missing'):
      load_test_set(kind, 'missing', None)
  with pytest.raises(InputError, match='missing'):
    load_test_set('pairs', 'missing.txt', 'images')
