import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from compress import graph as graph_lib
from compress.errors import InputError
from compress.graph import _jaxpr
from compress.models import resnet, vit
from compress.models.iresnet import IResNet
from tests.graph import channel_models as models
from tests.graph.channel_models import shapes

DEPTHS = {
  18: (2, 2, 2, 2),
  34: (3, 4, 6, 3),
  50: (3, 4, 14, 3),
  100: (3, 13, 30, 3),
}


def traced(net, *shape):
  (x,) = shapes(shape)
  variables = jax.eval_shape(net.init, jax.random.key(0), x)
  return graph_lib.trace(net.apply, variables, x)


def of(function, leaves, *inputs):
  leaves = {name: shapes(size)[0] for name, size in leaves.items()}
  graph = graph_lib.trace(function, leaves, *shapes(*inputs))
  return graph_lib.channels(graph)


def table(channels):
  """Name to size and, for each axis of a leaf, how many entries leave."""
  return {
    group.name: (
      group.size,
      {f'{m.path}:{m.axis}': m.indices.shape[1] for m in group.members},
    )
    for group in channels.groups
  }


def first(channels, share, only=lambda group: True):
  """Keeps the first channels of groups, a share of them rounded down."""
  return {
    group.name: np.arange(group.size) < int(group.size * share)
    for group in channels.groups
    if only(group)
  }


def kept_shapes(graph, survivors):
  """Shape of every leaf after removal."""
  leaves = survivors.leaves
  return {
    path: tuple(
      len(leaves.get(path, {}).get(axis, range(size)))
      for axis, size in enumerate(shape)
    )
    for path, shape in graph.weights.items()
  }


def parameters(sizes):
  return sum(
    int(np.prod(shape)) for path, shape in sizes.items() if 'params/' in path
  )


def array_shapes(jaxpr, path, axes_of=None):
  """Shapes of all results in nested jaxprs, as they are or as they survive."""
  out = []
  for i, eqn in enumerate(_jaxpr.opened(jaxpr).eqns):
    for var in eqn.outvars:
      shape = var.aval.shape
      if axes_of is not None:
        axes = zip(axes_of(path, var), shape, strict=True)
        shape = tuple(n if kept is None else len(kept) for kept, n in axes)
      out.append((eqn.primitive.name, shape))
    for key, body, _ in _jaxpr.bodies(eqn):
      out += array_shapes(body, (*path, i, key), axes_of)
  return out


@pytest.mark.parametrize(
  'depth, groups, params, macs',
  [
    (18, 13, 17_388_240, 1_664_410_391),
    (34, 21, 23_827_372, 2_839_700_969),
    (50, 29, 29_831_500, 4_014_270_953),
    (100, 54, 43_531_630, None),
  ],
)
def test_iresnet_loses_a_fifth_of_its_channels(depth, groups, params, macs):
  graph = traced(IResNet(DEPTHS[depth]), 1, 112, 112, 3)
  channels = graph_lib.channels(graph)
  assert len(channels.groups) == groups
  assert not channels.unknown
  assert {tag for group in channels.groups for tag in group.tags} == set()
  survivors = channels.surviving(first(channels, 0.8))
  sizes = kept_shapes(graph, survivors)
  assert parameters(sizes) == params
  if macs is None:
    return
  small = traced(
    IResNet(DEPTHS[depth], widths=(51, 102, 204, 409)), 1, 112, 112, 3
  )
  assert sizes == small.weights
  assert graph_lib.cost(small).macs == macs


def test_names_are_first_producers():
  channels = graph_lib.channels(traced(IResNet((1, 1, 1, 1)), 1, 112, 112, 3))
  names = ['stem/conv']
  for stage in range(1, 5):
    names += [f'stage{stage}/block0/conv1', f'stage{stage}/block0/conv2']
  assert [group.name for group in channels.groups] == names
  assert channels.frozen['params/fc/kernel'] == {1: 'an output of the model'}
  group = channels.groups[-1]
  (fc,) = [m for m in group.members if m.path == 'params/fc/kernel']
  assert (fc.axis, fc.role) == (0, 'in')
  rows = np.arange(49) * 512 + np.arange(512)[:, None]
  np.testing.assert_array_equal(fc.indices, rows)


