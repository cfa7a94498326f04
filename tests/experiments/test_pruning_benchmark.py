"""The benchmarks of pruning from the command line, as small as they get."""

import functools
import json

import numpy as np
import pytest

from experiments.classification import pruning_methods, pruning_words
from tests.experiments import command_line
from tests.experiments.command_line import (
  assert_refused,
  assert_refused_untouched,
  contents,
  finished,
  read_report,
  run_to_report,
)

start = functools.partial(command_line.start, 'pruning_benchmark')


@pytest.mark.parametrize(
  'flags, message',
  [
    (['--compression=1'], '--compression=1: right is a number above 1'),
    (['--compression=2,two'], '--compression=two'),
    (['--compression=2,2.0'], 'given twice'),
    (['--learning_rates='], '--learning_rates is empty'),
    (['--method=magic'], '--method=magic: right would be one of random'),
    (['--method=snip', '--method=snip'], 'given twice'),
    (['--network=vgg'], 'network'),
    (['--compression=500'], 'compression 500 cannot be met'),
  ],
)
def test_bad_flags_leave_nothing_behind(flags, message, tmp_path):
  assert_refused_untouched(start, flags, message, tmp_path)


def test_help_names_every_method():
  done = start('--help')
  assert done.returncode == 0
  words = done.stdout.replace(',', ' ').replace('.', ' ').split()
  assert set(pruning_methods.METHODS) <= set(words)
  assert set(pruning_methods.METHODS) <= set(pruning_words.METHODS)
  for name, claim in pruning_words.CLAIMS.items():
    assert {name, claim.over} <= set(pruning_methods.METHODS)


def test_a_folder_that_is_not_its_own(tmp_path):
  (tmp_path / 'holiday.jpg').write_bytes(b'')
  done = start('--smoke', output=tmp_path)
  assert_refused(done, 'not empty, and no output of pruning_benchmark')
  assert contents(tmp_path) == {'holiday.jpg': b''}


@pytest.fixture(scope='module')
def smoke(tmp_path_factory):
  return run_to_report(start, tmp_path_factory, '--smoke')


@pytest.mark.slow
def test_prints_the_table_and_where_the_report_is(smoke):
  output, printed = smoke
  for name in ('random 2×', 'snip 4×', 'depgraph 2×'):
    assert name in printed


@pytest.mark.slow
def test_every_method_meets_its_ratios(smoke):
  report = read_report(smoke[0])
  methods = {
    'random',
    'layer_magnitude',
    'global_magnitude',
    'snip',
    'random_channels',
    'depgraph',
  }
  assert {v['method'] for v in report['variants']} == methods
  assert len(report['variants']) == 2 * len(methods)
  total = report['reference']['params']
  for variant in report['variants']:
    asked = variant['requested']
    assert asked * 0.999 <= variant['compression'] < asked * 1.1
    # The mean over seeds of a ratio, and the ratio of the means.
    ratio = total / variant['params']
    assert variant['compression'] == pytest.approx(ratio, rel=5e-3)
    assert variant['sparsity'] == pytest.approx(1 - 1 / ratio, abs=5e-3)
    assert set(variant['accuracy']) == {'mean', 'std', 'n'}
    assert variant['accuracy']['n'] == variant['accuracy_before']['n'] == 2
    assert variant['speedup']['theoretical'] > 1
    assert variant['bytes']['on_disk'] < report['reference']['bytes']['on_disk']


@pytest.mark.slow
def test_only_what_was_removed_is_timed(smoke):
  for variant in read_report(smoke[0])['variants']:
    removed = variant['method'] in ('depgraph', 'random_channels')
    assert ('measured' in variant['speedup']) == removed
    assert ('widths' in variant) == removed
    assert variant['execution'] == ('float' if removed else 'masked')


@pytest.mark.slow
def test_a_stored_network_is_the_one_that_was_judged(smoke):
  from compress import data
  from experiments.classification import evaluation, networks, pruning_lab

  splits = data.load_digits()
  # As a smoke run takes them.
  train, test = (
    data.take_images(part, np.arange(96)) for part in (splits[0], splits[2])
  )
  network = networks.make_classifier(
    'lenet5', image_shape=(8, 8, 1), classes=10
  )
  place = smoke[0] / 'networks' / 'depgraph_4x'
  apply, variables = pruning_lab.restore(network, place / 'seed1.safetensors')
  predict = evaluation.make_predictor(apply, scaling=data.pixel_scaling(train))
  found = evaluation.evaluate(predict, variables, test)
  entry = json.loads((place / 'entry.json').read_text())
  assert 100 * found.top1 == pytest.approx(entry['per_seed'][1]['accuracy'])


@pytest.mark.slow
def test_a_second_run_does_nothing_anew(smoke):
  output, _ = smoke
  before = contents(output)
  finished(start('--smoke', output=output))
  assert contents(output) == before
  other = start('--smoke', '--batch=32', output=output)
  assert_refused(other, 'was made with another batch')


@pytest.mark.slow
def test_the_timings_work(tmp_path):
  path = tmp_path / 'figures.json'
  done = finished(
    command_line.start('benchmarks.pruning', '--smoke', f'--json={path}')
  )
  found = json.loads(path.read_text())
  rows = {'removal', 'removal_bytes', 'removal_all', 'removal_all_bytes'}
  assert set(found) == {*rows, 'masks', 'analysis'}
  # Half of every width leaves a quarter, but for biases and BatchNorm.
  less, least = found['removal_bytes'], found['removal_all_bytes']
  assert least['shrunk_mb'] / least['whole_mb'] == least['value']
  assert 0.25 < least['value'] < less['value'] < 0.6
  for name in found:
    assert name in done.stdout and found[name]['value'] > 0


@pytest.mark.parametrize(
  'flags, message',
  [
    (['--sparsity=1'], '--sparsity=1: right is the fraction removed'),
    (['--json=/no/such/folder/x.json'], 'there is no folder'),
  ],
)
def test_timings_refuse_bad_flags(flags, message):
  assert_refused(command_line.start('benchmarks.pruning', *flags), message)
