"""The array that a packed tensor stands for, to the bit."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from compress.packed.forms import (
  Bucketed,
  Codebook,
  Dense,
  Packed,
  Quantized,
  Sparse,
  is_packed,
)


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


def unpack_tree(tree):
  """`unpack` at every packed tensor of a tree."""
  return jax.tree.map(unpack, tree, is_leaf=is_packed)


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


def _unpack_bucketed(packed: Bucketed) -> jax.Array:
  points = packed.points
  if points is None:
    points = jnp.asarray(even_levels(packed.bits))
  share = bucket_rows(points[packed.codes], packed.bucket_size)
  values = between(packed.low[:, None], packed.high[:, None], share)
  values = values.reshape(-1)[: packed.codes.size]
  return values.reshape(packed.codes.shape).astype(packed.dtype)
