"""From labels to channels: classes of leaf entries, and families of classes.

A class is an atom with all entries of the leaves, and of the outputs, that it
decides about. Classes are alike, one family, when they hold equally many
entries of the same axes in the same places of the products: heads and their
dimensions share the axes of a fused kernel, yet differ.
"""

from typing import NamedTuple

import numpy as np

from compress.graph.label_walk import Walk
from compress.graph.labels import FIXED


class Part(NamedTuple):
  """Entries `indices` `[n, k]` of an axis of leaf, or output, number `leaf`."""

  leaf: int
  axis: int
  indices: np.ndarray


class Family(NamedTuple):
  """Classes that are alike.

  Attributes:
    atoms: the class of each channel, `[n]`.
    parts: their entries, in the order of leaves and axes.
    first: leaf number of the first one that produces them, or of the first.
    outputs: their entries of outputs, by number.
  """

  atoms: np.ndarray
  parts: tuple[Part, ...]
  first: int
  outputs: tuple[Part, ...]


def families(walk: Walk) -> list[Family]:
  """All families, in the order in which the model produces them."""
  axes, entries = _entries(walk)
  atom, key, index = entries
  if not len(atom):
    return []
  # A run is the entries of one class on one axis, in one factor.
  new = np.ones(len(atom), bool)
  new[1:] = (np.diff(atom) != 0) | (np.diff(key) != 0)
  start = np.flatnonzero(new)
  count = np.diff(np.append(start, len(atom)))
  runs = np.stack([key[start], count], 1)
  first_run = np.flatnonzero(np.diff(atom[start], prepend=-1))
  last_run = np.append(first_run[1:], len(start))
  alike: dict[bytes, list[int]] = {}
  for i, (begin, end) in enumerate(zip(first_run, last_run, strict=True)):
    alike.setdefault(runs[begin:end].tobytes(), []).append(i)
  order = {use: i for i, use in enumerate(walk.roles)}
  found = []
  for classes in alike.values():
    begin = first_run[classes]
    places = range(last_run[classes[0]] - begin[0])
    rows = [_rows(index, start[begin + r], count[begin[0] + r]) for r in places]
    keys = [int(key[start[begin[0] + r]]) for r in places]
    family = _family(walk, axes, atom[start[begin]], keys, rows, order)
    found.append((*family[:-1], family))
  return [family[-1] for *_, family in sorted(found, key=lambda f: f[:-1])]


def _entries(walk):
  """All entries by class: the axes; class, axis and factor, index.

  The outputs are numbered on from the leaves.
  """
  axes, columns = [], []
  for leaf, labels_of in enumerate([*walk.leaves, *walk.outputs]):
    for axis, labels in enumerate(labels_of):
      table, _ = walk.labels.factors(labels)
      for place in range(table.shape[1]):
        atoms = table[:, place].copy()
        atoms[(table[:, :place] == atoms[:, None]).any(1)] = FIXED
        index = np.flatnonzero(atoms)
        if index.size:
          key = np.full(index.size, len(axes))
          columns.append(np.stack([atoms[index], key, index]))
          axes.append((leaf, axis))
  if not columns:
    return axes, np.zeros((3, 0), np.int64)
  entries = np.concatenate(columns, 1)
  owned = np.array([leaf < len(walk.leaves) for leaf, _ in axes])[entries[1]]
  if not owned.all():  # classes of outputs alone are no channels
    entries = entries[:, np.isin(entries[0], entries[0, owned])]
  return axes, entries[:, np.lexsort(entries[::-1])]


def _rows(index, starts, count):
  return index[starts[:, None] + np.arange(count)]


def _family(walk, axes, atoms, keys, rows, order):
  """The sort key of a family, and the family."""
  parts: dict[tuple[int, int], np.ndarray] = {}
  for key, indices in zip(keys, rows, strict=True):
    use = axes[key]
    if use in parts:
      indices = np.sort(np.concatenate([parts[use], indices], 1), 1)
    parts[use] = indices
  made = [use for use in parts if walk.roles.get(use) == 'out']
  first = min(made, key=order.__getitem__) if made else min(parts)
  rank = np.argsort(parts[first][:, 0], kind='stable')
  listed = [
    Part(leaf, axis, parts[leaf, axis][rank]) for leaf, axis in sorted(parts)
  ]
  count = len(walk.leaves)
  members = tuple(part for part in listed if part.leaf < count)
  outputs = tuple(
    part._replace(leaf=part.leaf - count) for part in listed[len(members) :]
  )
  when = order[first] if made else len(order) + first[0]
  place = keys[[axes[key] for key in keys].index(first)]
  return when, place, Family(atoms[rank], members, first[0], outputs)
