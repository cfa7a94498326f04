import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress.errors import InputError
from compress.prune.curvature import (
  flatten_params,
  gauss_newton_diagonal,
  gauss_newton_vectors,
)
from compress.prune.optimal_brain_damage import brain_damage_saliency
from compress.prune.optimal_brain_surgeon import (
  brain_surgeon,
  brain_surgeon_saliency,
  inverse_blocks,
  inverse_hessian,
)

HESSIAN = np.array([[2.0, 1.0], [1.0, 2.0]])


def positive(n, seed=0):
  a = np.random.default_rng(seed).normal(size=(2 * n, n))
  return a.T @ a / n


def cost(hessian, change):
  return 0.5 * change @ hessian @ change


def test_golden_saliency():
  weights = jnp.array([1, 0.5])
  saliency = brain_surgeon_saliency(weights, jnp.linalg.inv(HESSIAN))
  np.testing.assert_allclose(saliency[''], [0.75, 0.1875], rtol=1e-6)


@pytest.mark.parametrize(
  'alone, expected, added', [(1, (1.25, 0), 0.1875), (0, (0, 1), 0.75)]
)
def test_golden_deletion(alone, expected, added):
  params = {'a': jnp.array([1.0]), 'b': jnp.array([0.5])}
  out = brain_surgeon(
    params, jnp.linalg.inv(HESSIAN), count=1, removable=['ab'[alone]]
  )
  vector, _ = flatten_params(out.params)
  np.testing.assert_allclose(vector, expected, rtol=1e-6)
  np.testing.assert_allclose(out.costs, [added], rtol=1e-6)
  change = np.asarray(vector) - np.array([1, 0.5])
  np.testing.assert_allclose(cost(HESSIAN, change), added, rtol=1e-6)


def test_recursion_is_the_inverse():
  with jax.enable_x64(True):
    x = np.random.default_rng(0).normal(size=(12, 8))
    inverse = inverse_hessian(jnp.asarray(x), damping=1e-2)
    expected = np.linalg.inv(1e-2 * np.eye(8) + x.T @ x / 12)
    assert np.abs(inverse - expected).max() < 1e-12 * np.abs(expected).max()


def test_many_deletions_reach_the_constrained_minimum():
  with jax.enable_x64(True):
    hessian = positive(10)
    start = np.random.default_rng(1).normal(size=10)
    out = brain_surgeon(
      jnp.asarray(start), jnp.linalg.inv(jnp.asarray(hessian)), count=6
    )
    keep = np.asarray(out.keep)
    best = np.zeros(10)
    best[keep] = np.linalg.solve(
      hessian[np.ix_(keep, keep)], (hessian @ start)[keep]
    )
    assert keep.sum() == 4
    assert (np.asarray(out.params)[~keep] == 0).all()
    np.testing.assert_allclose(out.params, best, atol=1e-12)
    added = cost(hessian, out.params - start)
    np.testing.assert_allclose(out.costs.sum(), added, rtol=1e-12)


def test_each_deletion_is_the_cheapest():
  with jax.enable_x64(True):
    hessian = positive(6)
    start = np.random.default_rng(2).normal(size=6)
    out = brain_surgeon(
      jnp.asarray(start), jnp.linalg.inv(jnp.asarray(hessian)), count=1
    )
    costs = []
    for q in range(6):
      rest = np.arange(6) != q
      w = np.zeros(6)
      w[rest] = np.linalg.solve(
        hessian[np.ix_(rest, rest)], (hessian @ start)[rest]
      )
      costs.append(cost(hessian, w - start))
    np.testing.assert_allclose(out.costs[0], min(costs), rtol=1e-12)
    assert not out.keep[np.argmin(costs)]


def test_diagonal_hessian_is_optimal_brain_damage():
  h, w = jnp.array([1.0, 4.0, 0.5]), jnp.array([1.0, -0.3, 2.0])
  damage = brain_damage_saliency(w, {'': h})['']
  surgeon = brain_surgeon_saliency(w, jnp.diag(1 / h))['']
  np.testing.assert_allclose(surgeon, damage, rtol=1e-6)
  out = brain_surgeon(w, jnp.diag(1 / h), count=2)
  np.testing.assert_array_equal(out.params, [0, 0, 2])


