"""SP, CC, PKT: goldens, by hand, invariances, devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import distill
from compress.distill.hints import Regressor
from compress.errors import InputError
from tests.distill.features import check_loss, check_sharded, normal, vectors


def both(student, teacher):
  return {
    'SP': distill.similarity_loss(student, teacher),
    'CC': distill.correlation_loss(student, teacher),
    'PKT': distill.probabilistic_loss(student, teacher),
    'PKT reference': distill.probabilistic_loss(
      student, teacher, reduction='reference'
    ),
  }


def test_goldens():
  student, teacher = vectors()
  np.testing.assert_allclose(
    distill.similarity_loss(student, teacher), 0.06580747058468366, rtol=1e-6
  )
  np.testing.assert_allclose(
    distill.correlation_loss(student, teacher, reduction='reference'),
    6.294078179109846,
    rtol=1e-6,
  )
  np.testing.assert_allclose(
    distill.probabilistic_loss(student, teacher, reduction='reference'),
    0.012161062807283605,
    rtol=2e-6,
  )


def test_similarity_by_hand():
  # Rows of G: (1, 0), (0, 1) and twice (1, 1) / sqrt(2).
  student = jnp.array([[3.0, 0], [0, 3]])
  teacher = jnp.array([[[2.0]], [[2.0]]])
  half = 0.5**0.5
  np.testing.assert_allclose(
    distill.similarity_loss(student, teacher),
    2 * ((1 - half) ** 2 + 0.5) / 4,
    rtol=1e-6,
  )


def test_kernel_is_the_gaussian_where_the_series_is_long():
  student, teacher = vectors()

  def kernel(rows):
    rows = np.asarray(rows, np.float64)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    gap = unit[:, None] - unit[None]
    return np.exp(-0.7 * np.square(gap).sum(2))

  np.testing.assert_allclose(
    distill.correlation_loss(student, teacher, gamma=0.7, order=12),
    np.square(kernel(student) - kernel(teacher)).mean(),
    rtol=1e-5,
  )


def test_papers_neighbours_leave_the_image_out():
  # Image 0 is as near to 1 as to 2 in the student; in the teacher it is
  # orthogonal to 1 and opposite to 2, whose probability is then 0.
  student = jnp.array([[1.0, 0], [0, 1], [0, -1]])
  teacher = jnp.array([[1.0, 0], [0, 1], [-1, 0]])
  # Student rows (., 1/2, 1/2), (1, ., 0), (1, 0, .);
  # teacher rows (., 1, 0), (1/2, ., 1/2), (0, 1, .).
  floor = 1e-7
  first = np.log((1 + floor) / (0.5 + floor))
  second = 0.5 * np.log(0.5 / 1) + 0.5 * np.log((0.5 + floor) / floor)
  third = np.log((1 + floor) / floor)
  np.testing.assert_allclose(
    distill.probabilistic_loss(student, teacher),
    (first + second + third) / 3,
    rtol=1e-5,
  )


def test_zero_where_the_relations_are_the_same():
  student, _ = vectors()
  turn, _ = np.linalg.qr(np.asarray(normal(3, 6, 6)))
  for name, loss in both(student, student).items():
    assert loss == 0, name
  for name, loss in both(student, -3 * student @ turn).items():
    assert abs(loss) < 1e-9, name
  for name, loss in both(student, normal(0, 4, 2, 2, 3)).items():
    assert loss > 1e-4, name
  scale = jnp.array([1.0, 2, 0.1, 30])[:, None]
  scaled = both(student * scale, student)
  assert abs(scaled['PKT']) < 1e-9 and abs(scaled['CC']) < 1e-9
  assert scaled['SP'] > 1e-3


def test_embedded_features_of_different_width():
  params = distill.init_embeds(jax.random.key(0), student=6, teacher=8, width=5)
  student, teacher = normal(0, 4, 6), normal(1, 4, 2, 2, 2)
  for reduction in ('paper', 'reference'):
    slope = jax.grad(
      lambda p, r=reduction: distill.correlation_loss(
        student, teacher, p, reduction=r
      )
    )(params)
    assert all((np.abs(leaf) > 0).any() for leaf in jax.tree.leaves(slope))
  same = distill.Embeds(*[Regressor(jnp.eye(6), jnp.zeros(6))] * 2)
  student, teacher = vectors()
  np.testing.assert_allclose(
    distill.correlation_loss(student, teacher, same, reduction='reference'),
    6.294078179109846,
    rtol=1e-6,
  )
  assert (
    distill.correlation_loss(student, student, same, reduction='reference') == 0
  )


def test_features_that_agree_are_not_moved():
  student, teacher = vectors()
  slope = jax.grad(distill.correlation_loss)(
    student.at[:, 2].set(teacher[:, 2]), teacher, reduction='reference'
  )
  np.testing.assert_array_equal(slope[:, 2], 0)
  assert (np.abs(slope[:, 0]) > 0).all()


def test_gradients_types_devices():
  def loss(ours, theirs):
    simple = distill.correlation_loss(ours, theirs, reduction='reference')
    return sum(both(ours, theirs).values()) + 1e-3 * simple

  student, teacher = normal(0, 8, 4), normal(1, 8, 4)
  check_loss(loss, student, teacher)
  check_sharded(loss, student, teacher)


def test_errors():
  rows = jnp.ones((2, 3))
  with pytest.raises(InputError, match='same images'):
    distill.similarity_loss(rows, rows[:1])
  with pytest.raises(InputError, match='reduction'):
    distill.probabilistic_loss(rows, rows, reduction='mean')
  with pytest.raises(InputError, match='right is above 0'):
    distill.correlation_loss(rows, rows, gamma=0.0)
  with pytest.raises(InputError, match='two images or more'):
    distill.correlation_loss(rows[:1], rows[:1], reduction='reference')