def test_resnet18():
  graph = traced(resnet.resnet18(), 1, 224, 224, 3)
  assert graph_lib.cost(graph)[:2] == (11_689_512, 1_814_073_344)
  channels = graph_lib.channels(graph)
  assert len(channels.groups) == 12
  sizes = kept_shapes(graph, channels.surviving(first(channels, 0.5)))
  assert parameters(sizes) == 3_055_880
  half = resnet.ResNet((2, 2, 2, 2), widths=(32, 64, 128, 256), classes=1000)
  small = traced(half, 1, 224, 224, 3)
  assert sizes == small.weights
  assert graph_lib.cost(small).macs == 483_149_824


def test_cifar_resnet_with_padded_shortcuts():
  graph = traced(resnet.cifar_resnet56(), 1, 32, 32, 3)
  assert graph_lib.cost(graph)[:2] == (853_018, 125_485_696)
  channels = graph_lib.channels(graph)
  assert len(channels.groups) == 30
  streams = [g for g in channels.groups if not g.name.endswith('conv1')]
  assert [(g.name, g.size) for g in streams] == [
    ('stem/conv', 16),
    ('stage2/block0/conv2', 16),
    ('stage3/block0/conv2', 32),
  ]


def test_vit():
  graph = traced(vit.vit_b16(), 1, 224, 224, 3)
  channels = graph_lib.channels(graph)
  halved = first(channels, 0.5, lambda group: group.size != 12)
  sizes = kept_shapes(graph, channels.surviving(halved))
  assert parameters(graph.weights) == 86_567_656
  assert parameters(sizes) == 22_050_664
  assert sizes['params/block0/attention/query/kernel'] == (384, 12, 32)


def test_toy_vit_has_nine_groups():
  channels = graph_lib.channels(traced(models.ToyViT(), 2, 16, 16, 3))
  found = [(g.name, g.size, set(g.tags)) for g in channels.groups]
  layers = [
    (f'attn{i}/{name}', size, set())
    for i in range(2)
    for name, size in (('query', 4), ('query#1', 12), ('value', 12))
  ]
  layers.insert(3, ('up0', 192, set()))
  assert found == [('patches', 48, {'norm'}), *layers, ('up1', 192, set())]
  heads, scores, values = channels.groups[1:4]
  assert [m.role for m in heads.members if 'out' in m.path] == ['in']
  assert {m.path.split('/')[2] for m in scores.members} == {'key', 'query'}
  assert {m.path.split('/')[2] for m in values.members} == {'value', 'out'}


def test_decoder_block():
  tokens = jax.ShapeDtypeStruct((2, 5), jnp.int32)
  graph = graph_lib.trace(models.decoder, models.decoder_leaves(), tokens)
  channels = graph_lib.channels(graph)
  stream = ('embedding:1', 'k:0', 'o:2', 'q:0', 'scale:0', 'v:0')
  assert table(channels) == {
    'embedding': (24, dict.fromkeys(stream, 1)),
    'q': (2, {'k:1': 1, 'o:0': 2, 'q:1': 2, 'v:1': 1}),
    'q#1': (2, {'o:0': 2, 'q:1': 2}),
    'q#2': (3, {'k:2': 2, 'q:2': 2}),
    'v': (6, {'o:1': 1, 'v:2': 1}),
  }
  heads, repeats, turned = channels.groups[1:4]
  assert [m.indices.tolist() for m in heads.members if m.path == 'q'] == [
    [[0, 1], [2, 3]]
  ]
  assert [m.indices.tolist() for m in repeats.members if m.path == 'q'] == [
    [[0, 2], [1, 3]]
  ]
  assert turned.members[0].indices.tolist() == [[0, 3], [1, 4], [2, 5]]
  assert turned.tags == {'constant'}
  assert channels.frozen == {'embedding': {0: 'indexed (gather)'}}


