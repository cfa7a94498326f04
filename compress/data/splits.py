"""Splits of a face data set by person, and smaller data sets for low-data runs.

No split here ever puts one person on both sides.
"""

import fractions
import re
from collections.abc import Iterable

import numpy as np

from compress.data.faces import FaceDataset, Split, take
from compress.errors import InputError

_MAX_RANGE = 10_000_000


def parse_identities(text: str) -> tuple[int, ...]:
  """Reads a list of people such as '1-30' or '1,5,9-12'.

  Args:
    text: numbers and inclusive ranges, separated by commas.

  Returns:
    The numbers, sorted.

  Raises:
    InputError: empty text, something that is no number or range, a range that
      runs backwards, a number given twice.
  """
  people: list[int] = []
  for part in text.split(','):
    match = re.fullmatch(r'\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?', part)
    if match is None:
      raise InputError(
        f'identities {text!r}: {part.strip()!r} is neither a number nor a '
        "range; right would be '1-30' or '1,5,9-12'"
      )
    first, last = int(match[1]), int(match[2] or match[1])
    if last < first or last - first > _MAX_RANGE:
      raise InputError(
        f'identities {text!r}: the range {part.strip()!r} must run upwards, '
        f'over at most {_MAX_RANGE} numbers'
      )
    people.extend(range(first, last + 1))
  chosen = sorted(set(people))
  if len(chosen) != len(people):
    raise InputError(f'identities {text!r}: a number is given twice')
  return tuple(chosen)


def _numbers(people: str | Iterable[int]) -> tuple[int, ...]:
  if isinstance(people, str):
    return parse_identities(people)
  return tuple(int(person) for person in people)


def select(dataset: FaceDataset, people: str | Iterable[int]) -> FaceDataset:
  """The photographs of some people, in the data set's order.

  Args:
    dataset: where they are taken from.
    people: identities, or text for `parse_identities`.

  Returns:
    The smaller data set.

  Raises:
    InputError: nobody chosen, or somebody who is not in the data set.
  """
  chosen = _numbers(people)
  if not chosen:
    raise InputError(f'{dataset.name}: a split without people')
  missing = sorted(set(chosen) - set(dataset.people))
  if missing:
    known = dataset.people
    raise InputError(
      f'{dataset.name} has no person {missing[0]}; it has {len(known)} people, '
      f'numbered {known[0]}..{known[-1]}'
    )
  return take(dataset, np.flatnonzero(np.isin(dataset.identities, chosen)))


def split_by_identity(
  dataset: FaceDataset,
  *,
  train: str | Iterable[int],
  test: str | Iterable[int],
) -> Split:
  """Some people to train on and some others to test on.

  Args:
    dataset: where they are taken from; people in neither list are left out.
    train: identities, or text such as '1-30'.
    test: likewise.

  Returns:
    Split(train, test).

  Raises:
    InputError: a person in both, an empty side, an unknown person.
  """
  train, test = _numbers(train), _numbers(test)
  both = sorted(set(train) & set(test))
  if both:
    raise InputError(
      f'{dataset.name}: person {both[0]} is in the training and in the test '
      f'split ({len(both)} in both); a split by identity shares nobody'
    )
  return Split(select(dataset, train), select(dataset, test))


def folds_by_identity(
  dataset: FaceDataset, *, folds: int = 4
) -> tuple[Split, ...]:
  """Cross-validation in which every person is tested exactly once.

  The sorted people are cut into contiguous blocks; split k tests on block k and
  trains on the others. With 40 people and 4 folds the last split trains on
  1-30 and tests on 31-40.

  Args:
    dataset: at least `folds` people.
    folds: how many splits, 2 or more.

  Returns:
    One Split per fold.

  Raises:
    InputError: fewer than 2 folds or more folds than people.
  """
  people = dataset.people
  if not 2 <= folds <= len(people):
    raise InputError(
      f'{dataset.name}: {folds} folds over {len(people)} people; right would '
      f'be 2 to {len(people)}'
    )
  blocks = [block.tolist() for block in np.array_split(people, folds)]
  return tuple(
    split_by_identity(
      dataset, train=sorted(set(people) - set(block)), test=block
    )
    for block in blocks
  )


def fraction(dataset: FaceDataset, share: float, *, seed: int) -> FaceDataset:
  """A random part of the photographs, with the people kept in balance.

  Every person keeps `share` of their photographs, rounded down; the places that
  are still free go to the people who lost most by rounding, ties in random
  order. So people with equally many photographs differ by one at most, a
  smaller share is contained in a larger one of the same seed when all people
  have equally many, and a person disappears only where fewer places than
  people are left. Low-data quantization of face networks is studied this way
  in Ef-QuantFace (arXiv 2402.18163).

  Args:
    dataset: N photographs.
    share: 0 < share <= 1; 1 gives the data set itself.
    seed: decides which photographs stay.

  Returns:
    round(share * N) photographs in the data set's order.

  Raises:
    InputError: a share outside (0, 1], or so small that nothing is left.
  """
  if not 0 < share <= 1:  # also refuses NaN
    raise InputError(f'data fraction {share}: must be above 0, at most 1')
  # Exact arithmetic, so that 0.1 of 10 is 1 on every machine.
  exact = fractions.Fraction(str(float(share)))
  total = round(exact * len(dataset))
  if not total:
    raise InputError(
      f'{dataset.name}: a data fraction of {share} leaves none of '
      f'{len(dataset)} photographs'
    )
  rng = np.random.default_rng(seed)
  people = dataset.people
  order = rng.permutation(len(people))
  shuffled = [
    rng.permutation(np.flatnonzero(dataset.identities == person))
    for person in people
  ]
  quotas = [exact * len(photos) for photos in shuffled]
  keep = [int(quota) for quota in quotas]
  by_loss = sorted(order.tolist(), key=lambda i: keep[i] - quotas[i])
  for i in by_loss[: total - sum(keep)]:
    keep[i] += 1
  kept = [photos[:n] for photos, n in zip(shuffled, keep, strict=True)]
  return take(dataset, np.sort(np.concatenate(kept)))
