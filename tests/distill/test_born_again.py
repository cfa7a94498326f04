"""Born-again losses against golden values, and the generations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from compress import distill
from compress.errors import InputError

ROWS, CLASSES = np.arange(4)[:, None], np.arange(5)[None, :]
STUDENT = jnp.asarray(np.sin(1 + 3 * ROWS + CLASSES), jnp.float32)
TEACHER = jnp.asarray(2 * np.cos(0.5 + ROWS * CLASSES), jnp.float32)
LABELS = jnp.asarray([0, 2, 4, 1])
KEY = jax.random.key(0)
SURE = jnp.where(jax.nn.one_hot(LABELS, 5, dtype=bool), 0.0, -jnp.inf)


def born_again(student, teacher):
  return distill.born_again_loss(student, teacher, LABELS)


def weighted(student, teacher):
  return distill.confidence_weighted_loss(student, teacher, LABELS)


def permuted(student, teacher):
  return distill.permuted_predictions_loss(student, teacher, key=KEY)


LOSSES = (born_again, weighted, permuted)


def test_confidence_weights_golden():
  expected = [0.11167524, 0.40640182, 0.2813672, 0.20055574]
  found = distill.confidence_weights(TEACHER)
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  assert float(found.sum()) == pytest.approx(1, rel=1e-6)
  loss = distill.confidence_weighted_loss(STUDENT, TEACHER, LABELS)
  assert float(loss) == pytest.approx(2.3602883918448074, rel=1e-6)


def test_an_equally_sure_teacher_weighs_nothing():
  teacher = jnp.asarray(np.roll(np.tile([3.0, 1, 0, 0, 2], (4, 1)), 1, 1))
  loss = distill.confidence_weighted_loss(STUDENT, teacher, LABELS)
  plain = distill.cross_entropy(STUDENT, LABELS)
  assert float(loss) == pytest.approx(float(plain), rel=1e-6)


def test_born_again_is_both_terms():
  loss = distill.born_again_loss(STUDENT, TEACHER, LABELS)
  p = jax.nn.softmax(TEACHER)
  entropy = -(p * jnp.log(p)).sum(1).mean()
  # At temperature 1 the divergence and the teacher's entropy.
  expected = 2.222600637200089 + 0.8355250814040285 + float(entropy)
  assert float(loss) == pytest.approx(expected, rel=1e-6)
  soft = distill.born_again_loss(STUDENT, TEACHER, LABELS, label_weight=0.0)
  assert float(soft) == pytest.approx(expected - 2.222600637200089, rel=1e-5)


def test_permuted_targets_keep_the_largest_and_the_rest():
  p = np.asarray(jax.nn.softmax(TEACHER))
  found = np.asarray(distill.permuted_targets(KEY, TEACHER))
  np.testing.assert_allclose(found.sum(1), 1, rtol=1e-6)
  np.testing.assert_array_equal(found.argmax(1), p.argmax(1))
  np.testing.assert_array_equal(found.max(1), p.max(1))
  np.testing.assert_array_equal(np.sort(found, 1), np.sort(p, 1))
  assert (found != p).any()


def test_every_permutation_is_equally_likely():
  logits = jnp.tile(jnp.asarray([[0.0, 9, 1, 2]]), (6000, 1))
  found = np.asarray(distill.permuted_targets(KEY, logits))
  p = np.asarray(jax.nn.softmax(logits[0]))
  order = np.stack([np.isclose(found, x) for x in p[[0, 2, 3]]]).argmax(2)
  kinds, counts = np.unique(order, axis=1, return_counts=True)
  assert kinds.shape[1] == 6
  assert counts.min() > 850 and counts.max() < 1150


@pytest.mark.parametrize('loss', [weighted, permuted])
def test_a_one_hot_teacher_leaves_the_labels(loss):
  plain = distill.cross_entropy(STUDENT, LABELS)
  assert float(loss(STUDENT, SURE)) == pytest.approx(float(plain), rel=1e-6)
  assert float(born_again(STUDENT, SURE)) == pytest.approx(2 * float(plain))


@pytest.mark.parametrize('loss', LOSSES)
def test_gradients(loss):
  found = jax.grad(loss, argnums=(0, 1))(STUDENT, TEACHER)
  assert np.abs(found[0]).max() > 0
  np.testing.assert_array_equal(found[1], np.zeros_like(TEACHER))
  for student, teacher in (
    (STUDENT, SURE),
    (jnp.zeros((4, 5)), jnp.zeros((4, 5))),
    (TEACHER, TEACHER),
  ):
    assert np.isfinite(jax.grad(loss)(student, teacher)).all()


def test_a_class_that_neither_network_allows_counts_nothing():
  student, teacher = (x.at[:, 3].set(-jnp.inf) for x in (STUDENT, TEACHER))
  loss, gradient = jax.value_and_grad(distill.born_again_loss)(
    student, teacher, LABELS
  )
  few = [0, 1, 2, 4]
  labels = jnp.asarray([0, 2, 3, 1])
  expected, slopes = jax.value_and_grad(distill.born_again_loss)(
    STUDENT[:, few], TEACHER[:, few], labels
  )
  assert float(loss) == pytest.approx(float(expected), rel=1e-6)
  np.testing.assert_allclose(gradient[:, few], slopes, atol=1e-7)
  assert not np.any(gradient[:, 3])
  unknown = teacher.at[0, 0].set(jnp.nan)
  assert np.isnan(distill.born_again_loss(student, unknown, LABELS))


@pytest.mark.parametrize('label', [-1, 5])
def test_a_label_that_is_no_class_makes_the_loss_nan(label):
  labels = LABELS.at[0].set(label)
  assert np.isnan(distill.confidence_weighted_loss(STUDENT, TEACHER, labels))


@pytest.mark.parametrize('loss', LOSSES)
def test_float32_inside(loss):
  low = (x.astype(jnp.bfloat16) for x in (STUDENT, TEACHER))
  found = loss(*low)
  assert found.dtype == jnp.float32
  assert float(found) == pytest.approx(float(loss(STUDENT, TEACHER)), rel=0.02)


@pytest.mark.parametrize('loss', LOSSES)
def test_one_and_eight_devices_agree(loss):
  mesh = jax.make_mesh((8,), ('data',))
  rows = NamedSharding(mesh, PartitionSpec('data'))
  student, teacher = (jnp.concatenate([x, -x]) for x in (STUDENT, TEACHER))
  labels = jnp.concatenate([LABELS, LABELS])

  def value(student, teacher, labels):
    if loss is born_again:
      return distill.born_again_loss(student, teacher, labels)
    if loss is weighted:
      return distill.confidence_weighted_loss(student, teacher, labels)
    return distill.permuted_predictions_loss(student, teacher, key=KEY)

  single = value(student, teacher, labels)
  dealt = jax.device_put((student, teacher, labels), rows)
  assert float(jax.jit(value)(*dealt)) == pytest.approx(float(single), rel=1e-6)


def test_every_generation_learns_from_the_one_before():
  seen = []

  def train(teacher, *, generation, key):
    seen.append((teacher, generation, int(jax.random.bits(key))))
    return f'model {generation}'

  found = distill.generations(train, count=2, key=KEY)
  assert found == ('model 0', 'model 1', 'model 2')
  assert [x[:2] for x in seen] == [(None, 0), ('model 0', 1), ('model 1', 2)]
  assert len({x[2] for x in seen}) == 3
  again = distill.generations(train, count=1, key=KEY, first='given')
  assert again == ('given', 'model 1')
  assert seen[3] == ('given', 1, seen[1][2])
  assert distill.generations(train, count=0, key=KEY, first='it') == ('it',)


def test_bad_inputs():
  with pytest.raises(InputError, match='count is -1'):
    distill.generations(lambda *a, **k: None, count=-1, key=KEY)
  with pytest.raises(InputError, match='label_weight is -1'):
    distill.born_again_loss(STUDENT, TEACHER, LABELS, label_weight=-1)
