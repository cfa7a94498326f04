"""Activation boundaries: golden, by hand, margins, connectors, devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import distill
from compress.errors import InputError
from tests.distill.features import check_loss, check_sharded, maps, normal


def test_golden():
  student, teacher = maps()
  loss = distill.boundary_loss([student], [teacher])
  np.testing.assert_allclose(2 * loss, 139.5837974746575, rtol=1e-6)
  np.testing.assert_allclose(
    distill.boundary_loss([student], [teacher], reduction='reference'),
    139.5837974746575 / 2 / 1000 * 3,
    rtol=1e-6,
  )


def test_by_hand():
  student = jnp.array([[-2.0, -0.5, 0, 3]])
  silent, firing = -jnp.ones((1, 4)), jnp.ones((1, 4))
  np.testing.assert_allclose(
    distill.boundary_loss([student], [silent]), 0.25 + 1 + 16
  )
  np.testing.assert_allclose(
    distill.boundary_loss([student], [firing]), 9 + 2.25 + 1
  )
  # A teacher at zero is silent; a wider margin asks for more.
  np.testing.assert_allclose(
    distill.boundary_loss([student], [0 * silent], margin=2.0),
    2.25 + 4 + 25,
  )


def test_zero_outside_the_margin_whatever_the_size():
  student, teacher = normal(0, 2, 3, 3, 4), normal(1, 2, 3, 3, 4)
  far = jnp.sign(teacher) * (1 + abs(student))
  assert distill.boundary_loss([far], [teacher]) == 0
  assert distill.boundary_loss([teacher], [teacher]) > 0


def test_later_stages_weigh_more():
  student, teacher = maps()
  single = distill.boundary_loss([student], [teacher])
  np.testing.assert_allclose(
    distill.boundary_loss([student] * 3, [teacher] * 3),
    single * (1 + 0.5 + 0.25),
    rtol=1e-6,
  )


def test_connectors_where_shapes_differ():
  student = [normal(0, 8, 4, 4, 2), normal(1, 8, 2, 2, 3)]
  teacher = [normal(2, 8, 2, 2, 4), normal(3, 8, 2, 2, 3)]
  params = distill.init_connectors(
    jax.random.key(0),
    student=[x.shape[1:] for x in student],
    teacher=[x.shape[1:] for x in teacher],
  )
  assert params[0].kernel.shape == (3, 3, 2, 4) and params[1] is None

  def loss(ours, theirs, params=params):
    return distill.boundary_loss(ours, theirs, params)

  check_loss(loss, student, teacher)
  check_sharded(loss, student, teacher)
  slope = jax.grad(loss, argnums=2)(student, teacher, params)
  assert all((np.abs(leaf) > 0).any() for leaf in slope[0])


def test_errors():
  student, teacher = maps()
  with pytest.raises(InputError, match='at least one'):
    distill.boundary_loss([], [])
  with pytest.raises(InputError, match='stage 0.*by a connector'):
    distill.boundary_loss([student], [teacher[..., :2]])
  with pytest.raises(InputError, match='right is as many'):
    distill.boundary_loss([student], [teacher], [None, None])
  with pytest.raises(InputError, match='above 0'):
    distill.boundary_loss([student], [teacher], margin=0.0)
  with pytest.raises(InputError, match='same images'):
    distill.boundary_loss([student], [teacher[:1]])
