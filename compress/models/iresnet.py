"""IResNet, the residual face network of ArcFace, in InsightFace's layout.

Deng, Guo, Xue, Zafeiriou 2019, 'ArcFace', arXiv:1801.07698. Parameters of
`params` (trained and fixed) and multiply-adds of one image:

  iresnet18   24,025,600   2,609,954,816
  iresnet34   34,139,328   4,459,642,880
  iresnet50   43,590,848   6,309,330,944
  iresnet100  65,156,160  12,089,606,144
"""

import flax.linen as nn
import jax

from compress.models.layers import (
  FixedScaleBatchNorm,
  PReLU,
  batch_norm,
  conv,
  named,
  normalize_pixels,
)

FC_INIT = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')


class Block(nn.Module):
  """BN, conv, BN, PReLU, strided conv, BN; plus the shortcut.

  Nothing follows the sum. The first BatchNorm stands before a zero-padded
  convolution, so it cannot be folded into it exactly at the border.

  Attributes:
    features: output channels.
    stride: step of the second convolution and of the shortcut's.
    project: whether the shortcut is a 1x1 convolution with BatchNorm, else it
      is the input itself.
    epsilon: of every BatchNorm.
  """

  features: int
  stride: int
  project: bool
  epsilon: float

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps x [B, H, W, C] to [B, H / stride, W / stride, features]."""

    def norm(name, y):
      return batch_norm(name, train=train, epsilon=self.epsilon)(y)

    y = conv('conv1', self.features, 3)(norm('bn1', x))
    y = PReLU(name='prelu')(norm('bn2', y))
    y = norm('bn3', conv('conv2', self.features, 3, stride=self.stride)(y))
    if self.project:
      shortcut = conv('shortcut_conv', self.features, 1, stride=self.stride)
      x = norm('shortcut_bn', shortcut(x))
    return named(self, y + x, 'add')


class Stage(nn.Module):
  """Blocks of one width; the first halves the grid and projects.

  Attributes:
    features: output channels.
    blocks: number of blocks.
    epsilon: of every BatchNorm.
  """

  features: int
  blocks: int
  epsilon: float

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps x [B, H, W, C] to [B, H / 2, W / 2, features]."""
    for i in range(self.blocks):
      block = Block(
        self.features,
        stride=2 if i == 0 else 1,
        project=i == 0,
        epsilon=self.epsilon,
        name=f'block{i}',
      )
      x = block(x, train=train)
    return x


class Stem(nn.Module):
  """Convolution, BatchNorm, PReLU at full resolution.

  Attributes:
    features: output channels.
    epsilon: of the BatchNorm.
  """

  features: int
  epsilon: float

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps x [B, H, W, 3] to [B, H, W, features]."""
    x = conv('conv', self.features, 3)(x)
    x = batch_norm('bn', train=train, epsilon=self.epsilon)(x)
    return PReLU(name='prelu')(x)


class IResNet(nn.Module):
  """Face embedding network; named values end in `prelu`, `add`, `embedding`.

  Convolutions start from N(0, 0.1), as InsightFace's do. The last BatchNorm's
  scale is fixed at 1, counted in `params`, and receives no gradient. The
  flatten is in H, W, C order; loaders permute weights stored in C, H, W order.

  Attributes:
    blocks: blocks in each of the four stages.
    widths: channels of each stage; the stem has the first.
    features: length of the embedding.
    dropout: share of values dropped before the last dense layer in training
      (0 as InsightFace trains; QuantFace uses 0.4 for depths 18 and 50);
      needs the `dropout` key when it is not 0.
    epsilon: of every BatchNorm.
    pixel_scale: pixels enter as (x - 127.5) / pixel_scale.
  """

  blocks: tuple[int, ...]
  widths: tuple[int, ...] = (64, 128, 256, 512)
  features: int = 512
  dropout: float = 0.0
  epsilon: float = 1e-5
  pixel_scale: float = 127.5

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
    x = normalize_pixels(images, scale=self.pixel_scale)
    x = Stem(self.widths[0], self.epsilon, name='stem')(x, train=train)
    for i, (width, blocks) in enumerate(
      zip(self.widths, self.blocks, strict=True), start=1
    ):
      stage = Stage(width, blocks, self.epsilon, name=f'stage{i}')
      x = stage(x, train=train)
    x = batch_norm('bn', train=train, epsilon=self.epsilon)(x)
    x = x.reshape(x.shape[0], -1)
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    x = nn.Dense(self.features, kernel_init=FC_INIT, name='fc')(x)
    features = FixedScaleBatchNorm(
      use_running_average=not train,
      momentum=0.9,
      epsilon=self.epsilon,
      name='features_bn',
    )
    return named(self, features(x), 'embedding')


def iresnet18(**options) -> IResNet:
  """IResNet-18: 24,025,600 parameters; options are IResNet's attributes."""
  return IResNet(blocks=(2, 2, 2, 2), **options)


def iresnet34(**options) -> IResNet:
  """IResNet-34: 34,139,328 parameters; options are IResNet's attributes."""
  return IResNet(blocks=(3, 4, 6, 3), **options)


def iresnet50(**options) -> IResNet:
  """IResNet-50: 43,590,848 parameters; options are IResNet's attributes."""
  return IResNet(blocks=(3, 4, 14, 3), **options)


def iresnet100(**options) -> IResNet:
  """IResNet-100: 65,156,160 parameters; options are IResNet's attributes."""
  return IResNet(blocks=(3, 13, 30, 3), **options)
