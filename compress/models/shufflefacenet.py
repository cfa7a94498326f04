"""ShuffleFaceNet: ShuffleNet V2 units for faces, 128 features.

Martinez-Diaz, Luevano, Mendez-Vazquez, Nicolas-Diaz, Chang, Gonzalez-Mendoza
2019, 'ShuffleFaceNet', ICCV Workshops; the units are those of Ma, Zhang, Zheng,
Sun 2018, 'ShuffleNet V2', arXiv:1807.11164, figure 3c and 3d, with PReLU.
Parameters by width:

  .5     525,510      1.5    2,662,342
  1    1,437,322      2      4,527,242

Each PReLU has one slope for all channels. A PReLU follows the global depthwise
convolution, and the dense layer has a bias: the reading that gives the counts.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from compress.errors import InputError
from compress.models.layers import (
  PReLU,
  batch_norm,
  conv,
  named,
  normalize_pixels,
)

EPSILON = 1e-5
_WIDTHS = {
  0.5: (48, 96, 192),
  1.0: (116, 232, 464),
  1.5: (176, 352, 704),
  2.0: (244, 488, 976),
}


def channel_shuffle(x: jax.Array, *, groups: int) -> jax.Array:
  """Interleaves groups of channels; C / groups after groups is the identity.

  Zhang, Zhou, Lin, Sun 2018, 'ShuffleNet', arXiv:1707.01083, section 3.1.

  Args:
    x: [..., C].
    groups: number of groups, a divisor of C.

  Returns:
    [..., C]; channel i of group g comes to place i * groups + g.

  Raises:
    InputError: the groups do not divide the channels.
  """
  channels = x.shape[-1]
  if groups < 1 or channels % groups:
    raise InputError(
      f'{groups} groups of {channels} channels; right is a divisor'
    )
  split = x.reshape(*x.shape[:-1], groups, channels // groups)
  return jnp.swapaxes(split, -1, -2).reshape(x.shape)


def _conv_norm(x, number, features, size, *, train, **options):
  x = conv(f'conv{number}', features, size, **options)(x)
  return batch_norm(f'bn{number}', train=train, epsilon=EPSILON)(x)


class ConvUnit(nn.Module):
  """Convolution, BatchNorm, PReLU.

  Attributes:
    features: output channels.
    size: rows and columns of the kernel.
    stride: step of the output grid.
    groups: channel groups.
    padding: as for `layers.conv`.
  """

  features: int
  size: int
  stride: int = 1
  groups: int = 1
  padding: str | None = None

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps x [B, H, W, C] to [B, H', W', features]."""
    x = _conv_norm(
      x,
      1,
      self.features,
      self.size,
      train=train,
      stride=self.stride,
      groups=self.groups,
      padding=self.padding,
    )
    return PReLU(shared=True, name='prelu')(x)


class Shortcut(nn.Module):
  """The left branch of a halving unit: depthwise 3x3, 1x1, PReLU.

  Attributes:
    features: output channels.
  """

  features: int

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps x [B, H, W, C] to [B, H / 2, W / 2, features]."""
    c = x.shape[-1]
    x = _conv_norm(x, 1, c, 3, train=train, stride=2, groups=c)
    x = _conv_norm(x, 2, self.features, 1, train=train)
    return PReLU(shared=True, name='prelu')(x)


class Branch(nn.Module):
  """The right branch: 1x1, PReLU, depthwise 3x3, 1x1, PReLU.

  Attributes:
    features: output channels.
    stride: step of the depthwise convolution.
  """

  features: int
  stride: int

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps x [B, H, W, C] to [B, H / stride, W / stride, features]."""
    c = self.features
    x = PReLU(shared=True, name='prelu1')(_conv_norm(x, 1, c, 1, train=train))
    x = _conv_norm(x, 2, c, 3, train=train, stride=self.stride, groups=c)
    return PReLU(shared=True, name='prelu2')(
      _conv_norm(x, 3, c, 1, train=train)
    )


class ShuffleUnit(nn.Module):
  """Two branches side by side, shuffled; named `concat`.

  Attributes:
    features: output channels, even.
    stride: 1: the left half of the channels passes as it is; 2: both branches
      see all channels.
  """

  features: int
  stride: int

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps x [B, H, W, C] to [B, H / stride, W / stride, features]."""
    half = self.features // 2
    if self.stride == 1:
      left, right = x[..., :half], x[..., half:]
    else:
      left, right = Shortcut(half, name='shortcut')(x, train=train), x
    right = Branch(half, self.stride, name='branch')(right, train=train)
    both = jnp.concatenate([left, right], axis=-1)
    return named(self, channel_shuffle(both, groups=2), 'concat')


class ShuffleFaceNet(nn.Module):
  """Face embedding network; names end in `prelu...`, `concat`, `embedding`.

  Attributes:
    widths: channels of the three stages, even.
    units: units of each stage; the first of a stage halves the grid.
    stem: channels of the first convolution, 3x3 of stride 2.
    head: channels before the global depthwise convolution.
    features: length of the embedding.
  """

  widths: tuple[int, ...]
  units: tuple[int, ...] = (4, 8, 4)
  stem: int = 24
  head: int = 1024
  features: int = 128

  @nn.compact
  def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
    """Embeds faces.

    Args:
      images: [B, 112, 112, 3] float32, RGB, 0..255.
      train: BatchNorm uses the batch's statistics.

    Returns:
      [B, features] float32, not normalised.

    Raises:
      InputError: the images have another shape or type, or a width is odd.
    """
    if any(width % 2 for width in self.widths):
      raise InputError(f'widths are {self.widths}; right are even numbers')
    x = normalize_pixels(images, scale=128.0)
    x = ConvUnit(self.stem, 3, stride=2, name='stem')(x, train=train)
    for i, (width, units) in enumerate(
      zip(self.widths, self.units, strict=True), start=1
    ):
      for j in range(units):
        unit = ShuffleUnit(
          width, stride=2 if j == 0 else 1, name=f'stage{i}_unit{j}'
        )
        x = unit(x, train=train)
    x = ConvUnit(self.head, 1, name='head')(x, train=train)
    pool = ConvUnit(
      self.head, x.shape[1], groups=self.head, padding='VALID', name='pool'
    )
    x = pool(x, train=train).reshape(x.shape[0], -1)
    x = nn.Dense(self.features, name='fc')(x)
    x = batch_norm('features_bn', train=train, epsilon=EPSILON)(x)
    return named(self, x, 'embedding')


def shufflefacenet(*, width: float = 1.0, **options) -> ShuffleFaceNet:
  """ShuffleFaceNet of a published width; the counts are above.

  Args:
    width: .5, 1, 1.5 or 2.
    **options: ShuffleFaceNet's attributes.

  Returns:
    The module.

  Raises:
    ValueError: another width.
  """
  if width not in _WIDTHS:
    raise ValueError(f'width is {width}; right is one of {list(_WIDTHS)}')
  return ShuffleFaceNet(**{'widths': _WIDTHS[width]} | options)
