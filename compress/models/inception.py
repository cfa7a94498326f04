"""Inception blocks, and GoogLeNet, which is made of nine of them.

Szegedy, Liu, Jia, Sermanet, Reed, Anguelov, Erhan, Vanhoucke, Rabinovich 2015,
'Going Deeper with Convolutions', arXiv:1409.4842, figure 2b and table 1:
6,998,552 parameters with 1000 classes. Convolutions have biases; there is no
BatchNorm, there are no auxiliary classifiers and no local response
normalisation (which has no parameters). torchvision's network of the name has
BatchNorm, and 3x3 convolutions in place of 5x5: other counts.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from compress.models.layers import check_images, conv, named

_KERNEL_INIT = nn.initializers.he_normal()


class InceptionWidths(NamedTuple):
  """Channels of an Inception block, in the order of the paper's table 1.

  Attributes:
    one: of the 1x1 convolution.
    reduce3: of the 1x1 before the 3x3.
    three: of the 3x3.
    reduce5: of the 1x1 before the 5x5.
    five: of the 5x5.
    pooled: of the 1x1 after the pooling.
  """

  one: int
  reduce3: int
  three: int
  reduce5: int
  five: int
  pooled: int


_STAGES = (
  (
    InceptionWidths(64, 96, 128, 16, 32, 32),
    InceptionWidths(128, 128, 192, 32, 96, 64),
  ),
  (
    InceptionWidths(192, 96, 208, 16, 48, 64),
    InceptionWidths(160, 112, 224, 24, 64, 64),
    InceptionWidths(128, 128, 256, 24, 64, 64),
    InceptionWidths(112, 144, 288, 32, 64, 64),
    InceptionWidths(256, 160, 320, 32, 128, 128),
  ),
  (
    InceptionWidths(256, 160, 320, 32, 128, 128),
    InceptionWidths(384, 192, 384, 48, 128, 128),
  ),
)


def _unit(x, name, features, size, stride=1):
  layer = conv(
    name, features, size, stride=stride, bias=True, kernel_init=_KERNEL_INIT
  )
  return nn.relu(layer(x))


def _halve(x):
  return nn.max_pool(x, (3, 3), strides=(2, 2), padding='SAME')


class InceptionBlock(nn.Module):
  """1x1 | 1x1, 3x3 | 1x1, 5x5 | 3x3 max-pooling, 1x1; named `concat`.

  Attributes:
    widths: channels of the six convolutions.
  """

  widths: InceptionWidths

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps x [B, H, W, C] to [B, H, W, one + three + five + pooled]."""
    w = InceptionWidths(*self.widths)
    three = _unit(x, 'reduce3', w.reduce3, 1)
    five = _unit(x, 'reduce5', w.reduce5, 1)
    pooled = nn.max_pool(x, (3, 3), padding='SAME')
    sides = [
      _unit(x, 'one', w.one, 1),
      _unit(three, 'three', w.three, 3),
      _unit(five, 'five', w.five, 5),
      _unit(pooled, 'pooled', w.pooled, 1),
    ]
    return named(self, jnp.concatenate(sides, axis=-1), 'concat')


class GoogLeNet(nn.Module):
  """Stem and stages of blocks; names end in `concat`, `pool`, `logits`.

  Attributes:
    stem: channels of the three convolutions before the first block.
    stages: widths of the blocks; max-pooling of stride 2 between two stages.
    classes: number of logits.
    small: for small images: one 3x3 convolution of the stem's last width, of
      stride 1, without pooling, in place of the stem.
    dropout: share of values dropped before the last layer in training (the
      paper has .4); needs the `dropout` key when it is not 0.
  """

  stem: tuple[int, int, int] = (64, 64, 192)
  stages: tuple[tuple[InceptionWidths, ...], ...] = _STAGES
  classes: int = 1000
  small: bool = False
  dropout: float = 0.0

  @nn.compact
  def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
    """Classifies images.

    Args:
      images: [B, H, W, C] float32, scaled as the data set scales them.
      train: dropout is active.

    Returns:
      Logits [B, classes] float32.

    Raises:
      InputError: the images have another shape or type.
    """
    check_images(images, shape=(None, None, None))
    x = images
    if not self.small:
      x = _halve(_unit(x, 'stem1', self.stem[0], 7, stride=2))
      x = _unit(x, 'stem2', self.stem[1], 1)
    x = _unit(x, 'stem3', self.stem[2], 3)
    for i, stage in enumerate(self.stages, start=1):
      x = x if i == 1 and self.small else _halve(x)
      for j, widths in enumerate(stage):
        x = InceptionBlock(widths, name=f'stage{i}_block{j}')(x)
    x = named(self, x.mean(axis=(1, 2)), 'pool')
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    return named(self, nn.Dense(self.classes, name='classifier')(x), 'logits')


def googlenet(**options) -> GoogLeNet:
  """GoogLeNet: 6,998,552 parameters with 1000 classes."""
  return GoogLeNet(**options)
