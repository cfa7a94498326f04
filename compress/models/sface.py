"""SFace, the face network of OpenCV Zoo: MobileNet blocks, 128 features.

Zhong, Deng, Hu, Zhao, Li, Wen 2021, 'SFace: Sigmoid-Constrained Hypersphere
Loss for Robust Face Recognition', arXiv:2205.12010; the trunk is that of
Howard et al. 2017, 'MobileNets', arXiv:1704.04861, with PReLU for ReLU and the
first stride moved down. 9,642,880 parameters.
"""

import flax.linen as nn
import jax

from compress.models.layers import (
  PReLU,
  batch_norm,
  conv,
  named,
  normalize_pixels,
)

EPSILON = 1e-3
HEAD_EPSILON = 2e-5
WIDTHS = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)


class Stem(nn.Module):
  """Convolution, BatchNorm, PReLU at full resolution.

  Attributes:
    features: output channels.
  """

  features: int

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps x [B, H, W, 3] to [B, H, W, features]."""
    x = conv('conv', self.features, 3)(x)
    x = batch_norm('bn', train=train, epsilon=EPSILON)(x)
    return PReLU(name='prelu')(x)


class SeparableBlock(nn.Module):
  """Depthwise 3x3 and pointwise convolution, each with BatchNorm and PReLU.

  Attributes:
    features: output channels.
    stride: step of the depthwise convolution.
  """

  features: int
  stride: int

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps x [B, H, W, C] to [B, H / stride, W / stride, features]."""
    channels = x.shape[-1]
    depthwise = conv(
      'depthwise', channels, 3, stride=self.stride, groups=channels
    )
    x = batch_norm('bn1', train=train, epsilon=EPSILON)(depthwise(x))
    x = conv('pointwise', self.features, 1)(PReLU(name='prelu1')(x))
    x = batch_norm('bn2', train=train, epsilon=EPSILON)(x)
    return PReLU(name='prelu2')(x)


class SFace(nn.Module):
  """Face embedding network; named values end in `prelu...`, `embedding`.

  The two BatchNorms around the dense layer have epsilon 2e-5, the 27 others
  1e-3, as in the published graph. The flatten is in H, W, C order; the loader
  permutes the weights, which are stored in C, H, W order.

  Attributes:
    stem: channels of the first convolution.
    widths: channels of each separable block.
    strides: steps of each separable block's depthwise convolution.
    features: length of the embedding.
    dropout: share of values dropped before the dense layer in training (the
      published graph keeps a dropout there but not its rate); needs the
      `dropout` key when it is not 0.
  """

  stem: int = 32
  widths: tuple[int, ...] = WIDTHS
  strides: tuple[int, ...] = STRIDES
  features: int = 128
  dropout: float = 0.0

  @nn.compact
  def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
    """Embeds faces.

    Args:
      images: [B, 112, 112, 3] float32, RGB, 0..255.
      train: BatchNorm uses the batch's statistics; dropout is active.

    Returns:
      [B, features] float32, not normalised.

    Raises:
      InputError: the images have another shape or type.
    """
    x = normalize_pixels(images, scale=128.0)
    x = Stem(self.stem, name='stem')(x, train=train)
    for i, (width, stride) in enumerate(
      zip(self.widths, self.strides, strict=True), start=1
    ):
      x = SeparableBlock(width, stride, name=f'block{i}')(x, train=train)
    x = batch_norm('bn', train=train, epsilon=HEAD_EPSILON)(x)
    x = x.reshape(x.shape[0], -1)
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    x = nn.Dense(self.features, name='fc')(x)
    x = batch_norm('features_bn', train=train, epsilon=HEAD_EPSILON)(x)
    return named(self, x, 'embedding')
