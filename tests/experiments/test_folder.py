import json
import os

import pytest

from compress.errors import InputError
from experiments.folder import open_folder, write_json

CONFIG = {'bits': [8, 6], 'steps': 40}


def opened(path, study='study', config=None, *, resume=True):
  return open_folder(str(path), study, config or CONFIG, resume=resume)


def listing(path):
  return sorted(str(p.relative_to(path)) for p in path.rglob('*'))


def test_a_new_folder_records_whose_it_is(tmp_path):
  folder = opened(tmp_path / 'a' / 'b')
  assert folder == tmp_path / 'a' / 'b'
  record = json.loads((folder / 'run.json').read_text())
  assert record == {'study': 'study', 'config': CONFIG}
  assert listing(folder) == ['run.json']


def test_an_empty_folder_is_taken(tmp_path):
  assert opened(tmp_path) == tmp_path


def test_the_same_run_resumes(tmp_path):
  opened(tmp_path, config={'bits': (8, 6), 'steps': 40})
  (tmp_path / 'entry.json').write_text('{}')
  assert opened(tmp_path) == tmp_path
  assert listing(tmp_path) == ['entry.json', 'run.json']


def test_not_resumed_starts_anew(tmp_path):
  opened(tmp_path)
  (tmp_path / 'networks').mkdir()
  (tmp_path / 'networks' / 'entry.json').write_text('{}')
  opened(tmp_path, config={'bits': [4]}, resume=False)
  assert listing(tmp_path) == ['run.json']
  record = json.loads((tmp_path / 'run.json').read_text())
  assert record['config'] == {'bits': [4]}


def test_not_resumed_through_a_link(tmp_path):
  target, link = tmp_path / 'target', tmp_path / 'link'
  opened(target)
  (target / 'entry.json').write_text('{}')
  os.symlink(target, link)
  opened(link, resume=False)
  assert link.is_symlink()
  assert listing(target) == ['run.json']


@pytest.mark.parametrize(
  'other, message',
  [
    ({'study': 'pruning'}, "holds the study 'pruning', not 'study'"),
    (
      {'config': {'bits': [8], 'steps': 40}},
      r'another bits \(\[8\], now \[8, 6\]\)',
    ),
    ({'config': {'steps': 40}}, 'another bits'),
    ({'config': CONFIG | {'lr': 0.1}}, 'another lr'),
  ],
)
def test_another_run_is_refused_and_left_alone(other, message, tmp_path):
  opened(tmp_path, **other)
  (tmp_path / 'entry.json').write_text('{}')
  before = {p: p.read_bytes() for p in tmp_path.iterdir()}
  with pytest.raises(InputError, match=message):
    opened(tmp_path)
  assert before == {p: p.read_bytes() for p in tmp_path.iterdir()}


@pytest.mark.parametrize('resume', [True, False])
def test_what_is_no_output_is_never_touched(resume, tmp_path):
  photograph = tmp_path / 'holiday.jpg'
  photograph.write_bytes(b'sea')
  with pytest.raises(InputError, match='not empty, and no output of study'):
    opened(tmp_path, resume=resume)
  assert photograph.read_bytes() == b'sea'
  with pytest.raises(InputError, match='a file; give a folder'):
    opened(photograph, resume=resume)
  with pytest.raises(InputError, match='holiday.jpg/inside'):
    opened(photograph / 'inside', resume=resume)


def test_another_study_is_not_removed(tmp_path):
  opened(tmp_path, study='pruning')
  with pytest.raises(InputError, match='pruning'):
    opened(tmp_path, resume=False)
  assert listing(tmp_path) == ['run.json']


@pytest.mark.parametrize('text', ['{"study": ', '[]', '3', b'\xff\xfe'])
def test_a_damaged_record(text, tmp_path):
  data = text if isinstance(text, bytes) else text.encode()
  (tmp_path / 'run.json').write_bytes(data)
  for resume in (True, False):
    with pytest.raises(InputError, match='run.json: damaged'):
      opened(tmp_path, resume=resume)


def test_a_record_without_settings(tmp_path):
  (tmp_path / 'run.json').write_text('{"study": "study", "config": 3}')
  with pytest.raises(InputError, match='run.json: damaged'):
    opened(tmp_path)


def test_json_is_whole_or_not_there(tmp_path):
  path = tmp_path / 'entry.json'
  write_json(path, {'a': 1})
  assert path.read_text() == '{\n  "a": 1\n}\n'
  for bad in (float('nan'), object()):
    with pytest.raises((ValueError, TypeError)):
      write_json(path, {'a': bad})
  assert json.loads(path.read_text()) == {'a': 1}
  assert listing(tmp_path) == ['entry.json']
