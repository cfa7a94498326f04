"""Outputs whose last axes are channels that may leave."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import encode, models, packed
from compress import graph as graph_lib
from compress.errors import InputError
from tests.graph.drawn_networks import Drawn, randomised


def free(apply, variables, *inputs):
  graph = graph_lib.trace(apply, variables, *inputs)
  return graph_lib.channels(graph, outputs='free')


def drawn_keep(groups, seed):
  """About half of every group without tags; at least one stays."""
  rng = np.random.default_rng(seed)
  keep = {}
  for group in groups:
    if not group.tags:
      keep[group.name] = rng.random(group.size) < 0.5
      keep[group.name][rng.integers(group.size)] = True
  return keep


def left_of_outputs(groups, keep, outputs):
  """The masked model's outputs without the entries that the groups name."""
  out = []
  for number, value in enumerate(jax.tree.leaves(outputs)):
    stays = np.ones(value.shape[-1:], bool)
    for group in groups:
      if group.name in keep and number in group.outputs:
        stays[group.outputs[number][~keep[group.name]]] = False
    out.append(np.asarray(value)[..., stays] if value.ndim else value)
  return out


def removed(apply, variables, x, *, seed=0, tolerance=1e-12):
  """Removes half of all; what is left equals the masked model's, restricted."""
  groups = free(apply, variables, x).groups
  keep = drawn_keep(groups, seed)
  shrunk = graph_lib.shrink(apply, variables, keep, x, groups=groups)
  masked = graph_lib.mask_channels(variables, groups, keep)
  full = jax.jit(apply)(masked, x)
  expected = left_of_outputs(groups, keep, full)
  out = jax.tree.leaves(jax.jit(shrunk.apply)(shrunk.variables, x))
  for one, other in zip(out, expected, strict=True):
    assert one.shape == other.shape and one.dtype == other.dtype
    assert abs(one - other).max() <= tolerance * abs(other).max()
  return groups, keep, shrunk, full


def drawn(seed):
  """A drawn network of which the result of every layer is an output."""
  net = Drawn(seed)
  x = np.random.default_rng(seed).standard_normal((2, 4, 4, 3))
  shape = jax.ShapeDtypeStruct(x.shape, jnp.float32)
  with jax.enable_x64(False):
    abstract = jax.eval_shape(net.init, jax.random.key(0), shape)

  def apply(variables, x):
    return net.apply(
      variables, x, capture_intermediates=True, mutable=['intermediates']
    )

  return apply, randomised(abstract, seed, 'float64'), jnp.asarray(x)


@pytest.mark.parametrize('seed', range(4))
def test_every_layer_of_drawn_networks(seed):
  with jax.enable_x64(True):
    apply, variables, x = drawn(seed)
    _, _, shrunk, full = removed(apply, variables, x, seed=seed)
    out = jax.eval_shape(shrunk.apply, shrunk.variables, x)
  pairs = zip(jax.tree.leaves(out), jax.tree.leaves(full), strict=True)
  assert sum(a.shape[-1] < b.shape[-1] for a, b in pairs) > 5


def two_headed(p, x):
  """An embedding that is an output and what the logits are made of."""
  embedding = jnp.tanh(x @ p['in']) @ p['embed'] + p['bias']
  return {'embedding': embedding, 'logits': embedding @ p['classes']}


SIZES = {'in': (3, 8), 'embed': (8, 6), 'bias': (1, 6), 'classes': (6, 5)}


def two_headed_model(dtype='float32'):
  rng = np.random.default_rng(0)
  sizes = SIZES.items()
  variables = {k: jnp.asarray(rng.standard_normal(n), dtype) for k, n in sizes}
  return two_headed, variables, jnp.asarray(rng.standard_normal((4, 3)), dtype)


def test_several_outputs_and_one_that_goes_on():
  channels = free(*two_headed_model())
  found = {
    g.name: (
      {f'{m.path}:{m.axis}' for m in g.members},
      {number: rows.tolist() for number, rows in g.outputs.items()},
    )
    for g in channels.groups
  }
  assert found == {
    'in': ({'in:1', 'embed:0'}, {}),
    'embed': (
      {'embed:1', 'bias:1', 'classes:0'},
      {0: [[i] for i in range(6)]},
    ),
    'classes': ({'classes:1'}, {1: [[i] for i in range(5)]}),
  }
  assert {path: set(axes) for path, axes in channels.frozen.items()} == {
    'in': {0}
  }
  with jax.enable_x64(True):
    apply, variables, x = two_headed_model('float64')
    removed(apply, variables, x)
  # One output alone, and what is left of the others as long as it was.
  apply, variables, x = two_headed_model()
  keep = {'classes': np.arange(5) > 2}
  small = graph_lib.shrink(apply, variables, keep, x, groups=channels.groups)
  out = small.apply(small.variables, x)
  whole = apply(variables, x)
  np.testing.assert_allclose(out['embedding'], whole['embedding'], rtol=1e-6)
  np.testing.assert_allclose(out['logits'], whole['logits'][:, 3:], rtol=1e-5)


