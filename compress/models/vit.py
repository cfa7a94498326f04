"""Vision transformer for classification, in torchvision's layout.

Dosovitskiy et al. 2020, 'An Image is Worth 16x16 Words', arXiv:2010.11929. The
layer norms stand before attention and MLP, GELU is exact, queries, keys and
values have kernels of their own (torchvision keeps the three in one matrix, so
the number of parameters is the same). ViT-B/16 with 1,000 classes at 224 x 224:
86,567,656 parameters.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from compress.errors import InputError
from compress.models.layers import check_images, named

_EPSILON = 1e-6


class Attention(nn.Module):
  """Multi-head self-attention; values are named `weights`, `heads`.

  Attributes:
    heads: number of heads.
    head_size: length of a head's queries, keys and values; the scores are
      divided by its square root, whatever part of them is left after pruning.
  """

  heads: int
  head_size: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps x [B, N, D] to [B, N, D]."""

    def project(name):
      return nn.DenseGeneral((self.heads, self.head_size), name=name)(x)

    query, key, value = map(project, ('query', 'key', 'value'))
    scores = jnp.einsum('bqhd,bkhd->bhqk', query, key)
    weights = jax.nn.softmax(scores * self.head_size**-0.5, axis=-1)
    weights = named(self, weights, 'weights')
    y = jnp.einsum('bhqk,bkhd->bqhd', weights, value)
    y = named(self, y, 'heads')
    return nn.DenseGeneral(x.shape[-1], axis=(-2, -1), name='out')(y)


class Mlp(nn.Module):
  """Dense, GELU, dense; the activation is named `gelu`.

  Attributes:
    hidden: width of the hidden layer.
  """

  hidden: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps x [..., D] to [..., D]."""
    y = nn.gelu(nn.Dense(self.hidden, name='dense1')(x), approximate=False)
    return nn.Dense(x.shape[-1], name='dense2')(named(self, y, 'gelu'))


class EncoderBlock(nn.Module):
  """Attention and MLP, each behind a layer norm, each added to its input.

  Attributes:
    heads: number of heads.
    head_size: length of a head.
    hidden: width of the MLP's hidden layer.
  """

  heads: int
  head_size: int
  hidden: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps x [B, N, D] to [B, N, D]; the sums are named `add1`, `add2`."""
    attention = Attention(self.heads, self.head_size, name='attention')
    y = nn.LayerNorm(epsilon=_EPSILON, name='norm1')(x)
    x = named(self, x + attention(y), 'add1')
    y = nn.LayerNorm(epsilon=_EPSILON, name='norm2')(x)
    return named(self, x + Mlp(self.hidden, name='mlp')(y), 'add2')


class VisionTransformer(nn.Module):
  """Vision transformer; named values end in `add...`, `class`, `logits`.

  Attributes:
    image_shape: rows, columns and channels of an image.
    patch: side of a patch, pixels; it divides rows and columns.
    features: length D of a token.
    blocks: number of encoder blocks.
    heads: heads of an attention; they divide D.
    hidden: width of the MLPs' hidden layers.
    classes: number of logits.
  """

  image_shape: tuple[int, int, int] = (224, 224, 3)
  patch: int = 16
  features: int = 768
  blocks: int = 12
  heads: int = 12
  hidden: int = 3072
  classes: int = 1000

  @nn.compact
  def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
    """Classifies images.

    Args:
      images: [B, *image_shape] float32, scaled as the data set scales them.
      train: makes no difference; every network of the package has it.

    Returns:
      Logits [B, classes] float32.

    Raises:
      InputError: the images have another shape or type, or sizes do not
        divide.
    """
    del train
    check_images(images, shape=self.image_shape)
    if any(side % self.patch for side in self.image_shape[:2]):
      raise InputError(
        f'patches of {self.patch} pixels do not divide images of '
        f'{self.image_shape[0]} x {self.image_shape[1]}'
      )
    if self.features % self.heads:
      raise InputError(
        f'{self.heads} heads do not divide {self.features} features'
      )
    x = nn.Conv(
      self.features,
      (self.patch, self.patch),
      strides=(self.patch, self.patch),
      padding='VALID',
      name='patch',
    )(images)
    x = x.reshape(x.shape[0], -1, self.features)
    token = self.param(
      'class_token', nn.initializers.zeros, (1, 1, self.features)
    )
    token = jnp.broadcast_to(token, (x.shape[0], 1, self.features))
    x = jnp.concatenate([token, x], axis=1)
    positions = self.param(
      'positions', nn.initializers.normal(0.02), (1, *x.shape[1:])
    )
    x = x + positions
    for i in range(self.blocks):
      block = EncoderBlock(
        self.heads,
        self.features // self.heads,
        self.hidden,
        name=f'block{i}',
      )
      x = block(x)
    x = nn.LayerNorm(epsilon=_EPSILON, name='norm')(x)
    x = named(self, jax.lax.index_in_dim(x, 0, 1, keepdims=False), 'class')
    return named(self, nn.Dense(self.classes, name='classifier')(x), 'logits')


def vit_b16(**options) -> VisionTransformer:
  """ViT-B/16: 86,567,656 parameters; options are the attributes."""
  return VisionTransformer(**options)
