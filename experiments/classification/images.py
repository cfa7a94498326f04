"""The images of a classification study, by the name of their set."""

import dataclasses
from typing import Any

import numpy as np

from compress import data
from compress.data import ImageDataset, ImageSplits
from compress.errors import InputError


def load_splits(
  dataset: str,
  *,
  data_dir: str | None = None,
  data_path: str | None = None,
  most: int | None = None,
) -> ImageSplits:
  """The images that flags ask for, in three parts.

  Args:
    dataset: 'digits' (scikit-learn's), or a name of the tensorflow-datasets
      catalogue.
    data_dir: where prepared sets are kept; None is the catalogue's default.
    data_path: folder of the set's own files, None to use what is prepared.
    most: images of each part that are kept, the first ones; None for all.

  Returns:
    Training, validation and test images.

  Raises:
    InputError: a set that cannot be had, or `data_path` with digits.
  """
  if dataset != 'digits':
    splits = data.load_tfds(dataset, data_dir, source=data_path)
  elif data_path is None:
    splits = data.load_digits()
  else:
    raise InputError('--data_path: digits come with scikit-learn; leave it out')
  if most is None:
    return splits
  return ImageSplits(
    *(data.take_images(x, np.arange(min(most, len(x)))) for x in splits)
  )


def pool_images(dataset: ImageDataset, size: int) -> ImageDataset:
  """The same images with less detail: means over squares of pixels.

  Args:
    dataset: images uint8 [N, H, W, C].
    size: pixels a side of a square; 1 changes nothing.

  Returns:
    Images uint8 [N, H / size, W / size, C], means rounded to the nearest.

  Raises:
    InputError: `size` does not divide height and width.
  """
  if size == 1:
    return dataset
  rows, columns, colours = dataset.image_shape
  if size < 1 or rows % size or columns % size:
    raise InputError(
      f'pooling by {size}: right is a divisor of {rows} and {columns} pixels'
    )
  cut = dataset.images.reshape(
    -1, rows // size, size, columns // size, size, colours
  )
  means = cut.mean(axis=(2, 4), dtype=np.float32)
  return dataclasses.replace(dataset, images=np.rint(means).astype(np.uint8))


def describe_splits(
  splits: ImageSplits,
  *,
  train: str = 'to train on',
  validation: str = 'not used',
  test: str = 'for the report',
) -> dict[str, Any]:
  """The `dataset` field of a report.

  Args:
    splits: the images, or others that have such parts.
    train: what the training images are for.
    validation: the same of the validation images.
    test: the same of the test images.

  Returns:
    Name, size of an image, number of classes, and the parts in words.
  """
  rows, columns, colours = splits.train.image_shape
  parts = {
    'train': (splits.train, train),
    'validation': (splits.validation, validation),
    'test': (splits.test, test),
  }
  return {
    'name': splits.train.name,
    'images': f'{rows} x {columns} x {colours}',
    'classes': len(splits.train.classes),
    'split': {
      name: f'{len(part):,} images, {use}'
      for name, (part, use) in parts.items()
    },
  }
