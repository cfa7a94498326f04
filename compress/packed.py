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
import numpy as np


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

  Zero is a value of the grid, so that what was 0 before still is.

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


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Codebook:
  """Codes that name centroids, of single values or of short vectors.

  The tensor, `axis` moved last, is a matrix of R rows; each row is cut into S
  segments of d values, and each segment is a centroid, or the sum of several:

    row[r, s] = sum over t of centroids[t, s, codes[t, r, s]] .

  One stage and d = 1 is weight sharing; d > 1 product quantization; several
  stages residual quantization.

  Attributes:
    codes: uint8 or uint16 [T, R, S], each below K.
    centroids: float32 [T, S, K, d], or [T, 1, K, d] where all segments share.
    shape: of the tensor; `shape[axis]` is S d.
    dtype: name of the dtype to unpack to.
    axis: that is cut into segments.
  """

  codes: jax.Array
  centroids: jax.Array
  shape: tuple[int, ...] = dataclasses.field(metadata={'static': True})
  dtype: str = dataclasses.field(
    default='float32', metadata={'static': True}, kw_only=True
  )
  axis: int = dataclasses.field(
    default=-1, metadata={'static': True}, kw_only=True
  )

  @property
  def bits(self) -> int:
    """Bits of one code: `ceil(log2 K)`, at least 1."""
    return index_bits(self.centroids.shape[2])

  @property
  def elementwise(self) -> bool:
    """Whether each value has a code of its own."""
    return self.codes.shape[0] == 1 and self.centroids.shape[3] == 1


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Bucketed:
  """Codes of levels that each bucket spreads between its own two ends.

  The tensor, flattened in C order, is cut into G buckets of consecutive values.
  With levels `p[k]`, usually 0 to 1, the values of bucket g are

    low[g] (1 - p[codes]) + high[g] p[codes] ,

  so that both ends are kept exactly. Zero is in general no level.

  Attributes:
    codes: uint8 of the tensor's shape, each below K.
    low: float32 [G], the smallest value of each bucket.
    high: float32 [G], the largest.
    points: float32 [K], the levels; None where they are `k / (2^bits - 1)`.
    bits: bits of one code, 1 to 8; K is at most 2^bits.
    bucket_size: values of a bucket, of which the last may hold fewer; None
      where there is one bucket.
    dtype: name of the dtype to unpack to.
  """

  codes: jax.Array
  low: jax.Array
  high: jax.Array
  points: jax.Array | None
  bits: int = dataclasses.field(metadata={'static': True}, kw_only=True)
  bucket_size: int | None = dataclasses.field(
    default=None, metadata={'static': True}, kw_only=True
  )
  dtype: str = dataclasses.field(
    default='float32', metadata={'static': True}, kw_only=True
  )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sparse:
  """A tensor of which only some values are left; the others are 0.

  In memory all values of `inner` stand in place; stored are which survive and
  those that do. Make nested ones with `sparse`.

  Attributes:
    mask: bool of the tensor's shape, True where a value survives.
    inner: the values, of which those that do not survive have no meaning. A
      codebook of vectors keeps all its codes.
    pattern: (n, m, axis) if of every m consecutive entries along the axis
      exactly n survive; they are then stored as indices of `ceil(log2 m)` bits
      where that takes no more than a bit an entry. A mask that does not keep
      to it is stored as a bitmap.
  """

  mask: jax.Array
  inner: Dense | Quantized | Codebook | Bucketed
  pattern: tuple[int, int, int] | None = dataclasses.field(
    default=None, metadata={'static': True}, kw_only=True
  )


Packed = Dense | Quantized | Codebook | Bucketed | Sparse


def is_packed(node: Any) -> bool:
  """Whether a node of a tree is a packed tensor (for `is_leaf`)."""
  return isinstance(node, Packed)


