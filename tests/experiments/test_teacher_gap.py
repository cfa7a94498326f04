"""The study from the command line, as small as it gets."""

import functools
import json

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

STUDY = 'teacher_gap'
start = functools.partial(command_line.start, STUDY, '--smoke')


@pytest.mark.parametrize(
  'flags, message',
  [
    (
      ['--teachers=12,24'],
      "--teachers=12: right is a width above the student's",
    ),
    (['--teachers=24'], '--teachers=24: right are two whole numbers or more'),
    (['--teachers=24,30.5'], 'right are two whole numbers or more'),
    (['--teachers=48,24'], '--teachers=48,24: right are rising widths'),
    (['--teachers=wide,24'], '--teachers=wide'),
    (['--learning_rate=0'], '--learning_rate=0: right is a finite number'),
    (['--temperature=nan'], '--temperature=nan: right is a finite number'),
    (['--munge_spread=0'], '--munge_spread=0: right is a finite number'),
    (['--munge_swap=2'], 'munge_swap'),
    (['--seeds=0'], 'seeds'),
  ],
)
def test_bad_flags_leave_nothing_behind(flags, message, tmp_path):
  assert_refused_untouched(start, flags, message, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
  'flags, message',
  [
    (['--train_images=9999'], '--train_images=9999: digits has'),
    (['--data_path=here'], '--data_path: digits come with scikit-learn'),
  ],
)
def test_bad_input_leaves_nothing_behind(flags, message, tmp_path):
  output = tmp_path / 'out'
  done = command_line.start(STUDY, *flags, output=output)
  assert_refused(done, message)
  assert not output.exists()


@pytest.fixture(scope='module')
def smoke(tmp_path_factory):
  return run_to_report(start, tmp_path_factory, '--teachers=14,16', '--seeds=2')


@pytest.mark.slow
def test_the_report_has_its_fields(smoke):
  output, _ = smoke
  report = read_report(output)
  assert report['study'] == STUDY
  assert report['reference']['name'] == 'teacher 16'
  # 64 inputs, two hidden layers of 16, 10 classes.
  assert report['reference']['params'] == 65 * 16 + 17 * 16 + 17 * 10
  names = [entry['name'] for entry in report['variants']]
  assert names == [
    'teacher 14',
    'student 12 alone',
    'by 16',
    'by 14',
    'chain from 16',
    'chain from 14',
    'searched from 16',
    'searched from 14',
    'soft targets alone',
    'MUNGE',
    'born-again 1',
    'CWTM',
    'DKPP',
    'by the students’ ensemble',
    'generations’ ensemble',
    'labels’ ensemble',
    'students’ ensemble',
  ]
  for entry in (report['reference'], *report['variants']):
    assert 0 <= entry['accuracy']['mean'] <= 100 and entry['accuracy']['n'] == 2
    assert entry['bytes']['on_disk'] > 0 and entry['macs'] > 0
  by = {entry['name']: entry for entry in report['variants']}
  assert by['by 14']['accuracy'] == by['chain from 14']['accuracy']
  assert by['students’ ensemble']['params'] == 2 * by['by 14']['params']
  assert any('A smoke run' in line for line in report['warnings'])
  assert any('Carlini' in line for line in report['warnings'])
  assert len(report['tables']) == 5
  trees = report['tables'][3]['rows']
  assert len(trees) == 9
  page = (output / 'report.html').read_text()
  for figure in ('teacher-gap', 'soft-tree', 'regression-tree', 'invented'):
    assert f'<figure id="{figure}">' in page


@pytest.mark.slow
def test_networks_of_a_path_are_kept_in_files(smoke):
  output, _ = smoke
  found = encode.load(output / 'networks' / 'path_16-14-12.1.safetensors')
  assert found.metadata['model'] == 'path_16-14-12'
  assert packed.unpack(found.tree['fc1']['kernel']).shape == (64, 12)


@pytest.mark.slow
def test_a_second_run_trains_nothing_and_an_interrupted_one_the_same(smoke):
  output, _ = smoke
  before = contents(output)
  for name in ('path_16-12', 'soft_tree_labels'):
    (output / 'networks' / f'{name}.0.safetensors').unlink()
  (output / 'figures' / 'attacks.0.json').unlink()
  finished(start('--teachers=14,16', '--seeds=2', output=output))
  after = contents(output)
  assert {k for k in before if before[k] != after.get(k)} <= {'report.html'}
  assert read_report(output) == json.loads(before['report.json'])


@pytest.mark.slow
def test_another_setting_is_refused(smoke):
  output, _ = smoke
  done = start(
    '--teachers=14,16', '--seeds=2', '--munge_swap=0.3', output=output
  )
  assert_refused(done, 'another munge_swap (0.2, now 0.3)')
