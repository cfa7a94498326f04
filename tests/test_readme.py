"""The README's words are true: its code runs, its flags exist."""

import pathlib
import re
import subprocess
import sys

README = (pathlib.Path(__file__).parent.parent / 'README.md').read_text(
  encoding='utf-8'
)


def test_the_api_example_runs(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  code = re.search(r'```python\n(.*?)```', README, re.DOTALL)[1]
  names = {}
  exec(compile(code, 'README.md', 'exec'), names)
  assert names['embeddings'].shape == (8, 128)
  assert (tmp_path / 'sface_w6.safetensors').stat().st_size == names['size']
  stored, small = names['again']['fc']['kernel'], names['small']['params']
  assert (stored == small['fc']['kernel']).all()


def test_the_flags_exist():
  done = subprocess.run(
    [sys.executable, '-m', 'experiments.face_quantization', '--help'],
    capture_output=True,
    text=True,
    check=True,
    cwd=pathlib.Path(__file__).parent.parent,
  )
  known = set(re.findall(r'--(?:\[no\])?([a-z_]+)', done.stdout))
  mentioned = set(re.findall(r'--(?:no)?([a-z_]+)', README)) - {'help'}
  known_with_no = known | {f'no{flag}' for flag in known}
  assert mentioned <= known_with_no, mentioned - known_with_no


def test_the_pictures_are_there():
  for path in re.findall(r'!\[[^]]*\]\(([^)]+)\)', README):
    assert (pathlib.Path(__file__).parent.parent / path).is_file(), path