def sparse(
  mask: jax.Array,
  inner: Packed,
  *,
  pattern: tuple[int, int, int] | None = None,
) -> Sparse:
  """A packed tensor of which only what a mask marks survives.

  Args:
    mask: bool of the tensor's shape.
    inner: any packed tensor; of a sparse one, what both masks mark survives.
    pattern: as in `Sparse`; that of a sparse `inner` comes first.

  Returns:
    The sparse tensor, its `inner` not sparse itself.
  """
  if isinstance(inner, Sparse):
    pattern = pattern if inner.pattern is None else inner.pattern
    return Sparse(mask & inner.mask, inner.inner, pattern=pattern)
  return Sparse(mask, inner, pattern=pattern)


def pattern_indices(mask: np.ndarray, pattern) -> np.ndarray | None:
  """Places of the survivors in their blocks, if a mask keeps to a pattern.

  Args:
    mask: bool array.
    pattern: (n, m, axis) or None.

  Returns:
    uint16 [blocks, n], ascending in each block, blocks in C order with the
    axis moved last; None where the mask does not keep to the pattern, or where
    a bitmap is smaller.
  """
  if pattern is None:
    return None
  n, m, axis = pattern
  if mask.shape[axis] % m or n * index_bits(m) > m:
    return None
  blocks = np.moveaxis(mask, axis, -1).reshape(-1, m)
  if (blocks.sum(1) != n).any():
    return None
  return np.nonzero(blocks)[1].astype(np.uint16).reshape(-1, n)


def index_bits(m: int) -> int:
  """Bits of a place in a block of m: `ceil(log2 m)`, at least 1."""
  return max(1, (m - 1).bit_length())


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
  if isinstance(packed, Sparse):
    values = unpack(packed.inner)
    return jnp.where(packed.mask, values, jnp.zeros((), values.dtype))
  if isinstance(packed, Codebook):
    return _unpack_codebook(packed)
  if isinstance(packed, Bucketed):
    return _unpack_bucketed(packed)
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


def _unpack_codebook(packed: Codebook) -> jax.Array:
  stages, _, segments = packed.codes.shape
  shared = packed.centroids.shape[1] == 1
  segment = jnp.zeros(segments, int) if shared else jnp.arange(segments)
  rows = sum(
    packed.centroids[stage][segment[None], packed.codes[stage]]
    for stage in range(stages)
  )
  axis = packed.axis % max(1, len(packed.shape))
  if not packed.shape:
    return rows.reshape(()).astype(packed.dtype)
  moved = *packed.shape[:axis], *packed.shape[axis + 1 :], packed.shape[axis]
  values = jnp.moveaxis(rows.reshape(moved), -1, axis)
  return values.astype(packed.dtype)


def bucket_rows(values: jax.Array, bucket_size: int | None) -> jax.Array:
  """A tensor as buckets, the last filled up with the last value.

  Args:
    values: of any shape, not empty.
    bucket_size: values of a bucket; None for a single one.

  Returns:
    `[G, bucket size]`, or `[1, N]` of a tensor with fewer values than that.
  """
  flat = values.reshape(-1)
  size = max(1, min(bucket_size or flat.size, flat.size))
  flat = jnp.pad(flat, (0, -flat.size % size), mode='edge')
  return flat.reshape(-1, size)


def between(low: jax.Array, high: jax.Array, share: jax.Array) -> jax.Array:
  """`low (1 - share) + high share`, to the bit wherever it is computed.

  Args:
    low: float array, given where the share is 0.
    high: the same, given where the share is 1.
    share: float array.

  Returns:
    The sum. Each product is rounded before it is added: a compiler that fused
    the two would give other bits in one program than in another.
  """
  # By a condition of each value, which is in no loop the same throughout.
  hidden = jnp.isnan(share)
  first = jnp.where(hidden, share, low * (1 - share))
  return first + jnp.where(hidden, share, high * share)


def even_levels(bits: int) -> np.ndarray:
  """The levels `k / (2^bits - 1)`, float32 [2^bits]."""
  last = 2**bits - 1
  return (np.arange(last + 1) / last).astype(np.float32)


