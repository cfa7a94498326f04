import numpy as np
import pytest

from compress.errors import InputError
from experiments.classification.images import describe_splits, load_splits


def test_the_first_images_of_every_part_are_kept():
  whole, some = load_splits('digits'), load_splits('digits', most=5)
  for part, kept in zip(whole, some, strict=True):
    np.testing.assert_array_equal(kept.images, part.images[:5])
    np.testing.assert_array_equal(kept.labels, part.labels[:5])


def test_digits_have_no_files_of_their_own():
  with pytest.raises(InputError, match='--data_path: digits come with'):
    load_splits('digits', data_path='somewhere')


def test_splits_are_described_by_size_and_use():
  found = describe_splits(load_splits('digits', most=5), test='for a test')
  assert found == {
    'name': 'digits',
    'images': '8 x 8 x 1',
    'classes': 10,
    'split': {
      'train': '5 images, to train on',
      'validation': '5 images, not used',
      'test': '5 images, for a test',
    },
  }
