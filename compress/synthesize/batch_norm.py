"""Inputs that a network's BatchNorms take for real ones.

A BatchNorm remembers the mean and variance of what entered it in training.
Images whose activations have the same statistics at every BatchNorm stand in
for data that is not there: to calibrate quantization (Cai et al. 2020, 'ZeroQ',
arXiv:2001.00281) or to distil from (Yin et al. 2020, 'Dreaming to
Distill: Data-free Knowledge Transfer via DeepInversion', arXiv:1912.08795).

The BatchNorms are found by data flow (`graph.batch_norms`) and read at their
inputs. ZeroQ's code pairs them with convolutions by order, which goes wrong
where a network branches or normalises before the convolution.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from compress import graph
from compress.errors import InputError
from compress.graph import BatchNormInput
from compress.synthesize import inputs as inputs_lib

STATISTICS = ('sample', 'batch', 'deepinversion')
EPSILON = 1e-6


def statistics_loss(
  found: Mapping[str, BatchNormInput],
  *,
  statistics: str = 'sample',
  relative: bool = False,
) -> jax.Array:
  """How far activations are from the statistics that BatchNorms have stored.

  Means are over places, m, or over places and the batch, M; deviations s, S
  likewise, `sqrt(variance + 1e-6)` as those stored, sigma. Summed over the
  BatchNorms, `sample` is `mean_B(|m - mu|^2 + |s - sigma|^2)`, ZeroQ's code;
  `batch` is `|M - mu|^2 + |S - sigma|^2`, ZeroQ's paper; `deepinversion` is
  `|M - mu| + |S^2 - sigma^2|`, not squared, of variances.

  What has one place alone (vectors, 1x1 maps) has no deviation of its own:
  `sample` takes the batch's statistics there, and from a batch of one image
  the mean only.

  Args:
    found: name to what entered, `[B, ..., C]`, of `graph.tap_batch_norms`.
    statistics: `sample`, `batch` or `deepinversion`.
    relative: measure every channel in its stored deviation, so that wide
      channels do not outweigh narrow ones; the papers do not.

  Returns:
    Float32 scalar, 0 or more; 0 where all statistics are those stored.

  Raises:
    InputError: no BatchNorm, or unknown statistics.
  """
  if statistics not in STATISTICS:
    raise InputError(
      f'statistics is {statistics!r}; it must be one of {STATISTICS}'
    )
  if not found:
    raise InputError(
      'the network has no BatchNorm with stored statistics to match (they may '
      'be folded into its layers); right is one that has them'
    )
  return sum(_gap(one, statistics, relative) for one in found.values())


def input_loss(
  images: jax.Array,
  *,
  mean: float = 0.0,
  std: float = 1.0,
  statistics: str = 'sample',
) -> jax.Array:
  """The same for the images themselves, against a given mean and deviation.

  ZeroQ's code adds it with 0 and 1, for images normalised in that way.

  Args:
    images: [B, H, W, C].
    mean: of every channel, in units of the images.
    std: of every channel, above 0.
    statistics: as in `statistics_loss`.

  Returns:
    Float32 scalar, 0 or more.
  """
  channels = images.shape[-1]
  whole = BatchNormInput(
    images,
    jnp.full((channels,), mean, jnp.float32),
    jnp.full((channels,), std**2 - EPSILON, jnp.float32),
  )
  return statistics_loss({'input': whole}, statistics=statistics)


def batch_norm_loss(
  apply: Callable[..., Any],
  *,
  statistics: str = 'sample',
  relative: bool = False,
  input_moments: tuple[float, float] | None = None,
  total_variation_weight: float = 0.0,
  mean_square_weight: float = 0.0,
) -> Callable[[jax.Array, Any], jax.Array]:
  """The loss of images that are to match a network's BatchNorms.

  Args:
    apply: pure function `apply(variables, images)`, in evaluation.
    statistics: `sample`, `batch` or `deepinversion`; see `statistics_loss`.
    relative: see `statistics_loss`.
    input_moments: mean and deviation that the images should have, as ZeroQ's
      code wants of them (0 and 1); None asks for nothing.
    total_variation_weight: of `total_variation`, 0 or more.
    mean_square_weight: of `mean_square`, 0 or more.

  Returns:
    `(images, variables) -> float32 scalar`, for `synthesize`; no gradient
    flows to the variables.

  Raises:
    InputError: unknown statistics; when traced, a negative weight, a network
      without BatchNorms.
  """
  if statistics not in STATISTICS:
    raise InputError(
      f'statistics is {statistics!r}; it must be one of {STATISTICS}'
    )
  tapped = graph.tap_batch_norms(apply)

  def loss_fn(images, variables):
    _, found = tapped(jax.lax.stop_gradient(variables), images)
    loss = statistics_loss(found, statistics=statistics, relative=relative)
    if input_moments is not None:
      mean, std = input_moments
      loss += input_loss(images, mean=mean, std=std, statistics=statistics)
    return loss + inputs_lib.image_prior(
      images,
      total_variation_weight=total_variation_weight,
      mean_square_weight=mean_square_weight,
    )

  return loss_fn


def _gap(one: BatchNormInput, statistics: str, relative: bool) -> jax.Array:
  """The distance at one BatchNorm."""
  value = one.value.astype(jnp.float32)
  value = value.reshape(value.shape[0], -1, value.shape[-1])
  stored_mean = jax.lax.stop_gradient(one.mean.astype(jnp.float32))
  stored = jax.lax.stop_gradient(one.variance.astype(jnp.float32)) + EPSILON
  batch, places, channels = value.shape
  alone = statistics == 'sample' and places > 1
  axes = (1,) if alone else (0, 1)
  mean = value.mean(axes, keepdims=True)
  variance = jnp.square(value - mean).mean(axes) + EPSILON
  mean = mean.reshape(-1, channels) - stored_mean.reshape(1, -1)
  variance, stored = variance.reshape(-1, channels), stored.reshape(1, -1)
  unit = jnp.sqrt(stored) if relative else jnp.ones_like(stored)
  single = batch * places == 1
  if statistics == 'deepinversion':
    loss = _norm(mean / unit)
    return loss if single else loss + _norm((variance - stored) / unit**2)
  loss = jnp.square(mean / unit).sum(1).mean()
  if single:
    return loss
  gap = (jnp.sqrt(variance) - jnp.sqrt(stored)) / unit
  return loss + jnp.square(gap).sum(1).mean()


def _norm(x: jax.Array) -> jax.Array:
  """The Euclidean norm, of slope 0 where it is 0."""
  square = jnp.square(x).sum()
  positive = square > 0
  return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1.0)), 0.0)
