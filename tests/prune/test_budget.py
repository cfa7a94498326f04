import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress import graph, packed, prune
from compress.errors import InputError
from compress.prune import wide


def scores():
  keys = jax.random.split(jax.random.key(0), 2)
  return {
    'a': jax.random.uniform(keys[0], (4, 5)),
    'b': 3 * jax.random.uniform(keys[1], (3, 10)),
  }


def ints(counts):
  return {path: int(count) for path, count in counts.items()}


def test_global_counts_follow_one_threshold():
  saliency = scores()
  counts = ints(prune.global_threshold()(saliency, 0.6))
  row = np.concatenate([np.ravel(x) for x in saliency.values()])
  best = np.sort(row)[-20]
  assert counts == {p: int((x >= best).sum()) for p, x in saliency.items()}
  assert sum(counts.values()) == 20


def test_a_layer_does_not_collapse():
  saliency = {'a': jnp.full((4, 4), 1e-3), 'b': jnp.ones((4, 4))}
  assert ints(prune.global_threshold()(saliency, 0.5)) == {'a': 0, 'b': 16}
  kept = prune.global_threshold(min_keep=3)(saliency, 0.5)
  assert ints(kept) == {'a': 3, 'b': 13}
  with pytest.raises(InputError, match='a: min_keep=9'):
    prune.global_threshold(min_keep=9)(saliency, 0.5)


@pytest.mark.parametrize('budget', [900, 2_000, 10**9])
def test_macs_fit_the_budget_and_no_more_would(budget):
  saliency = scores()
  macs = {'a': 7, 'b': 111, 'elsewhere': 5}
  counts = ints(prune.mac_budget(budget, macs=macs)(saliency))
  entries = sorted(
    ((float(v), p) for p, x in saliency.items() for v in np.ravel(x)),
    reverse=True,
  )
  sums = list(itertools.accumulate(macs[p] for _, p in entries))
  kept = sum(total <= budget for total in sums)
  assert sum(counts.values()) == kept
  assert counts['a'] == sum(p == 'a' for _, p in entries[:kept])


def test_budgets_beyond_32_bits_are_exact():
  saliency = {'a': jnp.arange(10.0), 'b': jnp.arange(10.0) - 20}
  cost = 3_000_000_007
  allocation = prune.mac_budget(10 * cost + 4, macs={'a': cost, 'b': 2})
  assert ints(allocation(saliency)) == {'a': 10, 'b': 2}


def test_bytes_fit_the_file():
  params = jax.tree.map(lambda x: x - 1, scores())
  method = prune.prune_weights(
    [('.*', prune.PRUNE)], allocation=prune.byte_budget(100)
  )
  size = packed.tree_nbytes(method.pack(params, method.init(params)))
  assert 96 < size <= 100


def test_budgets_that_cannot_be_met():
  saliency = scores()
  macs = {'a': 7, 'b': 111}
  for allocation in (
    prune.mac_budget(50, macs=macs, fixed=60),
    prune.byte_budget(7),
    prune.byte_budget(-1),
  ):
    with pytest.raises(InputError, match='a: .*budget of .* cannot be met'):
      allocation(saliency)
  with pytest.raises(InputError, match='a: min_keep=10'):
    prune.mac_budget(200, macs=macs, min_keep=10)(saliency)
  with pytest.raises(InputError, match='b: mac_budget needs'):
    prune.mac_budget(200, macs={'a': 7})(saliency)
  with pytest.raises(InputError, match='a: mac_budget decides'):
    prune.mac_budget(200, macs=macs)(saliency, 0.5)
  with pytest.raises(InputError, match='rules'):
    prune.prune_weights([])


def test_macs_of_a_weight_from_the_graph():
  def apply(variables, x):
    p = variables['params']
    y = jax.lax.conv_general_dilated(
      x, p['conv'], (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )
    return y.reshape(2, -1) @ p['fc']

  variables = {
    'params': {'conv': jnp.ones((3, 3, 2, 4)), 'fc': jnp.ones((100, 3))}
  }
  traced = graph.trace(apply, variables, jnp.ones((2, 5, 5, 2)))
  assert prune.macs_per_weight(traced) == {'conv': 50, 'fc': 2}


@given(
  st.lists(
    st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**30)),
    min_size=3,
    max_size=3,
  )
)
@settings(max_examples=20, deadline=None)
def test_wide_dot_products(pairs):
  counts = jnp.array([count for count, _ in pairs], jnp.int32)
  total = sum(count * cost for count, cost in pairs)
  found = wide.dot(counts, [cost for _, cost in pairs])
  np.testing.assert_array_equal(found, wide.digits(total))
  assert bool(wide.at_most(found, wide.digits(total)))
  assert bool(wide.at_most(found, wide.digits(total + 1)))
  if total:
    assert not bool(wide.at_most(found, wide.digits(total - 1)))
