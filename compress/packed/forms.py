"""The forms that a compressed tensor has in memory; each is a pytree."""

import dataclasses
from typing import Any

import jax


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


def index_bits(m: int) -> int:
  """Bits of a place in a block of m: `ceil(log2 m)`, at least 1."""
  return max(1, (m - 1).bit_length())
