"""The arrays of one tensor as named streams: integers coded, numbers as is.

Nothing that is read is trusted: what is asked for is compared with what is
there before memory is taken.
"""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from compress.encode import chooser
from compress.encode.chooser import Codecs
from compress.encode.codec import Coded, smallest

UNPACKED = 4
"""Bytes that a value takes unpacked, or more."""
_MAX_RANK = 32


class Tensor(NamedTuple):
  """A packed tensor as a file holds it.

  Attributes:
    parts: name to uint8 [bytes].
    entry: what JSON can hold: kind, shape, options, and by stream its codec
      and fields, or its dtype and shape.
  """

  parts: dict[str, np.ndarray]
  entry: dict[str, Any]


def unpacked_nbytes(entry: dict[str, Any]) -> int:
  """Bytes of the array that an entry speaks of, at 4 bytes a value or more.

  Raises:
    ValueError: its shape is none.
  """
  shape = entry.get('shape')
  right = isinstance(shape, list) and len(shape) <= _MAX_RANK
  if not right or not all(type(n) is int and 0 <= n < 1 << 40 for n in shape):
    raise ValueError(f'shape {shape!r:.80}: right is a list of lengths')
  return UNPACKED * math.prod(shape)


def put_integers(
  out: Tensor,
  name: str,
  codes: np.ndarray,
  *,
  codecs: Codecs,
  row_length: int | None,
) -> None:
  """Adds a stream of integers, by whichever codec takes the fewest bytes.

  Args:
    out: to add to.
    name: of the stream.
    codes: integers of any shape; the shape is not stored.
    codecs: to choose from.
    row_length: codes in a row, as `codecs` takes it.
  """
  row = np.ascontiguousarray(codes).reshape(-1)
  codec, coded = smallest(codecs(row_length=row_length), row)
  out.entry['streams'][name] = {'codec': codec.name, **coded.fields}
  for key, part in coded.parts.items():
    out.parts[f'{name}.{key}'] = part


def get_integers(tensor: Tensor, name: str, count: int) -> np.ndarray:
  """Inverse of `put_integers`: integers [count].

  Raises:
    ValueError: the stream holds none, or another count.
  """
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


def put_numbers(out: Tensor, name: str, values: np.ndarray) -> None:
  """Adds a stream of numbers as they are, with their type and shape."""
  out.entry['streams'][name] = {
    'dtype': values.dtype.name,
    'shape': list(values.shape),
  }
  out.parts[name] = np.frombuffer(values.tobytes(), np.uint8)


def get_numbers(tensor: Tensor, name: str) -> np.ndarray:
  """Inverse of `put_numbers`.

  Raises:
    ValueError: type or shape is none, or bytes are missing.
  """
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


def float_name(name: str) -> str:
  """A name that is read, if it is one of a floating type.

  Raises:
    ValueError: it is not.
  """
  if not jnp.issubdtype(_dtype(name), jnp.floating):
    raise ValueError(f'dtype {name!r:.40}: right is a floating one')
  return name
