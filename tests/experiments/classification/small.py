"""A small data set and networks that train in a second."""

import functools

import flax.linen as nn
import numpy as np

from compress import data
from compress.models.layers import batch_norm, conv
from experiments.classification import networks

SHAPE = 4, 4, 1


class SmallNetwork(nn.Module):
  @nn.compact
  def __call__(self, images, train=False):
    x = conv('conv', 4, 3)(images)
    x = nn.relu(batch_norm('bn', train=train, epsilon=1e-5)(x))
    return nn.Dense(3, name='classifier')(x.reshape(x.shape[0], -1))


def dataset(count=96, seed=0):
  """Classes 0, 1, 2: a bright row on a noisy ground."""
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, 3, count).astype(np.int32)
  images = rng.integers(0, 120, (count, *SHAPE))
  images[np.arange(count), labels] += 100
  return data.ImageDataset(
    'rows', images.astype(np.uint8), labels, ('a', 'b', 'c')
  )


@functools.cache
def network():
  return networks.from_module('small', SmallNetwork(), image_shape=SHAPE)


@functools.cache
def scaling():
  return data.pixel_scaling(dataset())
