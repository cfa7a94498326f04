import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from compress.compressor import State
from compress.errors import InputError
from compress.prune.movement import (
  movement,
  movement_schedule,
  sigmoid_penalty,
  soft_movement,
)
from compress.prune.schedule import one_shot


def test_golden_score_of_a_weight_that_moves_away_from_zero():
  method = movement([('kernel', 0.0)], schedule=one_shot())
  params = {'kernel': jnp.array([[0.5, -0.5]])}
  state = method.init(params)

  def loss(params, learned):
    # dL/dW = -1 at both: the first moves away from zero, the second towards.
    out = method.apply(params, State(learned, state.carried))
    return -out['kernel'].sum()

  to_params, to_scores = jax.grad(loss, (0, 1))(params, state.learned)
  np.testing.assert_array_equal(to_params['kernel'], [[-1, -1]])
  updates, _ = optax.sgd(1.0).update(to_scores, optax.sgd(1.0).init(to_scores))
  scores = optax.apply_updates(state.learned, updates)
  np.testing.assert_array_equal(scores['kernel'], [[0.5, -0.5]])
  # Magnitude sees no difference, movement does.
  half = movement([('kernel', 0.5)], schedule=one_shot())
  found = half.apply(params, State(scores, half.init(params).carried))
  np.testing.assert_array_equal(found['kernel'], [[0.5, 0]])


def test_scores_sum_gradient_times_weight_over_training():
  method = movement([('kernel', 0.5)], schedule=one_shot())
  params = {'kernel': jax.random.normal(jax.random.key(0), (3, 4))}
  state = method.init(params)
  learned, expected = state.learned, np.zeros((3, 4))
  target = jax.random.normal(jax.random.key(1), (3, 4))

  def loss(kernel):
    return ((kernel - target) ** 2).sum()

  for _ in range(5):
    seen = method.apply(params, State(learned, state.carried))['kernel']
    expected -= 0.1 * np.asarray(jax.grad(loss)(seen) * params['kernel'])

    def both(params, learned):
      out = method.apply(params, State(learned, state.carried))
      return loss(out['kernel'])

    grads = jax.grad(both, (0, 1))(params, learned)
    # A masked weight gets no gradient, its score does.
    assert not np.any(np.asarray(grads[0]['kernel'])[np.asarray(seen) == 0])
    params, learned = jax.tree.map(
      lambda x, g: x - 0.1 * g, (params, learned), grads
    )
  np.testing.assert_allclose(learned['kernel'], expected, rtol=1e-5)


def test_schedule_warms_up_and_cools_down():
  schedule = movement_schedule(100, warmup=20, cooldown=40)
  found = [float(schedule(t, 0.8)) for t in (0, 19, 20, 30, 40, 50, 60, 99)]
  np.testing.assert_allclose(
    found, [0, 0, 0, 0.4625, 0.7, 0.7875, 0.8, 0.8], rtol=1e-6
  )
  assert schedule.last_step == 60
  with pytest.raises(InputError, match='leave no interval'):
    movement_schedule(10, warmup=5, cooldown=5)


def test_counts_follow_the_schedule_and_weights_may_return():
  schedule = movement_schedule(8, warmup=0, cooldown=4)
  method = movement([('kernel', 0.8)], schedule=schedule)
  params = {'kernel': jnp.ones((10, 10))}
  state = method.init(params)
  scores = jax.random.normal(jax.random.key(0), (10, 10))
  state = state._replace(learned={'kernel': scores})
  kept = []
  for step in range(7):
    state = method.update(params, state, step=step)
    kept.append(int(method.apply(params, state)['kernel'].sum()))
  # 1 - s of 0, 0.4625, 0.7, 0.7875, 0.8 of 100, rounded down.
  assert kept == [100, 53, 30, 21, 20, 20, 20]
  turned = state._replace(learned={'kernel': -scores})
  before = method.apply(params, state)['kernel']
  after = method.apply(params, turned)['kernel']
  assert not np.any((before != 0) & (after != 0))


def test_soft_threshold_and_penalty():
  method = soft_movement([('kernel', 0.25)])
  params = {'kernel': jnp.array([[1.0, 2.0, 3.0]])}
  state = method.init(params)
  np.testing.assert_array_equal(
    method.apply(params, state)['kernel'], params['kernel']
  )
  # sigmoid(-1.0986) = 1/4, which is not above it.
  learned = {'kernel': jnp.array([[-1.2, -1.0, 5.0]])}
  out = method.apply(params, State(learned, ()))
  np.testing.assert_array_equal(out['kernel'], [[0, 2, 3]])
  assert float(sigmoid_penalty(state.learned)) == pytest.approx(1.5)
  grad = jax.grad(sigmoid_penalty)(state.learned)['kernel']
  np.testing.assert_allclose(grad, jnp.full((1, 3), 0.25))

  def loss(learned):
    return method.apply(params, State(learned, ()))['kernel'].sum()

  np.testing.assert_array_equal(jax.grad(loss)(learned)['kernel'], [[1, 2, 3]])


def test_refuses_numbers_out_of_range():
  with pytest.raises(InputError, match='lies outside'):
    movement([('.*', 1.2)], schedule=one_shot())
  with pytest.raises(InputError, match='tau is 0'):
    soft_movement([('.*', 0)])
