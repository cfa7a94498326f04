import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import graph, models
from compress.errors import InputError
from compress.models.resnet import shortcut_a

TINY = {
  'lenet300': models.LeNet300((8, 8, 1), widths=(6, 5), classes=4),
  'lenet5': models.LeNet5((8, 8, 1), widths=(2, 3), hidden=5, classes=4),
  'cifar': models.ResNet((1, 1), (2, 5), 4, small=True, option_a=True),
  'imagenet': models.ResNet((1, 1), (2, 3), 4),
  'bottleneck': models.ResNet((1, 1), (2, 3), 4, bottleneck=True),
  'vit': models.VisionTransformer(
    (8, 8, 1), patch=4, features=6, blocks=2, heads=2, hidden=7, classes=4
  ),
}


def shapes(module, image_shape):
  batch = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
  return jax.eval_shape(module.init, jax.random.key(0), batch), batch


def count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
  ('module', 'image_shape', 'parameters', 'macs'),
  [
    (models.lenet300(), (28, 28, 1), 266_610, 266_200),
    (models.lenet300(image_shape=(8, 8, 1)), (8, 8, 1), 50_610, 50_200),
    (models.lenet5(), (28, 28, 1), 431_080, 2_293_000),
    (models.lenet5(image_shape=(8, 8, 1)), (8, 8, 1), 131_080, 537_000),
    (models.cifar_resnet8(), (32, 32, 3), 75_290, 12_239_488),
    (models.cifar_resnet20(), (32, 32, 3), 269_722, 40_551_040),
    (models.cifar_resnet32(), (32, 32, 3), 464_154, 68_862_592),
    (models.cifar_resnet56(), (32, 32, 3), 853_018, 125_485_696),
    (models.resnet18(), (224, 224, 3), 11_689_512, 1_814_073_344),
    (models.resnet34(), (224, 224, 3), 21_797_672, 3_663_761_408),
    (models.resnet50(), (224, 224, 3), 25_557_032, 4_089_184_256),
    (models.vit_b16(), (224, 224, 3), 86_567_656, 17_563_828_224),
  ],
)
def test_counts_are_exact(module, image_shape, parameters, macs):
  variables, image = shapes(module, image_shape)
  assert count(variables['params']) == parameters
  traced = graph.trace(module.apply, variables, image)
  cost = graph.cost(traced)
  assert cost.parameters == parameters
  assert cost.macs == macs


@pytest.mark.parametrize(
  ('name', 'sites'),
  [
    ('lenet300', {'fc1', 'relu1', 'fc2', 'relu2'}),
    ('lenet5', {'conv1', 'pool1', 'conv2', 'pool2', 'fc1', 'relu1'}),
    (
      'cifar',
      {
        'stem/conv',
        'stem/relu',
        'stage2/block0/conv1',
        'stage2/block0/relu1',
        'stage2/block0/conv2',
        'stage2/block0/add',
        'stage2/block0/relu2',
        'pool',
      },
    ),
    ('imagenet', {'stage2/block0/shortcut_conv', 'stage1/block0/add'}),
    ('bottleneck', {'stage1/block0/shortcut_conv', 'stage1/block0/relu3'}),
    (
      'vit',
      {
        'patch',
        'block0/attention/query',
        'block1/attention/out',
        'block1/attention/weights',
        'block1/mlp/dense1',
        'block1/mlp/gelu',
        'block0/add2',
        'class',
      },
    ),
  ],
)
def test_sites_and_names(name, sites):
  module = TINY[name]
  variables, image = shapes(module, (8, 8, 1))
  traced = graph.trace(module.apply, variables, image)
  names = {site.name for site in (*traced.sites, *traced.names)}
  assert sites | {'classifier', 'logits'} <= names


