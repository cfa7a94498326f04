import jax.numpy as jnp
import pytest

from compress.errors import InputError
from compress.prune.paths import KERNELS, by_path, matching, pick, put


def test_pick():
  params = {'a': {'b': jnp.ones(1)}, 'c': jnp.ones(2)}
  assert list(pick(params, ['c', 'a/b'])) == ['c', 'a/b']
  with pytest.raises(InputError, match="no leaf 'd'; leaves are a/b, c"):
    pick(params, ['d'])


def test_by_path_keeps_the_order_of_the_leaves():
  tree = [jnp.full(1, i) for i in range(12)]
  assert list(by_path(tree)) == [str(i) for i in range(12)]
  assert list(by_path(jnp.ones(1))) == ['']


def test_what_matches_is_put_back():
  params = {'a': {'kernel': jnp.ones(1), 'bias': jnp.ones(2)}}
  leaves = matching(params, KERNELS)
  assert list(leaves) == ['a/kernel']
  out = put(params, {'a/kernel': 3 * leaves['a/kernel']})
  assert out['a']['kernel'] == 3 and out['a']['bias'] is params['a']['bias']
  with pytest.raises(InputError, match="prunable='b.*' matches none"):
    matching(params, 'b.*')
