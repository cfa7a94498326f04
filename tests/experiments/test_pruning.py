"""A face network without some of its channels."""

import functools

import jax
import numpy as np
import pytest

from compress import encode, graph, packed
from compress.errors import InputError
from experiments.faces import pruning
from experiments.faces.student import (
  Recipe,
  bit_operations,
  frozen_twin,
  make_student,
)
from tests.experiments.small_network import photographs, small_network

FLOAT = Recipe(weight_bits=None, activation_bits=None)


def rank(importance, seed=0):
  return pruning.rank_channels(
    small_network(),
    importance,
    images=photographs()[0],
    batches=8,
    seed=seed,
  )


@functools.cache
def half():
  return pruning.prune_network(small_network(), rank('group'), 0.5)


def images():
  return photographs()[0].astype(np.float32)


def test_every_group_loses_its_share():
  network, widths = half().network, half().widths
  assert widths == {
    name: [max(1, full // 2), full] for name, (_, full) in widths.items()
  }
  assert len(widths) >= 3
  before, after = (
    sum(leaf.size for leaf in jax.tree.leaves(n.variables['params']))
    for n in (small_network(), network)
  )
  assert after < 0.6 * before
  out = jax.jit(network.apply)(network.variables, images())
  assert out.shape == (16, 8)


def test_training_mode_is_pruned_too():
  network = half().network
  out, stats = jax.jit(network.train_apply)(network.variables, images())
  assert out.shape == (16, 8)
  shapes = jax.tree.map(np.shape, network.variables['batch_stats'])
  assert jax.tree.map(np.shape, stats) == shapes


@pytest.mark.slow
def test_what_a_file_says_is_enough(tmp_path):
  """A float twin and a quantized one, read back by their description."""
  for recipe in (FLOAT, Recipe(weight_bits=6, activation_bits=6)):
    student = make_student(half().network, recipe, photographs()[0], batch=8)
    path = tmp_path / 'network.safetensors'
    tree = student.pack(student.trained, student.carried)
    encode.save(path, tree, {'kept': half().described})
    stored = encode.load(path)
    again = pruning.restore_network(small_network(), stored.metadata['kept'])
    frozen = jax.jit(frozen_twin(again, recipe))
    found = frozen(packed.unpack_tree(stored.tree), images())
    apply = jax.jit(functools.partial(student.apply, train=False))
    simulated, _ = apply(student.trained, student.carried, images())
    assert np.asarray(found).tobytes() == np.asarray(simulated).tobytes()


def test_a_float_twin_is_the_network():
  network = half().network
  student = make_student(network, FLOAT, photographs()[0], batch=8)
  apply = jax.jit(functools.partial(student.apply, train=False))
  found, _ = apply(student.trained, student.carried, images())
  expected = jax.jit(network.apply)(network.variables, images())
  np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
  assert not student.activation_specs and not student.weight_specs
  cost = bit_operations(student)
  assert cost.bops == 32 * 32 * cost.macs


@pytest.mark.slow
def test_random_control():
  network = small_network()
  kept = [
    graph.read_kept(
      pruning.prune_network(network, rank('random', seed), 0.5).described
    )[0]
    for seed in (0, 0, 1)
  ]
  flat = [
    np.concatenate([i for axes in k.values() for i in axes.values()])
    for k in kept
  ]
  assert (flat[0] == flat[1]).all() and (flat[0] != flat[2]).any()


def test_bad_sparsity():
  with pytest.raises(InputError, match='sparsity 1 '):
    pruning.prune_network(small_network(), rank('group'), 1.0)


def test_taylor_moves_the_embeddings_less_than_random():
  network = small_network()

  def cosine(importance):
    smaller = pruning.prune_network(network, rank(importance), 0.3).network
    a, b = (
      np.asarray(jax.jit(n.apply)(n.variables, images()))
      for n in (network, smaller)
    )
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return ((a * b).sum(1) / norms).mean()

  assert cosine('taylor') > cosine('random')
