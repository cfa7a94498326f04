"""PyTorch state dicts (`torch.save`, zip format), read without PyTorch.

The archive holds `data.pkl`, a pickle that describes tensors by reference, and
one raw little-endian file per storage. The pickle is read by an unpickler that
admits a handful of globals, each replaced by a function of this module, and
refuses every other, so that no code from the file can run.
"""

import collections
import io
import math
import os
import pickle
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from compress.errors import InputError
from compress.models.checked import read_file

_STORAGES = {
  'FloatStorage': np.dtype('<f4'),
  'DoubleStorage': np.dtype('<f8'),
  'HalfStorage': np.dtype('<f2'),
  'BFloat16Storage': np.dtype(ml_dtypes.bfloat16),
  'LongStorage': np.dtype('<i8'),
  'IntStorage': np.dtype('<i4'),
  'ShortStorage': np.dtype('<i2'),
  'CharStorage': np.dtype('<i1'),
  'ByteStorage': np.dtype('<u1'),
  'BoolStorage': np.dtype('?'),
}
_RESAVE = 'load it in PyTorch, and torch.save its state_dict() again'


class _Storage(NamedTuple):
  """A storage's type, as the pickle names it."""

  dtype: np.dtype


class _Refused(Exception):
  """The pickle asks for something that is not admitted."""


def read_state_dict(
  path: str | os.PathLike, *, right: str
) -> dict[str, np.ndarray]:
  """Reads the arrays of a state dict.

  A dict that holds the state dict under `state_dict` is looked into, and the
  prefix `module.` that parallel training leaves on every key is removed.

  Args:
    path: a file that `torch.save` of PyTorch 1.6 or newer wrote.
    right: what the file should be, for messages.

  Returns:
    Arrays by name, in the stored types.

  Raises:
    InputError: another format, a truncated file, globals that a state dict does
      not need, or something else than tensors under names.
  """
  data = read_file(path, right=right)

  def fail(reason, cause=None):
    raise InputError(f'{path}: {reason}; right is {right}') from cause

  if data[:1] == b'\x80' and data[1:2] in b'\x02\x03\x04\x05':
    fail(f'the format of PyTorch before 1.6 (no zip archive); {_RESAVE}')
  try:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
      state = _load(archive)
  except _Refused as error:
    fail(str(error), error)
  except zipfile.BadZipFile as error:
    fail('no PyTorch file, or a truncated one', error)
  except Exception as error:  # a hostile pickle can raise anything
    fail(f'a damaged PyTorch file ({type(error).__name__})', error)
  if isinstance(state, Mapping) and isinstance(
    state.get('state_dict'), Mapping
  ):
    state = state['state_dict']
  if not isinstance(state, Mapping) or not all(
    isinstance(key, str) and isinstance(value, np.ndarray)
    for key, value in state.items()
  ):
    fail('something else than a state dict (tensors under names)')
  if state and all(key.startswith('module.') for key in state):
    state = {key.removeprefix('module.'): x for key, x in state.items()}
  return dict(state)


def _load(archive: zipfile.ZipFile) -> Any:
  names = archive.namelist()
  pickles = [name for name in names if name.split('/')[1:] == ['data.pkl']]
  if len(pickles) != 1:
    raise _Refused('a zip archive without data.pkl, not a PyTorch file')
  root = pickles[0].removesuffix('data.pkl')
  if f'{root}constants.pkl' in names:
    raise _Refused(f'a TorchScript program, not a state dict; {_RESAVE}')
  if f'{root}byteorder' in names:
    if archive.read(f'{root}byteorder') != b'little':
      raise _Refused(f'a big-endian PyTorch file; {_RESAVE}')
  return _StateUnpickler(archive, root).load()


class _StateUnpickler(pickle.Unpickler):
  """Unpickles tensors, numbers, text and plain containers; nothing else."""

  def __init__(self, archive: zipfile.ZipFile, root: str):
    super().__init__(io.BytesIO(archive.read(f'{root}data.pkl')))
    self._archive = archive
    self._root = root
    self._read: dict[str, np.ndarray] = {}

  def find_class(self, module, name):
    """Returns the stand-in of an admitted global; refuses others."""
    if module == 'torch' and name in _STORAGES:
      return _Storage(_STORAGES[name])
    try:
      return _ADMITTED[module, name]
    except KeyError:
      raise _Refused(
        f'its pickle asks for {module}.{name}, which no state dict needs'
      ) from None

  def persistent_load(self, pid):
    """Returns the storage that the tuple `pid` names, as a flat array."""
    kind, storage, key, _, count = pid
    if kind != 'storage' or not isinstance(storage, _Storage):
      raise _Refused(f'its pickle refers to a {kind!r}, not to a storage')
    if key not in self._read:
      entry = self._archive.getinfo(f'{self._root}data/{key}')
      if entry.file_size != count * storage.dtype.itemsize:
        raise _Refused(
          f'storage {key} has {entry.file_size} bytes instead of '
          f'{count * storage.dtype.itemsize}'
        )
      self._read[key] = np.frombuffer(self._archive.read(entry), storage.dtype)
    return self._read[key]


def _rebuild_tensor(storage, offset, shape, strides, *rest):
  """Stands in for torch._utils._rebuild_tensor_v2; copies the view."""
  del rest
  if not isinstance(storage, np.ndarray) or len(shape) != len(strides):
    raise _Refused('a tensor without a storage')
  counts = [offset, *shape, *strides]
  if not all(type(n) is int and n >= 0 for n in counts):
    raise _Refused('a tensor with a negative or fractional size')
  reach = sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
  if 0 not in shape and offset + reach >= storage.size:
    raise _Refused('a tensor that reaches past its storage')
  # A view may repeat values (stride 0); what it copies to must stay in bounds.
  if math.prod(shape) > storage.size:
    raise _Refused('a tensor larger than its storage')
  if 0 in shape:
    return np.zeros(shape, storage.dtype)
  view = np.lib.stride_tricks.as_strided(
    storage[offset:],
    shape,
    [step * storage.itemsize for step in strides],
    writeable=False,
  )
  return view.copy()


def _rebuild_parameter(data, *rest):
  """Stands in for torch._utils._rebuild_parameter."""
  del rest
  return data


_ADMITTED = {
  ('collections', 'OrderedDict'): collections.OrderedDict,
  ('torch._utils', '_rebuild_tensor_v2'): _rebuild_tensor,
  ('torch._utils', '_rebuild_parameter'): _rebuild_parameter,
}