def test_blocks_are_a_block_diagonal_inverse():
  a, b = positive(4, 3).astype(np.float32), positive(6, 4).astype(np.float32)
  whole = np.zeros((10, 10), np.float32)
  whole[:4, :4], whole[4:, 4:] = np.linalg.inv(a), np.linalg.inv(b)
  rng = np.random.default_rng(5)
  params = {
    'x': jnp.asarray(rng.normal(size=(2, 2)), jnp.float32),
    'y': jnp.asarray(rng.normal(size=(3, 2)), jnp.float32),
  }
  blocks = {
    'y': jnp.asarray(whole[4:, 4:]),
    'x': jnp.asarray(whole[:4, :4]),
  }
  one = brain_surgeon(params, jnp.asarray(whole), count=5)
  two = jax.jit(lambda p, h: brain_surgeon(p, h, count=5))(params, blocks)
  for path in params:
    np.testing.assert_array_equal(one.keep[path], two.keep[path])
    np.testing.assert_allclose(one.params[path], two.params[path], atol=1e-5)
  np.testing.assert_allclose(one.costs, two.costs, rtol=1e-4)


def test_leaves_without_a_block_stay():
  params = {'k': jnp.array([1.0, 0.5]), 'b': jnp.array([3.0])}
  out = brain_surgeon(
    params, {'k': jnp.asarray(np.linalg.inv(HESSIAN), jnp.float32)}, count=2
  )
  assert out.params['b'] is params['b']
  np.testing.assert_array_equal(out.params['k'], [0, 0])
  assert out.keep['b'].all()


def test_order_is_that_of_the_leaves_not_of_their_paths():
  params = [jnp.array([float(i + 1)]) for i in range(12)]
  diagonal = jnp.diag(jnp.arange(1.0, 13.0))
  saliency = brain_surgeon_saliency(params, diagonal)
  np.testing.assert_allclose(saliency['10'], [11**2 / 2 / 11], rtol=1e-6)
  out = brain_surgeon(params, diagonal, count=3, removable=['10', '2', '11'])
  gone = [i for i, k in enumerate(out.keep) if not k.all()]
  assert gone == [2, 10, 11]


def test_inverse_blocks_of_a_net():
  params = {'k': jnp.array([[0.5, -1], [2, 0.3]]), 'b': jnp.array([0.1, 0.2])}
  x = jax.random.normal(jax.random.key(0), (16, 2))
  y = jnp.zeros((16, 2))

  def predict(p, x):
    return x @ p['k'] + p['b']

  def loss(o, y):
    return 0.5 * jnp.square(o - y).sum()

  vectors = jax.vmap(
    lambda x, y: gauss_newton_vectors(predict, loss, params, (x, y))
  )(x, y)
  vectors = vectors.reshape(32, 6) * jnp.sqrt(2.0)
  blocks = inverse_blocks(params, vectors, damping=1e-3)
  diagonal = gauss_newton_diagonal(predict, loss, params, (x, y))
  assert {p: b.shape for p, b in blocks.items()} == {'b': (2, 2), 'k': (4, 4)}
  for path, block in blocks.items():
    np.testing.assert_allclose(
      jnp.diagonal(jnp.linalg.inv(block)),
      diagonal[path].reshape(-1) + 1e-3,
      rtol=2e-2,
    )
  assert list(inverse_blocks(params, vectors, damping=1, paths=['k'])) == ['k']


def test_zero_deletions_change_nothing():
  weights = jnp.array([1, 0.5])
  out = brain_surgeon(weights, jnp.asarray(HESSIAN, jnp.float32), count=0)
  np.testing.assert_array_equal(out.params, weights)
  assert out.keep.all() and out.costs.shape == (0,)


@pytest.mark.parametrize(
  'inverse, keywords, message',
  [
    (jnp.eye(3), {'count': 1}, 'right for 2 weights'),
    (jnp.eye(2), {'count': 3}, 'right is 0 to 2'),
    (jnp.eye(2), {'count': 1, 'removable': ['x']}, "no leaf 'x'"),
  ],
)
def test_refusals(inverse, keywords, message):
  with pytest.raises(InputError, match=message):
    brain_surgeon(jnp.array([1, 0.5]), inverse, **keywords)


def test_mixed_types_are_refused():
  params = {'a': jnp.zeros(1), 'b': jnp.zeros(1, jnp.bfloat16)}
  with pytest.raises(InputError, match='single one'):
    brain_surgeon(params, jnp.eye(2), count=1)
