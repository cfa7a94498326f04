"""What a model weighs and computes, in bytes and bit-operations, from counts.

MB is 1e6 bytes, MiB is 2^20; they are never mixed. A *bit table* is any pytree
whose leaves are `(numel, bits)`, one per stored tensor: weights at their bits,
and whatever stays float32 (biases, BatchNorm with its statistics, scales, zero
points) at 32.

  nominal   numel * bits / 8, as papers count it
  packed    each tensor rounded up to whole bytes, codes bit-packed
  aligned   each code in the smallest integer type that holds it
  on disk   the size of the file itself, container included

Two conventions of the literature are here for comparison with printed tables:
`checkpoint_ratio_mb`, which divides the float32 checkpoint by a ratio, scales
and BatchNorm included, and `quantized_bytes`, the honest formula.
"""

import math
import os
from collections.abc import Iterable
from typing import Any

import jax

from compress.errors import InputError

CONVENTION = (
  'nominal = elements x bits / 8 with what stays float32 counted at 32 '
  'bits; packed = bit-packed, in whole bytes; on disk = the file itself; '
  'MB = 1e6 bytes'
)
CHECKPOINT_BYTES_PER_TENSOR = 340


def nominal_bytes(table: Any) -> float:
  """Sum of numel * bits / 8 over a bit table; may be fractional.

  Args:
    table: pytree of (numel, bits).

  Returns:
    Bytes.

  Raises:
    InputError: a leaf that is not (numel, bits).
  """
  return sum(n * bits for n, bits in _leaves(table)) / 8


def packed_bytes(table: Any) -> int:
  """Bytes of a bit table with every tensor bit-packed into whole bytes.

  Args:
    table: pytree of (numel, bits).

  Returns:
    Bytes.

  Raises:
    InputError: a leaf that is not (numel, bits).
  """
  return sum(math.ceil(n * bits / 8) for n, bits in _leaves(table))


