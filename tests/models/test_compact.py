"""Compact networks: exact counts, names, folding, channels, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import graph, models
from compress.errors import InputError
from compress.models.doubly_convolutional import crops
from compress.models.squeezenet import ceil_pool

BLOCK = models.InceptionWidths(2, 2, 3, 1, 2, 2)
SMALL, FACE = (8, 8, 2), (112, 112, 3)
TINY = {
  'squeezenet': models.SqueezeNet(
    stem=3, squeezed=(1, 2), pools=(0, 1), classes=4, small=True
  ),
  'mobilenet': models.MobileNet(
    stem=3, widths=(4, 5), strides=(2, 1), classes=4, small=True
  ),
  'googlenet': models.GoogLeNet(
    stem=(2, 2, 3), stages=((BLOCK,), (BLOCK,)), classes=4, small=True
  ),
  'doubly': models.DoublyConvNet(widths=(3, 2), layers=1, classes=4),
  'wide': models.WideResNet((1, 1), (3, 4), 4, stem=3),
  'shuffle': models.ShuffleFaceNet(
    widths=(4, 6), units=(2, 1), stem=3, head=4, features=5
  ),
  'varg': models.VarGFaceNet(
    stem=4, widths=(4, 8), units=(2, 1), head=8, features=5, group_width=2
  ),
}
FACES = ('shuffle', 'varg')


def image_shape(name):
  return FACE if name in FACES else SMALL


def shapes(module, shape):
  batch = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
  return jax.eval_shape(module.init, jax.random.key(0), batch), batch


def count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def drawn(name, batch=1):
  """Returns variables and images drawn with numpy, which compiles nothing."""
  rng = np.random.default_rng(0)
  scale, center = (60.0, 127.5) if name in FACES else (1.0, 0.0)
  images = rng.normal(size=(batch, *image_shape(name))) * scale + center
  variables, _ = shapes(TINY[name], image_shape(name))

  def fill(path, leaf):
    positive = graph.path_string(path).endswith(('var', 'scale'))
    values = rng.uniform(0.5 if positive else -0.5, 1.0, leaf.shape)
    return jnp.asarray(values, leaf.dtype)

  filled = jax.tree_util.tree_map_with_path(fill, variables)
  return filled, jnp.asarray(images, jnp.float32)


IMAGENET, CIFAR = (224, 224, 3), (32, 32, 3)


@pytest.mark.parametrize(
  ('module', 'shape', 'parameters', 'outputs'),
  [
    (models.squeezenet(), IMAGENET, 1_248_424, 1000),
    (models.squeezenet11(), IMAGENET, 1_235_496, 1000),
    (models.mobilenet(), IMAGENET, 4_231_976, 1000),
    (models.mobilenet(width=0.75), IMAGENET, 2_585_560, 1000),
    (models.mobilenet(width=0.5), IMAGENET, 1_331_592, 1000),
    (models.mobilenet(width=0.25), IMAGENET, 470_072, 1000),
    (models.googlenet(), IMAGENET, 6_998_552, 1000),
    (models.doubly_convnet(), CIFAR, 1_319_690, 10),
    (models.doubly_convnet(meta_size=3), CIFAR, 743_562, 10),
    (models.wide_resnet(16, 1, classes=100), CIFAR, 180_916, 100),
    (models.wide_resnet(16, 2, classes=100), CIFAR, 703_284, 100),
    (models.wide_resnet(16, 4, classes=100), CIFAR, 2_772_020, 100),
    (models.wide_resnet(40, 1, classes=100), CIFAR, 569_780, 100),
    (models.wide_resnet(40, 2, classes=100), CIFAR, 2_255_156, 100),
    (models.wide_resnet(28, 10, classes=100), CIFAR, 36_536_884, 100),
    (models.shufflefacenet(width=0.5), FACE, 525_510, 128),
    (models.shufflefacenet(), FACE, 1_437_322, 128),
    (models.shufflefacenet(width=1.5), FACE, 2_662_342, 128),
    (models.shufflefacenet(width=2.0), FACE, 4_527_242, 128),
    (models.vargfacenet(), FACE, 5_198_292, 512),
  ],
)
def test_counts_are_exact(module, shape, parameters, outputs):
  variables, _ = shapes(module, shape)
  assert count(variables['params']) == parameters
  batch = jax.ShapeDtypeStruct((3, *shape), jnp.float32)
  out = jax.eval_shape(module.apply, variables, batch)
  assert out.shape == (3, outputs)
  assert out.dtype == jnp.float32


@pytest.mark.parametrize(
  ('width', 'macs'),
  [
    (1.0, 568_740_352),
    (0.75, 325_400_448),
    (0.5, 149_497_088),
    (0.25, 41_030_272),
  ],
)
def test_mobilenet_macs(width, macs):
  module = models.mobilenet(width=width)
  variables, image = shapes(module, IMAGENET)
  assert graph.cost(graph.trace(module.apply, variables, image)).macs == macs


def test_inception_blocks_have_the_counts_of_the_paper():
  found = [
    count(tree)
    for name, tree in shapes(models.googlenet(), IMAGENET)[0]['params'].items()
    if 'block' in name
  ]
  assert found == [
    *(163_696, 388_736, 376_176, 449_160, 510_104, 605_376),
    *(868_352, 1_043_456, 1_444_080),
  ]


@pytest.mark.parametrize(
  ('name', 'sites'),
  [
    ('squeezenet', {'fire2/expand3', 'fire1/squeeze', 'fire2/concat'}),
    ('mobilenet', {'conv', 'block2/depthwise', 'block1/relu2', 'pool'}),
    ('googlenet', {'stem3', 'stage1_block0/five', 'stage2_block0/concat'}),
    ('doubly', {'relu1_1', 'pool'}),
    ('wide', {'stem', 'stage2/block0/shortcut_conv', 'stage1/block0/add'}),
    (
      'shuffle',
      {'stage1_unit1/branch/conv2', 'stage2_unit0/concat', 'pool/conv1'},
    ),
    (
      'varg',
      {
        'stage1_unit1/excitation/gate',
        'stage2_unit0/branch2/group',
        'stage1_unit1/add',
        'pool',
      },
    ),
  ],
)
def test_sites_and_names(name, sites):
  module = TINY[name]
  traced = graph.trace(module.apply, *shapes(module, image_shape(name)))
  names = {site.name for site in (*traced.sites, *traced.names)}
  last = {'embedding', 'fc'} if name in FACES else {'classifier', 'logits'}
  assert sites | last <= names


@pytest.mark.parametrize('name', TINY)
def test_gradients_reach_all(name):
  module = TINY[name]
  variables, images = drawn(name, batch=4)

  @jax.jit
  def gradient(params):
    def loss(params):
      out, moved = module.apply(
        {**variables, 'params': params},
        images,
        train=True,
        mutable=['batch_stats'],
      )
      target = jnp.cos(jnp.arange(out.size, dtype=jnp.float32))
      return (out * target.reshape(out.shape)).sum(), (out, moved)

    return jax.grad(loss, has_aux=True)(params)

  gradients, (out, moved) = gradient(variables['params'])
  assert np.isfinite(out).all()
  for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
    where = graph.path_string(path)
    assert np.isfinite(leaf).all(), where
    # The one hidden unit of a tiny excitation may be positive everywhere.
    assert np.any(leaf != 0) or 'excitation/prelu' in where, where
  before = jax.tree.leaves(variables.get('batch_stats', {}))
  after = jax.tree.leaves(moved.get('batch_stats', {}))
  assert len(before) == len(after)
  assert all(np.any(a != b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize('name', TINY)
def test_folds(name):
  module = TINY[name]
  variables, images = drawn(name, batch=2)
  folded = graph.fold(module.apply, variables, images)
  found = jax.jit(folded.apply)(folded.variables, images)
  expected = jax.jit(module.apply)(variables, images)
  np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
  ('name', 'sizes'),
  [
    ('squeezenet', {'stem': 3, 'fire1/expand1': 4, 'fire2/squeeze_conv': 2}),
    ('mobilenet', {'conv': 3, 'block1/pointwise': 4, 'block2/pointwise': 5}),
    ('googlenet', {'stem3': 3, 'stage1_block0/three': 3}),
    ('doubly', {'conv1_1': 3, 'conv2_1': 2}),
    ('wide', {'stem': 3, 'stage1/block0/conv1': 3, 'stage2/block0/conv1': 4}),
    ('shuffle', {'stage1_unit1/branch/conv1': 2, 'head/conv1': 4}),
    ('varg', {'stage2_unit0/separable/pointwise': 8, 'neck': 4}),
  ],
)
def test_channels_leave_together(name, sizes):
  module = TINY[name]
  traced = graph.trace(module.apply, *shapes(module, image_shape(name)))
  channels = graph.channels(traced)
  assert not channels.unknown
  found = {group.name: group.size for group in channels.groups}
  assert sizes.items() <= found.items()


def test_crops_share_taps():
  meta = jnp.arange(4 * 4 * 2 * 3, dtype=jnp.float32).reshape(4, 4, 2, 3)
  found = crops(meta, size=3).reshape(3, 3, 2, 3, 2, 2)
  np.testing.assert_array_equal(found[..., 1, 0], meta[1:, :3])
  np.testing.assert_array_equal(found[:-1, ..., 1, :], found[1:, ..., 0, :])
  np.testing.assert_array_equal(found[:, :-1, ..., 1], found[:, 1:, ..., 0])
  np.testing.assert_array_equal(crops(meta, size=4), meta)
  uses = jax.grad(lambda meta: crops(meta, size=3).sum())(meta)
  np.testing.assert_array_equal(uses[0, :, 0, 0], [1, 2, 2, 1])
  np.testing.assert_array_equal(uses[1, :, 0, 0], [2, 4, 4, 2])


def test_doubly_convolutional_layer_pools_its_crops():
  x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 5, 2)), 'float32')
  layer = models.DoublyConv(3)
  kernel = np.random.default_rng(1).normal(size=(4, 4, 2, 3))
  variables = {'params': {'kernel': jnp.asarray(kernel, jnp.float32)}}
  pooled = layer.apply(variables, x)
  whole = layer.clone(pool=False).apply(variables, x)
  assert whole.shape == (2, 5, 5, 12)
  np.testing.assert_array_equal(pooled, whole.reshape(2, 5, 5, 3, 4).max(-1))
  plain = jax.lax.conv_general_dilated(
    x,
    variables['params']['kernel'][1:, :3],
    (1, 1),
    'SAME',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
  np.testing.assert_allclose(whole[..., 2::4], plain, rtol=1e-5, atol=1e-5)


def test_channel_shuffle():
  x = jnp.arange(6)[None]
  shuffled = models.channel_shuffle(x, groups=2)
  np.testing.assert_array_equal(shuffled, [[0, 3, 1, 4, 2, 5]])
  np.testing.assert_array_equal(models.channel_shuffle(shuffled, groups=3), x)


def test_ceil_pool_rounds_up():
  for size, expected in ((1, 1), (2, 1), (3, 1), (4, 2), (54, 27), (109, 54)):
    batch = jax.ShapeDtypeStruct((1, size, size, 1), jnp.float32)
    assert jax.eval_shape(ceil_pool, batch).shape[1] == expected


def test_wrong_input_says_what_is_right():
  face = jnp.zeros((1, *FACE))
  for module, image, message in (
    (TINY['squeezenet'], jnp.zeros((8, 8, 1)), r'\[B, any, any, any\]'),
    (TINY['wide'], jnp.zeros((1, 8, 8, 1), jnp.uint8), 'float32'),
    (TINY['doubly'].clone(size=5), jnp.zeros((1, 8, 8, 1)), '1 to 4'),
    (TINY['shuffle'], jnp.zeros((1, *SMALL)), '112'),
    (TINY['shuffle'].clone(widths=(4, 5)), face, 'even'),
    (TINY['varg'].clone(stem=3), face, 'multiples of 2'),
  ):
    with pytest.raises(InputError, match=message):
      jax.eval_shape(module.init, jax.random.key(0), image)
  with pytest.raises(InputError, match='divisor'):
    models.channel_shuffle(jnp.zeros((1, 5)), groups=2)
  with pytest.raises(ValueError, match='6n'):
    models.wide_resnet(15, 1)
  with pytest.raises(ValueError, match='1.5'):
    models.shufflefacenet(width=3.0)
  with pytest.raises(ValueError, match='above 0'):
    models.mobilenet(width=0.0)
