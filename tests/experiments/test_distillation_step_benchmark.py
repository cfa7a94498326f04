"""The benchmark of the distillation step, as small as it gets."""

import json

import pytest

from tests.experiments import command_line
from tests.experiments.command_line import assert_refused, finished

PROGRAM = 'benchmarks.distillation_step'


@pytest.mark.slow
def test_every_figure_is_there(tmp_path):
  path = tmp_path / 'figures.json'
  done = finished(command_line.start(PROGRAM, '--smoke', f'--json={path}'))
  (found,) = json.loads(path.read_text()).values()
  assert set(found) == {'AT'}
  assert set(found['AT']) == {'plain_ms', 'teacher_ms', 'step_ms', 'overhead'}
  assert found['AT']['step_ms'] > 0
  assert 'AT' in done.stdout


@pytest.mark.parametrize(
  'flags, message',
  [
    (['--method=alone'], 'what the others are compared with'),
    (['--json=no/such/folder/x.json'], 'there is no such folder'),
    (['--batch=1'], 'batch'),
  ],
)
def test_bad_flags_are_refused(flags, message):
  assert_refused(command_line.start(PROGRAM, *flags), message)
