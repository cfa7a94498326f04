"""Targets without a teacher against hand-computed values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import distill
from compress.errors import InputError

ROWS, CLASSES = np.arange(4)[:, None], np.arange(5)[None, :]
STUDENT = jnp.array(np.sin(1 + 3 * ROWS + CLASSES), jnp.float32)
TEACHER = jnp.array(2 * np.cos(0.5 + ROWS * CLASSES), jnp.float32)
LABELS = jnp.array([0, 2, 4, 1])

smoothed = jax.jit(
  distill.label_smoothing_loss, static_argnames=('smoothing', 'form')
)
OPTIONS = ('correct', 'temperature', 'soft_weight', 'multiplier', 'form')
virtual = jax.jit(distill.virtual_teacher_loss, static_argnames=OPTIONS)
itself = jax.jit(
  distill.self_distillation_loss,
  static_argnames=('temperature', 'soft_weight', 'multiplier', 'reduction'),
)
GOLDEN = {'paper': 2.188292482052181, 'reference': 2.179715443265204}
SOFT = {
  'paper': 0.009845567254481599,
  'reference': 0.2737182198833835 / 5,
}


@pytest.mark.parametrize('form', GOLDEN)
def test_label_smoothing_golden(form):
  found = smoothed(STUDENT, LABELS, form=form)
  np.testing.assert_allclose(found, GOLDEN[form], rtol=1e-6)
  rows = distill.smooth_labels(LABELS, classes=5, form=form)
  np.testing.assert_allclose(rows.sum(1), 1, rtol=1e-6)
  wrong = 0.02 if form == 'paper' else 0.025
  np.testing.assert_allclose(rows[0, 1:], wrong, rtol=1e-6)


def test_label_smoothing_is_between_labels_and_uniform():
  hard = distill.cross_entropy(STUDENT, LABELS)
  np.testing.assert_allclose(
    smoothed(STUDENT, LABELS, smoothing=0.0), hard, rtol=1e-6
  )
  uniform = smoothed(STUDENT, LABELS, smoothing=1.0)
  both = 0.9 * hard + 0.1 * uniform
  np.testing.assert_allclose(smoothed(STUDENT, LABELS), both, rtol=1e-6)


@pytest.mark.parametrize('form', GOLDEN)
def test_label_smoothing_gradient(form):
  gradient = jax.jit(
    jax.grad(lambda z: distill.label_smoothing_loss(z, LABELS, form=form))
  )(STUDENT)
  target = distill.smooth_labels(LABELS, classes=5, form=form)
  expected = (jax.nn.softmax(STUDENT) - target) / 4
  np.testing.assert_allclose(gradient, expected, atol=1e-7)


@pytest.mark.parametrize(
  'form, largest, smallest',
  [
    ('reference', 0.20801712, 0.19799572),
    ('paper', 0.25214144, 0.18696464),
  ],
)
def test_virtual_teacher_golden(form, largest, smallest):
  found = distill.virtual_teacher(
    LABELS, classes=5, temperature=20.0, form=form
  )
  np.testing.assert_allclose(found.max(1), largest, rtol=1e-6)
  np.testing.assert_allclose(found.min(1), smallest, rtol=1e-6)
  np.testing.assert_array_equal(found.argmax(1), LABELS)


@pytest.mark.parametrize('form', SOFT)
def test_virtual_teacher_loss_golden(form):
  alone = virtual(STUDENT, LABELS, soft_weight=1.0, multiplier=1.0, form=form)
  np.testing.assert_allclose(alone, SOFT[form], rtol=2e-6)
  mixed = virtual(STUDENT, LABELS, soft_weight=0.1, multiplier=50.0, form=form)
  expected = 0.9 * 2.222600637200089 + 0.1 * 50 * SOFT[form]
  np.testing.assert_allclose(mixed, expected, rtol=2e-6)


@pytest.mark.parametrize('form, multiplier', [('paper', 400), ('reference', 1)])
def test_the_multiplier_by_default(form, multiplier):
  found = virtual(STUDENT, LABELS, soft_weight=1.0, form=form)
  np.testing.assert_allclose(found, multiplier * SOFT[form], rtol=2e-6)


def test_the_papers_gradient_does_not_shrink_with_the_temperature():
  gradient = jax.grad(virtual)
  at_20 = gradient(STUDENT, LABELS, temperature=20.0, soft_weight=1.0)
  at_40 = gradient(STUDENT, LABELS, temperature=40.0, soft_weight=1.0)
  assert jnp.abs(at_40).max() > 0.2
  np.testing.assert_allclose(at_20, at_40, atol=0.02)


def test_a_virtual_teacher_without_knowledge_is_smoothing_to_uniform():
  # KL(uniform || q) is CE(uniform, q) less log C.
  found = virtual(
    STUDENT, LABELS, correct=0.2, temperature=1.0, soft_weight=0.1
  )
  expected = smoothed(STUDENT, LABELS) - 0.1 * np.log(5)
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_certain_virtual_teacher_is_the_label():
  found = virtual(
    STUDENT, LABELS, correct=1.0, temperature=1.0, soft_weight=0.5
  )
  np.testing.assert_allclose(found, 2.222600637200089, rtol=1e-6)


@pytest.mark.parametrize('form', SOFT)
@pytest.mark.parametrize('correct', [0.99, 1.0])
def test_gradients_are_finite_and_two_classes_work(form, correct):
  logits = jnp.array([[0.0, 0.0], [40.0, -40.0]])
  labels = jnp.array([0, 1])
  loss, gradient = jax.jit(
    jax.value_and_grad(
      lambda z: distill.virtual_teacher_loss(
        z, labels, form=form, correct=correct
      )
    )
  )(logits)
  assert np.isfinite(loss) and np.all(np.isfinite(gradient))


def test_self_distillation_is_hintons_mix():
  found = itself(STUDENT, TEACHER, LABELS, temperature=4.0, soft_weight=0.9)
  np.testing.assert_allclose(found, 1.3559617762344727, rtol=1e-6)
  found = itself(
    STUDENT,
    TEACHER,
    LABELS,
    temperature=4.0,
    soft_weight=0.9,
    multiplier=5.0,
    reduction='reference',
  )
  np.testing.assert_allclose(found, 1.3559617762344727, rtol=1e-6)
  by_teacher = jax.grad(itself, argnums=1)(STUDENT, TEACHER, LABELS)
  assert not np.any(by_teacher)


def test_half_precision_gives_float32():
  half = STUDENT.astype(jnp.bfloat16)
  for loss, arguments in (
    (smoothed, (LABELS,)),
    (virtual, (LABELS,)),
    (itself, (TEACHER.astype(jnp.bfloat16), LABELS)),
  ):
    found = loss(half, *arguments)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, loss(STUDENT, *arguments), rtol=2e-2)


def test_bad_options():
  with pytest.raises(InputError, match='smoothing is 2'):
    distill.label_smoothing_loss(STUDENT, LABELS, smoothing=2)
  with pytest.raises(InputError, match="form is 'code'"):
    distill.smooth_labels(LABELS, classes=5, form='code')
  with pytest.raises(InputError, match='1 classes'):
    distill.virtual_teacher(LABELS, classes=1)
  with pytest.raises(InputError, match='temperature is 0'):
    distill.virtual_teacher_loss(STUDENT, LABELS, temperature=0)
  with pytest.raises(InputError, match='multiplier is -1'):
    distill.self_distillation_loss(STUDENT, TEACHER, LABELS, multiplier=-1)
