"""Deep Compression from the command line, and its files one by one."""

import json
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from compress import audit, packed, prune, quantize
from compress.compressor import chain
from experiments import coded_files
from experiments.classification import deep_compression_tables as tables
from experiments.classification.deep_compression_study import enlarge
from experiments.faces import deep_compression_report as face_report


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
    (['--ratio=1'], '--ratio=1: right is above 1'),
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
  parts = coded_files.file_parts(tmp_path, 'huffman')
  assert list(parts) == ['kernel', 'other tensors', 'header']
  assert parts['other tensors'] == 400
  assert sum(parts.values()) == sizes['huffman']
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


def judged(accuracies, size, validation=(99.0, 98.0)):
  return {
    'accuracy': {'mean': sum(accuracies) / 2, 'std': 0.0, 'n': 2},
    'per_seed': list(accuracies),
    'per_seed_validation': list(validation),
    'bytes': {'on_disk': size},
  }


def ladder():
  """A dense network of 1000 bytes and three rungs, 20, 40 and 100 times less.

  On test images the middle one is worst, on validation images best.
  """
  dense = judged((98.0, 97.0), 1000.0)
  rungs = [
    {
      'density': density,
      'stages': {
        'pruned': judged(accuracies, 3 * size),
        'huffman': judged(accuracies, size, validation),
        'ans': judged(accuracies, size - 1),
        'context': judged(accuracies, size - 2),
        'deepcabac': judged(accuracies, size - 5),
      },
      'left': [{'fc/kernel': [40, 400]}, {'fc/kernel': [20, 400]}],
      'files': [
        {'fc/kernel': 30, 'other tensors': 10, 'header': 10},
        {'fc/kernel': 15, 'other tensors': 10, 'header': 25},
      ],
    }
    for density, accuracies, size, validation in [
      (0.1, (98.2, 97.0), 50.0, (98.0, 98.0)),
      (0.05, (97.0, 96.6), 25.0, (99.0, 99.0)),
      (0.02, (98.0, 97.0), 10.0, (98.0, 97.0)),
    ]
  ]
  return dense, rungs


@pytest.mark.parametrize(
  'ratio, density, reached',
  [
    (15, 0.1, True),
    (20, 0.1, True),
    (21, 0.05, True),
    (40, 0.05, True),
    (90, 0.02, True),
    (101, 0.02, False),
  ],
)
def test_bytes_choose_the_rung_and_not_accuracy(ratio, density, reached):
  dense, rungs = ladder()
  for order in (rungs, rungs[::-1]):
    rung, found = tables.chosen(dense, order, ratio)
    assert (rung['density'], found) == (density, reached)


def test_stages_stand_beside_the_paper():
  dense, rungs = ladder()
  table = tables.stage_table('lenet_5', dense, rungs[1])
  assert [row[0] for row in table['rows']] == [
    'float32',
    'pruned',
    'huffman',
    'ans',
    'context',
    'deepcabac',
  ]
  assert table['rows'][table['marked'][0]] == [
    'huffman',
    5.0,
    25,
    40.0,
    39,
    pytest.approx(96.8),
    [pytest.approx(0.7), '± 0.42'],
  ]
  assert table['rows'][3][4] is None
  text = audit.format_stated(table)
  assert '0.70 ± 0.42' in text and '40.0' in text


def test_every_rung_has_its_losses():
  dense, rungs = ladder()
  table = tables.rung_table(dense, rungs, rungs[2])
  assert table['marked'] == [2]
  assert [row[2] for row in table['rows']] == [20, 40, 100]
  assert [row[6][0] for row in table['rows']] == pytest.approx([0.5, -0.5, 1.0])
  assert [row[7][0] for row in table['rows']] == pytest.approx([-0.1, 0.7, 0.0])
  assert 'Lost' in audit.format_stated(table)


def test_layers_have_bits_and_shares():
  table = tables.layer_table(ladder()[1][0])
  kernel, others, header = table['rows']
  assert kernel[:4] == ['fc/kernel', 400, 7.5, 22]
  assert kernel[4] == pytest.approx(8 * 22.5 / 30)
  assert kernel[5] == pytest.approx(45)
  assert others == ['other tensors', None, None, 10, None, 20.0]
  assert header[3] == 18
  audit.format_stated(table)


def test_the_summary_says_what_was_lost():
  dense, rungs = ladder()
  first, second = tables.summary('lenet_5', dense, rungs[1])
  assert '40.0 times smaller' in first and '0.70 ± 0.42 points' in first
  assert '39 times on MNIST' in first
  assert '50.0 times smaller' in second


def test_stages_of_a_face_network_are_averaged_over_seeds():
  def entry(kept, stage, size, eer):
    return {
      'method': stage,
      'kept': kept,
      'bytes': {'on_disk': size},
      'verification': {'eer': eer, 'tar_at_far': {'1e-2': None}},
      'agreement': {'embedding_cosine': 0.5},
      'flips': {'pairs': 200, 'flipped': 1},
    }

  reference = {
    'bytes': {'on_disk': 100},
    'verification': {'eer': 0.0, 'tar_at_far': {'1e-2': 100.0}},
  }
  variants = [
    entry(kept, stage, size, eer)
    for stage in coded_files.STAGES[1:]
    for kept in (0.5, 0.3)
    for size, eer in ((10, 1.0), (30, 2.0))
  ]
  table = face_report.stage_table(reference, variants)
  assert table['rows'][0] == [
    'float32',
    100.0,
    100,
    1.0,
    0.0,
    100.0,
    None,
    None,
  ]
  assert len(table['rows']) == 13
  assert table['marked'] == [3, 9]
  assert table['rows'][9] == ['huffman', 30.0, 20, 5.0, 1.5, None, 0.5, 0.5]
  audit.format_stated(table)
  lines = face_report.summary(reference, variants)
  assert len(lines) == 2
  assert (
    'a file 5.0 times smaller, with an equal error rate of 1.50 %' in (lines[0])
  )


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
  first, second, third = report['tables']
  assert [row[0] for row in first['rows']] == list(coded_files.STAGES)
  assert [row[0] for row in second['rows']] == ['20 % kept']
  assert third['rows'][-1][0] == 'header'
  assert 'No rung is as small' in ' '.join(report['notes'])
  coded = [v for v in report['variants'] if v['method'] in coded_files.CODED]
  assert len({v['accuracy']['mean'] for v in coded}) == 1


@pytest.mark.slow
def test_a_second_run_does_nothing_anew(smoke):
  before = {path: path.read_bytes() for path in smoke[0].rglob('*.safe*')}
  done = start(*smoke[1])
  assert done.returncode == 0, done.stderr[-2000:]
  after = {path: path.read_bytes() for path in smoke[0].rglob('*.safe*')}
  assert before == after
