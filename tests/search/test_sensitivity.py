"""Sensitivities by hand, and of layers that cannot matter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import search
from compress.errors import InputError

PARAMS = {
  'first': jnp.array([[1.0, 0.3], [0.2, 2.0]]),
  'second': jnp.array([[0.5, -1.0], [1.5, 0.1]]),
  'unused': jnp.ones((2,)),
}
INPUTS = [jnp.array([[1.0, 2.0], [-1.0, 0.5]]), jnp.array([[0.3, -2.0]])]


def _apply(params, x):
  return jnp.tanh(x @ params['first']) @ params['second']


def _options():
  return {
    bits: jax.tree.map(lambda x, b=bits: jnp.round(x * b) / b, PARAMS)
    for bits in (1, 4)
  }


def test_divergences_by_hand():
  a = jnp.log(jnp.array([[0.5, 0.5], [0.9, 0.1]]))
  b = jnp.log(jnp.array([[0.25, 0.75], [0.9, 0.1]]))
  expected = [0.5 * np.log(2) + 0.5 * np.log(2 / 3), 0.0]
  np.testing.assert_allclose(
    search.softmax_divergence(a, b), expected, atol=1e-6
  )
  x = jnp.array([[1.0, 0.0], [2.0, 0.0], [0.0, 0.0]])
  y = jnp.array([[0.0, 3.0], [5.0, 0.0], [1.0, 0.0]])
  np.testing.assert_allclose(
    search.cosine_divergence(x, y), [1.0, 0.0, 0.5], atol=1e-6
  )


def test_one_layer_at_a_time_by_hand():
  found = search.layer_sensitivities(
    _apply,
    PARAMS,
    _options(),
    INPUTS,
    paths=['first', 'second', 'unused'],
    progress=False,
  )
  for path in ('first', 'second'):
    for bits, tree in _options().items():
      changed = {**PARAMS, path: tree[path]}
      gaps = [
        search.softmax_divergence(_apply(PARAMS, x), _apply(changed, x))
        for x in INPUTS
      ]
      expected = np.concatenate(gaps).mean()
      np.testing.assert_allclose(found[path][bits], expected, rtol=1e-5)
    assert found[path][1] > found[path][4] > 0
  assert found['unused'] == {1: 0.0, 4: 0.0}


@pytest.mark.parametrize(
  ('paths', 'batches'), [(['third'], INPUTS), (['first'], []), ([], INPUTS)]
)
def test_layers_that_are_none_are_refused(paths, batches):
  with pytest.raises(InputError, match='leaf paths'):
    search.layer_sensitivities(
      _apply, PARAMS, _options(), batches, paths=paths, progress=False
    )


@pytest.mark.parametrize('size', [1e-4, 1e-2, 0.3, 3.0])
def test_small_divergences_are_not_lost_in_rounding(size):
  keys = jax.random.split(jax.random.key(0))
  reference = 3 * jax.random.normal(keys[0], (16, 100))
  changed = reference + size * jax.random.normal(keys[1], reference.shape)
  found = search.softmax_divergence(reference, changed)

  def log_softmax(x):
    x = np.asarray(x, np.float64)
    return x - np.log(np.exp(x).sum(1, keepdims=True))

  log_p, log_q = log_softmax(reference), log_softmax(changed)
  expected = (np.exp(log_p) * (log_p - log_q)).sum(1)
  np.testing.assert_allclose(found, expected, rtol=5e-3)
