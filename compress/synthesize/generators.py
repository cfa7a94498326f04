"""Small networks that make images, and that judge or read the images made.

Notation: B images of H x W pixels and C channels; a condition [B, K] is what an
image is asked to show, a class as one-hot or a number as it is; a code [B, Z]
is the rest, drawn from the normal distribution. They are sized for images of 8
to 64 pixels a side; any other Flax module of the same signature will do.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

_KERNEL_INIT = nn.initializers.normal(0.05)
_SLOPE = 0.2


def standardize_images(
  images: jax.Array, *, epsilon: float = 1e-5
) -> jax.Array:
  """Gives every channel of every image mean 0 and variance 1.

  Args:
    images: [B, H, W, C], any float dtype.
    epsilon: added to the variance; a constant channel becomes 0.

  Returns:
    Float32 [B, H, W, C].
  """
  images = images.astype(jnp.float32)
  centred = images - images.mean(axis=(1, 2), keepdims=True)
  variance = jnp.square(centred).mean(axis=(1, 2), keepdims=True)
  return centred * jax.lax.rsqrt(variance + epsilon)


class ImageGenerator(nn.Module):
  """A dense layer, then twice a larger grid and a 3x3 convolution.

  BatchNorm and leaky ReLU before every convolution; pixels are repeated to make
  the grid larger, which leaves no checkerboard.

  Attributes:
    image_shape: H, W and C.
    width: channels of the last hidden grid; the first has twice as many.
    bounds: what the pixels lie between, by a sigmoid; None standardises every
      channel of every image instead, as KegNet does.
  """

  image_shape: tuple[int, int, int]
  width: int = 32
  bounds: tuple[float, float] | None = None

  @nn.compact
  def __call__(
    self, conditions: jax.Array, codes: jax.Array, train: bool = False
  ) -> jax.Array:
    """Makes images.

    Args:
      conditions: float32 [B, K].
      codes: float32 [B, Z].
      train: BatchNorm uses the batch's statistics.

    Returns:
      Float32 [B, H, W, C].
    """
    height, width, channels = self.image_shape
    rows, columns = -(-height // 4), -(-width // 4)
    x = jnp.concatenate([conditions, codes], axis=1)
    x = nn.Dense(rows * columns * 2 * self.width, name='project')(x)
    x = x.reshape(-1, rows, columns, 2 * self.width)
    for i, features in enumerate((2 * self.width, self.width), start=1):
      x = _batch_norm(f'bn{i}', train)(x)
      x = nn.leaky_relu(x, _SLOPE)
      x = x.repeat(2, axis=1).repeat(2, axis=2)
      x = nn.Conv(features, (3, 3), kernel_init=_KERNEL_INIT, name=f'conv{i}')(
        x
      )
    x = nn.leaky_relu(_batch_norm('bn3', train)(x), _SLOPE)
    x = nn.Conv(channels, (3, 3), kernel_init=_KERNEL_INIT, name='conv3')(x)
    x = x[:, :height, :width]
    if self.bounds is None:
      return standardize_images(x)
    low, high = self.bounds
    return low + (high - low) * nn.sigmoid(x)


class CodeDecoder(nn.Module):
  """Dense layers that read the code back out of an image.

  Attributes:
    code_size: Z.
    layers: dense layers, at least 1.
    hidden: width of all but the last.
  """

  code_size: int
  layers: int = 1
  hidden: int = 128

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    """Maps [B, H, W, C] to codes [B, Z]."""
    x = images.reshape(len(images), -1)
    for i in range(self.layers - 1):
      x = nn.relu(nn.Dense(self.hidden, name=f'fc{i}')(x))
    return nn.Dense(self.code_size, name='code')(x)


class ProjectionDiscriminator(nn.Module):
  """Tells real images from made ones, given what they should show.

  Miyato and Koyama 2018, 'cGANs with Projection Discriminator',
  arXiv:1802.05637: the score is a linear function of the features plus their
  product with an embedding of the condition. Every layer has spectral norm 1
  (Miyato et al. 2018, arXiv:1802.05957).

  Attributes:
    width: channels of the first convolution.
  """

  width: int = 32

  @nn.compact
  def __call__(
    self, images: jax.Array, conditions: jax.Array, train: bool = False
  ) -> jax.Array:
    """Scores images.

    Args:
      images: float32 [B, H, W, C].
      conditions: float32 [B, K].
      train: take a step of the power iterations.

    Returns:
      Float32 [B]; high for real ones.
    """

    def normed(layer: Any, x: jax.Array) -> jax.Array:
      name = f'norm_{layer.name}'
      return nn.SpectralNorm(layer, name=name)(x, update_stats=train)

    x = images
    for i, (factor, stride) in enumerate(((1, 1), (2, 2), (4, 2)), start=1):
      layer = nn.Conv(
        factor * self.width, (3, 3), strides=(stride, stride), name=f'conv{i}'
      )
      x = nn.leaky_relu(normed(layer, x), _SLOPE)
    features = x.sum(axis=(1, 2))
    score = normed(nn.Dense(1, name='score'), features).squeeze(1)
    layer = nn.Dense(features.shape[1], use_bias=False, name='condition')
    return score + (normed(layer, conditions) * features).sum(axis=1)


def _batch_norm(name, train):
  return nn.BatchNorm(use_running_average=not train, momentum=0.9, name=name)
