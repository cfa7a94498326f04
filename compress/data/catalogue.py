"""Image classification sets of the tensorflow-datasets catalogue, by name."""

import functools
import io
import os
import pathlib
from collections.abc import Callable

import numpy as np
from PIL import Image

from compress.data import image_files
from compress.data.classification import (
  ImageDataset,
  ImageSplits,
  split_by_share,
)
from compress.errors import InputError

_IDX = ('emnist', 'fashion_mnist', 'kmnist', 'mnist')


def load_tfds(
  name: str,
  data_dir: str | os.PathLike | None = None,
  *,
  source: str | os.PathLike | None = None,
  validation: float = 0.1,
  seed: int = 0,
) -> ImageSplits:
  """Loads an image classification set of the tensorflow-datasets catalogue.

  A copy that is prepared in `data_dir` as array_record is used as it is.
  Without one, the files in `source` are prepared, or the set is downloaded.
  TensorFlow is not needed for a prepared copy, nor for `source`; the catalogue
  needs it to prepare most downloads.

  Args:
    name: `mnist`, `fashion_mnist`, `cifar10`, or any set whose examples have
      an `image` of one size and a `label`; `emnist/letters` names a
      configuration.
    data_dir: the folder of prepared data sets; by default that of
      tensorflow-datasets (TFDS_DATA_DIR, or ~/tensorflow_datasets).
    source: a folder with the set's own files: `train-images-idx3-ubyte.gz` and
      its three companions for the sets of MNIST's kind, `data_batch_1.bin`,
      ..., `test_batch.bin` for `cifar10`.
    validation: share of the training images to choose on, drawn at random,
      every class in proportion.
    seed: of that draw.

  Returns:
    The splits. `test` is the set's own; a set without one gives its own
    `validation` as `test`.

  Raises:
    InputError: an unknown name, a set of another kind or without a second
      split, a failed preparation, a damaged copy.
  """
  # Imported here because tensorflow-datasets takes most of a second.
  import tensorflow_datasets as tfds

  if source is not None:
    make = _from_files(name, pathlib.Path(source))
  else:
    make = functools.partial(_catalogued, name)
  builder = make(data_dir=data_dir)
  features = builder.info.features
  image, label = (_feature(features, key) for key in ('image', 'label'))
  if not isinstance(image, tfds.features.Image) or not isinstance(
    label, tfds.features.ClassLabel
  ):
    raise InputError(
      f'{name}: no image classification set; its examples need an image and a '
      'label'
    )
  read = functools.partial(
    _read, make, data_dir, name, tuple(label.names), image.shape[-1]
  )
  try:
    train = read('train')
  except InputError:
    raise
  except Exception as error:
    # Of the system's errors those of a failed download are told here.
    source = type(error).__module__.split('.')[0]
    if isinstance(error, OSError) and source not in ('requests', 'urllib'):
      raise
    reason = ' '.join(str(error).split()) or type(error).__name__
    raise InputError(
      f'{name} cannot be prepared ({reason:.200}); give the folder of its own '
      'files as source, or a data_dir where it is prepared as array_record'
    ) from error
  own = [
    s
    for s in ('test', 'validation')
    if s in make(data_dir=data_dir).info.splits
  ]
  if not own:
    raise InputError(f'{name}: the set has no split to test on')
  train, held_out = split_by_share(
    train, (1 - validation, validation), seed=seed
  )
  return ImageSplits(train, held_out, read(own[0]))


def _feature(features, key):
  try:
    return features[key]
  except (KeyError, TypeError):
    return None


def _catalogued(name: str, *, data_dir):
  import tensorflow_datasets as tfds

  try:
    return tfds.builder(name, data_dir=data_dir)
  except (tfds.core.registered.DatasetNotFoundError, ValueError) as error:
    reason = str(error).strip().splitlines()[0]
    raise InputError(f'{name}: no set of the catalogue ({reason})') from error


def _from_files(name: str, source: pathlib.Path) -> Callable:
  """The catalogue's builder, reading its original files from a folder."""
  import tensorflow_datasets as tfds

  base_name, _, config = name.partition('/')
  if base_name not in (*_IDX, 'cifar10'):
    raise InputError(
      f'{name} is not prepared from files; source serves '
      f'{", ".join((*_IDX, "cifar10"))}'
    )
  if not source.is_dir():
    raise InputError(f'{source}: no such folder of {name}')
  base = tfds.builder_cls(base_name)

  class FromFiles(base, skip_registration=True):
    """Name, version and features are the catalogue's; images become PNG."""

    name = base_name
    url_infos = None

    def _split_generators(self, dl_manager):
      del dl_manager
      return {s: self._generate_examples(s) for s in ('train', 'test')}

    def _generate_examples(self, split):
      if base_name == 'cifar10':
        examples = image_files.cifar10_examples(source, split)
      else:
        examples = image_files.idx_examples(
          *(
            image_files.find_idx(source, split, k) for k in ('images', 'labels')
          )
        )
      for i, (pixels, label) in enumerate(examples):
        buffer = io.BytesIO()
        Image.fromarray(pixels.squeeze()).save(buffer, format='png')
        buffer.seek(0)
        example = {'image': buffer, 'label': label}
        if base_name == 'cifar10':
          example['id'] = f'{split}_{i:05d}'
        yield i, example

  FromFiles.__name__ = base.__name__
  return functools.partial(FromFiles, **({'config': config} if config else {}))


def _read(make, data_dir, name, classes, channels, split) -> ImageDataset:
  """Decodes one split."""
  from compress.data import builders

  examples = builders.data_source(make, data_dir, split=split)
  target = make(data_dir=data_dir).data_dir
  mode = {1: 'L', 3: 'RGB'}.get(channels)
  if mode is None:
    raise InputError(f'{name}: images of {channels} channels; 1 or 3 are read')
  images, labels = None, np.empty(len(examples), np.int32)
  try:
    for i, example in enumerate(examples):
      with Image.open(io.BytesIO(example['image'])) as image:
        pixels = np.asarray(image.convert(mode))
      if images is None:
        images = np.empty((len(examples), *pixels.shape), np.uint8)
      if pixels.shape != images.shape[1:]:
        raise InputError(
          f'{name}: images of {pixels.shape[0]} x {pixels.shape[1]} and of '
          f'{images.shape[1]} x {images.shape[2]} pixels; one size is needed'
        )
      images[i], labels[i] = pixels, example['label']
  except InputError:
    raise
  except Exception as error:
    raise builders.damaged(target) from error
  if images is None:
    raise InputError(f'{name}: the split {split} is empty')
  return ImageDataset(
    name=name,
    images=images.reshape(*images.shape[:3], channels),
    labels=labels,
    classes=classes,
  )
