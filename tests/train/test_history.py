import json

import numpy as np
import pytest

from compress.errors import InputError
from compress.train import history


def test_numbers_come_back_bit_equal():
  metrics = {
    'loss': np.float32(0.1),
    'tiny': np.float32(1e-45),
    'many': np.asarray([1, 2.5], np.float32),
  }
  record = history.from_line(history.to_line(3, metrics))
  assert record['step'] == 3
  assert np.float32(record['loss']) == metrics['loss']
  assert np.float32(record['tiny']) == metrics['tiny']
  assert record['many'] == [1.0, 2.5]


def test_non_finite_numbers_are_null_with_a_note():
  metrics = {'loss': np.nan, 'ranges': np.asarray([-np.inf, 1.0])}
  line = history.to_line(1, metrics)
  assert json.loads(line) == {
    'step': 1,
    'loss': None,
    'loss_note': 'NaN',
    'ranges': None,
    'ranges_note': ['-Infinity', 1.0],
  }
  record = history.from_line(line)
  assert np.isnan(record['loss']) and record['ranges'] == [-np.inf, 1.0]
  assert set(record) == {'step', 'loss', 'ranges'}


def test_no_metric_is_called_step():
  with pytest.raises(ValueError, match='called step'):
    history.to_line(1, {'step': 2.0})


def write(path, steps, tail=''):
  lines = [history.to_line(step, {'loss': step / 3}) for step in steps]
  path.write_text(''.join(lines) + tail)
  return lines


def test_rewind_cuts_later_steps_and_a_torn_line(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  lines = write(path, range(1, 6), '{"step": 6, "lo')
  assert [r['step'] for r in history.read_history(path)] == [1, 2, 3, 4, 5]
  records = history.rewind(path, last=3)
  assert [r['step'] for r in records] == [1, 2, 3]
  assert path.read_text() == ''.join(lines[:3])
  assert [file.name for file in tmp_path.iterdir()] == ['metrics.jsonl']


def test_a_torn_line_that_happens_to_be_json_is_cut_too(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  lines = write(path, [1, 2], '{"step": 3}')
  assert len(history.rewind(path, last=9)) == 2
  assert path.read_text() == ''.join(lines)


def test_rewind_starts_a_file(tmp_path):
  assert history.rewind(tmp_path / 'metrics.jsonl', last=0) == []
  assert (tmp_path / 'metrics.jsonl').read_text() == ''


@pytest.mark.parametrize('line', ['nonsense', '[1]', '{"loss": 1}', '\xff'])
def test_a_line_of_something_else_is_named(tmp_path, line):
  path = tmp_path / 'metrics.jsonl'
  good = history.to_line(1, {'loss': 0.5})
  path.write_text(good + line + '\n' + good, encoding='latin-1')
  with pytest.raises(InputError, match='line 2 is not'):
    history.read_history(path)
