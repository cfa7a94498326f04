"""Lists of face pairs as text, before any photograph is read.

Three layouts are known:

  'lfw'    First line `<folds> TAB <n>` (or only `<n>`: one fold). Then per fold
           n lines `name i j` (same person) and n lines `name1 i name2 j`. Photo
           i of a person is `name/name_000i.jpg`. Huang et al. 2007.
  'cross'  CALFW and CPLFW (Zheng et al. 2017, arXiv 1708.08197; Zheng and Deng
           2018): two lines per pair, `file.jpg t`, t the same on both; t = 0
           marks different people, any other t the same person. CALFW's t of a
           genuine pair is its fold, 1..10. All files lie in one folder.
  'sllfw'  SLLFW (Deng et al. 2017): two lines per pair, `name/name_0001.jpg`;
           the same person if the folders agree. Ten folds one after the other.

`guess_layout` tells the layout from the first line that is not empty:
numbers alone are 'lfw', a file and a number 'cross', a file alone 'sllfw'.
"""

import pathlib
import re
import typing

import numpy as np

from compress.data.faces import contiguous_folds
from compress.data.images import SUFFIXES
from compress.errors import InputError

LAYOUTS = ('lfw', 'cross', 'sllfw')

_FOLDS = 10


class PairList(typing.NamedTuple):
  """A list of pairs before any image is read.

  Attributes:
    pairs: P pairs of relative paths.
    genuine: bool [P].
    folds: int32 [P], or None.
    people: path to the name of the person on it.
  """

  pairs: list[tuple[str, str]]
  genuine: np.ndarray
  folds: np.ndarray | None
  people: dict[str, str]


def read_lines(path: pathlib.Path) -> list[str]:
  """The lines of a text file, stripped, empty ones left out.

  Raises:
    InputError: a missing file, no text, or nothing in it.
  """
  try:
    lines = path.read_text(encoding='utf-8-sig').splitlines()
  except OSError as error:
    raise InputError(
      f'{path}: cannot be read ({error.strerror or error})'
    ) from error
  except UnicodeDecodeError as error:
    raise InputError(f'{path}: not a text file of pairs') from error
  lines = [line.strip() for line in lines if line.strip()]
  if not lines:
    raise InputError(f'{path}: no pairs in it')
  return lines


def guess_layout(lines: list[str], *, name: str) -> str:
  """The layout that the first line shows.

  Args:
    lines: not empty.
    name: of the file, for messages.

  Returns:
    One of `LAYOUTS`.

  Raises:
    InputError: a first line of no known list.
  """
  fields = lines[0].split()
  if all(_is_number(field) for field in fields):
    return 'lfw'
  file = pathlib.PurePosixPath(fields[0]).suffix.lower() in SUFFIXES
  if file and len(fields) == 2 and _is_number(fields[1]):
    return 'cross'
  if file and len(fields) == 1 and '/' in fields[0]:
    return 'sllfw'
  raise InputError(
    f'{name}: {lines[0]!r:.60} begins no known list of pairs; name its layout '
    f'({", ".join(LAYOUTS)})'
  )


def parse_lfw(
  lines: list[str], *, name: str, suffix: str = '.jpg', header: bool = True
) -> PairList:
  """Reads the layout 'lfw'.

  Args:
    lines: not empty.
    name: of the file, for messages.
    suffix: of the photographs.
    header: whether the first line states folds and pairs; without it, the list
      is cut into ten contiguous folds where it has ten pairs or more (RFW).

  Raises:
    InputError: a line of another form, or another number of pairs than stated.
  """
  folds = each = None
  if header:
    stated = lines[0].split()
    if not (len(stated) in (1, 2) and all(_is_number(f) for f in stated)):
      raise InputError(
        f'{name}, line 1: {lines[0]!r:.60}: right would be the numbers of '
        "folds and of pairs, '10<TAB>300'"
      )
    folds = int(stated[0]) if len(stated) == 2 else 1
    each = int(stated[-1])
    lines = lines[1:]
    if not lines or len(lines) != 2 * folds * each:
      raise InputError(
        f'{name}: {len(lines)} pairs, but the first line states '
        f'{folds} x 2 x {each}'
      )
  pairs, genuine, people = [], [], {}
  for number, line in enumerate(lines, start=1 + header):
    fields = line.split('\t') if '\t' in line else line.split()
    if len(fields) == 3:
      fields = [fields[0], fields[1], fields[0], fields[2]]
      same = True
    else:
      same = False
    if len(fields) != 4 or not (
      _is_number(fields[1]) and _is_number(fields[3])
    ):
      raise InputError(
        f"{name}, line {number}: {line!r:.60}: right would be 'name i j' or "
        "'name1 i name2 j'"
      )
    pair = []
    for person, index in (fields[:2], fields[2:]):
      file = f'{person}/{person}_{int(index):04d}{suffix}'
      people[_inside(file, name=name, number=number)] = person
      pair.append(file)
    pairs.append(tuple(pair))
    genuine.append(same)
  genuine = np.array(genuine, bool)
  if folds is None:
    return PairList(pairs, genuine, _tenths(len(pairs)), people)
  if folds == 1:
    return PairList(pairs, genuine, None, people)
  expected = np.tile(np.repeat([True, False], each), folds)
  wrong = np.flatnonzero(genuine != expected)
  if wrong.size:
    raise InputError(
      f'{name}, line {wrong[0] + 2}: each fold must list its {each} pairs of '
      f'one person before its {each} pairs of two'
    )
  blocks = np.repeat(np.arange(folds, dtype=np.int32), 2 * each)
  return PairList(pairs, genuine, blocks, people)


