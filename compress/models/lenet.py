"""LeNet-300-100 and LeNet-5 in Caffe's form, the digit networks of pruning.

LeCun, Bottou, Bengio, Haffner 1998, 'Gradient-Based Learning Applied to
Document Recognition', as Han, Mao, Dally 2015, 'Deep Compression',
arXiv:1510.00149, tables 2 and 3, count them: 266,610 and 431,080 parameters for
28 x 28 pixels. Caffe's LeNet-5 has 20 and 50 full convolutions of 5 x 5 without
padding, max-pooling, and ReLU after the first dense layer alone.
"""

import flax.linen as nn
import jax

from compress.models.layers import check_images, conv, named

_KERNEL_INIT = nn.initializers.he_normal()


class LeNet300(nn.Module):
  """Three dense layers; values are named `relu1`, ..., `logits`.

  Attributes:
    image_shape: rows, columns and channels of an image.
    widths: of the hidden layers.
    classes: number of logits.
  """

  image_shape: tuple[int, int, int] = (28, 28, 1)
  widths: tuple[int, ...] = (300, 100)
  classes: int = 10

  @nn.compact
  def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
    """Classifies images.

    Args:
      images: [B, *image_shape] float32, scaled as the data set scales them.
      train: makes no difference; every network of the package has it.

    Returns:
      Logits [B, classes] float32.

    Raises:
      InputError: the images have another shape or type.
    """
    del train
    check_images(images, shape=self.image_shape)
    x = images.reshape(images.shape[0], -1)
    for i, width in enumerate(self.widths, start=1):
      x = nn.Dense(width, kernel_init=_KERNEL_INIT, name=f'fc{i}')(x)
      x = named(self, nn.relu(x), f'relu{i}')
    return named(self, nn.Dense(self.classes, name='classifier')(x), 'logits')


class LeNet5(nn.Module):
  """Two convolutions, two dense layers; named `pool1`, ..., `logits`.

  Attributes:
    image_shape: rows, columns and channels of an image.
    widths: channels of the convolutions.
    hidden: width of the dense layer before the last.
    classes: number of logits.
    padding: of the convolutions, 'VALID' as in Caffe, or 'SAME'; None is
      'VALID' where the image is large enough for it (16 pixels a side), so
      that 8 x 8 digits are padded.
    rectify: ReLU after each pooling too, which Caffe's form has not.
  """

  image_shape: tuple[int, int, int] = (28, 28, 1)
  widths: tuple[int, int] = (20, 50)
  hidden: int = 500
  classes: int = 10
  padding: str | None = None
  rectify: bool = False

  @nn.compact
  def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
    """Classifies images; arguments and errors are those of `LeNet300`."""
    del train
    check_images(images, shape=self.image_shape)
    small = min(self.image_shape[:2]) < 16
    padding = self.padding or ('SAME' if small else 'VALID')
    x = images
    for i, width in enumerate(self.widths, start=1):
      layer = conv(
        f'conv{i}',
        width,
        5,
        bias=True,
        padding=padding,
        kernel_init=_KERNEL_INIT,
      )
      x = nn.max_pool(layer(x), (2, 2), strides=(2, 2))
      x = named(self, nn.relu(x) if self.rectify else x, f'pool{i}')
    x = x.reshape(x.shape[0], -1)
    x = nn.Dense(self.hidden, kernel_init=_KERNEL_INIT, name='fc1')(x)
    x = named(self, nn.relu(x), 'relu1')
    return named(self, nn.Dense(self.classes, name='classifier')(x), 'logits')


def lenet300(**options) -> LeNet300:
  """LeNet-300-100: 266,610 parameters at 28 x 28, 50,610 at 8 x 8."""
  return LeNet300(**options)


def lenet5(**options) -> LeNet5:
  """LeNet-5 of Caffe: 431,080 parameters at 28 x 28, 131,080 at 8 x 8."""
  return LeNet5(**options)
