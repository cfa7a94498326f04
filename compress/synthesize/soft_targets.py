"""A transfer set from soft answers: features drawn, and images made to match.

Wang 2021, 'Data-Free Knowledge Distillation with Soft Targeted Transfer Set
Synthesis' (DFKD), arXiv:2104.04868: the features before the last layer are
taken to be normally distributed, features are drawn, the last layer makes soft
answers of them, and images are moved until the network gives those answers
(`answer_loss`).

The paper's way to the distribution could not be verified; what is done here
uses parameters alone. The covariance is `diag(s) R diag(s)`. R, the
correlation, comes from the class weights `W [D, K]`: features that speak for
the same classes go together, `R = (1 - share) I + share * cos(rows of W)`,
positive definite. The mean and s are 0 and 1, or what the last BatchNorm before
the features gives, whose output has mean `bias` and deviation `|scale|`;
features behind a ReLU are drawn `nonnegative`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from compress.errors import InputError

JITTER = 1e-6


class FeatureDistribution(NamedTuple):
  """A multivariate normal distribution of features.

  Attributes:
    mean: float32 [D].
    factor: float32 [D, D], lower triangular; `factor @ factor.T` is the
      covariance.
  """

  mean: jax.Array
  factor: jax.Array


def feature_distribution(
  weights: jax.Array,
  *,
  mean: jax.Array | None = None,
  std: jax.Array | None = None,
  share: float = 0.9,
) -> FeatureDistribution:
  """The distribution of features before the last layer, from parameters.

  Args:
    weights: [D, K] of the last layer, a column a class.
    mean: [D]; 0 by default.
    std: [D], 0 or more; 1 by default.
    share: of the class weights' cosines in the correlation, at least 0 and
      below 1; 0 leaves the features independent.

  Returns:
    The distribution.

  Raises:
    InputError: shapes that do not fit, or another share.
  """
  features = weights.shape[0]
  mean = jnp.zeros((features,)) if mean is None else mean.astype(jnp.float32)
  std = jnp.ones((features,)) if std is None else std.astype(jnp.float32)
  if weights.ndim != 2 or mean.shape != (features,) or std.shape != mean.shape:
    raise InputError(
      f'weights {list(weights.shape)}, mean {list(mean.shape)}, std '
      f'{list(std.shape)}; right is [D, K], [D] and [D]'
    )
  if not 0 <= share < 1:
    raise InputError(f'share is {share}; right is at least 0, below 1')
  rows = weights.astype(jnp.float32)
  square = jnp.square(rows).sum(1, keepdims=True)
  rows = rows * jax.lax.rsqrt(jnp.where(square > 0, square, 1.0))
  identity = jnp.eye(features)
  correlation = (1 - share) * identity + share * (rows @ rows.T)
  # The cosine of a feature that no class uses with itself is 0 here.
  correlation = jnp.where(identity > 0, 1.0, correlation)
  factor = jnp.linalg.cholesky(correlation + JITTER * identity)
  return FeatureDistribution(mean, std.reshape(-1, 1) * factor)


def sample_features(
  key: jax.Array,
  distribution: FeatureDistribution,
  count: int,
  *,
  nonnegative: bool = False,
) -> jax.Array:
  """Draws features.

  Args:
    key: random key.
    distribution: of them.
    count: B.
    nonnegative: clip at 0, for features behind a ReLU.

  Returns:
    Float32 [B, D].
  """
  mean, factor = distribution
  noise = jax.random.normal(key, (count, mean.shape[0]))
  drawn = mean.reshape(1, -1) + noise @ factor.T
  return jnp.maximum(drawn, 0.0) if nonnegative else drawn


def soft_labels(
  features: jax.Array,
  head: Callable[[jax.Array], jax.Array],
  *,
  temperature: float = 1.0,
) -> jax.Array:
  """What the last layer answers to features.

  Args:
    features: [B, D].
    head: the last layer, `[B, D] -> logits [B, K]`.
    temperature: T, above 0; the same as in `answer_loss`.

  Returns:
    Float32 [B, K], `softmax(head(f) / T)`.

  Raises:
    InputError: no positive temperature.
  """
  if not temperature > 0:
    raise InputError(f'temperature is {temperature}; it must be above 0')
  logits = head(features).astype(jnp.float32)
  return jax.nn.softmax(logits / temperature, axis=-1)
