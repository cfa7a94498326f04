"""Inputs, students and tables of the study without data, on a tiny network."""

import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import data
from compress.data import ImageDataset
from experiments.classification import (
  data_free_fakes,
  data_free_inputs,
  data_free_report,
  data_free_teaching,
  data_free_words,
  networks,
)
from experiments.classification.data_free_kinds import KINDS
from experiments.classification.data_free_settings import Making
from experiments.classification.data_free_study import Found
from experiments.classification.tuning import Tuning


class TinyNetwork(nn.Module):
  @nn.compact
  def __call__(self, images, train=False):
    x = nn.Conv(4, (3, 3), use_bias=False, name='conv')(images)
    x = nn.BatchNorm(use_running_average=not train, momentum=0.9, name='bn')(x)
    x = nn.relu(x).mean(axis=(1, 2))
    return nn.Dense(3, name='classifier')(x)


@pytest.fixture(scope='module')
def network():
  return networks.from_module('tiny', TinyNetwork(), image_shape=(5, 5, 1))


@pytest.fixture(scope='module')
def variables(network):
  found = network.init(jax.random.key(0))
  kernel = 3 * found['params']['classifier']['kernel']
  params = {**found['params'], 'classifier': {'kernel': kernel}}
  params['classifier']['bias'] = jnp.zeros(3)
  return {**found, 'params': params}


@pytest.fixture(scope='module')
def made(network, variables):
  rng = np.random.default_rng(0)
  dataset = ImageDataset(
    'noise',
    rng.integers(0, 256, (20, 5, 5, 1)).astype(np.uint8),
    rng.integers(0, 3, 20).astype(np.int32),
    ('a', 'b', 'c'),
  )
  maker = data_free_inputs.Maker(
    network,
    dataset,
    data.pixel_scaling(dataset),
    Making(
      images=12,
      steps=40,
      generators=2,
      generator_steps=2,
      gan_steps=2,
      gan_width=4,
      ratio_steps=2,
      burn_in=16,
    ),
    progress=False,
  )
  return {kind: maker.make(kind, variables, seed=0) for kind in KINDS}


def test_every_kind_gives_as_many_images(made):
  for kind, inputs in made.items():
    assert inputs.images.shape == (12, 5, 5, 1), kind
    assert inputs.images.dtype == np.float32
    assert np.isfinite(inputs.images).all()
    assert (inputs.asked is None) == (kind in ('batch_norm', 'noise'))
  low, high = made['real'].images.min(), made['real'].images.max()
  for kind in ('batch_norm', 'class_impressions', 'soft_targets', 'cgan_kd'):
    assert made[kind].images.min() >= low - 0.1
    assert made[kind].images.max() <= high + 0.1


def test_fakes_show_the_classes_in_turn_and_how_they_were_chosen(made):
  np.testing.assert_array_equal(made['cgan_kd'].asked, np.arange(12) % 3)
  figures = made['cgan_kd'].figures
  assert set(figures) == {'recognised', 'accepted'}
  assert all(0 <= share <= 100 for share in figures.values())
  assert not made['kegnet'].figures


def test_the_last_layer_is_what_it_makes_of_its_features(network, variables):
  images = np.random.default_rng(0).normal(size=(2, 5, 5, 1))
  logits, features = data_free_fakes.tap_last(network)(
    variables, jnp.asarray(images, jnp.float32)
  )
  layer = variables['params']['classifier']
  np.testing.assert_allclose(
    features @ layer['kernel'] + layer['bias'][None], logits, rtol=1e-5
  )


def test_matched_inputs_are_nearer_to_the_batch_norms(network, variables, made):
  found = {
    kind: data_free_inputs.describe_inputs(network, variables, made[kind])
    for kind in ('noise', 'batch_norm', 'class_impressions')
  }
  gap = {kind: one['batch_norm_gap'] for kind, one in found.items()}
  assert gap['batch_norm'] < gap['noise']
  assert 1 <= found['noise']['classes'] <= 3
  assert 'as_asked' not in found['noise']
  asked = data_free_inputs.describe_inputs(
    network, variables, made['noise']._replace(asked=np.arange(12) % 3)
  )
  # Of 3 classes asked for in turn, noise is all of one, or nearly so.
  assert asked['as_asked'] < found['class_impressions']['as_asked'] == 100