def test_fused_attention():
  leaves = {'qkv': (24, 72), 'out': (24, 8)}
  assert table(of(models.fused_attention, leaves, (2, 5, 24))) == {
    'qkv': (4, {'qkv:1': 18, 'out:0': 6}),
    'qkv#1': (6, {'qkv:1': 12, 'out:0': 4}),
  }


def test_split_attention_separates_scores_and_values():
  def attention(params, x):
    parts = jnp.split(x @ params['qkv'], 3, -1)
    q, k, v = (part.reshape(*x.shape[:2], 4, 6) for part in parts)
    scores = jax.nn.softmax(jnp.einsum('bthd,bshd->bhts', q, k), -1)
    y = jnp.einsum('bhts,bshd->bthd', scores, v)
    return y.reshape(*x.shape[:2], 24) @ params['out']

  leaves = {'qkv': (24, 72), 'out': (24, 8)}
  assert table(of(attention, leaves, (2, 5, 24))) == {
    'qkv': (4, {'qkv:1': 18, 'out:0': 6}),
    'qkv#1': (6, {'qkv:1': 8}),
    'qkv#2': (6, {'qkv:1': 4, 'out:0': 4}),
  }


def mlp(middle):
  def apply(p, x):
    return middle(p, x @ p['a']) @ p['b']

  return apply


def grouped(lhs, rhs):
  def apply(p, x):
    numbers = lax.conv_dimension_numbers(x.shape, p['a'].shape, (lhs, rhs, lhs))

    def conv(x, w, groups=1):
      return lax.conv_general_dilated(
        x,
        w,
        (1, 1),
        'SAME',
        dimension_numbers=numbers,
        feature_group_count=groups,
      )

    return conv(conv(conv(x, p['a']), p['g'], 2), p['b'])

  return apply


@pytest.mark.parametrize(
  'lhs, rhs', [('NHWC', 'HWIO'), ('NCHW', 'OIHW'), ('CHWN', 'IHWO')]
)
def test_grouped_convolution(lhs, rhs):
  def size(spec, **sizes):
    return tuple(sizes.get(axis, 3) for axis in spec)

  leaves = {
    'a': size(rhs, I=3, O=8),
    'g': size(rhs, I=4, O=6),
    'b': size(rhs, I=6, O=5),
  }
  i, o = rhs.index('I'), rhs.index('O')
  channels = of(grouped(lhs, rhs), leaves, size(lhs, N=2, H=8, W=8, C=3))
  assert table(channels) == {
    'a': (2, {f'a:{o}': 4, f'g:{o}': 3, f'b:{i}': 3}),
    'a#1': (4, {f'a:{o}': 2, f'g:{i}': 1}),
    'g': (3, {f'g:{o}': 2, f'b:{i}': 2}),
  }
  roles = {m.path: m.role for m in channels.groups[0].members}
  assert roles == {'a': 'out', 'b': 'in', 'g': 'out'}
  assert channels.groups[0].members[0].indices.tolist() == [
    [0, 1, 2, 3],
    [4, 5, 6, 7],
  ]


class Depthwise(nn.Module):
  multiplier: int

  @nn.compact
  def __call__(self, x):
    x = nn.Conv(4, (1, 1), name='a')(x)
    width = 4 * self.multiplier
    x = nn.Conv(width, (3, 3), feature_group_count=4, name='d')(x)
    return nn.Conv(3, (1, 1), name='b')(x)


def test_depthwise():
  found = table(graph_lib.channels(traced(Depthwise(1), 1, 8, 8, 3)))
  assert list(found) == ['a']
  assert found['a'][1]['params/d/kernel:3'] == 1
  found = table(graph_lib.channels(traced(Depthwise(2), 1, 8, 8, 3)))
  assert {name: size for name, (size, _) in found.items()} == {'a': 4, 'd': 2}
  assert found['a'][1]['params/d/kernel:3'] == 2
  assert found['d'][1]['params/d/kernel:3'] == 4


