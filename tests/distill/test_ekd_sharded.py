"""EKD on eight devices: pairs of the global batch, and exact gradients.

Every mapped form must give the loss, the anchors and the parameter gradient of
the same batch on one device.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from compress import distill

DEVICES = 8


@pytest.fixture(scope='module')
def problem():
  """A linear student, images, teacher, labels spread over devices, state."""
  keys = jax.random.split(jax.random.key(0), 4)
  centres = jax.random.normal(keys[0], (8, 10))
  images = jnp.tile(centres, (4, 1))
  images += 0.5 * jax.random.normal(keys[1], images.shape)
  weights = jax.random.normal(keys[2], (10, 6))
  teacher = jnp.tanh(images @ weights)
  student = weights + 0.5 * jax.random.normal(keys[3], weights.shape)
  labels = jnp.tile(jnp.arange(8), 4)
  _, state = distill.ekd_loss(
    images @ student, teacher, labels, distill.init_ekd(), momentum=1.0
  )
  return student, (images, teacher, labels), state


def value(weights, batch, state, axis_name=None):
  images, teacher, labels = batch
  return distill.ekd_loss(
    images @ weights, teacher, labels, state, axis_name=axis_name
  )


step = jax.value_and_grad(value, has_aux=True)
single_step = jax.jit(lambda *arguments: step(*arguments))


def mean_step(weights, batch, state):
  """One device's share: the loss, and gradients averaged over devices."""
  out, gradient = step(weights, batch, state, 'data')
  return out, jax.lax.pmean(gradient, 'data')


def split(batch):
  return jax.tree.map(lambda x: x.reshape((DEVICES, -1, *x.shape[1:])), batch)


def check(actual, expected, rtol=1e-4):
  jax.tree.map(
    lambda a, e: np.testing.assert_allclose(a, e, rtol=rtol, atol=1e-6),
    actual,
    expected,
  )


def replicated(tree):
  """The common value of all devices, checked to be common."""
  for leaf in jax.tree.leaves(tree):
    np.testing.assert_array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape))
  return jax.tree.map(lambda x: x[0], tree)


@pytest.mark.parametrize('mapping', [jax.vmap, jax.pmap])
def test_mapped_axis(problem, mapping):
  weights, batch, state = problem
  mapped = mapping(mean_step, axis_name='data', in_axes=(None, 0, None))
  if mapping is jax.vmap:
    mapped = jax.jit(mapped)
  out, gradient = mapped(weights, split(batch), state)
  expected = single_step(weights, batch, state)
  assert np.any(np.abs(expected[1]) > 1e-3)
  check(replicated((out, gradient)), expected)


def mesh(axis_type=AxisType.Auto):
  return jax.make_mesh((DEVICES,), ('data',), axis_types=(axis_type,))


@pytest.mark.parametrize('check_vma', [False, True])
def test_shard_map(problem, check_vma):
  weights, batch, state = problem
  # With check_vma the gradient of replicated weights arrives summed.
  body = functools.partial(step, axis_name='data') if check_vma else mean_step
  mapped = jax.shard_map(
    body,
    mesh=mesh(),
    in_specs=(P(), P('data'), P()),
    out_specs=P(),
    check_vma=check_vma,
  )
  actual = jax.jit(mapped)(weights, batch, state)
  check(actual, single_step(weights, batch, state))


def test_jit_over_a_mesh(problem):
  weights, batch, state = problem
  expected = single_step(weights, batch, state)
  batch = jax.device_put(batch, NamedSharding(mesh(), P('data')))
  actual = jax.jit(lambda *arguments: step(*arguments))(weights, batch, state)
  assert len(batch[0].sharding.device_set) == DEVICES
  check(actual, expected)


def test_without_the_axis_each_device_has_its_own_pairs(problem):
  """The reason for the argument: the local loss is another loss."""
  weights, batch, state = problem
  local = jax.jit(jax.vmap(value, in_axes=(None, 0, None)))
  losses, _ = local(weights, split(batch), state)
  (together, _), _ = single_step(weights, batch, state)
  assert abs(jnp.mean(losses) - together) > 0.05 * together
