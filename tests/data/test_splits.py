import numpy as np
import pytest

from compress.data import splits
from compress.data.faces import FaceDataset
from compress.errors import InputError


def _dataset(people=8, photos=5):
  identities = np.repeat(np.arange(1, people + 1, dtype=np.int32), photos)
  images = np.zeros((len(identities), 112, 112, 3), np.uint8)
  images[:, 0, 0, 0] = np.arange(len(identities))
  return FaceDataset(name='toy', images=images, identities=identities)


@pytest.mark.parametrize(
  ('text', 'people'),
  [
    ('1-3', (1, 2, 3)),
    ('7', (7,)),
    ('1,5,9-12', (1, 5, 9, 10, 11, 12)),
    (' 4 - 5 , 2 ', (2, 4, 5)),
    ('3-3', (3,)),
  ],
)
def test_parse_identities(text, people):
  assert splits.parse_identities(text) == people


@pytest.mark.parametrize(
  'text', ['', 'a', '1-', '-3', '3-1', '1,,2', '1-3,2', '1.5', '0-999999999']
)
def test_parse_identities_refuses(text):
  with pytest.raises(InputError, match='identities') as error:
    splits.parse_identities(text)
  assert '\n' not in str(error.value)


def test_split_shares_nobody():
  split = splits.split_by_identity(_dataset(), train='1-6', test=[7, 8])
  assert split.train.people == (1, 2, 3, 4, 5, 6)
  assert split.test.people == (7, 8)
  assert len(split.train) == 30 and len(split.test) == 10


@pytest.mark.parametrize(
  ('train', 'test', 'message'),
  [
    ('1-6', '6-8', 'person 6 is in the training and in the test split'),
    ('1-6', [], 'a split without people'),
    ([], '1', 'a split without people'),
    ('1-6', '9', 'no person 9; it has 8 people, numbered 1..8'),
  ],
)
def test_split_refuses(train, test, message):
  with pytest.raises(InputError, match=message):
    splits.split_by_identity(_dataset(), train=train, test=test)


def test_folds_test_everybody_once():
  folds = splits.folds_by_identity(_dataset(), folds=4)
  assert [f.test.people for f in folds] == [(1, 2), (3, 4), (5, 6), (7, 8)]
  for fold in folds:
    assert not set(fold.train.people) & set(fold.test.people)
    assert len(fold.train.people) == 6
  uneven = splits.folds_by_identity(_dataset(), folds=3)
  assert sorted(sum((f.test.people for f in uneven), ())) == [*range(1, 9)]


@pytest.mark.parametrize('folds', [0, 1, 9])
def test_folds_refuse(folds):
  with pytest.raises(InputError, match='folds over 8 people'):
    splits.folds_by_identity(_dataset(), folds=folds)


@pytest.mark.parametrize('share', [0.1, 0.2, 0.35, 0.5, 0.99])
def test_fraction_keeps_people_in_balance(share):
  dataset = _dataset(people=8, photos=10)
  part = splits.fraction(dataset, share, seed=3)
  counts = np.bincount(part.identities, minlength=9)[1:]
  assert len(part) == round(share * 80)
  assert counts.max() - counts.min() <= 1
  assert (np.diff(part.images[:, 0, 0, 0].astype(int)) > 0).all()


def test_fraction_is_nested_seeded_and_whole_at_one():
  dataset = _dataset(people=8, photos=10)

  def kept(share, seed=0):
    part = splits.fraction(dataset, share, seed=seed)
    return set(part.images[:, 0, 0, 0].tolist())

  shares = [0.05, 0.1, 0.13, 0.4, 0.41, 0.8, 1.0]
  sizes = [kept(share) for share in shares]
  for small, large in zip(sizes, sizes[1:], strict=False):
    assert small < large
  assert kept(0.4) == kept(0.4) and kept(0.4) != kept(0.4, seed=1)
  assert len(sizes[-1]) == 80


def test_fraction_follows_unequal_counts():
  identities = np.array([1] * 10 + [2] * 4, np.int32)
  dataset = FaceDataset(
    name='toy',
    images=np.zeros((14, 112, 112, 3), np.uint8),
    identities=identities,
  )
  part = splits.fraction(dataset, 0.5, seed=0)
  assert np.bincount(part.identities).tolist() == [0, 5, 2]


@pytest.mark.parametrize('share', [0.0, -0.5, 1.01, float('nan'), 1e-9])
def test_fraction_refuses(share):
  with pytest.raises(InputError, match='fraction'):
    splits.fraction(_dataset(), share, seed=0)