ALL = {'a:1': 1, 'b:0': 1}
STAYS = {}
SHAPES = {
  'same': (lambda p, y: y, {'a': (6, ALL)}),
  'transpose': (lambda p, y: y.T.T, {'a': (6, ALL)}),
  'rev': (lambda p, y: y[:, ::-1], {'a': (6, ALL)}),
  'mirrored sum': (
    lambda p, y: y + y[:, ::-1],
    {'a': (3, {'a:1': 2, 'b:0': 2})},
  ),
  'shifted concatenate': (
    lambda p, y: jnp.concatenate([y[:, 2:], y[:, :2]], 1),
    {'a': (6, ALL)},
  ),
  'gate': (
    lambda p, y: jnp.concatenate([y[:, :3] * jax.nn.sigmoid(y[:, 3:])] * 2, 1),
    {'a': (3, {'a:1': 2, 'b:0': 2})},
  ),
  'split': (
    lambda p, y: jnp.concatenate(jnp.split(y, [2], axis=1)[::-1], 1),
    {'a': (6, ALL)},
  ),
  'strided slice': (
    lambda p, y: jnp.concatenate([y[:, ::2], y[:, 1::2]], 1),
    {'a': (6, ALL)},
  ),
  'expanded and squeezed': (
    lambda p, y: y[:, None, :, None].squeeze((1, 3)),
    {'a': (6, ALL)},
  ),
  'heads and back': (
    lambda p, y: y.reshape(-1, 2, 3).reshape(-1, 6),
    {
      'a': (2, {'a:1': 3, 'b:0': 3}),
      'a#1': (3, {'a:1': 2, 'b:0': 2}),
    },
  ),
  'split in another way': (
    lambda p, y: (
      y.reshape(-1, 2, 3).reshape(-1, 6).reshape(-1, 3, 2).reshape(-1, 6)
    ),
    STAYS,
  ),
  'shuffled': (
    lambda p, y: y.reshape(-1, 2, 3).swapaxes(1, 2).reshape(-1, 6),
    {
      'a': (2, {'a:1': 3, 'b:0': 3}),
      'a#1': (3, {'a:1': 2, 'b:0': 2}),
    },
  ),
  'across axes': (
    lambda p, y: jnp.stack([y] * 3, 1).reshape(-1, 2, 9).reshape(-1, 6),
    STAYS,
  ),
  'sum of scalars': (lambda p, y: 2 * y + 1, {'a': (6, ALL)}),
  'mean': (lambda p, y: y - y.mean(1, keepdims=True), {'a': (6, ALL)}),
  'cumsum': (lambda p, y: jnp.cumsum(y, 1), STAYS),
  'sort': (lambda p, y: jnp.sort(y, 1), STAYS),
  'top_k': (
    lambda p, y: y + lax.top_k(y, 2)[0].sum(1, keepdims=True),
    STAYS,
  ),
  'argmax': (
    lambda p, y: y * jnp.argmax(y, 1, keepdims=True).astype(y.dtype),
    STAYS,
  ),
  'window along': (
    lambda p, y: lax.reduce_window(
      y, -jnp.inf, lax.max, (1, 3), (1, 1), 'SAME'
    ),
    STAYS,
  ),
  'window beside': (
    lambda p, y: lax.reduce_window(
      y, -jnp.inf, lax.max, (2, 1), (1, 1), 'SAME'
    ),
    {'a': (6, ALL)},
  ),
  'permuted by gather': (
    lambda p, y: y[:, np.array([1, 0, 3, 2, 5, 4])],
    {'b': (6, {'b:0': 1})},
  ),
  'rows by gather': (lambda p, y: y[np.array([1, 0])], {'a': (6, ALL)}),
  'dynamic row': (
    lambda p, y: lax.dynamic_slice(y, (0, 0), (1, 6)),
    {'a': (6, ALL)},
  ),
  'dynamic columns': (
    lambda p, y: jnp.tile(lax.dynamic_slice(y, (0, 1), (2, 3)), (1, 2)),
    STAYS,
  ),
  'written row': (
    lambda p, y: jnp.zeros((4, 6)).at[1:3].set(y),
    {'a': (6, ALL)},
  ),
  'written column': (lambda p, y: y.at[:, 1].set(0.0), STAYS),
  'updated rows': (
    lambda p, y: lax.dynamic_update_slice(jnp.zeros((4, 6)), y, (1, 0)),
    {'a': (6, ALL)},
  ),
  'compared with its index': (
    lambda p, y: jnp.where(jnp.arange(6)[None] < 3, y, 0.0),
    STAYS,
  ),
  'times its index': (
    lambda p, y: y * jnp.arange(6.0)[None],
    {'a': (6, ALL)},
  ),
  'constant': (
    lambda p, y: y * np.arange(6.0, dtype=np.float32)[None],
    {'a': (6, ALL)},
  ),
  'dropout': (
    lambda p, y: jnp.where(
      jax.random.bernoulli(jax.random.key(0), 0.5, y.shape), y, 0.0
    ),
    {'a': (6, ALL)},
  ),
  'fft': (lambda p, y: jnp.fft.fft(y).real, STAYS),
  'softmax': (lambda p, y: jax.nn.softmax(y, 1), {'a': (6, ALL)}),
  'remat': (jax.checkpoint(lambda p, y: jnp.sin(y)), {'a': (6, ALL)}),
  'cond': (
    lambda p, y: lax.cond(y[0, 0] > 0, jnp.sin, lambda z: z[:, ::-1], y),
    {'a': (2, {'a:1': 2, 'b:0': 2})},
  ),
  'switch on another': (
    lambda p, y: lax.cond(y.shape[0] > jnp.sum(p['s']), jnp.sin, jnp.cos, y),
    {'a': (6, ALL)},
  ),
  'while': (
    lambda p, y: lax.while_loop(lambda z: z[0, 0] < 0, jnp.sin, y),
    {'a': (5, ALL)},
  ),
  'fori': (
    lambda p, y: lax.fori_loop(0, 3, lambda i, z: z[:, ::-1] * 2, y),
    {'a': (3, {'a:1': 2, 'b:0': 2})},
  ),
}


