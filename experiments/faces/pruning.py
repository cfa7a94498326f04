"""A network without some of its channels, and the same again from a file."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from compress import distill, graph, prune
from experiments.faces.networks import Network

IMPORTANCE = ('group', 'taylor', 'random')

_PHOTOGRAPHS = 16


class Ranking(NamedTuple):
  """What the channels of a network are worth.

  Attributes:
    groups: those that may leave.
    importance: group name to [n].
  """

  groups: tuple[graph.ChannelGroup, ...]
  importance: dict[str, np.ndarray]


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


def rank_channels(
  network: Network,
  importance: str,
  *,
  images: np.ndarray,
  batches: int,
  seed: int,
  rules: Sequence[graph.Rule] = (),
) -> Ranking:
  """Ranks the channels of a network that may leave it.

  The embedding keeps its size, and so do channels that a normalisation or a
  constant ties together.

  Args:
    network: the trained network.
    importance: `group` (DepGraph: mean of the squared norms of all weights
      that a channel shares in), `taylor` (how far the embeddings of
      photographs move without it, to first order), or `random`, the control.
    images: uint8 [N, H, W, 3], training photographs, for `taylor`.
    batches: of photographs that `taylor` draws.
    seed: of the photographs and projections, or of the random importance.
    rules: rewrite rules.

  Returns:
    The ranking.
  """
  shape = jax.ShapeDtypeStruct((1, *network.image_shape), np.float32)
  traced = graph.trace(network.apply, network.variables, shape)
  groups = tuple(g for g in graph.channels(traced).groups if not g.tags)
  if importance == 'group':
    return Ranking(groups, prune.group_importance(groups, network.variables))
  if importance == 'random':
    return Ranking(groups, prune.random_importance(groups, seed=seed))
  rng = np.random.default_rng(seed)
  count = min(_PHOTOGRAPHS, len(images))
  apply = graph.rewrite(network.apply, graph.compose(*rules))
  values = prune.output_importance(
    lambda variables, batch: distill.normalize(apply(variables, batch)),
    network.variables,
    (
      images[rng.choice(len(images), count, replace=False)].astype(np.float32)
      for _ in range(batches)
    ),
    groups=groups,
    seed=seed,
  )
  return Ranking(groups, values)


def prune_network(
  network: Network,
  ranking: Ranking,
  sparsity: float,
  *,
  scope: str = 'local',
  most: float = 1.0,
  round_to: int = 1,
) -> Pruned:
  """Removes channels of least importance.

  Args:
    network: the trained network.
    ranking: of its channels.
    sparsity: fraction of the channels removed, in [0, 1).
    scope: `local` (each group alike) or `global` (one ranking).
    most: largest fraction that may leave one group, in (0, 1].
    round_to: survivors are rounded up to a multiple of this.

  Returns:
    The pruned network, compared with the masked one on an example.

  Raises:
    InputError: the sparsity lies outside [0, 1).
  """
  keep = prune.keep_channels(
    ranking.importance, sparsity, scope=scope, most=most, round_to=round_to
  )
  pixels = np.random.default_rng(0).integers(0, 256, (1, *network.image_shape))
  shrunk = graph.shrink(
    network.apply,
    network.variables,
    keep,
    pixels.astype(np.float32),
    groups=ranking.groups,
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
