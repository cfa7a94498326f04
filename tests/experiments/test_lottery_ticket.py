"""The study from the command line, as small as it gets."""

import functools
import math
import os

import numpy as np
import pytest

from compress import encode
from tests.experiments import command_line
from tests.experiments.command_line import (
  assert_refused,
  assert_refused_untouched,
  contents,
  finished,
  read_report,
  run_to_report,
)

STUDY = 'lottery_ticket'
FLAGS = ('--control=reinitialized', '--control=shuffled_weights')
start = functools.partial(command_line.start, STUDY, '--smoke')


@pytest.mark.parametrize(
  'flags, message',
  [
    (['--fraction=1'], '--fraction=1: right is the share removed'),
    (['--fraction=nan'], '--fraction=nan: right is the share removed'),
    (
      ['--scope=global', '--output_fraction=0.1'],
      '--output_fraction: --scope=global',
    ),
    (['--level=100'], '--level=100: right is an accuracy in percent'),
    (['--control=reinitialized'] * 2, '--control: a control is given twice'),
    (['--learning_rate=0'], '--learning_rate=0'),
    (['--rounds=0'], 'rounds'),
  ],
)
def test_bad_flags_leave_nothing_behind(flags, message, tmp_path):
  assert_refused_untouched(start, flags, message, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
  'flags, message',
  [
    (['--network=lenet6'], "network 'lenet6' is not known"),
    (['--rewind_step=19'], '--rewind_step=19: a run has 19 steps'),
    (['--data_path=here'], '--data_path: digits come with scikit-learn'),
  ],
)
def test_bad_input_leaves_nothing_behind(flags, message, tmp_path):
  assert_refused_untouched(start, flags, message, tmp_path)


@pytest.fixture(scope='module')
def smoke(tmp_path_factory):
  return run_to_report(start, tmp_path_factory, *FLAGS, '--rewind_step=3')


@pytest.mark.slow
def test_the_report_has_its_fields(smoke):
  output, _ = smoke
  report = read_report(output)
  assert report['study'] == STUDY
  dense, variants = report['reference'], report['variants']
  assert (dense['name'], dense['params']) == ('lenet300', 50610)
  # 19,200 and 30,000 weights lose 20 % a round, 1,000 of the output 10 %.
  assert [(v['method'], v['params']) for v in variants] == [
    (method, params)
    for params in (40670, 32708)
    for method in ('winning_ticket', 'reinitialized', 'shuffled_weights')
  ]
  assert variants[0]['sparsity'] == pytest.approx(9940 / 50200)
  assert dense['macs'] == 50200 and variants[0]['macs'] == 50200 - 9940
  for entry in (dense, *variants):
    found = entry['accuracy']
    assert 0 < found['mean'] <= 100 and found['n'] == 2
    assert math.isfinite(found['std'])
    assert entry['early']['step'] == 19
    assert 0 <= entry['early']['accuracy']['mean'] <= 100
    assert entry['steps_to_level']['level'] == 90
    curve = entry['validation_accuracy']['mean']
    assert len(curve) == len(report['marks'])
  assert report['notes'][0].startswith('A smoke run')
  assert any(note.startswith('Speed of learning') for note in report['notes'])
  assert 'Baselines that were not run: random_masks.' in report['warnings']
  page = (output / 'report.html').read_text()
  assert 'Accuracy against compression' in page


@pytest.mark.slow
def test_the_files_hold_nested_tickets(smoke):
  output, _ = smoke

  def load(number, method, seed=1):
    name = f'round_{number:02d}/{method}_seed{seed}.safetensors'
    return encode.load(output / 'rounds' / name)

  before = load(0, 'dense').tree['params']
  for number in (1, 2):
    found = load(number, 'winning_ticket')
    assert found.metadata['round'] == number
    again = load(number, 'reinitialized').tree['params']
    for layer in ('fc1', 'fc2', 'classifier'):
      mask = found.tree['params'][layer]['kernel'].mask
      assert not np.any(mask & ~before[layer]['kernel'].mask)
      np.testing.assert_array_equal(again[layer]['kernel'].mask, mask)
    before = found.tree['params']


@pytest.mark.slow
def test_a_second_run_computes_nothing_anew(smoke):
  output, _ = smoke
  report = read_report(output)
  kept = {p: b for p, b in contents(output).items() if 'rounds/' in p}
  times = {p: os.stat(output / p).st_mtime_ns for p in kept}
  done = finished(start(*FLAGS, '--rewind_step=3', output=output))
  assert 'step/s' not in done.stderr
  assert {p: os.stat(output / p).st_mtime_ns for p in kept} == times
  assert read_report(output) == report


@pytest.mark.slow
def test_an_interrupted_round_is_done_again_the_same(smoke):
  output, _ = smoke
  report = read_report(output)
  last = output / 'rounds' / 'round_02'
  (last / 'entry.json').unlink()
  next(last.glob('winning_ticket*')).unlink()
  done = finished(start(*FLAGS, '--rewind_step=3', output=output))
  assert 'round 2 of 2' in done.stderr and 'round 1 of 2' not in done.stderr
  assert read_report(output) == report


@pytest.mark.slow
def test_another_setting_is_refused(smoke):
  output, _ = smoke
  before = contents(output)
  done = start(*FLAGS, '--rewind_step=4', output=output)
  assert_refused(done, 'another rewind_step (3, now 4)')
  assert contents(output) == before
