"""What a network that lost channels is restored by: labels, or its original.

A ResNet-8 loses the same share of the channels of every group, those inside
blocks and those on shortcuts. `labels` tunes what is left by labels alone,
`response` by Hinton's loss from the original, `restore` by the original's
logits and attention maps (Chen et al.), all from the same start. `two_stages`
(Aghli and Ribeiro) first removes filters inside blocks alone, those that speak
least, and tunes by labels for half of the epochs; then narrows the shortcuts
and is taught by the direction of the original's features for the other half.
All of one sparsity have the same widths and as many updates.
"""

import functools
from typing import Any

import jax
import numpy as np

from compress import graph, prune
from experiments.classification import evaluation, networks, teaching
from experiments.classification.teaching import Teacher
from experiments.classification.training import train_classifier
from experiments.hybrids import runs as runs_lib
from experiments.hybrids.runs import Figures, Version
from experiments.hybrids.settings import Digits, Settings

METHODS = {
  'reference': {'summary': 'ResNet-8, not pruned.'},
  'labels': {'summary': 'Channels removed, tuned by labels alone.'},
  'response': {
    'summary': 'Channels removed, taught by the logits of the original.',
    'paper': 'Hinton, Vinyals and Dean 2015',
    'url': 'https://arxiv.org/abs/1503.02531',
  },
  'restore': {
    'summary': 'Channels removed, taught by logits and attention maps of the '
    'original.',
    'paper': 'Chen, Chen, Xi and Le 2021',
    'url': 'https://doi.org/10.1007/s40747-020-00248-y',
  },
  'two_stages': {
    'summary': 'Channels inside blocks first, tuned by labels; then those on '
    'shortcuts, taught by the direction of the features of the original.',
    'paper': 'Aghli and Ribeiro 2021',
  },
}
TITLE = 'Restoring a classifier that lost channels'
FEATURES = tuple(f'stage{i}/block0/relu2' for i in (1, 2, 3))
ATTENTION_WEIGHT = 1.0
DIRECTION_WEIGHT = 1.0


class Restoration:
  """The part's runs; the originals are shared by them."""

  def __init__(self, settings: Settings, digits: Digits, progress: bool):
    self._settings, self._digits = settings, digits
    self._progress = progress
    self._network = networks.make_classifier(
      'cifar_resnet8',
      image_shape=digits.train.image_shape,
      classes=len(digits.train.classes),
    )
    self._original = functools.lru_cache(maxsize=1)(self._train_original)

  def versions(self) -> list[Version]:
    """All rows, the reference first."""
    return runs_lib.grid(
      Version('ResNet-8', 'reference'),
      ('labels', 'response', 'restore', 'two_stages'),
      self._settings.channel_sparsities,
    )

  def words(self, entries: list[dict[str, Any]]) -> list[str]:
    """No notes."""
    del entries
    return []

  def run(self, version: Version, seed: int) -> Figures:
    """One network, pruned, tuned and judged."""
    original = self._original(seed)
    if version.sparsity is None:
      return self._judge(original)
    if version.method == 'two_stages':
      return self._judge(self.two_stages(original, version.sparsity, seed))
    small = remove(original, version.sparsity)
    before = self._judge(small)['accuracy']
    tuned = self._tune(version.method, small, original, seed)
    return {**self._judge(tuned), 'accuracy_before': before}

  def two_stages(self, original: Teacher, sparsity: float, seed: int):
    """Aghli and Ribeiro's scheme.

    Args:
      original: the dense network, which is the teacher.
      sparsity: fraction of the channels removed, of every group.
      seed: of both trainings.

    Returns:
      The small network.
    """
    epochs = self._settings.epochs
    images = self._digits.scaling(self._digits.train.images[:256])
    first = remove_inside(original, sparsity, images)
    first = self._tune('labels', first, original, seed, epochs // 2)
    small = remove(first, sparsity, inside=False)
    left = epochs - epochs // 2
    return self._tune('two_stages', small, original, seed, left)

  def _tune(self, method, small, original, seed, epochs=None):
    settings, digits = self._settings, self._digits
    tuning = settings.tuning(epochs, learning_rate=1e-3)
    options = {
      'scaling': digits.scaling,
      'tuning': tuning,
      'seed': seed,
      'progress': self._progress,
    }
    if method == 'labels':
      found = train_classifier(
        small.network, small.variables, digits.train, **options
      )
      return small._replace(variables=found.variables)
    extra, features = None, FEATURES
    if method == 'response':
      loss, features = teaching.response_loss(tuning), ()
    elif method == 'restore':
      loss = teaching.restoring_loss(tuning, attention_weight=ATTENTION_WEIGHT)
    else:
      loss = teaching.direction_loss(weight=DIRECTION_WEIGHT)
      extra = teaching.init_projections(small, original, features, seed=seed)
    variables = teaching.teach(
      small,
      digits.train,
      teacher=original,
      loss=loss,
      features=features,
      extra=extra,
      **options,
    )
    return small._replace(variables=variables)

  def _train_original(self, seed):
    found = train_classifier(
      self._network,
      self._network.init(jax.random.key(seed)),
      self._digits.train,
      scaling=self._digits.scaling,
      tuning=self._settings.tuning(),
      seed=seed,
      progress=self._progress,
    )
    return Teacher(self._network, found.variables)

  def _judge(self, found: Teacher) -> Figures:
    network, variables = found
    predict = evaluation.make_predictor(
      network.apply, scaling=self._digits.scaling
    )
    judged = evaluation.evaluate(predict, variables, self._digits.test)
    cost = network.cost(variables)
    return {
      **runs_lib.percent(judged),
      'params': sum(x.size for x in jax.tree.leaves(variables['params'])),
      'macs': cost.macs,
    }


def find_groups(found: Teacher):
  """The channel groups of a network, and which lie inside blocks.

  Returns:
    The groups, the names of those inside, the names of the others.
  """
  network, variables = found
  image = jax.ShapeDtypeStruct((1, *network.image_shape), np.float32)
  graph_ = graph.trace(network.apply, variables, image)
  groups = graph.channels(graph_).groups
  return groups, *prune.inside_blocks(groups, variables)


def remove(found: Teacher, sparsity: float, *, inside: bool = True) -> Teacher:
  """Removes the same share of the channels of every group, by DepGraph's size.

  Args:
    found: the network.
    sparsity: fraction removed, in [0, 1).
    inside: of the groups inside blocks too.

  Returns:
    The smaller network.
  """
  groups, _, between = find_groups(found)
  importance = prune.group_importance(groups, found.variables)
  chosen = importance if inside else {k: importance[k] for k in between}
  keep = prune.keep_channels(chosen, sparsity)
  small, variables, _ = networks.shrink(*found, keep, verify=False)
  return Teacher(small, variables)


def remove_inside(
  found: Teacher, sparsity: float, images: np.ndarray
) -> Teacher:
  """Removes filters inside blocks alone, those that speak least.

  Args:
    found: a residual network of two convolutions a block.
    sparsity: fraction removed of every group, in [0, 1).
    images: float32 [B, H, W, C], scaled; to count activity on.

  Returns:
    The smaller network; its shortcuts are as wide as before.
  """
  _, inside, _ = find_groups(found)
  places = {name: name.replace('/conv', '/relu') for name in inside}
  speaks = prune.activity(
    found.network.apply, found.variables, places, [images]
  )
  keep = prune.keep_channels(speaks, sparsity)
  small, variables, _ = networks.shrink(*found, keep, verify=False)
  return Teacher(small, variables)
