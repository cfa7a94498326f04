"""Layers and naming shared by the networks of this package.

Notation: B images, H rows, W columns, C channels; every activation is
[B, H, W, C], every convolution kernel [KH, KW, Cin / groups, Cout].
A value that studies tap is named with `jax.ad_checkpoint.checkpoint_name`; its
name is the path of the module that made it, as in the parameter tree.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from compress.errors import InputError

IMAGE_SHAPE = (112, 112, 3)


def named(module: nn.Module, x: jax.Array, *suffix: str) -> jax.Array:
  """Returns `x`, named after the path of `module` and `suffix`.

  Args:
    module: the bound module that computed `x`.
    x: any array.
    *suffix: further parts of the name.

  Returns:
    `x`; its name is e.g. `stage1/block0/add`.
  """
  return checkpoint_name(x, '/'.join((*module.path, *suffix)))


def normalize_pixels(
  images: jax.Array, *, center: float = 127.5, scale: float = 127.5
) -> jax.Array:
  """Maps raw pixels to (images - center) / scale.

  Args:
    images: [B, 112, 112, 3] float32, RGB, 0..255.
    center: the pixel value that becomes 0.
    scale: the distance from `center` that becomes 1.

  Returns:
    [B, 112, 112, 3] float32, about -1..1.

  Raises:
    InputError: the images have another shape, or are no floats.
  """
  if images.ndim != 4 or images.shape[1:] != IMAGE_SHAPE:
    raise InputError(
      f'images have shape {tuple(images.shape)}; '
      f'right is [B, {", ".join(map(str, IMAGE_SHAPE))}], RGB'
    )
  if not jnp.issubdtype(images.dtype, jnp.floating):
    raise InputError(
      f'images have type {images.dtype}; right is float32, raw pixels 0..255'
    )
  return (images - center) / scale


def check_images(
  images: jax.Array, *, shape: tuple[int | None, int | None, int | None]
) -> None:
  """Checks a batch of images that a classifier gets.

  Args:
    images: what should be floating [B, H, W, C].
    shape: H, W and C, None for a size that may be any.

  Raises:
    InputError: another shape or an integer type.
  """
  fits = images.ndim == 4 and all(
    want in (None, size)
    for want, size in zip(shape, images.shape[1:], strict=True)
  )
  if not fits:
    right = ', '.join('any' if n is None else str(n) for n in shape)
    raise InputError(
      f'images have shape {tuple(images.shape)}; right is [B, {right}]'
    )
  if not jnp.issubdtype(images.dtype, jnp.floating):
    raise InputError(
      f'images have type {images.dtype}; right is float32, scaled as the data '
      'set scales them'
    )


class PReLU(nn.Module):
  """max(x, 0) + slope * min(x, 0), one learned slope per channel, or for all.

  He, Zhang, Ren, Sun 2015, 'Delving Deep into Rectifiers', arXiv:1502.01852,
  equation 1. At x = 0 the derivative is 1. The output is named after the
  module.

  Attributes:
    initial_slope: the value that every slope starts from.
    shared: whether all channels have one slope.
  """

  initial_slope: float = 0.25
  shared: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Applies the activation to x [..., C]."""
    count = 1 if self.shared else x.shape[-1]
    slope = self.param(
      'slope', nn.initializers.constant(self.initial_slope), (count,)
    )
    slope = slope.reshape((1,) * (x.ndim - 1) + (-1,))
    return named(self, jnp.where(x >= 0, x, slope * x))


class FixedScaleBatchNorm(nn.BatchNorm):
  """BatchNorm whose scale is a parameter without a gradient.

  The scale stays in `params`, so that it is counted, stored and loaded, but
  its gradient is zero. Exclude it from weight decay, which would still move it.
  """

  def param(self, name, *args, **kwargs):
    """Fetches a parameter; the scale comes without its gradient."""
    value = super().param(name, *args, **kwargs)
    return jax.lax.stop_gradient(value) if name == 'scale' else value


def batch_norm(name: str, *, train: bool, epsilon: float) -> nn.BatchNorm:
  """Makes a BatchNorm with parameters `scale`, `bias`; stats `mean`, `var`.

  Ioffe, Szegedy 2015, arXiv:1502.03167. Departs from PyTorch in one thing: the
  running variance takes the biased batch variance (PyTorch the unbiased one).

  Args:
    name: the module's name.
    train: normalise with the batch's statistics, and move the running ones.
    epsilon: added to the variance.

  Returns:
    The module; running statistics decay by 0.9 per step.
  """
  return nn.BatchNorm(
    use_running_average=not train, momentum=0.9, epsilon=epsilon, name=name
  )


def conv(
  name: str,
  features: int,
  size: int,
  *,
  stride: int = 1,
  groups: int = 1,
  bias: bool = False,
  padding: str | None = None,
  kernel_init: nn.initializers.Initializer | None = None,
) -> nn.Conv:
  """Makes a square convolution.

  Args:
    name: the module's name.
    features: output channels.
    size: rows and columns of the kernel.
    stride: step of the output grid, in input pixels.
    groups: channel groups; the input's channel number gives a depthwise one.
    bias: whether a bias is added.
    padding: 'SAME' or 'VALID' as XLA defines them; None pads size // 2 on every
      side, as PyTorch and MXNet do (another grid than 'SAME' at stride 2).
    kernel_init: draws the kernel; None is N(0, 0.1), InsightFace's.

  Returns:
    The module; its kernel is [size, size, Cin / groups, features].
  """
  around = (size // 2, size // 2)
  return nn.Conv(
    features,
    (size, size),
    strides=(stride, stride),
    padding=(around, around) if padding is None else padding,
    feature_group_count=groups,
    use_bias=bias,
    kernel_init=kernel_init or nn.initializers.normal(0.1),
    name=name,
  )
