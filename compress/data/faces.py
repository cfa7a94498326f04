"""Face photographs with identities, and lists of pairs to verify.

Notation: N photographs, P pairs, K folds. A `FaceDataset` is what one trains
on; a `VerificationSet` is what one measures on. Both hold aligned 112 x 112 RGB
photographs as raw pixels, 0..255, and are checked when they are made.
"""

import dataclasses
import typing
from collections.abc import Iterable, Mapping

import numpy as np

from compress.errors import InputError

SIDE = 112  # pixels; the input of every face network here


def _check_images(name: str, images) -> None:
  if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
    kind = getattr(images, 'dtype', type(images).__name__)
    raise InputError(f'{name}: images must be a uint8 array, not {kind}')
  if images.ndim != 4 or images.shape[1:] != (SIDE, SIDE, 3):
    raise InputError(
      f'{name}: images must be [N, {SIDE}, {SIDE}, 3], not '
      f'{list(images.shape)}; align or crop them first'
    )
  if not len(images):
    raise InputError(f'{name}: there is no photograph in it')


def _check_vector(name: str, field: str, value, length: int, kinds: str):
  """Checks shape [length] and the dtype (`int32`, `bool` or `str`)."""
  dtype = getattr(value, 'dtype', None)
  fits = dtype is not None and (
    dtype.kind == 'U' if kinds == 'str' else dtype == np.dtype(kinds)
  )
  if not fits:
    given = type(value).__name__ if dtype is None else dtype
    raise InputError(f'{name}: {field} must be a {kinds} array, not {given}')
  if value.shape != (length,):
    raise InputError(
      f'{name}: {field} must be [{length}], not {list(value.shape)}'
    )


@dataclasses.dataclass(frozen=True, eq=False)
class FaceDataset:
  """Aligned photographs of known people.

  Attributes:
    name: what reports call it.
    images: uint8 [N, 112, 112, 3], RGB, aligned.
    identities: int32 [N], the data set's own numbers of the people.
    groups: str [N], the group of the person on each photograph, or None.
    paths: N strings that name the photographs in messages, or empty.

  Raises:
    InputError: for a wrong dtype, shape or length, and for no photograph.
  """

  name: str
  images: np.ndarray
  identities: np.ndarray
  groups: np.ndarray | None = None
  paths: tuple[str, ...] = ()

  def __post_init__(self):
    _check_images(self.name, self.images)
    count = len(self.images)
    _check_vector(self.name, 'identities', self.identities, count, 'int32')
    if self.groups is not None:
      _check_vector(self.name, 'groups', self.groups, count, 'str')
    if self.paths and len(self.paths) != count:
      raise InputError(
        f'{self.name}: {len(self.paths)} paths for {count} photographs'
      )

  def __len__(self) -> int:
    return len(self.images)

  @property
  def people(self) -> tuple[int, ...]:
    """The identities in it, sorted, each once."""
    return tuple(np.unique(self.identities).tolist())


@dataclasses.dataclass(frozen=True, eq=False)
class VerificationSet:
  """Photographs and the pairs of them that are to be told same or different.

  Attributes:
    name: what reports call it.
    images: uint8 [N, 112, 112, 3], RGB, aligned.
    pairs: int32 [P, 2], indices of photographs.
    genuine: bool [P], True where both show the same person.
    folds: int32 [P], the cross-validation block of each pair, or None.
    identities: int32 [N], the person on each photograph, or None.
    groups: str [P], the group of each pair, or None. '' marks a pair of
      people of two groups, which counts in no group.

  Raises:
    InputError: for a wrong dtype, shape, length or index, and for no pair.
  """

  name: str
  images: np.ndarray
  pairs: np.ndarray
  genuine: np.ndarray
  folds: np.ndarray | None = None
  identities: np.ndarray | None = None
  groups: np.ndarray | None = None

  def __post_init__(self):
    _check_images(self.name, self.images)
    pairs = self.pairs
    if getattr(pairs, 'dtype', None) != np.int32 or pairs.ndim != 2:
      raise InputError(f'{self.name}: pairs must be an int32 array [P, 2]')
    if pairs.shape[1] != 2 or not len(pairs):
      raise InputError(
        f'{self.name}: pairs must be [P, 2] with P > 0, not {list(pairs.shape)}'
      )
    if pairs.min() < 0 or pairs.max() >= len(self.images):
      raise InputError(
        f'{self.name}: pairs name photographs {pairs.min()}..{pairs.max()}, '
        f'but there are {len(self.images)}'
      )
    _check_vector(self.name, 'genuine', self.genuine, len(pairs), 'bool')
    if self.folds is not None:
      _check_vector(self.name, 'folds', self.folds, len(pairs), 'int32')
    if self.identities is not None:
      people = self.identities
      _check_vector(self.name, 'identities', people, len(self.images), 'int32')
      same = people[pairs[:, 0]] == people[pairs[:, 1]]
      wrong = np.flatnonzero(same != self.genuine)
      if wrong.size:
        raise InputError(
          f'{self.name}: pair {wrong[0]} is marked '
          f'{"same" if self.genuine[wrong[0]] else "different"}, which its '
          'identities contradict'
        )
    if self.groups is not None:
      _check_vector(self.name, 'groups', self.groups, len(pairs), 'str')

  def __len__(self) -> int:
    return len(self.pairs)


