"""VID: golden, the learned variance, sizes, devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import distill
from compress.errors import InputError
from tests.distill.features import check_loss, check_sharded, maps, normal

KEY = jax.random.key(0)


def identity(channels, variance=5.0):
  """A guess that is the student itself."""
  params = distill.init_variational(
    KEY, student=channels, teacher=channels, variance=variance
  )
  return params._replace(kernels=())


def test_golden():
  student, teacher = maps()
  loss = distill.variational_loss(
    student, teacher, identity(3), reduction='reference'
  )
  np.testing.assert_allclose(loss, 0.903043725288569, rtol=1e-6)
  np.testing.assert_allclose(
    distill.variational_loss(student, teacher, identity(3)),
    0.903043725288569 * 4 * 4 * 3,
    rtol=1e-6,
  )


@pytest.mark.parametrize('variance', [2e-5, 0.1, 5.0, 200.0])
def test_initial_variance(variance):
  params = identity(3, variance)
  np.testing.assert_allclose(
    distill.learned_variance(params), [variance] * 3, rtol=1e-5
  )


def test_a_right_guess_costs_half_the_logarithm_of_the_variance():
  features = normal(0, 4, 3)
  for variance in (0.5, 5.0):
    loss = distill.variational_loss(
      features, features, identity(3, variance), reduction='reference'
    )
    np.testing.assert_allclose(loss, np.log(variance) / 2, rtol=1e-5)


def test_the_best_variance_is_the_squared_error_of_a_channel():
  student, teacher = maps()
  errors = jnp.square(student - teacher).mean((0, 1, 2))
  best = [identity(1, float(error)).spread[0] for error in errors]
  params = identity(3)._replace(spread=jnp.stack(best))
  slope = jax.grad(lambda p: distill.variational_loss(student, teacher, p))(
    params
  )
  np.testing.assert_allclose(slope.spread, 0, atol=1e-4)


def test_the_guess_by_hand():
  params = identity(1, 1.0)._replace(
    kernels=(jnp.array([[1.0, -1]]), jnp.array([[2.0], [3]]))
  )
  # 2 max(x, 0) + 3 max(-x, 0) is 4 at 2 and 3 at -1.
  loss = distill.variational_loss(
    jnp.array([[2.0], [-1]]), jnp.array([[5.0], [3]]), params
  )
  np.testing.assert_allclose(loss, (1 / 2 + 0) / 2, rtol=1e-5)


def test_gradients_types_devices():
  student, teacher = normal(0, 8, 4, 4, 2), normal(1, 8, 2, 2, 3)
  params = distill.init_variational(KEY, student=2, teacher=3)
  assert [kernel.shape for kernel in params.kernels] == [(2, 3), (3, 3), (3, 3)]

  def loss(ours, theirs, params=params):
    return distill.variational_loss(ours, theirs, params)

  check_loss(loss, student, teacher)
  check_sharded(loss, student, teacher)
  slope = jax.grad(loss, argnums=2)(student, teacher, params)
  assert all((np.abs(leaf) > 0).any() for leaf in jax.tree.leaves(slope))


def test_errors():
  student, teacher = maps()
  with pytest.raises(InputError, match='channels of the teacher'):
    distill.variational_loss(student, teacher[..., :2], identity(3))
  with pytest.raises(InputError, match='input channels last'):
    distill.variational_loss(
      student, teacher, distill.init_variational(KEY, student=4, teacher=3)
    )
  with pytest.raises(InputError, match='above 1e-5'):
    identity(3, 0.0)
  with pytest.raises(InputError, match='reduction'):
    distill.variational_loss(student, teacher, identity(3), reduction='sum')
