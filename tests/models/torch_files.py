"""Files in the formats of `torch.save`, written by hand."""

import struct
import zipfile

import numpy as np

_STORAGES = {
  'float32': b'FloatStorage',
  'float16': b'HalfStorage',
  'int64': b'LongStorage',
}


def _text(value):
  data = value.encode()
  return b'X' + struct.pack('<I', len(data)) + data


def _integer(value):
  return b'J' + struct.pack('<i', value)


def _integers(values):
  return b'(' + b''.join(map(_integer, values)) + b't'


def _empty_dict():
  return b'ccollections\nOrderedDict\n)R'


def _tensor(key, array, *, count=None, offset=0):
  storage = _STORAGES[array.dtype.name]
  strides = [s // array.itemsize for s in array.strides]
  count = array.size if count is None else count
  return b''.join(
    (
      b'ctorch._utils\n_rebuild_tensor_v2\n(',
      b'(' + _text('storage') + b'ctorch\n' + storage + b'\n',
      _text(key) + _text('cpu') + _integer(count) + b'tQ',
      _integer(offset) + _integers(array.shape) + _integers(strides),
      b'\x89' + _empty_dict() + b'tR',
    )
  )


def pickled(state, **tensor_options):
  """Returns the `data.pkl` of a state dict, pickle protocol 2."""
  items = (
    _text(name) + _tensor(str(i), np.asarray(array), **tensor_options)
    for i, (name, array) in enumerate(state.items())
  )
  return b'\x80\x02' + _empty_dict() + b'(' + b''.join(items) + b'u.'


def write_pth(path, state, *, data_pkl=None, leave_out=()):
  """Writes a state dict as PyTorch 1.6 and newer do.

  `data_pkl` replaces the pickle; storages named in `leave_out` are not written.
  """
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('archive/data.pkl', data_pkl or pickled(state))
    archive.writestr('archive/byteorder', 'little')
    for i, array in enumerate(state.values()):
      if str(i) not in leave_out:
        archive.writestr(f'archive/data/{i}', np.asarray(array).tobytes())
    archive.writestr('archive/version', '3\n')
  return path
