"""VarGFaceNet: convolutions in groups of a fixed width, 512 features.

Yan, Zhao, Xu, Zhang, Wang, Su 2019, 'VarGFaceNet', arXiv:1910.04985; the units
are of Zhang, Li, Wang, Wang, Zhang, Huang, Yu, Zhang, Zhou, Zheng, Zhang 2019,
'VarGNet', arXiv:1907.05653. Every spatial convolution but the first has groups
of 8 input channels, whatever its width. 5,198,292 parameters (the paper says
5.0 M), counting a slope for every channel of a PReLU and the biases of the
squeeze-and-excitation and the dense layer.
"""

import flax.linen as nn
import jax

from compress.errors import InputError
from compress.models.layers import (
  PReLU,
  batch_norm,
  conv,
  named,
  normalize_pixels,
)

EPSILON = 2e-5


class GroupSeparable(nn.Module):
  """3x3 in groups, then 1x1, each with BatchNorm.

  Attributes:
    features: output channels.
    expansion: channels of the first convolution, in multiples of the input's.
    stride: step of the first convolution.
    group_width: input channels of a group.
    activation: whether a PReLU follows the 1x1 too, as it does the 3x3.
  """

  features: int
  expansion: int
  stride: int
  group_width: int
  activation: bool

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps x [B, H, W, C] to [B, H / stride, W / stride, features]."""
    channels = x.shape[-1]
    group = conv(
      'group',
      channels * self.expansion,
      3,
      stride=self.stride,
      groups=channels // self.group_width,
    )
    x = batch_norm('bn1', train=train, epsilon=EPSILON)(group(x))
    x = conv('pointwise', self.features, 1)(PReLU(name='prelu1')(x))
    x = batch_norm('bn2', train=train, epsilon=EPSILON)(x)
    return PReLU(name='prelu2')(x) if self.activation else x


class Excitation(nn.Module):
  """Squeeze-and-excitation: channels weighed by what the whole image shows.

  Hu, Shen, Sun 2018, 'Squeeze-and-Excitation Networks', arXiv:1709.01507,
  section 3, with PReLU; named `gate`.

  Attributes:
    ratio: of the channels to those of the hidden layer.
  """

  ratio: int = 4

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps x [B, H, W, C] to the same shape."""
    channels = x.shape[-1]
    hidden = max(1, channels // self.ratio)
    gate = x.mean(axis=(1, 2), keepdims=True)
    gate = conv('squeeze', hidden, 1, bias=True)(gate)
    gate = conv('excite', channels, 1, bias=True)(PReLU(name='prelu')(gate))
    return x * named(self, nn.sigmoid(gate), 'gate')


class VarGUnit(nn.Module):
  """Two separable convolutions, excitation and shortcut; named `add`, `prelu`.

  Attributes:
    features: output channels.
    expansion: as in `GroupSeparable`.
    stride: step of the unit; 1 adds the input to the output, 2 a separable
      convolution of it.
    group_width: as in `GroupSeparable`.
  """

  features: int
  expansion: int
  stride: int
  group_width: int

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps x [B, H, W, C] to [B, H / stride, W / stride, features]."""

    def separable(x, name, stride, activation=False):
      module = GroupSeparable(
        self.features,
        self.expansion,
        stride=stride,
        group_width=self.group_width,
        activation=activation,
        name=name,
      )
      return module(x, train=train)

    y = separable(x, 'separable1', self.stride, activation=True)
    y = Excitation(name='excitation')(separable(y, 'separable2', 1))
    if self.stride != 1:
      x = separable(x, 'shortcut', self.stride)
    return PReLU(name='prelu')(named(self, y + x, 'add'))


class VarGDownsampling(nn.Module):
  """Two branches are added, then one more convolution; named `add`, `prelu`.

  Attributes:
    features: output channels.
    group_width: as in `GroupSeparable`; the expansion is 2, the stride 2.
  """

  features: int
  group_width: int

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps x [B, H, W, C] to [B, H / 2, W / 2, features]."""

    def separable(x, name, stride):
      module = GroupSeparable(
        self.features,
        2,
        stride=stride,
        group_width=self.group_width,
        activation=False,
        name=name,
      )
      return module(x, train=train)

    y = separable(x, 'branch1', 2) + separable(x, 'branch2', 2)
    y = separable(PReLU(name='prelu1')(y), 'separable', 1)
    y = named(self, y + separable(x, 'shortcut', 2), 'add')
    return PReLU(name='prelu')(y)


class VarGFaceNet(nn.Module):
  """Face embedding network; names end in `prelu...`, `add`, `embedding`.

  Attributes:
    stem: channels of the first convolution, 3x3 of stride 1, and of the unit
      that halves the grid after it.
    widths: channels of the three stages.
    units: units of each stage; the first halves the grid.
    head: channels before the grouped convolution over the whole grid; the 1x1
      after it has half of them.
    features: length of the embedding.
    group_width: input channels of a group; it must divide every width.
  """

  stem: int = 40
  widths: tuple[int, ...] = (80, 160, 320)
  units: tuple[int, ...] = (3, 7, 4)
  head: int = 1024
  features: int = 512
  group_width: int = 8

  @nn.compact
  def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
    """Embeds faces.

    Args:
      images: [B, 112, 112, 3] float32, RGB, 0..255.
      train: BatchNorm uses the batch's statistics.

    Returns:
      [B, features] float32, not normalised.

    Raises:
      InputError: the images have another shape or type, or the group width
        does not divide a width.
    """
    wide = self.group_width
    widths = (self.stem, *self.widths, self.head)
    if any(width % wide for width in widths):
      raise InputError(f'widths are {widths}; right are multiples of {wide}')

    def norm(name):
      return batch_norm(name, train=train, epsilon=EPSILON)

    x = normalize_pixels(images, scale=128.0)
    x = norm('stem_bn')(conv('stem', self.stem, 3)(x))
    x = PReLU(name='stem_prelu')(x)
    x = VarGUnit(self.stem, 1, 2, wide, name='stem_unit')(x, train=train)
    for i, (width, units) in enumerate(
      zip(self.widths, self.units, strict=True), start=1
    ):
      x = VarGDownsampling(width, wide, name=f'stage{i}_unit0')(x, train=train)
      for j in range(1, units):
        unit = VarGUnit(width, 2, 1, wide, name=f'stage{i}_unit{j}')
        x = unit(x, train=train)
    x = norm('head_bn')(conv('head', self.head, 1)(x))
    x = PReLU(name='head_prelu')(x)
    pool = conv(
      'pool', self.head, x.shape[1], groups=self.head // wide, padding='VALID'
    )
    x = norm('pool_bn')(pool(x))
    x = norm('neck_bn')(conv('neck', self.head // 2, 1)(x))
    x = PReLU(name='neck_prelu')(x).reshape(x.shape[0], -1)
    x = norm('features_bn')(nn.Dense(self.features, name='fc')(x))
    return named(self, x, 'embedding')


def vargfacenet(**options) -> VarGFaceNet:
  """VarGFaceNet of multiplier 1.25: 5,198,292 parameters, 512 features."""
  return VarGFaceNet(**options)
