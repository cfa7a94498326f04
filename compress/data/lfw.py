"""LFW, Labeled Faces in the Wild, through tensorflow-datasets.

Source: Huang, Ramesh, Berg and Learned-Miller 2007. The catalogue's copy has no
landmarks; its photographs are 250 x 250 with the face in the middle, so the
central square is cut. For the ten-fold protocol read `pairs.txt` with
`load_pairs`.
"""

import functools
import os
import pathlib

import numpy as np

from compress.data.faces import FaceDataset
from compress.data.images import central_square, decode_image
from compress.errors import InputError

# Of 250 pixels; about what five-point alignment keeps of a centred LFW face.
CROP = 112


def load_lfw(
  data_dir: str | os.PathLike | None = None,
  *,
  source: str | os.PathLike | None = None,
  crop: int = CROP,
  min_photos: int = 1,
) -> FaceDataset:
  """Loads LFW, cut to the central square.

  The first call prepares the catalogue's `lfw`, version 0.1.1, as array_record:
  from `source`, or else from a download of 172 MB. Aligning by landmarks gives
  lower error rates than a central square; with landmarks of your own, use
  `load_folder` on the unpacked folder.

  Args:
    data_dir: the folder of prepared data sets; by default that of
      tensorflow-datasets (TFDS_DATA_DIR, or ~/tensorflow_datasets).
    source: an unpacked LFW folder (`Name/Name_0001.jpg`) to prepare from
      instead of downloading (which, without a network, gives up after
      some minutes).
    crop: side of the central square in pixels, scaled to 112.
    min_photos: people with fewer photographs are left out.

  Returns:
    The photographs ordered by person; identities number the people of the whole
    set in alphabetical order from 0. Paths are 'Name/k' for the k-th stored
    photograph of a person, as the catalogue keeps no file names.

  Raises:
    InputError: the download fails, `source` has no photographs, `data_dir`
      cannot be written, an image is damaged, or nobody is left.
  """
  from compress.data import builders

  if source is not None:
    source = pathlib.Path(source)
    if not source.is_dir():
      raise InputError(f'{source}: no such folder of LFW photographs')
  make = functools.partial(builders.Lfw, source=source)
  examples = builders.data_source(make, data_dir)
  labels = [_text(e['label']) for e in examples]
  names, identities, counts = np.unique(
    labels, return_inverse=True, return_counts=True
  )
  keep = np.flatnonzero(counts[identities] >= min_photos)
  if not keep.size:
    raise InputError(f'LFW: nobody has {min_photos} photographs or more')
  keep = keep[np.argsort(identities[keep], kind='stable')]
  images, paths, seen = [], [], {}
  for i in keep:
    name = labels[i]
    seen[name] = seen.get(name, 0) + 1
    path = f'{name}/{seen[name]}'
    image = decode_image(examples[int(i)]['image'], name=path)
    images.append(central_square(image, crop=crop, name=path))
    paths.append(path)
  return FaceDataset(
    name='LFW',
    images=np.stack(images),
    identities=identities[keep].astype(np.int32),
    paths=tuple(paths),
  )


def _text(label: bytes | str) -> str:
  return label.decode() if isinstance(label, bytes) else str(label)
