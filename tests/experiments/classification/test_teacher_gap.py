"""The parts of the study of the teacher gap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import distill
from compress.errors import InputError
from experiments.classification import teacher_gap_settings as settings_lib
from experiments.classification import teacher_gap_tables as tables
from experiments.classification import teacher_gap_training as training
from experiments.classification.teacher_gap_settings import Settings
from experiments.classification.tuning import Tuning

IMAGES = np.random.default_rng(0).normal(size=(24, 2, 3, 1)).astype(np.float32)
LABELS = np.arange(24, dtype=np.int32) % 3
TEACHER = np.random.default_rng(1).normal(size=(2, 24, 3)).astype(np.float32)


def linear(params, images):
  return images.reshape(images.shape[0], -1) @ params['w']


def loss(params, batch):
  return distill.hinton_loss(
    linear(params, batch.images), batch.teacher, batch.labels
  )


def starts(seeds):
  return [
    {'w': np.asarray(jax.random.normal(jax.random.key(s), (6, 3)))}
    for s in seeds
  ]


def test_runs_side_by_side_are_those_alone():
  program = training.make_program(
    loss, tuning=Tuning(epochs=2, batch=8), steps=6
  )
  both = program(
    starts([0, 1]), training.Examples(IMAGES, LABELS, TEACHER), seeds=[0, 1]
  )
  for seed in (0, 1):
    alone = program(
      starts([seed]),
      training.Examples(IMAGES, LABELS, TEACHER[seed : seed + 1]),
      seeds=[seed],
    )
    np.testing.assert_allclose(
      alone[0]['w'], both[seed]['w'], rtol=1e-4, atol=1e-6
    )
  assert (both[0]['w'] != both[1]['w']).any()


def test_every_loss_is_finite_and_has_a_slope():
  losses = training.network_losses(Settings())
  batch = training.Batch(
    jnp.asarray(IMAGES),
    jnp.asarray(LABELS),
    jnp.asarray(TEACHER[0]),
    jax.random.key(0),
  )
  params = jax.tree.map(jnp.asarray, starts([0])[0])
  for name, one in losses.items():
    value, slope = jax.value_and_grad(
      lambda p, one=one: one(linear(p, batch.images), batch)
    )(params)
    assert np.isfinite(value) and np.abs(slope['w']).max() > 0, name


def test_images_that_are_not_learned_from_are_tested_on():
  images = settings_lib.load(Settings(train_images=100))
  assert (len(images.train), len(images.validation)) == (100, 270)
  assert len(images.test) == 1797 - 100 - 270
  seen = {x.tobytes() for x in images.train.images}
  shared = sum(x.tobytes() in seen for x in images.test.images)
  assert shared <= 2
  network = settings_lib.make_network(12, images)
  variables = network.init(jax.random.key(0))
  assert network.cost(variables).parameters == 1066
  with pytest.raises(InputError, match='a class has no image among them'):
    settings_lib.load(Settings(train_images=5))


def test_points_are_paired_by_seed():
  mean, error = tables.points([90.0, 92.0, 94.0], [89.0, 90.0, 91.0])
  assert mean == 2 and error == f'± {1 / 3**0.5:.2f}'
  assert tables.points([90.0], [89.0]) == [1.0, '']
