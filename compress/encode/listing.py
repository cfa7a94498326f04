"""What is inside the file of a compressed network, as a table."""

import math
from typing import Any, NamedTuple

import numpy as np

from compress.encode.codec import entropy
from compress.encode.file import File
from compress.packed import Codebook, Dense, Packed, Sparse, codes_in_place


class Row(NamedTuple):
  """One tensor of a file.

  Attributes:
    name: path of the tensor.
    shape: of the array that it stands for.
    method: how it is stored: kind and codecs.
    bits_per_weight: 8 x bytes / values; NaN where there are none.
    entropy: zeroth-order entropy of what is coded, bits a value, of codes and
      places of survivors together; NaN where values are not coded.
    bytes: of its parts in the file.
    share: of all tensors' bytes, 0..1.
  """

  name: str
  shape: tuple[int, ...]
  method: str
  bits_per_weight: float
  entropy: float
  bytes: int
  share: float


def list_file(file: File) -> list[Row]:
  """One row a tensor, in the file's order.

  Args:
    file: an open file; every tensor is read.

  Returns:
    The rows.

  Raises:
    InputError: a tensor was altered or is none.
  """
  sizes = {name: file.nbytes(name) for name in file.names}
  total = max(1, sum(sizes.values()))
  rows = []
  for name, size in sizes.items():
    entry = file.entries[name]
    count = math.prod(entry['shape'])
    rows.append(
      Row(
        name,
        tuple(entry['shape']),
        _method(entry),
        8 * size / count if count else math.nan,
        _entropy(file.read(name), count),
        size,
        size / total,
      )
    )
  return rows


def format_listing(file: File, rows: list[Row]) -> str:
  """The rows as text, below them the sums.

  Args:
    file: the open file.
    rows: of `list_file`.

  Returns:
    Lines of a table.
  """
  head = 'tensor', 'shape', 'method', 'bits/weight', 'entropy', 'bytes', 'share'
  values = sum(math.prod(row.shape) for row in rows)
  size = file.path.stat().st_size
  cells = [head]
  cells += [
    (
      row.name,
      '×'.join(map(str, row.shape)) or 'scalar',
      row.method,
      _number(row.bits_per_weight),
      _number(row.entropy),
      f'{row.bytes:,}',
      f'{100 * row.share:.1f} %',
    )
    for row in rows
  ]
  stored = sum(row.bytes for row in rows)
  cells.append(
    (
      f'{len(rows)} tensors',
      f'{values:,}',
      '',
      _number(8 * stored / values if values else math.nan),
      '',
      f'{stored:,}',
      '',
    )
  )
  widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
  lines = []
  for row in cells:
    left = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
    right = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
    lines.append('  '.join([*left[:3], *right[3:]]).rstrip())
  rule = '-' * max(map(len, lines))
  lines = [lines[0], rule, *lines[1:-1], rule, lines[-1]]
  ratio = 4 * values / size
  lines.append(
    f'{file.path}: {size:,} bytes with its header; float32 would take '
    f'{4 * values:,}, {ratio:.2f} times as much'
  )
  for key, value in file.metadata.items():
    lines.append(f'{key}: {_short(value)}')
  return '\n'.join(lines)


def _method(entry: dict[str, Any]) -> str:
  streams = entry['streams']
  if entry['kind'] == 'dense':
    text = streams['values']['dtype']
  elif entry['kind'] == 'codebook':
    size = streams['centroids']['shape'][2]
    text = f'{size} centroids {streams["codes"]["codec"]}'
  else:
    text = f'{entry["bits"]} bits {streams["codes"]["codec"]}'
  places = streams.get('mask') or streams.get('indices')
  return f'sparse {places["codec"]}, {text}' if places else text


def _entropy(packed: Packed, count: int) -> float:
  """Bits a value that a static code of codes and places needs at least."""
  if not count or isinstance(packed, Dense):
    return math.nan
  places, kept, inner = 0.0, slice(None), packed
  if isinstance(packed, Sparse):
    mask, inner = np.asarray(packed.mask), packed.inner
    places, kept = entropy(mask.astype(np.uint8)) * count, mask
    if isinstance(inner, Dense):
      return math.nan
  if isinstance(inner, Codebook) and not inner.elementwise:
    codes = np.asarray(inner.codes)
  else:
    codes = np.asarray(codes_in_place(inner))[kept]
  return (places + entropy(codes) * codes.size) / count


def _number(value: float) -> str:
  return '-' if math.isnan(value) else f'{value:.3f}'


def _short(value: Any, limit: int = 300) -> str:
  text = str(value)
  return text if len(text) <= limit else f'{text[:limit]}…'
