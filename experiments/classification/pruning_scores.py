"""Scores of weights and channels of a trained classifier, one way for all.

A score is `(bench, variables, seed) -> {leaf path: array}`: of weights, of the
leaf's shape; of channels, of the groups' names, [n]. Higher means keep. What
depends on data sees training images only.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compress import distill, graph, prune
from compress.data import ImageDataset, Scaling
from compress.prune import grasp, saliency_metrics
from compress.prune.relevance_rules import RelevanceRules
from experiments.classification.networks import Classifier

KERNELS = '.*kernel'
_PER_CLASS = 10

Scores = dict[str, Any]
Score = Callable[['Bench', Any, int], Scores]


class Bench:
  """A network and the images it is scored on; scores compile once.

  Attributes:
    network: the classifier.
    dataset: the training images.
    scaling: of pixels.
    groups: channels that may leave, none that a norm or constant ties.
  """

  def __init__(
    self, network: Classifier, dataset: ImageDataset, scaling: Scaling
  ):
    self.network, self.dataset, self.scaling = network, dataset, scaling
    self.shapes = jax.eval_shape(network.init, jax.random.key(0))
    self.traced = graph.trace(network.apply, self.shapes, self.image())
    found = graph.channels(self.traced).groups
    self.groups = tuple(group for group in found if not group.tags)
    self.macs = prune.macs_per_weight(self.traced)

  def image(self, count: int = 1) -> jax.ShapeDtypeStruct:
    """The shape of some images."""
    shape = (count, *self.network.image_shape)
    return jax.ShapeDtypeStruct(shape, jnp.float32)

  def batch(self, seed: int) -> dict[str, np.ndarray]:
    """As many training images of every class, drawn by the seed."""
    least = int(np.bincount(self.dataset.labels).min())
    rows = prune.balanced_indices(
      self.dataset.labels, per_class=min(_PER_CLASS, least), seed=seed
    )
    return {
      'images': self.scaling(self.dataset.images[rows]),
      'labels': self.dataset.labels[rows],
    }

  def loss(self, collections, *, training: bool = False, temperature=1.0):
    """`(params, batch) -> scalar`, the cross-entropy in nats."""

    def loss_fn(params, batch):
      variables = {**collections, 'params': params}
      if training:
        logits, _ = self.network.learn(variables, batch['images'])
      else:
        logits = self.network.apply(variables, batch['images'])
      return distill.cross_entropy(logits / temperature, batch['labels'])

    return loss_fn

  @functools.cached_property
  def gradients(self) -> Callable[[Any, Any], Scores]:
    """|w g| on one batch."""

    def score(variables, batch):
      params, others = _split(variables)
      found = jax.grad(self.loss(others))(params, batch)
      return prune.saliencies(
        prune.gradient_saliency, kernels(params), grads=kernels(found)
      )

    return jax.jit(score)

  @functools.cached_property
  def sensitivities(self) -> Callable[[Any, Any], Scores]:
    """SNIP."""

    def score(variables, batch):
      params, others = _split(variables)
      return prune.snip_saliency(
        self.loss(others, training=True), params, batch, prunable=KERNELS
      )

    return jax.jit(score)

  @functools.cached_property
  def flows(self) -> Callable[[Any, Any], Scores]:
    """GraSP."""

    def score(variables, batch):
      params, others = _split(variables)
      loss = self.loss(others, training=True, temperature=grasp.TEMPERATURE)
      return prune.grasp_saliency(loss, params, batch, prunable=KERNELS)

    return jax.jit(score)

  @functools.cached_property
  def damages(self) -> Callable[[Any, Any], Scores]:
    """Optimal brain damage by the Gauss-Newton diagonal."""

    def score(variables, batch, key):
      params, others = _split(variables)

      def predict(params, image):
        variables = {**others, 'params': params}
        return self.network.apply(variables, image[None])[0]

      def loss(logits, label):
        return distill.cross_entropy(logits[None], label[None])

      diagonal = prune.gauss_newton_diagonal(
        predict,
        loss,
        params,
        (batch['images'], batch['labels']),
        key=key,
        samples=2,
      )
      diagonal = {path: diagonal[path] for path in kernels(params)}
      return prune.brain_damage_saliency(params, diagonal)

    return jax.jit(score)

  @functools.cached_property
  def grid(self):
    """The saliencies of channels in `GRID`, measured in one pass."""

    def loss(variables, batch):
      params, others = _split(variables)
      return self.loss(others)(params, batch)

    produced = {
      m.path for group in self.groups for m in group.members if m.role == 'out'
    }
    found = prune.channel_grid(
      loss,
      self.shapes,
      self.batch(0),
      saliencies=tuple(GRID.values()),
      kernels=sorted(path for path in produced if path.endswith('kernel')),
    )
    return found._replace(update=jax.jit(found.update))

  @functools.cached_property
  def measured(self) -> dict[tuple[int, int], Any]:
    """Sums of the grid by seed, and by the variables they are of."""
    return {}

  def last_layer(self) -> str:
    """Name of the classifier's layer."""
    # Named values, such as logits, are sites too.
    return [s.name for s in self.traced.sites if s.weight is not None][-1]


