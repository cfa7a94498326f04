"""One packed tensor as byte strings and a JSON entry, and back.

A packed tensor has at most four arrays: its integers (codes), where survivors
stand (a mask, or N:M indices), and numbers (values, scales, zero points,
centroids). Integers go through whichever codec takes the fewest bytes, numbers
stay as they are. Nothing that is read is trusted: what the shape asks for is
compared with what is there, and with a limit, before memory is taken.
"""

import math

import jax.numpy as jnp
import numpy as np

from compress.encode import chooser
from compress.encode.chooser import Codecs
from compress.encode.codec import MAX_COUNT
from compress.encode.places import get_mask, in_place, put_mask
from compress.encode.streams import (
  UNPACKED,
  Tensor,
  float_name,
  get_integers,
  get_numbers,
  put_integers,
  put_numbers,
  unpacked_nbytes,
)
from compress.packed import (
  Bucketed,
  Codebook,
  Dense,
  Packed,
  Quantized,
  Sparse,
  codes_in_place,
)


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
    put_mask(out, mask, packed.pattern, codecs=codecs)
  if isinstance(inner, Dense):
    values = np.asarray(inner.array)
    out.entry.update(kind='dense', shape=list(values.shape))
    put_numbers(out, 'values', values if mask is None else values[mask])
    return out
  elementwise = not isinstance(inner, Codebook) or inner.elementwise
  codes = np.asarray(codes_in_place(inner) if elementwise else inner.codes)
  row_length = codes.shape[-1] if codes.ndim and mask is None else None
  kept = codes[mask] if mask is not None and elementwise else codes
  put_integers(out, 'codes', kept, codecs=codecs, row_length=row_length)
  out.entry.update(dtype=inner.dtype)
  if isinstance(inner, Bucketed):
    out.entry.update(
      kind='bucketed',
      shape=list(codes.shape),
      bits=inner.bits,
      bucket_size=inner.bucket_size,
    )
    for name in ('low', 'high', 'points'):
      if (values := getattr(inner, name)) is not None:
        put_numbers(out, name, np.asarray(values))
    return out
  out.entry.update(axis=inner.axis)
  if isinstance(inner, Codebook):
    out.entry.update(kind='codebook', shape=list(inner.shape))
    put_numbers(out, 'centroids', np.asarray(inner.centroids))
    return out
  out.entry.update(
    kind='quantized',
    shape=list(codes.shape),
    bits=inner.bits,
    group_size=inner.group_size,
  )
  put_numbers(out, 'scale', np.asarray(inner.scale))
  if inner.zero_point is not None:
    kind = codes.dtype.kind + ('2' if inner.bits > 8 else '1')
    put_numbers(out, 'zero_point', np.asarray(inner.zero_point).astype(kind))
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


def _decode(tensor: Tensor, max_bytes: int) -> Packed:
  entry = tensor.entry
  needed = unpacked_nbytes(entry)
  if needed > min(max_bytes, UNPACKED * MAX_COUNT):
    raise ValueError(
      f'shape {entry["shape"]}: {needed} bytes unpacked, above the limit of '
      f'{min(max_bytes, UNPACKED * MAX_COUNT)}'
    )
  shape, kind = tuple(entry['shape']), entry['kind']
  known = {
    'dense': _dense,
    'quantized': _quantized,
    'codebook': _codebook,
    'bucketed': _bucketed,
  }
  if kind not in known:
    raise ValueError(f'kind {kind!r:.40}: right is one of {", ".join(known)}')
  if 'pattern' not in entry:
    return known[kind](tensor, shape, None)
  mask, pattern = get_mask(tensor, shape)
  inner = known[kind](tensor, shape, mask)
  return Sparse(jnp.asarray(mask), inner, pattern=pattern)


def _dense(tensor, shape, mask) -> Dense:
  count = math.prod(shape) if mask is None else int(mask.sum())
  values = get_numbers(tensor, 'values')
  if values.size != count:
    raise ValueError(f'values: {values.size}, for {count} places')
  return Dense(jnp.asarray(in_place(values.reshape(-1), shape, mask)))


def _quantized(tensor, shape, mask) -> Quantized:
  entry = tensor.entry
  bits = _within(entry, 'bits', 1, 16)
  count = math.prod(shape) if mask is None else int(mask.sum())
  codes = get_integers(tensor, 'codes', count)
  _check_range(codes, bits)
  scale = get_numbers(tensor, 'scale')
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
    zero_point = get_numbers(tensor, 'zero_point')
    if zero_point.shape != scale.shape or zero_point.dtype.kind not in 'iu':
      raise ValueError('zero_point: right are integers of the shape of scale')
    zero_point = jnp.asarray(zero_point.astype(np.int32))
  return Quantized(
    jnp.asarray(in_place(codes, shape, mask)),
    jnp.asarray(scale),
    zero_point,
    bits=bits,
    dtype=float_name(entry['dtype']),
    axis=entry['axis'],
    group_size=group_size,
  )


def _codebook(tensor, shape, mask) -> Codebook:
  entry = tensor.entry
  centroids = get_numbers(tensor, 'centroids')
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
  codes = get_integers(tensor, 'codes', kept)
  if codes.dtype.kind != 'u' or codes.size and int(codes.max()) >= size:
    raise ValueError(f'codes: right are 0 to {size - 1}')
  if elementwise:
    codes = in_place(codes, shape, mask)
    codes = np.moveaxis(codes, axis, -1) if shape else codes
  return Codebook(
    jnp.asarray(np.ascontiguousarray(codes).reshape(stages, rows, segments)),
    jnp.asarray(centroids),
    shape,
    dtype=float_name(entry['dtype']),
    axis=entry['axis'],
  )


def _bucketed(tensor, shape, mask) -> Bucketed:
  entry = tensor.entry
  bits = _within(entry, 'bits', 1, 8)
  count = math.prod(shape)
  size = entry['bucket_size']
  if size is not None:
    size = _within(entry, 'bucket_size', 1, 1 << 31)
  buckets = -(-count // (size or max(count, 1)))
  low, high = get_numbers(tensor, 'low'), get_numbers(tensor, 'high')
  for ends in (low, high):
    if ends.shape != (buckets,) or ends.dtype != np.float32:
      raise ValueError(f'low, high: right are {buckets} float32 each')
  points, levels = None, 1 << bits
  if 'points' in entry['streams']:
    points = get_numbers(tensor, 'points')
    if points.ndim != 1 or not 1 <= points.size <= levels:
      raise ValueError(f'points: right are 1 to {levels}')
    if points.dtype != np.float32:
      raise ValueError('points: right are float32')
    points, levels = jnp.asarray(points), points.size
  kept = count if mask is None else int(mask.sum())
  codes = get_integers(tensor, 'codes', kept)
  if codes.dtype.kind != 'u' or codes.size and int(codes.max()) >= levels:
    raise ValueError(f'codes: right are 0 to {levels - 1}')
  return Bucketed(
    jnp.asarray(in_place(codes, shape, mask)),
    jnp.asarray(low),
    jnp.asarray(high),
    points,
    bits=bits,
    bucket_size=size,
    dtype=float_name(entry['dtype']),
  )


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
