"""The hybrids' own steps: which widths change when, what is kept of runs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import data, models
from experiments.classification import networks
from experiments.classification.teaching import Teacher
from experiments.hybrids import restoration, runs, students
from experiments.hybrids.settings import Settings, turned

SHAPE = 8, 8, 1


@functools.cache
def residual():
  module = models.cifar_resnet8(widths=(4, 8, 16), option_a=False)
  network = networks.from_module('small', module, image_shape=SHAPE)
  return Teacher(network, network.init(jax.random.key(0)))


def widths(found):
  """Output channels of every convolution, by block and name."""
  leaves = jax.tree_util.tree_leaves_with_path(found.variables['params'])
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): leaf.shape[-1]
    for path, leaf in leaves
    if leaf.ndim == 4
  }


def test_shortcuts_are_narrowed_in_the_second_stage_alone():
  images = np.random.default_rng(0).normal(size=(4, *SHAPE)).astype('f4')
  before = widths(residual())
  first = restoration.remove_inside(residual(), 0.5, images)
  second = restoration.remove(first, 0.5, inside=False)
  for path, width in before.items():
    inside = path.endswith('block0/conv1/kernel')
    assert widths(first)[path] == (width // 2 if inside else width), path
    assert widths(second)[path] == width // 2, path
  assert widths(restoration.remove(residual(), 0.5)) == widths(second)
  logits = jax.eval_shape(second.network.apply, second.variables, images)
  assert logits.shape == (4, 10)


def test_a_dense_teacher_has_a_student_of_its_own_widths():
  module = models.lenet5(image_shape=SHAPE, widths=(3, 4), hidden=7)
  params = jax.eval_shape(
    module.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *SHAPE), 'f4')
  )['params']
  masks = {
    f'{layer}/kernel': jnp.ones(params[layer]['kernel'].shape, bool)
    for layer in students.LAYERS
  }
  network = networks.from_module('lenet5', module, image_shape=SHAPE)
  assert students.widths_of(masks, network.init) == (3, 4, 7)
  masks['fc1/kernel'] = masks['fc1/kernel'].at[8:].set(False)
  assert students.widths_of(masks, network.init) == (3, 4, 4)


def test_turned_images():
  images = np.arange(8, dtype=np.uint8).reshape(2, 2, 2, 1)
  dataset = data.ImageDataset('a', images, np.zeros(2, np.int32), ('a',))
  found = turned(dataset, np.array([False, True])).images[..., 0]
  np.testing.assert_array_equal(found, [[[0, 1], [2, 3]], [[5, 7], [4, 6]]])


def test_finished_runs_are_not_made_again(tmp_path):
  store = runs.Store(tmp_path / 'runs')
  made = []

  def make():
    made.append(0)
    return {'accuracy': 1.5}

  assert store.get('a', 0, make) == store.get('a', 0, make)
  assert len(made) == 1
  store.get('a', 1, make)
  assert len(made) == 2


def test_an_entry_holds_means_and_deviations():
  each = [
    {'accuracy': 90.0, 'params': 10, 'widths': {'conv': [3, 5]}},
    {'accuracy': 94.0, 'params': 12, 'widths': {'conv': [4, 5]}},
  ]
  found = runs.entry(runs.Version('a 50 %', 'a', 0.5), each)
  assert found['accuracy'] == {
    'mean': 92.0,
    'std': pytest.approx(8**0.5),
    'n': 2,
  }
  assert found['params'] == 11 and found['sparsity'] == 0.5
  assert found['widths'] == {'conv': [3.5, 5.0]}


def test_smoke_settings_are_small():
  small = Settings().smaller()
  assert small.seeds == small.epochs == 1
  assert len(small.teacher_sparsities) == len(small.fair_sparsities) == 1
