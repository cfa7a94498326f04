"""The study without data from the command line, as small as it gets."""

import functools
import os

import pytest

from tests.experiments import command_line
from tests.experiments.command_line import (
  assert_refused,
  assert_refused_untouched,
  contents,
  finished,
  read_report,
  run_to_report,
)

STUDY = 'data_free'
KINDS = ('real', 'cgan_kd', 'batch_norm', 'kegnet')
FLAGS = tuple(f'--inputs={kind}' for kind in KINDS)
start = functools.partial(command_line.start, STUDY, '--smoke')


@pytest.mark.parametrize(
  'flags, message',
  [
    (['--step_size=0'], '--step_size=0: right is a finite number above 0'),
    (['--temperature=nan'], '--temperature=nan: right is a finite number'),
    (['--inputs=real'] * 2, '--inputs: a kind is given twice'),
    (['--inputs=fakes'], 'inputs'),
    (['--bits=9'], '--bits=9: right is 2 to 8, or 16'),
    (['--bits=4,4'], '--bits: a number is given twice'),
    (['--images=0'], 'images'),
    (['--gan_steps=0'], 'gan_steps'),
  ],
)
def test_bad_flags_leave_nothing_behind(flags, message, tmp_path):
  assert_refused_untouched(start, flags, message, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
  'flags, message',
  [
    (['--student=lenet6'], "network 'lenet6' is not known"),
    (['--teacher=lenet5'], '--teacher=lenet5 has no BatchNorm, which --inputs'),
    (['--data_path=here'], '--data_path: digits come with scikit-learn'),
  ],
)
def test_bad_input_leaves_nothing_behind(flags, message, tmp_path):
  assert_refused_untouched(start, flags, message, tmp_path)


@pytest.fixture(scope='module')
def smoke(tmp_path_factory):
  return run_to_report(start, tmp_path_factory, *FLAGS)


@pytest.mark.slow
def test_the_report_has_its_fields(smoke):
  output, _ = smoke
  report = read_report(output)
  assert report['study'] == STUDY
  assert [v['method'] for v in report['variants']] == [
    *(f'{kind}, quantized' for kind in KINDS),
    *('alone', 'plain', *KINDS),
  ]
  for entry in (report['reference'], *report['variants']):
    found = entry['accuracy']
    assert 0 <= found['mean'] <= 100 and found['n'] == 1
    assert entry['bytes']['on_disk'] > 0
  assert [v['weight_bits'] for v in report['variants'][:4]] == [4] * 4
  assert report['variants'][0]['compression'] > 1
  students, twins, inputs = report['tables']
  assert len(students['rows']) == 6 and len(twins['rows']) == 5
  assert [row[:2] for row in inputs['rows']] == [
    ['real images', 'as inputs'],
    ['cGAN-KD', 'all, for a GAN'],
    ['BatchNorm-matched', 'none'],
    ['KegNet', 'none'],
  ]
  assert any('cGAN-KD is not data-free' in note for note in report['notes'])
  assert 'Controls that were not run: noise.' in report['warnings']
  page = (output / 'report.html').read_text()
  assert page.count('<image x="') == 4 * 7


@pytest.mark.slow
def test_a_second_run_computes_nothing_anew(smoke):
  output, _ = smoke
  report = read_report(output)
  kept = [p for p in contents(output) if not p.startswith('report')]
  kept = [p for p in kept if p != 'run.json']
  times = {p: os.stat(output / p).st_mtime_ns for p in kept}
  done = finished(start(*FLAGS, output=output))
  assert 'step/s' not in done.stderr
  assert {p: os.stat(output / p).st_mtime_ns for p in kept} == times
  assert read_report(output) == report


@pytest.mark.slow
def test_an_interrupted_run_goes_on_and_ends_the_same(smoke):
  output, _ = smoke
  report = read_report(output)
  fakes = output / 'inputs' / 'cgan_kd.0.npy'
  made = fakes.read_bytes()
  fakes.unlink()
  for path in ('inputs_cgan_kd', 'inputs_real', 'student_real', 'w4a4_real'):
    (output / 'runs' / f'{path}.0.json').unlink()
  done = finished(start(*FLAGS, output=output))
  assert 'student, real' in done.stderr and 'cGAN' in done.stderr
  assert 'student, cgan' not in done.stderr and 'KegNet' not in done.stderr
  assert fakes.read_bytes() == made
  assert read_report(output) == report


@pytest.mark.slow
def test_another_setting_is_refused(smoke):
  output, _ = smoke
  before = contents(output)
  done = start(*FLAGS, '--observer=minmax', output=output)
  assert_refused(done, "another observer ('mse', now 'minmax')")
  assert contents(output) == before