@pytest.mark.parametrize('name', SHAPES)
def test_rules(name):
  middle, expected = SHAPES[name]
  channels = of(mlp(middle), {'a': (4, 6), 'b': (6, 5), 's': (3,)}, (2, 4))
  found = table(channels)
  found.pop('s', None)
  assert found == expected
  tags = {
    'mean': {'norm'},
    'softmax': {'norm'},
    'constant': {'constant'},
    'permuted by gather': {'constant'},
    'times its index': {'constant'},
  }
  for group in channels.groups:
    if group.name != 's':
      assert group.tags == tags.get(name, set())
  if not expected:
    assert set(channels.frozen['a']) >= {1}
  assert channels.unknown == ({'fft': ('a', 'b')} if name == 'fft' else {})


def test_reasons_travel():
  channels = of(
    mlp(lambda p, y: jnp.cumsum(y, 1) * 2 + y),
    {'a': (4, 6), 'b': (6, 5)},
    (2, 4),
  )
  assert channels.frozen['a'][1] == 'ordered (cumsum)'
  assert channels.frozen['b'] == {
    0: 'ordered (cumsum)',
    1: 'an output of the model',
  }


def test_a_picked_index_stays():
  def apply(p, x):
    y = x @ p['a']
    return (y @ p['b']) * y[:, 2:3]

  channels = of(apply, {'a': (4, 6), 'b': (6, 5)}, (2, 4))
  (group,) = channels.groups
  assert group.members[0].indices.ravel().tolist() == [0, 1, 3, 4, 5]
  assert channels.frozen['a'][1] == '1: picked by a constant index (slice)'


def test_padding_leaves_with_what_meets_it():
  def apply(p, x):
    y = jnp.pad(x @ p['a'], ((0, 0), (1, 2)))
    return (y + x @ p['c']) @ p['b']

  def alone(p, x):
    return jnp.pad(x @ p['a'], ((0, 0), (1, 2))) @ p['b']

  def ones(p, x):
    return jnp.pad(x @ p['a'], ((0, 0), (1, 2)), constant_values=1) @ p['b']

  leaves = {'a': (4, 6), 'b': (9, 5), 'c': (4, 9)}
  assert table(of(apply, leaves, (2, 4))) == {
    'a': (6, {'a:1': 1, 'b:0': 1, 'c:1': 1}),
    'c': (3, {'b:0': 1, 'c:1': 1}),
  }
  leaves = {'a': (4, 6), 'b': (9, 5)}
  assert table(of(alone, leaves, (2, 4))) == {
    'a': (6, {'a:1': 1, 'b:0': 1}),
    'b': (3, {'b:0': 1}),
  }
  assert table(of(ones, leaves, (2, 4))) == {}


