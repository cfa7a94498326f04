"""Folders of photographs, with or without a list of pairs.

`load_folder` is for photographs of one's own, `load_pairs` for LFW, CALFW,
CPLFW and SLLFW; their lists are described in `pair_lists.py`.
"""

import os
import pathlib
import re
from collections.abc import Mapping

import numpy as np

from compress.data import pair_lists
from compress.data.faces import FaceDataset, VerificationSet
from compress.data.images import SUFFIXES, read_faces
from compress.errors import InputError


def load_folder(
  path: str | os.PathLike,
  *,
  landmarks: Mapping[str, np.ndarray] | None = None,
  crop: int | None = None,
) -> FaceDataset:
  """Loads a folder with one sub-folder of photographs per person.

  Args:
    path: the folder; photographs are `person/anything.png` (also jpg, bmp, tif,
      pgm, ppm). Other files and names that start with a dot are passed over.
    landmarks: `person/anything.png` to five points (see `read_landmarks`); the
      faces are then aligned. Without, they are taken to be aligned already.
    crop: without landmarks, the side of the central square that is used, in
      pixels; by default the shorter side of each photograph.

  Returns:
    The photographs in order of people and files. Identities are the folders'
    names if all of these are numbers, else 1, 2, ... in alphabetical order.

  Raises:
    InputError: no such folder, no photographs in it, a file that is no image.
  """
  root = pathlib.Path(path)
  if not root.is_dir():
    raise InputError(f'{root}: no such folder of photographs')
  people = sorted(p.name for p in root.iterdir() if _is_person(p))
  numbered = bool(people) and all(re.fullmatch(r'\d{1,9}', p) for p in people)
  numbered = numbered and len({int(p) for p in people}) == len(people)
  if numbered:
    people.sort(key=int)
  paths, identities = [], []
  for i, person in enumerate(people, start=1):
    for file in sorted((root / person).iterdir()):
      if file.suffix.lower() in SUFFIXES and file.name[0] != '.':
        paths.append(f'{person}/{file.name}')
        identities.append(int(person) if numbered else i)
  if not paths:
    raise InputError(
      f'{root}: no photographs; right would be one sub-folder per person, such '
      f'as {root / "anna" / "1.png"}'
    )
  return FaceDataset(
    name=root.resolve().name,
    images=read_faces(root, paths, landmarks=landmarks, crop=crop),
    identities=np.array(identities, np.int32),
    paths=tuple(paths),
  )


def _is_person(path: pathlib.Path) -> bool:
  return path.is_dir() and not path.name.startswith('.')


def load_pairs(
  pairs_file: str | os.PathLike,
  images: str | os.PathLike,
  *,
  layout: str | None = None,
  suffix: str = '.jpg',
  landmarks: Mapping[str, np.ndarray] | None = None,
  crop: int | None = None,
) -> VerificationSet:
  """Loads a list of pairs and the photographs that it names.

  Args:
    pairs_file: the list.
    images: the folder that the list's files are relative to.
    layout: 'lfw', 'cross', 'sllfw', or None to tell it from the file.
    suffix: of the photographs, where the list gives only numbers ('lfw').
    landmarks: relative path to five points (see `read_landmarks`); the faces
      are then aligned. Without, they are taken to be aligned already.
    crop: without landmarks, side of the central square, pixels.

  Returns:
    Every photograph once, with identities from the names in the list.

  Raises:
    InputError: a missing file, a line or a count that does not fit the layout,
      an image that is missing or none.
  """
  pairs_file = pathlib.Path(pairs_file)
  name = str(pairs_file)
  lines = pair_lists.read_lines(pairs_file)
  layout = layout or pair_lists.guess_layout(lines, name=name)
  if layout not in pair_lists.LAYOUTS:
    raise InputError(
      f'layout {layout!r}: must be one of {", ".join(pair_lists.LAYOUTS)}'
    )
  if layout == 'lfw':
    listed = pair_lists.parse_lfw(lines, name=name, suffix=suffix)
  elif layout == 'cross':
    listed = pair_lists.parse_cross(lines, name=name)
  else:
    listed = pair_lists.parse_sllfw(lines, name=name)
  return assemble(
    listed, images, name=pairs_file.stem, landmarks=landmarks, crop=crop
  )


def assemble(
  listed: pair_lists.PairList,
  images: str | os.PathLike,
  *,
  name: str,
  landmarks: Mapping[str, np.ndarray] | None = None,
  crop: int | None = None,
) -> VerificationSet:
  """Reads the photographs that a list names, each once.

  Args:
    listed: the list.
    images: the folder that its paths start from.
    name: the name of the result.
    landmarks: see `load_pairs`.
    crop: see `load_pairs`.

  Returns:
    Photographs in the order in which the list first names them.

  Raises:
    InputError: an image that is missing or none, no folder of images.
  """
  if not pathlib.Path(images).is_dir():
    raise InputError(f'{images}: no such folder of photographs')
  files = list(dict.fromkeys(file for pair in listed.pairs for file in pair))
  index = {file: i for i, file in enumerate(files)}
  people = {p: i for i, p in enumerate(sorted(set(listed.people.values())))}
  return VerificationSet(
    name=name,
    images=read_faces(images, files, landmarks=landmarks, crop=crop),
    pairs=np.array([[index[a], index[b]] for a, b in listed.pairs], np.int32),
    genuine=listed.genuine,
    folds=listed.folds,
    identities=np.array([people[listed.people[f]] for f in files], np.int32),
  )
