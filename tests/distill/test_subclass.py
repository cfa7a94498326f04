"""Subclass distillation against hand-computed values and its identities."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from compress import distill
from compress.errors import InputError

ROWS, CLASSES = np.arange(4)[:, None], np.arange(5)[None, :]
STUDENT = jnp.array(np.sin(1 + 3 * ROWS + CLASSES), jnp.float32)
TEACHER = jnp.array(2 * np.cos(0.5 + ROWS * CLASSES), jnp.float32)
LABELS = jnp.array([0, 1, 1, 0])
OWNERS = (0, 0, 1, 1, 1)

teacher_loss = jax.jit(
  functools.partial(distill.subclass_teacher_loss, owners=OWNERS),
  static_argnames='spread_weight',
)
student_loss = jax.jit(
  functools.partial(distill.subclass_loss, owners=OWNERS),
  static_argnames='soft_weight',
)
spread = jax.jit(distill.spread_loss)


def test_fold_golden():
  folded = jax.nn.softmax(distill.fold_subclasses(TEACHER, OWNERS))
  expected = [
    [0.4, 0.6],
    [0.87277582, 0.12722418],
    [0.42777786, 0.57222214],
    [0.28991957, 0.71008043],
  ]
  np.testing.assert_allclose(folded, expected, rtol=2e-7)
  probabilities = jax.nn.softmax(TEACHER)
  summed = [probabilities[:, :2].sum(1), probabilities[:, 2:].sum(1)]
  np.testing.assert_allclose(folded, np.stack(summed, 1), rtol=1e-6)


def test_even_owners():
  assert distill.even_owners(classes=2, subclasses=3) == (0, 0, 0, 1, 1, 1)


def test_spread_golden():
  np.testing.assert_allclose(spread(TEACHER), -0.6247829642721316, rtol=1e-6)


def test_spread_is_zero_for_one_direction_and_blind_to_length():
  alike = jnp.arange(1.0, 5)[:, None] * TEACHER[:1]
  np.testing.assert_allclose(spread(alike), 0, atol=1e-6)
  lengths = jnp.array([[0.1], [3.0], [50.0], [1.0]])
  np.testing.assert_allclose(spread(lengths * TEACHER), spread(TEACHER), 1e-6)
  np.testing.assert_allclose(spread(TEACHER[::-1]), spread(TEACHER), 1e-6)


def test_subclasses_of_a_class_may_change_places():
  swapped = TEACHER[:, np.array([1, 0, 4, 2, 3])]
  np.testing.assert_allclose(
    distill.fold_subclasses(swapped, OWNERS),
    distill.fold_subclasses(TEACHER, OWNERS),
    rtol=1e-6,
  )
  np.testing.assert_allclose(
    teacher_loss(swapped, LABELS), teacher_loss(TEACHER, LABELS), rtol=1e-6
  )


def test_the_terms_alone():
  hard = distill.cross_entropy(distill.fold_subclasses(STUDENT, OWNERS), LABELS)
  found = teacher_loss(STUDENT, LABELS, spread_weight=0.5)
  np.testing.assert_allclose(found, hard + spread(STUDENT) / 2, rtol=1e-6)
  found = student_loss(STUDENT, TEACHER, LABELS, soft_weight=0.25)
  soft = distill.soft_target_loss(STUDENT, TEACHER, temperature=4)
  np.testing.assert_allclose(found, 0.75 * hard + 0.25 * soft, rtol=1e-6)
  assert student_loss(TEACHER, TEACHER, LABELS, soft_weight=1.0) == 0


@pytest.mark.parametrize('value', [0.0, 1.0])
def test_gradients_are_finite_where_all_rows_are_alike(value):
  constant = jnp.full((4, 5), value)
  one_hot = jnp.where(jax.nn.one_hot(LABELS, 5) > 0, 0.0, -jnp.inf)
  by_logits = jax.jit(jax.grad(teacher_loss))(constant, LABELS)
  by_both = jax.jit(jax.grad(student_loss, (0, 1)))(constant, one_hot, LABELS)
  assert np.all(np.isfinite(by_logits)) and np.all(np.isfinite(by_both[0]))
  assert not np.any(by_both[1])


def test_half_precision_gives_float32():
  half = [x.astype(jnp.bfloat16) for x in (STUDENT, TEACHER)]
  for loss, inputs, full in (
    (teacher_loss, half[:1], [STUDENT]),
    (student_loss, half, [STUDENT, TEACHER]),
  ):
    found = loss(*inputs, LABELS)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, loss(*full, LABELS), rtol=2e-2)


def test_sharded_batches_give_the_same_value():
  logits = jax.random.normal(jax.random.key(0), (16, 5))
  labels = jnp.arange(16) % 2
  mesh = Mesh(np.array(jax.devices()), ('data',))
  spread_over = NamedSharding(mesh, P('data'))
  step = jax.jit(jax.value_and_grad(teacher_loss))
  expected = step(logits, labels)
  actual = step(*jax.device_put((logits, labels), spread_over))
  np.testing.assert_allclose(actual[0], expected[0], rtol=1e-5)
  np.testing.assert_allclose(actual[1], expected[1], atol=1e-6)


def test_bad_options():
  with pytest.raises(InputError, match='owners'):
    distill.fold_subclasses(TEACHER, (0, 0, 1, 1))
  with pytest.raises(InputError, match='no class left out'):
    distill.fold_subclasses(TEACHER, (0, 0, 2, 2, 2))
  with pytest.raises(InputError, match='temperature is 0'):
    distill.spread_loss(TEACHER, temperature=0)
  with pytest.raises(InputError, match='spread_weight is -1'):
    distill.subclass_teacher_loss(TEACHER, LABELS, OWNERS, spread_weight=-1)
  with pytest.raises(InputError, match='soft_weight is 2'):
    distill.subclass_loss(STUDENT, TEACHER, LABELS, OWNERS, soft_weight=2)
