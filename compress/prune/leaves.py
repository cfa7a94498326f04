"""Which leaves a saliency is taken of, as a flat mapping from path to array."""

from collections.abc import Mapping

import jax

from compress import compressor as compressor_lib
from compress.errors import InputError
from compress.prune.masking import by_path

KERNELS = '.*kernel'
"""Kernels alone: no biases, scales, slopes or statistics."""


def covered(params, prunable: str) -> dict[str, jax.Array]:
  """The leaves whose whole path matches a regular expression, by path.

  Raises:
    InputError: the expression is none, or matches no leaf.
  """
  plan = compressor_lib.resolve([(prunable, True)], params)
  if not plan.specs:
    raise InputError(
      f'prunable={prunable!r} matches none of {list(plan.uncovered)}'
    )
  leaves = by_path(params)
  return {path: leaves[path] for path in plan.specs}


def put(params, leaves: Mapping[str, jax.Array]):
  """The tree with some leaves, given by path, in place of its own."""

  def at(leaf, new, path):
    del leaf, path
    return new

  return compressor_lib.map_covered(at, params, leaves)


def empty_leaves(masks: Mapping[str, jax.Array]) -> tuple[str, ...]:
  """Paths whose mask keeps nothing: a layer that collapsed.

  Nothing passes a collapsed layer but what a shortcut or a bias carries, and
  no gradient brings it back. Pruning at initialization by a global threshold
  is known for it (Tanaka et al. 2020), so look before training starts.
  """
  return tuple(path for path, mask in masks.items() if not mask.any())
