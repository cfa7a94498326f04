"""The benchmark from the command line, as small as it gets."""

import functools

import jax
import numpy as np
import pytest

from compress import data
from compress.errors import InputError
from experiments.classification import distillation_networks, teaching
from experiments.classification.images import pool_images
from tests.experiments import command_line
from tests.experiments.command_line import (
  assert_refused_untouched,
  finished,
  read_report,
)

STUDY = 'distillation_benchmark'
METHODS = ('AT', 'FSP', 'self', 'subclasses')
start = functools.partial(command_line.start, STUDY, '--smoke')


@pytest.mark.parametrize(
  'flags, message',
  [
    (['--learning_rate=nan'], '--learning_rate=nan: right is a number above 0'),
    (['--temperature=0'], '--temperature=0: right is a number above 0'),
    (['--method=AT', '--method=AT'], '--method: one is given twice'),
    (['--seeds=0'], 'seeds'),
  ],
)
def test_bad_flags_leave_nothing_behind(flags, message, tmp_path):
  assert_refused_untouched(start, flags, message, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
  'flags, message',
  [
    (['--method=ATT'], '--method=ATT: right is one of alone; KD'),
    (['--pair=resnet20'], "pair 'resnet20'; right is teacher:student"),
    (['--pool=3'], 'pooling by 3: right is a divisor of 8 and 8'),
  ],
)
def test_bad_input_leaves_nothing_behind(flags, message, tmp_path):
  assert_refused_untouched(start, flags, message, tmp_path)


@pytest.mark.slow
def test_a_run_and_its_resumption(tmp_path):
  output = tmp_path / 'out'
  flags = [f'--method={name}' for name in METHODS]
  done = finished(start(*flags, '--pool=2', output=output))
  report = read_report(output)
  assert report['study'] == STUDY
  assert report['reference']['method'] == 'teacher'
  assert [x['method'] for x in report['variants']] == [
    'alone',
    'KD',
    'self',
    'subclasses',
    'AT',
    'FSP',
  ]
  student = report['variants'][0]
  assert student['params'] == 4934
  assert student['reference']['params'] > student['params']
  overall, pair = report['tables']
  assert [row[0] for row in overall['rows']] == [
    'alone',
    'KD',
    'self',
    'subclasses',
    'AT',
    'FSP',
  ]
  assert pair['rows'][0][0] == 'teacher'
  gain = dict((row[0], row[3]) for row in pair['rows'])
  accuracy = {x['method']: x['accuracy']['mean'] for x in report['variants']}
  np.testing.assert_allclose(gain['AT'], accuracy['AT'] - accuracy['KD'])
  (note,) = [x for x in report['notes'] if x.startswith('Subclasses have')]
  assert '2 logits a class: ResNet-20 of 4-8-16 ' in note
  page = (output / 'report.html').read_text()
  assert 'id="gain-over-kd"' in page
  teacher = output / 'teachers' / 'resnet20_thin.safetensors'
  before = teacher.stat().st_mtime_ns

  again = finished(start(*flags, '--pool=2', output=output))
  assert teacher.stat().st_mtime_ns == before
  assert again.stdout == done.stdout


def test_pooling_averages_squares():
  images = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1)
  dataset = data.ImageDataset('x', images, np.zeros(1, np.int32), ('a', 'b'))
  found = pool_images(dataset, 2).images
  # Means 2.5, 4.5, 10.5, 12.5 go to the even neighbour.
  np.testing.assert_array_equal(found[0, :, :, 0], [[2, 4], [10, 12]])
  assert pool_images(dataset, 1) is dataset
  with pytest.raises(InputError, match='divisor of 4 and 4'):
    pool_images(dataset, 3)


@pytest.mark.slow
@pytest.mark.parametrize('name', distillation_networks.KNOWN)
def test_every_network_has_the_features(name):
  network = distillation_networks.make_network(
    name, image_shape=(8, 8, 1), classes=3
  )
  shapes = distillation_networks.feature_shapes(name, network)
  assert [len(shapes[f'map{i}']) for i in range(4)] == [3] * 4
  for i in (1, 2, 3):
    assert shapes[f'before{i}'] == shapes[f'map{i}']
  assert shapes['map3'][-1:] == shapes['vector']
  # All at once too, though some are the same place.
  known = distillation_networks.KNOWN[name].features
  views = jax.eval_shape(
    teaching._looking(network.apply, known),
    jax.eval_shape(network.init, jax.random.key(0)),
    jax.ShapeDtypeStruct((2, 8, 8, 1), np.float32),
  )
  assert {k: v.shape[1:] for k, v in views.features.items()} == shapes


def test_pairs_are_parsed():
  assert distillation_networks.parse_pair('resnet20:resnet8') == (
    'resnet20',
    'resnet8',
  )
  for text in ('resnet20', 'resnet20:', 'a:b', 'resnet20:resnet8:resnet8'):
    with pytest.raises(InputError, match='right is teacher:student'):
      distillation_networks.parse_pair(text)
