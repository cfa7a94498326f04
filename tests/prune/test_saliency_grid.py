import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import graph as graph_lib
from compress.errors import InputError
from compress.graph.channels import ChannelGroup, Member
from compress.prune import saliency_grid as grid_lib
from compress.prune import saliency_metrics as m
from compress.prune.channel_points import weights_removed


def normal(seed, *shape):
  return jnp.array(np.random.default_rng(seed).normal(size=shape), jnp.float32)


X = jnp.array([[1.0], [-2.0]])
G = jnp.array([[0.5], [0.25]])


@pytest.mark.parametrize(
  ('pointwise', 'reduction', 'expected'),
  [
    (m.TAYLOR_1, m.NONE, 0.0),
    (m.TAYLOR_1, m.L1, 1.0),
    (m.TAYLOR_1, m.L2, 0.5),
    (m.TAYLOR_1, m.ABS_SUM, 0.0),
    (m.TAYLOR_1, m.SQR_SUM, 0.0),
    (m.TAYLOR_2_APPROXIMATE, m.NONE, 0.25),
    (m.TAYLOR_2_APPROXIMATE, m.L1, 1.0),
  ],
)
def test_golden(pointwise, reduction, expected):
  points = pointwise.function(X, G, jnp.zeros_like(X))
  np.testing.assert_allclose(reduction.function(points), [expected], atol=1e-7)


def test_grid_has_420_and_apoz():
  saliencies = list(m.all_saliencies())
  assert len(saliencies) == len(set(saliencies)) == 421
  assert len({s.name for s in saliencies}) == 421
  assert saliencies[-1] == m.APOZ
  with pytest.raises(InputError, match='positive'):
    m.ChannelSaliency(m.WEIGHT, m.POSITIVE, m.NONE, m.L0)
  with pytest.raises(InputError, match='domain'):
    m.ChannelSaliency('gradients', m.AVERAGE, m.NONE, m.L0)


class Net(nn.Module):
  @nn.compact
  def __call__(self, x):
    x = nn.relu(nn.Conv(4, (3, 3), name='conv')(x))
    x = nn.relu(nn.Conv(6, (1, 1), feature_group_count=2, name='grouped')(x))
    return nn.Dense(3, name='fc')(x.mean((1, 2)))


def loss_fn(params, batch):
  x, labels = batch
  log_q = jax.nn.log_softmax(Net().apply({'params': params}, x))
  return -jnp.take_along_axis(log_q, labels[:, None], axis=1).mean()


@functools.cache
def problem():
  batch = normal(0, 5, 4, 4, 2), jnp.array([0, 1, 2, 1, 0])
  shapes = jax.eval_shape(Net().init, jax.random.key(0), batch[0])['params']
  leaves, tree = jax.tree.flatten(shapes)
  filled = [normal(i, *leaf.shape) for i, leaf in enumerate(leaves)]
  return jax.tree.unflatten(tree, filled), batch


REMOVED = {
  'conv/kernel': np.array([30, 31, 32, 33]),
  'grouped/kernel': 7,
  'fc/kernel': 6,
}


@functools.cache
def measured(side='output'):
  params, batch = problem()
  grid = grid_lib.channel_grid(
    loss_fn,
    params,
    batch,
    # No Hessians on the input side: they take long to compile.
    saliencies=None if side == 'output' else [m.MEAN_ACTIVATION, m.LI_L1],
    side=side,
    chunk=5,
    bias=side == 'output',
  )
  update = jax.jit(grid.update)
  return grid, update(grid.init(), params, batch, key=jax.random.key(0))


def score(saliency, side='output', **options):
  grid, sums = measured(side)
  return grid.score(sums, saliency, **options)


def run(grid, params, batch, sums=None, *, key=None):
  sums = grid.init() if sums is None else sums
  return jax.jit(grid.update)(sums, params, batch, key=key)


def maps(params, x):
  """Output maps of the convolutions before the bias, by hand."""
  p = params
  dimensions = ('NHWC', 'HWIO', 'NHWC')
  conv = functools.partial(
    jax.lax.conv_general_dilated,
    window_strides=(1, 1),
    padding='SAME',
    dimension_numbers=dimensions,
  )
  first = conv(x, p['conv']['kernel'])
  hidden = nn.relu(first + p['conv']['bias'].reshape(1, 1, 1, -1))
  second = conv(hidden, p['grouped']['kernel'], feature_group_count=2)
  return first, second


