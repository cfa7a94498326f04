"""Wide residual networks of CIFAR, wrn-d-w.

Zagoruyko, Komodakis 2016, 'Wide Residual Networks', arXiv:1605.07146, table 1:
three stages of n = (d - 4) / 6 blocks with 16w, 32w and 64w channels, each
block BatchNorm, ReLU, 3x3, BatchNorm, ReLU, 3x3; where the number of channels
changes, the shortcut is a 1x1 convolution of the block's first ReLU. Parameters
with 100 classes (three input channels):

  wide_resnet(16, 1)     180,916        wide_resnet(40, 1)       569,780
  wide_resnet(16, 2)     703,284        wide_resnet(40, 2)     2,255,156
  wide_resnet(16, 4)   2,772,020        wide_resnet(28, 10)   36,536,884
"""

import flax.linen as nn
import jax

from compress.models.layers import batch_norm, check_images, conv, named

_EPSILON = 1e-5
_KERNEL_INIT = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')


class WideBlock(nn.Module):
  """Pre-activation block; named `relu1`, `relu2`, `add`.

  Attributes:
    features: output channels.
    stride: step of the first convolution and of the shortcut.
    dropout: share of values dropped between the convolutions in training.
  """

  features: int
  stride: int
  dropout: float

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps x [B, H, W, C] to [B, H / stride, W / stride, features]."""

    def layer(x, name, size, stride=1):
      module = conv(
        name, self.features, size, stride=stride, kernel_init=_KERNEL_INIT
      )
      return module(x)

    y = batch_norm('bn1', train=train, epsilon=_EPSILON)(x)
    y = named(self, nn.relu(y), 'relu1')
    if self.stride != 1 or x.shape[-1] != self.features:
      x = layer(y, 'shortcut_conv', 1, self.stride)
    y = layer(y, 'conv1', 3, self.stride)
    y = batch_norm('bn2', train=train, epsilon=_EPSILON)(y)
    y = named(self, nn.relu(y), 'relu2')
    y = nn.Dropout(self.dropout, deterministic=not train)(y)
    return named(self, layer(y, 'conv2', 3) + x, 'add')


class WideStage(nn.Module):
  """Blocks of one width; the first has the stride.

  Attributes:
    features: channels of a block.
    blocks: number of blocks.
    stride: of the first block.
    dropout: as in `WideBlock`.
  """

  features: int
  blocks: int
  stride: int
  dropout: float

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps x [B, H, W, C] to [B, H / stride, W / stride, features]."""
    for i in range(self.blocks):
      block = WideBlock(
        self.features,
        stride=self.stride if i == 0 else 1,
        dropout=self.dropout,
        name=f'block{i}',
      )
      x = block(x, train=train)
    return x


class WideResNet(nn.Module):
  """Wide residual network; names end in `relu...`, `add`, `pool`, `logits`.

  Attributes:
    blocks: blocks in each stage.
    widths: channels of each stage.
    classes: number of logits.
    stem: channels of the first convolution, 3x3 of stride 1.
    dropout: share of values dropped inside blocks in training (the paper tries
      .3); needs the `dropout` key when it is not 0.
  """

  blocks: tuple[int, ...]
  widths: tuple[int, ...]
  classes: int
  stem: int = 16
  dropout: float = 0.0

  @nn.compact
  def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
    """Classifies images.

    Args:
      images: [B, H, W, C] float32, scaled as the data set scales them.
      train: BatchNorm uses the batch's statistics; dropout is active.

    Returns:
      Logits [B, classes] float32.

    Raises:
      InputError: the images have another shape or type.
    """
    check_images(images, shape=(None, None, None))
    x = conv('stem', self.stem, 3, kernel_init=_KERNEL_INIT)(images)
    for i, (width, blocks) in enumerate(
      zip(self.widths, self.blocks, strict=True), start=1
    ):
      stage = WideStage(
        width,
        blocks,
        stride=1 if i == 1 else 2,
        dropout=self.dropout,
        name=f'stage{i}',
      )
      x = stage(x, train=train)
    x = batch_norm('bn', train=train, epsilon=_EPSILON)(x)
    x = named(self, nn.relu(x), 'relu')
    x = named(self, x.mean(axis=(1, 2)), 'pool')
    return named(self, nn.Dense(self.classes, name='classifier')(x), 'logits')


def wide_resnet(
  depth: int, width: int, *, classes: int = 10, **options
) -> WideResNet:
  """The network wrn-depth-width.

  Args:
    depth: d = 6n + 4, 10 or more: 16, 22, 28, 40, ...
    width: w, 1 or more, the multiplier of the stages' channels.
    classes: number of logits.
    **options: other attributes of `WideResNet`.

  Returns:
    The module.

  Raises:
    ValueError: another depth, or a width below 1.
  """
  if depth < 10 or (depth - 4) % 6:
    raise ValueError(f'depth is {depth}; right is 6n + 4: 10, 16, 22, ...')
  if width < 1:
    raise ValueError(f'width is {width}; right is 1 or more')
  widths = tuple(width * channels for channels in (16, 32, 64))
  settings = {'widths': widths}
  return WideResNet(
    ((depth - 4) // 6,) * 3, classes=classes, **settings | options
  )
