"""QKD's losses in their phases, and where the phases begin."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from compress import distill
from compress.errors import InputError
from tests.distill.features import check_loss, check_sharded, normal

LABELS = jnp.array([0, 2, 1, 1, 0, 2, 2, 1])


def logits():
  return 2 * normal(0, 8, 3), 2 * normal(1, 8, 3)


def gradients(phase):
  """Of the sum of both losses, to student and teacher."""

  def total(student, teacher):
    return sum(distill.co_study_losses(student, teacher, LABELS, phase=phase))

  return jax.jit(jax.grad(total, (0, 1)))(*logits())


def test_each_learns_from_labels_and_the_other():
  student, teacher = logits()
  found = distill.co_study_losses(student, teacher, LABELS, soft_weight=0.7)
  for value, ours, theirs in (
    (found.student, student, teacher),
    (found.teacher, teacher, student),
  ):
    soft = distill.soft_target_loss(ours, theirs, temperature=2)
    hard = distill.cross_entropy(ours, LABELS)
    np.testing.assert_allclose(value, hard + 0.7 * soft, rtol=1e-6)


def test_both_sides_are_detached():
  student, teacher = logits()

  def one(side, *args):
    return distill.co_study_losses(*args, LABELS)[side]

  np.testing.assert_array_equal(
    jax.grad(functools.partial(one, 0), 1)(student, teacher), 0
  )
  np.testing.assert_array_equal(
    jax.grad(functools.partial(one, 1), 0)(student, teacher), 0
  )
  both = gradients('co_study')
  assert both[0].any() and both[1].any()


@pytest.mark.parametrize('phase', ['self_study', 'tutoring'])
def test_a_teacher_that_does_not_learn_has_no_gradient(phase):
  to_student, to_teacher = gradients(phase)
  np.testing.assert_array_equal(to_teacher, 0)
  assert to_student.any()


def test_self_study_does_not_look_at_the_teacher():
  student, teacher = logits()
  found = distill.co_study_losses(student, teacher, LABELS, phase='self_study')
  np.testing.assert_allclose(
    found.student, distill.cross_entropy(student, LABELS)
  )
  assert found.teacher == 0


def test_identical_networks_have_no_divergence():
  student, _ = logits()
  found = distill.co_study_losses(student, student, LABELS)
  hard = distill.cross_entropy(student, LABELS)
  np.testing.assert_allclose(found, [hard, hard], rtol=1e-7)


def test_high_temperatures_match_logits():
  student, teacher = logits()
  found = distill.co_study_losses(student, teacher, LABELS, temperature=1e3)
  gap = student - teacher
  gap = gap - gap.mean(1, keepdims=True)
  soft = found.student - distill.cross_entropy(student, LABELS)
  np.testing.assert_allclose(soft, jnp.square(gap).sum(1).mean() / 6, rtol=5e-3)


def test_a_tutor_stays_bit_for_bit():
  images = normal(2, 8, 4)
  params = {'student': normal(3, 4, 3), 'teacher': normal(4, 4, 3)}
  optimizer = optax.sgd(0.1, momentum=0.9)
  first, state = params, optimizer.init(params)

  @jax.jit
  def step(params, state):
    def loss(params):
      student, teacher = (images @ params[n] for n in ('student', 'teacher'))
      return sum(
        distill.co_study_losses(student, teacher, LABELS, phase='tutoring')
      )

    updates, state = optimizer.update(jax.grad(loss)(params), state)
    return optax.apply_updates(params, updates), state

  for _ in range(3):
    params, state = step(params, state)
  np.testing.assert_array_equal(params['teacher'], first['teacher'])
  assert (params['student'] != first['student']).all()


def test_what_every_loss_keeps():
  def loss(student, teacher):
    return distill.co_study_losses(student, teacher, LABELS).student

  check_loss(loss, *logits())
  check_sharded(loss, *logits())


def test_phases():
  assert distill.study_phases(200) == (
    ('self_study', 0, 30),
    ('co_study', 30, 130),
    ('tutoring', 130, 200),
  )
  found = distill.study_phases(7, shares=(1, 1, 1))
  assert [(p.begin, p.end) for p in found] == [(0, 2), (2, 5), (5, 7)]
  assert distill.study_phases(5, shares=(0, 0, 1))[:2] == (
    ('self_study', 0, 0),
    ('co_study', 0, 0),
  )
  for shares in ((1, 1), (0, 0, 0), (1, -1, 1)):
    with pytest.raises(InputError, match='right are three shares'):
      distill.study_phases(5, shares=shares)


@pytest.mark.parametrize(
  'options, message',
  [
    ({'phase': 'rest'}, "phase is 'rest'"),
    ({'soft_weight': -1}, 'soft_weight is -1'),
    ({'temperature': 0}, 'temperature is 0'),
  ],
)
def test_bad_options(options, message):
  with pytest.raises(InputError, match=message):
    distill.co_study_losses(*logits(), LABELS, **options)