def test_the_weight_of_the_labels_decides_what_is_learned(network, variables):
  rng = np.random.default_rng(0)
  images = rng.normal(size=(24, 5, 5, 1)).astype(np.float32)
  labels = np.zeros(24, np.int32)
  teacher = np.tile(np.array([[-9, 9, -9]], np.float32), (24, 1))
  learn = data_free_teaching.make_pupil(
    network,
    tuning=Tuning(batch=8, learning_rate=0.1),
    steps=20,
    progress=False,
  )
  answers = data_free_teaching.make_answers(network.apply, batch=16)
  for weight, right in ((1.0, 0), (0.0, 1)):
    student = learn(
      variables,
      images,
      teacher,
      labels,
      hard_weight=weight,
      seed=0,
      description='',
    )
    assert (answers(student, images).argmax(axis=1) == right).all()


@pytest.mark.parametrize('kinds', [('noise',), ('real', 'cgan_kd', 'noise')])
def test_fakes_do_not_pass_for_data_free(kinds):
  runs = judged(0.9, 1.0)
  figures = {'confidence': 90.0, 'classes': 9.0}
  fakes = {'recognised': 97.0, 'accepted': 40.0, 'as_asked': 99.0}
  found = Found(
    teacher=runs,
    students={k: runs for k in ('alone', 'plain', *kinds)},
    twins={(kind, 4): runs for kind in kinds},
    inputs={
      kind: [figures | (fakes if kind == 'cgan_kd' else {})] * 2
      for kind in kinds
    },
  )
  study = types.SimpleNamespace(
    settings=types.SimpleNamespace(kinds=kinds, bits=(4,), smoke=False),
    splits=types.SimpleNamespace(test=range(100)),
  )
  texts = data_free_words.summary(study, found)
  notes = data_free_words.notes(study, found)
  assert 'Without any real image' not in texts[0]
  there = 'cgan_kd' in kinds
  assert ('real images were needed for once (cGAN-KD)' in texts[0]) == there
  told = [note for note in notes if note.startswith('cGAN-KD is not data-free')]
  assert len(told) == there
  assert all('97 %' in note and '40 %' in note for note in told)
  for table in (
    data_free_report.student_table(found),
    data_free_report.twin_table(study, found),
    data_free_report.input_table(found),
  ):
    cells = {tuple(row[:1]): row for row in table['rows']}
    assert 'none' in cells['noise',]
    assert not there or 'all, for a GAN' in cells['cGAN-KD',]


def judged(*accuracies, **more):
  return [
    {'test': {'top1': a}, 'on_disk': 100, 'agreement': a, **more}
    for a in accuracies
  ]


@pytest.fixture
def found():
  return Found(
    teacher=judged(0.9, 1.0),
    students={
      'alone': judged(0.8, 0.8),
      'plain': judged(0.8, 0.9),
      'noise': judged(0.1, 0.3),
    },
    twins={('noise', 4): judged(0.7, 0.6)},
    inputs={'noise': [{'confidence': 50.0, 'classes': 2.0}] * 2},
  )


def test_differences_are_those_of_the_same_seed(found):
  rows = data_free_report.student_table(found)['rows']
  assert rows[0][:3] == ['student alone', 'labels', 'all']
  assert rows[0][4] is None and rows[1][5] is None
  assert rows[1][4] == [5.0, '± 7.1']
  assert rows[2][4] == [-60.0, '± 14.1']
  assert rows[2][5] == [-65.0, '± 7.1']
  settings = types.SimpleNamespace(kinds=('noise',), bits=(4,))
  study = types.SimpleNamespace(settings=settings)
  rows = data_free_report.twin_table(study, found)['rows']
  assert rows[0] == ['float32', None, [95.0, '± 7.1'], None]
  assert rows[1] == ['noise', 'none', [65.0, '± 7.1'], [-30.0, '± 14.1']]
  rows = data_free_report.input_table(found)['rows']
  spread = [None, [50.0, '± 0.0'], [2.0, '± 0.0'], None]
  assert rows == [['noise', 'none', *spread]]


def test_every_kind_has_its_words_and_a_stream_of_its_own():
  assert set(KINDS) <= set(data_free_words.METHODS)
  assert set(data_free_words.TITLES) == set(data_free_words.METHODS)
  assert len({kind.stream for kind in KINDS.values()}) == len(KINDS)


def test_a_student_begins_elsewhere_than_its_teacher(network):
  teacher = network.init(jax.random.key(0))
  student = networks.student_start(network, 0)
  for path, leaf in jax.tree_util.tree_leaves_with_path(teacher['params']):
    if path[-1].key == 'kernel':
      own = student['params']
      for part in path:
        own = own[part.key]
      assert not np.isclose(own, leaf).all()
