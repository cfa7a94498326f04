"""FairGRAPE on digits, a tenth of which are turned: who loses by pruning.

The group of an image is whether it is turned. Groups are known on the training
images; every test image is judged both ways, so that both groups have the same
images. All methods prune the same number of weights of every layer in the same
rounds, each followed by the same training, and differ in what a weight is
worth: `magnitude` its size, `importance` FairGRAPE's worth summed over groups,
`fairgrape` the same, balanced.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compress import audit, prune
from compress.compressor import KEEP, State
from experiments.classification import evaluation, networks
from experiments.classification.training import make_trainer
from experiments.hybrids import runs as runs_lib
from experiments.hybrids.runs import Figures, Version
from experiments.hybrids.settings import Digits, Settings, turned

METHODS = {
  'reference': {'summary': 'LeNet-300-100, not pruned.'},
  'magnitude': {
    'summary': 'In rounds, the smallest weights of every layer go.',
    'paper': 'Han, Pool, Tran and Dally 2015',
    'url': 'https://arxiv.org/abs/1506.02626',
  },
  'importance': {
    'summary': 'What a weight is worth to all groups together decides: '
    'FairGRAPE without its balance.',
  },
  'fairgrape': {
    'summary': 'Every group keeps its share of what the weights are worth.',
    'paper': 'Lin, Kim and Joo 2022',
    'url': 'https://arxiv.org/abs/2207.10888',
  },
}
TITLE = 'Who loses when a classifier is pruned'
GROUPS = ('upright', 'turned')
_BATCH = 256


class Fairness:
  """The part's runs; networks and compiled steps are shared by them."""

  def __init__(self, settings: Settings, digits: Digits, progress: bool):
    self._settings, self._progress = settings, progress
    rng = np.random.default_rng(0)
    size = len(digits.train)
    self._members = rng.permutation(size) < round(settings.minority * size)
    self._train = turned(digits.train, self._members)
    self._tests = {
      name: turned(digits.test, np.full(len(digits.test), name == 'turned'))
      for name in GROUPS
    }
    self._scaling = digits.scaling
    self._network = networks.make_classifier(
      'lenet300',
      image_shape=digits.train.image_shape,
      classes=len(digits.train.classes),
    )
    self._predict = evaluation.make_predictor(
      self._network.apply, scaling=self._scaling
    )
    shapes = jax.eval_shape(self._network.init, jax.random.key(0))['params']
    self._full = {
      path: np.ones(leaf.shape, bool)
      for path, leaf in prune.by_path(shapes).items()
      if prune.is_kernel(path, leaf)
    }
    self._method = prune.fixed_masks(self._full)
    self._dense = functools.lru_cache(maxsize=1)(self._train_dense)
    self._trainer = functools.cache(self._make_trainer)

  def versions(self) -> list[Version]:
    """All rows, the reference first."""
    return runs_lib.grid(
      Version('LeNet-300-100', 'reference'),
      ('magnitude', 'importance', 'fairgrape'),
      self._settings.fair_sparsities,
    )

  def run(self, version: Version, seed: int) -> Figures:
    """One network, trained and judged on both groups."""
    dense = self._dense(seed)
    if version.sparsity is None:
      return self._judge(dense)
    importance = _size if version.method == 'magnitude' else self._worth
    rules = [('classifier/.*', KEEP), ('.*kernel', version.sparsity)]
    rounds = prune.prune_fairly(
      functools.partial(self._retrain, seed),
      importance,
      dense,
      rules,
      keep=self._settings.keep,
      balanced=version.method == 'fairgrape',
    )
    *_, last = rounds
    return self._judge(last.trained)

  def words(self, entries: list[dict[str, Any]]) -> list[str]:
    """Notes on the groups, a line for each entry."""
    lines = []
    for found in entries:
      upright, other, std, ser = (
        found[key]['mean']
        for key in ('upright', 'turned', 'group_std', 'group_ser')
      )
      lines.append(
        f'{found["name"]}: {upright:.2f} % of upright and {other:.2f} % of '
        f'turned digits right; STD over groups {std:.2f}, SER {ser:.2f}.'
      )
    return lines

  def _train_dense(self, seed):
    trainer = self._trainer(self._settings.epochs)
    start = self._network.init(jax.random.key(seed))
    return self._run(trainer, start, seed, self._full)['params']

  def _make_trainer(self, epochs):
    return make_trainer(
      self._network,
      self._train,
      scaling=self._scaling,
      tuning=self._settings.tuning(epochs),
      compressor=self._method,
    )

  def _retrain(self, seed, params, masks, i):
    trainer = self._trainer(self._settings.round_epochs)
    masks = {path: masks.get(path, full) for path, full in self._full.items()}
    start = {'params': params}
    return self._run(trainer, start, 1000 * seed + i, masks)['params']

  def _run(self, trainer, variables, seed, masks):
    state = State((), {'masks': jax.tree.map(jnp.asarray, dict(masks))})
    found = trainer.run(
      variables, seed=seed, state=state, progress=self._progress
    )
    return found.compressed

  @functools.cached_property
  def _losses(self):
    def losses(params, batch):
      logits = self._network.apply({'params': params}, batch['images'])
      log_q = jax.nn.log_softmax(logits)
      labels = batch['labels'][:, None]
      return -jnp.take_along_axis(log_q, labels, axis=1)[:, 0]

    return losses

  def _worth(self, params, masks):
    images = self._scaling(self._train.images)
    batches = []
    for start in range(0, len(images), _BATCH):
      rows = slice(start, start + _BATCH)
      batch = {'images': images[rows], 'labels': self._train.labels[rows]}
      batches.append((batch, self._members[rows].astype(np.int32)))
    return prune.fair_importance(
      self._losses, params, batches, groups=len(GROUPS), masks=masks
    )

  def _judge(self, params) -> Figures:
    judged = {
      name: evaluation.evaluate(self._predict, {'params': params}, dataset)
      for name, dataset in self._tests.items()
    }
    tops = np.array([judged[name].top1 for name in GROUPS])
    spread = audit.spread(tops)
    kernels = {
      path: leaf
      for path, leaf in prune.by_path(params).items()
      if path in self._full
    }
    return {
      'accuracy': 100 * float(tops.mean()),
      'params': runs_lib.nonzero(params),
      'macs': runs_lib.nonzero(kernels),
      **{name: 100 * judged[name].top1 for name in GROUPS},
      'group_std': 100 * float(spread.std),
      # An error-free group has no ratio; JSON has no infinity.
      'group_ser': min(float(spread.ser), 1e4),
    }


def _size(params, masks):
  leaves = prune.by_path(params)
  return {path: jnp.abs(leaves[path])[None] for path in masks}
