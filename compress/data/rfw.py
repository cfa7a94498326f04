"""RFW, Racial Faces in-the-Wild: four verification sets, one per group.

Source: Wang, Deng, Hu, Tao and Huang 2019, arXiv 1812.00194. Each group has
about 3000 people and 6000 pairs, 300 of one person and 300 of two in each of
ten folds. The folder is what the data set unpacks to:

  data/<Group>/<person>/<person>_0001.jpg
  txts/<Group>/<Group>_pairs.txt   lines `person i j` and `person1 i person2 j`
  txts/<Group>/<Group>_lmk.txt     lines `file label x1 y1 ... x5 y5`
"""

import os
import pathlib
from collections.abc import Sequence

import numpy as np

from compress.data import pair_lists
from compress.data.align import parse_points
from compress.data.faces import VerificationSet, merge_groups
from compress.data.pairs import assemble
from compress.errors import InputError

GROUPS = ('African', 'Asian', 'Caucasian', 'Indian')


def load_rfw(
  path: str | os.PathLike,
  *,
  groups: Sequence[str] = GROUPS,
  aligned: bool = False,
  crop: int | None = None,
) -> VerificationSet:
  """Loads RFW as one verification set that knows the group of each pair.

  All four groups take about 1.5 GB of memory. For RFW packed into InsightFace
  files, one per group, use `merge_groups` over `load_bin`.

  Args:
    path: the folder with `data` and `txts`.
    groups: which of `GROUPS`.
    aligned: the photographs are aligned already; else the landmarks of
      `<Group>_lmk.txt` are used, which must then be there.
    crop: for aligned photographs, side of the central square, pixels.

  Returns:
    The groups' pairs one after the other, each with its group and with ten
    contiguous folds per group. Folds of different groups share their numbers.

  Raises:
    InputError: an unknown group, a missing file, a line of another form, an
      image that is missing or none, a photograph without landmarks.
  """
  root = pathlib.Path(path)
  unknown = [group for group in groups if group not in GROUPS]
  if unknown or not groups or len(set(groups)) != len(groups):
    raise InputError(
      f'RFW groups {list(groups)}: must be some of {", ".join(GROUPS)}, '
      'each once'
    )
  if crop is not None and not aligned:
    raise InputError('RFW: crop goes with aligned=True; landmarks need none')
  # Every list is checked before the first photograph is read.
  lists = {group: _read_list(root, group) for group in groups}
  landmarks = {
    group: None if aligned else _read_landmarks(root, group, listed)
    for group, listed in lists.items()
  }
  sets = {
    group: assemble(
      listed,
      root / 'data' / group,
      name=f'RFW {group}',
      landmarks=landmarks[group],
      crop=crop,
    )
    for group, listed in lists.items()
  }
  return merge_groups(sets, name='RFW')


def _read_list(root: pathlib.Path, group: str) -> pair_lists.PairList:
  path = root / 'txts' / group / f'{group}_pairs.txt'
  lines = pair_lists.read_lines(path)
  return pair_lists.parse_lfw(lines, name=str(path), header=False)


def _read_landmarks(
  root: pathlib.Path, group: str, listed: pair_lists.PairList
) -> dict[str, np.ndarray]:
  """Landmarks by relative path; files are told by their last part."""
  path = root / 'txts' / group / f'{group}_lmk.txt'
  wanted = {pathlib.PurePosixPath(file).name: file for file in listed.people}
  table = {}
  for number, line in enumerate(pair_lists.read_lines(path), start=1):
    fields = line.split()
    points = parse_points(fields[2:], where=f'{path}, line {number}')
    file = wanted.get(pathlib.PurePosixPath(fields[0]).name)
    if file is not None:
      table[file] = points
  missing = sorted(set(wanted.values()) - set(table))
  if missing:
    raise InputError(f'{path}: no landmarks for {missing[0]}')
  return table
