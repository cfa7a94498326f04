import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import graph
from compress.errors import InputError
from compress.prune.noncontributing import (
  Reader,
  find_noncontributing,
  fold_units,
  init_extremes,
  merge_extremes,
  observe_units,
  readers_of,
  remove_noncontributing,
)
from compress.prune.units import tap_units


def planted_dense(activation):
  """Six units: 1 constant, 3 a duplicate of 0, 4 the opposite of 2."""
  k = jax.random.split(jax.random.key(0), 5)
  kernel = jax.random.normal(k[0], (3, 6)).at[:, 1].set(0)
  kernel = kernel.at[:, 3].set(kernel[:, 0]).at[:, 4].set(-kernel[:, 2])
  bias = jax.random.normal(k[1], (6,))
  bias = bias.at[3].set(bias[0]).at[4].set(-bias[2])
  params = {
    'one': {'kernel': kernel, 'bias': bias},
    'two': {
      'kernel': jax.random.normal(k[2], (6, 2)),
      'bias': jax.random.normal(k[3], (2,)),
    },
  }

  def apply(params, x):
    hidden = activation(
      x @ params['one']['kernel'] + params['one']['bias'][None]
    )
    return hidden @ params['two']['kernel'] + params['two']['bias'][None]

  return apply, params, jax.random.normal(k[4], (50, 3))


def observed(apply, params, x, place, units, chunk=20):
  tapped = jax.jit(tap_units(apply, {'units': place}))
  extremes = init_extremes(units)
  for i in range(0, len(x), chunk):
    _, found = tapped(params, x[i : i + chunk])
    extremes = jax.jit(observe_units)(extremes, found['units'])
  return extremes


@pytest.mark.parametrize(
  'activation, offset', [(jnp.tanh, 0), (jax.nn.sigmoid, 1)]
)
def test_planted_units_of_a_dense_net(activation, offset):
  apply, params, x = planted_dense(activation)
  extremes = observed(apply, params, x, 'two:input', 6)
  out = remove_noncontributing(
    params,
    extremes,
    kernel='one/kernel',
    bias='one/bias',
    readers=[Reader('two/kernel', 'two/bias', padded=False)],
  )
  relations = out.relations
  np.testing.assert_array_equal(
    out.keep['one/kernel'], [True, False, True, False, False, True]
  )
  np.testing.assert_array_equal(relations.partner, [-1, -1, -1, 0, 2, -1])
  np.testing.assert_array_equal(relations.sign, [0, 0, 0, 1, -1, 0])
  assert relations.offset[4] == pytest.approx(offset, abs=1e-6)
  np.testing.assert_allclose(apply(out.params, x), apply(params, x), atol=1e-6)
  gone = ~out.keep['one/kernel']
  assert (out.params['one']['kernel'][:, gone] == 0).all()
  assert (out.params['two']['kernel'][gone] == 0).all()
  keep = np.flatnonzero(~gone)
  small = {
    'one': {
      'kernel': out.params['one']['kernel'][:, keep],
      'bias': out.params['one']['bias'][keep],
    },
    'two': {
      'kernel': out.params['two']['kernel'][keep],
      'bias': out.params['two']['bias'],
    },
  }
  np.testing.assert_allclose(apply(small, x), apply(params, x), atol=1e-6)


class ConvNet(nn.Module):
  padding: str
  head: bool = False

  @nn.compact
  def __call__(self, x):
    x = nn.relu(nn.Conv(5, (3, 3), name='one')(x))
    if self.head:
      return nn.Dense(2, name='two')(x.reshape(x.shape[0], -1))
    return nn.Conv(3, (3, 3), padding=self.padding, name='two')(x)


def planted_conv(padding, head=False):
  """Five channels: 0 dead, 1 constant and not 0, 3 a duplicate of 2."""
  net = ConvNet(padding, head)
  x = jax.random.normal(jax.random.key(0), (4, 6, 6, 2))
  params = net.init(jax.random.key(1), x)['params']
  kernel = params['one']['kernel'].at[..., 1].set(0)
  kernel = kernel.at[..., 3].set(kernel[..., 2])
  bias = jnp.array([-100, 0.7, 0.1, 0.1, 0.2])
  params = {**params, 'one': {'kernel': kernel, 'bias': bias}}
  return lambda p, x: net.apply({'params': p}, x), params, x


