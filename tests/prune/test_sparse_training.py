import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from compress import train
from compress.compressor import State
from compress.errors import InputError
from compress.prune import allocation
from compress.prune.sparse_training import (
  Rewiring,
  drop_and_grow,
  mask_gradients,
  regrow,
  rigl,
  sparse_evolution,
  sparse_optimizer,
)

KEY = jax.random.key(0)
RULES = [('.*kernel', 0.8)]


def make_params():
  keys = jax.random.split(jax.random.key(1), 2)
  return {
    'a': {'kernel': jax.random.normal(keys[0], (8, 16)), 'bias': jnp.zeros(16)},
    'b': {'kernel': jax.random.normal(keys[1], (16, 4))},
  }


def batch_of(step):
  x = jax.random.normal(jax.random.fold_in(KEY, step), (32, 8))
  return x, jnp.sin(x[:, :4])


def loss_of(method):
  def loss(params, carried, batch, key, *, axis_name):
    seen = method.apply(params, State((), carried))
    x, y = batch
    h = jnp.maximum(x @ seen['a']['kernel'] + seen['a']['bias'][None], 0)
    return ((h @ seen['b']['kernel'] - y) ** 2).mean(), (carried, {})

  return loss


def counts(masks):
  return {path: int(mask.sum()) for path, mask in masks.items()}


def kernels(params):
  return {f'{k}/kernel': np.asarray(params[k]['kernel']) for k in ('a', 'b')}


def run(make, schedule, inner, steps):
  method = make(RULES, schedule=schedule, key=KEY)
  optimizer = sparse_optimizer(inner, method, schedule)
  step = jax.jit(
    train.make_step(
      loss_of(method), optimizer, after_update=regrow(method, optimizer)
    )
  )
  params = make_params()
  state = train.init_state(params, optimizer, method.init(params).carried, KEY)
  states = [state]
  for i in range(steps):
    state, _ = step(state, batch_of(i))
    states.append(state)
  assert step._cache_size() == 1
  return method, states


