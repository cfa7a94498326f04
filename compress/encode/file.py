"""One file for a compressed network: safetensors, nothing executable in it.

Every packed tensor becomes byte strings (see `tensors.py`); how to put them
together again stands as JSON in the header: method, shape and options of each
tensor, a sha256 of its bytes, and what the writer says of model and provenance.
The JSON has a sha256 of its own, so that no bit of the file can change without
being noticed.
"""

import hashlib
import json
import os
import pathlib
import tempfile
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors
import safetensors.numpy

from compress import graph
from compress.encode import chooser
from compress.encode.chooser import Codecs
from compress.encode.streams import Tensor, unpacked_nbytes
from compress.encode.tensors import decode_tensor, encode_tensor
from compress.errors import InputError
from compress.packed import Packed, is_packed

FORMAT = 'compress'
VERSION = 2
MAX_BYTES = 10**9
"""Bytes that the tensors of a file may take unpacked, unless said otherwise."""


class Loaded(NamedTuple):
  """What a file holds.

  Attributes:
    tree: nested dict with a packed tensor at every leaf.
    metadata: the JSON-able dict that was saved with it.
  """

  tree: dict[str, Any]
  metadata: dict[str, Any]


def save(
  path,
  tree,
  metadata: dict[str, Any] | None = None,
  *,
  codecs: Codecs = chooser.all_codecs,
) -> int:
  """Writes a tree of packed tensors into one file, atomically.

  Args:
    path: file to write; replaced only when the new one is complete.
    tree: nested dict whose leaves are packed tensors.
    metadata: JSON-able dict kept in the header: model, method, provenance.
    codecs: to choose from for the integers of each tensor; the smallest is
      taken. `plain_codecs` packs them to their bits alone, and is faster.

  Returns:
    The file's size in bytes.
  """
  tensors: dict[str, np.ndarray] = {}
  entries: dict[str, dict[str, Any]] = {}
  leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_packed)
  for key_path, packed in leaves:
    name = graph.path_string(key_path)
    parts, entry = encode_tensor(packed, codecs=codecs)
    entry['sha256'] = _digest(parts)
    entry['parts'] = list(parts)
    entries[name] = entry
    tensors |= {f'{name}:{part}': array for part, array in parts.items()}
  body = json.dumps(
    {'version': VERSION, 'tensors': entries, 'metadata': metadata or {}},
    separators=(',', ':'),
  )
  # One key: safetensors writes several in an order that changes from run to
  # run.
  digest = hashlib.sha256(body.encode()).hexdigest()
  data = safetensors.numpy.save(tensors, metadata={FORMAT: f'{digest} {body}'})
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


def load(path, *, max_bytes: int = MAX_BYTES) -> Loaded:
  """Reads a file that `save` wrote.

  Args:
    path: the file.
    max_bytes: that all its tensors may take unpacked, 4 bytes a value.

  Returns:
    The tree and the metadata.

  Raises:
    InputError: the file is missing, truncated, altered, of another kind, or
      larger unpacked than `max_bytes`; says which tensor and which field.
  """
  with File(path, max_bytes=max_bytes) as file:
    tree: dict[str, Any] = {}
    for name in file.names:
      _insert(tree, name, file.read(name), path)
    return Loaded(tree, file.metadata)