def test_masks_are_zeros_of_the_outputs():
  apply, variables, x = two_headed_model()
  groups = free(apply, variables, x).groups
  stays = np.arange(6) % 2 > 0
  masked = graph_lib.mask_channels(variables, groups, {'embed': stays})
  out = apply(masked, x)['embedding']
  np.testing.assert_array_equal(out[:, ~stays], 0.0)
  assert jnp.all(out[:, stays] != 0)


def test_outputs_stay_unless_asked():
  apply, variables, x = two_headed_model()
  channels = graph_lib.channels(graph_lib.trace(apply, variables, x))
  assert [(g.name, g.outputs) for g in channels.groups] == [('in', {})]
  assert channels.frozen['classes'][1] == 'an output of the model'
  with pytest.raises(InputError, match="outputs='yes': right is 'keep' or"):
    graph = graph_lib.trace(apply, variables, x)
    graph_lib.channels(graph, outputs='yes')
  with pytest.raises(InputError, match="called 'classes'; there are 'in'"):
    graph_lib.shrink(apply, variables, {'classes': np.arange(5) > 2}, x)


def nested(p, x):
  """A jitted layer, then a scan whose steps are an output."""

  def layer(carry, weights):
    carry = carry + jax.nn.relu(carry @ weights['up']) @ weights['down']
    return carry, jnp.sin(carry)

  carry = jax.jit(lambda w, x: jnp.tanh(x @ w))(p['in'], x)
  carry, steps = jax.lax.scan(layer, carry, p['layers'])
  picked = jax.lax.cond(carry.shape[0] > 1, jnp.cos, jnp.exp, carry)
  return jax.checkpoint(lambda c: c @ p['out'])(picked), steps


def test_nested():
  rng = np.random.default_rng(0)
  sizes = {'in': (3, 6), 'out': (6, 5)}
  sizes['layers'] = {'up': (4, 6, 8), 'down': (4, 8, 6)}
  with jax.enable_x64(True):
    variables = jax.tree.map(
      lambda n: jnp.asarray(0.4 * rng.standard_normal(n)),
      sizes,
      is_leaf=lambda n: isinstance(n, tuple),
    )
    x = jnp.asarray(rng.standard_normal((2, 3)))
    groups, keep, shrunk, _ = removed(nested, variables, x)
    out = jax.eval_shape(shrunk.apply, shrunk.variables, x)
  assert {g.name: (g.size, set(g.outputs)) for g in groups} == {
    'in': (6, {1}),
    'layers/up': (8, set()),
    'out': (5, {0}),
  }
  stream = keep['in'].sum()
  assert [a.shape for a in out] == [
    (2, keep['out'].sum()),
    (4, 2, stream),
  ]


@pytest.mark.parametrize(
  'outputs',
  [
    lambda y: y.T,
    lambda y: (y, y.T),
    lambda y: (y, y.sum(0)),
    lambda y: y.reshape(-1),
    lambda y: jnp.stack([y, y], -1),
    lambda y: jnp.sort(y, -1),
  ],
)
def test_channels_that_are_not_last_stay(outputs):
  variables = {'w': jnp.ones((3, 6))}
  channels = free(lambda p, x: outputs(x @ p['w']), variables, jnp.ones((2, 3)))
  assert not channels.groups
  assert set(channels.frozen['w']) == {0, 1}


def test_no_axis_of_the_inputs_leaves():
  def apply(p, x):
    y = x @ p['w'] + p['rows']
    return y.sum(-1), y @ y.T, x, jnp.sin(y).T

  variables = {'w': jnp.ones((3, 6)), 'rows': jnp.ones((2, 6))}
  channels = free(apply, variables, jnp.ones((2, 3)))
  assert not channels.groups
  assert set(channels.frozen['rows']) == {0, 1}


def test_entries_that_differ_in_the_outputs_are_other_channels():
  def apply(p, x):
    y = x @ p['w']
    return jnp.concatenate([y[:, :4], y[:, :4]], -1), y @ p['v']

  variables = {'w': jnp.ones((3, 6)), 'v': jnp.ones((6, 2))}
  groups = free(apply, variables, jnp.ones((2, 3))).groups
  assert [(g.name, g.size, set(g.outputs)) for g in groups] == [
    ('w', 4, {0}),
    ('w#1', 2, set()),
    ('v', 2, {1}),
  ]
  rows = np.arange(4)[:, None] + [0, 4]
  np.testing.assert_array_equal(groups[0].outputs[0], rows)


