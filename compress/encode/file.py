"""One file for a compressed network: safetensors, nothing executable in it.

Every packed tensor becomes its codes (packed to their bits), scales and zero
points; of a sparse one, where the survivors stand (a bitmap, or N:M indices)
and the survivors in C order; how to put them together again stands as JSON in
the header, with a sha256 of each tensor's bytes.
"""

import hashlib
import json
import math
import os
import pathlib
import tempfile
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from compress import graph
from compress.encode import bits as bits_lib
from compress.errors import InputError
from compress.packed import (
  Dense,
  Packed,
  Quantized,
  Sparse,
  index_bits,
  is_packed,
  pattern_indices,
)

FORMAT = 'compress'
VERSION = 1


class Loaded(NamedTuple):
  """What a file holds.

  Attributes:
    tree: nested dict with a packed tensor at every leaf.
    metadata: the JSON-able dict that was saved with it.
  """

  tree: dict[str, Any]
  metadata: dict[str, Any]


def save(path, tree, metadata: dict[str, Any] | None = None) -> int:
  """Writes a tree of packed tensors into one file, atomically.

  Args:
    path: file to write; replaced only when the new one is complete.
    tree: nested dict whose leaves are packed tensors.
    metadata: JSON-able dict kept in the header: model, method, provenance.

  Returns:
    The file's size in bytes.
  """
  tensors: dict[str, np.ndarray] = {}
  entries: dict[str, dict[str, Any]] = {}
  leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_packed)
  for key_path, packed in leaves:
    name = graph.path_string(key_path)
    parts, entry = _encode(packed)
    entry['sha256'] = _digest(parts)
    entries[name] = entry
    tensors |= {f'{name}:{part}': array for part, array in parts.items()}
  # One key: safetensors writes several in an order that changes from run to
  # run.
  header = {
    FORMAT: json.dumps(
      {'version': VERSION, 'tensors': entries, 'metadata': metadata or {}},
      separators=(',', ':'),
    )
  }
  data = safetensors.numpy.save(tensors, metadata=header)
  path = pathlib.Path(path)
  handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
  try:
    with os.fdopen(handle, 'wb') as file:
      file.write(data)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  except BaseException:
    pathlib.Path(temporary).unlink(missing_ok=True)
    raise
  return len(data)