@pytest.mark.parametrize(
  'padding, head, keep',
  [
    ('VALID', False, [False, False, True, False, True]),
    ('SAME', False, [False, True, True, False, True]),
    ('', True, [False, False, True, False, True]),
  ],
)
def test_planted_channels(padding, head, keep):
  apply, params, x = planted_conv(padding, head)
  traced = graph.trace(
    lambda v, x: apply(v['params'], x), {'params': params}, x
  )
  readers = readers_of(traced, params, ['two'])
  assert readers == [Reader('two/kernel', 'two/bias', padding == 'SAME')]
  channels = jax.nn.relu(
    jax.lax.conv_general_dilated(
      x,
      params['one']['kernel'],
      (1, 1),
      'SAME',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
    + params['one']['bias'][None, None, None]
  )
  out = remove_noncontributing(
    params,
    observe_units(init_extremes(5), channels),
    kernel='one/kernel',
    bias='one/bias',
    readers=readers,
  )
  np.testing.assert_array_equal(out.keep['one/kernel'], keep)
  np.testing.assert_allclose(apply(out.params, x), apply(params, x), atol=3e-6)


def test_an_offset_in_front_of_padding_is_refused():
  _, params, _ = planted_conv('SAME')
  x = jnp.stack([jnp.ones(9), *jnp.eye(4, 9)], 1)
  relations = find_noncontributing(observe_units(init_extremes(5), x))
  assert relations.offset[0] == 1
  for reader in (
    Reader('two/kernel', 'two/bias', padded=True),
    Reader('two/kernel', None, padded=False),
  ):
    with pytest.raises(InputError, match='cannot be folded'):
      fold_units(params, relations, [reader])


def test_distinct_units_stay_and_nothing_changes():
  apply, params, x = planted_dense(jnp.tanh)
  outputs = jax.random.normal(jax.random.key(3), (30, 6))
  relations = find_noncontributing(observe_units(init_extremes(6), outputs))
  assert relations.keep.all()
  folded = fold_units(
    params, relations, [Reader('two/kernel', 'two/bias', padded=False)]
  )
  for one, two in zip(
    jax.tree.leaves(folded), jax.tree.leaves(params), strict=True
  ):
    np.testing.assert_array_equal(one, two)


def test_chunks_merge():
  x = jax.random.normal(jax.random.key(0), (10, 3, 4))
  whole = observe_units(init_extremes(4), x)
  parts = merge_extremes(
    observe_units(init_extremes(4), x[:3]),
    observe_units(init_extremes(4), x[3:]),
  )
  for one, two in zip(whole, parts, strict=True):
    np.testing.assert_array_equal(one, two)
  rows = np.asarray(x).reshape(-1, 4)
  np.testing.assert_array_equal(
    whole.low_difference[1, 3], (rows[:, 3] - rows[:, 1]).min()
  )
  np.testing.assert_array_equal(
    whole.high_sum[1, 3], (rows[:, 3] + rows[:, 1]).max()
  )


def test_a_chain_of_duplicates_has_one_partner():
  column = jax.random.normal(jax.random.key(0), (20, 1))
  outputs = jnp.concatenate([column, -column, column, 1 - column], 1)
  relations = find_noncontributing(observe_units(init_extremes(4), outputs))
  np.testing.assert_array_equal(relations.keep, [True, False, False, False])
  np.testing.assert_array_equal(relations.partner, [-1, 0, 0, 0])
  np.testing.assert_array_equal(relations.sign, [0, -1, 1, -1])
  np.testing.assert_allclose(relations.offset, [0, 0, 0, 1], atol=1e-6)


def test_one_unit_is_always_kept():
  relations = find_noncontributing(
    observe_units(init_extremes(3), jnp.ones((4, 3)))
  )
  assert relations.keep.sum() == 1


def test_almost_constant_is_not_constant():
  x = jnp.ones((100, 2)).at[0, 0].set(1.01).at[:, 1].set(jnp.arange(100.0))
  extremes = observe_units(init_extremes(2), x)
  assert find_noncontributing(extremes).keep.all()
  loose = find_noncontributing(extremes, atol=0.01, rtol=0.0)
  np.testing.assert_array_equal(loose.keep, [False, True])


def test_bad_input_is_refused():
  with pytest.raises(InputError, match='observations'):
    find_noncontributing(init_extremes(3))
  with pytest.raises(InputError, match='right are 3'):
    observe_units(init_extremes(3), jnp.ones((2, 4)))
  params = {'k': jnp.ones((5, 2))}
  x = jax.random.normal(jax.random.key(0), (9, 3))
  relations = find_noncontributing(observe_units(init_extremes(3), x))
  with pytest.raises(InputError, match=r'\[..., 3, C_out\]'):
    fold_units(params, relations, [Reader('k', None, padded=False)])
  net = nn.Conv(4, (3, 3), feature_group_count=2, name='g')
  image = jnp.ones((1, 4, 4, 2))
  variables = net.init(jax.random.key(0), image)
  traced = graph.trace(net.apply, variables, image)
  with pytest.raises(InputError, match='2 groups'):
    readers_of(traced, variables['params'], [traced.sites[0].name])
  with pytest.raises(InputError, match="no site 'x'"):
    readers_of(traced, variables['params'], ['x'])
