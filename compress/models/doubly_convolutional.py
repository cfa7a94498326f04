"""Doubly convolutional layers: filters that are crops of larger filters.

Zhai, Cheng, Lu, Zhang 2016, 'Doubly Convolutional Neural Networks',
arXiv:1610.09716. A meta filter has z' x z' pixels; each of its
n = (z' - z + 1)^2 crops of z x z is a filter, so that neighbours are shifts of
each other. With M meta filters over C channels,

  parameters      M z'^2 C             in place of  n M z^2 C
  multiply-adds   n M z^2 C a pixel    the same

Max-pooling over the n outputs of a meta filter gives M channels again. What is
stored is the meta filters, and what should be compressed.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from compress.errors import InputError
from compress.models.layers import batch_norm, check_images, named

_EPSILON = 1e-5
_KERNEL_INIT = nn.initializers.he_normal()


def crops(meta: jax.Array, *, size: int) -> jax.Array:
  """All filters that are crops of meta filters.

  Args:
    meta: [Z, Z, C, M], Z at least `size`.
    size: z, rows and columns of a filter.

  Returns:
    [z, z, C, M n] with n = (Z - z + 1)^2; the n crops of one meta filter are
    neighbours, in row-major order of their offset.

  Raises:
    InputError: the crops are larger than the meta filters.
  """
  large = meta.shape[0]
  if not 1 <= size <= large:
    raise InputError(
      f'filters of {size} x {size} in meta filters of {large} x {large}; right '
      f'is 1 to {large}'
    )
  offsets = range(large - size + 1)
  found = [meta[a : a + size, b : b + size] for a in offsets for b in offsets]
  stacked = jnp.stack(found, axis=-1)
  return stacked.reshape(*stacked.shape[:3], -1)


class DoublyConv(nn.Module):
  """A doubly convolutional layer without bias; its parameter is `kernel`.

  Attributes:
    features: number of meta filters M.
    size: z, rows and columns of a filter.
    meta_size: z', rows and columns of a meta filter; z gives a plain
      convolution.
    pool: maximum over the crops of a meta filter, else all of them.
  """

  features: int
  size: int = 3
  meta_size: int = 4
  pool: bool = True

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps x [B, H, W, C] to [B, H, W, M], or [B, H, W, M n] without pooling.

    The grid is padded as XLA's 'SAME'.
    """
    shape = (self.meta_size, self.meta_size, x.shape[-1], self.features)
    meta = self.param('kernel', _KERNEL_INIT, shape)
    y = jax.lax.conv_general_dilated(
      x,
      crops(meta, size=self.size),
      window_strides=(1, 1),
      padding='SAME',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
    if not self.pool:
      return y
    return y.reshape(*y.shape[:3], self.features, -1).max(axis=-1)


class DoublyConvNet(nn.Module):
  """Doubly convolutional layers by stages; names end in `relu`, `logits`.

  Every layer is followed by BatchNorm and ReLU, every stage by a max-pooling
  2x2, the last by the mean over the grid and a dense layer. Three stages of two
  layers are this library's choice; the paper's tables were not read.

  Attributes:
    widths: meta filters of each stage.
    layers: layers of each stage.
    classes: number of logits.
    size: z of every layer.
    meta_size: z' of every layer; `size` gives the plain network of the same
      shape, to compare with.
    pool: as in `DoublyConv`.
    dropout: share of values dropped after each stage in training (the authors
      have .6); needs the `dropout` key when it is not 0.
  """

  widths: tuple[int, ...] = (128, 128, 128)
  layers: int = 2
  classes: int = 10
  size: int = 3
  meta_size: int = 4
  pool: bool = True
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
      InputError: the images have another shape or type, or filters are larger
        than meta filters.
    """
    check_images(images, shape=(None, None, None))
    x = images
    for i, width in enumerate(self.widths, start=1):
      for j in range(1, self.layers + 1):
        layer = DoublyConv(
          width, self.size, self.meta_size, self.pool, name=f'conv{i}_{j}'
        )
        norm = batch_norm(f'bn{i}_{j}', train=train, epsilon=_EPSILON)
        x = named(self, nn.relu(norm(layer(x))), f'relu{i}_{j}')
      x = nn.max_pool(x, (2, 2), strides=(2, 2), padding='SAME')
      x = nn.Dropout(self.dropout, deterministic=not train)(x)
    x = named(self, x.mean(axis=(1, 2)), 'pool')
    return named(self, nn.Dense(self.classes, name='classifier')(x), 'logits')


def doubly_convnet(**options) -> DoublyConvNet:
  """Six layers of 128 meta filters 4x4 for 3x3: 1,319,690 parameters.

  Args:
    **options: DoublyConvNet's attributes. `meta_size=3` is the plain network,
      743,562 parameters (both with 10 classes and three input channels).

  Returns:
    The module.
  """
  return DoublyConvNet(**options)
