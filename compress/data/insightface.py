"""InsightFace's packed verification sets (`lfw.bin`, `agedb_30.bin`, ...).

Such a file is a pickle of two lists: encoded images, of which 2i and 2i + 1
make pair i, and whether each pair is of one person. Most were written by
Python 2. A pickle from outside can run any code when it is loaded, so the
reader here knows nothing but lists, tuples, bytes, numbers and inert stand-ins
for numpy arrays; every other name in the file is refused.
"""

import os
import pathlib
import pickle
from collections.abc import Sequence

import numpy as np

from compress.data.faces import SIDE, VerificationSet, contiguous_folds
from compress.data.images import central_square, decode_image
from compress.errors import InputError

_MAX_BYTES = 64_000_000  # of one image, and of one array


def load_bin(path: str | os.PathLike, *, folds: int = 10) -> VerificationSet:
  """Loads an InsightFace `.bin` verification set.

  Images that are not 112 x 112 are scaled so that their shorter side is 112,
  and cut to the central square.

  Args:
    path: the file.
    folds: how many contiguous blocks for cross-validation; the protocol of
      InsightFace is ten, unshuffled. A set with fewer pairs gets no folds.

  Returns:
    P pairs of 2 P photographs; no identities, which the file does not hold.

  Raises:
    InputError: a missing or truncated file, no pickle, a pickle of anything
      else, an odd number of images or another number of pairs than of labels,
      or an image that cannot be decoded.
  """
  path = pathlib.Path(path)
  encoded, same = _read(path)
  if len(encoded) % 2 or len(encoded) != 2 * len(same) or not same:
    raise InputError(
      f'{path}: {len(encoded)} images for {len(same)} pairs; there must be two '
      'for each pair, and at least one pair'
    )
  images = np.empty((len(encoded), SIDE, SIDE, 3), np.uint8)
  for i, content in enumerate(encoded):
    name = f'{path}, image {i}'
    images[i] = central_square(decode_image(content, name=name), name=name)
  count = len(same)
  return VerificationSet(
    name=path.stem,
    images=images,
    pairs=np.arange(2 * count, dtype=np.int32).reshape(count, 2),
    genuine=np.array(same, bool),
    folds=contiguous_folds(count, folds=folds) if count >= folds else None,
  )


def _read(path: pathlib.Path) -> tuple[list[bytes], list[bool]]:
  """The two lists of the file, as plain Python values."""
  try:
    with path.open('rb') as file:
      content = _Unpickler(file, encoding='bytes').load()
    if not isinstance(content, (tuple, list)) or len(content) != 2:
      raise InputError('it does not hold two lists')
    encoded = [_image(item) for item in _items(content[0])]
    return encoded, [_label(item) for item in _items(content[1])]
  except OSError as error:
    raise InputError(
      f'{path}: cannot be read ({error.strerror or error})'
    ) from error
  except Exception as error:
    # A damaged pickle can raise nearly anything.
    reason = ' '.join(str(error).split()) or type(error).__name__
    raise InputError(
      f'{path}: not an InsightFace verification set ({reason})'
    ) from error


class _Dtype:
  """Stands for numpy.dtype; keeps the type code and nothing else."""

  def __init__(self, code, *unused):
    del unused
    self.code = code.decode() if isinstance(code, bytes) else str(code)
    self.order = '='

  def __setstate__(self, state):
    order = state[1] if len(state) > 1 else '='
    self.order = order.decode() if isinstance(order, bytes) else str(order)

  def values(self, raw: bytes) -> list:
    """Decodes an array of flags, small numbers, or byte strings."""
    if self.code in ('b1', '?', 'bool'):
      return np.frombuffer(raw, np.uint8).astype(bool).tolist()
    if self.code[:1] in 'iuS' and self.code[1:].isdigit():
      order = self.order if self.order in '<>' else '<'
      return np.frombuffer(raw, np.dtype(order + self.code)).tolist()
    raise InputError(f'it holds an array of type {self.code!r}')


class _Array:
  """Stands for numpy.ndarray; keeps shape, type and bytes."""

  def __init__(self, *unused):
    del unused
    self.dtype, self.data = None, b''

  def __setstate__(self, state):
    _, _, self.dtype, _, self.data = state

  def items(self) -> list:
    """The elements in stored order, whatever the shape."""
    if isinstance(self.data, list):
      return self.data
    if not isinstance(self.dtype, _Dtype) or len(self.data) > _MAX_BYTES:
      raise InputError('it holds an array that cannot be read')
    return self.dtype.values(self.data)


def _reconstruct(*unused) -> _Array:
  del unused
  return _Array()


def _scalar(dtype: _Dtype, raw: bytes = b''):
  (value,) = dtype.values(raw)
  return value


def _encode(text: str, codec: str = 'latin1') -> bytes:
  """How Python 3 writes bytes in a pickle meant for Python 2."""
  if codec not in ('latin1', b'latin1'):
    raise InputError(f'it uses the codec {codec!r}')
  return text.encode('latin1')


def _bytes(*arguments) -> bytes:
  if arguments:
    raise InputError('it calls bytes with arguments')
  return b''


_KNOWN = {
  ('_codecs', 'encode'): _encode,
  ('builtins', 'bytes'): _bytes,
  ('__builtin__', 'bytes'): _bytes,
  ('numpy', 'ndarray'): _Array,
  ('numpy', 'dtype'): _Dtype,
} | {
  (f'numpy.{core}.multiarray', name): stand_in
  for core in ('core', '_core')
  for name, stand_in in (('_reconstruct', _reconstruct), ('scalar', _scalar))
}


class _Unpickler(pickle.Unpickler):
  """An unpickler that can build only plain values and the stand-ins above."""

  def find_class(self, module, name):
    try:
      return _KNOWN[module, name]
    except KeyError:
      raise InputError(
        f'it names {module}.{name}, which such a file has no use for'
      ) from None


def _items(value) -> Sequence:
  if isinstance(value, _Array):
    return value.items()
  if isinstance(value, (list, tuple)):
    return value
  raise InputError(f'a {type(value).__name__} stands where a list belongs')


def _image(item) -> bytes:
  """One encoded image: bytes, or an array of bytes."""
  if isinstance(item, _Array):
    if isinstance(item.dtype, _Dtype) and item.dtype.code == 'u1':
      item = item.data
    else:
      (item,) = item.items()
  if isinstance(item, (bytes, bytearray)) and len(item) <= _MAX_BYTES:
    return bytes(item)
  raise InputError(f'a {type(item).__name__} stands where an image belongs')


def _label(item) -> bool:
  if isinstance(item, (bool, int)) and item in (0, 1):
    return bool(item)
  raise InputError(f'{item!r:.40} stands where True or False belongs')
