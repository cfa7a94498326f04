"""Arrays of which only some indices of some axes are there.

A `Kept` stands for an array of a model before channels were removed: it knows
the full shape, holds the entries that are left, and says which those are.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Indices = tuple[np.ndarray | None, ...]

# A selection of more runs than this is one gather, not slices put together.
_MOST_RUNS = 8


class Uneven(ValueError):
  """What is left of an array is no box: other indices in other places."""


class Kept:
  """An array and the indices of its full shape that are left.

  Attributes:
    full: the shape before anything was removed.
    kept: per axis the sorted indices that are left, or None for all.
    array: the entries that are left; computed when first asked for.
    pull: makes the same value of fewer indices from what it was made of, or
      None where the array can only be cut.
  """

  def __init__(
    self,
    full: Sequence[int],
    kept: Indices,
    make: Callable[[], Any],
    pull: Callable[[Indices], 'Kept'] | None = None,
  ):
    self.full = tuple(full)
    self.kept = kept
    self.pull = pull
    self._make = make

  @functools.cached_property
  def array(self) -> Any:
    return self._make()

  @property
  def shrunk(self) -> bool:
    """Whether anything is removed."""
    return any(k is not None for k in self.kept)

  @property
  def shape(self) -> tuple[int, ...]:
    """The shape of what is left."""
    return left(self.full, self.kept)

  def only(self, kept: Indices) -> 'Kept':
    """The same value with only those indices, a part of the present ones."""
    if all(map(_same, kept, self.kept)):
      return self
    if self.pull is not None:
      try:
        return self.pull(kept)
      except Uneven:
        pass

    def cut():
      array = self.array
      for axis, (have, want) in enumerate(zip(self.kept, kept, strict=True)):
        if not _same(have, want):
          array = take(array, axis, positions(have, want))
      return array

    return Kept(self.full, kept, cut)

  def filled(self, kept: Indices) -> 'Kept':
    """The same value at those indices, zero where it has none of them."""
    array = self.only(tuple(map(meet, self.kept, kept)))
    if all(map(_same, array.kept, kept)):
      return array
    places = [
      np.arange(n) if _same(have, want) else positions(want, have)
      for n, have, want in zip(array.shape, array.kept, kept, strict=True)
    ]

    def fill():
      zeros = jnp.zeros(left(self.full, kept), array.array.dtype)
      return zeros.at[np.ix_(*places)].set(array.array)

    return Kept(self.full, kept, fill)


def whole(array) -> Kept:
  """A value of which nothing is removed."""
  shape = np.shape(array)
  return Kept(shape, (None,) * len(shape), lambda: array)


def constant(array) -> Kept:
  """A number or array known while tracing; it is cut on the host."""
  if isinstance(array, jax.core.Tracer):
    return whole(array)
  shape = np.shape(array)

  def pull(kept):
    return Kept(shape, kept, lambda: np.asarray(array)[grid(shape, kept)])

  return Kept(shape, (None,) * len(shape), lambda: array, pull)


def grid(full: Sequence[int], kept: Indices) -> tuple[Any, ...]:
  """An index that selects the kept entries of a full array."""
  pairs = zip(full, kept, strict=True)
  return np.ix_(*(np.arange(n) if k is None else k for n, k in pairs))


def left(full: Sequence[int], kept: Indices) -> tuple[int, ...]:
  """The shape of what is left of a full shape."""
  pairs = zip(full, kept, strict=True)
  return tuple(n if k is None else len(k) for n, k in pairs)


def meet(a: np.ndarray | None, b: np.ndarray | None) -> np.ndarray | None:
  """The indices in both."""
  if a is None or b is None or a is b:
    return b if a is None else a
  return np.intersect1d(a, b, assume_unique=True)


def part(
  size: int, kept: np.ndarray | None, chosen: np.ndarray
) -> np.ndarray | None:
  """Kept indices of an axis made of `chosen` indices of another, in order."""
  if kept is None:
    return None
  there = np.zeros(size, bool)
  there[kept] = True
  return some(there[chosen])


def some(there: np.ndarray) -> np.ndarray | None:
  """The indices of the true entries; None if all are."""
  return None if there.all() else np.flatnonzero(there)


def mask(size: int, kept: np.ndarray | None) -> np.ndarray:
  """One bool an index: whether it is left."""
  there = np.full(size, kept is None)
  if kept is not None:
    there[kept] = True
  return there


def positions(have: np.ndarray | None, want: np.ndarray) -> np.ndarray:
  """Where the wanted indices stand among those that are there."""
  return want if have is None else np.searchsorted(have, want)


def take(array, axis: int, index: np.ndarray):
  """Static, sorted indices of one axis."""
  breaks = np.flatnonzero(np.diff(index) != 1) + 1
  runs = np.split(index, breaks)
  if len(runs) > _MOST_RUNS:
    return jnp.take(
      array,
      index,
      axis,
      mode='clip',
      unique_indices=True,
      indices_are_sorted=True,
    )
  pieces = [
    lax.slice_in_dim(array, int(run[0]), int(run[-1]) + 1, axis=axis)
    if len(run)
    else lax.slice_in_dim(array, 0, 0, axis=axis)
    for run in runs
  ]
  return pieces[0] if len(pieces) == 1 else lax.concatenate(pieces, axis)


def regrouped(
  old: Sequence[int], kept: Indices, new: Sequence[int]
) -> list[np.ndarray | None]:
  """Kept indices of an array's axes after a reshape.

  Args:
    old: full shape.
    kept: its kept indices.
    new: full shape after the reshape.

  Returns:
    Kept indices of the new axes.

  Raises:
    Uneven: what is left is no box of the new shape.
  """
  out: list[np.ndarray | None] = [None] * len(new)
  for first, second in _blocks(old, new):
    if all(kept[axis] is None for axis in first):
      continue
    there = np.ones((), bool)
    for axis in first:
      there = np.multiply.outer(there, mask(old[axis], kept[axis]))
    there = there.reshape([new[axis] for axis in second])
    box = np.ones((), bool)
    for i, axis in enumerate(second):
      others = tuple(j for j in range(len(second)) if j != i)
      line = there.any(others)
      box = np.multiply.outer(box, line)
      out[axis] = some(line)
    if not np.array_equal(box, there):
      raise Uneven(f'a reshape of {tuple(old)} to {tuple(new)}')
  return out


def _blocks(old, new):
  """Splits two shapes into the smallest runs of axes of equal product."""
  blocks, i, j = [], 0, 0
  while i < len(old) or j < len(new):
    both = i < len(old) and j < len(new)
    if both and jax.export.is_symbolic_dim(old[i]) and old[i] == new[j]:
      # Any number of examples: it can be compared with nothing else.
      blocks.append(([i], [j]))
      i, j = i + 1, j + 1
      continue
    first, second = [], []
    while True:
      sizes = (
        math.prod(old[a] for a in first),
        math.prod(new[a] for a in second),
      )
      if first + second and sizes[0] == sizes[1]:
        break
      if j >= len(new) or (i < len(old) and sizes[0] <= sizes[1]):
        first.append(i)
        i += 1
      else:
        second.append(j)
        j += 1
      if i >= len(old) and j >= len(new):
        break
    blocks.append((first, second))
  return blocks


def _same(a, b) -> bool:
  if a is None or b is None:
    return a is b
  return np.array_equal(a, b)
