"""How quantized students are trained: updates, learning rate, phases."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.classification import images, networks
from experiments.classification import (
  quantization_aware_optimizer as optimizers,
)
from experiments.classification.quantization_aware_schemes import Scheme
from experiments.classification.quantization_aware_settings import (
  Settings,
  make_student,
)
from experiments.classification.quantization_aware_study import Study
from experiments.classification.quantization_aware_training import Lab
from experiments.classification.quantization_aware_words import difference
from experiments.classification.tuning import Tuning


@pytest.mark.parametrize(
  'bits, steps, expected',
  [
    (2, 100, [(8, 25), (6, 25), (4, 25), (2, 25)]),
    (4, 100, [(8, 33), (6, 34), (4, 33)]),
    (3, 6, [(8, 2), (6, 1), (4, 1), (3, 2)]),
  ],
)
def test_the_ladder_shares_the_updates_out(bits, steps, expected):
  study = types.SimpleNamespace(steps=steps)
  found = Study.ladder(study, bits)
  assert list(found) == expected
  assert sum(n for _, n in found) == steps


def test_the_length_of_the_cosine_is_state():
  paced, traces = optimizers.pace(Tuning(learning_rate=0.5)), []

  @jax.jit
  def run(state):
    traces.append(1)

    def one(state, _):
      update, state = paced.update(jnp.float32(1), state)
      return state, update

    return jax.lax.scan(one, state, None, length=4)[1]

  for steps in (2, 4):
    state = optimizers.set_steps((paced.init(None),), steps)[0]
    done = np.minimum(np.arange(4) / steps, 1)
    right = 0.25 * (1 + np.cos(np.pi * done))
    np.testing.assert_allclose(run(state), right, rtol=1e-6, atol=1e-7)
  assert len(traces) == 1


def test_differences_are_taken_within_seeds():
  ours = [{'accuracy': x} for x in (90.0, 80.0, 70.0)]
  theirs = [{'accuracy': x} for x in (89.0, 78.0, 70.0)]
  found = difference(ours, theirs)
  assert (found['mean'], found['std'], found['better']) == (1, 1, 2)


@pytest.mark.slow
def test_a_teacher_studies_with_its_student_and_then_stays():
  splits = images.load_splits('digits', most=96)
  settings = Settings(student='lenet300', student_width=0.05)
  student = make_student(settings, splits)
  teacher = networks.make_classifier(
    'lenet300', image_shape=(8, 8, 1), classes=10
  )
  lab = Lab(
    student,
    teacher,
    splits,
    tuning=Tuning(batch=32, hard_weight=0.5),
    drawn_temperature=2.0,
    progress=False,
  )
  tutor = teacher.init(jax.random.key(1))
  scheme = Scheme('intervals', 2)
  start = lab.quantize(student.init(jax.random.key(0)), scheme)
  state = lab.begin(start, scheme, steps=6, seed=0, teacher=tutor)

  def same(state, other):
    return [
      np.array_equal(a, b)
      for a, b in zip(
        jax.tree.leaves(state.carried['teacher']),
        jax.tree.leaves(other),
        strict=True,
      )
    ]

  state = lab.advance(state, scheme, 'labels', until=2, seed=0)
  assert all(same(state, tutor))
  state = lab.study_together(state, scheme, until=4, seed=0)
  assert not any(same(state, tutor))
  learnt = jax.device_get(state.carried['teacher'])
  state = lab.advance(state, scheme, 'teacher', until=6, seed=0)
  assert all(same(state, learnt))
  # The student's moments and its place on the cosine went through all phases.
  assert state.opt_state[-1] == (6, 6)
  for leaf in jax.tree.leaves(lab.end(state)):
    assert np.isfinite(leaf).all()
