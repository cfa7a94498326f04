"""FSP: golden, by hand, permutations of places, sizes, devices."""

import jax.numpy as jnp
import numpy as np
import pytest

from compress import distill
from compress.errors import InputError
from tests.distill.features import check_loss, check_sharded, maps, normal


def test_golden():
  student, teacher = maps()
  pairs = (student, teacher), (teacher, student)
  np.testing.assert_allclose(
    distill.flow_loss(*pairs, reduction='reference'),
    0.006483883480545852,
    rtol=2e-6,
  )
  np.testing.assert_allclose(
    distill.flow_loss(*pairs), 9 * 0.006483883480545852, rtol=2e-6
  )


def test_matrix_by_hand():
  low = jnp.array([[[[1.0, 2]], [[3, 4]]]])
  high = jnp.array([[[[1.0]], [[-1]]]])
  np.testing.assert_array_equal(
    distill.flow_matrix(low, high), [[[-1.0], [-1.0]]]
  )
  # One place each: the mean of the lower map.
  np.testing.assert_array_equal(
    distill.flow_matrix(low, high[:, :1]), [[[2.0], [3.0]]]
  )


def test_order_of_places_changes_nothing():
  low, high = normal(0, 2, 4, 4, 3), normal(1, 2, 4, 4, 5)
  order = jnp.array([2, 0, 3, 1])
  matrix = distill.flow_matrix(low, high)
  np.testing.assert_allclose(
    distill.flow_matrix(low[:, order], high[:, order]),
    matrix,
    rtol=1e-4,
    atol=1e-6,
  )
  np.testing.assert_allclose(
    distill.flow_matrix(high, low), matrix.swapaxes(1, 2), rtol=1e-4, atol=1e-6
  )


def test_stages_add_up_and_equal_networks_have_none():
  stages = [normal(i, 2, 8 >> i, 8 >> i, i + 1) for i in range(3)]
  others = [normal(9 + i, 2, 4 >> i, 4 >> i, i + 1) for i in range(3)]
  assert distill.flow_loss(stages, stages) == 0
  np.testing.assert_allclose(
    distill.flow_loss(stages, others),
    distill.flow_loss(stages[:2], others[:2])
    + distill.flow_loss(stages[1:], others[1:]),
    rtol=1e-5,
  )


def test_gradients_types_devices():
  student = [normal(0, 8, 4, 4, 2), normal(1, 8, 2, 2, 3)]
  teacher = [normal(2, 8, 2, 2, 2), normal(3, 8, 2, 2, 3)]
  check_loss(distill.flow_loss, student, teacher)
  check_sharded(distill.flow_loss, student, teacher)


def test_errors():
  student, teacher = maps()
  with pytest.raises(InputError, match='two stages or more'):
    distill.flow_loss([student], [teacher])
  with pytest.raises(InputError, match='right are the same'):
    distill.flow_loss([student, teacher], [student, teacher[..., :2]])
  with pytest.raises(InputError, match='same images'):
    distill.flow_loss([student] * 2, [teacher[:1]] * 2)
  with pytest.raises(InputError, match='reduction'):
    distill.flow_loss([student] * 2, [teacher] * 2, reduction='sum')