@pytest.mark.slow
def test_every_cell_is_finite():
  grid, sums = measured()
  for saliency in m.all_saliencies():
    scores = grid.score(sums, saliency, weights_removed=REMOVED)
    assert {path: s.shape for path, s in scores.items()} == {
      'conv/kernel': (4,),
      'grouped/kernel': (6,),
      'fc/kernel': (3,),
    }
    assert all(np.isfinite(s).all() for s in scores.values()), saliency.name


def test_input_side_channels():
  found = score(m.MEAN_ACTIVATION, 'input')
  assert {path: s.size for path, s in found.items()} == {
    'conv/kernel': 2,
    'grouped/kernel': 4,
    'fc/kernel': 6,
  }
  params, (x, _) = problem()
  np.testing.assert_allclose(found['conv/kernel'], x.mean((0, 1, 2)), 1e-5)
  slices = score(m.LI_L1, 'input')
  kernel = params['conv']['kernel']
  np.testing.assert_allclose(
    slices['conv/kernel'], jnp.abs(kernel).sum((0, 1, 3)), 1e-5
  )
  kernel = jnp.abs(params['grouped']['kernel'])[0, 0]
  by_hand = [kernel[:, :3].sum(1), kernel[:, 3:].sum(1)]
  np.testing.assert_allclose(
    slices['grouped/kernel'], jnp.concatenate(by_hand), 1e-5
  )


def test_weights_and_bias_of_a_filter():
  params, _ = problem()
  found = score(m.LI_L1)
  for name, leaves in params.items():
    axes = tuple(range(leaves['kernel'].ndim - 1))
    expected = jnp.abs(leaves['kernel']).sum(axes) + jnp.abs(leaves['bias'])
    np.testing.assert_allclose(found[f'{name}/kernel'], expected, 1e-5)


def test_activations_of_every_image():
  params, (x, _) = problem()
  first, second = maps(params, x)
  mean = score(m.MEAN_ACTIVATION)
  apoz = score(m.APOZ)
  for path, out in (('conv/kernel', first), ('grouped/kernel', second)):
    np.testing.assert_allclose(mean[path], out.mean((0, 1, 2)), 1e-4, 1e-5)
    np.testing.assert_allclose(apoz[path], (out > 0).mean((0, 1, 2)), 1e-5)


def test_gradients_are_of_each_image():
  params, (x, labels) = problem()

  def one_loss(shift, params, image, label):
    p = params
    x = maps(p, image[None])[0] + shift
    hidden = nn.relu(x + p['conv']['bias'].reshape(1, 1, 1, -1))
    kernel = p['grouped']['kernel'][0, 0]
    parts = [hidden[..., :2] @ kernel[:, :3], hidden[..., 2:] @ kernel[:, 3:]]
    x = jnp.concatenate(parts, -1) + p['grouped']['bias'].reshape(1, 1, 1, -1)
    x = nn.relu(x).mean((1, 2)) @ p['fc']['kernel'] + p['fc']['bias'][None]
    return -jax.nn.log_softmax(x)[0, label]

  total = 0.0
  gradient = jax.jit(jax.grad(one_loss))
  for image, label in zip(x, labels, strict=True):
    g = gradient(jnp.zeros((1, 4, 4, 4)), params, image, label)
    taylor = -(g * maps(params, image[None])[0])
    total = total + jnp.square(taylor.sum((0, 1, 2)))
  np.testing.assert_allclose(
    score(m.THEIS_FISHER)['conv/kernel'], total / 5, 1e-4, 1e-6
  )


def test_invariants():
  for domain in (m.ACTIVATION, m.WEIGHT):
    one = functools.partial(m.ChannelSaliency, domain)
    l1 = score(one(m.TAYLOR_1, m.L1, m.UNSCALED))
    absolute = score(one(m.TAYLOR_1, m.ABS_SUM, m.UNSCALED))
    layer = score(one(m.TAYLOR_1, m.L1, m.LAYER_L1))
    norm = score(one(m.TAYLOR_1, m.L1, m.LAYER_L2))
    for path in l1:
      assert (l1[path] >= absolute[path] - 1e-6).all()
      np.testing.assert_allclose(layer[path].sum(), 1.0)
      np.testing.assert_allclose(np.square(norm[path]).sum(), 1.0)
      for scaled in (layer, norm):
        np.testing.assert_array_equal(
          np.argsort(scaled[path]), np.argsort(l1[path])
        )


