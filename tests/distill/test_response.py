"""Hinton's loss against hand-computed values and its identities."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import distill
from compress.distill.response import check_temperature, pick
from compress.errors import InputError

ROWS, CLASSES = np.arange(4)[:, None], np.arange(5)[None, :]
STUDENT = jnp.array(np.sin(1 + 3 * ROWS + CLASSES), jnp.float32)
TEACHER = jnp.array(2 * np.cos(0.5 + ROWS * CLASSES), jnp.float32)
LABELS = jnp.array([0, 2, 4, 1])


soft_jit = jax.jit(distill.soft_target_loss, static_argnames='temperature')


def soft(student=STUDENT, teacher=TEACHER, temperature=4.0):
  return soft_jit(student, teacher, temperature=temperature)


slope = jax.jit(jax.grad(soft), static_argnums=2)


def test_cross_entropy_golden():
  loss = distill.cross_entropy(STUDENT, LABELS)
  np.testing.assert_allclose(loss, 2.222600637200089, rtol=1e-6)


@pytest.mark.parametrize('dtype', [jnp.int8, jnp.uint8, jnp.int32])
def test_pick_knows_no_class_beyond_either_end(dtype):
  values = jnp.arange(600.0).reshape(2, 300)
  np.testing.assert_array_equal(
    pick(values, jnp.array([3, 0], dtype)), [3, 300]
  )
  wrong = jnp.array([-1, 1]).astype(dtype)
  expected = [np.nan if dtype != jnp.uint8 else 255, 301]
  np.testing.assert_array_equal(pick(values, wrong), expected)


@pytest.mark.parametrize('label', [-1, -5, 5])
def test_a_label_that_is_no_class_makes_the_loss_nan(label):
  labels = LABELS.at[1].set(label)
  assert np.isnan(distill.cross_entropy(STUDENT, labels))
  where = jnp.array([True, False, True, True])
  found = distill.cross_entropy(STUDENT, labels, where=where)
  expected = distill.cross_entropy(STUDENT[where], LABELS[where])
  np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize('what', [jnp.nan, jnp.inf, -jnp.inf])
def test_what_is_left_out_reaches_neither_loss_nor_gradient(what):
  where = jnp.array([True, False, True, False])
  value = jax.value_and_grad(
    lambda z: distill.cross_entropy(z, LABELS, where=where)
  )
  loss, gradient = value(STUDENT.at[1].set(what).at[3, 0].set(what))
  expected, slopes = value(STUDENT)
  assert loss == expected
  np.testing.assert_array_equal(gradient, slopes)
  assert not np.any(gradient[~where])
  nothing = jnp.zeros(4, bool)
  assert distill.cross_entropy(STUDENT * what, LABELS, where=nothing) == 0


@pytest.mark.parametrize(
  'temperature, expected',
  [
    (1, 0.8355250814040285),
    (4, 1.2596685694605152),
    (20, 1.3186057930653843),
    (1000, 1.322058674610977),
  ],
)
def test_soft_target_golden(temperature, expected):
  np.testing.assert_allclose(soft(temperature=temperature), expected, rtol=1e-6)
  eager = distill.soft_target_loss(STUDENT, TEACHER, temperature=temperature)
  np.testing.assert_allclose(eager, expected, rtol=1e-6)


def test_high_temperature_limit_is_logit_matching():
  gap = STUDENT - TEACHER
  gap = gap - jnp.mean(gap, axis=1, keepdims=True)
  limit = jnp.mean(jnp.sum(gap**2, axis=1)) / (2 * 5)
  np.testing.assert_allclose(limit, 1.322076695348409, rtol=1e-6)
  np.testing.assert_allclose(soft(temperature=1e3), limit, rtol=1e-4)
  np.testing.assert_allclose(soft(temperature=1e5), limit, rtol=1e-4)


def test_hinton_golden():
  loss = distill.hinton_loss(STUDENT, TEACHER, LABELS)
  np.testing.assert_allclose(loss, 1.3559617762344727, rtol=1e-6)


def test_gradient_golden_and_identity():
  gradient = slope(STUDENT)
  np.testing.assert_allclose(
    gradient[0],
    [0.04011569, 0.04422195, 0.00154912, -0.03897615, -0.04691061],
    atol=1e-7,
  )
  for temperature in (1.0, 4.0, 20.0):
    gradient = slope(STUDENT, TEACHER, temperature)
    q_s = jax.nn.softmax(STUDENT / temperature)
    q_t = jax.nn.softmax(TEACHER / temperature)
    expected = temperature * (q_s - q_t) / 4
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_zero_exactly_when_logits_differ_by_a_constant():
  assert soft(TEACHER, TEACHER) == 0
  assert not np.any(slope(TEACHER, TEACHER))
  shift = jnp.array([[0.5], [-8.0], [3.0], [0.0]])
  np.testing.assert_allclose(soft(TEACHER + shift, TEACHER), 0, atol=1e-10)
  np.testing.assert_allclose(soft(STUDENT + shift), soft(), rtol=1e-5)


def test_scaling_logits_and_temperature_scales_by_the_square():
  np.testing.assert_allclose(
    soft(3 * STUDENT, 3 * TEACHER, 12.0), 9 * soft(), rtol=1e-6
  )


def test_far_apart_logits_agree_with_float64():
  rng = np.random.default_rng(0)
  student, teacher = 40 * rng.standard_normal((2, 16, 7))

  def log_softmax(z):
    z = z - z.max(1, keepdims=True)
    return z - np.log(np.exp(z).sum(1, keepdims=True))

  log_s, log_t = log_softmax(student), log_softmax(teacher)
  expected = (np.exp(log_t) * (log_t - log_s)).sum(1).mean()
  actual = soft(
    jnp.array(student, jnp.float32), jnp.array(teacher, jnp.float32), 1.0
  )
  np.testing.assert_allclose(actual, expected, rtol=1e-6)


@pytest.mark.parametrize('low', [-jnp.inf, -1e4])
def test_one_hot_teacher_gives_the_hard_label_loss(low):
  teacher = jnp.where(jax.nn.one_hot(LABELS, 5) > 0, 0.0, low)
  np.testing.assert_allclose(
    soft(STUDENT, teacher, 1.0),
    distill.cross_entropy(STUDENT, LABELS),
    rtol=1e-6,
  )
  gradient = slope(STUDENT, teacher, 1.0)
  expected = jax.jit(jax.grad(distill.cross_entropy))(STUDENT, LABELS)
  np.testing.assert_allclose(gradient, expected, atol=1e-7)


def test_teacher_gets_no_gradient():
  assert not np.any(jax.grad(soft, argnums=1)(STUDENT, TEACHER))


@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.float16])
def test_half_precision_inputs_give_float32(dtype):
  student, teacher = STUDENT.astype(dtype), TEACHER.astype(dtype)
  loss, gradient = jax.jit(jax.value_and_grad(distill.hinton_loss))(
    student, teacher, LABELS
  )
  assert loss.dtype == jnp.float32 and gradient.dtype == dtype
  np.testing.assert_allclose(loss, 1.35596, rtol=2e-2)
  assert np.all(np.isfinite(gradient.astype(jnp.float32)))


def test_vmap_over_seeds():
  students = jax.random.normal(jax.random.key(0), (3, 4, 5))
  batched = jax.jit(jax.vmap(soft, in_axes=(0, None)))(students, TEACHER)
  single = [soft(student) for student in students]
  np.testing.assert_allclose(batched, jnp.stack(single), rtol=1e-6)


def test_reference_reductions_divide_by_the_classes():
  for temperature in (1.0, 20.0):
    actual = distill.soft_target_loss(
      STUDENT, TEACHER, temperature=temperature, reduction='reference'
    )
    expected = soft(temperature=temperature) / 5
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
  actual = distill.hinton_loss(STUDENT, TEACHER, LABELS, reduction='reference')
  expected = 0.1 * 2.222600637200089 + 0.9 * 1.2596685694605152 / 5
  np.testing.assert_allclose(actual, expected, rtol=1e-6)


@pytest.mark.parametrize(
  'reduction, expected',
  [('paper', 8.684504453903735), ('reference', 8.684504453903735 * 2 / 5)],
)
def test_logit_loss_golden(reduction, expected):
  loss = jax.jit(functools.partial(distill.logit_loss, reduction=reduction))
  np.testing.assert_allclose(loss(STUDENT, TEACHER), expected, rtol=1e-6)
  assert loss(TEACHER, TEACHER) == 0
  half = loss(STUDENT.astype(jnp.bfloat16), TEACHER.astype(jnp.bfloat16))
  assert half.dtype == jnp.float32
  np.testing.assert_allclose(half, expected, rtol=2e-2)


def test_logit_loss_gradient_is_the_gap():
  by_student, by_teacher = jax.grad(distill.logit_loss, argnums=(0, 1))(
    STUDENT, TEACHER
  )
  np.testing.assert_allclose(by_student, (STUDENT - TEACHER) / 4, rtol=1e-6)
  assert not np.any(by_teacher)


def test_bad_options():
  with pytest.raises(InputError, match="reduction is 'mean'"):
    distill.logit_loss(STUDENT, TEACHER, reduction='mean')
  with pytest.raises(InputError, match="reduction is 'mean'"):
    distill.hinton_loss(STUDENT, TEACHER, LABELS, reduction='mean')
  with pytest.raises(InputError, match=r'where of shape \[4, 1\]'):
    distill.cross_entropy(STUDENT, LABELS, where=jnp.ones((4, 1), bool))
  with pytest.raises(InputError, match='temperature is 0'):
    soft(temperature=0)
  with pytest.raises(InputError, match='hard_weight is 2'):
    distill.hinton_loss(STUDENT, TEACHER, LABELS, hard_weight=2)


@pytest.mark.parametrize('temperature', [0, -1.0, np.nan, np.inf])
def test_a_temperature_is_finite_and_above_0(temperature):
  with pytest.raises(InputError, match='finite and above 0'):
    check_temperature(temperature)
