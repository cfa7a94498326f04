"""One packed tensor as byte strings and a JSON entry, and back.

A packed tensor has at most four arrays: its integers (codes), where survivors
stand (a mask, or N:M indices), and numbers (values, scales, zero points,
centroids). Integers go through whichever codec takes the fewest bytes, numbers
stay as they are. Nothing that is read is trusted: what the shape asks for is
compared with what is there, and with a limit, before memory is taken.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from compress.encode import chooser
from compress.encode.codec import MAX_COUNT, Codec, Coded, smallest
from compress.encode.plain import plain
from compress.packed import (
  Codebook,
  Dense,
  Packed,
  Quantized,
  Sparse,
  codes_in_place,
  pattern_indices,
)

Codecs = Callable[..., Sequence[Codec]]
"""`(*, row_length) -> codecs` to choose from, as `all_codecs`."""

_MAX_RANK = 32
_UNPACKED = 4


class Tensor(NamedTuple):
  """A packed tensor as a file holds it.

  Attributes:
    parts: name to uint8 [bytes].
    entry: what JSON can hold: kind, shape, options, and by stream its codec
      and fields, or its dtype and shape.
  """

  parts: dict[str, np.ndarray]
  entry: dict[str, Any]


def plain_codecs(*, row_length: int | None = None) -> tuple[Codec, ...]:
  """Codes packed to their bits alone, for `save`: what `nbytes` counts."""
  del row_length
  return (plain(),)


def encode_tensor(
  packed: Packed, *, codecs: Codecs = chooser.all_codecs
) -> Tensor:
  """Bytes of a packed tensor.

  Args:
    packed: the tensor.
    codecs: to choose from.

  Returns:
    The tensor as a file holds it.
  """
  out = Tensor({}, {'streams': {}})
  inner, mask = packed, None
  if isinstance(packed, Sparse):
    inner, mask = packed.inner, np.asarray(packed.mask)
    _put_mask(out, mask, packed.pattern, codecs)
  if isinstance(inner, Dense):
    values = np.asarray(inner.array)
    out.entry.update(kind='dense', shape=list(values.shape))
    _put_numbers(out, 'values', values if mask is None else values[mask])
    return out
  elementwise = not isinstance(inner, Codebook) or inner.elementwise
  codes = np.asarray(codes_in_place(inner) if elementwise else inner.codes)
  row_length = codes.shape[-1] if codes.ndim and mask is None else None
  kept = codes[mask] if mask is not None and elementwise else codes
  _put_integers(out, 'codes', kept, codecs, row_length)
  out.entry.update(dtype=inner.dtype, axis=inner.axis)
  if isinstance(inner, Codebook):
    out.entry.update(kind='codebook', shape=list(inner.shape))
    _put_numbers(out, 'centroids', np.asarray(inner.centroids))
    return out
  out.entry.update(
    kind='quantized',
    shape=list(codes.shape),
    bits=inner.bits,
    group_size=inner.group_size,
  )
  _put_numbers(out, 'scale', np.asarray(inner.scale))
  if inner.zero_point is not None:
    kind = codes.dtype.kind + ('2' if inner.bits > 8 else '1')
    _put_numbers(out, 'zero_point', np.asarray(inner.zero_point).astype(kind))
  return out


def decode_tensor(tensor: Tensor, *, max_bytes: int) -> Packed:
  """Inverse of `encode_tensor`.

  Args:
    tensor: parts and entry, which may hold anything.
    max_bytes: that the tensor may take unpacked.

  Returns:
    The packed tensor.

  Raises:
    ValueError: no tensor that `encode_tensor` could have made, or one too
      large; says which field.
  """
  try:
    return _decode(tensor, max_bytes)
  except KeyError as error:
    raise ValueError(f'field {error} is missing') from None
  except (TypeError, AttributeError, OverflowError) as error:
    raise ValueError(f'a field is of another kind ({error})') from None


def unpacked_nbytes(entry: dict[str, Any]) -> int:
  """Bytes of the array that an entry speaks of, at 4 bytes a value or more.

  Raises:
    ValueError: its shape is none.
  """
  shape = entry.get('shape')
  right = isinstance(shape, list) and len(shape) <= _MAX_RANK
  if not right or not all(type(n) is int and 0 <= n < 1 << 40 for n in shape):
    raise ValueError(f'shape {shape!r:.80}: right is a list of lengths')
  return _UNPACKED * math.prod(shape)


def _decode(tensor: Tensor, max_bytes: int) -> Packed:
  entry = tensor.entry
  needed = unpacked_nbytes(entry)
  if needed > min(max_bytes, _UNPACKED * MAX_COUNT):
    raise ValueError(
      f'shape {entry["shape"]}: {needed} bytes unpacked, above the limit of '
      f'{min(max_bytes, _UNPACKED * MAX_COUNT)}'
    )
  shape, kind = tuple(entry['shape']), entry['kind']
  known = {'dense': _dense, 'quantized': _quantized, 'codebook': _codebook}
  if kind not in known:
    raise ValueError(f'kind {kind!r:.40}: right is one of {", ".join(known)}')
  if 'pattern' not in entry:
    return known[kind](tensor, shape, None)
  mask, pattern = _get_mask(tensor, shape)
  inner = known[kind](tensor, shape, mask)
  return Sparse(jnp.asarray(mask), inner, pattern=pattern)


def _dense(tensor, shape, mask) -> Dense:
  count = math.prod(shape) if mask is None else int(mask.sum())
  values = _get_numbers(tensor, 'values')
  if values.size != count:
    raise ValueError(f'values: {values.size}, for {count} places')
  return Dense(jnp.asarray(_in_place(values.reshape(-1), shape, mask)))


def _quantized(tensor, shape, mask) -> Quantized:
  entry = tensor.entry
  bits = _within(entry, 'bits', 1, 16)
  count = math.prod(shape) if mask is None else int(mask.sum())
  codes = _get_integers(tensor, 'codes', count)
  _check_range(codes, bits)
  scale = _get_numbers(tensor, 'scale')
  axis, group_size = _axis(entry, shape), entry['group_size']
  if group_size is None:
    right = np.broadcast_shapes(scale.shape, shape) == shape
  else:
    group_size = _within(entry, 'group_size', 1, 1 << 31)
    rows = math.prod(n for i, n in enumerate(shape) if i != axis % len(shape))
    right = scale.shape == (-(-rows // group_size), 1, shape[axis])
  if not right:
    raise ValueError(f'scale: {list(scale.shape)}, for {list(shape)}')
  zero_point = None
  if 'zero_point' in entry['streams']:
    zero_point = _get_numbers(tensor, 'zero_point')
    if zero_point.shape != scale.shape or zero_point.dtype.kind not in 'iu':
      raise ValueError('zero_point: right are integers of the shape of scale')
    zero_point = jnp.asarray(zero_point.astype(np.int32))
  return Quantized(
    jnp.asarray(_in_place(codes, shape, mask)),
    jnp.asarray(scale),
    zero_point,
    bits=bits,
    dtype=_float(entry['dtype']),
    axis=entry['axis'],
    group_size=group_size,
  )


def _codebook(tensor, shape, mask) -> Codebook:
  entry = tensor.entry
  centroids = _get_numbers(tensor, 'centroids')
  if centroids.ndim != 4 or centroids.dtype.kind not in 'fV':
    raise ValueError(f'centroids: {centroids.dtype.name}{centroids.shape}')
  stages, books, size, length = centroids.shape
  axis = _axis(entry, shape)
  width = shape[axis] if shape else 1
  if not min(stages, books, size, length) or width % length:
    raise ValueError(f'centroids: {centroids.shape}, for {list(shape)}')
  segments, rows = width // length, math.prod(shape) // max(width, 1)
  if books not in (1, segments):
    raise ValueError(f'centroids: {books} books for {segments} segments')
  elementwise = stages == length == 1
  count = stages * rows * segments
  if count > MAX_COUNT:
    raise ValueError(f'centroids: {stages} stages are too many')
  kept = int(mask.sum()) if mask is not None and elementwise else count
  codes = _get_integers(tensor, 'codes', kept)
  if codes.dtype.kind != 'u' or codes.size and int(codes.max()) >= size:
    raise ValueError(f'codes: right are 0 to {size - 1}')
  if elementwise:
    codes = _in_place(codes, shape, mask)
    codes = np.moveaxis(codes, axis, -1) if shape else codes
  return Codebook(
    jnp.asarray(np.ascontiguousarray(codes).reshape(stages, rows, segments)),
    jnp.asarray(centroids),
    shape,
    dtype=_float(entry['dtype']),
    axis=entry['axis'],
  )


def _put_mask(out: Tensor, mask, pattern, codecs):
  indices = pattern_indices(mask, pattern)
  out.entry['pattern'] = None if pattern is None else list(pattern)
  if indices is None:
    row_length = mask.shape[-1] if mask.ndim else None
    _put_integers(out, 'mask', mask.astype(np.uint8), codecs, row_length)
  else:
    _put_integers(out, 'indices', indices, codecs, indices.shape[-1])


def _get_mask(tensor: Tensor, shape):
  pattern, count = tensor.entry['pattern'], math.prod(shape)
  if pattern is not None:
    if len(pattern) != 3 or not all(type(n) is int for n in pattern):
      raise ValueError(f'pattern {pattern!r:.80}: right is [n, m, axis]')
    pattern = tuple(pattern)
  if 'mask' in tensor.entry['streams']:
    mask = _get_integers(tensor, 'mask', count)
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
  indices = _get_integers(tensor, 'indices', len(blocks) * n)
  indices = indices.reshape(len(blocks), n).astype(np.intp)
  if (indices < 0).any() or (indices >= m).any():
    raise ValueError(f'indices: one is beyond a block of {m}')
  if (np.diff(indices, axis=1) <= 0).any():
    raise ValueError('indices: not ascending')
  np.put_along_axis(blocks, indices, True, axis=1)
  return np.moveaxis(blocks.reshape(moved.shape), -1, axis), pattern


def _put_integers(out: Tensor, name, codes, codecs, row_length):
  row = np.ascontiguousarray(codes).reshape(-1)
  codec, coded = smallest(codecs(row_length=row_length), row)
  out.entry['streams'][name] = {'codec': codec.name, **coded.fields}
  for key, part in coded.parts.items():
    out.parts[f'{name}.{key}'] = part


def _get_integers(tensor: Tensor, name: str, count: int) -> np.ndarray:
  fields = dict(tensor.entry['streams'][name])
  parts = {
    key.removeprefix(f'{name}.'): part
    for key, part in tensor.parts.items()
    if key.startswith(f'{name}.')
  }
  try:
    codec = chooser.codec_named(fields.pop('codec', None))
    return codec.decode(Coded(parts, fields), count)
  except ValueError as error:
    raise ValueError(f'{name}: {error}') from None


def _put_numbers(out: Tensor, name: str, values: np.ndarray):
  out.entry['streams'][name] = {
    'dtype': values.dtype.name,
    'shape': list(values.shape),
  }
  out.parts[name] = np.frombuffer(values.tobytes(), np.uint8)


def _get_numbers(tensor: Tensor, name: str) -> np.ndarray:
  stored = tensor.entry['streams'][name]
  unpacked_nbytes(stored)
  dtype, shape = _dtype(stored['dtype']), tuple(stored['shape'])
  data = tensor.parts[name]
  if data.nbytes != math.prod(shape) * dtype.itemsize:
    raise ValueError(
      f'{name}: {data.nbytes} bytes, for {list(shape)} of {dtype.name}'
    )
  return np.frombuffer(data.tobytes(), dtype).reshape(shape)


def _dtype(name) -> np.dtype:
  if not isinstance(name, str):
    raise ValueError(f'dtype {name!r:.40}: right is the name of one')
  try:
    dtype = np.dtype(jnp.dtype(name))
  except TypeError:
    raise ValueError(f'dtype {name!r:.40}: right is the name of one') from None
  if dtype.hasobject or not dtype.itemsize or dtype.kind in 'SUMm':
    raise ValueError(f'dtype {name!r:.40}: right is one of numbers')
  return dtype


def _float(name) -> str:
  if not jnp.issubdtype(_dtype(name), jnp.floating):
    raise ValueError(f'dtype {name!r:.40}: right is a floating one')
  return name


def _within(entry, name: str, low: int, high: int) -> int:
  value = entry[name]
  if type(value) is not int or not low <= value <= high:
    raise ValueError(f'{name} {value!r:.40}: right is {low} to {high}')
  return value


def _axis(entry, shape) -> int:
  rank = max(1, len(shape))
  return _within(entry, 'axis', -rank, rank - 1)


def _check_range(codes: np.ndarray, bits: int):
  if not codes.size:
    return
  low, high = int(codes.min()), int(codes.max())
  least = -(1 << bits - 1) if codes.dtype.kind == 'i' else 0
  if low < least or high >= least + (1 << bits):
    raise ValueError(f'codes: {low} to {high}, in {bits} bits')


def _in_place(values: np.ndarray, shape, mask: np.ndarray | None):
  if mask is None:
    return values.reshape(shape)
  out = np.zeros(shape, values.dtype)
  out[mask] = values
  return out
