"""What a packed tensor takes: bytes of a file, and bits as papers count."""

import jax
import numpy as np

from compress.packed.forms import (
  Bucketed,
  Codebook,
  Dense,
  Packed,
  Quantized,
  Sparse,
  index_bits,
  is_packed,
)


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


def nominal_bits(packed: Packed) -> int:
  """Bits of the values alone: bits times elements, as papers count.

  Of a sparse tensor the survivors count, and not where they stand.
  """
  if isinstance(packed, Sparse):
    stored = _stored(packed, np.asarray(packed.mask))
    return stored * _value_bits(packed.inner)
  return _size(packed) * _value_bits(packed)


def tree_nbytes(tree) -> int:
  """`nbytes` over all packed tensors of a tree."""
  return sum(nbytes(p) for p in jax.tree.leaves(tree, is_leaf=is_packed))


def tree_nominal_bytes(tree) -> float:
  """`nominal_bits` over all packed tensors of a tree, in bytes."""
  leaves = jax.tree.leaves(tree, is_leaf=is_packed)
  return sum(nominal_bits(p) for p in leaves) / 8


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


def _value_bits(packed: Dense | Quantized | Codebook | Bucketed) -> int:
  if isinstance(packed, Dense):
    return packed.array.dtype.itemsize * 8
  return packed.bits