def test_concatenated_layers_couple_by_part():
  def apply(p, x):
    return jnp.concatenate([x @ p['a'], x @ p['c']], 1) @ p['b']

  found = of(apply, {'a': (4, 3), 'b': (5, 2), 'c': (4, 2)}, (2, 4))
  assert table(found) == {
    'a': (3, {'a:1': 1, 'b:0': 1}),
    'c': (2, {'b:0': 1, 'c:1': 1}),
  }
  rows = found.groups[1].members[0]
  assert (rows.path, rows.indices.tolist()) == ('b', [[3], [4]])


@pytest.mark.parametrize('axes, step', [('NHWC', 1), ('NCHW', 6)])
def test_flatten(axes, step):
  def apply(p, x):
    y = jnp.einsum('bhwi,io->bhwo', x, p['a'])
    if axes == 'NCHW':
      y = y.transpose(0, 3, 1, 2)
    return y.reshape(len(y), -1) @ p['b']

  (group,) = of(apply, {'a': (3, 4), 'b': (24, 5)}, (2, 2, 3, 3)).groups
  rows = group.members[1].indices
  if axes == 'NHWC':
    expected = np.arange(4)[:, None] + 4 * np.arange(6)
  else:
    expected = np.arange(6) + step * np.arange(4)[:, None]
  np.testing.assert_array_equal(rows, expected)


class GroupNormed(nn.Module):
  @nn.compact
  def __call__(self, x):
    x = nn.Conv(16, (3, 3), name='a')(x)
    x = nn.relu(nn.GroupNorm(4, name='norm')(x))
    return nn.Conv(2, (1, 1), name='b')(x)


def test_group_norm_keeps_groups_apart():
  groups = graph_lib.channels(traced(GroupNormed(), 2, 4, 4, 3)).groups
  assert [(g.name, g.size, set(g.tags)) for g in groups] == [
    ('a', 4, set()),
    ('a#1', 4, {'norm'}),
  ]


def layer(p, y):
  z = jax.nn.relu(y @ p['up'])
  return y + z @ p['down']


STACKED = {'up': (3, 8, 6), 'down': (3, 6, 8), 'in': (4, 8), 'out': (8, 5)}
STACK_GROUPS = {
  'in': (8, {'in:1': 1, 'up:1': 1, 'down:2': 1, 'out:0': 1}),
  'up': (6, {'up:2': 1, 'down:1': 1}),
}


def scanned(p, x):
  layers = {'up': p['up'], 'down': p['down']}
  y = lax.scan(lambda y, q: (layer(q, y), y.sum(0)), x @ p['in'], layers)[0]
  return y @ p['out']


def test_scan_over_layers_shares_labels():
  channels = of(scanned, STACKED, (2, 4))
  assert table(channels) == STACK_GROUPS
  roles = {m.path: m.role for m in channels.groups[0].members}
  assert roles == {'in': 'out', 'up': 'in', 'down': 'out', 'out': 'in'}
  assert 'scan runs along' in channels.frozen['up'][0]


def test_nnx_and_plain_paths():
  class Net(nnx.Module):
    def __init__(self, rngs):
      self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
      self.norm = nnx.BatchNorm(4, use_running_average=True, rngs=rngs)
      self.fc = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
      return self.fc(nnx.relu(self.norm(self.conv(x))).mean((1, 2)))

  definition, state = nnx.split(nnx.eval_shape(lambda: Net(nnx.Rngs(0))))

  def apply(state, x):
    return nnx.merge(definition, state)(x)

  graph = graph_lib.trace(apply, state, *shapes((2, 6, 6, 3)))
  (group,) = graph_lib.channels(graph).groups
  assert (group.name, group.size, len(group.members)) == ('conv', 4, 7)


