"""A face network of one residual block, and photographs, for the study's tests.

Built from the parts of IResNet, so that it has what those have: BatchNorm that
folds and BatchNorm that does not, PReLU, a projected shortcut, named values.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from compress.models.iresnet import Stage, Stem
from compress.models.layers import FixedScaleBatchNorm, batch_norm, named
from experiments.faces.networks import Network, from_module

SIDE, FEATURES = 16, 8
# Sites in order, with their multiply-adds for one image.
MACS = {
  'stem/conv': 16 * 16 * 4 * 9 * 3,
  'stage1/block0/conv1': 16 * 16 * 6 * 9 * 4,
  'stage1/block0/conv2': 8 * 8 * 6 * 9 * 6,
  'stage1/block0/shortcut_conv': 8 * 8 * 6 * 4,
  'fc': 4 * 4 * 6 * 8,
}


class SmallNetwork(nn.Module):
  @nn.compact
  def __call__(self, images, train=False):
    x = (images - 127.5) / 127.5
    x = Stem(4, 1e-5, name='stem')(x, train=train)
    x = Stage(6, 1, 1e-5, name='stage1')(x, train=train)
    x = batch_norm('bn', train=train, epsilon=1e-5)(x)
    x = x.reshape(-1, 4, 2, 4, 2, x.shape[-1]).mean((2, 4))
    x = nn.Dense(FEATURES, name='fc')(x.reshape(x.shape[0], -1))
    norm = FixedScaleBatchNorm(
      use_running_average=not train, momentum=0.9, name='features_bn'
    )
    return named(self, norm(x), 'embedding')


def photographs(people=4, each=4, *, side=SIDE, seed=0):
  """Returns uint8 [people * each, side, side, 3] and int identities.

  Photographs of one person resemble each other.
  """
  rng = np.random.default_rng(seed)
  persons = rng.integers(0, 200, (people, 1, side, side, 3))
  noise = rng.integers(0, 56, (people, each, side, side, 3))
  images = (persons + noise).astype(np.uint8)
  images = images.reshape(-1, side, side, 3)
  return images, np.repeat(np.arange(people, dtype=np.int32), each)


@functools.cache
def small_network() -> Network:
  module = SmallNetwork()
  images = jnp.zeros((1, SIDE, SIDE, 3))
  variables = jax.jit(module.init)(jax.random.key(0), images)
  rng = np.random.default_rng(1)

  def statistics(path, leaf):
    low, high = (0.5, 2.0) if path[-1].key == 'var' else (-0.3, 0.3)
    return jnp.asarray(rng.uniform(low, high, leaf.shape), leaf.dtype)

  stats = jax.tree_util.tree_map_with_path(statistics, variables['batch_stats'])
  return from_module(
    'small',
    module,
    {**variables, 'batch_stats': stats},
    {'weights': 'none'},
    image_shape=(SIDE, SIDE, 3),
  )


def teacher_embeddings(images):
  """The network's embeddings, [N, 2, FEATURES]: as is, and mirrored."""
  network = small_network()
  run = jax.jit(network.apply)
  views = [images, images[:, :, ::-1]]
  return np.stack(
    [np.asarray(run(network.variables, v.astype(np.float32))) for v in views],
    axis=1,
  )
