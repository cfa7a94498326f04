import functools
import json

import jax
import numpy as np
import pytest

from compress.errors import InputError
from experiments.faces import tuning
from experiments.faces.recipe import Recipe
from experiments.faces.student import make_student
from experiments.faces.tuning import Tuning, initial_head, make_batches
from tests.experiments.small_network import (
  photographs,
  small_network,
  teacher_embeddings,
)

METHODS = ('quantface', 'ekd', 'ekd_class')


def batches(method, *, seed=0, size=16, people=4):
  images, labels = photographs(people=people)
  # A teacher that says which photograph it is of, and whether mirrored.
  index = np.arange(len(images), dtype=np.float32)
  teacher = np.stack(
    [np.stack([index, np.full_like(index, m)], -1) for m in (0, 1)], axis=1
  )
  return images, make_batches(
    method,
    Tuning(batch=size),
    images=images,
    labels=labels,
    teacher=teacher,
    seed=seed,
  )


@pytest.mark.parametrize('method', METHODS)
def test_a_batch_is_a_function_of_seed_and_step(method):
  _, batch = batches(method)
  _, again = batches(method)
  _, other = batches(method, seed=1)
  later = batch(3)
  jax.tree.map(np.testing.assert_array_equal, later, again(3))
  jax.tree.map(np.testing.assert_array_equal, batch(3), later)
  assert (batch(2)['teacher'] != later['teacher']).any()
  assert (other(3)['teacher'] != later['teacher']).any()


@pytest.mark.parametrize('method', METHODS)
def test_the_teacher_sees_what_the_student_sees(method):
  images, batch = batches(method)
  mirrors = set()
  for step in range(4):
    found = batch(step)
    assert found['images'].shape == (16, *images.shape[1:])
    assert found['images'].dtype == np.uint8
    assert found['labels'].dtype == np.int32
    for i, (photo, mirrored) in enumerate(found['teacher'].astype(int)):
      view = images[photo][:, ::-1] if mirrored else images[photo]
      np.testing.assert_array_equal(found['images'][i], view)
      assert found['labels'][i] == photo // 4
      mirrors.add(mirrored)
  assert mirrors == {0, 1}


def test_quantface_draws_every_photograph_once_an_epoch():
  _, batch = batches('quantface', size=8)
  drawn = np.concatenate([batch(step)['teacher'][:, 0] for step in range(2)])
  assert sorted(drawn) == list(range(16))
  assert batch(0)['general'].all()


@pytest.mark.parametrize('method', ['ekd', 'ekd_class'])
@pytest.mark.parametrize('size, general', [(8, 4), (16, 8), (18, 10), (32, 16)])
def test_half_of_a_batch_is_balanced(method, size, general):
  _, batch = batches(method, size=size)
  found = batch(1)
  assert len(found['labels']) == size
  np.testing.assert_array_equal(found['general'], np.arange(size) < general)
  groups = found['labels'][general:].reshape(-1, 4)
  assert (groups == groups[:, :1]).all()
  assert len(set(groups[:, 0])) == len(groups)


def test_too_few_people_for_a_batch():
  with pytest.raises(InputError, match='8 people per batch, but only 4'):
    batches('ekd', size=64)


def test_the_head_starts_at_each_persons_mean_direction():
  # Two people; lengths must not count, the mirrored views do.
  teacher = np.array(
    [
      [[1, 0, 0], [0, 2, 0]],
      [[0, 0, 3], [0, 0, 1]],
      [[0, 0, -5], [4, 0, 0]],
      [[0, 0, 1], [0, 0, 1]],
    ],
    np.float32,
  )
  head = initial_head(teacher, np.array([0, 1, 1, 1]))
  expected = np.array([[1, 1, 0], [1, 0, 3]]).T / np.sqrt([2, 10])
  np.testing.assert_allclose(head, expected, rtol=1e-6)
  assert head.dtype == np.float32


@functools.cache
def low_student():
  recipe = Recipe(weight_bits=4, activation_bits=4, observer='minmax')
  return make_student(small_network(), recipe, photographs()[0])


def tuned(folder):
  images, identities = photographs()
  return tuning.tune(
    low_student(),
    'ekd_class',
    Tuning(steps=4, batch=16, learning_rate=1e-3, scale=16.0),
    images=images,
    identities=10 * identities + np.int32(3),
    teacher=teacher_embeddings(images),
    seed=0,
    folder=folder,
    description='test',
    progress=False,
  )


def same(a, b):
  leaves = [jax.tree.leaves(x) for x in (a, b)]
  return all(
    np.asarray(x).tobytes() == np.asarray(y).tobytes()
    for x, y in zip(*leaves, strict=True)
  )


@pytest.mark.slow
def test_tuning_on_eight_devices_resumes_without_a_step(tmp_path):
  first, carried, history = tuned(tmp_path / 'a')
  assert [line['step'] for line in history] == [1, 2, 3, 4]
  assert all(np.isfinite(line['loss']) for line in history)
  assert not same(first, low_student().trained)
  # Finished: read back, bit for bit, not trained again.
  metrics = sorted((tmp_path / 'a').rglob('*.jsonl'))
  assert metrics and len(metrics[0].read_text().splitlines()) == 4
  before = metrics[0].read_bytes()
  again = tuned(tmp_path / 'a')
  assert same(again[:2], (first, carried))
  assert metrics[0].read_bytes() == before
  assert json.loads(before.splitlines()[0])['step'] == 1
  assert same(tuned(tmp_path / 'b')[0], first)
  # The student that was given is as it was: its memory was not donated.
  assert all(
    np.isfinite(x).all() for x in jax.tree.leaves(low_student().trained)
  )