GRID = {
  'taylor_2017': saliency_metrics.MOLCHANOV_2017,
  'taylor_2019': saliency_metrics.MOLCHANOV_2019,
  'fisher': saliency_metrics.THEIS_FISHER,
  'apoz': saliency_metrics.APOZ,
  'channel_brain_damage': saliency_metrics.CHANNEL_BRAIN_DAMAGE,
}


def kernels(tree) -> dict[str, jax.Array]:
  """The kernels of a tree by leaf path."""
  return {
    path: leaf
    for path, leaf in prune.by_path(tree).items()
    if prune.is_kernel(path, leaf)
  }


def magnitude(bench: Bench, variables, seed: int) -> Scores:
  """|w|."""
  del bench, seed
  return prune.saliencies(
    prune.magnitude_saliency, kernels(variables['params'])
  )


def random(bench: Bench, variables, seed: int) -> Scores:
  """Numbers that know nothing of the network."""
  del bench
  return prune.saliencies(
    prune.random_saliency,
    kernels(variables['params']),
    key=jax.random.key(seed),
  )


def gradient(bench: Bench, variables, seed: int) -> Scores:
  """|w g|."""
  return bench.gradients(variables, bench.batch(seed))


def snip(bench: Bench, variables, seed: int) -> Scores:
  """Connection sensitivity."""
  return bench.sensitivities(variables, bench.batch(seed))


def gradient_flow(bench: Bench, variables, seed: int) -> Scores:
  """What of the gradients' flow a weight holds up."""
  return bench.flows(variables, bench.batch(seed))


def brain_damage(bench: Bench, variables, seed: int) -> Scores:
  """Half of h w^2."""
  return bench.damages(variables, bench.batch(seed), jax.random.key(seed))


def depgraph(bench: Bench, variables, seed: int) -> Scores:
  """Squared norms of all weights that a channel shares in."""
  del seed
  return prune.group_importance(bench.groups, variables)


def filter_norm(bench: Bench, variables, seed: int) -> Scores:
  """Absolute sums of filters."""
  del seed
  found = prune.filter_saliency(variables, bench.groups)
  return prune.by_group(found, bench.groups, reduction='sum')


def random_channel(bench: Bench, variables, seed: int) -> Scores:
  """Numbers that know nothing of the channels."""
  del variables
  return prune.random_importance(bench.groups, seed=seed)


def relevance(bench: Bench, variables, seed: int) -> Scores:
  """Relevance that reaches the channels."""
  batch = bench.batch(seed)
  found = prune.filter_relevance(
    bench.network.apply,
    variables,
    jnp.asarray(batch['images']),
    jnp.asarray(batch['labels']),
    rules=RelevanceRules(first=None),
  )
  return prune.by_group(found, bench.groups)


def propagated(bench: Bench, variables, seed: int) -> Scores:
  """Importance of the last responses, sent down."""
  found = prune.neuron_importance(
    prune.responses_at(bench.network.apply, bench.last_layer()),
    variables,
    jnp.asarray(bench.batch(seed)['images']),
  )
  return prune.by_group(found, bench.groups)


def of_grid(name: str) -> Score:
  """A saliency of `GRID`; all of them are measured together."""

  def score(bench, variables, seed):
    key = seed, id(variables)
    if key not in bench.measured:
      # The variables are held too, so that their id stays theirs.
      sums = bench.grid.update(
        bench.grid.init(),
        variables,
        jax.tree.map(jnp.asarray, bench.batch(seed)),
        key=jax.random.key(seed),
      )
      bench.measured[key] = sums, variables
    found = bench.grid.score(bench.measured[key][0], GRID[name])
    return prune.by_group(found, bench.groups)

  return score


def _split(variables):
  """Parameters, and the other collections."""
  others = {k: v for k, v in variables.items() if k != 'params'}
  return variables['params'], others
