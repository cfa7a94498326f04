"""NST: golden, by hand, invariances, sizes, devices."""

import jax.numpy as jnp
import numpy as np
import pytest

from compress import distill
from compress.errors import InputError
from tests.distill.features import check_loss, check_sharded, maps, normal


def test_golden():
  np.testing.assert_allclose(
    distill.selectivity_loss(*maps()), 1.0053902599645383, rtol=1e-6
  )


@pytest.mark.parametrize(
  'options, expected',
  [
    # One sample e_1 against e_1, e_2: kernels 1; 1, 0, 0, 1; 1, 0.
    ({}, 1 + 0.5 - 1),
    ({'degree': 1}, 1 + 0.5 - 1),
    # With 1 added and squared: 4; 4, 1, 1, 4; 4, 1.
    ({'constant': 1.0}, 4 + 2.5 - 5),
  ],
)
def test_by_hand(options, expected):
  student = jnp.array([[3.0, 0]])[..., None, None]
  teacher = jnp.array([[[2.0, 0], [0, 5]]])[..., None, :]
  student = student.reshape(1, 2, 1, 1)
  loss = distill.selectivity_loss(student, teacher, **options)
  np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_scale_and_order_of_channels_change_nothing():
  student, teacher = maps()
  assert distill.selectivity_loss(student, student) == 0
  scale = jnp.array([[0.1, 2, 30], [4, 5, 6]])[:, None, None]
  other = (student * scale)[..., ::-1]
  assert abs(distill.selectivity_loss(other, student)) < 1e-6
  np.testing.assert_allclose(
    distill.selectivity_loss(other, teacher),
    distill.selectivity_loss(student, teacher),
    rtol=1e-5,
  )


def test_larger_maps_are_averaged():
  small, large = normal(0, 2, 3, 3, 4), normal(1, 2, 6, 6, 5)
  pooled = distill.adaptive_average_pool(large, places=(3, 3))
  for pair, same in (
    ((small, large), (small, pooled)),
    ((large, small), (pooled, small)),
  ):
    np.testing.assert_allclose(
      distill.selectivity_loss(*pair),
      distill.selectivity_loss(*same),
      rtol=1e-6,
    )


def test_gradients_types_devices():
  student, teacher = normal(0, 8, 4, 4, 2), normal(1, 8, 2, 2, 3)
  check_loss(distill.selectivity_loss, student, teacher)
  check_sharded(distill.selectivity_loss, student, teacher)


def test_errors():
  with pytest.raises(InputError, match='right is .B, H, W, C'):
    distill.selectivity_loss(jnp.ones((2, 3)), jnp.ones((2, 3)))
  with pytest.raises(InputError, match='whole number'):
    distill.selectivity_loss(*maps(), degree=0)
