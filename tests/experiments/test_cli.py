"""Flags, exit statuses and one-line errors of the binaries."""

import os
import subprocess
import sys

import pytest

BINARY = 'experiments.face_quantization'


def start(*flags, options=(), timeout=120):
  environment = {**os.environ, 'COLUMNS': '80'}
  return subprocess.run(
    [sys.executable, *options, '-m', BINARY, *flags],
    capture_output=True,
    text=True,
    timeout=timeout,
    env=environment,
    check=False,
  )


def test_help_is_a_manual_and_needs_no_jax():
  done = start('--help', options=('-X', 'importtime'))
  assert done.returncode == 0
  assert done.stdout.startswith('Quantizes a face network')
  for word in ('--bits', '--output_dir (default: results', 'Exit status'):
    assert word in done.stdout
  # Flags of libraries would bury the binary's own.
  assert '--verbosity' not in done.stdout
  assert max(len(line) for line in done.stdout.splitlines()) <= 80
  imported = {line.split('|')[-1].strip() for line in done.stderr.splitlines()}
  assert 'absl.flags' in imported
  heavy = {'jax', 'jaxlib', 'flax', 'numpy', 'orbax', 'matplotlib'}
  assert not imported & heavy


@pytest.mark.parametrize(
  'flags, message',
  [
    (['--bit=w8a8'], "Unknown command line flag 'bit'"),
    (['--method=magic'], '--method=magic'),
    (['--observer=best'], '--observer=best'),
    (['--steps=many'], '--steps=many'),
    (['--steps=0'], '--steps=0'),
    (['--learning_rate=nan'], '--learning_rate=nan'),
    (['--learning_rate=inf'], '--learning_rate=inf'),
    (['--data_fraction=0'], '--data_fraction=0'),
    (['--data_fraction=nan'], '--data_fraction=nan'),
    (
      ['--bits=w9a8'],
      '--bits=w9a8: 9 weight bits; possible are 2 to 8, and 16',
    ),
    (['--bits=w8a1'], '--bits=w8a1: 1 activation bits'),
    (['--bits=w8a8,8'], "--bits=8: right would be such as 'w8a8,w6a6'"),
    (['--granularity=group', '--group_size=0'], '--group_size=0'),
    (['--seeds=0'], '--seeds=0'),
    (['--bits='], '--bits is empty'),
    (['--bits=w8a8,w8a8'], 'twice'),
    (['w8a8'], "unknown argument 'w8a8'"),
    (['--smoke', '--', 'more'], "unknown argument 'more'"),
    (
      ['--placement=quantface', '--ranges=learned'],
      '--ranges=learned needs --placement=inputs',
    ),
    (['--folds=4', '--test_set=bin'], '--folds=4 needs --test_set=people'),
  ],
)
def test_bad_flags_end_with_one_line(flags, message, tmp_path):
  output = tmp_path / 'out'
  done = start(f'--output_dir={output}', *flags)
  assert done.returncode == 2
  assert done.stdout == ''
  assert done.stderr.count('\n') == 1
  assert done.stderr.startswith('error: ')
  assert message in done.stderr
  assert not output.exists()


PROGRAM = """
import sys
from absl import flags
from compress.errors import InputError
from experiments import cli

kind = flags.DEFINE_string('kind', None, 'How to end.')
if 'study' in sys.argv[1]:
  flags.DEFINE_boolean('resume', True, 'Go on.')

def main():
  if kind.value == 'input':
    raise InputError('a photograph\\nis no image')
  if kind.value == 'diverge':
    raise FloatingPointError('Step 3: loss is nan.')
  if 'interrupt' in kind.value:
    raise KeyboardInterrupt
  if kind.value == 'fault':
    raise ValueError('a fault')
  print('done')

cli.run(main)
"""


@pytest.mark.parametrize(
  'kind, status, out, err',
  [
    ('none', 0, 'done\n', ''),
    ('input', 2, '', 'error: a photograph is no image\n'),
    (
      'diverge',
      2,
      '',
      'error: training diverged: Step 3: loss is nan. A lower learning rate '
      'may help.\n',
    ),
    ('interrupt', 130, '', 'interrupted\n'),
    (
      'interrupt study',
      130,
      '',
      'interrupted; run the same command to resume\n',
    ),
    (
      'interrupt study --noresume',
      130,
      '',
      'interrupted; run the same command without --noresume to go on\n',
    ),
    ('fault', 1, '', None),
  ],
)
def test_how_a_binary_ends(kind, status, out, err, tmp_path):
  program = tmp_path / 'program.py'
  program.write_text(PROGRAM)
  done = subprocess.run(
    [sys.executable, program, f'--kind={kind}', *kind.split()[2:]],
    capture_output=True,
    text=True,
    timeout=60,
    env={**os.environ, 'PYTHONPATH': os.getcwd()},
    check=False,
  )
  assert (done.returncode, done.stdout) == (status, out)
  if err is None:
    assert 'Traceback' in done.stderr and 'a fault' in done.stderr
  else:
    assert done.stderr == err
