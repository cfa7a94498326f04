"""The photographs of a face study: whom to train on and whom to test."""

from typing import NamedTuple

import numpy as np

from compress import data
from compress.errors import InputError

DATASETS = ('orl', 'lfw', 'folder')
TEST_SETS = ('people', 'bin', 'pairs', 'rfw')


class Faces(NamedTuple):
  """One split of a study.

  Attributes:
    train: photographs of the people to train on.
    test: photographs and pairs to judge on.
    split: text for the report.
  """

  train: data.FaceDataset
  test: data.VerificationSet
  split: str


def load_faces(
  dataset: str, path: str | None = None, *, data_dir: str | None = None
) -> data.FaceDataset:
  """Loads the data set that a study trains on.

  Args:
    dataset: one of `DATASETS`.
    path: the folder of `folder`: `person/photograph.png`, aligned.
    data_dir: where tensorflow-datasets keeps prepared data sets.

  Returns:
    All its photographs.

  Raises:
    InputError: the data set cannot be had.
  """
  if dataset == 'orl':
    return data.load_orl(data_dir=data_dir)
  if dataset == 'lfw':
    return data.load_lfw(data_dir=data_dir)
  if path is None:
    raise InputError('--dataset=folder needs --data_path, a folder of people')
  return data.load_folder(path)


def load_test_set(kind: str, path: str | None, images: str | None):
  """Loads a verification set of its own.

  Args:
    kind: one of `TEST_SETS` but `people`.
    path: the `.bin` file, the list of pairs, or RFW's folder.
    images: for `pairs`, the folder that the list's files are in.

  Returns:
    A `VerificationSet`.

  Raises:
    InputError: it cannot be had.
  """
  if path is None:
    raise InputError(f'--test_set={kind} needs --test_path')
  if kind == 'bin':
    return data.load_bin(path)
  if kind == 'rfw':
    return data.load_rfw(path)
  if images is None:
    raise InputError('--test_set=pairs needs --test_images, a folder')
  return data.load_pairs(path, images)


def make_splits(
  dataset: data.FaceDataset,
  *,
  train_people: str,
  test_people: str,
  folds: int = 1,
  test_set: data.VerificationSet | None = None,
) -> list[Faces]:
  """The splits of a study, one a fold; no person is trained on and tested.

  Args:
    dataset: all photographs.
    train_people: such as '1-30'; 'all' for everybody (with `test_set`).
    test_people: such as '31-40'; unused with `test_set` or several folds.
    folds: 1 for the split above; more cut all people into that many blocks,
      of which each is tested once.
    test_set: what to judge on instead of the test people.

  Returns:
    The splits.

  Raises:
    InputError: an empty split, a person in both, or nothing to tell apart.
  """
  if test_set is not None:
    _check_pairs(test_set)
    train = dataset
    if train_people != 'all':
      train = data.select(dataset, train_people)
    return [
      Faces(train, test_set, f'train: {dataset.name}; test: {test_set.name}')
    ]
  if folds > 1:
    pairs = data.folds_by_identity(dataset, folds=folds)
  else:
    pairs = [
      data.split_by_identity(dataset, train=train_people, test=test_people)
    ]
  splits = [
    Faces(
      split.train,
      data.all_pairs(split.test),
      f'train on people {_ranges(split.train.people)}, test on people '
      f'{_ranges(split.test.people)}',
    )
    for split in pairs
  ]
  for split in splits:
    _check_pairs(split.test)
  return splits


def _check_pairs(test: data.VerificationSet) -> None:
  """An error rate needs pairs of both kinds."""
  if test.genuine.all():
    raise InputError(
      f'{test.name}: all pairs to test on show one person; test on at least '
      'two people'
    )
  if not test.genuine.any():
    raise InputError(
      f'{test.name}: no pair to test on shows one person; somebody needs at '
      'least two photographs'
    )


def _ranges(people) -> str:
  """Numbers as text: 1-3, 7."""
  people = np.asarray(sorted(people))
  breaks = np.flatnonzero(np.diff(people) != 1) + 1
  runs = np.split(people, breaks)
  return ', '.join(
    str(r[0]) if len(r) == 1 else f'{r[0]}-{r[-1]}' for r in runs
  )
