import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress.errors import InputError
from compress.prune import apply_masks
from compress.prune import lottery_ticket as lt

RULES = [('out/kernel', 0.1), ('.*kernel', 0.2)]


def init_fn(key):
  keys = jax.random.split(key, 3)
  return {
    'fc': {
      'kernel': jax.random.normal(keys[0], (30, 20)),
      'bias': jax.random.normal(keys[1], (20,)),
    },
    'out': {'kernel': jax.random.normal(keys[2], (20, 10), jnp.bfloat16)},
  }


def train_fn(params, masks, i):
  """Stands for training: moves survivors, keeps zeros."""
  other = init_fn(jax.random.key(100 + i))
  moved = jax.tree.map(
    lambda a, b: a + b * jnp.asarray(0.1, b.dtype), params, other
  )
  return apply_masks(moved, masks)


def counts(masks):
  return {path: int(mask.sum()) for path, mask in masks.items()}


def test_golden_densities():
  params = {'kernel': jax.random.normal(jax.random.key(0), (100, 100))}
  masks = lt.full_masks(params, RULES)
  golden = {1: 80.0, 3: 51.2, 7: 21.0, 12: 6.9, 16: 2.8, 20: 1.2}
  for i in range(1, 21):
    masks = lt.next_masks(params, masks, RULES)
    # Every round loses less than a weight to rounding down.
    assert 0 <= 0.8**i - lt.density(masks) < 5e-4
    if i in golden:
      assert 100 * lt.density(masks) == pytest.approx(golden[i], abs=0.1)


def test_rounds_are_exact_nested_and_wound_back():
  params = init_fn(jax.random.key(0))
  tickets = list(lt.find_tickets(train_fn, params, RULES, rounds=4))
  assert [t.round for t in tickets] == [0, 1, 2, 3, 4]
  assert [counts(t.masks) for t in tickets] == [
    {'fc/kernel': n, 'out/kernel': m}
    for n, m in [(600, 200), (480, 180), (384, 162), (307, 145), (245, 130)]
  ]
  for before, after in zip(tickets[:-1], tickets[1:], strict=True):
    for path, mask in after.masks.items():
      assert not np.any(mask & ~before.masks[path])
  last = tickets[-1]
  for name in ('fc', 'out'):
    mask, kernel = last.masks[f'{name}/kernel'], params[name]['kernel']
    np.testing.assert_array_equal(
      last.params[name]['kernel'][mask], kernel[mask]
    )
    assert not np.any(last.params[name]['kernel'][~mask])
    assert last.params[name]['kernel'].dtype == kernel.dtype
  np.testing.assert_array_equal(last.params['fc']['bias'], params['fc']['bias'])


def test_the_smallest_trained_survivors_go():
  params = {'kernel': jnp.array([[0.1, -3.0, 0.0, 2.0, -0.5]])}
  masks = {'kernel': jnp.array([[True, True, True, False, True]])}
  found = lt.next_masks(params, masks, [('kernel', 0.5)])['kernel']
  np.testing.assert_array_equal(found, [[False, True, False, False, True]])
  # A survivor that is zero outranks what is gone.
  found = lt.next_masks(params, masks, [('kernel', 0.0)])['kernel']
  np.testing.assert_array_equal(found, masks['kernel'])


def test_global_scope_compares_over_leaves():
  params = {
    'a': {'kernel': jnp.ones((2, 4))},
    'b': {'kernel': jnp.full((2, 4), 9.0)},
  }
  masks = lt.full_masks(params, [('.*kernel', 0.25)])
  found = lt.next_masks(params, masks, [('.*kernel', 0.25)], scope='global')
  assert counts(found) == {'a/kernel': 4, 'b/kernel': 8}
  with pytest.raises(InputError, match='right is one'):
    lt.next_masks(params, masks, [('a.*', 0.1), ('.*', 0.2)], scope='global')


def test_controls_keep_every_layers_density():
  params = init_fn(jax.random.key(0))
  masks = lt.full_masks(params, RULES)
  for _ in range(3):
    masks = lt.next_masks(params, masks, RULES)
  key = jax.random.key(5)
  random = lt.random_masks(masks, key)
  assert counts(random) == counts(masks)
  for path, mask in masks.items():
    assert np.any(random[path] != mask)
    np.testing.assert_array_equal(
      random[path], lt.random_masks(masks, key)[path]
    )

  fresh = lt.reinitialize(init_fn, jax.random.key(8), masks)
  ticket = apply_masks(params, masks)
  shuffled = lt.shuffle_weights(params, masks, key)
  for path, mask in masks.items():
    name = path.split('/')[0]
    for tree in (fresh, shuffled):
      np.testing.assert_array_equal(tree[name]['kernel'] != 0, mask)
      assert np.any(tree[name]['kernel'] != ticket[name]['kernel'])
    np.testing.assert_array_equal(
      np.sort(shuffled[name]['kernel'][mask].astype(jnp.float32)),
      np.sort(ticket[name]['kernel'][mask].astype(jnp.float32)),
    )
  np.testing.assert_array_equal(shuffled['fc']['bias'], params['fc']['bias'])


def test_refuses_what_does_not_fit():
  params = init_fn(jax.random.key(0))
  masks = lt.full_masks(params, RULES)
  with pytest.raises(InputError, match='out/kernel: has a mask but no rule'):
    lt.next_masks(params, masks, [('fc/.*', 0.2)])
  with pytest.raises(InputError, match='sparsity 1 lies outside'):
    lt.next_masks(params, masks, [('.*', 1.0)])
  with pytest.raises(InputError, match='another tree'):
    lt.shuffle_weights({'fc': params['fc']}, masks, jax.random.key(0))
  with pytest.raises(InputError, match="'layer' or 'global'"):
    lt.next_masks(params, masks, RULES, scope='net')
