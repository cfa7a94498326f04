import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

from compress import graph as graph_lib
from compress.errors import InputError
from compress.graph.channels import ChannelGroup, Member
from compress.prune import gates as gates_lib


def apply(variables, x):
  p = variables['params']
  x = checkpoint_name(jax.nn.relu(x @ p['a']['kernel']), 'relu_a')
  x = checkpoint_name(jax.nn.relu(x @ p['b']['kernel']), 'relu_b')
  return x @ p['c']['kernel']


@functools.cache
def problem():
  generator = np.random.default_rng(0)
  sizes = {'a': (6, 8), 'b': (8, 10), 'c': (10, 3)}
  params = {
    name: {'kernel': jnp.array(generator.normal(size=shape), jnp.float32)}
    for name, shape in sizes.items()
  }
  x = jnp.array(generator.normal(size=(40, 6)), jnp.float32)
  return {'params': params}, x, (x[:, 0] > 0).astype(int)


def groups():
  def group(name, size, out, into):
    rows = np.arange(size)[:, None]
    members = (
      Member(f'params/{out}/kernel', 1, rows, 'out'),
      Member(f'params/{into}/kernel', 0, rows, 'in'),
    )
    return ChannelGroup(name, size, members, frozenset())

  return {'relu_a': group('a', 8, 'a', 'b'), 'relu_b': group('b', 10, 'b', 'c')}


def opened():
  variables, x, _ = problem()
  graph = graph_lib.trace(apply, variables, x[:1])
  return graph, gates_lib.init_gates(graph, ['relu_a', 'relu_b'])


def test_open_gates_change_nothing_and_closed_ones_remove():
  variables, x, _ = problem()
  _, gates = opened()
  gated = gates_lib.gate_channels(apply)
  np.testing.assert_allclose(gated(variables, gates, x), apply(variables, x))
  gates['relu_a'] = gates['relu_a'].at[2].set(0.0)
  kernel = variables['params']['a']['kernel'].at[:, 2].set(0.0)
  without = {'params': {**variables['params'], 'a': {'kernel': kernel}}}
  np.testing.assert_allclose(
    gated(variables, gates, x), apply(without, x), atol=1e-5
  )
  with pytest.raises(InputError, match='nowhere'):
    gates_lib.init_gates(opened()[0], ['nowhere'])


def test_penalty_and_clamp():
  gates = {'a': jnp.array([1.0, 0.5]), 'b': jnp.array([0.0, -0.5])}
  penalty = gates_lib.gate_penalty(gates, density=0.25)
  np.testing.assert_allclose(penalty, 0.0625)
  clamped = gates_lib.clamp_gates({'a': jnp.array([-0.1, 0.4, 1.2])})
  np.testing.assert_allclose(clamped['a'], [0.0, 0.4, 1.0])
  assert gates_lib.gate_density(gates) == 0.75


def test_learning_moves_gates_only():
  variables, x, labels = problem()
  before = jax.tree.map(np.array, variables)
  gated = gates_lib.gate_channels(apply)
  _, gates = opened()

  def loss_fn(gates, batch):
    log_q = jax.nn.log_softmax(gated(variables, gates, batch[0]))
    return -jnp.take_along_axis(log_q, batch[1][:, None], axis=1).mean()

  def accuracy(gates):
    return float((gated(variables, gates, x).argmax(1) == labels).mean())

  found = gates_lib.learn_gates(
    loss_fn,
    accuracy,
    gates,
    [[(x, labels)] * 60] * 3,
    density=0.6,
  )
  jax.tree.map(np.testing.assert_array_equal, before, variables)
  values = np.concatenate(list(found.gates.values()))
  assert values.min() == 0.0
  assert values.max() <= 1.0
  assert accuracy(found.gates) == found.accuracy > accuracy(gates)
  with pytest.raises(InputError, match='density'):
    gates_lib.learn_gates(loss_fn, accuracy, gates, [], density=0.0)


def test_thresholds_nest_and_no_layer_dies():
  gates = {'a': np.linspace(0.5, 1.0, 6), 'b': np.linspace(0.0, 0.4, 5)}
  before = {name: np.ones(len(gate), bool) for name, gate in gates.items()}
  for removed in (0.0, 0.2, 0.5, 0.9, 1.0):
    keep = gates_lib.keep_channels(gates, removed=removed)
    for name in gates:
      assert (keep[name] <= before[name]).all()
      assert keep[name].sum() >= 1
    before = keep
  keep = gates_lib.keep_channels(gates, removed=3 / 11)
  assert [int(kept.sum()) for kept in keep.values()] == [6, 2]


def test_site_macs():
  graph, _ = opened()
  macs = gates_lib.site_macs(graph, groups())
  assert macs({'relu_a': 8, 'relu_b': 10}) == 48 + 80 + 30
  assert macs({'relu_a': 4, 'relu_b': 5}) == 24 + 20 + 15


@pytest.mark.parametrize('sparsity', [0.25, 0.5, 0.75])
def test_bisection_reaches_the_macs(sparsity):
  generator = np.random.default_rng(0)
  gates = {'a': generator.uniform(size=400), 'b': generator.uniform(size=600)}

  def macs(widths):
    return 27 * widths['a'] + widths['a'] * widths['b'] + 10 * widths['b']

  found = gates_lib.widths_for_macs(
    gates, macs, sparsity=sparsity, tolerance=5e-3
  )
  full = macs({'a': 400, 'b': 600})
  assert abs(1 - found.macs / full - sparsity) / sparsity <= 5e-3
  assert found.macs == macs(found.widths)
  assert found.widths == {n: k.sum() for n, k in found.keep.items()}
  with pytest.raises(InputError):
    gates_lib.widths_for_macs(gates, macs, sparsity=1.0)


def test_scratch_epochs():
  assert gates_lib.scratch_epochs(160, full_macs=200, macs=100) == 320
  assert gates_lib.scratch_epochs(160, full_macs=100, macs=200) == 160
