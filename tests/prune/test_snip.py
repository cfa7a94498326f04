import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress.errors import InputError
from compress.prune.snip import snip_saliency


def network(seed=0):
  keys = jax.random.split(jax.random.key(seed), 2)
  return {
    'a': {'kernel': jax.random.normal(keys[0], (4, 5)), 'bias': jnp.ones(5)},
    'b': {'kernel': jax.random.normal(keys[1], (5, 3), jnp.bfloat16)},
  }


def loss(params, x):
  h = jnp.tanh(x @ params['a']['kernel'] + params['a']['bias'][None])
  return jnp.mean((h @ params['b']['kernel'].astype(jnp.float32) - 1) ** 2)


def batch():
  return jax.random.normal(jax.random.key(9), (6, 4))


def test_golden():
  scores = snip_saliency(
    lambda p, b: (p['w'].sum() - b) ** 2 / 2,
    {'w': jnp.array([2.0, 3.0])},
    jnp.float32(1),
    prunable='w',
  )
  np.testing.assert_allclose(scores['w'], [0.4, 0.6], rtol=1e-6)


def test_sums_to_one_over_the_kernels_alone():
  params = network()
  scores = jax.jit(lambda p: snip_saliency(loss, p, batch()))(params)
  assert {p: s.shape for p, s in scores.items()} == {
    'a/kernel': (4, 5),
    'b/kernel': (5, 3),
  }
  assert all(s.dtype == jnp.float32 for s in scores.values())
  assert sum(float(s.sum()) for s in scores.values()) == pytest.approx(1)


def test_is_the_derivative_with_respect_to_a_factor():
  params = network()
  params['b']['kernel'] = params['b']['kernel'].astype(jnp.float32)

  def scaled(factor):
    kernel = params['a']['kernel'] * factor
    return loss(params | {'a': params['a'] | {'kernel': kernel}}, batch())

  expected = jnp.abs(jax.grad(scaled)(jnp.ones((4, 5))))
  found = snip_saliency(loss, params, batch())['a/kernel']
  ratio = expected / found
  np.testing.assert_allclose(ratio, jnp.full((4, 5), ratio[0, 0]), rtol=1e-4)


def test_permuting_units_permutes_saliencies():
  params = network()
  order = jnp.array([3, 1, 4, 0, 2])
  moved = {
    'a': {k: v[..., order] for k, v in params['a'].items()},
    'b': {'kernel': params['b']['kernel'][order]},
  }
  before = snip_saliency(loss, params, batch())
  after = snip_saliency(loss, moved, batch())
  np.testing.assert_allclose(
    after['a/kernel'], before['a/kernel'][:, order], rtol=1e-4
  )
  np.testing.assert_allclose(
    after['b/kernel'], before['b/kernel'][order], rtol=1e-4
  )


def test_a_loss_of_nothing_gives_zeros():
  scores = snip_saliency(
    lambda p, b: 0 * p['w'].sum(), {'w': jnp.ones(3)}, None, prunable='w'
  )
  np.testing.assert_array_equal(scores['w'], np.zeros(3))


def test_refuses_a_pattern_without_leaves():
  with pytest.raises(InputError, match=r'matches none of .*a/kernel'):
    snip_saliency(loss, network(), batch(), prunable='kernel')
