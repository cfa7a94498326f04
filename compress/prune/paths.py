"""The leaves of a tree by their paths."""

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import jax

from compress import compressor as compressor_lib
from compress import graph
from compress.errors import InputError

KERNELS = '.*kernel'
"""Kernels alone: no biases, scales, slopes or statistics."""


def by_path(tree) -> dict[str, Any]:
  """All leaves of a tree by their paths, in the order of its leaves."""
  return dict(zip(graph.leaf_paths(tree), jax.tree.leaves(tree), strict=True))


def pick(params, paths: Iterable[str]) -> dict[str, jax.Array]:
  """Some leaves of a tree, by their paths.

  Args:
    params: pytree of arrays.
    paths: leaf paths, e.g. the specs of a `compress.compressor.Plan`.

  Returns:
    Leaf path to leaf, in the order of `paths`.

  Raises:
    InputError: a path is no leaf.
  """
  leaves = by_path(params)
  for path in paths:
    if path not in leaves:
      raise InputError(
        f'no leaf {path!r}; leaves are {", ".join(leaves) or "none"}'
      )
  return {path: leaves[path] for path in paths}


def matching(params, prunable: str) -> dict[str, jax.Array]:
  """The leaves whose whole path matches a regular expression, by path.

  Args:
    params: pytree of arrays.
    prunable: regular expression over whole leaf paths, such as `KERNELS`.

  Returns:
    Leaf path to leaf, in the order of the leaves.

  Raises:
    InputError: the expression is none, or matches no leaf.
  """
  plan = compressor_lib.resolve([(prunable, True)], params)
  if not plan.specs:
    raise InputError(
      f'prunable={prunable!r} matches none of {list(plan.uncovered)}'
    )
  return pick(params, plan.specs)


def put(params, leaves: Mapping[str, jax.Array]):
  """The tree with some leaves, given by path, in place of its own."""

  def at(leaf, new, path):
    del leaf, path
    return new

  return compressor_lib.map_covered(at, params, leaves)


def path_key(key: jax.Array, path: str) -> jax.Array:
  """A random key of its own for each leaf path."""
  return jax.random.fold_in(key, zlib.crc32(path.encode()))
