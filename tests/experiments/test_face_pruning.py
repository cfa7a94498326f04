"""The pruning study from the command line."""

import functools

import pytest

from tests.experiments import command_line
from tests.experiments.command_line import (
  assert_refused_untouched,
  finished,
  read_report,
)

start = functools.partial(command_line.start, 'face_pruning', '--smoke')


@pytest.mark.parametrize(
  'flags, message',
  [
    (['--sparsity=0.2,1'], '--sparsity=1: right is'),
    (['--sparsity=nan'], '--sparsity=nan: right is'),
    (['--sparsity=0.2,0.2'], 'given twice'),
    (['--bits=w9a8'], '9 weight bits'),
    (['--quantized_sparsity=-1'], '--quantized_sparsity=-1'),
    (['--most=0'], '--most=0: right is'),
    (['--importance=taylor', '--importance=taylor'], 'given twice'),
    (['--weights=missing.onnx'], 'missing.onnx: no such file'),
  ],
)
def test_bad_input_leaves_nothing_behind(flags, message, tmp_path):
  assert_refused_untouched(start, flags, message, tmp_path)


@pytest.mark.slow
def test_smoke(tmp_path):
  output = tmp_path / 'out'
  finished(start('--sparsity=0.5', '--bits=', '--norandom', output=output))
  report = read_report(output)
  assert report['study'] == 'face_pruning'
  first, tuned = report['variants']
  assert [v['name'] for v in (first, tuned)] == [
    'one_shot taylor 50%',
    'ekd taylor 50%',
  ]
  reference = report['reference']
  for variant in (first, tuned):
    assert variant['sparsity'] == 0.5
    assert all(2 * kept == full for kept, full in variant['widths'].values())
    assert 2.5 < variant['speedup']['theoretical'] < 4
    assert variant['params'] < 0.5 * reference['params']
    path = output / 'networks' / variant['name'].replace(' ', '_')
    file = path.with_name(path.name.rstrip('%')) / 'network.safetensors'
    assert file.stat().st_size == variant['bytes']['on_disk']
    assert variant['bytes']['on_disk'] < 0.55 * reference['bytes']['on_disk']
