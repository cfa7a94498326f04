import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import prune
from compress.errors import InputError

WEIGHTS = jnp.array([[0.5, -2.0], [1.5, 0.1]])


def test_saliencies_by_hand():
  np.testing.assert_allclose(
    prune.magnitude_saliency(WEIGHTS), [[0.5, 2], [1.5, 0.1]]
  )
  grad = jnp.array([[4.0, -0.5], [0.0, 10.0]])
  np.testing.assert_allclose(
    prune.gradient_saliency(WEIGHTS, grad=grad), [[2, 1], [0, 1]]
  )
  np.testing.assert_allclose(
    prune.activation_saliency(WEIGHTS, jnp.array([10.0, 1.0])),
    [[5, 20], [1.5, 0.1]],
  )


def test_each_leaf_draws_its_own_numbers():
  leaves = {'a': WEIGHTS, 'b': WEIGHTS}
  draw = prune.random_saliency
  one = prune.saliencies(draw, leaves, key=jax.random.key(0))
  two = prune.saliencies(draw, leaves, key=jax.random.key(0))
  assert (one['a'] != one['b']).any()
  assert (one['a'] == two['a']).all()


def test_what_is_missing_is_named():
  with pytest.raises(InputError, match='needs a key'):
    prune.random_saliency(WEIGHTS)
  with pytest.raises(InputError, match='needs a gradient'):
    prune.gradient_saliency(WEIGHTS)
  with pytest.raises(InputError, match=r'norms of shape \[3\]'):
    prune.activation_saliency(WEIGHTS, jnp.ones(3))


@pytest.mark.parametrize('name', prune.BASELINES)
def test_baselines_prune(name):
  baseline = prune.BASELINES[name]
  method = prune.prune_weights(
    [('.*', 0.5)],
    saliency=baseline.saliency,
    allocation=baseline.allocation,
    schedule=prune.one_shot(step=1),
    key=jax.random.key(0),
  )
  params = {'a': WEIGHTS, 'b': 10 * WEIGHTS}
  state = method.init(params)
  state = method.update(
    params, state, step=1, grads={'a': WEIGHTS, 'b': WEIGHTS}
  )
  found = {p: int(m.sum()) for p, m in prune.masks_of(state).items()}
  assert sum(found.values()) == 4
  if name.startswith('layer') or name == 'random':
    assert found == {'a': 2, 'b': 2}
