"""FairGRAPE: golden choice, group gradients by hand, rounds, invariants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress.errors import InputError
from compress.prune import fairgrape, top_k
from compress.prune.masks import fixed_masks

# The spec's example: worth of three weights to two groups.
GOLDEN = jnp.array([[4.0, 1, 2], [1, 3, 2]])
keep_fairly = jax.jit(
  fairgrape.fair_keep, static_argnames=('ranking', 'balanced')
)
RULES = [('out/kernel', 0.5), ('.*kernel', 0.75)]


def network(seed=0):
  keys = jax.random.split(jax.random.key(seed), 2)
  return {
    'fc': {'kernel': jax.random.normal(keys[0], (6, 5)), 'bias': jnp.ones(5)},
    'out': {'kernel': jax.random.normal(keys[1], (5, 4))},
  }


def losses(params, batch):
  x, y = batch
  h = jnp.tanh(x @ params['fc']['kernel'] + params['fc']['bias'][None])
  return jnp.square(h @ params['out']['kernel'] - y).sum(1)


def data(n=12, seed=1):
  keys = jax.random.split(jax.random.key(seed), 3)
  x = jax.random.normal(keys[0], (n, 6))
  y = jax.random.normal(keys[1], (n, 4))
  return (x, y), jax.random.randint(keys[2], (n,), 0, 3)


def test_golden_shares_and_choice():
  np.testing.assert_allclose(
    fairgrape.target_shares(GOLDEN), [7 / 13, 6 / 13], rtol=1e-6
  )
  first = keep_fairly(GOLDEN, 1)
  np.testing.assert_array_equal(first, [True, False, False])
  both = keep_fairly(GOLDEN, 2)
  np.testing.assert_array_equal(both, [True, True, False])


def test_rankings_choose_differently():
  importance = jnp.array([[9.0, 4, 0], [8, 1, 3]])
  chosen = {
    ranking: int(keep_fairly(importance, 1, ranking=ranking).argmax())
    for ranking in ('importance', 'share', 'both')
  }
  # T = (13, 12) / 25: the first group picks, by 9 4 0, by 9/17 4/5 0, and by
  # 81/17 16/5 0.
  assert chosen == {'importance': 0, 'share': 1, 'both': 0}
  with pytest.raises(InputError, match='possible are importance'):
    fairgrape.fair_keep(importance, 1, ranking='other')


def test_importance_of_one_linear_layer_by_hand():
  def loss(params, x):
    return (x @ params['w'])[:, 0]

  x = jnp.array([[1.0, 2], [3, 4], [5, 6]])
  found = fairgrape.fair_importance(
    loss,
    {'w': jnp.array([[2.0], [-3]])},
    [(x, jnp.array([0, 1, 0]))],
    groups=3,
    prunable='w',
  )
  # Mean gradients: (3, 4) of group 0, (3, 4) of group 1, none of group 2.
  row = [[36.0], [144]]
  np.testing.assert_allclose(found['w'], [row, row, [[0], [0]]], rtol=1e-6)


def test_importance_is_a_sum_over_batches_of_group_gradients():
  params, (batch, members) = network(), data()
  halves = [
    (jax.tree.map(lambda a, i=i: a[i::2], batch), members[i::2])
    for i in range(2)
  ]
  found = fairgrape.fair_importance(losses, params, halves, groups=3)
  expected = np.zeros((3, 6, 5))

  @jax.jit
  @jax.grad
  def of_group(params, batch, who):
    who = who.astype(jnp.float32)
    return (who * losses(params, batch)).sum() / who.sum()

  for batch, members in halves:
    for group in np.unique(members):
      grads = of_group(params, batch, members == group)
      product = params['fc']['kernel'] * grads['fc']['kernel']
      expected[group] += np.square(product)
  np.testing.assert_allclose(found['fc/kernel'], expected, rtol=2e-4)
  assert set(found) == {'fc/kernel', 'out/kernel'}


def test_masked_weights_are_worth_nothing_and_change_the_others():
  params, (batch, members) = network(), data()
  mask = {'fc/kernel': jnp.arange(30).reshape(6, 5) % 2 == 0}
  found = fairgrape.fair_importance(
    losses, params, [(batch, members)], groups=3, masks=mask
  )
  assert set(found) == {'fc/kernel'}
  assert not found['fc/kernel'][:, ~mask['fc/kernel']].any()
  dense = fairgrape.fair_importance(
    losses, params, [(batch, members)], groups=3
  )
  assert not np.allclose(
    found['fc/kernel'][:, mask['fc/kernel']],
    dense['fc/kernel'][:, mask['fc/kernel']],
  )


def test_one_group_is_plain_top_k():
  importance = jax.random.uniform(jax.random.key(0), (1, 63))
  np.testing.assert_array_equal(
    keep_fairly(importance, 20), top_k(importance[0], 20)
  )


def test_without_balance_the_sum_counts():
  importance = jax.random.uniform(jax.random.key(3), (3, 40))
  np.testing.assert_array_equal(
    keep_fairly(importance, 20, balanced=False),
    top_k(importance.sum(0), 20),
  )


def test_relabelled_groups_choose_the_same():
  importance = jax.random.uniform(jax.random.key(3), (3, 40)) ** 3
  np.testing.assert_array_equal(
    keep_fairly(importance, 11),
    keep_fairly(importance[jnp.array([2, 0, 1])], 11),
  )


def test_balance_brings_shares_nearer_to_their_targets():
  scale = jnp.array([[8.0], [1], [1]])
  importance = jax.random.uniform(jax.random.key(3), (3, 40)) ** 4 * scale
  target = fairgrape.target_shares(importance)

  def gap(**options):
    kept = keep_fairly(importance, 20, **options)
    chosen = jnp.where(kept[None], importance, 0)
    return float(jnp.abs(fairgrape.target_shares(chosen) - target).max())

  assert gap() < 0.5 * gap(balanced=False)


@pytest.mark.parametrize(
  'sparsity, keep, rounds',
  [(0.9, 0.9, 22), (0.99, 0.9, 44), (0.5, 0.9, 7), (0.9, 0.975, 91)]
  + [(0.19, 0.9, 2), (0, 0.9, 0)],
)
def test_rounds(sparsity, keep, rounds):
  assert fairgrape.fair_rounds(sparsity, keep=keep) == rounds


def test_driver_counts_exactly_and_nests():
  (batch, members), trained = data(), []

  def train_fn(params, masks, i):
    trained.append(i)
    method = fixed_masks(masks)
    moved = jax.tree.map(lambda w: w * 1.1 + 0.01, params)
    return method.apply(moved, method.init(moved))

  def importance_fn(params, masks):
    return fairgrape.fair_importance(
      losses, params, [(batch, members)], groups=3, masks=masks
    )

  found = list(
    fairgrape.prune_fairly(train_fn, importance_fn, network(), RULES, keep=0.7)
  )
  assert trained == list(range(1, 5))  # 0.7^4 = 0.24
  counts = [{p: int(m.sum()) for p, m in x.masks.items()} for x in found]
  assert [c['fc/kernel'] for c in counts] == [30, 21, 14, 10, 7]
  assert [c['out/kernel'] for c in counts] == [20, 14, 10, 10, 10]
  for before, after in zip(found, found[1:], strict=False):
    for path, mask in after.masks.items():
      assert not (mask & ~before.masks[path]).any()
  last = found[-1]
  assert not last.trained['fc']['kernel'][~last.masks['fc/kernel']].any()
  np.testing.assert_array_equal(
    found[1].params['fc']['bias'], network()['fc']['bias']
  )


def test_errors():
  mask = {'a': jnp.ones((2, 3), bool)}
  importance = {'a': jnp.ones((2, 2, 3))}
  with pytest.raises(InputError, match='a: 7 are to stay, 6 are left'):
    fairgrape.fair_masks(importance, mask, {'a': 7})
  with pytest.raises(InputError, match='a: has a mask, but no importance'):
    fairgrape.fair_masks({}, mask, {'a': 7})
  with pytest.raises(InputError, match=r'a: an importance of shape \[2, 3\]'):
    fairgrape.fair_masks({'a': jnp.ones((2, 3))}, mask, {'a': 1})
  with pytest.raises(InputError, match=r'keep=1: right is a fraction'):
    fairgrape.fair_rounds(0.5, keep=1.0)
  with pytest.raises(InputError, match='no batch'):
    fairgrape.fair_importance(losses, network(), [], groups=2)
  with pytest.raises(InputError, match=r'groups are 0..2; right is 0..1'):
    batch, _ = data(3)
    fairgrape.fair_importance(
      losses, network(), [(batch, jnp.array([0, 2, 1]))], groups=2
    )
