"""Batches that hold genuine pairs: half drawn at random, half by identity.

A random batch of faces has almost no two photographs of one person, and losses
over pairs then have nothing to learn from. EKD's code fills each device's
batch with 32 photographs drawn from all, and 8 people with 4 photographs each
(Huang et al., 2022, arXiv:2206.02325).

Sampling is a pure function of (seed, step): a run that resumes at a step sees
the batches it would have seen.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from compress.errors import InputError

# Which draw a random stream belongs to, so that no two share numbers.
_GENERAL, _PEOPLE, _PHOTOS = range(3)


@dataclasses.dataclass(frozen=True)
class BatchShape:
  """How a batch is made up; the defaults are EKD's.

  Attributes:
    general: photographs drawn from all, without replacement in an epoch.
    people: identities of the balanced part, all different.
    photos: photographs of each of these; an identity with fewer repeats.
    least_photos: identities with fewer photographs than this stay out of the
      balanced part (not of the general one). 1 takes all, as EKD's code does;
      2 leaves out those that could only be paired with themselves.
    shards: devices. The sizes above are each device's; a batch is `shards`
      such blocks one after the other, as a batch-sharded array wants it.

  Raises:
    InputError: a size is out of range.
  """

  general: int = 32
  people: int = 8
  photos: int = 4
  least_photos: int = 1
  shards: int = 1

  def __post_init__(self):
    for name in ('general', 'people', 'photos'):
      if getattr(self, name) < 0:
        raise InputError(f'{name} is {getattr(self, name)}; at least 0.')
    if self.per_shard == 0:
      raise InputError('The batch is empty: general + people * photos is 0.')
    for name in ('least_photos', 'shards'):
      if getattr(self, name) < 1:
        raise InputError(f'{name} is {getattr(self, name)}; at least 1.')

  @property
  def per_shard(self) -> int:
    """Photographs of one device's block, the general ones first."""
    return self.general + self.people * self.photos

  @property
  def size(self) -> int:
    """Photographs of the whole batch."""
    return self.shards * self.per_shard


def identity_balanced(
  identities: np.ndarray, *, seed: int, shape: BatchShape = BatchShape()
) -> Callable[[int], np.ndarray]:
  """Makes the function from step to batch.

  The general part runs through a fresh permutation of all photographs each
  epoch; where an epoch ends within a batch, the next begins there, so that
  each photograph comes once in every `len(identities)` draws. (EKD's code
  draws each batch anew.) The balanced part runs through permutations of the
  people and drops the last, incomplete group of each, so that the people of a
  batch differ. A photograph may be in both parts.

  `BatchShape(general=0, people=P, photos=K)` gives fully balanced batches,
  `people=0` ordinary random ones.

  Args:
    identities: who is in each photograph, int `[N]`.
    seed: >= 0.
    shape: what a batch is made of.

  Returns:
    A function of the step (>= 0) that returns positions in `identities`,
    int32 `[shape.size]`. The same numbers for the same arguments, whatever
    was asked before.

  Raises:
    InputError: there are too few people or no photographs; a negative seed.
  """
  identities = np.asarray(identities)
  if seed < 0:
    raise InputError(f'seed is {seed}; at least 0.')
  if identities.ndim != 1 or identities.size == 0:
    raise InputError(
      f'identities has shape {identities.shape}; it must be [N], N above 0.'
    )
  photos_of = _photos_by_identity(identities, shape.least_photos)
  people = shape.people * shape.shards
  if len(photos_of) < people:
    raise InputError(
      f'{people} people per batch, but only {len(photos_of)} have '
      f'{shape.least_photos} or more photographs.'
    )
  permutation = functools.lru_cache(maxsize=4)(
    lambda stream, epoch, size: _rng(seed, stream, epoch).permutation(size)
  )

  def general(step):
    count = shape.general * shape.shards
    draws = np.arange(step * count, (step + 1) * count)
    epochs, places = np.divmod(draws, identities.size)
    return np.concatenate(
      [
        permutation(_GENERAL, int(epoch), identities.size)[
          places[epochs == epoch]
        ]
        for epoch in np.unique(epochs)
      ]
      or [np.zeros(0, np.int64)]
    )

  def balanced(step):
    if people == 0:
      return np.zeros(0, np.int64)
    epoch, group = divmod(step, len(photos_of) // people)
    order = permutation(_PEOPLE, epoch, len(photos_of))
    rng = _rng(seed, _PHOTOS, step)
    return np.concatenate(
      [
        np.resize(rng.permutation(photos_of[person]), shape.photos)
        for person in order[group * people : (group + 1) * people]
      ]
    )

  def sample(step: int) -> np.ndarray:
    blocks = [
      part(step).reshape(shape.shards, -1) for part in (general, balanced)
    ]
    return np.concatenate(blocks, axis=1).ravel().astype(np.int32)

  return sample


def _rng(seed: int, stream: int, number: int) -> np.random.Generator:
  entropy = np.random.SeedSequence((seed, stream, number))
  return np.random.Generator(np.random.Philox(entropy))


def _photos_by_identity(identities: np.ndarray, least: int) -> list[np.ndarray]:
  """Positions of each identity that has at least `least` photographs."""
  order = np.argsort(identities, kind='stable')
  _, starts, counts = np.unique(
    identities[order], return_index=True, return_counts=True
  )
  return [
    order[start : start + count]
    for start, count in zip(starts, counts, strict=True)
    if count >= least
  ]
