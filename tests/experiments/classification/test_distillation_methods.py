"""Every method of the benchmark on small arrays, and at its own teacher."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import distill
from compress.errors import InputError
from experiments.classification import distillation_stages as stages
from experiments.classification.distillation_methods import METHODS
from experiments.classification.teaching import Lesson, View

CLASSES, BATCH, IMAGES = 3, 6, 30


def _shapes(width):
  maps = {'map0': (4, 4), 'map1': (4, 4), 'map2': (2, 2), 'map3': (1, 1)}
  found = {name: (*size, width) for name, size in maps.items()}
  for i in (1, 2, 3):
    found[f'before{i}'] = found[f'map{i}']
  return {**found, 'vector': (width,)}


def _setting(student=4, teacher=6):
  return stages.Setting(
    shapes=stages.Shapes(_shapes(student), _shapes(teacher)),
    labels=np.arange(IMAGES) % CLASSES,
    classes=CLASSES,
    temperature=4.0,
    hard_weight=0.1,
  )


def _view(shapes, seed):
  keys = iter(jax.random.split(jax.random.key(seed), len(shapes) + 1))
  return View(
    jax.random.normal(next(keys), (BATCH, CLASSES)),
    {
      name: jax.random.normal(next(keys), (BATCH, *shape))
      for name, shape in shapes.items()
    },
  )


def _split(view, subclasses):
  """Every logit made several, which differ."""
  if subclasses == 1:
    return view
  spread = jnp.tile(jnp.arange(float(subclasses)), CLASSES)[None]
  return view._replace(
    logits=jnp.repeat(view.logits, subclasses, axis=1) + spread
  )


def _lesson(stage, extra, memory):
  if stage.own:
    memory = {**memory, 'logits': jnp.ones((IMAGES, CLASSES))}
  return Lesson(
    labels=jnp.arange(BATCH) % CLASSES,
    indices=jnp.arange(BATCH, dtype=jnp.int32),
    key=jax.random.key(4),
    extra=extra,
    memory=memory,
  )


def _stages(name, setting):
  extra = {}
  for stage in METHODS[name].make(setting):
    extra, memory = stages.begin(stage, extra, jax.random.key(2))
    yield stage, extra, memory


@pytest.mark.parametrize('name', METHODS)
def test_stages_have_finite_losses_and_slopes(name):
  setting = _setting(teacher=4 if name == 'FSP' else 6)
  theirs = _view(setting.shapes.teacher, 1)
  theirs = _split(theirs, METHODS[name].subclasses)
  for stage, extra, memory in _stages(name, setting):
    ours = _view(setting.shapes.student, 0)
    ours = _split(ours, METHODS[name].subclasses)
    # What a stage does not name it does not see.
    ours, seen = (
      View(x.logits, {k: x.features[k] for k in stage.features})
      for x in (ours, theirs)
    )

    def value(ours, extra, stage=stage, seen=seen, memory=memory):
      lesson = _lesson(stage, extra, memory)
      return stage.loss(ours, seen, lesson)[0]

    loss, grads = jax.jit(jax.value_and_grad(value, argnums=(0, 1)))(
      ours, extra
    )
    assert np.isfinite(loss)
    slopes, learned = (
      [np.asarray(x) for x in jax.tree.leaves(part)] for part in grads
    )
    assert all(np.isfinite(x).all() for x in (*slopes, *learned))
    moved = any(np.abs(x).max() > 0 for x in slopes)
    assert moved == stage.teaches
    if stage.extra is not None:
      assert any(np.abs(x).max() > 0 for x in learned)


@pytest.mark.parametrize(
  'name', ['KD', 'AT', 'SP', 'RKD', 'PKT', 'NST', 'logits']
)
def test_a_student_equal_to_its_teacher_pays_for_labels_alone(name):
  setting = _setting(4, 4)
  view = _view(setting.shapes.student, 0)
  ((stage, extra, memory),) = _stages(name, setting)
  lesson = _lesson(stage, extra, memory)
  hard = distill.cross_entropy(view.logits, lesson.labels)
  share = 0.1 if name in ('KD', 'logits') else 1.0
  value, after = stage.loss(view, view, lesson)
  np.testing.assert_allclose(value, share * hard, rtol=1e-4, atol=1e-5)
  assert after == lesson.memory


@pytest.mark.parametrize('name', METHODS)
def test_students_are_taught_for_as_long_by_every_method(name):
  made = METHODS[name].make(_setting(4, 4))
  epochs = stages.share_epochs(made, 100, first=12)
  assert epochs[:-1] == [12] * (len(made) - 1)
  taught = sum(
    n for stage, n in zip(made, epochs, strict=True) if stage.teaches
  )
  assert taught == 100


def test_flows_need_equal_widths():
  with pytest.raises(InputError, match='as wide'):
    METHODS['FSP'].make(_setting())


def test_memories_move_on():
  setting = _setting()
  ((stage, extra, memory),) = _stages('CRD', setting)
  lesson = _lesson(stage, extra, memory)
  _, after = stage.loss(
    _view(setting.shapes.student, 0), _view(setting.shapes.teacher, 1), lesson
  )
  assert int(after.count) == 1
  moved = np.abs(after.student - lesson.memory.student).max(axis=1) > 0
  np.testing.assert_array_equal(np.flatnonzero(moved), np.arange(BATCH))


def test_what_needs_no_teacher_looks_at_none():
  setting = _setting()
  view = _view(setting.shapes.student, 0)
  teachers = [_view(setting.shapes.teacher, seed) for seed in (1, 2)]
  for name, method in METHODS.items():
    if method.teacher:
      continue
    for stage, extra, memory in _stages(name, setting):
      lesson = _lesson(stage, extra, memory)
      first, second = (stage.loss(view, x, lesson)[0] for x in teachers)
      assert first == second


@pytest.mark.parametrize(
  'name, fixed',
  [('FT', {'paraphraser'}), ('professor', {'professor', 'discriminator'})],
)
def test_what_is_only_read_is_not_trained(name, fixed):
  (_, learned, _), (_, extra, memory) = _stages(name, _setting())
  assert fixed <= set(learned) and not fixed & set(extra)
  assert all(memory[x] is learned[x] for x in fixed)
