import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress import prune
from compress.errors import InputError
from compress.prune.selection import top_k_of_all

# One length, so that it compiles once.
SCORES = st.lists(
  st.sampled_from([0.0, 1.0, 2.0, 3.0, -np.inf, np.nan]),
  min_size=7,
  max_size=7,
)


def test_magnitude_by_hand():
  weights = jnp.array([[0.5, -2.0], [1.5, 0.1]])
  mask = prune.top_k(jnp.abs(weights), 2)
  np.testing.assert_array_equal(mask, [[False, True], [True, False]])


@given(scores=SCORES, keep=st.integers(0, 7))
@settings(max_examples=30, deadline=None)
def test_top_k_is_exact_with_ties_by_lowest_index(scores, keep):
  clean = np.where(np.isnan(scores), -np.inf, scores)
  order = np.argsort(-clean, kind='stable')
  expected = np.isin(np.arange(len(scores)), order[:keep])
  x = jnp.array(scores, jnp.float32)
  np.testing.assert_array_equal(prune.top_k(x, keep), expected)
  np.testing.assert_array_equal(prune.ranks(x) < keep, expected)


@pytest.mark.parametrize(
  ('ties', 'expected'),
  [
    ('index', [1, 1, 0, 0, 1]),
    ('kept', [1, 1, 1, 0, 1]),
    ('removed', [1, 0, 0, 0, 1]),
  ],
)
def test_ties(ties, expected):
  scores = jnp.array([5.0, 2.0, 2.0, 1.0, 3.0])
  mask = prune.top_k(scores, 3, ties=ties)
  np.testing.assert_array_equal(mask, np.array(expected, bool))
  assert prune.top_k(scores, 5, ties=ties).all()
  assert not prune.top_k(scores, 0, ties=ties).any()


def test_one_compiled_function_for_all_counts():
  scores = jax.random.normal(jax.random.key(0), (6, 5))
  function = jax.jit(prune.top_k)
  for keep in range(31):
    mask = function(scores, keep)
    assert int(mask.sum()) == keep
    np.testing.assert_array_equal(mask, prune.top_k(scores, keep))
  assert function._cache_size() == 1


def test_permuted_units_permute_the_mask():
  scores = jax.random.normal(jax.random.key(1), (4, 6))
  order = jax.random.permutation(jax.random.key(2), 6)
  np.testing.assert_array_equal(
    prune.top_k(scores[:, order], 9), prune.top_k(scores, 9)[:, order]
  )


def test_two_of_four_by_hand():
  weights = jnp.array([0.1, -0.5, 0.3, 0.2])
  mask = prune.n_m(jnp.abs(weights), 2, 4, axis=0)
  np.testing.assert_array_equal(mask, [False, True, True, False])


@pytest.mark.parametrize(('n', 'm'), [(2, 4), (1, 4), (4, 8), (3, 3)])
def test_every_block_keeps_n(n, m):
  scores = jnp.abs(jax.random.normal(jax.random.key(3), (3, 3, 24, 5)))
  mask = np.asarray(prune.n_m(scores, n, m))
  blocks = np.moveaxis(mask, 2, -1).reshape(-1, m)
  assert (blocks.sum(1) == n).all()
  kept = np.where(mask, scores, 0).sum()
  assert kept >= np.asarray(scores).sum() * n / m  # not below the average


def test_a_short_block_is_filled_up():
  mask = prune.n_m(jnp.array([[1.0], [2.0], [3.0], [4.0], [0.0]]), 2, 4)
  np.testing.assert_array_equal(mask[:, 0], [0, 0, 1, 1, 1])


def test_n_m_needs_axes_that_it_divides():
  with pytest.raises(InputError, match=r'first/kernel: 3 entries.*M=4'):
    prune.select_n_m(2, 4).units((3, 3, 3, 8), 'first/kernel')
  with pytest.raises(InputError, match='5:4'):
    prune.n_m(jnp.ones((4, 4)), 5, 4)
  with pytest.raises(InputError, match='0:4'):
    prune.select_n_m(0, 4)
  with pytest.raises(InputError, match='axis -2'):
    prune.n_m(jnp.ones(4), 2, 4)


def test_threshold_of_han():
  weights = jnp.array([0.1, -1.0, 2.0, -0.2])
  value = 0.5 * weights.std()
  np.testing.assert_array_equal(
    prune.threshold(jnp.abs(weights), value), [False, True, True, False]
  )


def test_blocks_go_as_one():
  saliency = jnp.arange(16.0).reshape(4, 4)
  mask = prune.select_blocks((2, 2))(saliency, 2)
  np.testing.assert_array_equal(mask[:2], np.zeros((2, 4), bool))
  np.testing.assert_array_equal(mask[2:], np.ones((2, 4), bool))
  deep = prune.select_blocks((2, 3))(jnp.ones((2, 4, 6)), 5)
  assert int(deep.sum()) == 30
  with pytest.raises(InputError, match=r'fc/kernel.*\[3, 2\]'):
    prune.select_blocks((3, 2)).units((4, 4), 'fc/kernel')
  with pytest.raises(InputError, match='holds no weight'):
    prune.select_blocks(())


def test_channels_go_as_one():
  saliency = jnp.stack([jnp.full((3, 2), v) for v in (1.0, 5.0, 3.0)], -1)
  selection = prune.select_channels()
  assert selection.units((3, 2, 3), 'k') == 3
  mask = selection(saliency, 2)
  np.testing.assert_array_equal(mask.all((0, 1)), [False, True, True])
  np.testing.assert_array_equal(mask.any((0, 1)), [False, True, True])


def test_groups_keep_their_shares_by_hand():
  importance = jnp.array([[4.0, 1.0, 2.0], [1.0, 3.0, 2.0]])
  mask = prune.group_balanced(importance, 2)
  np.testing.assert_array_equal(mask, [True, True, False])


def test_one_group_is_top_k():
  importance = jax.random.uniform(jax.random.key(5), (1, 4, 5))
  for keep in (0, 7, 20):
    np.testing.assert_array_equal(
      prune.group_balanced(importance, keep), prune.top_k(importance[0], keep)
    )


def test_groups_may_be_renamed():
  importance = jax.random.uniform(jax.random.key(6), (3, 30))
  order = jnp.array([2, 0, 1])
  one = prune.group_balanced(importance, 11)
  assert int(one.sum()) == 11
  np.testing.assert_array_equal(
    one, prune.group_balanced(importance[order], 11)
  )


def test_leaves_are_ranked_together():
  scores = {'a': jnp.array([[1.0, 4.0]]), 'b': jnp.array([4.0, 2.0, 0.0])}
  found = top_k_of_all(scores, 2)
  np.testing.assert_array_equal(found['a'], [[False, True]])
  np.testing.assert_array_equal(found['b'], [True, False, False])
  found = top_k_of_all(scores, 1)
  assert found['a'].sum() == 1 and not found['b'].any()
