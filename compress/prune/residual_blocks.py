"""Which channels lie inside a block, and which on the shortcuts between blocks.

Aghli and Ribeiro 2021, 'Combining Weight Pruning and Knowledge Distillation
for CNN Compression', CVPR Workshops. The sums of a residual network tie the
outputs of many layers, so filters are pruned first where nothing is tied:
between the convolutions of one block. What the shortcuts carry is narrowed
afterwards, in a student that is taught (`compress.distill.cosine`).

Filters are ranked by how often they speak: one minus the average percentage of
zeros of Hu, Peng, Tai, Tang 2016, 'Network Trimming', arXiv:1607.03250. That
the first paper ranks them so is from memory, unverified.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from compress.errors import InputError
from compress.graph import ChannelGroup
from compress.prune.paths import by_path
from compress.prune.units import tap_units


def inside_blocks(
  groups: Sequence[ChannelGroup], variables
) -> tuple[tuple[str, ...], tuple[str, ...]]:
  """Tells apart the channels that one layer makes for itself alone.

  A group lies inside a block if one kernel produces it, and produces nothing
  else. In a network without shortcuts all do.

  Args:
    groups: of `graph.channels`.
    variables: pytree of arrays or shapes that they are of.

  Returns:
    Names of the groups inside blocks, and of the others: those on shortcuts.
  """
  shapes = {path: leaf.shape for path, leaf in by_path(variables).items()}
  inside, between = [], []
  for group in groups:
    made = [
      member
      for member in group.members
      if member.role == 'out' and len(shapes[member.path]) > 1
    ]
    alone = len(made) == 1 and (
      made[0].indices.size == shapes[made[0].path][made[0].axis]
    )
    (inside if alone else between).append(group.name)
  return tuple(inside), tuple(between)


def activity(
  apply: Callable[..., Any],
  variables,
  places: Mapping[str, str],
  batches: Sequence[Any],
) -> dict[str, np.ndarray]:
  """How often each unit is above zero; 1 - APoZ, Hu et al. 2016, equation 1.

  Args:
    apply: pure function `apply(variables, batch)`.
    variables: its variables.
    places: key, such as a group's name, to the place after its ReLU, as in
      `compress.prune.units`.
    batches: at least one input of the model; equal sizes count equally.

  Returns:
    Key to float64 [C], the share of images and positions, 0..1; higher = keep.

  Raises:
    InputError: no batch, or a place that is not in the model.
  """
  if not len(batches):
    raise InputError('no batch to count activity on')
  tapped = tap_units(apply, places)

  @jax.jit
  def count(batch):
    _, found = tapped(variables, batch)
    return {
      key: (value > 0).mean(tuple(range(value.ndim - 1)))
      for key, value in found.items()
    }

  each = [jax.device_get(count(batch)) for batch in batches]
  return {
    key: np.mean([found[key] for found in each], 0, dtype=np.float64)
    for key in places
  }