def test_what_is_broadcast_stays_whole():
  def apply(p, x):
    ones = jnp.ones((len(x), 6)) * p['s']
    return ones, ones * (x @ p['w'])

  variables = {'w': jnp.ones((3, 6)), 's': jnp.ones((1, 1))}
  x = jnp.ones((2, 3))
  groups = free(apply, variables, x).groups
  keep = {'w': np.arange(6) < 2}
  shrunk = graph_lib.shrink(apply, variables, keep, x, groups=groups)
  out = shrunk.apply(shrunk.variables, x)
  assert [a.shape for a in out] == [(2, 6), (2, 2)]


def test_softmax_of_an_output_is_tagged():
  variables = {'w': jnp.ones((3, 6))}
  x = jnp.ones((2, 3))
  (group,) = free(
    lambda p, x: jax.nn.softmax(x @ p['w'], -1), variables, x
  ).groups
  assert (group.tags, set(group.outputs)) == ({'norm'}, {0})


def test_outputs_that_no_group_frees_must_not_shrink():
  apply, variables, x = two_headed_model()
  groups = free(apply, variables, x).groups
  closed = [dataclasses.replace(g, outputs={}) for g in groups]
  keep = {'embed': np.arange(6) < 4}
  with pytest.raises(InputError, match='output 0 .* keeps 4 of 6 .* axis 1'):
    graph_lib.shrink(apply, variables, keep, x, groups=closed)


def test_half_of_every_width():
  # 12.8 of the 24 million parameters are the last layer's.
  net = models.iresnet18()
  x = jax.ShapeDtypeStruct((1, 112, 112, 3), jnp.float32)
  variables = jax.eval_shape(net.init, jax.random.key(0), x)
  groups = free(net.apply, variables, x).groups
  assert len(groups) == 14 and not any(g.tags for g in groups)
  assert {g.name: g.size for g in groups if g.outputs} == {'fc': 512}
  keep = {g.name: np.arange(g.size) < g.size // 2 for g in groups}
  shrunk = graph_lib.shrink(
    net.apply, variables, keep, x, groups=groups, verify=False
  )
  half = models.IResNet((2, 2, 2, 2), widths=(32, 64, 128, 256), features=256)
  small = graph_lib.trace(shrunk.apply, shrunk.variables, x)
  expected = jax.eval_shape(half.init, jax.random.key(0), x)
  other = graph_lib.trace(half.apply, expected, x)
  assert small.weights == other.weights
  assert graph_lib.cost(small) == graph_lib.cost(other)
  sizes = [
    sum(leaf.size for leaf in jax.tree.leaves(tree))
    for tree in (shrunk.variables, variables)
  ]
  assert sizes[0] < 0.27 * sizes[1]


def test_twice_into_a_file_and_back(tmp_path):
  apply, variables, x = two_headed_model()
  _, _, once, _ = removed(apply, variables, x, tolerance=1e-5)
  groups = free(once.apply, once.variables, x).groups
  keep = {'embed': np.arange(len(once.kept['embed'][1])) > 0}
  twice = graph_lib.shrink(once.apply, once.variables, keep, x, groups=groups)
  kept = graph_lib.compose_kept(once.kept, twice.kept)
  described = graph_lib.describe_kept(kept, twice.shapes | once.shapes)
  assert json.loads(json.dumps(described)) == described
  tree = jax.tree.map(packed.Dense, graph_lib.take_kept(variables, kept))
  encode.save(tmp_path / 'small.safetensors', tree, {'kept': described})
  loaded = encode.load(tmp_path / 'small.safetensors')
  again = jax.tree.map(packed.unpack, loaded.tree, is_leaf=packed.is_packed)
  jax.tree.map(np.testing.assert_array_equal, again, twice.variables)
  restored = graph_lib.restore_shrunk(apply, loaded.metadata['kept'])
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    restored(again, x),
    twice.apply(twice.variables, x),
  )
  read, shapes = graph_lib.read_kept(described)
  assert shapes == {path: SIZES[path] for path in kept}
  assert read['embed'][1].tolist() == kept['embed'][1].tolist()


def test_descriptions_of_kept_outputs_restore_as_ever():
  apply, variables, x = two_headed_model()
  described = {
    'in': {'shape': [3, 8], 'kept': {'1': '88'}},
    'embed': {'shape': [8, 6], 'kept': {'0': '88'}},
  }
  groups = graph_lib.channels(graph_lib.trace(apply, variables, x)).groups
  keep = {'in': np.arange(8) % 4 == 0}
  shrunk = graph_lib.shrink(apply, variables, keep, x, groups=groups)
  assert graph_lib.describe_kept(shrunk.kept, shrunk.shapes) == described
  restored = graph_lib.restore_shrunk(apply, described)
  jax.tree.map(
    np.testing.assert_array_equal,
    restored(shrunk.variables, x),
    shrunk.apply(shrunk.variables, x),
  )
