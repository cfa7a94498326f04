"""Prune, then distil: small students of a teacher that was pruned first.

Park and No 2022, arXiv:2109.14960, on LeNet-5: the teacher loses a fifth of its
weights in each round, by size over the whole network, and is trained again with
the learning rate wound back. A student as wide as what is left of it in each
layer is trained from new weights by labels alone (`labels`), by the dense
teacher (`dense_teacher`) and by the pruned one (`pruned_teacher`).
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from compress import models, prune
from compress.compressor import KEEP, State
from compress.prune import lottery_ticket
from experiments.classification import evaluation, networks, teaching
from experiments.classification.teaching import Teacher
from experiments.classification.training import make_trainer, train_classifier
from experiments.hybrids import runs as runs_lib
from experiments.hybrids.runs import Figures, Version
from experiments.hybrids.settings import Digits, Settings

METHODS = {
  'reference': {'summary': 'LeNet-5, the dense teacher.'},
  'sparse': {
    'summary': 'The pruned teachers themselves; their zeros make nothing '
    'faster.',
    'paper': 'Renda, Frankle and Carbin 2020',
    'url': 'https://arxiv.org/abs/2003.02389',
  },
  'labels': {'summary': 'A small student, labels alone.'},
  'dense_teacher': {
    'summary': 'The same student, taught by the dense teacher.',
    'paper': 'Hinton, Vinyals and Dean 2015',
    'url': 'https://arxiv.org/abs/1503.02531',
  },
  'pruned_teacher': {
    'summary': 'The same student, taught by the pruned teacher.',
    'paper': 'Park and No 2022',
    'url': 'https://arxiv.org/abs/2109.14960',
  },
}
TITLE = 'Students of a pruned teacher'
LAYERS = ('conv1', 'conv2', 'fc1')
# The share of labels and the temperature are the paper's.
TEACHING = {'temperature': 10.0, 'hard_weight': 0.05}
_RULES = (('classifier/.*', KEEP), ('.*kernel', 0.2))


class Students:
  """The part's runs; teachers are shared by them."""

  def __init__(self, settings: Settings, digits: Digits, progress: bool):
    self._settings, self._digits = settings, digits
    self._progress = progress
    self._network = self._lenet()
    shapes = jax.eval_shape(self._network.init, jax.random.key(0))['params']
    self._full = lottery_ticket.full_masks(
      jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes), _RULES
    )
    self._teachers = functools.lru_cache(maxsize=1)(self._train_teachers)

  def versions(self) -> list[Version]:
    """All rows, the reference first."""
    return runs_lib.grid(
      Version('LeNet-5', 'reference'),
      ('sparse', 'labels', 'dense_teacher', 'pruned_teacher'),
      self._settings.teacher_sparsities,
    )

  def words(self, entries: list[dict[str, Any]]) -> list[str]:
    """No notes."""
    del entries
    return []

  def run(self, version: Version, seed: int) -> Figures:
    """One network, trained and judged."""
    chain = self._teachers(seed)
    if version.sparsity is None:
      return self._judge(chain[0][0])
    rounds = prune.rewinding_rounds(version.sparsity)
    pruned, masks = chain[rounds]
    if version.method == 'sparse':
      found = self._judge(pruned)
      found.pop('macs')
      return {**found, 'params': runs_lib.nonzero(pruned.variables['params'])}
    widths = widths_of(masks, self._network.init)
    student = self._lenet(widths)
    start = Teacher(student, student.init(jax.random.key(1000 + seed)))
    options = {
      'scaling': self._digits.scaling,
      'tuning': self._settings.tuning(**TEACHING),
      'seed': seed,
      'progress': self._progress,
    }
    if version.method == 'labels':
      variables = train_classifier(
        *start, self._digits.train, **options
      ).variables
    else:
      dense = version.method == 'dense_teacher'
      variables = teaching.teach(
        start,
        self._digits.train,
        teacher=chain[0][0] if dense else pruned,
        loss=teaching.response_loss(options['tuning']),
        **options,
      )
    full = (20, 50, 500)
    return {
      **self._judge(Teacher(student, variables)),
      'widths': {
        layer: [new, old]
        for layer, new, old in zip(LAYERS, widths, full, strict=True)
      },
    }

  def _lenet(self, widths=(20, 50, 500)):
    train = self._digits.train
    module = models.lenet5(
      image_shape=train.image_shape,
      classes=len(train.classes),
      widths=tuple(widths[:2]),
      hidden=widths[2],
    )
    return networks.from_module('lenet5', module, image_shape=train.image_shape)

  def _train_teachers(self, seed) -> list[tuple[Teacher, Any]]:
    """The dense teacher and those of every round, with their masks."""
    trainer = make_trainer(
      self._network,
      self._digits.train,
      scaling=self._digits.scaling,
      tuning=self._settings.tuning(),
      compressor=prune.fixed_masks(self._full),
    )
    variables, masks = self._network.init(jax.random.key(seed)), self._full
    most = max(self._settings.teacher_sparsities)
    found = []
    for i in range(prune.rewinding_rounds(most) + 1):
      if i:
        masks = lottery_ticket.next_masks(
          variables['params'], masks, _RULES, scope='global'
        )
      state = State((), {'masks': masks})
      # Each round takes up the trained weights; the rate alone is wound back.
      variables = trainer.run(
        variables, seed=100 * seed + i, state=state, progress=self._progress
      ).compressed
      found.append((Teacher(self._network, variables), masks))
    return found

  def _judge(self, found: Teacher) -> Figures:
    network, variables = found
    predict = evaluation.make_predictor(
      network.apply, scaling=self._digits.scaling
    )
    judged = evaluation.evaluate(predict, variables, self._digits.test)
    return {
      **runs_lib.percent(judged),
      'params': sum(x.size for x in jax.tree.leaves(variables['params'])),
      'macs': network.cost(variables).macs,
    }


def widths_of(masks, init) -> tuple[int, ...]:
  """Widths of LeNet-5's student from the masks of its teacher.

  Args:
    masks: leaf path to bool.
    init: `key -> variables` of the teacher.

  Returns:
    Channels of both convolutions and of the hidden layer.
  """
  params = jax.eval_shape(init, jax.random.key(0))['params']
  kernels = [params[layer]['kernel'].shape for layer in LAYERS]
  places = kernels[2][0] // kernels[1][-1]
  return prune.student_widths(
    [int(masks[f'{layer}/kernel'].sum()) for layer in LAYERS],
    areas=[*(k[0] * k[1] for k in kernels[:2]), places],
    channels=kernels[0][2],
  )
