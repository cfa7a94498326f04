"""What is left of a model's variables, and the model that follows from it.

What is left of every array of a model follows from what is left of its
variables, so the kept indices of the leaves are all that a shrunk model needs
beside the original function. They are plain data: `describe_kept` makes them
JSON-able, `restore_shrunk` makes the shrunk function from them.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compress.errors import InputError
from compress.graph import _jaxpr
from compress.graph._kept import Kept, mask, take, whole
from compress.graph._kept_flow import Evaluator
from compress.graph.sites import leaf_paths


def take_kept(variables, kept: Mapping[str, Mapping[int, np.ndarray]]):
  """Removes from a tree what is not kept.

  Args:
    variables: pytree of arrays or `jax.ShapeDtypeStruct`s; also any tree with
      the same paths (an optimizer's moments, masks).
    kept: leaf path to axis to kept indices.

  Returns:
    The tree with smaller leaves.
  """
  leaves, tree = jax.tree.flatten(variables)
  axes = [kept.get(path, {}) for path in leaf_paths(variables)]

  def cut(leaves):
    return [
      functools.reduce(lambda a, item: take(a, *item), chosen.items(), leaf)
      for leaf, chosen in zip(leaves, axes, strict=True)
    ]

  which = [i for i, chosen in enumerate(axes) if chosen]
  axes = [axes[i] for i in which]
  shapes = any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves)
  run = functools.partial(jax.eval_shape, cut) if shapes else jax.jit(cut)
  for i, leaf in zip(which, run([leaves[i] for i in which]), strict=True):
    leaves[i] = leaf
  return jax.tree.unflatten(tree, leaves)


def describe_kept(
  kept: Mapping[str, Mapping[int, np.ndarray]],
  shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, Any]:
  """The kept indices as JSON-able data, one bit an index.

  Args:
    kept: leaf path to axis to kept indices, as in `Shrunk`.
    shapes: leaf path to full shape, as in `Shrunk`.

  Returns:
    For `restore_shrunk`, and for a file's metadata.
  """
  return {
    path: {
      'shape': list(shapes[path]),
      'kept': {
        str(axis): np.packbits(mask(shapes[path][axis], index)).tobytes().hex()
        for axis, index in axes.items()
      },
    }
    for path, axes in kept.items()
  }


def read_kept(
  described: Mapping[str, Any],
) -> tuple[dict[str, dict[int, np.ndarray]], dict[str, tuple[int, ...]]]:
  """What was kept, from its description.

  Args:
    described: what `describe_kept` returned.

  Returns:
    `kept` and `shapes`, as in `Shrunk`.

  Raises:
    InputError: `described` is nothing that `describe_kept` returns.
  """
  kept: dict[str, dict[int, np.ndarray]] = {}
  shapes: dict[str, tuple[int, ...]] = {}
  for path, entry in described.items():
    try:
      shapes[path] = tuple(int(n) for n in entry['shape'])
      kept[path] = {
        int(axis): _indices(text, shapes[path][int(axis)])
        for axis, text in entry['kept'].items()
      }
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
      raise InputError(
        f'kept channels of {path!r} are {entry!r:.80}; right is '
        "{'shape': [...], 'kept': {axis: hexadecimal mask}}"
      ) from None
  return kept, shapes


def restore_shrunk(
  apply: Callable[..., Any], described: Mapping[str, Any]
) -> Callable[..., Any]:
  """The shrunk function, from the original one and what was kept.

  Args:
    apply: pure function of the full variables; the one that was shrunk or
      another of the same variables (in training mode, with other outputs).
      Outputs that follow removed channels, such as new batch statistics, come
      out as short as they.
    described: what `describe_kept` returned.

  Returns:
    The function of `(variables, *inputs)`, on the small variables.

  Raises:
    InputError: `described` is nothing that `describe_kept` returns.
  """
  return shortened(apply, *read_kept(described))


def compose_kept(
  first: Mapping[str, Mapping[int, np.ndarray]],
  second: Mapping[str, Mapping[int, np.ndarray]],
) -> dict[str, dict[int, np.ndarray]]:
  """What is left of the original after shrinking twice.

  Args:
    first: `kept` of the first time, indices of the original variables.
    second: `kept` of the second time, indices of what the first left.

  Returns:
    Indices of the original variables. Full shapes are the first's, and the
    second's for the paths that the first lacks.
  """
  out = {path: dict(axes) for path, axes in first.items()}
  for path, axes in second.items():
    for axis, index in axes.items():
      before = out.setdefault(path, {}).get(axis)
      out[path][axis] = index if before is None else before[index]
  return out


def _indices(text: str, size: int) -> np.ndarray:
  bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))
  if not size <= len(bits) < size + 8 or bits[size:].any():
    raise ValueError
  return np.flatnonzero(bits[:size])


def shortened(apply, kept, shapes) -> Callable[..., Any]:
  """The function of the small variables."""

  @functools.wraps(apply)
  def shrunk(variables, *inputs):
    out, _, tree = evaluate(apply, kept, shapes, variables, inputs)
    return jax.tree.unflatten(tree, [value.array for value in out])

  return shrunk


def evaluate(apply, kept, shapes, variables, inputs):
  """Outputs, kept indices of the sites by path, and the output's tree."""
  leaves, tree = jax.tree.flatten(variables)
  full, values = [], []
  for path, leaf in zip(leaf_paths(variables), leaves, strict=True):
    if path not in kept:
      full.append(leaf)
      values.append(whole(leaf))
      continue
    axes = tuple(kept[path].get(axis) for axis in range(len(shapes[path])))
    value = Kept(shapes[path], axes, lambda leaf=leaf: leaf)
    if jnp.shape(leaf) != value.shape:
      raise InputError(
        f'{path} has shape {list(jnp.shape(leaf))}; right is '
        f'{list(value.shape)}, what is left of {list(value.full)}'
      )
    full.append(jax.ShapeDtypeStruct(value.full, leaf.dtype))
    values.append(value)
  closed, out_tree = _jaxpr.make(apply, jax.tree.unflatten(tree, full), *inputs)
  values += map(whole, jax.tree.leaves(inputs))
  evaluator = Evaluator()
  return evaluator.run(closed, values, ()), evaluator.sites, out_tree
