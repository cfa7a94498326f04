"""How many survive: the rounding conventions of published codes, by name.

Codes disagree on how a fraction becomes a count and on who goes when scores are
equal, so a comparison with a printed number must say which convention it uses.
A count is made on the host, in float64, with the arithmetic of the code that
the preset is named after.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Literal

from compress.errors import InputError

Ties = Literal['index', 'kept', 'removed']


@dataclasses.dataclass(frozen=True)
class Rounding:
  """From a sparsity to a number of survivors.

  Attributes:
    name: what the preset follows.
    survivors: `(n, sparsity) -> count`, before it is cut to [min_keep, n].
    ties: what happens to scores equal to the last survivor's: `index` keeps
      exactly `count`, lowest flat index first; `kept` keeps all of them;
      `removed` removes all that equal the best of the removed.
    min_keep: fewest survivors of a leaf.
  """

  name: str
  survivors: Callable[[int, float], int]
  ties: Ties = 'index'
  min_keep: int = 0

  def count(self, n: int, sparsity: float) -> int:
    """Survivors among `n` at a sparsity.

    Args:
      n: number of weights, or of units.
      sparsity: fraction removed, in [0, 1).

    Returns:
      Count in [min(min_keep, n), n]; all of them at sparsity 0.

    Raises:
      InputError: the sparsity lies outside [0, 1).
    """
    check_sparsity(sparsity)
    if sparsity == 0:
      return n
    return min(n, max(self.min_keep, self.survivors(n, sparsity)))


def check_sparsity(sparsity: float, where: str = '') -> float:
  """Gives a sparsity back as a float, if it is one.

  Args:
    sparsity: fraction removed.
    where: path of the leaf, for the message.

  Returns:
    The sparsity.

  Raises:
    InputError: it is no number in [0, 1).
  """
  prefix = f'{where}: ' if where else ''
  try:
    value = float(sparsity)
  except (TypeError, ValueError):
    raise InputError(
      f'{prefix}sparsity {sparsity!r} is no number in [0, 1)'
    ) from None
  if not 0 <= value < 1:
    raise InputError(
      f'{prefix}sparsity {value:g} lies outside [0, 1): it is the fraction '
      f'removed'
    )
  return value


def _library(n: int, sparsity: float) -> int:
  # The slack covers the error of 1 - sparsity, which grows with n.
  return math.floor(n * (1 - sparsity) + max(1e-9, 1e-15 * n))


def _quantile(n: int, sparsity: float) -> int:
  # Removed is what lies strictly below the linearly interpolated quantile, so
  # all up to the position that follows it.
  return n - math.ceil(sparsity * (n - 1))


def _amc(n: int, sparsity: float, multiple: int = 8) -> int:
  kept = max(1, round(n * (1 - sparsity)))
  kept = -(-kept // multiple) * multiple
  return kept if kept <= n else n // multiple * multiple or n


LIBRARY = Rounding('library', _library, min_keep=1)
"""`max(1, floor(n density + 1e-9))`, exact; ties by lowest flat index."""

JAXPRUNER = Rounding('jaxpruner', lambda n, s: round(n * (1 - s)), min_keep=1)
"""`max(1, round(n density))`, half to even, exact (google-research)."""

SHRINKBENCH = Rounding('ShrinkBench', _quantile, ties='kept')
"""Strictly below the interpolated quantile goes; ties stay."""

SYNFLOW = Rounding('SynFlow', lambda n, s: n - int(s * n), ties='removed')
"""The `int(s n)` lowest go and all that equals the highest of them.

The SynFlow repository, for SNIP, GraSP and SynFlow alike.
"""

EDGE_POPUP = Rounding('hidden-networks', lambda n, s: n - int(s * n))
"""The `int(s n)` lowest go, exact (ties there: lowest index goes first)."""

RIGL = Rounding('RigL', lambda n, s: n - math.floor(s * n))
"""`floor(s n)` zeros, exact."""

SOFT_FILTER = Rounding('soft filter pruning', lambda n, s: n - int(n * s))
"""`int(O s)` filters are zeroed; `n` counts filters."""

TORCH_PRUNING = Rounding('Torch-Pruning', lambda n, s: int(n * (1 - s)))
"""`int(n density)` of the first width, exact within a group."""

TORCH_PRUNING_GLOBAL = dataclasses.replace(
  TORCH_PRUNING, name='Torch-Pruning, global', ties='removed'
)
"""The same over all groups; all at or below the threshold goes."""

AMC = Rounding('AMC', _amc)
"""`max(1, round(c density))` channels, up to a multiple of 8.

Down to one where that is more than there are; a layer of fewer than 8 channels
keeps them all.
"""

SPARSEGPT = Rounding(
  'SparseGPT', lambda n, s: n - int(n * s) - 1, ties='removed'
)
"""At or below the sorted entry `int(n s)` goes: one more than asked."""

PRESETS = {
  preset.name: preset
  for preset in (
    LIBRARY,
    JAXPRUNER,
    SHRINKBENCH,
    SYNFLOW,
    EDGE_POPUP,
    RIGL,
    SOFT_FILTER,
    TORCH_PRUNING,
    TORCH_PRUNING_GLOBAL,
    AMC,
    SPARSEGPT,
  )
}
"""All of them by name."""