def test_gather_reads_features():
  def apply(p, tokens):
    return jnp.take(p['table'], tokens, axis=0) @ p['b']

  graph = graph_lib.trace(
    apply,
    {'table': shapes((9, 6))[0], 'b': shapes((6, 2))[0]},
    jax.ShapeDtypeStruct((2, 3), jnp.int32),
  )
  assert table(graph_lib.channels(graph)) == {
    'table': (6, {'table:1': 1, 'b:0': 1})
  }


def test_custom_derivatives_are_looked_into():
  @jax.custom_vjp
  def f(x):
    return jnp.sin(x)

  f.defvjp(lambda x: (f(x), x), lambda x, g: (g * jnp.cos(x),))

  @jax.custom_jvp
  def g(x):
    return jnp.cos(x)

  g.defjvps(lambda t, out, x: t)
  channels = of(mlp(lambda p, y: g(f(y))), {'a': (4, 6), 'b': (6, 5)}, (2, 4))
  assert table(channels) == {'a': (6, ALL)}


@pytest.mark.parametrize(
  'dense, small, shape',
  [
    (
      models.ToyViT(),
      models.ToyViT(dim=24, heads=2, hidden=96),
      (2, 16, 16, 3),
    ),
    (Depthwise(6), Depthwise(3), (1, 8, 8, 3)),
    (
      IResNet((1, 1, 1, 1), widths=(4, 8, 8, 12), features=6),
      IResNet((1, 1, 1, 1), widths=(2, 4, 4, 6), features=6),
      (1, 112, 112, 3),
    ),
  ],
)
def test_every_array_survives_at_the_size_of_the_smaller_model(
  dense, small, shape
):
  graph, expected = traced(dense, *shape), traced(small, *shape)
  channels = graph_lib.channels(graph)
  wide = {'ToyViT': 12, 'Depthwise': 4}.get(type(dense).__name__)
  keep = first(channels, 0.5, lambda group: group.size != wide)
  survivors = channels.surviving(keep)
  assert kept_shapes(graph, survivors) == expected.weights
  found = array_shapes(graph.jaxpr, (), survivors.axes)
  assert found == array_shapes(expected.jaxpr, ())
  # What is left has the same groups: removal changes no other membership.
  again = graph_lib.channels(expected)
  assert [(g.name, g.tags) for g in again.groups] == [
    (g.name, g.tags) for g in channels.groups
  ]
  for before, after in zip(channels.groups, again.groups, strict=True):
    assert after.size == keep.get(before.name, np.ones(before.size)).sum()
    uses = [
      [(m.path, m.axis, m.role) for m in g.members] for g in (before, after)
    ]
    assert uses[0] == uses[1]


def test_survivors_of_the_same_function_called_twice():
  f = jax.jit(lambda w, x: jnp.sin(x @ w))

  def apply(p, x):
    return f(p['b'], f(p['a'], x)) @ p['c']

  leaves = {name: shapes((4, 4))[0] for name in 'abc'}
  graph = graph_lib.trace(apply, leaves, *shapes((2, 4)))
  channels = graph_lib.channels(graph)
  keep = {'b': np.array([True, False, True, False])}
  survivors = channels.surviving(keep)
  jaxpr = _jaxpr.opened(graph.jaxpr)
  bodies = [
    (i, *body) for i, e in enumerate(jaxpr.eqns) for body in _jaxpr.bodies(e)
  ]
  kept = []
  for i, key, body, _ in bodies:
    (out,) = _jaxpr.opened(body).outvars
    kept.append(survivors.axes((i, key), out)[1])
  assert kept[0] is None
  assert kept[1].tolist() == [0, 2]
  assert survivors.axes((), jaxpr.outvars[0]) == (None, None)
  assert {p: list(a) for p, a in survivors.leaves.items()} == {
    'b': [1],
    'c': [0],
  }


