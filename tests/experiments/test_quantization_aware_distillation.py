"""The study from the command line, as small as it gets."""

import functools
import os

import numpy as np
import pytest

from compress import encode, packed
from tests.experiments import command_line
from tests.experiments.command_line import (
  assert_refused,
  assert_refused_untouched,
  contents,
  finished,
  read_report,
  run_to_report,
)

STUDY = 'quantization_aware_distillation'
FLAGS = ('--smoke', '--bits=2')
start = functools.partial(command_line.start, STUDY)


@pytest.mark.parametrize(
  'flags, message',
  [
    (['--bits=1'], '--bits=1: right is a whole number from 2 to 6'),
    (['--bits=2.5'], '--bits=2.5: right is a whole number from 2 to 6'),
    (['--bits=2,2'], '--bits: a number is given twice'),
    (['--hard_weight=1'], '--hard_weight=1: right is a share'),
    (['--learning_rate=nan'], '--learning_rate=nan: right is a finite number'),
    (['--student=vit_b16'], 'student'),
    (['--seeds=0'], 'seeds'),
  ],
)
def test_bad_flags_leave_nothing_behind(flags, message, tmp_path):
  assert_refused_untouched(start, flags, message, tmp_path)


@pytest.fixture(scope='module')
def smoke(tmp_path_factory):
  return run_to_report(start, tmp_path_factory, *FLAGS)


@pytest.mark.slow
def test_the_report_has_its_rows(smoke):
  output, _ = smoke
  report = read_report(output)
  assert report['study'] == STUDY
  assert report['updates'] == 4
  rows = {v['method']: v for v in (report['reference'], *report['variants'])}
  assert list(rows) == [
    'labels',
    'distilled',
    'post_training',
    'distil_then_post_training',
    'qat',
    'distil_then_qat',
    'once',
    'iterated',
    'buckets',
    'points',
    'speq',
    'qkd',
  ]
  for name, row in rows.items():
    assert 0 <= row['accuracy']['mean'] <= 100
    assert ('weight_bits' in row) == (name not in ('labels', 'distilled'))
  assert rows['qat']['bytes']['on_disk'] < rows['labels']['bytes']['on_disk']
  assert report['warnings'][0].startswith('A smoke run')
  tables = {t['title']: t for t in report['tables']}
  assert len(tables) == 2
  page = (output / 'report.html').read_text()
  assert all(title in page for title in tables)


@pytest.mark.slow
def test_files_are_what_is_reported(smoke):
  output, _ = smoke
  for row in read_report(output)['variants']:
    name = row['method']
    name += f'_w{row["weight_bits"]}a2' if 'weight_bits' in row else ''
    path = output / 'networks' / f'{name}.0.safetensors'
    assert os.path.getsize(path) == row['bytes']['on_disk']
    tree = encode.load(path).tree
    assert packed.tree_nbytes(tree) == row['bytes']['packed']
    kernel = tree['params']['fc2']['kernel']
    if 'weight_bits' not in row:
      assert isinstance(kernel, packed.Dense)
      continue
    styles = {'buckets': packed.Bucketed, 'points': packed.Bucketed}
    assert isinstance(kernel, styles.get(row['method'], packed.Quantized))
    assert kernel.bits == 2
    assert tree['params']['fc1']['kernel'].bits == 8
    assert np.unique(packed.unpack(kernel)).size <= 4 * 16


@pytest.mark.slow
def test_learned_points_leave_the_weights(smoke):
  output, _ = smoke

  def biases(name):
    tree = encode.load(output / 'networks' / f'{name}.0.safetensors').tree
    return packed.unpack(tree['params']['fc1']['bias'])

  np.testing.assert_array_equal(biases('points_w2a2'), biases('start'))
  assert (biases('qat_w2a2') != biases('start')).any()


@pytest.mark.slow
def test_a_second_run_computes_nothing_anew(smoke):
  output, _ = smoke
  report, before = read_report(output), contents(output / 'networks')
  (output / 'runs' / 'qkd_w2a2.0.json').unlink()
  done = finished(start(*FLAGS, output=output))
  assert 'speq' not in done.stderr and 'co_study' in done.stderr
  assert read_report(output) == report
  # What is made again is the same to the bit.
  assert contents(output / 'networks') == before
  refused = start(*FLAGS, '--seeds=2', '--batch=32', output=output)
  assert_refused(refused, 'another tuning')
