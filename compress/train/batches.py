"""Batch order as a pure function of (seed, step).

Nothing is stored between steps, so a resumed run sees the batches that an
uninterrupted one would have seen, and a process can compute its own rows
without asking the others. The order of an epoch is a keyed permutation that is
evaluated only at the positions a batch needs: memory and time per step depend
on the batch, not on the data set.

The permutation is a Feistel network on pairs (left, right) with left < a,
right < b and a * b just above the number of items, where a round adds a hash of
one half to the other, modulo a or b; results outside the range are put in again
until they are inside ("cycle walking": Black and Rogaway, Ciphers with
arbitrary finite domains, CT-RSA 2002). The hash is the splitmix64 finaliser
(Steele, Lea and Flood, Fast splittable pseudorandom number generators, OOPSLA
2014). Good for shuffling; not for secrets.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from compress.errors import InputError

_ROUNDS = 8
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)

Tree = Any


def shuffled(
  positions: np.ndarray, *, size: int, seed: int, epoch: np.ndarray | int
) -> np.ndarray:
  """Return the items at some positions of a shuffled epoch.

  Args:
    positions: int [N], each in 0 to size - 1.
    size: number of items, at least 1.
    seed: 0 to 2**64 - 1.
    epoch: which epoch's order, an int or int [N].

  Returns:
    int64 [N], each in 0 to size - 1. For one seed and epoch this is a
    permutation: every item stands at exactly one position.
  """
  left_size = math.isqrt(size - 1) + 1
  right_size = -(-size // left_size)
  sizes = np.uint64(left_size), np.uint64(right_size)
  out = np.array(positions, np.uint64)
  keys = _hash(
    _hash(np.full(out.shape, seed, np.uint64)) + np.asarray(epoch, np.uint64)
  )
  todo = np.arange(out.size)
  while todo.size:
    out[todo] = _feistel(out[todo], keys[todo], sizes)
    todo = todo[out[todo] >= np.uint64(size)]
  return out.astype(np.int64)


def batch_indices(
  step: int,
  *,
  size: int,
  batch: int,
  seed: int,
  last: str = 'drop',
  process: int = 0,
  processes: int = 1,
) -> np.ndarray:
  """Return which items make up the batch of a step.

  Every epoch goes through all items in a new order, without replacement.

  Args:
    step: number of the step, from 0.
    size: number of items in the data set.
    batch: number of items in the global batch.
    seed: 0 to 2**64 - 1; seeds give unrelated orders.
    last: what happens to the size % batch items at the end of an epoch.
      'drop' leaves them out of that epoch (others in each epoch), so an epoch
      has size // batch steps. 'wrap' fills the batch from the next epoch's
      order, so that no item is left out; a batch may then hold an item twice.
    process: this process's number.
    processes: number of processes; process p gets the p-th contiguous piece.

  Returns:
    int64 [batch // processes].

  Raises:
    InputError: batch larger than the data set under 'drop', batch that does
      not divide over the processes, unknown `last`, numbers out of range.
  """
  _check(size, batch, seed, last, process, processes)
  rows = batch // processes
  offset = np.arange(process * rows, (process + 1) * rows, dtype=np.int64)
  if last == 'drop':
    epoch, within = divmod(step, size // batch)
    return shuffled(within * batch + offset, size=size, seed=seed, epoch=epoch)
  epochs, positions = np.divmod(step * batch + offset, size)
  return shuffled(positions, size=size, seed=seed, epoch=epochs)


def steps_per_epoch(*, size: int, batch: int, last: str = 'drop') -> int:
  """Return how many steps go through the data once (with 'wrap': at least).

  Args:
    size: number of items in the data set.
    batch: number of items in the global batch.
    last: 'drop' or 'wrap', as in `batch_indices`.

  Returns:
    The number of steps, at least 1.

  Raises:
    InputError: as `batch_indices`.
  """
  _check(size, batch, 0, last, 0, 1)
  return size // batch if last == 'drop' else -(-size // batch)


def array_batches(
  arrays: Tree,
  *,
  batch: int,
  seed: int,
  last: str = 'drop',
  process: int | None = None,
  processes: int | None = None,
) -> Callable[[int], Tree]:
  """Make the batch function of data held in memory.

  Args:
    arrays: pytree of numpy arrays `[N, ...]`.
    batch: number of items in the global batch.
    seed: as in `batch_indices`.
    last: as in `batch_indices`.
    process: by default `jax.process_index()`.
    processes: by default `jax.process_count()`.

  Returns:
    `batch_fn(step)`, the pytree of this process's rows
    `[batch // processes, ...]`.

  Raises:
    InputError: the arrays differ in length, or as `batch_indices`.
  """
  lengths = {len(array) for array in jax.tree.leaves(arrays)}
  if len(lengths) != 1:
    raise InputError(
      f'The arrays have {sorted(lengths)} rows; all need the same number.'
    )
  indices = partial(
    batch_indices,
    size=lengths.pop(),
    batch=batch,
    seed=seed,
    last=last,
    process=jax.process_index() if process is None else process,
    processes=jax.process_count() if processes is None else processes,
  )
  indices(0)

  def batch_fn(step):
    rows = indices(step)
    return jax.tree.map(lambda array: array[rows], arrays)

  return batch_fn


def _hash(x):
  """Scramble uint64 words (splitmix64); multiplication wraps around."""
  x = x + _GOLDEN
  x = (x ^ (x >> np.uint64(30))) * _MIX1
  x = (x ^ (x >> np.uint64(27))) * _MIX2
  return x ^ (x >> np.uint64(31))


def _feistel(x, keys, sizes):
  left, right = x // sizes[1], x % sizes[1]
  for number in range(0, _ROUNDS, 2):
    mixed = _hash(_hash(keys + np.uint64(number)) ^ right)
    left = (left + mixed % sizes[0]) % sizes[0]
    mixed = _hash(_hash(keys + np.uint64(number + 1)) ^ left)
    right = (right + mixed % sizes[1]) % sizes[1]
  return left * sizes[1] + right


def _check(size, batch, seed, last, process, processes):
  if last not in ('drop', 'wrap'):
    raise InputError(f"last is {last!r}; it is 'drop' or 'wrap'.")
  if size < 1 or batch < 1:
    raise InputError(
      f'There are {size} items and a batch of {batch}; both are at least 1.'
    )
  if last == 'drop' and batch > size:
    raise InputError(
      f'A batch of {batch} is larger than the {size} items; take at most '
      f"{size}, or last='wrap'."
    )
  if not 0 <= seed < 2**64:
    raise InputError(f'The seed is {seed}; it is from 0 to 2**64 - 1.')
  if batch % processes:
    raise InputError(
      f'A batch of {batch} does not divide over {processes} processes.'
    )
  if not 0 <= process < processes:
    raise InputError(
      f'process is {process}; with {processes} processes it is from 0 to '
      f'{processes - 1}.'
    )
