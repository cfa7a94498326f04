"""Teaching of classifiers: losses at equality, what learns, what stays."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import distill, models
from compress.errors import InputError
from experiments.classification import networks, teaching
from experiments.classification.tuning import Tuning
from tests.experiments.classification.small import dataset, scaling

TUNING = Tuning(epochs=2, batch=32)
FEATURE = 'stage1/block0/relu2'


@functools.cache
def network(width):
  module = models.cifar_resnet(
    8, widths=(width, width, 2 * width), classes=3, option_a=True
  )
  return networks.from_module(f'{width}', module, image_shape=(4, 4, 1))


@functools.cache
def trained(width):
  return teaching.Teacher(
    network(width), network(width).init(jax.random.key(width))
  )


def teach(**options):
  return teaching.teach(
    trained(2),
    dataset(64),
    teacher=trained(3),
    scaling=scaling(),
    tuning=TUNING,
    seed=0,
    progress=False,
    **options,
  )


@pytest.mark.slow
def test_projections_are_as_wide_as_both():
  found = teaching.init_projections(
    trained(2), trained(3), [FEATURE, 'pool'], seed=0
  )
  assert {k: v.shape for k, v in found.items()} == {
    FEATURE: (2, 3),
    'pool': (4, 6),
  }


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['restoring', 'direction'])
def test_a_narrow_student_learns(kind):
  if kind == 'restoring':
    loss = teaching.restoring_loss(TUNING, attention_weight=1.0)
    options = {'loss': loss, 'features': [FEATURE]}
  else:
    options = {
      'loss': teaching.direction_loss(weight=1.0),
      'features': ['pool'],
      'extra': teaching.init_projections(
        trained(2), trained(3), ['pool'], seed=0
      ),
    }
  before = trained(2).variables
  after = teach(**options)
  assert jax.tree.structure(after) == jax.tree.structure(before)
  kernels = [x['params']['stem']['conv']['kernel'] for x in (before, after)]
  assert np.abs(kernels[0] - kernels[1]).max() > 1e-4
  assert not jax.tree.leaves(before)[0].is_deleted()


def test_a_student_equal_to_its_teacher_pays_for_labels_alone():
  view = teaching.View(
    jax.random.normal(jax.random.key(0), (4, 3)),
    {'a': jax.random.normal(jax.random.key(1), (4, 2, 2, 5))},
  )
  labels = jnp.array([0, 1, 2, 0])
  hard = -jnp.take_along_axis(
    jax.nn.log_softmax(view.logits), labels[:, None], 1
  ).mean()
  restore = teaching.restoring_loss(TUNING, attention_weight=3.0)
  turn = teaching.direction_loss(weight=3.0)
  for found in (
    restore(view, view, labels, None),
    turn(view, view, labels, {'a': None}),
    teaching.response_loss(TUNING)(view, view, labels, None)
    / TUNING.hard_weight,
  ):
    np.testing.assert_allclose(found, hard, rtol=1e-5)


def lessons(**options):
  def loss(student, teacher, lesson):
    gap = jnp.square(
      student.features['last'] - teacher.features['last'] @ lesson.extra
    )
    seen = lesson.memory.at[lesson.indices].add(1)
    return gap.mean() + 0 * student.logits.sum(), seen

  teaching_ = teaching.make_teaching(
    network(2),
    dataset(64),
    teacher=trained(3),
    loss=loss,
    features={'last': ('pool', 'pool')},
    scaling=scaling(),
    tuning=TUNING,
    **options,
  )
  assert teaching_.steps == 4
  return teaching_.run(
    trained(2).variables,
    seed=0,
    extra=jnp.ones((6, 4)),
    memory=jnp.zeros(64, jnp.int32),
    progress=False,
  )


@pytest.mark.slow
def test_views_kept_are_views_looked_at_anew():
  views = teaching.look_at_all(
    trained(3),
    dataset(64),
    scaling=scaling(),
    features={'last': 'pool', 'first': FEATURE},
    batch=48,
  )
  assert views.logits.shape == (64, 3)
  fresh, kept = lessons(), lessons(views=views)
  for a, b in zip(jax.tree.leaves(fresh), jax.tree.leaves(kept), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
  assert np.abs(np.asarray(kept[1]) - 1).max() > 1e-3


def test_views_of_augmented_images_cannot_be_kept():
  with pytest.raises(InputError, match='augmented'):
    teaching.make_teaching(
      network(2),
      dataset(64),
      teacher=trained(3),
      loss=None,
      scaling=scaling(),
      tuning=dataclasses.replace(TUNING, shift=1),
      views=teaching.View(np.zeros((64, 3)), {}),
    )


def test_inside_a_mapped_axis_the_loss_is_that_of_the_global_batch():
  """Pairs of images on two devices count, and memory is the same on both."""

  def apply(variables, images):
    return images.reshape(len(images), -1) @ variables['params']['kernel']

  linear = networks.Classifier(
    'linear', apply, lambda v, x: (apply(v, x), {}), None, (2, 2, 1), 3
  )

  def loss(student, teacher, lesson):
    value = distill.similarity_loss(student.logits, teacher.logits)
    memory = lesson.memory.at[lesson.indices].add(1)
    return value + distill.cross_entropy(student.logits, lesson.labels), memory

  loss_fn = teaching.make_loss(linear, linear, loss=loss, features={})
  keys = jax.random.split(jax.random.key(0), 3)
  params = {
    'params': {'kernel': jax.random.normal(keys[0], (4, 3))},
    'extra': {},
  }
  carried = {
    'collections': {},
    'memory': jnp.zeros(8, jnp.int32),
    'teacher': {'params': {'kernel': jax.random.normal(keys[1], (4, 3))}},
  }
  batch = {
    'images': jax.random.normal(keys[2], (8, 2, 2, 1)),
    'labels': jnp.arange(8) % 3,
    'indices': jnp.arange(8),
  }

  def step(params, carried, batch, axis_name=None):
    return jax.value_and_grad(loss_fn, has_aux=True)(
      params, carried, batch, None, axis_name=axis_name
    )

  (value, (after, metrics)), slope = step(params, carried, batch)
  np.testing.assert_array_equal(after['memory'], jnp.ones(8, jnp.int32))
  halves = jax.tree.map(lambda x: x.reshape((2, 4, *x.shape[1:])), batch)
  mapped = jax.vmap(
    functools.partial(step, axis_name='data'),
    in_axes=(None, None, 0),
    axis_name='data',
  )
  (values, (afters, several)), slopes = mapped(params, carried, halves)
  np.testing.assert_allclose(values, jnp.full(2, value), rtol=1e-5)
  np.testing.assert_array_equal(afters['memory'], jnp.ones((2, 8), jnp.int32))
  np.testing.assert_allclose(
    several['accuracy'], jnp.full(2, metrics['accuracy'])
  )
  np.testing.assert_allclose(
    slopes['params']['kernel'].mean(0),
    slope['params']['kernel'],
    rtol=1e-4,
    atol=1e-6,
  )
