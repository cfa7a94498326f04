"""Residual networks for classification: CIFAR's form and torchvision's.

He, Zhang, Ren, Sun 2015, 'Deep Residual Learning for Image Recognition',
arXiv:1512.03385: section 4.2 for CIFAR (three stages of 16, 32 and 64 channels,
shortcuts of option A, which have no parameters), table 1 for ImageNet, with the
stride of a bottleneck in its 3x3 convolution, as torchvision has it.
Parameters, and multiply-adds of one image of 32 x 32 or 224 x 224:

  cifar_resnet8       75,290      12,239,488
  cifar_resnet20     269,722      40,551,040
  cifar_resnet32     464,154      68,862,592
  cifar_resnet56     853,018     125,485,696
  resnet18        11,689,512   1,814,073,344
  resnet34        21,797,672   3,663,761,408
  resnet50        25,557,032   4,089,184,256

Kernels start from N(0, 2 / fan-out), the classifier's from N(0, 1 / fan-in),
truncated.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from compress.models.layers import batch_norm, check_images, conv, named

_EPSILON = 1e-5
_KERNEL_INIT = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')


def shortcut_a(x: jax.Array, features: int, stride: int) -> jax.Array:
  """The shortcut without parameters: every stride-th pixel, zero channels.

  Option A of the paper. The new channels are split evenly before and after
  the old ones, as the usual CIFAR codes do; the paper does not say where.

  Args:
    x: [B, H, W, C].
    features: channels of the result, C or more.
    stride: step of the result's grid.

  Returns:
    [B, ceil(H / stride), ceil(W / stride), features].
  """
  x = jax.lax.slice(x, (0, 0, 0, 0), x.shape, (1, stride, stride, 1))
  new = features - x.shape[-1]
  if not new:
    return x
  around = (new // 2, new - new // 2, 0)
  zero = jnp.zeros((), x.dtype)
  return jax.lax.pad(x, zero, [(0, 0, 0)] * 3 + [around])


class BasicBlock(nn.Module):
  """Two 3x3 convolutions and the shortcut; named `relu1`, `add`, `relu2`.

  Attributes:
    features: output channels.
    stride: step of the first convolution and of the shortcut.
    option_a: whether a shortcut that changes the shape has no parameters; else
      it is a 1x1 convolution with BatchNorm.
  """

  features: int
  stride: int
  option_a: bool

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps x [B, H, W, C] to [B, H / stride, W / stride, features]."""
    y = _conv_norm(x, 1, self.features, 3, stride=self.stride, train=train)
    y = named(self, nn.relu(y), 'relu1')
    y = _conv_norm(y, 2, self.features, 3, train=train)
    return _join(self, y, _shortcut(self, x, self.features, train), 'relu2')


class Bottleneck(nn.Module):
  """1x1, 3x3 and 1x1 convolution; named `relu1`, `relu2`, `add`, `relu3`.

  Attributes:
    features: channels of the first two convolutions; the last has four times
      as many.
    stride: step of the 3x3 convolution and of the shortcut.
    option_a: as in `BasicBlock`.
  """

  features: int
  stride: int
  option_a: bool

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps x [B, H, W, C] to [B, H / stride, W / stride, 4 features]."""
    out = 4 * self.features
    y = _conv_norm(x, 1, self.features, 1, train=train)
    y = named(self, nn.relu(y), 'relu1')
    y = _conv_norm(y, 2, self.features, 3, stride=self.stride, train=train)
    y = named(self, nn.relu(y), 'relu2')
    y = _conv_norm(y, 3, out, 1, train=train)
    return _join(self, y, _shortcut(self, x, out, train), 'relu3')


def _conv_norm(x, number, features, size, *, stride=1, train):
  y = conv(
    f'conv{number}', features, size, stride=stride, kernel_init=_KERNEL_INIT
  )(x)
  return batch_norm(f'bn{number}', train=train, epsilon=_EPSILON)(y)


def _shortcut(block, x, features, train):
  if block.stride == 1 and x.shape[-1] == features:
    return x
  if block.option_a:
    return shortcut_a(x, features, block.stride)
  y = conv(
    'shortcut_conv',
    features,
    1,
    stride=block.stride,
    kernel_init=_KERNEL_INIT,
  )(x)
  return batch_norm('shortcut_bn', train=train, epsilon=_EPSILON)(y)


def _join(block, y, shortcut, name):
  y = named(block, y + shortcut, 'add')
  return named(block, nn.relu(y), name)


class Stage(nn.Module):
  """Blocks of one width; the first has the stride.

  Attributes:
    features: channels of a block.
    blocks: number of blocks.
    stride: of the first block.
    bottleneck: blocks of three convolutions instead of two.
    option_a: as in `BasicBlock`.
  """

  features: int
  blocks: int
  stride: int
  bottleneck: bool
  option_a: bool

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps x [B, H, W, C] to [B, H / stride, W / stride, out]."""
    make = Bottleneck if self.bottleneck else BasicBlock
    for i in range(self.blocks):
      block = make(
        self.features,
        stride=self.stride if i == 0 else 1,
        option_a=self.option_a,
        name=f'block{i}',
      )
      x = block(x, train=train)
    return x


