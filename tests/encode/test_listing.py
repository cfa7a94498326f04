"""What a file's listing says."""

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest

from compress import encode
from compress.encode.__main__ import main
from compress.packed import Codebook, Dense, Quantized, Sparse


@pytest.fixture
def path(tmp_path):
  codes = np.tile(np.array([0, 1, 2, 3], np.int8), (16, 4))
  mask = np.tile(np.array([True, False]), (16, 8))
  tree = {
    'a': {'kernel': Quantized(jnp.asarray(codes), jnp.ones(1), None, bits=4)},
    'b': Dense(jnp.ones((2, 3))),
    'c': Sparse(
      jnp.asarray(mask),
      Codebook(
        jnp.asarray(codes[None].astype(np.uint8)),
        jnp.ones((1, 1, 4, 1)),
        (16, 16),
      ),
    ),
    'none': Dense(jnp.ones((0, 3))),
  }
  path = tmp_path / 'network.safetensors'
  encode.save(path, tree, {'model': 'toy'}, codecs=encode.plain_codecs)
  return path


def test_rows_by_hand(path):
  with encode.File(path) as file:
    rows = {row.name: row for row in encode.list_file(file)}
  kernel = rows['a/kernel']
  # 256 codes of 2 bits, and a scale.
  assert kernel.bytes == 256 * 2 // 8 + 4
  assert kernel.bits_per_weight == 8 * kernel.bytes / 256
  assert kernel.entropy == 2 and kernel.method == '4 bits plain'
  assert rows['b'].bytes == 24 and rows['b'].bits_per_weight == 32
  assert math.isnan(rows['b'].entropy) and rows['b'].method == 'float32'
  # One bit for where, and of each second value one: 0 or 2.
  assert rows['c'].entropy == 1 + 0.5
  assert rows['c'].method == 'sparse plain, 4 centroids plain'
  assert rows['c'].shape == (16, 16)
  assert math.isnan(rows['none'].bits_per_weight)
  assert sum(row.share for row in rows.values()) == pytest.approx(1)


def test_command(path, capsys):
  assert main([str(path)]) == 0
  text = capsys.readouterr().out
  assert '16×16' in text and 'a/kernel' in text and 'model: toy' in text
  assert f'{path.stat().st_size:,} bytes with its header' in text
  assert main([str(path), '--sort=bytes', '--json']) == 0
  rows = json.loads(capsys.readouterr().out)
  sizes = [row['bytes'] for row in rows]
  assert sizes == sorted(sizes, reverse=True)
  assert rows[-1]['bits_per_weight'] is None


def test_bad_input(path, capsys):
  data = path.read_bytes()
  path.write_bytes(data[: len(data) // 2])
  for bad in (path, path.with_name('missing')):
    assert main([str(bad)]) == 2
    found = capsys.readouterr()
    assert found.out == '' and found.err.count('\n') == 1
    assert str(bad) in found.err
  path.write_bytes(data)
  assert main([str(path), '--max_bytes=10']) == 2
  assert 'max_bytes=10' in capsys.readouterr().err
