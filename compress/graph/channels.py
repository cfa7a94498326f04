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

import dataclasses
from collections.abc import Mapping

import numpy as np

from compress.graph.rewrite import Graph


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
      softmax), `constant` where values of the program itself run along them:
      removal changes more than the channels. Keep these unless you know.
  """

  name: str
  size: int
  members: tuple[Member, ...]
  tags: frozenset[str]


class Survivors:
  """Which indices of every array survive a choice of channels."""

  def axes(self, path: tuple, var) -> tuple[np.ndarray | None, ...]:
    """Surviving indices of an array, axis by axis.

    Args:
      path: of the jaxpr that holds the variable; see the head of this file.
      var: a variable or literal of that jaxpr.

    Returns:
      For each axis None where every index survives, else int indices, rising.
    """
    raise NotImplementedError

  @property
  def leaves(self) -> dict[str, dict[int, np.ndarray]]:
    """Kept indices by leaf path and axis, only where something leaves."""
    raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Channels:
  """The channel groups of a model.

  Attributes:
    groups: in order of evaluation of their first producing leaf.
    frozen: leaf path to axis to the reason why (some of) its indices stay.
    unknown: operation without a rule (its source name and primitive) to the
      leaves that stay whole because of it.
  """

  groups: tuple[ChannelGroup, ...]
  frozen: Mapping[str, Mapping[int, str]]
  unknown: Mapping[str, tuple[str, ...]]

  def surviving(self, keep: Mapping[str, np.ndarray]) -> Survivors:
    """What is left of every array of the model.

    Args:
      keep: group name to bool `[n]`; groups that are not named stay whole.

    Returns:
      The surviving indices of every array.

    Raises:
      InputError: a name is unknown, a mask is not bool `[n]`, or keeps nothing.
    """
    raise NotImplementedError


def channels(graph: Graph) -> Channels:
  """Finds the channels of a traced model.

  Args:
    graph: the traced model; `graph.jaxpr` is read, nothing is computed.

  Returns:
    Its groups, and what is frozen and why.
  """
  raise NotImplementedError