def test_entries_of_two_groups_leave_with_either():
  leaves = {'qkv': (24, 72), 'out': (24, 8)}
  channels = of(models.fused_attention, leaves, (2, 5, 24))
  keep = {
    'qkv': np.array([True, False, True, True]),
    'qkv#1': np.arange(6) > 1,
  }
  kept = channels.surviving(keep).leaves
  rows = np.arange(24).reshape(4, 6)[[0, 2, 3], 2:].ravel()
  np.testing.assert_array_equal(kept['out'][0], rows)
  assert len(kept['qkv'][1]) == 3 * len(rows)


@pytest.mark.parametrize(
  'keep, message',
  [
    ({'in ': np.ones(8, bool)}, "did you mean 'in'"),
    ({'in': np.ones(8)}, r'bool \[8\]; got float64 \[8\]'),
    ({'in': np.ones(7, bool)}, r'bool \[8\]; got bool \[7\]'),
    ({'up': np.zeros(6, bool)}, 'keeps none of 6 channels'),
  ],
)
def test_bad_choices_are_refused(keep, message):
  with pytest.raises(InputError, match=message):
    of(scanned, STACKED, (2, 4)).surviving(keep)


def test_removed_channels_only_ever_added_zeros():
  class Net(nn.Module):
    widths: tuple[int, int]

    @nn.compact
    def __call__(self, x):
      inner, stream = self.widths
      x = nn.Conv(stream, (3, 3), name='stem')(x)
      y = nn.relu(nn.Conv(inner, (3, 3), name='up')(x))
      y = nn.BatchNorm(use_running_average=True, name='norm')(y)
      y = nn.Conv(inner, (3, 3), feature_group_count=inner, name='depthwise')(y)
      x = x + nn.Conv(stream, (1, 1), name='down')(nn.tanh(y))
      return nn.Dense(3, name='head')(x.reshape(len(x), -1))

  x = jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
  dense = Net((6, 5))
  variables = jax.eval_shape(dense.init, jax.random.key(1), x)
  leaves, tree = jax.tree.flatten(variables)
  rng = np.random.default_rng(0)
  leaves = [jnp.asarray(rng.uniform(0.2, 1, a.shape), a.dtype) for a in leaves]
  graph = graph_lib.trace(dense.apply, variables, x)
  channels = graph_lib.channels(graph)
  keep = {'stem': np.array([1, 0, 1, 1, 0], bool), 'up': np.arange(6) % 3 > 0}
  kept = channels.surviving(keep).leaves
  small, masked = [], []
  for path, leaf in zip(graph.weights, leaves, strict=True):
    part, mask = leaf, np.ones(leaf.shape, np.float32)
    for axis, indices in kept.get(path, {}).items():
      part = jnp.take(part, indices, axis=axis)
      gone = np.setdiff1d(np.arange(leaf.shape[axis]), indices)
      np.moveaxis(mask, axis, 0)[gone] = 0
    small.append(part)
    masked.append(leaf if path.endswith('/var') else leaf * mask)
  small, masked = (jax.tree.unflatten(tree, a) for a in (small, masked))
  np.testing.assert_allclose(
    jax.jit(Net((4, 3)).apply)(small, x),
    jax.jit(dense.apply)(masked, x),
    rtol=1e-5,
  )


@pytest.mark.parametrize(
  'feature, tags',
  [(jax.nn.relu, set()), (lambda z: jax.nn.elu(z) + 1, {'norm'})],
)
def test_products_of_what_is_not_zero_are_tagged(feature, tags):
  def attention(p, x):
    q, k = feature(x @ p['q']), feature(x @ p['k'])
    context = jnp.einsum('btd,bte->bde', k, x @ p['v'])
    return jnp.einsum('btd,bde->bte', q, context) @ p['out']

  leaves = {'q': (4, 6), 'k': (4, 6), 'v': (4, 5), 'out': (5, 3)}
  channels = of(attention, leaves, (2, 7, 4))
  assert table(channels) == {
    'q': (6, {'k:1': 1, 'q:1': 1}),
    'v': (5, {'v:1': 1, 'out:0': 1}),
  }
  assert [set(group.tags) for group in channels.groups] == [tags, set()]
