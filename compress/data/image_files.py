"""Files of classified images: IDX (MNIST and its kin) and CIFAR's binary."""

import gzip
import math
import os
import pathlib
from collections.abc import Iterator

import numpy as np

from compress.errors import InputError

_GZIP = b'\x1f\x8b'
_CIFAR_PIXELS = 3 * 32 * 32


def read_idx(path: str | os.PathLike) -> np.ndarray:
  """Reads an IDX file of bytes, gzipped or not.

  The format of LeCun's MNIST files: two zero bytes, the type (8 is uint8), the
  number of axes, each length as a big-endian 32-bit integer, the values.

  Args:
    path: the file.

  Returns:
    uint8, of the shape that the file states.

  Raises:
    InputError: no such file, damaged or cut short, or of another type.
  """
  path = pathlib.Path(path)
  try:
    data = path.read_bytes()
    if data[:2] == _GZIP:
      data = gzip.decompress(data)
  except (OSError, EOFError, ValueError) as error:
    raise InputError(f'{path}: cannot be read ({error})') from error
  except Exception as error:  # zlib.error, which has no public base
    raise InputError(f'{path}: damaged gzip ({error})') from error
  axes = data[3] if len(data) > 3 else 0
  if data[:3] != b'\x00\x00\x08' or len(data) < 4 + 4 * axes or not axes:
    raise InputError(f'{path}: no IDX file of bytes')
  shape = np.frombuffer(data, '>u4', axes, 4).tolist()
  values = np.frombuffer(data, np.uint8, offset=4 + 4 * axes)
  if math.prod(shape) != len(values):
    raise InputError(
      f'{path}: its header says {shape}, but {len(values)} values follow'
    )
  return values.reshape(shape)


def find_idx(folder: str | os.PathLike, split: str, kind: str) -> pathlib.Path:
  """Finds an IDX file of MNIST's naming.

  Args:
    folder: where it is.
    split: 'train' or 'test'.
    kind: 'images' or 'labels'.

  Returns:
    `train-images-idx3-ubyte.gz`, the same without `.gz`, or with `.idx3` for
    `-idx3`, whichever is there.

  Raises:
    InputError: none is.
  """
  folder = pathlib.Path(folder)
  stem = 'train' if split == 'train' else 't10k'
  axes = 'idx3' if kind == 'images' else 'idx1'
  for joint in ('-', '.'):
    for end in ('.gz', ''):
      path = folder / f'{stem}-{kind}{joint}{axes}-ubyte{end}'
      if path.is_file():
        return path
  raise InputError(f'{folder}: {stem}-{kind}-{axes}-ubyte.gz is missing')


def idx_examples(
  images: str | os.PathLike, labels: str | os.PathLike
) -> Iterator[tuple[np.ndarray, int]]:
  """Yields (uint8 [H, W, 1], label) from two IDX files.

  Raises:
    InputError: as `read_idx`, or the two do not fit each other.
  """
  pixels, numbers = read_idx(images), read_idx(labels)
  if pixels.ndim != 3 or numbers.shape != pixels.shape[:1]:
    raise InputError(
      f'{images} has shape {list(pixels.shape)} and {labels} '
      f'{list(numbers.shape)}; right is [N, H, W] and [N]'
    )
  yield from zip(pixels[..., None], numbers.tolist(), strict=True)


def cifar10_examples(
  folder: str | os.PathLike, split: str
) -> Iterator[tuple[np.ndarray, int]]:
  """Yields (uint8 [32, 32, 3], label) of CIFAR-10's binary version.

  Krizhevsky 2009. A record is the label in one byte, then red, green and blue
  planes of 1,024 bytes each.

  Args:
    folder: holds `data_batch_1.bin`, ..., `test_batch.bin`, perhaps under
      `cifar-10-batches-bin`.
    split: 'train' or 'test'.

  Raises:
    InputError: a file is missing or no whole number of records.
  """
  folder = pathlib.Path(folder)
  if (folder / 'cifar-10-batches-bin').is_dir():
    folder = folder / 'cifar-10-batches-bin'
  pattern = 'data_batch_*.bin' if split == 'train' else 'test_batch.bin'
  files = sorted(folder.glob(pattern))
  if not files:
    raise InputError(f'{folder}: {pattern} is missing')
  for file in files:
    data = np.frombuffer(file.read_bytes(), np.uint8)
    if not data.size or data.size % (1 + _CIFAR_PIXELS):
      raise InputError(
        f'{file}: {data.size} bytes, no multiple of {1 + _CIFAR_PIXELS}'
      )
    for record in data.reshape(-1, 1 + _CIFAR_PIXELS):
      planes = record[1:].reshape(3, 32, 32)
      yield planes.transpose(1, 2, 0), int(record[0])
