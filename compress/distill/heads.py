"""Margin softmax heads: face identities as classes on the unit sphere.

Notation: `c = cos(theta)` is the cosine between an embedding and the weight
vector of a class, `y` the true class, `m` the margin, `s` the scale. Both
heads return `s * c` with the margin applied to class y only; their loss is the
cross-entropy of that. A head is used in training and dropped afterwards. A row
whose label is no class gets no margin, and makes the loss NaN.
"""

import math

import chex
import jax
import jax.numpy as jnp

from compress.distill.embedding import normalize
from compress.distill.response import cross_entropy, pick
from compress.errors import InputError

# sin^2 is kept above this: one float32 step below a cosine of 1.
_LEAST_SQUARED_SINE = 1e-7


def init_head(key: jax.Array, features: int, classes: int) -> jax.Array:
  """Class weights drawn from N(0, .01), standard deviation .01.

  Args:
    key: a `jax.random.key`.
    features: D, the embedding's length.
    classes: C, the number of identities.

  Returns:
    Float32 `[D, C]`.
  """
  return 0.01 * jax.random.normal(key, (features, classes), jnp.float32)


def cosines(embeddings: jax.Array, weights: jax.Array) -> jax.Array:
  """Cosines between embeddings and class weights.

  Args:
    embeddings: `[B, D]`, not necessarily normalised.
    weights: `[D, C]`, not necessarily normalised.

  Returns:
    Float32 `[B, C]`, in -1..1 up to rounding.
  """
  chex.assert_rank([embeddings, weights], 2)
  # Heads multiply by s, often 64: a matrix unit's bfloat16 would blur it.
  return jnp.matmul(
    normalize(embeddings), normalize(weights, axis=0), precision='highest'
  )


def arcface_logits(
  embeddings: jax.Array,
  weights: jax.Array,
  labels: jax.Array,
  *,
  scale: float = 64.0,
  margin: float = 0.5,
  gradient: str = 'exact',
) -> jax.Array:
  """ArcFace: an additive margin on the angle, `s * cos(theta_y + m)`.

  Deng, Guo, Xue and Zafeiriou (2019), "ArcFace: Additive Angular Margin Loss
  for Deep Face Recognition", arXiv:1801.07698, equation 3. Three well-known
  implementations share the name and train differently; `gradient` chooses:

  * 'exact': the derivative of the formula, d/dc = `sin(theta + m) /
    sin(theta)`, as through an arc cosine (QuantFace). Past `theta = pi - m`
    the logit rises again with the angle.
  * 'insightface': the same value, but the margin is added behind autodiff's
    back, so d/dc = 1 (InsightFace, for stability).
  * 'tface': 'exact' where `theta <= pi - m`, and beyond it
    `c - m * sin(pi - m)`, which keeps falling with the angle (TFace; EKD).

  All stay finite at `c = +-1`: sin(theta) is kept above 3e-4.

  Args:
    embeddings: `[B, D]`, not necessarily normalised.
    weights: `[D, C]`, not necessarily normalised.
    labels: classes 0..C-1, int `[B]`.
    scale: s. InsightFace, QuantFace and EKD use 64.
    margin: m, radians in 0..pi/2. InsightFace and QuantFace use .5, EKD .4.
    gradient: 'exact', 'insightface' or 'tface'.

  Returns:
    Float32 `[B, C]`.

  Raises:
    InputError: margin or gradient is out of its range.
  """
  if not 0 <= margin <= math.pi / 2:
    raise InputError(f'margin is {margin}; it must be in 0..pi/2 radians.')
  if gradient not in ('exact', 'insightface', 'tface'):
    raise InputError(
      f"gradient is {gradient!r}; it must be 'exact', 'insightface' or 'tface'."
    )
  cosine = cosines(embeddings, weights)
  target = pick(cosine, labels)
  square = jnp.maximum((1 - target) * (1 + target), _LEAST_SQUARED_SINE)
  moved = target * math.cos(margin) - jnp.sqrt(square) * math.sin(margin)
  if gradient == 'insightface':
    moved = target + jax.lax.stop_gradient(moved - target)
  elif gradient == 'tface':
    fallback = target - margin * math.sin(math.pi - margin)
    moved = jnp.where(target > math.cos(math.pi - margin), moved, fallback)
  return scale * _put(cosine, labels, moved)


def cosface_logits(
  embeddings: jax.Array,
  weights: jax.Array,
  labels: jax.Array,
  *,
  scale: float = 64.0,
  margin: float = 0.4,
) -> jax.Array:
  """CosFace: an additive margin on the cosine, `s * (cos(theta_y) - m)`.

  Wang, Wang, Zhou, Ji, Gong, Zhou, Li and Liu (2018), "CosFace: Large Margin
  Cosine Loss for Deep Face Recognition", arXiv:1801.09414, equation 4. The
  defaults are InsightFace's.

  Args:
    embeddings: `[B, D]`, not necessarily normalised.
    weights: `[D, C]`, not necessarily normalised.
    labels: classes 0..C-1, int `[B]`.
    scale: s.
    margin: m, in units of cosine.

  Returns:
    Float32 `[B, C]`.
  """
  cosine = cosines(embeddings, weights)
  return scale * _put(cosine, labels, pick(cosine, labels) - margin)


def arcface_loss(
  embeddings: jax.Array,
  weights: jax.Array,
  labels: jax.Array,
  *,
  scale: float = 64.0,
  margin: float = 0.5,
  gradient: str = 'exact',
) -> jax.Array:
  """Cross-entropy of `arcface_logits`, averaged over the batch.

  EKD's class head is `arcface_loss(general_half, ..., margin=0.4,
  gradient='tface')` added to `ekd_loss(whole_batch, ...)`.

  Args:
    embeddings: `[B, D]`.
    weights: `[D, C]`.
    labels: classes 0..C-1, int `[B]`.
    scale: see `arcface_logits`.
    margin: see `arcface_logits`.
    gradient: see `arcface_logits`.

  Returns:
    Float32 scalar, in nats.

  Raises:
    InputError: margin or gradient is out of its range.
  """
  logits = arcface_logits(
    embeddings, weights, labels, scale=scale, margin=margin, gradient=gradient
  )
  return cross_entropy(logits, labels)


def cosface_loss(
  embeddings: jax.Array,
  weights: jax.Array,
  labels: jax.Array,
  *,
  scale: float = 64.0,
  margin: float = 0.4,
) -> jax.Array:
  """Cross-entropy of `cosface_logits`, averaged over the batch.

  Args:
    embeddings: `[B, D]`.
    weights: `[D, C]`.
    labels: classes 0..C-1, int `[B]`.
    scale: see `cosface_logits`.
    margin: see `cosface_logits`.

  Returns:
    Float32 scalar, in nats.
  """
  logits = cosface_logits(
    embeddings, weights, labels, scale=scale, margin=margin
  )
  return cross_entropy(logits, labels)


def _put(cosine, labels, target):
  """The cosines with the true class's replaced."""
  classes = jnp.arange(cosine.shape[1], dtype=labels.dtype)
  chosen = labels[:, None] == classes[None, :]
  return jnp.where(chosen, target[:, None], cosine)
