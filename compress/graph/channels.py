"""Which entries of which leaves leave together: the channels of a model.

The groups follow Fang et al. 2023, 'DepGraph', arXiv:2301.12900: what must be
removed together is the transitive closure of 'the same tensor' and 'the same
index of one leaf'. Here it is found by running the jaxpr on labels (see
`labels.py`), so no layer types are known, only primitives.

How the labels answer for every array of the model (what `shrink` reads):

  survivors = channels(graph).surviving({'stage1/block0/conv1': keep})
  survivors.axes(path, var)   # one entry an axis: None, or kept indices

`path` says which of the nested jaxprs `var` belongs to: `()` for the outermost
(`graph.jaxpr`), and `(*path, i, key)` for the body that `_jaxpr.bodies` yields
under `key` for equation number `i` of the jaxpr at `path`, so that one inner
jaxpr called from two places has two paths. `var` is any variable of that jaxpr:
input, constant variable, or result of an equation.
"""

import collections
import dataclasses
import difflib
from collections.abc import Mapping
from typing import Literal

import numpy as np

from compress.errors import InputError
from compress.graph import _jaxpr
from compress.graph.label_families import families
from compress.graph.label_walk import UNKNOWN, Walk
from compress.graph.labels import CONSTANT, NORM
from compress.graph.rewrite import Graph
from compress.graph.sites import weight_name


@dataclasses.dataclass(frozen=True)
class Member:
  """Entries of one axis of one leaf that belong to a group.

  Attributes:
    path: of the leaf in the variables (`params/stage1/conv/kernel`).
    axis: of the leaf.
    indices: int `[n, k]`; row i are the k entries that leave with channel i.
    role: `out` where the leaf produces the channel, `in` where it is
      contracted with it, else `elementwise`.
  """

  path: str
  axis: int
  indices: np.ndarray
  role: str


@dataclasses.dataclass(frozen=True)
class ChannelGroup:
  """Channels that are alike and leave one by one.

  Attributes:
    name: of the first producing leaf, without its collection and `/kernel`;
      one that comes again gets `#1`, `#2`, ...
    size: number of channels n.
    members: what leaves with them, in the order of the leaves.
    tags: `norm` where a reduction runs over the channels (LayerNorm,
      softmax), or a product of values that are not zero where the leaves are;
      `constant` where values of the program itself run along them. Removal
      changes more than the channels: keep these unless you know.
    outputs: number of an output of the model, as its tree's leaves count, to
      int `[n, k]`; row i are the k entries of its last axis that leave with
      channel i. An output that is merely broadcast to that length stays whole
      all the same. Empty unless the outputs are free.
  """

  name: str
  size: int
  members: tuple[Member, ...]
  tags: frozenset[str]
  outputs: Mapping[int, np.ndarray] = dataclasses.field(default_factory=dict)


class Survivors:
  """Which indices of every array survive a choice of channels."""

  def __init__(self, walk: Walk, paths: list[str], removed: np.ndarray):
    self._walk = walk
    self._paths = paths
    self._alive = np.ones(len(walk.labels), bool)
    self._alive[removed] = False
    self._known: dict[int, np.ndarray | None] = {}

  def axes(self, path: tuple, var) -> tuple[np.ndarray | None, ...]:
    """Surviving indices of an array, axis by axis.

    Args:
      path: of the jaxpr that holds the variable; see the head of this file.
      var: a variable or literal of that jaxpr.

    Returns:
      For each axis None where every index survives, else int indices, rising.
    """
    if not getattr(var.aval, 'shape', ()):
      return ()
    key = id(var) if _jaxpr.is_literal(var) else var
    return tuple(map(self._axis, self._walk.arrays[path][key]))

  @property
  def leaves(self) -> dict[str, dict[int, np.ndarray]]:
    """Kept indices by leaf path and axis, only where something leaves."""
    out: dict[str, dict[int, np.ndarray]] = {}
    for path, axes in zip(self._paths, self._walk.leaves, strict=True):
      for axis, labels in enumerate(axes):
        kept = self._axis(labels)
        if kept is not None:
          out.setdefault(path, {})[axis] = kept
    return out

  def _axis(self, labels):
    if id(labels) not in self._known:
      stays = self._alive[self._walk.labels.factors(labels)[0]].all(1)
      self._known[id(labels)] = None if stays.all() else np.flatnonzero(stays)
    return self._known[id(labels)]


