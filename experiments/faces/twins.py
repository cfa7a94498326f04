"""The twins of a study: made, fine-tuned no further, and read back."""

from typing import Any

import numpy as np

from compress import encode
from experiments.faces import calibration, exported, pruning
from experiments.faces import student as student_lib


class Twins:
  """Makes the twins of a study, and each compiled function once.

  Attributes:
    network: the reference.
    settings: of the study.
    splits: one `Faces` a fold.
    rules: rewrite rules.
    folder: of inputs made to calibrate on.
  """

  def __init__(self, network, settings, splits, rules, folder):
    self.network = network
    self.settings = settings
    self.splits = splits
    self.rules = rules
    self.folder = folder
    self._rankings: dict[Any, pruning.Ranking] = {}
    self._pruned: dict[Any, pruning.Pruned] = {}
    self._students: dict[Any, student_lib.Student] = {}
    self._compiled: dict[str, Any] = {}

  def pruned(self, item) -> pruning.Pruned:
    """The network without the channels that a variant removes."""
    variant = item.variant
    if not variant.sparsity:
      return pruning.Pruned(self.network, {}, {})
    key = item.fold, item.seed, variant.importance, variant.sparsity
    _forget_others(self._pruned, key)
    if key not in self._pruned:
      self._pruned[key] = pruning.prune_network(
        self.network,
        self._ranking(item),
        variant.sparsity,
        scope=self.settings.scope,
        most=self.settings.most,
        round_to=self.settings.round_to,
      )
    return self._pruned[key]

  def _ranking(self, item) -> pruning.Ranking:
    key = item.fold, item.seed, item.variant.importance
    _forget_others(self._rankings, key)
    if key not in self._rankings:
      self._rankings[key] = pruning.rank_channels(
        self.network,
        item.variant.importance,
        images=self.splits[item.fold].train.images,
        batches=self.settings.importance_batches,
        seed=item.seed,
        rules=self.rules,
      )
    return self._rankings[key]

  def student(self, item) -> student_lib.Student:
    """The twin after calibration; kept until the next fold or seed."""
    variant = item.variant
    key = (
      item.fold,
      item.seed,
      *variant.shape,
      variant.importance,
      variant.calibration,
    )
    _forget_others(self._students, key)
    if key not in self._students:
      self._students[key] = student_lib.make_student(
        self.pruned(item).network,
        self.settings.recipe(variant),
        self._inputs(item),
        rules=self.rules,
      )
    return self._students[key]

  def _inputs(self, item) -> np.ndarray:
    """What the ranges of a run's activations are taken from."""
    if item.variant.calibration != 'photographs':
      return calibration.make_inputs(
        self.network,
        item.variant.calibration,
        count=self.settings.calibration,
        steps=self.settings.synthesis_steps,
        seed=item.seed,
        folder=self.folder,
        rules=self.rules,
      )
    images = self.splits[item.fold].train.images
    rng = np.random.default_rng((item.seed, item.fold))
    count = min(self.settings.calibration, len(images))
    return images[np.sort(rng.permutation(len(images))[:count])]

  def stored(self, item):
    """The network in a run's file, `images -> embeddings`, compiled."""
    tree, metadata = encode.load(item.folder / 'network.safetensors')[:2]
    recipe = student_lib.Recipe(**metadata['recipe'])
    network = pruning.restore_network(self.network, metadata['kept'])
    stored = exported.Stored(network, recipe, tree, metadata)
    return exported.evaluate(stored, self.rules, compiled=self._compiled)


def _forget_others(known: dict, key: tuple) -> None:
  """Drops what belongs to another fold or seed."""
  if any(kept[:2] != key[:2] for kept in known):
    known.clear()
