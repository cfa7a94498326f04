"""Where the survivors of a pruned tensor stand, written and read."""

import math

import numpy as np

from compress.encode.chooser import Codecs
from compress.encode.streams import Tensor, get_integers, put_integers
from compress.packed import pattern_indices


def put_mask(
  out: Tensor,
  mask: np.ndarray,
  pattern: tuple[int, int, int] | None,
  *,
  codecs: Codecs,
) -> None:
  """Adds where survivors stand: indices within blocks of N:M, or a bitmap.

  Args:
    out: to add to.
    mask: bool, of the tensor's shape.
    pattern: `(n, m, axis)` or None, as in `Sparse`.
    codecs: to choose from.
  """
  indices = pattern_indices(mask, pattern)
  out.entry['pattern'] = None if pattern is None else list(pattern)
  if indices is None:
    row_length = mask.shape[-1] if mask.ndim else None
    put_integers(
      out, 'mask', mask.astype(np.uint8), codecs=codecs, row_length=row_length
    )
  else:
    put_integers(
      out, 'indices', indices, codecs=codecs, row_length=indices.shape[-1]
    )


def get_mask(
  tensor: Tensor, shape: tuple[int, ...]
) -> tuple[np.ndarray, tuple[int, int, int] | None]:
  """Inverse of `put_mask`.

  Args:
    tensor: parts and entry, which may hold anything.
    shape: of the tensor, checked against a limit.

  Returns:
    The mask, and its pattern.

  Raises:
    ValueError: none of the shape; says which field.
  """
  pattern, count = tensor.entry['pattern'], math.prod(shape)
  if pattern is not None:
    if len(pattern) != 3 or not all(type(n) is int for n in pattern):
      raise ValueError(f'pattern {pattern!r:.80}: right is [n, m, axis]')
    pattern = tuple(pattern)
  if 'mask' in tensor.entry['streams']:
    mask = get_integers(tensor, 'mask', count)
    if mask.size and (mask.min() < 0 or mask.max() > 1):
      raise ValueError('mask: right are 0 and 1')
    return mask.reshape(shape).astype(bool), pattern
  n, m, axis = pattern
  if not (-len(shape) <= axis < len(shape) and 0 < n <= m <= 1 << 16):
    raise ValueError(f'pattern {list(pattern)}: none of shape {list(shape)}')
  if shape[axis] % m:
    raise ValueError(f'pattern {list(pattern)}: none of shape {list(shape)}')
  moved = np.moveaxis(np.zeros(shape, bool), axis, -1)
  blocks = np.zeros((count // m, m), bool)
  indices = get_integers(tensor, 'indices', len(blocks) * n)
  indices = indices.reshape(len(blocks), n).astype(np.intp)
  if (indices < 0).any() or (indices >= m).any():
    raise ValueError(f'indices: one is beyond a block of {m}')
  if (np.diff(indices, axis=1) <= 0).any():
    raise ValueError('indices: not ascending')
  np.put_along_axis(blocks, indices, True, axis=1)
  return np.moveaxis(blocks.reshape(moved.shape), -1, axis), pattern


def in_place(
  values: np.ndarray, shape: tuple[int, ...], mask: np.ndarray | None
) -> np.ndarray:
  """Survivors in their places among zeros; all values where no mask is."""
  if mask is None:
    return values.reshape(shape)
  out = np.zeros(shape, values.dtype)
  out[mask] = values
  return out
