"""A network without some of its channels, and the same again from a file."""

from typing import Any, NamedTuple

import jax
import numpy as np

from compress import graph, prune
from experiments.faces.networks import Network

IMPORTANCE = ('group', 'random')


class Pruned(NamedTuple):
  """A pruned network.

  Attributes:
    network: the smaller network.
    described: its kept channels, for a file; see `restore_network`.
    widths: group of channels to [kept, of how many], in order.
  """

  network: Network
  described: dict[str, Any]
  widths: dict[str, list[int]]


def prune_network(
  network: Network,
  sparsity: float,
  *,
  importance: str = 'group',
  scope: str = 'local',
  round_to: int = 1,
  seed: int = 0,
) -> Pruned:
  """Removes channels of least importance, group by group.

  The embedding keeps its size, and so do channels that a normalisation or a
  constant ties together.

  Args:
    network: the trained network.
    sparsity: fraction of the channels removed, in [0, 1).
    importance: `group` (DepGraph: mean of the squared norms of all weights
      that a channel shares in), or `random`, the control.
    scope: `local` (each group alike) or `global` (one ranking).
    round_to: survivors are rounded up to a multiple of this.
    seed: of the random importance.

  Returns:
    The pruned network, compared with the masked one on an example.

  Raises:
    InputError: the sparsity lies outside [0, 1).
  """
  shape = jax.ShapeDtypeStruct((1, *network.image_shape), np.float32)
  traced = graph.trace(network.apply, network.variables, shape)
  groups = [g for g in graph.channels(traced).groups if not g.tags]
  if importance == 'random':
    values = prune.random_importance(groups, seed=seed)
  else:
    values = prune.group_importance(groups, network.variables)
  keep = prune.keep_channels(values, sparsity, scope=scope, round_to=round_to)
  pixels = np.random.default_rng(0).integers(0, 256, shape.shape)
  shrunk = graph.shrink(
    network.apply,
    network.variables,
    keep,
    pixels.astype(np.float32),
    groups=groups,
  )
  described = graph.describe_kept(shrunk.kept, shrunk.shapes)
  widths = {name: [int(k.sum()), len(k)] for name, k in keep.items()}
  smaller = _with_kept(network, described, shrunk.variables)
  return Pruned(smaller, described, widths)


def restore_network(network: Network, described: dict[str, Any]) -> Network:
  """The pruned network from the trained one and what a file says was kept.

  Args:
    network: the trained network, at full size.
    described: `Pruned.described`.

  Returns:
    The smaller network, its variables those of the trained one that are left.
  """
  kept = graph.read_kept(described)[0]
  return _with_kept(
    network, described, graph.take_kept(network.variables, kept)
  )


def _with_kept(network, described, variables) -> Network:
  return network._replace(
    apply=graph.restore_shrunk(network.apply, described),
    train_apply=graph.restore_shrunk(network.train_apply, described),
    variables=variables,
  )