def test_points():
  found = score(m.ChannelSaliency(m.WEIGHT, m.AVERAGE, m.L1, m.L0))
  plain = score(m.LI_L1)
  # 2 * 9 and the bias, 2 per group and the bias, 6 and the bias.
  for path, count in zip(plain, (19, 3, 7), strict=True):
    np.testing.assert_allclose(plain[path] / found[path], count)
  adjusted = score(
    m.ChannelSaliency(m.WEIGHT, m.AVERAGE, m.L1, m.L0_ADJUSTED),
    active={'conv/kernel': 1, 'fc/kernel': 2},
  )
  for path, count in zip(plain, (10, 3, 3), strict=True):
    np.testing.assert_allclose(plain[path] / adjusted[path], count)
  authors = score(m.MEAN_ACTIVATION, authors_points=True)['conv/kernel']
  ours = score(m.MEAN_ACTIVATION)['conv/kernel']
  np.testing.assert_allclose(authors, ours / 2)


def test_molchanov_2017_has_unit_layers():
  for scores in score(m.MOLCHANOV_2017).values():
    np.testing.assert_allclose(np.square(scores).sum(), 1.0)


def test_weights_removed_scaling():
  saliency = m.ChannelSaliency(m.WEIGHT, m.AVERAGE, m.L1, m.WEIGHTS_REMOVED)
  found, plain = score(saliency, weights_removed=REMOVED), score(m.LI_L1)
  for path, scores in plain.items():
    np.testing.assert_allclose(found[path], scores / REMOVED[path])
  with pytest.raises(InputError, match='weights_removed'):
    score(saliency)


def test_parts_add_up_and_chunks_do_not_matter():
  params, batch = {'w': normal(0, 4, 3)}, normal(1, 5, 4)

  def loss(params, batch):
    return jnp.square(jnp.tanh(batch @ params['w']).sum(1)).mean()

  wanted = [m.THEIS_FISHER, m.MOLCHANOV_2019, m.LI_L1]
  few, many = (
    grid_lib.channel_grid(loss, params, batch, saliencies=wanted, chunk=chunk)
    for chunk in (2, 8)
  )
  parts = run(few, params, batch[3:], run(few, params, batch[:3]))
  whole = run(many, params, batch)
  assert parts.count == whole.count == 5
  for s in wanted:
    np.testing.assert_allclose(
      few.score(parts, s)['w'], many.score(whole, s)['w'], 1e-5
    )


def separable(params, batch):
  # sum c y^2 + d y with y = w x: Hessians in y and in w are diagonal.
  y = batch @ params['w']
  c = jnp.array([[0.5, 1.0, -1.0]])
  return (c * jnp.square(y) + 2.0 * y).sum(1).mean()


def test_hessian_is_exact_where_diagonal():
  params, batch = {'w': jnp.eye(3)}, normal(1, 4, 3)
  saliency = m.ChannelSaliency(m.ACTIVATION, m.HESSIAN, m.NONE, m.UNSCALED)
  grid = grid_lib.channel_grid(separable, params, batch, saliencies=[saliency])
  sums = run(grid, params, batch, key=jax.random.key(3))
  c = np.array([0.5, 1.0, -1.0])
  expected = (0.5 * np.square(batch) * 2 * c).mean(0)
  np.testing.assert_allclose(grid.score(sums, saliency)['w'], expected, 1e-4)
  with pytest.raises(InputError, match='key'):
    grid.update(grid.init(), params, batch)


def test_hutchinson_converges_on_coupled_weights():
  # h of w[i, c] is 2 c x_i^2; the off-diagonal terms average out.
  params, batch = {'w': normal(0, 2, 3)}, normal(1, 1, 2)
  grid = grid_lib.channel_grid(
    separable,
    params,
    batch,
    saliencies=[m.CHANNEL_BRAIN_DAMAGE],
    probes=2000,
  )
  sums = jax.jit(grid.update)(grid.init(), params, batch, key=jax.random.key(0))
  h = 2 * np.square(batch).T * np.array([[0.5, 1.0, -1.0]])
  expected = (0.5 * np.square(params['w']) * h).sum(0)
  found = grid.score(sums, m.CHANNEL_BRAIN_DAMAGE)['w']
  np.testing.assert_allclose(found, expected, rtol=0.1, atol=0.02)