def parse_cross(lines: list[str], *, name: str) -> PairList:
  """Reads the layout 'cross' (CALFW, CPLFW).

  The list states no fold for pairs of different people, and it states them
  after all the others; so both kinds are cut into ten contiguous parts, and
  part k of each makes fold k. Where genuine pairs carry folds 1..10, those are
  kept.

  Raises:
    InputError: an odd number of lines, a line of another form, two lines of a
      pair that disagree.
  """
  rows = []
  for number, line in enumerate(lines, start=1):
    fields = line.rsplit(maxsplit=1)
    if len(fields) != 2 or not _is_number(fields[1]):
      raise InputError(
        f"{name}, line {number}: {line!r:.60}: right would be 'file.jpg 1'"
      )
    rows.append((_inside(fields[0], name=name, number=number), int(fields[1])))
  _even(lines, name)
  for number, (a, b) in enumerate(zip(rows[::2], rows[1::2], strict=True)):
    if a[1] != b[1]:
      raise InputError(
        f'{name}, line {2 * number + 2}: the two lines of a pair must end in '
        f'the same number, not {a[1]} and {b[1]}'
      )
  marks = np.array([mark for _, mark in rows[::2]])
  pairs = [(a[0], b[0]) for a, b in zip(rows[::2], rows[1::2], strict=True)]
  people = {
    file: re.sub(r'_\d+$', '', pathlib.PurePosixPath(file).stem)
    for file, _ in rows
  }
  genuine = marks != 0
  folds = None
  if min(genuine.sum(), (~genuine).sum()) >= _FOLDS:
    folds = np.empty(len(pairs), np.int32)
    for kind in (genuine, ~genuine):
      folds[kind] = contiguous_folds(int(kind.sum()), folds=_FOLDS)
    if set(marks[genuine].tolist()) == set(range(1, _FOLDS + 1)):
      folds[genuine] = marks[genuine] - 1
  return PairList(pairs, genuine, folds, people)


def parse_sllfw(lines: list[str], *, name: str) -> PairList:
  """Reads the layout 'sllfw'.

  Raises:
    InputError: an odd number of lines, or a line that is no `person/file`.
  """
  files = []
  for number, line in enumerate(lines, start=1):
    if len(pathlib.PurePosixPath(line).parts) != 2:
      raise InputError(
        f"{name}, line {number}: {line!r:.60}: right would be 'name/file.jpg'"
      )
    files.append(_inside(line, name=name, number=number))
  _even(lines, name)
  people = {file: file.split('/')[0] for file in files}
  pairs = list(zip(files[::2], files[1::2], strict=True))
  genuine = np.array([people[a] == people[b] for a, b in pairs], bool)
  return PairList(pairs, genuine, _tenths(len(pairs)), people)


def _is_number(text: str) -> bool:
  return re.fullmatch('[0-9]{1,9}', text) is not None


def _tenths(count: int) -> np.ndarray | None:
  return contiguous_folds(count, folds=_FOLDS) if count >= _FOLDS else None


def _even(lines: list[str], name: str) -> None:
  if len(lines) % 2:
    raise InputError(
      f'{name}: {len(lines)} lines, an odd number; each pair takes two lines'
    )


def _inside(file: str, *, name: str, number: int) -> str:
  """The path itself, if it stays below the folder of images."""
  parts = pathlib.PurePosixPath(file).parts
  if not parts or '..' in parts or file.startswith(('/', '\\')):
    raise InputError(
      f'{name}, line {number}: {file!r:.60} leaves the folder of images'
    )
  return file
