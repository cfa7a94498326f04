"""Relations: goldens, by hand, similarity transforms, ties, devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import distill
from compress.errors import InputError
from tests.distill.features import check_loss, check_sharded, normal, vectors


def test_goldens():
  student, teacher = vectors()
  np.testing.assert_allclose(
    distill.relational_distance_loss(student, teacher, reduction='reference'),
    0.02893526898591794,
    rtol=2e-6,
  )
  np.testing.assert_allclose(
    distill.relational_angle_loss(student, teacher, reduction='reference'),
    0.0686157600596021,
    rtol=2e-6,
  )
  np.testing.assert_allclose(
    distill.relational_loss(
      student,
      teacher,
      distance_weight=25.0,
      angle_weight=50.0,
      reduction='reference',
    ),
    4.154169727628053,
    rtol=2e-6,
  )


def test_distances_by_hand():
  # Distances 1, 1, 2 of mean 4/3, and 1, 1, 1 of mean 1 (an equilateral
  # triangle): Huber of 1/4, 1/4 and 1/2, in both directions.
  student = jnp.array([[0.0, 0], [1, 0], [2, 0]])
  teacher = jnp.array([[0.0, 0], [1, 0], [0.5, 0.75**0.5]])
  total = 2 * (0.5 / 16 + 0.5 / 16 + 0.5 / 4)
  for reduction, count in (('paper', 6), ('reference', 9)):
    np.testing.assert_allclose(
      distill.relational_distance_loss(student, teacher, reduction=reduction),
      total / count,
      rtol=1e-5,
    )


def test_angles_by_hand():
  # Cosines 1, -1, 1 at the three points of a line, 1/2 in the triangle: gaps
  # 1/2, 3/2, 1/2, where Huber is 1/8, 1, 1/8; each angle is counted twice.
  student = jnp.array([[0.0, 0], [1, 0], [2, 0]])
  teacher = jnp.array([[0.0, 0], [1, 0], [0.5, 0.75**0.5]])
  for reduction, count in (('paper', 6), ('reference', 27)):
    np.testing.assert_allclose(
      distill.relational_angle_loss(student, teacher, reduction=reduction),
      2 * 1.25 / count,
      rtol=1e-5,
    )


@pytest.mark.parametrize('reduction', ['paper', 'reference'])
def test_zero_under_similarity_transforms(reduction):
  student, teacher = vectors()
  turn, _ = np.linalg.qr(np.asarray(normal(3, 6, 6)))
  moved = 7 * student @ turn + jnp.arange(6.0)[None]

  def loss(ours, theirs):
    return distill.relational_loss(ours, theirs, reduction=reduction)

  assert loss(student, student) == 0
  assert loss(moved, student) < 1e-9
  order = jnp.array([2, 0, 3, 1])
  np.testing.assert_allclose(
    loss(student[order], teacher[order]), loss(student, teacher), rtol=1e-5
  )
  np.testing.assert_allclose(
    loss(moved, teacher), loss(student, teacher), rtol=1e-4
  )


def test_chunks_change_nothing():
  student, teacher = normal(0, 7, 3), normal(1, 7, 5)

  def loss(ours, chunk):
    return distill.relational_angle_loss(ours, teacher, chunk=chunk)

  expected = jax.value_and_grad(loss)(student, None)
  for chunk in (3, 99):
    actual = jax.value_and_grad(loss)(student, chunk)
    np.testing.assert_allclose(actual[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(actual[1], expected[1], rtol=1e-4, atol=1e-6)


def test_too_few_images_have_no_relations():
  rows = normal(0, 2, 3)
  assert distill.relational_loss(rows[:1], rows[1:]) == 0
  assert distill.relational_loss(rows, -2 * rows + 1) == 0


def test_gradients_types_devices():
  def loss(ours, theirs):
    return distill.relational_loss(ours, theirs) + 10 * distill.relational_loss(
      ours, theirs, reduction='reference'
    )

  student, teacher = normal(0, 8, 3), normal(1, 8, 2, 2)
  check_loss(loss, student, teacher)
  check_sharded(loss, student, teacher)


def test_errors():
  rows = jnp.ones((3, 2))
  with pytest.raises(InputError, match='right is 0 or more'):
    distill.relational_loss(rows, rows, angle_weight=-1.0)
  with pytest.raises(InputError, match='reduction'):
    distill.relational_distance_loss(rows, rows, reduction='sum')
  with pytest.raises(InputError, match='chunk is 0'):
    distill.relational_angle_loss(rows, rows, chunk=0)
  with pytest.raises(InputError, match='same images'):
    distill.relational_loss(rows, rows[:2])
