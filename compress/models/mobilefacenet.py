"""MobileFaceNet: several published networks share the name, two are here.

Chen, Liu, Gao, Han 2018, 'MobileFaceNets', arXiv:1804.07573. Parameters:

  mobilefacenet()                 1,292,992  192 features, the network of
                                  the TFLite file: BatchNorm folded into biases
  mobilefacenet(batch_norm=True)  1,303,424  the same before folding
  mobilefacenet_quantface()       1,003,136  128 features, QuantFace's
"""

import functools

import flax.linen as nn
import jax

from compress.models.layers import (
  PReLU,
  batch_norm,
  conv,
  named,
  normalize_pixels,
)

EPSILON = 1e-5


def _affine(x, name, norm, features, size, *, train, batched, **options):
  """Convolution with BatchNorm (`batched`), or with a bias."""
  x = conv(name, features, size, bias=not batched, **options)(x)
  if batched:
    x = batch_norm(norm, train=train, epsilon=EPSILON)(x)
  return x


class ConvUnit(nn.Module):
  """Convolution and PReLU.

  Attributes:
    features: output channels.
    size: rows and columns of the kernel.
    stride: step of the output grid.
    batch_norm: BatchNorm after the convolution, else a bias.
    padding: as for `layers.conv`.
  """

  features: int
  size: int
  stride: int
  batch_norm: bool
  padding: str | None

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps x [B, H, W, C] to [B, H / stride, W / stride, features]."""
    x = _affine(
      x,
      'conv',
      'bn',
      self.features,
      self.size,
      train=train,
      batched=self.batch_norm,
      stride=self.stride,
      padding=self.padding,
    )
    return PReLU(name='prelu')(x)


class Separable(nn.Module):
  """Depthwise convolution, PReLU where asked, linear 1x1 where asked.

  Attributes:
    size: rows and columns of the depthwise kernel.
    batch_norm: BatchNorm after each convolution, else a bias.
    padding: as for `layers.conv`.
    activation: whether PReLU follows the depthwise convolution.
    pointwise: whether a 1x1 convolution of equal width ends it.
  """

  size: int
  batch_norm: bool
  padding: str | None
  activation: bool
  pointwise: bool

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps x [B, H, W, C] to [B, H', W', C]."""
    affine = functools.partial(_affine, train=train, batched=self.batch_norm)
    channels = x.shape[-1]
    x = affine(
      x,
      'depthwise',
      'bn1',
      channels,
      self.size,
      groups=channels,
      padding=self.padding,
    )
    if self.activation:
      x = PReLU(name='prelu')(x)
    if self.pointwise:
      x = affine(x, 'pointwise', 'bn2', channels, 1)
    return x


class InvertedBlock(nn.Module):
  """1x1 expansion, depthwise 3x3, linear 1x1 projection.

  Sandler et al. 2018, 'MobileNetV2', arXiv:1801.04381, with PReLU for ReLU6.

  Attributes:
    features: output channels.
    expansion: channels between the 1x1 convolutions.
    stride: step of the depthwise convolution; 1 adds the input to the output.
    batch_norm: BatchNorm after each convolution, else a bias.
    padding: as for `layers.conv`.
  """

  features: int
  expansion: int
  stride: int
  batch_norm: bool
  padding: str | None

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps x [B, H, W, C] to [B, H / stride, W / stride, features]."""
    affine = functools.partial(_affine, train=train, batched=self.batch_norm)
    y = affine(x, 'expand', 'bn1', self.expansion, 1)
    y = affine(
      PReLU(name='prelu1')(y),
      'depthwise',
      'bn2',
      self.expansion,
      3,
      stride=self.stride,
      groups=self.expansion,
      padding=self.padding,
    )
    y = affine(PReLU(name='prelu2')(y), 'project', 'bn3', self.features, 1)
    return named(self, y + x, 'add') if self.stride == 1 else y


class Stage(nn.Module):
  """One halving inverted block, then residual ones.

  Attributes:
    features: output channels.
    expansions: channels inside the halving block and inside the others.
    blocks: number of residual blocks.
    batch_norm: BatchNorm after each convolution, else a bias.
    padding: as for `layers.conv`.
  """

  features: int
  expansions: tuple[int, int]
  blocks: int
  batch_norm: bool
  padding: str | None

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps x [B, H, W, C] to [B, H / 2, W / 2, features]."""
    for i in range(self.blocks + 1):
      block = InvertedBlock(
        self.features,
        expansion=self.expansions[min(i, 1)],
        stride=2 if i == 0 else 1,
        batch_norm=self.batch_norm,
        padding=self.padding,
        name=f'block{i}',
      )
      x = block(x, train=train)
    return x


