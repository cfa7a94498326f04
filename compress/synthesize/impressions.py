"""Impressions: images made so that a classifier gives a chosen answer.

Nayak, Mopuri, Shaj, Babu and Chakraborty 2019, 'Zero-Shot Knowledge
Distillation in Deep Networks', arXiv:1905.08114. Class impressions have one-hot
answers. Data impressions have answers drawn from a Dirichlet distribution
whose concentrations are the similarities of the classes, read off the weights
of the last layer: classes alike are likely in one answer.

Notation: K classes, D features before the last layer, B images; T is the
temperature.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from compress import graph
from compress.errors import InputError
from compress.synthesize import batch_norm
from compress.synthesize import inputs as inputs_lib

FLOOR = 1e-4
SCALES = (1.0, 0.1)


def class_similarity(weights: jax.Array) -> jax.Array:
  """How alike classes are: the cosines of their last-layer weights.

  Nayak et al. 2019, arXiv:1905.08114.

  Args:
    weights: [D, K], a column a class.

  Returns:
    Float32 [K, K], symmetric, -1..1, the diagonal 1. A class whose weights are
    all 0 is like no other: 0.
  """
  weights = weights.astype(jnp.float32)
  square = jnp.square(weights).sum(0, keepdims=True)
  unit = weights * jax.lax.rsqrt(jnp.where(square > 0, square, 1.0))
  return jnp.where(jnp.eye(weights.shape[1]) > 0, 1.0, unit.T @ unit)


def dirichlet_concentrations(
  similarity: jax.Array, *, scale: float = 1.0
) -> jax.Array:
  """Concentrations of the answers for every class.

  `scale * minmax(similarity row) + 1e-4`; Nayak et al. 2019,
  arXiv:1905.08114. Their code stretches the scaled row to 0..1 once more,
  which undoes the scale; not here.

  Args:
    similarity: [K, K], such as of `class_similarity`; K at least 2.
    scale: beta, above 0; a small one gives answers near one-hot, that vary.

  Returns:
    Float32 [K, K], above 0; a row is the concentration of answers for a class,
    greatest for the class itself.

  Raises:
    InputError: no positive scale, no square matrix, or a single class.
  """
  if not scale > 0:
    raise InputError(f'scale is {scale}; right is above 0')
  shape = similarity.shape
  if len(shape) != 2 or shape[0] != shape[1] or shape[0] < 2:
    raise InputError(
      f'similarity has shape {list(shape)}; right is [K, K], K at least 2'
    )
  similarity = similarity.astype(jnp.float32)
  low = similarity.min(1, keepdims=True)
  width = similarity.max(1, keepdims=True) - low
  return scale * (similarity - low) / jnp.where(width > 0, width, 1.0) + FLOOR


def sample_dirichlet_targets(
  key: jax.Array, concentrations: jax.Array
) -> jax.Array:
  """Draws one answer for every row of concentrations.

  By logarithms of gamma variates: a concentration of 1e-4 would underflow
  otherwise.

  Args:
    key: random key.
    concentrations: [B, K], above 0.

  Returns:
    Float32 [B, K], of sum 1 and mean `concentration / sum`.
  """
  logs = jax.random.loggamma(key, concentrations.astype(jnp.float32))
  return jax.nn.softmax(logs, axis=-1)


def data_impression_targets(
  key: jax.Array,
  weights: jax.Array,
  count: int,
  *,
  scales: Sequence[float] = SCALES,
) -> tuple[jax.Array, jax.Array]:
  """Answers for data impressions: classes and scales in turn.

  Nayak et al. 2019, arXiv:1905.08114: half of the impressions at
  beta = 1, half at 0.1.

  Args:
    key: random key.
    weights: [D, K] of the last layer, a column a class.
    count: answers, 1 or more.
    scales: the betas; classes take turns within each.

  Returns:
    Answers float32 [count, K], and int32 [count], the classes they were drawn
    for (which need not be their greatest entry).

  Raises:
    InputError: no scale, or none that is positive.
  """
  if not scales:
    raise InputError('scales is empty; right is such as (1.0, 0.1)')
  similarity = class_similarity(weights)
  rows = jnp.stack(
    [dirichlet_concentrations(similarity, scale=scale) for scale in scales]
  )
  number = jnp.arange(count)
  which = number % len(scales)
  classes = (number // len(scales)) % similarity.shape[0]
  targets = sample_dirichlet_targets(key, rows[which, classes])
  return targets, classes.astype(jnp.int32)


def class_impression_targets(count: int, classes: int) -> jax.Array:
  """One-hot answers, the classes in turn.

  Args:
    count: answers.
    classes: K.

  Returns:
    Float32 [count, K].
  """
  return jax.nn.one_hot(jnp.arange(count) % classes, classes)


def answer_divergence(
  logits: jax.Array, targets: jax.Array, *, temperature: float = 1.0
) -> jax.Array:
  """Divergence of a network's softened answers from those wanted.

  `mean_B KL(y || softmax(z / T))`: the cross-entropy less the entropy of `y`,
  which no image moves, so that 0 is reached where the answer is as wanted.

  Args:
    logits: z, [B, K].
    targets: y, [B, K], of sum 1; without gradient.
    temperature: T, above 0.

  Returns:
    Float32 scalar, 0 or more, in nats.

  Raises:
    InputError: no positive temperature, or other shapes.
  """
  if not temperature > 0:
    raise InputError(f'temperature is {temperature}; it must be above 0')
  if logits.shape != targets.shape or logits.ndim != 2:
    raise InputError(
      f'logits {list(logits.shape)} and targets {list(targets.shape)}; right '
      'is [B, K] for both'
    )
  log_q = jax.nn.log_softmax(logits.astype(jnp.float32) / temperature)
  wanted = jax.lax.stop_gradient(targets.astype(jnp.float32))
  positive = wanted > 0
  log_p = jnp.log(jnp.where(positive, wanted, 1.0))
  terms = jnp.where(positive, wanted * (log_p - log_q), 0.0)
  return terms.sum(1).mean()


def answer_loss(
  apply: Callable[..., Any],
  *,
  temperature: float = 20.0,
  batch_norm_weight: float = 0.0,
  statistics: str = 'deepinversion',
  total_variation_weight: float = 0.0,
  mean_square_weight: float = 0.0,
) -> Callable[..., jax.Array]:
  """The loss of images that are to draw given answers out of a classifier.

  With a temperature of 20 and no more that of data impressions (Nayak et al.
  2019, arXiv:1905.08114, but for a constant), to be run at a
  learning rate of 1e-3 for 1500 steps, from images uniform in 0..1 with
  `bounds=(0, 1), rescale=True`. With a temperature of 1, one-hot answers and
  the other weights, DeepInversion's (Yin et al. 2020, arXiv:1912.08795).

  Args:
    apply: pure function `apply(variables, images) -> logits [B, K]`.
    temperature: T, above 0.
    batch_norm_weight: of `statistics_loss`, 0 or more.
    statistics: of that.
    total_variation_weight: of `total_variation`, 0 or more.
    mean_square_weight: of `mean_square`, 0 or more.

  Returns:
    `(images, variables, targets [B, K]) -> float32 scalar`, for `synthesize`;
    no gradient flows to variables or targets.

  Raises:
    InputError: when traced, a temperature, statistics, weights or shapes that
      are wrong, or no BatchNorm where one is needed.
  """
  tapped = graph.tap_batch_norms(apply)

  def loss_fn(images, variables, targets):
    variables = jax.lax.stop_gradient(variables)
    if batch_norm_weight:
      logits, found = tapped(variables, images)
    else:
      logits, found = apply(variables, images), {}
    loss = answer_divergence(logits, targets, temperature=temperature)
    if batch_norm_weight:
      matched = batch_norm.statistics_loss(found, statistics=statistics)
      loss += batch_norm_weight * matched
    return loss + inputs_lib.image_prior(
      images,
      total_variation_weight=total_variation_weight,
      mean_square_weight=mean_square_weight,
    )

  return loss_fn
