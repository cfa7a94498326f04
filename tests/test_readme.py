"""The README's words are true: its code runs, its flags exist."""

import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

README = (pathlib.Path(__file__).parent.parent / 'README.md').read_text(
  encoding='utf-8'
)


@pytest.mark.slow
def test_the_api_example_runs(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  parts = re.findall(r'```python\n(.*?)```', README, re.DOTALL)[:3]
  first, second, third = parts
  names = {}
  exec(compile(first, 'README.md', 'exec'), names)
  assert names['embeddings'].shape == (8, 128)
  full = names['embeddings']
  exec(compile(second, 'README.md', 'exec'), names)
  assert names['embeddings'].shape == full.shape
  sizes = [
    sum(leaf.size for leaf in jax.tree.leaves(tree))
    for tree in (names['variables'], names['smaller'].variables)
  ]
  assert sizes[1] < 0.5 * sizes[0]
  assert (tmp_path / 'sface_w6.safetensors').stat().st_size == names['size']
  stored, small = names['again']['fc']['kernel'], names['small']['params']
  assert (stored == small['fc']['kernel']).all()
  exec(compile(third, 'README.md', 'exec'), names)
  assert names['bits'] == {'first': 8, 'last': 4}
  assert names['made'].loss[1] < names['made'].loss[0]
  slopes = jax.tree.leaves(names['gradient'])
  assert all(np.isfinite(x).all() for x in slopes)
  assert max(np.abs(x).max() for x in slopes) > 0


def test_the_flags_exist():
  root = pathlib.Path(__file__).parent.parent
  known = set()
  for study in sorted((root / 'experiments').glob('*.py')):
    if 'cli.run(' not in study.read_text(encoding='utf-8'):
      continue
    done = subprocess.run(
      [sys.executable, '-m', f'experiments.{study.stem}', '--help'],
      capture_output=True,
      text=True,
      check=True,
      cwd=root,
    )
    known |= set(re.findall(r'--(?:\[no\])?([a-z_]+)', done.stdout))
  mentioned = set(re.findall(r'--(?:no)?([a-z_]+)', README)) - {'help'}
  known_with_no = known | {f'no{flag}' for flag in known}
  assert mentioned <= known_with_no, mentioned - known_with_no


def test_the_pictures_are_there():
  for path in re.findall(r'!\[[^]]*\]\(([^)]+)\)', README):
    assert (pathlib.Path(__file__).parent.parent / path).is_file(), path
