"""The pruning study from the command line."""

import functools
import json

import pytest

from tests.experiments import command_line

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
  output = tmp_path / 'out'
  done = start(*flags, output=output)
  assert done.returncode == 2, done.stderr
  assert done.stderr.count('\n') == 1 and message in done.stderr
  assert done.stdout == '' and not output.exists()


@pytest.mark.slow
def test_smoke(tmp_path):
  output = tmp_path / 'out'
  done = start('--sparsity=0.5', '--bits=', '--norandom', output=output)
  assert done.returncode == 0, done.stderr[-2000:]
  report = json.loads((output / 'report.json').read_text())
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