def test_golden_cosine():
  schedule = Rewiring(end=25_000)
  found = [schedule.drop_fraction(25_000 * i // 4) for i in range(5)]
  np.testing.assert_allclose(found, [0.3, 0.25607, 0.15, 0.04393, 0], atol=5e-6)
  constant = Rewiring(end=100, decay='constant')
  assert float(constant.drop_fraction(99)) == pytest.approx(0.3)


def test_due_steps():
  schedule = Rewiring(every=3, end=9)
  assert [i for i in range(12) if schedule.due(i)] == [3, 6]


def test_drop_and_grow_by_hand():
  weights = jnp.array([0.1, -5.0, 0.3, 2.0, 0.0, 0.0, 0.0])
  mask = jnp.array([True, True, True, True, False, False, False])
  growth = jnp.array([0.0, 9.0, 3.0, 9.0, 1.0, 4.0, 2.0])
  # Drops 0.1 and 0.3; grows by 4 and by 3, the one that was just dropped.
  found = drop_and_grow(weights, mask, growth, 2)
  np.testing.assert_array_equal(
    found, [False, True, True, True, False, True, False]
  )
  np.testing.assert_array_equal(drop_and_grow(weights, mask, growth, 0), mask)
  nans = jnp.full(7, jnp.nan)
  assert int(drop_and_grow(weights, mask, nans, 2).sum()) == 4


@pytest.mark.parametrize('make', [rigl, sparse_evolution])
def test_starts_at_the_allocation(make):
  params = make_params()
  shapes = {p: jnp.zeros(k.shape) for p, k in kernels(params).items()}
  erk = allocation.erdos_renyi_kernel()(shapes, 0.8)
  schedule = Rewiring(end=100)
  state = make(RULES, schedule=schedule, key=KEY).init(params)
  found = counts(state.carried['masks'])
  assert all(abs(found[p] - erk[p]) <= 1 for p in erk)
  state = make(
    RULES, schedule=schedule, key=KEY, allocation=allocation.uniform()
  ).init(params)
  assert counts(state.carried['masks']) == {'a/kernel': 26, 'b/kernel': 13}


@pytest.mark.parametrize('make', [rigl, sparse_evolution])
@pytest.mark.parametrize('inner', [optax.adamw(0.01), optax.sgd(0.1, 0.9)])
def test_training_keeps_numbers_zeros_and_moments(make, inner):
  schedule = Rewiring(every=4, end=20, fraction=0.5)
  _, states = run(make, schedule, inner, 14)
  first = counts(states[0].carried['masks'])
  changed = []
  for i, (before, after) in enumerate(
    zip(states[:-1], states[1:], strict=True)
  ):
    masks = after.carried['masks']
    assert counts(masks) == first
    for path, kernel in kernels(after.params).items():
      mask = np.asarray(masks[path])
      old = np.asarray(before.carried['masks'][path])
      assert not kernel[~mask].any()
      np.testing.assert_array_equal(mask, after.opt_state.masks[path])
      if schedule.due(i):
        grown = mask & ~old
        assert not kernel[grown].any()
        # The optimizer rested: survivors are what they were.
        both = mask & old
        np.testing.assert_array_equal(
          kernel[both], kernels(before.params)[path][both]
        )
        moments = [
          x
          for x in jax.tree.leaves(after.opt_state.inner)
          if x.shape == kernel.shape
        ]
        assert moments
        for moment in moments:
          assert not np.any(np.asarray(moment)[grown])
        if grown.any():
          changed.append(i)
      else:
        np.testing.assert_array_equal(mask, old)
  assert {4, 8, 12} == set(changed)


def test_grows_where_the_dense_gradient_is_largest():
  schedule = Rewiring(every=2, end=10, fraction=0.5)
  params = make_params()
  method = rigl(RULES, schedule=schedule, key=KEY)
  state = method.init(params)

  def loss(params):
    return loss_of(method)(
      params, state.carried, batch_of(0), KEY, axis_name=None
    )[0]

  grads = jax.grad(loss)(params)
  new = method.update(params, state, step=2, grads=grads)
  for path, grad in kernels(grads).items():
    before = np.asarray(state.carried['masks'][path])
    after = np.asarray(new.carried['masks'][path])
    # Dense: what is masked has a gradient, which a helper takes away.
    assert np.any(grad[~before])
    grown, never = after & ~before, ~after & ~before
    assert np.abs(grad[grown]).min() >= np.abs(grad[never]).max()
  masked = kernels(mask_gradients(grads, state.carried['masks']))
  for path, mask in state.carried['masks'].items():
    np.testing.assert_array_equal(masked[path] != 0, mask & (masked[path] != 0))


def test_fraction_of_zero_is_static_sparse_training():
  _, states = run(
    rigl, Rewiring(every=2, end=9, fraction=0.0), optax.sgd(0.1), 6
  )
  for path, mask in states[0].carried['masks'].items():
    np.testing.assert_array_equal(mask, states[-1].carried['masks'][path])


def test_without_a_change_equals_an_optimizer_on_masked_gradients():
  inner = optax.chain(optax.clip_by_global_norm(0.1), optax.adam(0.01))
  method, states = run(rigl, Rewiring(every=50, end=100), inner, 5)
  params = states[0].params
  state = method.init(make_params())
  params = method.apply(params, state)
  opt_state = inner.init(params)
  for i in range(5):

    def loss(params, i=i):
      return loss_of(method)(
        params, state.carried, batch_of(i), KEY, axis_name=None
      )[0]

    grads = mask_gradients(jax.grad(loss)(params), state.carried['masks'])
    with jax.numpy_dtype_promotion('standard'):
      updates, opt_state = inner.update(grads, opt_state, params)
    params = optax.apply_updates(params, updates)
  for path, kernel in kernels(params).items():
    np.testing.assert_allclose(
      kernel, kernels(states[-1].params)[path], rtol=1e-5, atol=1e-7
    )


def test_set_draws_other_places_each_time_and_the_same_for_a_key():
  schedule = Rewiring(every=1, end=10)
  params = make_params()
  method = sparse_evolution(RULES, schedule=schedule, key=KEY)
  state = method.init(params)
  one = method.update(params, state, step=1).carried['masks']['a/kernel']
  two = method.update(params, state, step=2).carried['masks']['a/kernel']
  assert np.any(one != two)
  again = method.update(params, state, step=1).carried['masks']['a/kernel']
  np.testing.assert_array_equal(one, again)


def test_rigl_needs_gradients_when_due():
  schedule = Rewiring(every=2, end=10)
  params = make_params()
  method = rigl(RULES, schedule=schedule, key=KEY)
  state = method.init(params)
  assert method.update(params, state, step=1) is not None
  with pytest.raises(InputError, match='needs grads'):
    method.update(params, state, step=2)
  with pytest.raises(InputError, match='fraction'):
    Rewiring(end=10, fraction=2)
  with pytest.raises(InputError, match="'constant'"):
    Rewiring(end=10, decay='linear')


def test_carried_beside_other_things():
  schedule = Rewiring(every=1, end=10)
  params = make_params()
  method = sparse_evolution(RULES, schedule=schedule, key=KEY)
  optimizer = sparse_optimizer(optax.sgd(0.1), method, schedule)
  hook = regrow(method, optimizer, carried_key='prune')
  carried = {'prune': method.init(params).carried, 'mean': jnp.zeros(3)}
  state = train.init_state(params, optimizer, carried, KEY)
  state = state._replace(step=jnp.int32(1))
  new = hook(state, grads=params, key=KEY)
  assert set(new.carried) == {'prune', 'mean'}
  assert counts(new.carried['prune']['masks']) == counts(
    carried['prune']['masks']
  )