def aligned_bytes(table: Any) -> int:
  """Bytes of a bit table with every code in a type of 8, 16, 32 or 64 bits.

  Args:
    table: pytree of (numel, bits).

  Returns:
    Bytes.

  Raises:
    InputError: a leaf that is not (numel, bits) or has more than 64 bits.
  """
  return sum(n * _container(bits) // 8 for n, bits in _leaves(table))


def _container(bits) -> int:
  for width in (8, 16, 32, 64):
    if bits <= width:
      return width
  raise InputError(f'no integer type holds {bits} bits')


def _leaves(table: Any) -> list[tuple[int, float]]:
  leaves = jax.tree.leaves(table, is_leaf=_is_entry)
  for leaf in leaves:
    if not _is_entry(leaf) or leaf[0] < 0 or leaf[1] < 0:
      raise InputError(f'a bit table holds (numel, bits) leaves, got {leaf!r}')
  return leaves


def _is_entry(x: Any) -> bool:
  return (
    isinstance(x, tuple)
    and len(x) == 2
    and all(isinstance(v, int | float) for v in x)
  )


def file_bytes(path: str | os.PathLike) -> int:
  """Size of a file, or of all files below a folder.

  Args:
    path: an existing file or folder.

  Returns:
    Bytes.

  Raises:
    InputError: nothing is there.
  """
  if os.path.isfile(path):
    return os.path.getsize(path)
  if not os.path.isdir(path):
    raise InputError(f'no file or folder at {os.fspath(path)} to measure')
  return sum(
    os.path.getsize(os.path.join(folder, name))
    for folder, _, names in os.walk(path)
    for name in names
  )


def size_report(
  table: Any, *, on_disk: int | None = None, reference: float | None = None
) -> dict[str, Any]:
  """The `bytes` entry of a report.

  Args:
    table: pytree of (numel, bits).
    on_disk: bytes of the file, if there is one.
    reference: the reference's bytes, counted the same way as `on_disk`, or as
      `packed` where there is no file.

  Returns:
    'nominal', 'packed', 'aligned', 'on_disk' in bytes (None if unknown), the
    'convention' in words and, with a reference, the 'ratio' to it.

  Raises:
    InputError: a leaf that is not (numel, bits).
  """
  report = {
    'nominal': nominal_bytes(table),
    'packed': packed_bytes(table),
    'aligned': aligned_bytes(table),
    'on_disk': on_disk,
    'convention': CONVENTION,
  }
  if reference is not None:
    now = report['packed'] if on_disk is None else on_disk
    report['ratio'] = compression_ratio(reference, now)
  return report


def compression_ratio(original: float, compressed: float) -> float:
  """Original size over new size: 10 means a tenth, not '90 %'.

  Raises:
    InputError: a size that is not positive.
  """
  if original <= 0 or compressed <= 0:
    raise InputError(f'sizes must be positive, got {original}, {compressed}')
  return original / compressed


def quantized_bytes(
  weights: int,
  bits: int,
  *,
  other_parameters: int,
  statistics: int,
  channels: int,
  zero_points: bool = True,
  aligned: bool = False,
) -> float:
  """Bytes of a network with per-channel quantized weights.

  `weights * bits / 8 + 4 (other + statistics) + channels (4 + 4)`: everything
  that is not quantized stays float32, and each output channel keeps a float32
  scale and, if asymmetric, a 32-bit zero point.

  Args:
    weights: number of quantized weights.
    bits: bits per weight; 32 means not quantized (no scales).
    other_parameters: parameters kept in float32.
    statistics: BatchNorm running means and variances, kept in float32.
    channels: output channels with a scale.
    zero_points: count one per channel.
    aligned: store each weight in the smallest integer type.

  Returns:
    Bytes.

  Raises:
    InputError: aligned with more than 64 bits.
  """
  stored = _container(bits) if aligned else bits
  plain = 4 * (other_parameters + statistics)
  scales = 0 if bits == 32 else channels * (8 if zero_points else 4)
  return weights * stored / 8 + plain + scales


def checkpoint_bytes(
  state_floats: int,
  *,
  batch_norms: int,
  tensors: int,
  overhead: int = CHECKPOINT_BYTES_PER_TENSOR,
) -> int:
  """Size of a PyTorch checkpoint file: 4 F + 8 n_BN + overhead per tensor.

  Args:
    state_floats: parameters and BatchNorm statistics F.
    batch_norms: BatchNorm layers (each counts its batches in 8 bytes).
    tensors: entries of the state dict.
    overhead: container bytes per tensor (286-364 seen; 340 in older files).

  Returns:
    Bytes.
  """
  return 4 * state_floats + 8 * batch_norms + overhead * tensors


def checkpoint_ratio_mb(checkpoint_mb: float, bits: int) -> float:
  """The size that QuantFace and Ef-QuantFace print for a quantized network.

  The size of the float32 checkpoint over 32 / bits cut to two decimals (4.00
  for 8 bits, 5.33 for 6). No scale or zero point is counted, and all that
  stays float32 is divided as well. Inferred from the printed tables of Boutros
  et al. 2022 (arXiv 2206.10526), not stated there.

  Args:
    checkpoint_mb: size of the float32 checkpoint in MB (or MiB: the unit is
      kept).
    bits: 1..32.

  Returns:
    The size in the unit given.

  Raises:
    InputError: bits out of range.
  """
  if not 1 <= bits <= 32:
    raise InputError(f'bits must lie in 1..32, got {bits}')
  return checkpoint_mb / (3200 // bits / 100)


def format_mb(size: float, *, decimals: int = 2) -> str:
  """Bytes in decimal megabytes, e.g. '96.16 MB'."""
  return f'{size / 1e6:.{decimals}f} MB'


def format_mib(size: float, *, decimals: int = 2) -> str:
  """Bytes in binary mebibytes, e.g. '91.71 MiB'."""
  return f'{size / 2**20:.{decimals}f} MiB'


def bops(layers: Iterable[tuple[float, float, float]]) -> float:
  """Bit-operations: sum of MACs x weight bits x activation bits.

  As in Bayesian Bits (van Baalen et al. 2020, arXiv 2005.07093). Nominal where
  the arithmetic is only simulated.

  Args:
    layers: (macs, weight_bits, activation_bits) of each conv and dense layer,
      32 bits for float32.

  Returns:
    Bit-operations per image.

  Raises:
    InputError: a negative entry.
  """
  total = 0
  for macs, weight_bits, activation_bits in layers:
    if min(macs, weight_bits, activation_bits) < 0:
      raise InputError(
        'MACs and bits must be at least 0, got '
        f'{(macs, weight_bits, activation_bits)}'
      )
    total += macs * weight_bits * activation_bits
  return total


def effective_macs(layers: Iterable[tuple[float, int, int]]) -> float:
  """MACs that touch a non-zero weight: sum of MACs x nnz / numel.

  Blalock et al. 2020 (ShrinkBench, arXiv 2003.03033).

  Args:
    layers: (macs, nonzero weights, weights) of each conv and dense layer.

  Returns:
    MACs per image. Dense kernels do not run faster for it.
  """
  return sum(macs * nonzero / numel for macs, nonzero, numel in layers)
