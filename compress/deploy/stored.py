"""A tree of packed tensors as plain arrays, few bits of them two to a byte."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compress import graph as graph_lib
from compress import packed as packed_lib
from compress.packed import Quantized

_NIBBLE = 4


def store(tree) -> tuple[dict[str, np.ndarray], Callable[..., Any]]:
  """Takes a tree apart, for a program that holds its weights as they are.

  Codes of 2 to 4 bits are stored two to a byte, those of 5 to 8 bits one.

  Args:
    tree: nested dict of arrays or packed tensors.

  Returns:
    Arrays by name, and `rebuild(arrays) -> tree` of plain arrays, which may be
    traced: the dequantization is then part of the program.
  """
  is_packed = packed_lib.is_packed
  arrays: dict[str, np.ndarray] = {}
  decoders = []
  leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_packed)
  for path, leaf in leaves:
    path = graph_lib.path_string(path)
    parts, decode = _parts(leaf)
    names = [f'{path}/{name}' if name else path for name in parts]
    arrays.update(zip(names, parts.values(), strict=True))
    decoders.append((names, decode))
  structure = jax.tree.structure(tree, is_leaf=is_packed)

  def rebuild(arrays):
    return jax.tree.unflatten(
      structure,
      [decode(*(arrays[name] for name in names)) for names, decode in decoders],
    )

  return arrays, rebuild


def _parts(leaf) -> tuple[dict[str, np.ndarray], Callable[..., Any]]:
  """The arrays of one leaf, and what makes its value of them."""
  if not packed_lib.is_packed(leaf):
    return {'': np.asarray(leaf)}, lambda array: array
  structure = jax.tree.structure(leaf)
  names = graph_lib.leaf_paths(leaf)
  parts = {
    name: np.asarray(x)
    for name, x in zip(names, jax.tree.leaves(leaf), strict=True)
  }

  def unpack(*values):
    return packed_lib.unpack(jax.tree.unflatten(structure, values))

  if not isinstance(leaf, Quantized) or leaf.bits > 8:
    return parts, unpack
  at, codes = names.index('codes'), parts['codes']
  signed = bool(codes.size) and int(codes.min()) < 0
  if leaf.bits > _NIBBLE:
    parts['codes'] = codes.astype(np.int8 if signed else np.uint8)
    return parts, unpack
  parts['codes'] = pack_nibbles(codes)

  def unpack_nibbles(*values):
    values = list(values)
    values[at] = nibbles(values[at], codes.shape, signed=signed)
    return unpack(*values)

  return parts, unpack_nibbles


def pack_nibbles(codes: np.ndarray) -> np.ndarray:
  """Integers in -8..15 two to a byte, the first in the low half.

  Args:
    codes: integers of any shape.

  Returns:
    uint8 `[ceil(size / 2)]`.
  """
  low = (codes.reshape(-1).astype(np.int16) & 15).astype(np.uint8)
  low = np.pad(low, (0, low.size % 2)).reshape(-1, 2)
  return low[:, 0] | (low[:, 1] << 4)


def nibbles(
  packed: jax.Array, shape: tuple[int, ...], *, signed: bool
) -> jax.Array:
  """What `pack_nibbles` packed; may be traced.

  Args:
    packed: uint8.
    shape: of the codes.
    signed: whether the codes are -8..7 rather than 0..15.

  Returns:
    int8 of that shape.
  """
  size = int(np.prod(shape))
  halves = jnp.stack([packed & np.uint8(15), packed >> np.uint8(4)], axis=1)
  codes = halves.reshape(-1)[:size].astype(jnp.int8)
  if signed:
    codes = (codes ^ np.int8(8)) - np.int8(8)
  return codes.reshape(shape)