@dataclasses.dataclass(frozen=True)
class Channels:
  """The channel groups of a model.

  Attributes:
    groups: in order of evaluation of their first producing leaf.
    frozen: leaf path to axis to the reason why (some of) its indices stay.
    unknown: place of an operation without a rule (its source name and its
      primitive) to the leaves that stay whole because of it.
  """

  groups: tuple[ChannelGroup, ...]
  frozen: Mapping[str, Mapping[int, str]]
  unknown: Mapping[str, tuple[str, ...]]
  _walk: Walk = dataclasses.field(repr=False, compare=False)
  _paths: list[str] = dataclasses.field(repr=False, compare=False)
  _atoms: Mapping[str, np.ndarray] = dataclasses.field(
    repr=False, compare=False
  )

  def surviving(self, keep: Mapping[str, np.ndarray]) -> Survivors:
    """What is left of every array of the model.

    Args:
      keep: group name to bool `[n]`; groups that are not named stay whole.

    Returns:
      The surviving indices of every array.

    Raises:
      InputError: a name is unknown, a mask is not bool `[n]`, or keeps nothing.
    """
    removed = [np.zeros(0, np.int64)]
    for name, mask in keep.items():
      if name not in self._atoms:
        near = difflib.get_close_matches(name, self._atoms, 1)
        hint = f'; did you mean {near[0]!r}?' if near else ''
        raise InputError(f'no channel group is named {name!r}{hint}')
      atoms, mask = self._atoms[name], np.asarray(mask)
      if mask.dtype != bool or mask.shape != atoms.shape:
        raise InputError(
          f'keep[{name!r}] should be bool [{len(atoms)}]; got '
          f'{mask.dtype} {list(mask.shape)}'
        )
      if not mask.any():
        raise InputError(
          f'keep[{name!r}] keeps none of {len(atoms)} channels; one must stay'
        )
      removed.append(atoms[~mask])
    return Survivors(self._walk, self._paths, np.concatenate(removed))


def channels(
  graph: Graph, *, outputs: Literal['keep', 'free'] = 'keep'
) -> Channels:
  """Finds the channels of a traced model.

  Args:
    graph: the traced model; `graph.jaxpr` is read, nothing is computed.
    outputs: `keep` leaves every output of the model as long as it is. With
      `free` the indices of their last axes are channels like any other
      (shorter embeddings, fewer classes), and `ChannelGroup.outputs` says
      which groups hold them. Other axes of outputs stay, so does the only
      axis of an output, and whatever runs with an axis of the inputs.

  Returns:
    Its groups, and what is frozen and why. A channel like no other forms no
    group: one of each kind must stay.

  Raises:
    InputError: `outputs` is neither.
  """
  if outputs not in ('keep', 'free'):
    raise InputError(f"outputs={outputs!r}: right is 'keep' or 'free'")
  paths = list(graph.weights)
  walk = Walk(graph.jaxpr, paths, free=outputs == 'free')
  tagged = {
    tag: walk.labels.marked(bit)
    for tag, bit in (('norm', NORM), ('constant', CONSTANT))
  }
  groups, atoms = [], {}
  seen: collections.Counter[str] = collections.Counter()
  for family in families(walk):
    if len(family.atoms) == 1:
      walk.labels.freeze(family.atoms, 'all its channels are one')
      continue
    name = weight_name(paths[family.first])
    count = seen[name]
    seen[name] += 1
    name = f'{name}#{count}' if count else name
    tags = {
      tag
      for tag, marked in tagged.items()
      if np.isin(family.atoms, marked).any()
    }
    members = tuple(
      Member(
        paths[leaf],
        axis,
        indices,
        walk.roles.get((leaf, axis), 'elementwise'),
      )
      for leaf, axis, indices in family.parts
    )
    shortened = {part.leaf: part.indices for part in family.outputs}
    groups.append(
      ChannelGroup(name, len(family.atoms), members, frozenset(tags), shortened)
    )
    atoms[name] = family.atoms
  frozen = _frozen(walk, paths)
  unknown = {
    place: tuple(
      path
      for path, axes in frozen.items()
      if any(_because(UNKNOWN, place, reason) for reason in axes.values())
    )
    for place in walk.unknown
  }
  return Channels(tuple(groups), frozen, unknown, walk, paths, atoms)


def _frozen(walk, paths) -> dict[str, dict[int, str]]:
  """Why axes of leaves, longer than 1, stay as long as they are."""
  out: dict[str, dict[int, str]] = {}
  for path, axes in zip(paths, walk.leaves, strict=True):
    for axis, labels in enumerate(axes):
      reasons = walk.labels.reasons(labels) if len(labels) > 1 else {}
      if reasons:
        whole = sum(reasons.values()) == len(labels)
        text = '; '.join(
          reason if whole and len(reasons) == 1 else f'{count}: {reason}'
          for reason, count in reasons.items()
        )
        out.setdefault(path, {})[axis] = text
  return out


def _because(start, place, reason) -> bool:
  return start in reason and f'({place})' in reason