def _unpack_bucketed(packed: Bucketed) -> jax.Array:
  points = packed.points
  if points is None:
    points = jnp.asarray(even_levels(packed.bits))
  share = bucket_rows(points[packed.codes], packed.bucket_size)
  values = between(packed.low[:, None], packed.high[:, None], share)
  values = values.reshape(-1)[: packed.codes.size]
  return values.reshape(packed.codes.shape).astype(packed.dtype)


def codes_in_place(packed: Quantized | Codebook | Bucketed) -> jax.Array:
  """Codes in the tensor's shape, of what has one for each value.

  Args:
    packed: quantized, bucketed, or an elementwise codebook.

  Returns:
    Integers of the tensor's shape.
  """
  if isinstance(packed, Quantized | Bucketed):
    return packed.codes
  if not packed.shape:
    return packed.codes.reshape(())
  axis = packed.axis % len(packed.shape)
  moved = *packed.shape[:axis], *packed.shape[axis + 1 :], packed.shape[axis]
  return jnp.moveaxis(packed.codes.reshape(moved), -1, axis)


def unpack_tree(tree):
  """`unpack` at every packed tensor of a tree."""
  return jax.tree.map(unpack, tree, is_leaf=is_packed)


def nbytes(packed: Packed) -> int:
  """Bytes of a packed tensor, its codes packed to their bits.

  Counts what a file must hold: codes (rounded up to whole bytes a tensor),
  centroids, scales, ends of buckets and their levels, and zero points (in one
  byte up to 8 bits, else two); of a sparse tensor a bitmap or indices, and the
  values that survive. Shapes and names, a few bytes a tensor, are the
  container's.
  """
  if isinstance(packed, Sparse):
    mask = np.asarray(packed.mask)
    return _mask_nbytes(mask, packed.pattern) + _nbytes(
      packed.inner, _stored(packed, mask)
    )
  return _nbytes(packed, _size(packed))


def _size(packed: Dense | Quantized | Codebook | Bucketed) -> int:
  return packed.array.size if isinstance(packed, Dense) else packed.codes.size


def _stored(packed: Sparse, mask: np.ndarray) -> int:
  """Values or codes that are stored of a sparse tensor."""
  inner = packed.inner
  if isinstance(inner, Codebook) and not inner.elementwise:
    return inner.codes.size
  return int(mask.sum())


def _mask_nbytes(mask, pattern) -> int:
  indices = pattern_indices(mask, pattern)
  if indices is None:
    return -(-mask.size // 8)
  return -(-indices.size * index_bits(pattern[1]) // 8)


def _nbytes(packed, stored: int) -> int:
  if isinstance(packed, Dense):
    return stored * packed.array.dtype.itemsize
  total = -(-stored * packed.bits // 8)
  if isinstance(packed, Codebook):
    return total + packed.centroids.size * packed.centroids.dtype.itemsize
  if isinstance(packed, Bucketed):
    numbers = packed.low, packed.high, packed.points
    return total + sum(
      x.size * x.dtype.itemsize for x in numbers if x is not None
    )
  total += packed.scale.size * packed.scale.dtype.itemsize
  if packed.zero_point is not None:
    total += packed.zero_point.size * (1 if packed.bits <= 8 else 2)
  return total


def nominal_bits(packed: Packed) -> int:
  """Bits of the values alone: bits times elements, as papers count.

  Of a sparse tensor the survivors count, and not where they stand.
  """
  if isinstance(packed, Sparse):
    stored = _stored(packed, np.asarray(packed.mask))
    return stored * _value_bits(packed.inner)
  return _size(packed) * _value_bits(packed)


def _value_bits(packed: Dense | Quantized | Codebook | Bucketed) -> int:
  if isinstance(packed, Dense):
    return packed.array.dtype.itemsize * 8
  return packed.bits


def tree_nbytes(tree) -> int:
  """`nbytes` over all packed tensors of a tree."""
  return sum(nbytes(p) for p in jax.tree.leaves(tree, is_leaf=is_packed))


def tree_nominal_bytes(tree) -> float:
  """`nominal_bits` over all packed tensors of a tree, in bytes."""
  leaves = jax.tree.leaves(tree, is_leaf=is_packed)
  return sum(nominal_bits(p) for p in leaves) / 8
