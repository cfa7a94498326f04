"""What a compressed tensor is, in memory.

A method's `pack` turns every leaf of a parameter tree into one of these. Each
is a pytree, knows the bytes that it takes when its codes are packed to their
bits, and unpacks to the array that the method's `apply` gives.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Dense:
  """A tensor stored as it is.

  Attributes:
    array: the values.
    changed: whether the method that packed it changed the values. In a chain,
      an unchanged tensor keeps the form that an earlier method gave it.
  """

  array: jax.Array
  changed: bool = dataclasses.field(
    default=True, metadata={'static': True}, kw_only=True
  )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Quantized:
  """Integer codes on a uniform grid: the values are `scale (codes - zero)`.

  Attributes:
    codes: integers of the tensor's shape, each in `bits` bits' range.
    scale: float32, broadcastable to the tensor; `[G, 1, C]` for groups.
    zero_point: integers of `scale`'s shape, or None where all are 0.
    bits: bits of one code, 2 to 16.
    dtype: name of the dtype to unpack to.
    axis: channel axis that groups keep apart; used with `group_size` only.
    group_size: consecutive elements, in the order of all axes but `axis`,
      that share a scale; None where `scale` broadcasts.
  """

  codes: jax.Array
  scale: jax.Array
  zero_point: jax.Array | None
  bits: int = dataclasses.field(metadata={'static': True}, kw_only=True)
  dtype: str = dataclasses.field(
    default='float32', metadata={'static': True}, kw_only=True
  )
  axis: int = dataclasses.field(
    default=-1, metadata={'static': True}, kw_only=True
  )
  group_size: int | None = dataclasses.field(
    default=None, metadata={'static': True}, kw_only=True
  )


Packed = Dense | Quantized


def is_packed(node: Any) -> bool:
  """Whether a node of a tree is a packed tensor (for `is_leaf`)."""
  return isinstance(node, Packed)


def expand_groups(
  values: jax.Array, shape: tuple[int, ...], *, axis: int, group_size: int
) -> jax.Array:
  """Repeats one value a group for each element of the group.

  Args:
    values: `[G, 1, C]`, group by channel.
    shape: the tensor's shape, `C` long on `axis`; its other axes, flattened in
      order, are cut into G groups, of which the last may be short.
    axis: the channel axis.
    group_size: elements of a group.

  Returns:
    Array of shape `shape`.
  """
  axis %= len(shape)
  moved = (*shape[:axis], *shape[axis + 1 :], shape[axis])
  groups, _, channels = values.shape
  rows = jnp.broadcast_to(values, (groups, group_size, channels))
  rows = rows.reshape(-1, channels)[: math.prod(moved[:-1])]
  return jnp.moveaxis(rows.reshape(moved), -1, axis)


def unpack(packed: Packed) -> jax.Array:
  """The array that a packed tensor stands for."""
  if isinstance(packed, Dense):
    return packed.array
  codes = packed.codes.astype(jnp.float32)
  scale, zero_point = packed.scale, packed.zero_point
  if packed.group_size is not None:
    groups = {'axis': packed.axis, 'group_size': packed.group_size}
    scale = expand_groups(scale, codes.shape, **groups)
    if zero_point is not None:
      zero_point = expand_groups(zero_point, codes.shape, **groups)
  if zero_point is not None:
    codes = codes - zero_point.astype(jnp.float32)
  return (codes * scale).astype(packed.dtype)


def unpack_tree(tree):
  """`unpack` at every packed tensor of a tree."""
  return jax.tree.map(unpack, tree, is_leaf=is_packed)


def nbytes(packed: Packed) -> int:
  """Bytes of a packed tensor, its codes packed to their bits.

  Counts what a file must hold: codes (rounded up to whole bytes a tensor),
  scales, and zero points (in one byte up to 8 bits, else two). Shapes and
  names, a few bytes a tensor, are the container's.
  """
  if isinstance(packed, Dense):
    return packed.array.size * packed.array.dtype.itemsize
  total = -(-packed.codes.size * packed.bits // 8)
  total += packed.scale.size * packed.scale.dtype.itemsize
  if packed.zero_point is not None:
    total += packed.zero_point.size * (1 if packed.bits <= 8 else 2)
  return total


def nominal_bits(packed: Packed) -> int:
  """Bits of the values alone: bits times elements, as papers count."""
  if isinstance(packed, Dense):
    return packed.array.size * packed.array.dtype.itemsize * 8
  return packed.codes.size * packed.bits


def tree_nbytes(tree) -> int:
  """`nbytes` over all packed tensors of a tree."""
  return sum(nbytes(p) for p in jax.tree.leaves(tree, is_leaf=is_packed))


def tree_nominal_bytes(tree) -> float:
  """`nominal_bits` over all packed tensors of a tree, in bytes."""
  leaves = jax.tree.leaves(tree, is_leaf=is_packed)
  return sum(nominal_bits(p) for p in leaves) / 8