class MobileFaceNet(nn.Module):
  """Face embedding network; named values end in `prelu...`, `add`, `embedding`.

  Attributes:
    features: length of the embedding.
    stem: channels of the first convolution.
    widths: channels of the three stages.
    expansions: per stage, channels inside the halving block, inside the others.
    blocks: residual blocks of each stage.
    head: channels before the global depthwise convolution.
    batch_norm: BatchNorm after every convolution and dense layer; False is the
      folded form, a bias in its place.
    pointwise: whether the two separable convolutions (after the stem, at the
      end) keep their linear 1x1 part.
    padding: None pads every side alike (PyTorch); 'SAME' is TensorFlow's.
    pixel_scale: pixels enter as (x - 127.5) / pixel_scale.
  """

  features: int = 192
  stem: int = 64
  widths: tuple[int, ...] = (64, 128, 128)
  expansions: tuple[tuple[int, int], ...] = ((128, 128), (256, 256), (512, 256))
  blocks: tuple[int, ...] = (4, 6, 2)
  head: int = 512
  batch_norm: bool = True
  pointwise: bool = True
  padding: str | None = 'SAME'
  pixel_scale: float = 128.0

  @nn.compact
  def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
    """Embeds faces.

    Args:
      images: [B, 112, 112, 3] float32, RGB, 0..255.
      train: BatchNorm uses the batch's statistics.

    Returns:
      [B, features] float32, not normalised.

    Raises:
      InputError: the images have another shape or type.
    """
    norm = {'batch_norm': self.batch_norm}
    pad = {'padding': self.padding}
    x = normalize_pixels(images, scale=self.pixel_scale)
    x = ConvUnit(self.stem, 3, 2, **norm, **pad, name='stem')(x, train=train)
    separable = Separable(
      3,
      activation=True,
      pointwise=self.pointwise,
      name='separable',
      **norm,
      **pad,
    )
    x = separable(x, train=train)
    plan = zip(self.widths, self.expansions, self.blocks, strict=True)
    for i, (width, expansions, blocks) in enumerate(plan, start=1):
      stage = Stage(width, expansions, blocks, **norm, **pad, name=f'stage{i}')
      x = stage(x, train=train)
    x = ConvUnit(self.head, 1, 1, **norm, **pad, name='head')(x, train=train)
    pool = Separable(
      x.shape[1],
      padding='VALID',
      activation=False,
      pointwise=self.pointwise,
      name='pool',
      **norm,
    )
    x = pool(x, train=train)
    x = x.reshape(x.shape[0], -1)
    x = nn.Dense(self.features, use_bias=not self.batch_norm, name='fc')(x)
    if self.batch_norm:
      x = batch_norm('features_bn', train=train, epsilon=EPSILON)(x)
    return named(self, x, 'embedding')


def mobilefacenet(**options) -> MobileFaceNet:
  """The TFLite file's network: 1,292,992 parameters, 192 features.

  Args:
    **options: MobileFaceNet's attributes; `batch_norm=True` gives 1,303,424
      parameters, to be trained from scratch.

  Returns:
    The module.
  """
  return MobileFaceNet(**{'batch_norm': False, **options})


def mobilefacenet_quantface(**options) -> MobileFaceNet:
  """QuantFace's network: 1,003,136 parameters, 128 features.

  Boutros, Damer, Kuijper 2022, 'QuantFace', arXiv:2206.10526. It has no 1x1
  part in the two separable convolutions, and PyTorch's padding.

  Args:
    **options: MobileFaceNet's attributes.

  Returns:
    The module.
  """
  plan = {
    'features': 128,
    'pointwise': False,
    'padding': None,
    'pixel_scale': 127.5,
  }
  return MobileFaceNet(**{**plan, **options})
