"""The study of hybrids from the command line, as small as it gets."""

import functools
import json

import pytest

from tests.experiments import command_line
from tests.experiments.command_line import finished

start = functools.partial(command_line.start, 'pruning_hybrids')


@pytest.mark.slow
def test_smoke_and_resume(tmp_path):
  finished(start('--smoke', output=tmp_path / 'out'))
  methods = {
    'fairness': {'magnitude', 'importance', 'fairgrape'},
    'restoration': {'labels', 'response', 'restore', 'two_stages'},
    'students': {'sparse', 'labels', 'dense_teacher', 'pruned_teacher'},
  }
  texts = {}
  for part, names in methods.items():
    folder = tmp_path / 'out' / part
    texts[part] = (folder / 'report.json').read_bytes()
    report = json.loads(texts[part])
    assert {v['method'] for v in report['variants']} == names
    assert all(0 <= v['accuracy']['mean'] <= 100 for v in report['variants'])
    assert report['warnings']
    assert (folder / 'report.html').is_file()
  fair = json.loads(texts['fairness'])['variants']
  # A surviving weight may be 0 by itself.
  counts = [v['params'] for v in fair]
  assert max(counts) - min(counts) <= 1e-3 * max(counts)
  widths = json.loads(texts['restoration'])['variants']
  assert len({v['params'] for v in widths}) == 1

  again = finished(start('--smoke', '--part=fairness', output=tmp_path / 'out'))
  assert 'step/s' not in again.stderr
  found = json.loads((tmp_path / 'out/fairness/report.json').read_bytes())
  assert found['variants'] == fair


@pytest.mark.parametrize(
  'flag, message',
  [
    ('--fair_sparsity=0.5,1.5', '--fair_sparsity=1.5: right is the fraction'),
    ('--keep=1', '--keep=1: right is in (0, 1)'),
  ],
)
def test_bad_flags_are_one_line(flag, message, tmp_path):
  done = start(flag, output=tmp_path / 'out')
  assert done.returncode == 2
  assert message in done.stderr
  assert done.stderr.count('\n') == 1
  assert not (tmp_path / 'out').exists()
