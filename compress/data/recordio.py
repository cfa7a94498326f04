"""InsightFace's packed training sets: `train.rec` with its index `train.idx`.

The index has lines `key TAB offset`. A record at its offset is framed as in
dmlc RecordIO: a magic word, a word with three bits of continuation flag and 29
bits of length, the content, padding to four bytes. The content begins with a
header (flag uint32, label float32, two uint64); where flag > 0, as many float32
labels follow instead. Record 0 may be such a header alone, whose first label
says where the images end. The rest of a record is an encoded image.
"""

import os
import pathlib
import struct
from collections.abc import Sequence

import numpy as np

from compress.data.faces import SIDE, FaceDataset
from compress.data.images import central_square, decode_image
from compress.errors import InputError

_MAGIC = 0xCED7230A
_HEADER = struct.Struct('<IfQQ')


def load_recordio(
  path: str | os.PathLike, *, keys: Sequence[int] | None = None
) -> FaceDataset:
  """Loads images of an InsightFace training set into memory.

  Args:
    path: the `.rec` file; the `.idx` file lies beside it.
    keys: which records, by their numbers in the index, in this order; by
      default all images. Sets of millions of photographs do not fit into
      memory, so choose.

  Returns:
    The photographs, scaled so that the shorter side is 112 where needed;
    identities are the file's labels, paths its keys.

  Raises:
    InputError: a missing or damaged file, a key that is not in the index, a
      record of more than one part, a label that is no whole number, an image
      that cannot be decoded.
  """
  path = pathlib.Path(path)
  offsets = _read_index(path.with_suffix('.idx'))
  try:
    with path.open('rb') as file:
      chosen = _image_keys(file, path, offsets) if keys is None else list(keys)
      if not chosen:
        raise InputError(f'{path}: no photographs chosen')
      images = np.empty((len(chosen), SIDE, SIDE, 3), np.uint8)
      identities = np.empty(len(chosen), np.int32)
      for i, key in enumerate(chosen):
        name = f'{path}, record {key}'
        if key not in offsets:
          raise InputError(f'{name}: the index does not list it')
        labels, _, encoded = _read_record(file, offsets[key], name=name)
        identities[i] = _identity(labels, name=name)
        image = decode_image(encoded, name=name)
        images[i] = central_square(image, name=name)
  except OSError as error:
    raise InputError(
      f'{path}: cannot be read ({error.strerror or error})'
    ) from error
  return FaceDataset(
    name=path.stem,
    images=images,
    identities=identities,
    paths=tuple(str(key) for key in chosen),
  )


def _read_index(path: pathlib.Path) -> dict[int, int]:
  try:
    lines = path.read_text(encoding='ascii').splitlines()
    pairs = [line.split() for line in lines if line.strip()]
    offsets = {int(key): int(offset) for key, offset in pairs}
  except OSError as error:
    raise InputError(
      f'{path}: cannot be read ({error.strerror or error})'
    ) from error
  except ValueError as error:
    raise InputError(f"{path}: lines must be 'key<TAB>offset'") from error
  if not offsets or min(offsets.values()) < 0:
    raise InputError(f'{path}: no valid offsets in it')
  return offsets


def _image_keys(file, path: pathlib.Path, offsets: dict[int, int]):
  """The keys of all images: those before the end that record 0 states."""
  keys = sorted(offsets)
  if 0 in offsets:
    name = f'{path}, record 0'
    labels, flag, _ = _read_record(file, offsets[0], name=name)
    if flag > 0:
      end = _identity(labels, name=name)
      return [key for key in keys if 1 <= key < end]
  return keys


def _read_record(
  file, offset: int, *, name: str
) -> tuple[np.ndarray, int, bytes]:
  """Labels, flag and encoded image of the record at an offset."""
  file.seek(offset)
  frame = file.read(8)
  magic, word = struct.unpack('<II', frame) if len(frame) == 8 else (0, 0)
  if magic != _MAGIC:
    raise InputError(f'{name}: no record begins at offset {offset}')
  if word >> 29:
    raise InputError(f'{name}: records of several parts are not supported')
  length = word & (2**29 - 1)
  content = file.read(length)
  if len(content) != length or length < _HEADER.size:
    raise InputError(f'{name}: the file is truncated')
  flag, label, _, _ = _HEADER.unpack_from(content)
  start = _HEADER.size
  if not flag:
    return np.array([label], np.float32), 0, content[start:]
  stop = start + 4 * flag
  if stop > length:
    raise InputError(f'{name}: {flag} labels do not fit into it')
  labels = np.frombuffer(content[start:stop], '<f4')
  return labels, flag, content[stop:]


def _identity(labels: np.ndarray, *, name: str) -> int:
  value = float(labels[0])
  if not (value.is_integer() and 0 <= value < 2**31):
    raise InputError(f'{name}: the label {value} is no number of a person')
  return int(value)
