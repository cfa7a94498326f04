"""The leaves of a tree by their paths."""

from collections.abc import Iterable
from typing import Any

import jax

from compress import graph
from compress.errors import InputError


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


def by_path(tree) -> dict[str, Any]:
  """All leaves of a tree by their paths, in the order of its leaves."""
  return dict(zip(graph.leaf_paths(tree), jax.tree.leaves(tree), strict=True))
