"""Teacher assistants: a chain from a large teacher to a small student.

Mirzadeh, Farajtabar, Li, Levine, Matsukawa, Ghasemzadeh 2020, 'Improved
Knowledge Distillation via Teacher Assistant', arXiv:1902.03393. A teacher that
is much larger than the student may teach it worse than a smaller one; networks
of sizes between are distilled one after the other. Sizes here are places in a
ladder, 0 the largest. A path is a rising tuple of places: (0, 3) is plain
distillation from 0 to 3, (0, 1, 3) has one assistant.

Between a teacher and a student with m sizes between there are 2^m paths, which
share beginnings and so take 2^(m+1) - 1 trainings. The search keeps for every
size only the best network found so far (the paper's dynamic programme), which
takes (m+1)(m+2)/2: it trusts that of two networks of one size the more accurate
one is the better teacher. Accuracies to choose by are those on validation
images, never on those of the report.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from compress.errors import InputError

Path = tuple[int, ...]


class Hop(NamedTuple):
  """One distillation of a search.

  Attributes:
    path: how the student came about, its own place last.
    accuracy: of the student.
  """

  path: Path
  accuracy: float


class Found(NamedTuple):
  """The end of a search.

  Attributes:
    path: the best path to the smallest network.
    model: the smallest network, taught along it.
    accuracy: its accuracy.
    hops: all distillations, in the order in which they were done.
  """

  path: Path
  model: Any
  accuracy: float
  hops: tuple[Hop, ...]


def all_paths(
  first: int, last: int, *, most_assistants: int | None = None
) -> tuple[Path, ...]:
  """Every path from one place in the ladder to another.

  Args:
    first: the teacher's place.
    last: the student's, greater.
    most_assistants: paths with more networks between are left out.

  Returns:
    The paths, the direct one first, then by number of assistants.

  Raises:
    InputError: places that are not in order, a number below 0.
  """
  if not 0 <= first < last:
    raise InputError(
      f'a path from place {first} to {last}; right is 0 or more, and upwards'
    )
  between = range(first + 1, last)
  most = len(between) if most_assistants is None else most_assistants
  if most < 0:
    raise InputError(f'most_assistants is {most}; right is 0 or more')
  return tuple(
    (first, *chosen, last)
    for count in range(min(most, len(between)) + 1)
    for chosen in itertools.combinations(between, count)
  )


def trainings(paths: Iterable[Sequence[int]]) -> tuple[Path, ...]:
  """The distillations that paths need, beginnings that they share once.

  Args:
    paths: each from a teacher that is there already.

  Returns:
    Beginnings of two places or more, shorter ones first: the order in which
    they can be trained, each from the network of the path without its last.
  """
  needed = {
    tuple(path[:end]) for path in paths for end in range(2, len(path) + 1)
  }
  return tuple(sorted(needed, key=lambda path: (len(path), path)))


def best_path(accuracies: Mapping[Path, float], *, last: int) -> Path:
  """The path to a student with the highest accuracy.

  Args:
    accuracies: path to the accuracy of the network at its end.
    last: the student's place; other paths are not looked at.

  Returns:
    The best path; of equally good ones the shortest, then the first in order.

  Raises:
    InputError: no path leads there, or an accuracy is not finite.
  """
  reaching = {p: a for p, a in accuracies.items() if p[-1] == last}
  if not reaching or not np.isfinite(list(reaching.values())).all():
    raise InputError(
      f'{len(reaching)} paths to place {last}; right is at least one, with '
      'finite accuracies'
    )
  return min(reaching, key=lambda path: (-reaching[path], len(path), path))


def run_path(
  distil: Callable[[Any, int], tuple[Any, float]],
  path: Sequence[int],
  *,
  teacher: Any,
) -> Found:
  """Distils along one path.

  Args:
    distil: `(teacher, place) -> (model, accuracy)`, trains the network of a
      place in the ladder by a teacher.
    path: two places or more; the first is the teacher's.
    teacher: the trained network of the first place.

  Returns:
    The end; a path of two places is plain distillation.

  Raises:
    InputError: a path of one place, or one that does not go upwards; an
      accuracy that is not finite.
  """
  path = tuple(path)
  if len(path) < 2 or any(a >= b for a, b in itertools.pairwise(path)):
    raise InputError(f'path {path}; right are two rising places or more')
  model, hops = teacher, []
  for end in range(2, len(path) + 1):
    model, accuracy = _distilled(distil, model, path[:end])
    hops.append(Hop(path[:end], accuracy))
  return Found(path, model, hops[-1].accuracy, tuple(hops))


def search_path(
  distil: Callable[[Any, int], tuple[Any, float]],
  count: int,
  *,
  teacher: Any,
  first: int = 0,
  most_assistants: int | None = None,
) -> Found:
  """Looks for the best path from a teacher to the end of the ladder.

  Every place is reached from the best networks of all places before it. With
  `most_assistants` the best is kept for every number of hops, for a good
  network at the end of a long path may be out of reach.

  Args:
    distil: `(teacher, place) -> (model, accuracy)`; the accuracy is that on
      the images to choose by.
    count: places of the ladder; the student's is `count - 1`.
    teacher: the trained network of the first place.
    first: its place.
    most_assistants: networks between at most; None for any number.

  Returns:
    The best path and what it led to. Of equally good ones the shorter.

  Raises:
    InputError: no place after the teacher's, a number below 0, an accuracy
      that is not finite.
  """
  if not 0 <= first < count - 1:
    raise InputError(
      f'a search from place {first} of {count}; right is a place with another '
      'after it'
    )
  if most_assistants is not None and most_assistants < 0:
    raise InputError(
      f'most_assistants is {most_assistants}; right is 0 or more'
    )
  hops: list[Hop] = []
  # Place -> what is kept of it; one a number of hops where that is limited.
  kept: dict[int, list[Found]] = {
    first: [Found((first,), teacher, float('nan'), ())]
  }
  for place in range(first + 1, count):
    reached = []
    for source in (x for before in range(first, place) for x in kept[before]):
      # A hop that does not end at the student's place adds an assistant.
      used = len(source.path) - 1 + (place < count - 1)
      if most_assistants is not None and used > most_assistants:
        continue
      path = (*source.path, place)
      model, accuracy = _distilled(distil, source.model, path)
      hops.append(Hop(path, accuracy))
      reached.append(Found(path, model, accuracy, ()))
    kept[place] = _best(reached, each_length=most_assistants is not None)
  end = _best(kept[count - 1], each_length=False)[0]
  return end._replace(hops=tuple(hops))


def _distilled(distil, teacher, path):
  """The network at the end of a path, and its accuracy."""
  model, accuracy = distil(teacher, path[-1])
  if not np.isfinite(accuracy):
    raise InputError(f'path {path}: accuracy {accuracy}; right is finite')
  return model, float(accuracy)


def _best(found: list[Found], *, each_length: bool) -> list[Found]:
  """The most accurate one, or that of every length of path."""
  groups: dict[int, list[Found]] = {}
  for one in found:
    groups.setdefault(len(one.path) if each_length else 0, []).append(one)
  return [
    min(group, key=lambda x: (-x.accuracy, len(x.path), x.path))
    for _, group in sorted(groups.items())
  ]
