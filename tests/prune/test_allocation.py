import math

import jax
import jax.numpy as jnp
import pytest

from compress import prune
from compress.errors import InputError

LENET = {'a': (784, 300), 'b': (300, 100), 'c': (100, 10)}
CONVOLUTIONS = {'a': (3, 3, 3, 16), 'b': (3, 3, 16, 32), 'c': (512, 10)}


def arrays(shapes):
  return {p: jax.ShapeDtypeStruct(s, jnp.float32) for p, s in shapes.items()}


def raw(shape):
  return sum(shape) / math.prod(shape)


def test_erdos_renyi_of_lenet_by_hand():
  found = prune.densities(LENET, 0.9, raw)
  assert found['a'] == pytest.approx(0.079568, abs=1e-6)
  assert found['b'] == pytest.approx(0.230189, abs=1e-6)
  assert found['c'] == 1
  assert found['a'] / raw(LENET['a']) == pytest.approx(17.2642, abs=1e-4)
  sizes = {p: math.prod(s) for p, s in LENET.items()}
  kept = sum(found[p] * sizes[p] for p in LENET)
  assert kept / sum(sizes.values()) == pytest.approx(0.1, abs=1e-12)


@pytest.mark.parametrize('sparsity', [0.3, 0.5, 0.9, 0.98])
def test_erdos_renyi_keeps_the_uniform_budget(sparsity):
  sizes = {p: math.prod(s) for p, s in LENET.items()}
  found = prune.densities(LENET, sparsity, raw)
  kept = sum(found[p] * n for p, n in sizes.items())
  budget = sum(n - math.floor(sparsity * n + 1e-9) for n in sizes.values())
  assert kept == pytest.approx(budget, rel=1e-12)
  counts = prune.erdos_renyi()(arrays(LENET), sparsity)
  assert budget - 3 <= sum(counts.values()) <= budget


def test_erdos_renyi_kernel_by_hand():
  found = prune.densities(CONVOLUTIONS, 0.8, raw)
  for path, density in zip('abc', (0.195758, 0.039641, 0.344876), strict=True):
    assert found[path] == pytest.approx(density, abs=1e-6)
  counts = prune.erdos_renyi_kernel()(arrays(CONVOLUTIONS), 0.8)
  assert counts == {'a': 84, 'b': 182, 'c': 1765}


def test_power_zero_is_uniform():
  counts = prune.erdos_renyi_kernel(power=0.0)(arrays(CONVOLUTIONS), 0.75)
  assert counts == prune.uniform()(arrays(CONVOLUTIONS), 0.75)


def test_a_first_layer_stays_dense():
  counts = prune.erdos_renyi_kernel(first_dense=True)(arrays(CONVOLUTIONS), 0.8)
  assert counts['a'] == 432
  total = sum(math.prod(s) for s in CONVOLUTIONS.values())
  assert sum(counts.values()) <= 0.2 * total + 3
  with pytest.raises(InputError, match='a: the leaves that stay dense'):
    prune.erdos_renyi_kernel(first_dense=True)(arrays(CONVOLUTIONS), 0.99)


def test_leaves_may_differ():
  counts = prune.uniform()(arrays(LENET), {'a': 0.9, 'b': 0.5, 'c': 0.0})
  assert counts == {'a': 23520, 'b': 15000, 'c': 1000}
  given = prune.given({'a': 0.9, 'b': 0.5, 'c': 0.0})
  assert given(arrays(LENET)) == counts


def test_what_is_wrong_is_named():
  with pytest.raises(InputError, match='set of leaves is empty'):
    prune.uniform()({}, 0.5)
  with pytest.raises(InputError, match='a: sparsity 1 lies outside'):
    prune.uniform()(arrays(LENET), 1)
  with pytest.raises(InputError, match='b: uniform needs a sparsity'):
    prune.uniform()(arrays(LENET), {'a': 0.5})
  with pytest.raises(InputError, match='x: has a sparsity but is no leaf'):
    prune.given({'x': 0.5})(arrays(LENET))
  with pytest.raises(InputError, match='b: has no sparsity'):
    prune.given({'a': 0.5})(arrays(LENET))
  with pytest.raises(InputError, match='a: given decides the sparsity itself'):
    prune.given(dict.fromkeys(LENET, 0.5))(arrays(LENET), 0.5)