def linear(params, batch):
  return (batch @ params['w'] @ jnp.array([[1.0], [-2.0], [0.5]])).mean()


def test_taylor_is_exact_removal_on_a_linear_loss():
  params, batch = {'w': normal(0, 4, 3)}, normal(1, 6, 4)
  grid = grid_lib.channel_grid(
    linear, params, batch, saliencies=[m.SKELETONIZATION]
  )
  sums = run(grid, params, batch)
  found = grid.score(sums, m.SKELETONIZATION)['w']
  for c in range(3):
    without = {'w': params['w'].at[:, c].set(0.0)}
    change = linear(without, batch) - linear(params, batch)
    np.testing.assert_allclose(found[c], change, atol=1e-5)


def test_permuted_units_permute_scores():
  order = np.array([2, 0, 1])
  params, batch = {'w': normal(0, 4, 3)}, normal(1, 6, 4)
  tail = jnp.array([[1.0], [-2.0], [0.5]])

  def loss(tail, params, batch):
    return jnp.square(jnp.tanh(batch @ params['w']) @ tail).mean()

  found = []
  for w, t in ((params['w'], tail), (params['w'][:, order], tail[order])):
    grid = grid_lib.channel_grid(
      functools.partial(loss, t),
      params,
      batch,
      saliencies=[m.MOLCHANOV_2017],
    )
    sums = run(grid, {'w': w}, batch)
    found.append(grid.score(sums, m.MOLCHANOV_2017)['w'])
  np.testing.assert_allclose(found[0][order], found[1], 1e-5)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'side': 'middle'}, 'side'),
    ({'side': 'input', 'bias': True}, 'bias'),
    ({'kernels': ['nowhere']}, 'nowhere'),
  ],
)
def test_bad_options(options, message):
  with pytest.raises(InputError, match=message):
    grid_lib.channel_grid(
      linear, {'w': jnp.ones((4, 3))}, jnp.ones((2, 4)), **options
    )


def test_kernel_used_twice_is_refused():
  def twice(params, batch):
    return (batch @ params['w'] @ params['w']).mean()

  with pytest.raises(InputError, match='twice'):
    grid_lib.channel_grid(twice, {'w': jnp.eye(3)}, jnp.ones((2, 3)))


def test_weights_removed_of_groups():
  params, (x, _) = problem()
  variables = {'params': params}
  graph = graph_lib.trace(Net().apply, variables, x)
  shapes = graph.weights
  group = _group(
    'conv',
    4,
    (
      Member('params/conv/kernel', 3, np.arange(4)[:, None], 'out'),
      Member('params/conv/bias', 0, np.arange(4)[:, None], 'elementwise'),
      Member('batch_stats/bn/mean', 0, np.arange(4)[:, None], 'elementwise'),
      Member('params/fc/kernel', 0, np.arange(4)[:, None], 'in'),
    ),
  )
  removed = weights_removed([group], shapes)
  np.testing.assert_array_equal(removed['conv/kernel'], [18 + 1 + 3] * 4)
  assert list(removed) == ['conv/kernel']


def test_weights_removed_counts_a_crossing_once():
  rows = np.arange(3)[:, None]
  group = _group(
    'w', 3, (Member('w', 0, rows, 'in'), Member('w', 1, rows, 'out'))
  )
  removed = weights_removed([group], {'w': (3, 3)})
  np.testing.assert_array_equal(removed['w'], [5, 5, 5])


def _group(name, size, members):
  return ChannelGroup(name, size, members, frozenset())


def test_random_baseline():
  found = m.random_channels(jax.random.key(0), {'a': 3, 'b': 2})
  again = m.random_channels(jax.random.key(0), {'a': 3, 'b': 2})
  assert {path: s.shape for path, s in found.items()} == {'a': (3,), 'b': (2,)}
  np.testing.assert_array_equal(found['a'], again['a'])
