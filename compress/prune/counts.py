"""What is left, as ShrinkBench counts it (Blalock et al. 2020, 2003.03033)."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from compress.errors import InputError
from compress.prune.paths import by_path


class SparsityReport(NamedTuple):
  """Sizes and operations of a pruned network, dense and counted without zeros.

  Attributes:
    size: number of parameters, biases and norms with them.
    size_nz: those that are not 0.
    compression: `size / size_nz`, 10 for a tenth.
    flops: multiply-adds of the dense network; None where none are given.
    flops_nz: the sum over leaves of multiply-adds times density.
    speedup: `flops / flops_nz`, in theory: masks alone make nothing faster.
    densities: leaf path to the fraction of its values that are not 0.
  """

  size: int
  size_nz: int
  compression: float
  flops: int | None
  flops_nz: int | None
  speedup: float | None
  densities: dict[str, float]


def sparsity_report(
  params, *, macs: Mapping[str, int] | None = None
) -> SparsityReport:
  """Counts parameters and operations that are left.

  Args:
    params: pytree of concrete arrays, as the forward pass sees them: what a
      compressor's `apply` gives.
    macs: leaf path to the multiply-adds that one of its weights takes part in,
      as `macs_per_weight` gives them; leaves without an entry have none.

  Returns:
    The counts; ratios are infinite where nothing is left.

  Raises:
    InputError: multiply-adds for a path that is no leaf, or no parameters.
  """
  leaves = by_path(params)
  sizes = {path: int(np.size(leaf)) for path, leaf in leaves.items()}
  left = {
    path: int(np.count_nonzero(np.asarray(leaf)))
    for path, leaf in leaves.items()
  }
  size, size_nz = sum(sizes.values()), sum(left.values())
  if not size:
    raise InputError('no parameters to count')
  flops = flops_nz = speedup = None
  if macs is not None:
    for path in macs:
      if path not in leaves:
        raise InputError(f'{path}: has multiply-adds but is no leaf')
    flops = sum(sizes[path] * cost for path, cost in macs.items())
    flops_nz = sum(left[path] * cost for path, cost in macs.items())
    speedup = _ratio(flops, flops_nz)
  densities = {path: left[path] / n for path, n in sizes.items() if n}
  return SparsityReport(
    size, size_nz, _ratio(size, size_nz), flops, flops_nz, speedup, densities
  )


def keep_fraction(total: int, unprunable: int, compression: float) -> float:
  """The fraction of prunable weights to keep for a compression ratio.

  `(total / c - unprunable) / (total - unprunable)`; 1 minus it is the sparsity
  to ask for.

  Args:
    total: parameters of the network.
    unprunable: those of them that stay whatever is asked.
    compression: `size / size_nz` wanted, at least 1.

  Returns:
    Fraction in (0, 1].

  Raises:
    InputError: the ratio is below 1, or more than the prunable weights give.
  """
  prunable = total - unprunable
  if prunable <= 0 or unprunable < 0:
    raise InputError(
      f'{unprunable} of {total} parameters cannot be pruned: nothing is left '
      f'to prune'
    )
  fraction = (total / compression - unprunable) / prunable
  if compression < 1 or fraction <= 0:
    most = total / unprunable if unprunable else math.inf
    raise InputError(
      f'compression {compression:g} cannot be met: it lies in [1, {most:g}) '
      f'with {unprunable} of {total} parameters not pruned'
    )
  return fraction


def _ratio(original, left) -> float:
  return original / left if left else math.inf
