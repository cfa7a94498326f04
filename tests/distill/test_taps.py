"""Features by name, of a network and of what is left of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

from compress import distill, graph
from compress.errors import InputError


def apply(variables, x):
  h = checkpoint_name(jax.nn.relu(x @ variables['fc']['kernel']), 'relu')
  out = h @ variables['out']['kernel']
  return out, out.mean()


def variables():
  keys = jax.random.split(jax.random.key(0), 2)
  return {
    'fc': {'kernel': jax.random.normal(keys[0], (3, 5))},
    'out': {'kernel': jax.random.normal(keys[1], (5, 2))},
  }


def test_features_and_outputs():
  x = jax.random.normal(jax.random.key(1), (4, 3))
  names = [site.name for site in graph.trace(apply, variables(), x).sites]
  tapped = jax.jit(distill.tap_features(apply, [*names, 'relu']))
  (out, mean), found = tapped(variables(), x)
  expected = apply(variables(), x)
  np.testing.assert_allclose(out, expected[0], rtol=1e-6)
  np.testing.assert_allclose(mean, expected[1], rtol=1e-6)
  assert list(found) == [*names, 'relu']
  np.testing.assert_allclose(found[names[0]].clip(0), found['relu'])


def test_a_shrunk_model_keeps_its_names():
  x = jax.random.normal(jax.random.key(1), (4, 3))
  (group,) = graph.channels(graph.trace(apply, variables(), x)).groups
  keep = {group.name: np.array([1, 0, 1, 1, 0], bool)}
  small = graph.shrink(apply, variables(), keep, x)
  _, found = distill.tap_features(small.apply, ['relu'])(small.variables, x)
  _, full = distill.tap_features(apply, ['relu'])(variables(), x)
  np.testing.assert_allclose(
    found['relu'], full['relu'][:, keep[group.name]], rtol=1e-6
  )


def test_errors():
  with pytest.raises(InputError, match="no feature 'nowhere'.*'*relu"):
    distill.tap_features(apply, ['nowhere'])(variables(), jnp.ones((1, 3)))
  with pytest.raises(InputError, match='given twice'):
    distill.tap_features(apply, ['relu', 'relu'])
