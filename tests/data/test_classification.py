import numpy as np
import pytest

from compress import data
from compress.errors import InputError


def toy(counts=(10, 20, 5)):
  labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
  images = np.arange(len(labels), dtype=np.uint8)[:, None, None, None]
  return data.ImageDataset(
    'toy', np.tile(images, (1, 2, 2, 1)), labels, ('a', 'b', 'c')
  )


def test_digits_are_split_by_class_without_overlap():
  splits = data.load_digits()
  sizes = [len(part) for part in splits]
  assert sum(sizes) == 1797
  assert abs(sizes[1] - 0.15 * 1797) < 6 and abs(sizes[2] - 0.2 * 1797) < 6
  assert splits.train.image_shape == (8, 8, 1)
  assert splits.train.images.max() == 255
  assert len(np.unique(splits.train.images)) == 17
  for part in splits:
    share = np.bincount(part.labels, minlength=10) / len(part)
    assert share.min() > 0.09 and share.max() < 0.11
  again = data.load_digits().test.images
  np.testing.assert_array_equal(splits.test.images, again)
  other = data.load_digits(seed=1).test.images
  assert (other[:50] != again[:50]).any()


def test_shares_are_exact_and_disjoint():
  parts = data.split_by_share(toy(), (0.5, 0.3, 0.2), seed=3)
  counts = [np.bincount(part.labels).tolist() for part in parts]
  # Of 5: 2.5 and 4.0 round to 2 and 4.
  assert counts == [[5, 10, 2], [3, 6, 2], [2, 4, 1]]
  seen = np.concatenate([part.images[:, 0, 0, 0] for part in parts])
  assert sorted(seen.tolist()) == list(range(35))
  with pytest.raises(InputError, match='sum 1'):
    data.split_by_share(toy(), (0.5, 0.4), seed=0)
  with pytest.raises(InputError, match='too few'):
    data.split_by_share(toy((1, 0, 0)), (0.5, 0.5), seed=0)


def test_scaling_gives_mean_zero_and_variance_one():
  dataset = toy()
  scaled = data.pixel_scaling(dataset)(dataset.images)
  assert scaled.dtype == np.float32
  np.testing.assert_allclose(scaled.mean(), 0, atol=1e-6)
  np.testing.assert_allclose(scaled.std(), 1, rtol=1e-6)
  flat = data.ImageDataset(
    'flat', np.full((2, 1, 1, 1), 7, np.uint8), np.zeros(2, np.int32), ('a',)
  )
  assert (data.pixel_scaling(flat)(flat.images) == 0).all()


def test_shift_moves_whole_pixels():
  images = np.arange(1, 9, dtype=np.uint8).reshape(1, 2, 4, 1)
  many = np.repeat(images, 200, axis=0)
  moved = data.shift_images(many, np.random.default_rng(0), pixels=1)
  assert moved.shape == many.shape and moved.dtype == np.uint8
  found = {tuple(image.ravel().tolist()) for image in moved}
  assert (1, 2, 3, 4, 5, 6, 7, 8) in found
  assert (0, 0, 0, 0, 0, 1, 2, 3) in found
  assert (6, 7, 8, 0, 0, 0, 0, 0) in found
  assert len(found) == 9
  mirrored = data.shift_images(
    many, np.random.default_rng(0), pixels=0, mirror=True
  )
  found = {tuple(image.ravel().tolist()) for image in mirrored}
  assert found == {(1, 2, 3, 4, 5, 6, 7, 8), (4, 3, 2, 1, 8, 7, 6, 5)}


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'images': np.zeros((2, 1, 1, 1))}, 'uint8'),
    ({'labels': np.zeros(2)}, 'int32'),
    ({'labels': np.zeros(3, np.int32)}, '2 images and 3 labels'),
    ({'labels': np.full(2, 4, np.int32)}, '4..4'),
  ],
)
def test_wrong_arrays_are_refused(changes, message):
  right = {
    'images': np.zeros((2, 1, 1, 1), np.uint8),
    'labels': np.zeros(2, np.int32),
  }
  with pytest.raises(InputError, match=message):
    data.ImageDataset(name='x', classes=('a',), **right | changes)
