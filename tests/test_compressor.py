import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import compressor as lib
from compress import packed as packed_lib
from compress.errors import InputError
from compress.packed import Dense, Quantized

PARAMS = {
  'conv1': {'kernel': jnp.ones((2, 2)), 'bias': jnp.zeros((2,))},
  'fc': {'kernel': 2 * jnp.ones((2, 2))},
}


def scaled(factor, pattern='.*kernel'):
  """A compressor that multiplies what it covers; packs it as given."""

  def specs(params):
    return lib.resolve([(pattern, factor)], params).specs

  def apply(params, state):
    return lib.map_covered(
      lambda leaf, f, path: leaf * f, params, specs(params)
    )

  def pack(params, state):
    return lib.pack_covered(
      lambda leaf, f, path: Quantized(
        leaf.astype(jnp.int8), jnp.float32(f), None, bits=8
      ),
      params,
      specs(params),
    )

  def init(params):
    return lib.State({}, {'seen': params['conv1']['kernel'].sum()})

  def update(params, state, *, step, grads=None):
    return lib.State({}, {'seen': params['conv1']['kernel'].sum() + step})

  return lib.Compressor(init, apply, update, pack)


def test_first_match_wins_and_gaps_are_reported():
  rules = [
    ('fc/.*', lib.KEEP),
    ('.*/kernel', 8),
    ('conv1/kernel', 4),
    ('nothing', 2),
  ]
  plan = lib.resolve(rules, PARAMS)
  assert plan.specs == {'conv1/kernel': 8}
  assert plan.unused == ('conv1/kernel', 'nothing')
  assert plan.uncovered == ('conv1/bias',)


def test_patterns_match_whole_paths():
  assert lib.resolve([('kernel', 8)], PARAMS).specs == {}


def test_bad_pattern():
  with pytest.raises(InputError, match=r"'\(' is no regular expression"):
    lib.resolve([('(', 8)], PARAMS)


def test_chain_applies_in_order_and_each_sees_the_one_before():
  chained = lib.chain(scaled(3.0), scaled(2.0, 'fc/.*'))
  state = chained.init(PARAMS)
  assert [float(c['seen']) for c in state.carried] == [4.0, 12.0]
  out = chained.apply(PARAMS, state)
  np.testing.assert_array_equal(out['fc']['kernel'], 12 * jnp.ones((2, 2)))
  np.testing.assert_array_equal(out['conv1']['bias'], PARAMS['conv1']['bias'])
  state = chained.update(PARAMS, state, step=1)
  assert [float(c['seen']) for c in state.carried] == [5.0, 13.0]


def test_chain_packs_a_leaf_by_the_last_that_changed_it():
  chained = lib.chain(scaled(3.0), scaled(2.0, 'fc/.*'), lib.identity())
  packed = chained.pack(PARAMS, chained.init(PARAMS))
  assert float(packed['conv1']['kernel'].scale) == 3.0
  assert float(packed['fc']['kernel'].scale) == 2.0
  assert isinstance(packed['conv1']['bias'], Dense)
  out = chained.apply(PARAMS, chained.init(PARAMS))
  jax.tree.map(
    np.testing.assert_array_equal, packed_lib.unpack_tree(packed), out
  )


def test_empty_chain_is_the_identity():
  chained = lib.chain()
  out = chained.apply(PARAMS, chained.init(PARAMS))
  jax.tree.map(np.testing.assert_array_equal, out, PARAMS)
