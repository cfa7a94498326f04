"""Contrastive losses against hand-computed values; their memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from compress import distill
from compress.errors import InputError

ROW, COLUMN = np.arange(4)[:, None], np.arange(6)[None, :]
STUDENT = jnp.array(np.sin(0.3 * (ROW + 1) * (COLUMN + 1)), jnp.float32)
TEACHER = jnp.array(np.cos(0.7 * (ROW + 1) + COLUMN**2), jnp.float32)
BANK = jnp.array(
  np.cos(0.37 * (np.arange(10)[:, None] + 1) * (COLUMN + 1)), jnp.float32
)
INDICES = jnp.arange(4)
NEGATIVES = jnp.array([[4, 5, 6], [7, 8, 9], [5, 7, 9], [4, 6, 8]])
IDENTITY = {'kernel': jnp.eye(6), 'bias': jnp.zeros(6)}
SAME = {'student': IDENTITY, 'teacher': IDENTITY}

crd = jax.jit(distill.crd_loss, static_argnames=('temperature', 'momentum'))
slopes = jax.jit(
  jax.grad(lambda *inputs: distill.crd_loss(*inputs)[0], (0, 1, 2))
)


def memory():
  empty = distill.init_crd_memory(jax.random.key(0), examples=10, width=6)
  bank = distill.normalize(BANK)
  return empty._replace(student=bank, teacher=bank)


def test_crd_golden():
  loss, after = crd(STUDENT, TEACHER, SAME, memory(), INDICES, NEGATIVES)
  np.testing.assert_allclose(after.student_scale, 9.485861773286663, rtol=1e-5)
  ours, bank = distill.normalize(STUDENT), distill.normalize(BANK)
  by_student = distill.nce_loss(
    (ours * bank[:4]).sum(1),
    jnp.einsum('bd,bkd->bk', ours, bank[NEGATIVES]),
    scale=jnp.float32(9.485861773286663),
    examples=10,
  )
  np.testing.assert_allclose(by_student, 7.3262080834714185, rtol=1e-5)
  other, swapped = crd(TEACHER, STUDENT, SAME, memory(), INDICES, NEGATIVES)
  np.testing.assert_allclose(other, loss, rtol=1e-6)
  np.testing.assert_allclose(
    swapped.teacher_scale, after.student_scale, rtol=1e-6
  )
  assert loss > by_student


def test_chance_is_that_of_one_in_all():
  count = 63
  chance = distill.nce_loss(
    jnp.zeros(3), jnp.zeros((3, count)), scale=jnp.float32(100), examples=100
  )
  expected = np.log(1 + count) + count * np.log(1 + 1 / count)
  np.testing.assert_allclose(chance, expected, rtol=1e-6)


def test_memory_moves_the_rows_of_the_batch():
  before = memory()
  _, after = crd(STUDENT, TEACHER, SAME, before, INDICES, NEGATIVES)
  assert jax.tree.structure(before) == jax.tree.structure(after)
  for old, new, vectors in (
    (before.student, after.student, STUDENT),
    (before.teacher, after.teacher, TEACHER),
  ):
    np.testing.assert_array_equal(new[4:], old[4:])
    np.testing.assert_allclose(jnp.linalg.norm(new, axis=1), 1, rtol=1e-6)
    expected = distill.normalize(old[:4] + distill.normalize(vectors))
    np.testing.assert_allclose(new[:4], expected, rtol=1e-5, atol=1e-6)
  _, later = crd(TEACHER, STUDENT, SAME, after, INDICES, NEGATIVES)
  assert later.student_scale == after.student_scale
  assert later.teacher_scale == after.teacher_scale
  assert later.count == 2


def test_an_image_twice_counts_with_its_last_place():
  indices = jnp.array([1, 2, 1, 3])
  _, after = crd(STUDENT, TEACHER, SAME, memory(), indices, NEGATIVES)
  expected = distill.normalize(
    distill.normalize(BANK)[1] + distill.normalize(STUDENT)[2]
  )
  np.testing.assert_allclose(after.student[1], expected, rtol=1e-5, atol=1e-6)


def test_shared_negatives_are_those_of_every_image():
  shared = jnp.array([4, 5, 9])
  each = jnp.tile(shared[None], (4, 1))
  loss, _ = crd(STUDENT, TEACHER, SAME, memory(), INDICES, shared)
  expected, _ = crd(STUDENT, TEACHER, SAME, memory(), INDICES, each)
  np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_gradients_reach_the_student_and_the_embeddings_alone():
  by_student, by_teacher, by_params = slopes(
    STUDENT, TEACHER, SAME, memory(), INDICES, NEGATIVES
  )
  assert np.any(by_student) and not np.any(by_teacher)
  assert np.any(by_params['student']['kernel'])
  assert np.any(by_params['teacher']['kernel'])
  for features in (jnp.zeros((4, 6)), jnp.ones((4, 6))):
    found = slopes(features, features, SAME, memory(), INDICES, NEGATIVES)
    for leaf in jax.tree.leaves(found):
      assert np.all(np.isfinite(leaf))


def test_half_precision_gives_float32():
  half = [x.astype(jnp.bfloat16) for x in (STUDENT, TEACHER)]
  loss, after = crd(*half, SAME, memory(), INDICES, NEGATIVES)
  full, _ = crd(STUDENT, TEACHER, SAME, memory(), INDICES, NEGATIVES)
  assert loss.dtype == after.student.dtype == jnp.float32
  np.testing.assert_allclose(loss, full, rtol=3e-2)


@pytest.mark.parametrize('count, distinct', [(6, True), (9, False)])
def test_negatives_are_of_other_classes(count, distinct):
  labels = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 1, 2])
  labels = labels[:10]
  indices = jnp.array([0, 3, 6, 9])
  sample = jax.jit(
    functools.partial(distill.sample_negatives, labels=labels, count=count)
  )
  found = np.concatenate(
    [sample(key, indices) for key in jax.random.split(jax.random.key(1), 40)],
    axis=1,
  )
  for row, index in zip(found, indices, strict=True):
    allowed = np.flatnonzero(labels != labels[index])
    assert set(row) == set(allowed)
    parts = row.reshape(40, count)
    if distinct:
      assert all(len(set(part)) == count for part in parts)
    shares = np.array([(row == one).mean() for one in allowed])
    np.testing.assert_allclose(shares, 1 / len(allowed), atol=0.08)


def test_embeddings_and_memory_at_first():
  params = distill.init_crd(jax.random.key(0), student=5, teacher=7, width=3)
  unit = distill.crd_embed(jnp.ones((2, 7)), params['teacher'])
  assert unit.shape == (2, 3)
  np.testing.assert_allclose(jnp.linalg.norm(unit, axis=1), 1, rtol=1e-6)
  state = distill.init_crd_memory(jax.random.key(0), examples=9, width=3)
  np.testing.assert_allclose(
    jnp.linalg.norm(state.student, axis=1), 1, rtol=1e-6
  )
  assert np.any(state.student != state.teacher)


def test_info_nce_by_hand():
  loss = jax.jit(distill.info_nce_loss)
  np.testing.assert_allclose(
    loss(jnp.ones((5, 3)), jnp.ones((5, 3))), np.log(5), rtol=1e-6
  )
  apart = 2 * jnp.eye(4)
  expected = np.log1p(3 * np.exp(-10))
  np.testing.assert_allclose(loss(apart, apart), expected, rtol=1e-2)
  # All of one class: an image has no negative, and nothing to be told from.
  assert loss(STUDENT, TEACHER, labels=jnp.zeros(4, jnp.int32)) == 0
  gradient = jax.grad(distill.info_nce_loss)(jnp.zeros((4, 6)), TEACHER)
  assert np.all(np.isfinite(gradient))


def test_sharded_batches_give_the_same_value():
  keys = jax.random.split(jax.random.key(2), 4)
  student = jax.random.normal(keys[0], (8, 6))
  teacher = jax.random.normal(keys[1], (8, 6))
  indices = jnp.arange(8)
  state = distill.init_crd_memory(keys[2], examples=20, width=6)
  negatives = jax.random.randint(keys[3], (8, 5), 8, 20)
  mesh = Mesh(np.array(jax.devices()), ('data',))

  def spread(array):
    return jax.device_put(array, NamedSharding(mesh, P('data')))

  everywhere = jax.device_put(state, NamedSharding(mesh, P()))
  expected, after = crd(student, teacher, SAME, state, indices, negatives)
  actual, moved = crd(
    spread(student),
    spread(teacher),
    jax.device_put(SAME, NamedSharding(mesh, P())),
    everywhere,
    spread(indices),
    spread(negatives),
  )
  np.testing.assert_allclose(actual, expected, rtol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    moved,
    after,
  )
  within = jax.jit(distill.info_nce_loss)
  np.testing.assert_allclose(
    within(spread(student), spread(teacher)),
    within(student, teacher),
    rtol=1e-5,
  )


def test_bad_options():
  with pytest.raises(InputError, match='temperature is 0'):
    distill.info_nce_loss(STUDENT, TEACHER, temperature=0)
  with pytest.raises(InputError, match='there are none'):
    distill.info_nce_loss(STUDENT, TEACHER[:, :5])
  with pytest.raises(InputError, match='momentum is 2'):
    distill.crd_loss(
      STUDENT, TEACHER, SAME, memory(), INDICES, NEGATIVES, momentum=2
    )
  with pytest.raises(InputError, match='1 classes'):
    distill.sample_negatives(
      jax.random.key(0), INDICES, np.zeros(10, int), count=3
    )


def test_shared_negatives_leave_the_own_row_out_of_the_scale():
  memory = distill.init_crd_memory(jax.random.key(0), examples=10, width=6)
  memory = memory._replace(student=BANK, teacher=BANK)
  shared = jnp.array([0, 4, 5])
  _, found = distill.crd_loss(STUDENT, TEACHER, SAME, memory, INDICES, shared)
  ours = np.asarray(distill.crd_embed(STUDENT, IDENTITY), np.float64)
  bank = np.asarray(BANK, np.float64)
  seen = [
    ours[i] @ bank[j]
    for i in range(4)
    for j in (i, *(n for n in (0, 4, 5) if n != i))
  ]
  expected = 10 * np.exp(np.array(seen) / 0.07).mean()
  np.testing.assert_allclose(found.student_scale, expected, rtol=1e-4)