def all_pairs(
  dataset: FaceDataset, *, max_pairs: int = 20_000_000
) -> VerificationSet:
  """Every unordered pair of two photographs, once.

  Args:
    dataset: N photographs.
    max_pairs: more than this many are refused, before memory is spent.

  Returns:
    N (N - 1) / 2 pairs in the order (0, 1), (0, 2), ..., (N - 2, N - 1). Where
    the data set has groups, a pair within a group carries its name, and a pair
    across two groups carries ''.

  Raises:
    InputError: fewer than two photographs, or more than `max_pairs` pairs.
  """
  count = len(dataset)
  total = count * (count - 1) // 2
  if not 0 < total <= max_pairs:
    raise InputError(
      f'{dataset.name}: {count} photographs make {total} pairs; all pairs are '
      f'formed for 1 to {max_pairs} (choose fewer people, or a list of pairs)'
    )
  first, second = np.triu_indices(count, k=1)
  people, groups = dataset.identities, None
  if dataset.groups is not None:
    left, right = dataset.groups[first], dataset.groups[second]
    groups = np.where(left == right, left, '')
  return VerificationSet(
    name=dataset.name,
    images=dataset.images,
    pairs=np.stack([first, second], axis=1).astype(np.int32),
    genuine=people[first] == people[second],
    identities=people,
    groups=groups,
  )


def contiguous_folds(count: int, *, folds: int = 10) -> np.ndarray:
  """Contiguous blocks of a list; the first ones one longer where needed.

  This is how lists of face pairs are meant to be cut (ten blocks, unshuffled).

  Args:
    count: P, how many pairs.
    folds: K.

  Returns:
    int32 [P] with values 0..K-1, not decreasing.

  Raises:
    InputError: fewer pairs than folds.
  """
  if not 1 <= folds <= count:
    raise InputError(f'{count} pairs cannot be cut into {folds} folds')
  sizes = np.full(folds, count // folds)
  sizes[: count % folds] += 1
  return np.repeat(np.arange(folds, dtype=np.int32), sizes)


def merge_groups(
  sets: Mapping[str, VerificationSet], *, name: str
) -> VerificationSet:
  """Puts verification sets of several groups into one that knows the groups.

  Args:
    sets: group name to its set. Folds are kept where all of them have folds;
      people of different sets count as different people.
    name: the name of the result.

  Returns:
    The sets one after the other.

  Raises:
    InputError: no set at all.
  """
  if not sets:
    raise InputError(f'{name}: no group given')
  members = list(sets.values())
  starts = np.cumsum([0] + [len(s.images) for s in members[:-1]])
  folds = identities = None
  if all(s.folds is not None for s in members):
    folds = np.concatenate([s.folds for s in members])
  if all(s.identities is not None for s in members):
    identities, start = [], 0
    for member in members:
      labels = np.unique(member.identities, return_inverse=True)[1]
      identities.append(labels.astype(np.int32) + np.int32(start))
      start += int(labels.max()) + 1
    identities = np.concatenate(identities)
  return VerificationSet(
    name=name,
    images=np.concatenate([s.images for s in members]),
    pairs=np.concatenate(
      [s.pairs + np.int32(n) for s, n in zip(members, starts, strict=True)]
    ),
    genuine=np.concatenate([s.genuine for s in members]),
    folds=folds,
    identities=identities,
    groups=np.repeat(list(sets), [len(s) for s in members]),
  )


class Split(typing.NamedTuple):
  """Two data sets that share no person."""

  train: FaceDataset
  test: FaceDataset


def take(dataset: FaceDataset, indices: Iterable[int]) -> FaceDataset:
  """The photographs at the given positions, in that order."""
  indices = np.asarray(list(indices), dtype=np.int64)
  paths = dataset.paths
  return FaceDataset(
    name=dataset.name,
    images=dataset.images[indices],
    identities=dataset.identities[indices],
    groups=None if dataset.groups is None else dataset.groups[indices],
    paths=tuple(paths[i] for i in indices) if paths else (),
  )
