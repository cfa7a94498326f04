import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import graph
from compress.models import (
  IResNet,
  MobileFaceNet,
  SFace,
  iresnet18,
  iresnet34,
  iresnet50,
  iresnet100,
  mobilefacenet,
  mobilefacenet_quantface,
)
from tests.models.networks import images

TINY_IRESNET = IResNet(blocks=(1, 1, 1, 1), widths=(2, 3, 4, 5), features=6)
TINY_SFACE = SFace(stem=2, widths=(3, 4), strides=(4, 4), features=5)
TINY_MOBILE = MobileFaceNet(
  features=5,
  stem=2,
  widths=(2, 3, 3),
  expansions=((4, 3), (4, 3), (4, 3)),
  blocks=(1, 0, 1),
  head=6,
)


def shapes(module):
  batch = jax.ShapeDtypeStruct((1, 112, 112, 3), jnp.float32)
  return jax.eval_shape(module.init, jax.random.key(0), batch)


def seeded(module):
  """Returns variables drawn with numpy, which compiles nothing."""
  draw = np.random.default_rng(0)

  def fill(low):
    return lambda x: jnp.asarray(draw.uniform(low, 0.5, x.shape), x.dtype)

  variables = shapes(module)
  return {
    'params': jax.tree.map(fill(-0.5), variables['params']),
    'batch_stats': jax.tree.map(fill(0.1), variables['batch_stats']),
  }


def count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
  ('module', 'parameters', 'statistics', 'features'),
  [
    (iresnet18(), 24_025_600, 14_720, 512),
    (iresnet34(), 34_139_328, 25_856, 512),
    (iresnet50(), 43_590_848, 38_144, 512),
    (iresnet100(), 65_156_160, 69_632, 512),
    (SFace(), 9_642_880, 24_192, 128),
    (mobilefacenet(), 1_292_992, 0, 192),
    (mobilefacenet(batch_norm=True), 1_303_424, 20_864, 192),
    (mobilefacenet_quantface(), 1_003_136, 19_584, 128),
  ],
)
def test_parameter_counts(module, parameters, statistics, features):
  variables = shapes(module)
  assert count(variables['params']) == parameters
  assert count(variables.get('batch_stats', {})) == statistics
  batch = jax.ShapeDtypeStruct((3, 112, 112, 3), jnp.float32)
  embedding = jax.eval_shape(module.apply, variables, batch)
  assert embedding.shape == (3, features)
  assert embedding.dtype == jnp.float32


@pytest.mark.parametrize(
  ('module', 'macs'),
  [
    (iresnet18(), 2_609_954_816),
    (iresnet34(), 4_459_642_880),
    (iresnet50(), 6_309_330_944),
    (iresnet100(), 12_076_761_088 + 12_845_056),
  ],
)
def test_iresnet_macs(module, macs):
  assert sum(_macs_by_hand(module)) == macs


def _macs_by_hand(module):
  """Yields Cin * Cout * kernel area * output area of every layer."""
  grid, channels = 112, module.widths[0]
  yield 3 * channels * 9 * grid**2
  for width, blocks in zip(module.widths, module.blocks, strict=True):
    for block in range(blocks):
      yield channels * width * 9 * grid**2
      grid //= 2 if block == 0 else 1
      yield width * width * 9 * grid**2
      if block == 0:
        yield channels * width * grid**2
      channels = width
  yield channels * grid**2 * module.features


@pytest.mark.parametrize(
  ('module', 'convolutions', 'dense', 'names'),
  [
    (
      iresnet18(),
      21,
      1,
      {'stem/prelu', 'stage1/block0/prelu', 'stage4/block1/add', 'embedding'},
    ),
    (SFace(), 27, 1, {'stem/prelu', 'block13/prelu2', 'embedding'}),
    (
      mobilefacenet(),
      51,
      1,
      {'head/prelu', 'stage1/block1/add', 'stage3/block2/prelu1', 'embedding'},
    ),
  ],
)
def test_sites_and_names(module, convolutions, dense, names):
  batch = jax.ShapeDtypeStruct((1, 112, 112, 3), jnp.float32)
  traced = graph.trace(module.apply, shapes(module), batch)
  kinds = [site.kind for site in traced.sites]
  assert kinds.count('conv') == convolutions
  assert kinds.count('dot') == dense
  jaxpr = str(jax.make_jaxpr(module.apply)(shapes(module), batch))
  assert all(f'name={name}' in jaxpr for name in names)


@pytest.mark.parametrize('module', [TINY_IRESNET, TINY_SFACE, TINY_MOBILE])
def test_training_moves_statistics(module):
  x = jnp.asarray(images())
  variables = seeded(module)

  @jax.jit
  def train(variables):
    return module.apply(variables, x, train=True, mutable=['batch_stats'])

  embeddings, moved = train(variables)
  assert np.isfinite(embeddings).all()
  before = jax.tree.leaves(variables['batch_stats'])
  after = jax.tree.leaves(moved['batch_stats'])
  assert all(np.all(a != b) for a, b in zip(after, before, strict=True))


def test_gradients_are_finite_and_reach_every_parameter():
  x = jnp.asarray(images())
  variables = seeded(TINY_SFACE)

  @jax.jit
  @jax.grad
  def gradients(params):
    embeddings = TINY_SFACE.apply({**variables, 'params': params}, x)
    return embeddings.sum()

  for leaf in jax.tree.leaves(gradients(variables['params'])):
    assert np.isfinite(leaf).all()
    assert np.any(leaf != 0)


def test_dropout_acts_in_training_only():
  x = jnp.asarray(images(3))
  variables = seeded(TINY_SFACE)
  module = TINY_SFACE.clone(dropout=0.5)

  @jax.jit
  def train(key):
    return module.apply(
      variables, x, train=True, mutable=['batch_stats'], rngs={'dropout': key}
    )[0]

  keys = jax.random.split(jax.random.key(1), 8)
  embeddings = np.stack([train(key) for key in keys])
  assert len(np.unique(np.round(embeddings, 4), axis=0)) > 1
  np.testing.assert_array_equal(embeddings[0], train(keys[0]))
  still = jax.jit(module.apply)(variables, x)
  np.testing.assert_array_equal(still, jax.jit(TINY_SFACE.apply)(variables, x))


def test_folded_mobilefacenet_has_the_same_layers():
  folded = shapes(mobilefacenet())['params']
  trained = shapes(mobilefacenet(batch_norm=True))['params']

  def kernels(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(p): x.shape for p, x in leaves if x.ndim > 1}

  assert kernels(folded) == kernels(trained)
