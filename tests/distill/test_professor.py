"""Professors: nothing at first, then more often right than the teacher."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import distill
from compress.errors import InputError

ROWS, CLASSES = np.arange(4)[:, None], np.arange(5)[None, :]
STUDENT = jnp.array(np.sin(1 + 3 * ROWS + CLASSES), jnp.float32)
TEACHER = jnp.array(2 * np.cos(0.5 + ROWS * CLASSES), jnp.float32)
FEATURES = jnp.array(
  np.cos(0.7 * (ROWS + 1) + np.arange(6)[None] ** 2), jnp.float32
)
LABELS = jnp.array([0, 2, 4, 1])
PROFESSOR = distill.init_professor(
  jax.random.key(0), features=6, classes=5, width=8, latent=3
)
JUDGE = distill.init_discriminator(jax.random.key(1), classes=5, width=8)

student_loss = jax.jit(
  distill.professor_student_loss, static_argnames=('temperature', 'form')
)
slopes = jax.jit(
  jax.value_and_grad(distill.professor_loss, argnums=(0, 1, 3, 4))
)
judge_slopes = jax.jit(
  jax.value_and_grad(distill.discriminator_loss, argnums=(0, 1, 2, 3))
)


def any_of(tree):
  return any(np.any(leaf) for leaf in jax.tree.leaves(tree))


def finite(tree):
  return all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize('form', ['professor', 'both'])
def test_an_untrained_professor_is_its_teacher(form):
  refined = jax.jit(distill.refine)(PROFESSOR, FEATURES, TEACHER).logits
  np.testing.assert_array_equal(refined, TEACHER)
  found = student_loss(STUDENT, TEACHER, refined, form=form)
  np.testing.assert_allclose(found, 1.2596685694605152, rtol=1e-6)
  assert student_loss(TEACHER, TEACHER, refined, form=form) == 0


def test_both_is_the_mean():
  refined = TEACHER[::-1]
  alone = student_loss(STUDENT, TEACHER, refined)
  both = student_loss(STUDENT, TEACHER, refined, form='both')
  np.testing.assert_allclose(both, (alone + 1.2596685694605152) / 2, rtol=1e-6)


def test_each_loss_trains_its_own_network():
  loss, (by_features, by_teacher, by_professor, by_judge) = slopes(
    FEATURES, TEACHER, LABELS, PROFESSOR, JUDGE
  )
  assert not any_of((by_features, by_teacher, by_judge))
  assert any_of(by_professor['correct']) and any_of(by_professor['encode'])
  assert finite((loss, by_professor))
  loss, (by_features, by_teacher, by_professor, by_judge) = judge_slopes(
    FEATURES, TEACHER, PROFESSOR, JUDGE
  )
  assert not any_of((by_features, by_teacher, by_professor))
  assert finite(by_judge)
  # It is shown the same twice, and cannot tell.
  assert loss >= 2 * np.log(2) - 1e-6


def test_half_precision_gives_float32():
  half = [x.astype(jnp.bfloat16) for x in (FEATURES, TEACHER)]
  loss, gradients = slopes(*half, LABELS, PROFESSOR, JUDGE)
  assert loss.dtype == jnp.float32 and finite(gradients[2])
  full, _ = slopes(FEATURES, TEACHER, LABELS, PROFESSOR, JUDGE)
  np.testing.assert_allclose(loss, full, rtol=2e-2)


def test_a_trained_professor_is_right_more_often_and_keeps_the_likeness():
  rng = np.random.default_rng(0)
  labels = np.arange(120) % 4
  # Classes 0 and 1 are alike, and 2 and 3; the teacher is wrong in a third.
  likeness = np.kron(np.eye(2), np.ones((2, 2))) * 2 + 2 * np.eye(4)
  features = np.eye(4)[labels] + 0.2 * rng.standard_normal((120, 4))
  answers = np.where(np.arange(120) % 3 == 0, labels ^ 1, labels)
  teacher = likeness[answers] + 0.2 * rng.standard_normal((120, 4))
  features, teacher = (jnp.array(x, jnp.float32) for x in (features, teacher))
  state = (
    distill.init_professor(
      jax.random.key(0), features=4, classes=4, width=16, latent=4
    ),
    distill.init_discriminator(jax.random.key(1), classes=4, width=16),
  )
  descend = functools.partial(jax.tree.map, lambda w, g: w - 0.1 * g)

  def step(state, _):
    professor, judge = state
    slope = jax.grad(distill.professor_loss, argnums=3)(
      features, teacher, jnp.array(labels), professor, judge
    )
    professor = descend(professor, slope)
    slope = jax.grad(distill.discriminator_loss, argnums=3)(
      features, teacher, professor, judge
    )
    return (professor, descend(judge, slope)), None

  state, _ = jax.jit(lambda s: jax.lax.scan(step, s, length=300))(state)
  refined = np.asarray(distill.refine(state[0], features, teacher).logits)
  before = (np.asarray(teacher).argmax(1) == labels).mean()
  after = (refined.argmax(1) == labels).mean()
  assert before < 0.7 and after > 0.9
  assert distill.class_likeness_kept(teacher, refined, labels) > 0.8


def test_class_likeness_by_hand():
  ours = [[0.6, 0.3, 0.1], [0.25, 0.7, 0.05], [0.15, 0.4, 0.45]]
  theirs = [[0.7, 0.1, 0.2], [0.35, 0.6, 0.05], [0.4, 0.15, 0.45]]
  logits, other = np.log(ours), np.log(theirs)
  labels = np.arange(3)
  assert distill.class_likeness_kept(logits, logits, labels) == pytest.approx(1)
  ours = np.array([5, 2, 4, 1, 3, 6]) - 3.5
  theirs = np.array([2, 4, 5, 1, 6, 3]) - 3.5
  expected = (ours * theirs).sum() / np.sqrt(
    (ours**2).sum() * (theirs**2).sum()
  )
  found = distill.class_likeness_kept(logits, other, labels)
  assert found == pytest.approx(expected)
  assert distill.class_likeness_kept(logits, 0 * logits, labels) is None


def test_bad_options():
  with pytest.raises(InputError, match='temperature is 0'):
    distill.refine(PROFESSOR, FEATURES, TEACHER, temperature=0)
  with pytest.raises(InputError, match='adversarial_weight -1'):
    distill.professor_loss(
      FEATURES, TEACHER, LABELS, PROFESSOR, JUDGE, adversarial_weight=-1
    )
  with pytest.raises(InputError, match="form is 'mean'"):
    distill.professor_student_loss(STUDENT, TEACHER, TEACHER, form='mean')
  with pytest.raises(InputError, match='labels'):
    distill.class_likeness_kept(
      np.zeros((3, 2)), np.zeros((3, 2)), np.zeros(2, int)
    )