class Stem(nn.Module):
  """Convolution, BatchNorm, ReLU, and for ImageNet a max-pooling.

  Attributes:
    features: output channels.
    small: 3x3 convolution of stride 1 without pooling (CIFAR), else 7x7 of
      stride 2 and 3x3 pooling of stride 2.
  """

  features: int
  small: bool

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps x [B, H, W, C] to [B, H, W, features] or a quarter of the grid."""
    size, stride = (3, 1) if self.small else (7, 2)
    first = conv(
      'conv', self.features, size, stride=stride, kernel_init=_KERNEL_INIT
    )
    x = batch_norm('bn', train=train, epsilon=_EPSILON)(first(x))
    x = named(self, nn.relu(x), 'relu')
    if self.small:
      return x
    return nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))


class ResNet(nn.Module):
  """Residual network; named values end in `relu...`, `add`, `pool`, `logits`.

  Attributes:
    blocks: blocks in each stage.
    widths: channels of each stage (of a bottleneck's inner convolutions); the
      stem has the first.
    classes: number of logits.
    bottleneck: blocks of three convolutions instead of two.
    small: the stem for small images, and a first stage of stride 1 as always.
    option_a: shortcuts without parameters.
  """

  blocks: tuple[int, ...]
  widths: tuple[int, ...]
  classes: int
  bottleneck: bool = False
  small: bool = False
  option_a: bool = False

  @nn.compact
  def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
    """Classifies images.

    Args:
      images: [B, H, W, C] float32, scaled as the data set scales them.
      train: BatchNorm uses the batch's statistics.

    Returns:
      Logits [B, classes] float32.

    Raises:
      InputError: the images have another shape or type.
    """
    check_images(images, shape=(None, None, None))
    x = Stem(self.widths[0], self.small, name='stem')(images, train=train)
    for i, (width, blocks) in enumerate(
      zip(self.widths, self.blocks, strict=True), start=1
    ):
      stage = Stage(
        width,
        blocks,
        stride=1 if i == 1 else 2,
        bottleneck=self.bottleneck,
        option_a=self.option_a,
        name=f'stage{i}',
      )
      x = stage(x, train=train)
    x = named(self, x.mean(axis=(1, 2)), 'pool')
    return named(self, nn.Dense(self.classes, name='classifier')(x), 'logits')


def cifar_resnet(depth: int, *, classes: int = 10, **options) -> ResNet:
  """CIFAR's ResNet of a depth 6n + 2, n blocks in each of three stages.

  Args:
    depth: layers with weights on the longest path: 8, 14, 20, 26, ...
    classes: number of logits.
    **options: other attributes of `ResNet`, e.g. `widths` of a toy network.

  Returns:
    The module, with shortcuts of option A.

  Raises:
    ValueError: another depth.
  """
  if depth < 8 or (depth - 2) % 6:
    raise ValueError(f'depth is {depth}; right is 6n + 2: 8, 14, 20, ...')
  settings = {'widths': (16, 32, 64), 'small': True, 'option_a': True}
  return ResNet(((depth - 2) // 6,) * 3, classes=classes, **settings | options)


def cifar_resnet8(**options) -> ResNet:
  """CIFAR's ResNet-8: 75,290 parameters."""
  return cifar_resnet(8, **options)


def cifar_resnet20(**options) -> ResNet:
  """CIFAR's ResNet-20: 269,722 parameters."""
  return cifar_resnet(20, **options)


def cifar_resnet32(**options) -> ResNet:
  """CIFAR's ResNet-32: 464,154 parameters."""
  return cifar_resnet(32, **options)


def cifar_resnet56(**options) -> ResNet:
  """CIFAR's ResNet-56: 853,018 parameters, 125,485,696 MACs."""
  return cifar_resnet(56, **options)


def resnet18(**options) -> ResNet:
  """ResNet-18 of torchvision: 11,689,512 parameters, 1,814,073,344 MACs."""
  return _imagenet((2, 2, 2, 2), **options)


def resnet34(**options) -> ResNet:
  """ResNet-34 of torchvision: 21,797,672 parameters, 3,663,761,408 MACs."""
  return _imagenet((3, 4, 6, 3), **options)


def resnet50(**options) -> ResNet:
  """ResNet-50 of torchvision: 25,557,032 parameters, 4,089,184,256 MACs."""
  return _imagenet((3, 4, 6, 3), bottleneck=True, **options)


def _imagenet(blocks, **options):
  settings = {'widths': (64, 128, 256, 512), 'classes': 1000}
  return ResNet(blocks, **settings | options)
