"""The images of a classification study, by the name of their set."""

import numpy as np

from compress import data
from compress.data import ImageSplits
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