def load(path) -> Loaded:
  """Reads a file that `save` wrote; each tensor is checked by its sha256.

  Args:
    path: the file.

  Returns:
    The tree and the metadata.

  Raises:
    InputError: the file is missing, truncated, altered or of another kind.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise InputError(f'{path}: no such file')
  try:
    with safetensors.safe_open(path, framework='numpy') as file:
      text = (file.metadata() or {}).get(FORMAT)
      header = {} if text is None else json.loads(text)
      if header.get('version') != VERSION:
        raise InputError(
          f'{path}: a safetensors file, but none of a compressed network '
          f'(format {FORMAT!r}, version {VERSION})'
        )
      tensors = {name: file.get_tensor(name) for name in file.keys()}
    entries = header['tensors']
    tree: dict[str, Any] = {}
    for name, entry in entries.items():
      parts = {part: tensors[f'{name}:{part}'] for part in entry['parts']}
      if _digest(parts) != entry['sha256']:
        raise InputError(f'{path}: tensor {name} was altered (sha256 differs)')
      _insert(tree, name, _decode(parts, entry))
    return Loaded(tree, header['metadata'])
  except InputError:
    raise
  except (safetensors.SafetensorError, OSError, KeyError, ValueError) as error:
    raise InputError(
      f'{path}: truncated, or no file of a compressed network ({error})'
    ) from None


def _encode(packed: Packed) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  if not isinstance(packed, Sparse):
    return _encode_values(packed, None)
  mask = np.asarray(packed.mask)
  parts, entry = _encode_values(packed.inner, mask)
  indices = pattern_indices(mask, packed.pattern)
  if indices is None:
    parts['mask'] = np.packbits(mask.reshape(-1), bitorder='little')
  else:
    bits = index_bits(packed.pattern[1])
    parts['indices'] = bits_lib.pack_bits(indices, bits)
  return parts, entry | {
    'sparse': True,
    'pattern': packed.pattern,
    'parts': list(parts),
  }


def _encode_values(packed: Dense | Quantized, mask: np.ndarray | None):
  if isinstance(packed, Dense):
    array = np.asarray(packed.array)
    entry = {'kind': 'dense', 'dtype': array.dtype.name}
    kept = array if mask is None else array[mask]
    parts = {'values': np.frombuffer(kept.tobytes(), np.uint8)}
    return parts, entry | {'shape': list(array.shape), 'parts': ['values']}
  codes = np.asarray(packed.codes)
  kept = codes if mask is None else codes[mask]
  parts = {
    'codes': bits_lib.pack_bits(kept, packed.bits),
    'scale': np.array(packed.scale, order='C'),
  }
  if packed.zero_point is not None:
    wide = packed.bits > 8
    kind = codes.dtype.kind + ('2' if wide else '1')
    zero_point = np.asarray(packed.zero_point)
    parts['zero_point'] = np.array(zero_point, dtype=kind, order='C')
  entry = {
    'kind': 'quantized',
    'bits': packed.bits,
    'signed': codes.dtype.kind == 'i',
    'shape': list(codes.shape),
    'dtype': packed.dtype,
    'axis': packed.axis,
    'group_size': packed.group_size,
    'parts': list(parts),
  }
  return parts, entry


def _decode(parts: dict[str, np.ndarray], entry: dict[str, Any]) -> Packed:
  if not entry.get('sparse'):
    return _decode_values(parts, entry, None)
  pattern = None if entry['pattern'] is None else tuple(entry['pattern'])
  mask = _decode_mask(parts, tuple(entry['shape']), pattern)
  inner = _decode_values(parts, entry, mask)
  return Sparse(jnp.asarray(mask), inner, pattern=pattern)


def _decode_mask(parts, shape, pattern) -> np.ndarray:
  if 'mask' in parts:
    if parts['mask'].size != -(-math.prod(shape) // 8):
      raise ValueError(f'a bitmap of another shape than {list(shape)}')
    flat = np.unpackbits(
      parts['mask'], count=math.prod(shape), bitorder='little'
    )
    return flat.reshape(shape).astype(bool)
  n, m, axis = pattern
  moved = np.moveaxis(np.zeros(shape, bool), axis, -1)
  blocks = np.zeros((math.prod(shape) // m, m), bool)
  indices = bits_lib.unpack_bits(
    parts['indices'], index_bits(m), len(blocks) * n, signed=False
  ).reshape(len(blocks), n)
  if (indices >= m).any():
    raise ValueError(f'an index beyond a block of {m}')
  np.put_along_axis(blocks, indices.astype(np.intp), True, axis=1)
  return np.moveaxis(blocks.reshape(moved.shape), -1, axis)


def _decode_values(parts, entry, mask: np.ndarray | None) -> Dense | Quantized:
  shape = tuple(entry['shape'])
  if entry['kind'] == 'dense':
    dtype = jnp.dtype(entry['dtype'])
    values = np.frombuffer(parts['values'].tobytes(), dtype)
    return Dense(jnp.asarray(_in_place(values, shape, mask)))
  count = math.prod(shape) if mask is None else int(mask.sum())
  codes = bits_lib.unpack_bits(
    parts['codes'], entry['bits'], count, signed=entry['signed']
  )
  zero_point = parts.get('zero_point')
  return Quantized(
    jnp.asarray(_in_place(codes, shape, mask)),
    jnp.asarray(parts['scale']),
    None if zero_point is None else jnp.asarray(zero_point.astype(np.int32)),
    bits=entry['bits'],
    dtype=entry['dtype'],
    axis=entry['axis'],
    group_size=entry['group_size'],
  )


def _in_place(values: np.ndarray, shape, mask: np.ndarray | None):
  if mask is None:
    return values.reshape(shape)
  out = np.zeros(shape, values.dtype)
  if values.size != int(mask.sum()):
    raise ValueError(f'{values.size} values for {int(mask.sum())} places')
  out[mask] = values
  return out


def _digest(parts: dict[str, np.ndarray]) -> str:
  digest = hashlib.sha256()
  for name in sorted(parts):
    digest.update(parts[name].tobytes())
  return digest.hexdigest()


def _insert(tree: dict[str, Any], name: str, packed: Packed):
  *parents, leaf = name.split('/')
  for parent in parents:
    tree = tree.setdefault(parent, {})
  tree[leaf] = packed
