import jax
import jax.numpy as jnp
import numpy as np

from compress.prune.sensitivity import (
  add_training_step,
  init_sensitivity,
  karnin_sensitivity,
)


def test_hand_computed():
  params = {'k': jnp.array([1.0, 2.0, 0.5])}
  state = init_sensitivity(params)
  for new in ([1.5, 1.0, 0.5], [2.0, 1.0, 0.5]):
    after = {'k': jnp.array(new)}
    state = add_training_step(state, params, after, learning_rate=0.5)
    params = after
  got = karnin_sensitivity(params, state)['k']
  np.testing.assert_allclose(got, [0.5 / 0.5 * 2 / 1, 1 / 0.5 * 1 / -1, 0])


def test_small_steps_give_the_error_of_a_parabola():
  curvature, target = 3.0, 2.0
  start, rate = 0.0, 1e-3

  def loss(params):
    return 0.5 * curvature * jnp.square(params['w'] - target).sum()

  first = {'w': jnp.array([start])}

  def step(carry, _):
    params, state = carry
    grads = jax.grad(loss)(params)
    after = jax.tree.map(lambda p, g: p - rate * g, params, grads)
    return (
      after,
      add_training_step(state, params, after, learning_rate=rate),
    ), None

  carry = (first, init_sensitivity(first))
  (params, state), _ = jax.lax.scan(step, carry, None, length=4000)
  exact = loss({'w': jnp.zeros(1)}) - loss(params)
  np.testing.assert_allclose(
    karnin_sensitivity(params, state)['w'], [exact], rtol=5e-3
  )
