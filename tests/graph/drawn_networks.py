"""Networks drawn from a seed, with channels coupled in every way at once."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from compress.models import PReLU


class Drawn(nn.Module):
  """Four blocks in a drawn order, then a flatten or a mean, and a head."""

  seed: int

  @nn.compact
  def __call__(self, x, train=False):
    rng = np.random.default_rng(self.seed)
    blocks = rng.permutation(
      [residual, dense, grouped, depthwise, halves, attention, padded, normed]
    )
    x = nn.Conv(int(rng.choice([4, 6])), (3, 3), name='stem')(x)
    for i, block in enumerate(blocks[:4]):
      x = block(x, f'b{i}', rng, train)
    if rng.random() < 0.5:
      x = x.reshape(x.shape[0], -1)
    else:
      x = x.mean((1, 2))
    return nn.Dense(3, name='head')(x)


def conv(features, name, size=3, **options):
  return nn.Conv(features, (size, size), name=name, **options)


def residual(x, name, rng, train):
  del train
  y = nn.relu(conv(int(rng.integers(3, 7)), f'{name}_in')(x))
  return x + conv(x.shape[-1], f'{name}_out', 1)(y)


def dense(x, name, rng, train):
  del train
  y = nn.silu(conv(int(rng.integers(2, 5)) * 2, f'{name}_conv')(x))
  return jnp.concatenate([x, y] if rng.random() < 0.5 else [y, x], -1)


def grouped(x, name, rng, train):
  del rng, train
  y = conv(8, f'{name}_in', 1)(x)
  y = conv(12, f'{name}_grouped', feature_group_count=4)(y)
  return conv(6, f'{name}_out', 1)(nn.relu(y))


def depthwise(x, name, rng, train):
  del train
  times = int(rng.integers(1, 3))
  channels = x.shape[-1]
  x = PReLU(name=f'{name}_prelu')(x)
  return conv(
    times * channels, f'{name}_depthwise', feature_group_count=channels
  )(x)


def halves(x, name, rng, train):
  del train
  a, b = jnp.split(conv(8, f'{name}_both')(x), 2, -1)
  if rng.random() < 0.5:
    return a * nn.sigmoid(b)
  return jnp.concatenate([conv(4, f'{name}_a')(a), nn.tanh(b)], -1)


def attention(x, name, rng, train):
  """Two heads of three; joint or separate projections."""
  del train
  tokens = x.reshape(x.shape[0], -1, x.shape[-1])
  if rng.random() < 0.5:
    joint = nn.Dense(18, name=f'{name}_qkv')(tokens)
    joint = joint.reshape(*joint.shape[:2], 3, 2, 3)
    q, k, v = (joint[:, :, i] for i in range(3))
  else:
    q, k, v = (
      nn.DenseGeneral((2, 3), name=f'{name}_{part}')(tokens) for part in 'qkv'
    )
  weights = nn.softmax(jnp.einsum('bqhd,bkhd->bhqk', q, k) / jnp.sqrt(3.0))
  y = jnp.einsum('bhqk,bkhd->bqhd', weights, v)
  y = nn.Dense(x.shape[-1], name=f'{name}_out')(y.reshape(*y.shape[:2], -1))
  return x + y.reshape(x.shape)


def padded(x, name, rng, train):
  """A shortcut without weights: fewer pixels, more channels, zeros."""
  del train
  more = int(rng.integers(1, 4))
  y = conv(x.shape[-1] + more, f'{name}_conv', strides=(2, 2))(x)
  return y + jnp.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (1, more - 1)))


def normed(x, name, rng, train):
  del rng
  x = nn.BatchNorm(use_running_average=not train, name=f'{name}_bn')(x)
  return nn.max_pool(nn.relu(x), (2, 2), padding='SAME')


def randomised(variables, seed=7, dtype=None):
  """Leaves drawn anew, variances positive."""
  rng = np.random.default_rng(seed)

  def draw(path, leaf):
    noise = rng.standard_normal(leaf.shape)
    name = jax.tree_util.keystr(path)
    if 'var' in name or 'scale' in name:
      noise = 0.5 + np.abs(noise)
    elif leaf.ndim > 1:
      noise /= np.sqrt(np.prod(leaf.shape[:-1]))
    else:
      noise *= 0.3
    return jnp.asarray(noise, dtype or leaf.dtype)

  return jax.tree_util.tree_map_with_path(draw, variables)
