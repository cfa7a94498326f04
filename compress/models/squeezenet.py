"""SqueezeNet: 1x1 convolutions squeeze before 3x3 ones expand.

Iandola, Han, Moskewicz, Ashraf, Dally, Keutzer 2016, 'SqueezeNet',
arXiv:1602.07360, figure 1 and table 1, and the authors' later version 1.1.
Parameters with 1000 classes:

  squeezenet()     1,248,424
  squeezenet11()   1,235,496

All convolutions have biases, and there is no BatchNorm. The last convolution,
`classifier`, gives the logits, averaged over the grid after a ReLU.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from compress.models.layers import check_images, conv, named

_KERNEL_INIT = nn.initializers.he_normal()
_CLASSIFIER_INIT = nn.initializers.normal(0.01)


def ceil_pool(x: jax.Array) -> jax.Array:
  """Max-pooling 3x3 of stride 2 whose last window may hang over the edge.

  Caffe's rounding: n rows become ceil((n - 3) / 2) + 1, at least 1.

  Args:
    x: [B, H, W, C].

  Returns:
    [B, H', W', C].
  """
  padding = [(0, max(1 - n % 2, 3 - n)) for n in x.shape[1:3]]
  return nn.max_pool(x, (3, 3), strides=(2, 2), padding=padding)


class Fire(nn.Module):
  """1x1 squeeze, then 1x1 and 3x3 side by side; named `squeeze`, `concat`.

  Attributes:
    squeezed: channels of the first convolution.
    expanded: channels of each of the two others.
  """

  squeezed: int
  expanded: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps x [B, H, W, C] to [B, H, W, 2 expanded]."""

    def unit(x, name, features, size):
      layer = conv(name, features, size, bias=True, kernel_init=_KERNEL_INIT)
      return nn.relu(layer(x))

    x = named(self, unit(x, 'squeeze_conv', self.squeezed, 1), 'squeeze')
    sides = [unit(x, f'expand{n}', self.expanded, n) for n in (1, 3)]
    return named(self, jnp.concatenate(sides, axis=-1), 'concat')


class SqueezeNet(nn.Module):
  """Convolution, fire modules, convolution; names end in `concat`, `logits`.

  Attributes:
    stem: channels of the first convolution.
    stem_size: rows and columns of its kernel; it has stride 2, no padding.
    squeezed: for each fire module, channels of its squeeze; its sides have
      four times as many.
    pools: fire modules, counted from 1, that a max-pooling follows; 0 is the
      stem.
    classes: number of logits.
    small: for small images: a 3x3 stem of stride 1, padded, without pooling.
    dropout: share of values dropped before the last convolution in training
      (the paper has .5); needs the `dropout` key when it is not 0.
  """

  stem: int = 96
  stem_size: int = 7
  squeezed: tuple[int, ...] = (16, 16, 32, 32, 48, 48, 64, 64)
  pools: tuple[int, ...] = (0, 3, 7)
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
      Logits [B, classes] float32, 0 or more.

    Raises:
      InputError: the images have another shape or type.
    """
    check_images(images, shape=(None, None, None))
    first = conv(
      'stem',
      self.stem,
      3 if self.small else self.stem_size,
      stride=1 if self.small else 2,
      bias=True,
      padding='SAME' if self.small else 'VALID',
      kernel_init=_KERNEL_INIT,
    )
    x = named(self, nn.relu(first(images)), 'relu')
    for i, squeezed in enumerate((0, *self.squeezed)):
      if i:
        x = Fire(squeezed, 4 * squeezed, name=f'fire{i}')(x)
      if i in self.pools and (i or not self.small):
        x = ceil_pool(x)
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    last = conv(
      'classifier', self.classes, 1, bias=True, kernel_init=_CLASSIFIER_INIT
    )
    return named(self, nn.relu(last(x)).mean(axis=(1, 2)), 'logits')


def squeezenet(**options) -> SqueezeNet:
  """SqueezeNet 1.0: 1,248,424 parameters with 1000 classes."""
  return SqueezeNet(**options)


def squeezenet11(**options) -> SqueezeNet:
  """SqueezeNet 1.1: 1,235,496 parameters; smaller stem, earlier pooling."""
  return SqueezeNet(
    **{'stem': 64, 'stem_size': 3, 'pools': (0, 2, 4)} | options
  )
