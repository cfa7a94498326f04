"""Deep Compression from the command line, and its files one by one."""

import json
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from compress import packed, prune, quantize
from compress.compressor import chain
from experiments import coded_files
from experiments.classification import deep_compression_report as report_lib
from experiments.classification.deep_compression_study import enlarge


def start(*flags):
  return subprocess.run(
    [sys.executable, '-m', 'experiments.deep_compression', *flags],
    capture_output=True,
    text=True,
    timeout=1800,
    check=False,
  )


@pytest.mark.parametrize(
  'flags, message',
  [
    (['--keep=1'], '--keep=1: right is in (0, 1)'),
    (['--keep=0.1,0.1'], 'given twice'),
    (['--network=lenet_5', '--network=lenet_5'], 'given twice'),
    (['--network=vgg'], 'network'),
    (['--sharing_rate=0'], '--sharing_rate=0: right is above 0'),
  ],
)
def test_bad_flags_leave_nothing_behind(flags, message, tmp_path):
  output = tmp_path / 'out'
  done = start(*flags, f'--output_dir={output}')
  assert done.returncode == 2, done.stderr
  assert done.stderr.count('\n') == 1
  assert message in done.stderr
  assert not output.exists()


def test_digits_are_enlarged_with_a_border():
  images = np.arange(1, 65, dtype=np.uint8).reshape(1, 8, 8, 1)
  large = enlarge(images)
  assert large.shape == (1, 28, 28, 1)
  np.testing.assert_array_equal(large[:, 2:26:3, 2:26:3], images)
  np.testing.assert_array_equal(large[:, 4:26:3, 3:26:3], images)
  assert not large[:, :2].any() and not large[:, :, 26:].any()
  same = np.zeros((2, 28, 28, 1), np.uint8)
  assert enlarge(same) is same


def trees():
  """A pruned layer, and the same with shared values."""
  rng = np.random.default_rng(0)
  params = {
    'kernel': jnp.asarray(rng.laplace(size=(200, 100)).astype(np.float32)),
    'bias': jnp.zeros(100),
  }
  cut = prune.prune_weights([('kernel', 0.92)])
  pruned = cut.apply(params, cut.init(params))
  shared = chain(
    cut, quantize.share_weights([('kernel', quantize.SharedSpec(32))])
  )
  return pruned, shared.pack(params, shared.init(params))


def test_every_stage_is_a_smaller_file_of_the_same(tmp_path):
  pruned, shared = trees()
  sizes = {
    'pruned': coded_files.save_stage(
      tmp_path, 'pruned', coded_files.sparse_tree(pruned), {}
    )
  }
  stored = coded_files.read_stage(tmp_path, 'pruned')
  np.testing.assert_array_equal(stored['kernel'], pruned['kernel'])
  right = packed.unpack_tree(shared)
  for stage in coded_files.CODED:
    sizes[stage] = coded_files.save_stage(tmp_path, stage, shared, {})
    path = tmp_path / f'{stage}.safetensors'
    assert sizes[stage] == path.stat().st_size
    stored = coded_files.read_stage(tmp_path, stage)
    for name, leaf in right.items():
      np.testing.assert_array_equal(stored[name], leaf)
  assert sizes['pruned'] > sizes['codebook'] > sizes['huffman'] > sizes['ans']
  # 1600 survivors: 5 bits of index and of code, with less than a tenth more
  # of fillers.
  assert 2000 < sizes['codebook'] - 400 - 33 * 4 < 4000


def test_a_uniform_grid_keeps_zeros(tmp_path):
  pruned, _ = trees()
  tree = coded_files.uniform_tree(pruned, step=0.3, rate=0.05)
  found = packed.unpack_tree(tree)
  assert not np.asarray(found['kernel'])[
    np.asarray(pruned['kernel']) == 0
  ].any()
  coded_files.save_stage(tmp_path, 'deepcabac', tree, {})
  stored = coded_files.read_stage(tmp_path, 'deepcabac')
  np.testing.assert_array_equal(stored['kernel'], found['kernel'])


def judged(accuracy, size):
  figure = {'mean': accuracy, 'std': 0.0, 'n': 3}
  return {
    'accuracy': figure,
    'validation_accuracy': figure,
    'bytes': {'on_disk': size},
  }


def test_the_sparsest_rung_within_half_a_point_is_chosen():
  dense = judged(98.0, 1000.0)
  rungs = [
    {'density': density, 'stages': {'huffman': judged(accuracy, size)}}
    for density, accuracy, size in [
      (0.1, 98.2, 50.0),
      (0.05, 97.6, 25.0),
      (0.02, 97.4, 10.0),
    ]
  ]
  assert report_lib.chosen(dense, rungs)['density'] == 0.05
  assert report_lib.chosen(dense, rungs[2:]) is None
  rows = report_lib.stages('lenet_5', dense, rungs)
  assert [row['ratio'] for row in rows] == [1, 40]
  assert rows[1]['paper'] == 39
  assert rows[1]['lost'] == pytest.approx(0.4)
  assert '40.0x' in report_lib.format_stages(rows)


@pytest.fixture(scope='module')
def smoke(tmp_path_factory):
  output = tmp_path_factory.mktemp('deep_compression') / 'out'
  flags = ['--smoke', '--network=lenet_300_100', f'--output_dir={output}']
  done = start(*flags)
  assert done.returncode == 0, done.stderr[-2000:]
  return output / 'lenet_300_100', flags


@pytest.mark.slow
def test_a_smoke_run_reports_every_stage(smoke):
  report = json.loads((smoke[0] / 'report.json').read_text())
  assert [v['method'] for v in report['variants']] == list(
    coded_files.STAGES[1:]
  )
  assert report['reference']['params'] == 266_610
  for variant in report['variants']:
    files = [
      smoke[0] / 'kept_20' / f'seed{seed}' / f'{variant["method"]}.safetensors'
      for seed in range(2)
    ]
    size = np.mean([path.stat().st_size for path in files])
    assert variant['bytes']['on_disk'] == size
    assert variant['compression'] == pytest.approx(
      report['reference']['bytes']['on_disk'] / size
    )
    assert variant['sparsity'] == pytest.approx(0.8, abs=1e-4)
  coded = [v for v in report['variants'] if v['method'] in coded_files.CODED]
  assert len({v['accuracy']['mean'] for v in coded}) == 1


@pytest.mark.slow
def test_a_second_run_does_nothing_anew(smoke):
  before = {path: path.read_bytes() for path in smoke[0].rglob('*.safe*')}
  done = start(*smoke[1])
  assert done.returncode == 0, done.stderr[-2000:]
  after = {path: path.read_bytes() for path in smoke[0].rglob('*.safe*')}
  assert before == after
