import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from compress import train
from tests.train import problem


def rows(n=8):
  random = np.random.default_rng(0)
  return {
    'x': random.normal(size=(n, 3)).astype(np.float32),
    'y': random.normal(size=(n, 2)).astype(np.float32),
  }


def plain(rate=0.1, **options):
  tool = optax.sgd(rate)
  step = train.make_step(problem.row_loss, tool, **options)
  params = {'kernel': jnp.ones((3, 2))}
  return step, train.init_state(params, tool, (), jax.random.key(0))


@pytest.mark.parametrize('compiled', [False, True])
def test_step_is_gradient_descent_written_by_hand(compiled):
  step, state = plain()
  step = jax.jit(step) if compiled else step
  batch = rows()
  kernel = np.ones((3, 2), np.float32)
  for number in range(3):
    error = batch['x'] @ kernel - batch['y']
    gradient = 2 * batch['x'].T @ error / error.size
    state, metrics = step(state, batch)
    np.testing.assert_allclose(metrics['loss'], (error**2).mean(), rtol=1e-5)
    norm = np.sqrt((gradient**2).sum())
    np.testing.assert_allclose(metrics['grad_norm'], norm, rtol=1e-5)
    kernel = kernel - 0.1 * gradient
    np.testing.assert_allclose(state.params['kernel'], kernel, rtol=1e-5)
    assert int(state.step) == number + 1


def test_mapped_axis_gives_the_global_gradient_for_rows_and_for_pairs():
  cases = [
    (*plain(), rows()),
    (problem.step(), problem.initial(), problem.batches()(0)),
  ]
  for step, state, batch in cases:
    whole, metrics = jax.jit(step)(state, batch)
    split = jax.tree.map(lambda x: x.reshape(4, -1, *x.shape[1:]), batch)
    mapped = jax.vmap(
      functools.partial(step, axis_name='d'), in_axes=(None, 0), axis_name='d'
    )
    pieces, piece_metrics = jax.jit(mapped)(state, split)
    for one, other in zip(
      problem.host(pieces), problem.host(whole), strict=True
    ):
      for row in one:
        np.testing.assert_allclose(row, other, rtol=1e-5, atol=1e-6)
    for name, value in metrics.items():
      np.testing.assert_allclose(
        piece_metrics[name], np.full(4, value), rtol=1e-5
      )


def test_every_step_has_its_own_key_and_the_runs_key_stays():
  def loss_fn(params, carried, batch, key, *, axis_name=None):
    del batch, axis_name
    return params['w'] * 1.0, (carried, {'draw': jax.random.uniform(key)})

  tool = optax.sgd(0.1)
  key = jax.random.key(3)
  state = train.init_state({'w': jnp.ones(())}, tool, (), key)
  step = jax.jit(train.make_step(loss_fn, tool))
  draws = []
  for _ in range(3):
    state, metrics = step(state, None)
    draws.append(float(metrics['draw']))
  expected = [
    float(jax.random.uniform(jax.random.fold_in(key, n))) for n in range(3)
  ]
  assert draws == expected and len(set(draws)) == 3
  assert state.key == key


@pytest.mark.parametrize('kind', ['jit', 'mesh', 'pmap'])
def test_compiles_once_over_a_schedule(kind, caplog):
  # The anchor starts weakly typed, which must not cost a second compile.
  state = problem.initial()
  weak = {**state.carried, 'anchor': 0.0}
  state = train.init_state(state.params, problem.optimizer(), weak, state.key)
  traces = []

  def loss_fn(*args, **options):
    traces.append(1)
    return problem.pair_loss(*args, **options)

  step = train.make_step(loss_fn, problem.optimizer())
  make = {'jit': jax.jit, 'mesh': train.jit_step, 'pmap': train.pmap_step}
  run = make[kind](step)
  batch_fn = problem.batches()
  with jax.log_compiles(), caplog.at_level(logging.WARNING):
    for number in range(problem.STEPS):
      state, _ = run(state, batch_fn(number))
  compiled = [
    record.getMessage()
    for record in caplog.records
    if record.getMessage().startswith('Finished XLA compilation of')
    and ('step' in record.getMessage() or '_fun' in record.getMessage())
  ]
  assert len(compiled) == 1, compiled
  assert len(traces) == 1


def test_donation_leaves_the_callers_arrays_alone():
  params = {'kernel': jnp.ones((3, 2))}
  tool = train.sgd(0.1)
  step = train.jit_step(train.make_step(problem.row_loss, tool))
  state = train.init_state(params, tool, (), jax.random.key(0))
  after, _ = step(state, rows())
  assert not params['kernel'].is_deleted()
  np.testing.assert_array_equal(params['kernel'], np.ones((3, 2)))
  assert int(after.step) == 1


def test_after_update_sees_the_gradients_and_changes_the_parameters():
  def mask(state, *, grads, key):
    del key
    norm = optax.tree.norm(grads)
    kept = {'kernel': state.params['kernel'].at[0].set(0.0)}
    carried = {'norm': norm, 'step': state.step}
    return state._replace(params=kept, carried=carried)

  tool = optax.sgd(0.1)
  carried = {'norm': jnp.zeros(()), 'step': jnp.zeros((), jnp.int32)}
  params = {'kernel': jnp.ones((3, 2))}
  state = train.init_state(params, tool, carried, jax.random.key(0))
  step = jax.jit(train.make_step(problem.row_loss, tool, after_update=mask))
  for number in range(2):
    state, metrics = step(state, rows())
    assert (state.params['kernel'][0] == 0).all()
    assert (state.params['kernel'][1] != 0).all()
    assert state.carried['norm'] == metrics['grad_norm']
    assert int(state.carried['step']) == number


@pytest.mark.parametrize(
  ('carried', 'message'),
  [
    ({'a': jnp.zeros(2)}, r'carried/a from float32\[\] to float32\[2\]'),
    ({'a': jnp.zeros((), jnp.int32)}, r'carried/a from float32\[\] to int32'),
    ({}, 'structure'),
  ],
)
def test_carried_state_may_not_change_its_type(carried, message):
  def loss_fn(params, _, batch, key, *, axis_name=None):
    del batch, key, axis_name
    return params['w'] * 1.0, (carried, {})

  tool = optax.sgd(0.1)
  start = {'a': jnp.zeros(())}
  state = train.init_state({'w': jnp.ones(())}, tool, start, jax.random.key(0))
  with pytest.raises(TypeError, match=message):
    train.make_step(loss_fn, tool)(state, None)


def test_metrics_are_floats():
  _, metrics = problem.compiled()(problem.initial(), problem.batches()(0))
  assert set(metrics) == {'loss', 'grad_norm', 'same'}
  assert all(value.dtype == jnp.float32 for value in metrics.values())
