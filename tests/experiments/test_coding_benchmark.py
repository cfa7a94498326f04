"""The benchmark of the entropy coders, as small as it gets."""

import json
import subprocess
import sys

import pytest


def start(*flags):
  return subprocess.run(
    [sys.executable, '-m', 'experiments.benchmarks.coding', *flags],
    capture_output=True,
    text=True,
    timeout=600,
    check=False,
  )


def test_it_works(tmp_path):
  path = tmp_path / 'figures.json'
  done = start('--smoke', f'--json={path}')
  assert done.returncode == 0, done.stderr[-2000:]
  found = json.loads(path.read_text())
  assert set(found) == {'laplace', 'sface_w8', 'sface_w4'}
  for name, each in found.items():
    assert name in done.stdout
    codecs = each['codecs']
    assert set(codecs) >= {'plain', 'huffman', 'ans', 'context'}
    for codec in codecs.values():
      assert codec['encode'] > 0 and codec['decode'] > 0
      # Adaptive coders may go below it, though not on codes drawn alike.
      assert codec['bits'] > codec['entropy'] > 0
    assert codecs['ans']['over'] < 5 and codecs['context']['over'] < 5


@pytest.mark.parametrize(
  'flags, message',
  [
    (['--codec=zip'], 'codec'),
    (['--codes=vgg'], 'codes'),
    (['--json=/no/such/folder/x.json'], 'there is no folder'),
  ],
)
def test_bad_flags(flags, message):
  done = start(*flags)
  assert done.returncode == 2, done.stderr
  assert done.stdout == '' and done.stderr.count('\n') == 1
  assert done.stderr.startswith('error: ') and message in done.stderr
