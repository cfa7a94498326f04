"""Students that explain themselves: soft decision trees, regression trees.

Each is grown three times: on labels, on the teacher's answers to the same
images, and on its answers to invented images besides. Soft trees learn from
probabilities at the temperature of distillation, for at 1 a teacher's answers
to the images that it learned from are nearly the labels; regression trees from
logits, of which the scale does not matter.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from compress import distill
from experiments.classification.teacher_gap_lab import Lab

SOURCES = ('labels', 'teacher', 'teacher and MUNGE')


class Grown(NamedTuple):
  """A tree grown from every seed's teacher.

  Attributes:
    kind: 'soft tree', by its best path, 'soft tree, mixture', or 'regression
      tree'.
    source: of `SOURCES`.
    trees: one a seed.
    answers: [R, N, K], logarithms of probabilities or other scores of the test
      images, the largest the answer.
    nbytes: of one tree's arrays.
    leaves: number of leaves, mean over seeds.
  """

  kind: str
  source: str
  trees: list[Any]
  answers: np.ndarray
  nbytes: float
  leaves: float


def grow(lab: Lab, images: np.ndarray, answers: np.ndarray) -> list[Grown]:
  """Grows all trees.

  Args:
    lab: of the study.
    images: float32 [M, H, W, C], real and invented, scaled.
    answers: [R, M, K], the teacher's logits of them.

  Returns:
    The trees, soft ones by best path and by mixture.
  """
  found = []
  real, count = lab.real, len(lab.real)
  sure = np.log(np.eye(len(lab.images.train.classes)) + 1e-9)
  labels = sure[lab.images.train.labels].astype(np.float32)
  labels = np.broadcast_to(labels, (len(lab.seeds), *labels.shape))
  for source, seen, logits in (
    ('labels', real, labels),
    ('teacher', real, answers[:, :count]),
    ('teacher and MUNGE', images, answers),
  ):
    found += _soft(lab, source, seen, logits)
    found.append(_regression(lab, source, seen, logits))
  return found


def _soft(lab, source, images, logits) -> list[Grown]:
  features = int(np.prod(images.shape[1:]))
  classes, depth = logits.shape[2], lab.settings.soft_depth

  # Labels have no temperature: they are one-hot.
  temperature = lab.settings.tuning.temperature if source != 'labels' else 1.0
  logits = logits / np.float32(temperature)

  def loss(tree, batch):
    target = jax.nn.softmax(batch.teacher)
    penalty, _ = distill.balance_penalty(tree, batch.images)
    return distill.soft_tree_loss(tree, batch.images, target) + penalty

  def make():
    start = [
      distill.init_soft_tree(
        jax.random.key(seed), features=features, classes=classes, depth=depth
      )[0]
      for seed in lab.seeds
    ]
    trees = lab.train('soft tree', loss, start, lab.examples(logits, images))
    return [tree._asdict() for tree in trees]

  name = 'soft_tree_' + source.replace(' ', '_')
  kept, _ = lab.kept(name, make)
  trees = [distill.SoftTree(**tree) for tree in kept]
  test = lab.images.scaling(lab.images.test.images)
  said = [distill.soft_tree_predict(tree, test) for tree in trees]
  nbytes = sum(4 * leaf.size for leaf in trees[0])
  common = {'trees': trees, 'nbytes': nbytes, 'leaves': 2.0**depth}
  return [
    Grown(
      kind,
      source,
      answers=np.log(np.stack([getattr(x, form) for x in said]) + 1e-12),
      **common,
    )
    for kind, form in (
      ('soft tree', 'best_path'),
      ('soft tree, mixture', 'mixture'),
    )
  ]


def _regression(lab, source, images, logits) -> Grown:
  # Of labels the tree has probabilities: the classification tree by Gini.
  plain = source == 'labels'
  trees = [
    distill.fit_regression_tree(
      images,
      distill.tree_targets(jnp.asarray(one), probabilities=plain),
      depth=lab.settings.tree_depth,
      seed=seed,
    )
    for seed, one in zip(lab.seeds, logits, strict=True)
  ]
  test = jnp.asarray(lab.images.scaling(lab.images.test.images))
  said = np.stack([distill.regression_tree_predict(t, test) for t in trees])
  return Grown(
    'regression tree',
    source,
    trees,
    np.log(said + 1e-12) if plain else said,
    float(np.mean([distill.regression_tree_nbytes(t) for t in trees])),
    float(np.mean([(len(t.feature) + 1) / 2 for t in trees])),
  )