@pytest.mark.parametrize(
  'name', sorted(TINY.keys() - {'bottleneck', 'imagenet'})
)
def test_images_become_logits_and_gradients_reach_all(name):
  module = TINY[name]
  images = jnp.asarray(
    np.random.default_rng(0).normal(size=(6, 8, 8, 1)), jnp.float32
  )
  variables = jax.jit(module.init)(jax.random.key(0), images)

  @jax.jit
  def gradient(params):
    def loss(params):
      logits, moved = module.apply(
        {**variables, 'params': params},
        images,
        train=True,
        mutable=['batch_stats'],
      )
      target = jax.nn.one_hot(jnp.arange(6) % 4, 4)
      return -(jax.nn.log_softmax(logits) * target).sum(), (logits, moved)

    return jax.grad(loss, has_aux=True)(params)

  gradients, (logits, moved) = gradient(variables['params'])
  assert logits.shape == (6, 4)
  assert logits.dtype == jnp.float32
  zero = [
    graph.path_string(path)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients)
    if not np.any(leaf != 0)
  ]
  # Keys shift all scores of a query alike, which softmax does not see.
  assert all('key/bias' in path for path in zero)
  before = jax.tree.leaves(variables.get('batch_stats', {}))
  after = jax.tree.leaves(moved.get('batch_stats', {}))
  assert len(before) == len(after)
  assert all(np.any(a != b) for a, b in zip(before, after, strict=True))


def test_lenet5_pads_small_images_only():
  small, _ = shapes(models.lenet5(image_shape=(8, 8, 1)), (8, 8, 1))
  assert small['params']['fc1']['kernel'].shape == (2 * 2 * 50, 500)
  large, _ = shapes(models.lenet5(), (28, 28, 1))
  assert large['params']['fc1']['kernel'].shape == (4 * 4 * 50, 500)


def test_shortcut_a_strides_and_pads():
  x = jnp.arange(1.0, 17.0).reshape(1, 4, 4, 1)
  found = shortcut_a(x, 4, 2)
  np.testing.assert_array_equal(found[0, :, :, 1], [[1, 3], [9, 11]])
  np.testing.assert_array_equal(found[..., [0, 2, 3]], 0)
  np.testing.assert_array_equal(shortcut_a(x, 1, 1), x)


def test_attention_by_hand():
  module = TINY['vit']
  images = jnp.ones((1, 8, 8, 1))
  variables = jax.jit(module.init)(jax.random.key(1), images)
  params = jax.tree.map(np.asarray, variables['params'])

  def norm(x, p):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-6)
    return x * p['scale'] + p['bias']

  def gelu(x):
    return np.asarray(jax.nn.gelu(x, approximate=False))

  kernel = params['patch']['kernel'].reshape(16, 6)
  x = np.broadcast_to(np.ones((4, 16)) @ kernel, (4, 6))
  x = np.concatenate([params['class_token'][0], x])
  x = x + params['positions'][0]
  for i in range(2):
    p = params[f'block{i}']
    a, y = p['attention'], norm(x, p['norm1'])
    q, k, v = (
      np.einsum('nd,dhe->hne', y, a[name]['kernel'])
      for name in ('query', 'key', 'value')
    )
    w = np.exp(q @ k.transpose(0, 2, 1) / np.sqrt(3))
    heads = w / w.sum(-1, keepdims=True) @ v
    x = x + np.einsum('hne,hed->nd', heads, a['out']['kernel'])
    hidden = gelu(norm(x, p['norm2']) @ p['mlp']['dense1']['kernel'])
    x = x + hidden @ p['mlp']['dense2']['kernel']
  expected = norm(x, params['norm'])[0] @ params['classifier']['kernel']
  found = jax.jit(module.apply)(variables, images)[0]
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_wrong_input_says_what_is_right():
  for module, image, message in (
    (TINY['lenet300'], jnp.zeros((1, 9, 8, 1)), r'\[B, 8, 8, 1\]'),
    (TINY['cifar'], jnp.zeros((8, 8, 1)), r'\[B, any, any, any\]'),
    (TINY['lenet5'], jnp.zeros((1, 8, 8, 1), jnp.uint8), 'float32'),
    (TINY['vit'].clone(patch=3), jnp.zeros((1, 8, 8, 1)), 'divide'),
    (TINY['vit'].clone(heads=4), jnp.zeros((1, 8, 8, 1)), '4 heads'),
  ):
    with pytest.raises(InputError, match=message):
      jax.eval_shape(module.init, jax.random.key(0), image)
  with pytest.raises(ValueError, match='6n'):
    models.cifar_resnet(9)
