"""MobileNet V1: depthwise and pointwise convolutions in turn.

Howard, Zhu, Chen, Kalenichenko, Wang, Weyand, Andreetto, Adam 2017,
'MobileNets', arXiv:1704.04861, table 1 (the last block has stride 1, which the
paper's table misprints). Parameters with 1000 classes, and multiply-adds of one
image of 224 x 224, by width multiplier:

  1      4,231,976   568,740,352
  .75    2,585,560   325,400,448
  .5     1,331,592   149,497,088
  .25      470,072    41,030,272

The 9 weights of a depthwise filter are better left out of weight decay, and
quantized channel by channel.
"""

import flax.linen as nn
import jax

from compress.models.layers import batch_norm, check_images, conv, named

_EPSILON = 1e-3
_KERNEL_INIT = nn.initializers.he_normal()
_WIDTHS = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)


class SeparableBlock(nn.Module):
  """Depthwise 3x3, then 1x1 convolution; named `relu1`, `norm2`, `relu2`.

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
    x = conv(
      'depthwise',
      channels,
      3,
      stride=self.stride,
      groups=channels,
      kernel_init=_KERNEL_INIT,
    )(x)
    x = batch_norm('bn1', train=train, epsilon=_EPSILON)(x)
    x = named(self, nn.relu(x), 'relu1')
    x = conv('pointwise', self.features, 1, kernel_init=_KERNEL_INIT)(x)
    x = batch_norm('bn2', train=train, epsilon=_EPSILON)(x)
    x = named(self, x, 'norm2')
    return named(self, nn.relu(x), 'relu2')


class MobileNet(nn.Module):
  """Separable blocks; named values end in `relu...`, `pool`, `logits`.

  Attributes:
    stem: channels of the first convolution, 3x3 of stride 2.
    widths: channels of each block.
    strides: steps of each block.
    classes: number of logits.
    small: the first convolution has stride 1, for small images.
  """

  stem: int = 32
  widths: tuple[int, ...] = _WIDTHS
  strides: tuple[int, ...] = _STRIDES
  classes: int = 1000
  small: bool = False

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
    stride = 1 if self.small else 2
    x = conv('conv', self.stem, 3, stride=stride, kernel_init=_KERNEL_INIT)(
      images
    )
    x = batch_norm('bn', train=train, epsilon=_EPSILON)(x)
    x = named(self, nn.relu(x), 'relu')
    for i, (width, step) in enumerate(
      zip(self.widths, self.strides, strict=True), start=1
    ):
      x = SeparableBlock(width, step, name=f'block{i}')(x, train=train)
    x = named(self, x.mean(axis=(1, 2)), 'pool')
    return named(self, nn.Dense(self.classes, name='classifier')(x), 'logits')


def mobilenet(*, width: float = 1.0, **options) -> MobileNet:
  """MobileNet V1 of a width multiplier; the counts are above.

  Args:
    width: the paper's alpha, above 0; every layer has int(alpha * channels),
      at least 1.
    **options: MobileNet's attributes.

  Returns:
    The module.

  Raises:
    ValueError: the width is not positive.
  """
  if not width > 0:
    raise ValueError(f'width is {width}; it must be above 0')

  def scaled(channels):
    return max(1, int(width * channels))

  settings = {'stem': scaled(32), 'widths': tuple(map(scaled, _WIDTHS))}
  return MobileNet(**settings | options)