class File:
  """A file of packed tensors that are read one at a time.

  Attributes:
    metadata: the JSON-able dict that was saved with it.
    entries: by name of a tensor, what the header says of it: `kind`, `shape`,
      `streams` with codec or dtype, options, `sha256`.
  """

  def __init__(self, path, *, max_bytes: int = MAX_BYTES):
    """Reads the header alone.

    Args:
      path: the file.
      max_bytes: as for `load`.

    Raises:
      InputError: as `load`, of the header.
    """
    self.path = pathlib.Path(path)
    self._max_bytes = max_bytes
    if not self.path.is_file():
      raise InputError(f'{path}: no such file')
    try:
      self._file = safetensors.safe_open(self.path, framework='numpy')
      text = (self._file.metadata() or {}).get(FORMAT)
      self._known = set(self._file.keys())
    except (safetensors.SafetensorError, OSError, ValueError) as error:
      raise InputError(
        f'{path}: truncated, or no file of a compressed network ({error})'
      ) from None
    header = self._header(text)
    self.entries: dict[str, dict[str, Any]] = header['tensors']
    self.metadata: dict[str, Any] = header['metadata']
    self._check_size()

  @property
  def names(self) -> tuple[str, ...]:
    """Names of the tensors, paths with `/`."""
    return tuple(self.entries)

  def read(self, name: str) -> Packed:
    """Reads and decodes one tensor.

    Args:
      name: of `names`.

    Returns:
      The packed tensor.

    Raises:
      InputError: its bytes were altered or are no tensor, or there is none of
        that name.
    """
    if name not in self.entries:
      raise InputError(f'{self.path}: there is no tensor {name!r}')
    parts = self._parts(name)
    try:
      tensor = Tensor(parts, self.entries[name])
      return decode_tensor(tensor, max_bytes=self._max_bytes)
    except ValueError as error:
      raise InputError(f'{self.path}: tensor {name}: {error}') from None

  def nbytes(self, name: str) -> int:
    """Bytes of a tensor's parts in the file."""
    return sum(part.nbytes for part in self._parts(name).values())

  def __enter__(self) -> 'File':
    return self

  def __exit__(self, *_):
    self._file = None

  def _header(self, text):
    kind = (
      f'{self.path}: a safetensors file, but none of a compressed network '
      f'(format {FORMAT!r}, version {VERSION})'
    )
    if text is None:
      raise InputError(kind)
    digest, _, body = text.partition(' ')
    if hashlib.sha256(body.encode()).hexdigest() != digest:
      if text.startswith('{"version":1,'):
        raise InputError(f'{kind}: an earlier version wrote it; write it anew')
      raise InputError(f'{kind}: header: sha256 differs')
    try:
      header = json.loads(body)
      right = (
        header['version'] == VERSION
        and isinstance(header['metadata'], dict)
        and all(isinstance(e, dict) for e in header['tensors'].values())
      )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
      right = False
    if not right:
      raise InputError(f'{kind}: header: a field is missing or of another kind')
    return header

  def _check_size(self):
    total = 0
    for name, entry in self.entries.items():
      try:
        total += unpacked_nbytes(entry)
      except ValueError as error:
        raise InputError(f'{self.path}: tensor {name}: {error}') from None
      if total > self._max_bytes:
        raise InputError(
          f'{self.path}: tensor {name}: shape {entry["shape"]}: more than '
          f'max_bytes={self._max_bytes} unpacked; give more if you trust it'
        )

  def _parts(self, name: str) -> dict[str, np.ndarray]:
    entry, parts = self.entries[name], {}
    listed = entry.get('parts')
    if not isinstance(listed, list) or not all(
      isinstance(part, str) and f'{name}:{part}' in self._known
      for part in listed
    ):
      raise InputError(f'{self.path}: tensor {name}: parts: one is missing')
    for part in listed:
      try:
        parts[part] = self._file.get_tensor(f'{name}:{part}')
      except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise InputError(
          f'{self.path}: tensor {name}: {part}: {error}'
        ) from None
      if parts[part].dtype != np.uint8 or parts[part].ndim != 1:
        raise InputError(f'{self.path}: tensor {name}: {part}: not bytes')
    if _digest(parts) != entry.get('sha256'):
      raise InputError(
        f'{self.path}: tensor {name} was altered (sha256 differs)'
      )
    return parts


def _digest(parts: dict[str, np.ndarray]) -> str:
  digest = hashlib.sha256()
  for name in sorted(parts):
    digest.update(f'{name}:{parts[name].nbytes}:'.encode())
    digest.update(parts[name].tobytes())
  return digest.hexdigest()


def _insert(tree: dict[str, Any], name: str, packed: Packed, path):
  *parents, leaf = name.split('/')
  for parent in parents:
    tree = tree.setdefault(parent, {})
    if not isinstance(tree, dict):
      raise InputError(f'{path}: tensor {name}: {parent} is a tensor too')
  if leaf in tree:
    raise InputError(f'{path}: tensor {name}: there are others below it')
  tree[leaf] = packed
