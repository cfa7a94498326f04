"""What stays of a network: masks of weights, or channels, for a ratio."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from compress import graph, prune
from compress.errors import InputError
from experiments.classification.pruning_methods import (
  Chosen,
  Method,
  choose_masks,
)
from experiments.classification.pruning_scores import Bench, kernels

_HALVINGS = 14


class Choice:
  """Chooses for one study; scores are taken once.

  Attributes:
    bench: what networks are scored on.
    total: parameters of the network.
    sparsities: compression ratio to the sparsity of the kernels that gives it.
    initial: variables before training, one a seed.
    trained: pretrained variables, one a seed.
  """

  def __init__(self, bench: Bench, ratios: Sequence[float]):
    """Raises InputError for a ratio that cannot be met."""
    self.bench = bench
    self.total = _size(bench.shapes)
    prunable = _size(kernels(bench.shapes['params']))
    self.sparsities = {
      ratio: 1 - prune.keep_fraction(self.total, self.total - prunable, ratio)
      for ratio in ratios
    }
    self.initial: list[Any] = []
    self.trained: list[Any] = []
    self._found: dict[tuple[str, int], Any] = {}
    self._shares: dict[tuple, float] = {}

  def start(self, method: Method, seed: int):
    """The variables that a method prunes."""
    return (self.initial if method.initial else self.trained)[seed]

  def _score(self, method: Method, seed: int):
    """Scores do not depend on the ratio."""
    if method.score is None:
      return None
    key = method.name, seed
    if key not in self._found:
      variables = self.start(method, seed)
      self._found[key] = method.score(self.bench, variables, seed)
    return self._found[key]

  def masks(self, method: Method, seed: int, ratio: float) -> Chosen:
    """Weights that stay."""
    return choose_masks(
      method,
      self.bench,
      self.start(method, seed),
      seed=seed,
      ratio=ratio,
      sparsity=self.sparsities[ratio],
      found=self._score(method, seed),
    )

  def keep(
    self, method: Method, seed: int, ratio: float
  ) -> dict[str, np.ndarray]:
    """Channels that stay, as many as the ratio's parameters allow.

    Args:
      method: one of channels.
      seed: whose network.
      ratio: parameters before over parameters left, at least.

    Returns:
      Group name to bool [n].

    Raises:
      InputError: more than that is left with one channel of each layer.
    """
    importance = self._score(method, seed)
    key = ratio, tuple(importance)
    if method.scope == 'local' and key in self._shares:
      return prune.keep_channels(importance, self._shares[key])
    budget = self.total / ratio

    def at(sparsity):
      keep = prune.keep_channels(importance, sparsity, scope=method.scope)
      return keep, self._left(keep)

    low, high = 0.0, float(np.nextafter(1.0, 0.0))
    best, left = at(high)
    if left > budget:
      raise InputError(
        f'{left:,} parameters are left with one channel of each layer, more '
        f'than {budget:,.0f}'
      )
    for _ in range(_HALVINGS):
      middle = (low + high) / 2
      keep, left = at(middle)
      if left <= budget:
        best, high = keep, middle
      else:
        low = middle
    if method.scope == 'local':
      # Widths do not depend on which channels stay.
      self._shares[key] = high
    return best

  def _left(self, keep) -> int:
    """Parameters of the network with these channels."""
    small = graph.shrink(
      self.bench.network.apply,
      self.bench.shapes,
      keep,
      groups=self.bench.groups,
      verify=False,
    )
    return _size(small.variables)

  def count(self, variables) -> dict[str, int]:
    """Parameters and operations that are not zero."""
    found = prune.sparsity_report(variables['params'], macs=self.bench.macs)
    return {'params': found.size_nz, 'macs': found.flops_nz}


def _size(tree) -> int:
  params = tree.get('params', tree)
  return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))
