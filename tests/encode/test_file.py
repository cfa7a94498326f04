import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from compress import encode
from compress import packed as packed_lib
from compress.errors import InputError
from compress.packed import Dense, Quantized


def example():
  key = jax.random.key(0)
  codes = jax.random.randint(key, (50, 7), -32, 32).astype(jnp.int8)
  wide = jax.random.randint(key, (9,), 0, 65536).astype(jnp.uint16)
  return {
    'conv': {
      'kernel': Quantized(codes, jnp.ones((1, 7)) / 3, None, bits=6),
      'bias': Dense(jnp.arange(7.0)),
    },
    'wide': Quantized(wide, jnp.float32(0.5), jnp.int32(70), bits=16),
    'half': Dense(jnp.arange(3, dtype=jnp.bfloat16)),
    'count': Dense(jnp.int32(3)),
  }


def test_round_trip(tmp_path):
  tree, path = example(), tmp_path / 'model.safetensors'
  size = encode.save(path, tree, {'model': 'sface', 'nested': {'a': [1]}})
  assert size == path.stat().st_size
  loaded = encode.load(path)
  assert loaded.metadata == {'model': 'sface', 'nested': {'a': [1]}}
  assert jax.tree.structure(
    loaded.tree, is_leaf=packed_lib.is_packed
  ) == jax.tree.structure(tree, is_leaf=packed_lib.is_packed)
  jax.tree.map(np.testing.assert_array_equal, loaded.tree, tree)
  assert loaded.tree['wide'].scale.shape == ()
  assert [p.name for p in tmp_path.iterdir()] == ['model.safetensors']


def test_reported_bytes_are_the_bytes_on_disk(tmp_path):
  tree, path = example(), tmp_path / 'model.safetensors'
  encode.save(path, tree, codecs=encode.plain_codecs)
  stored = safetensors.numpy.load_file(path)
  assert sum(a.nbytes for a in stored.values()) == packed_lib.tree_nbytes(tree)


def test_bad_files(tmp_path):
  path = tmp_path / 'model.safetensors'
  with pytest.raises(InputError, match='no such file'):
    encode.load(path)
  encode.save(path, example())
  data = path.read_bytes()
  for cut in (0, 4, 100, len(data) - 1):
    path.write_bytes(data[:cut])
    with pytest.raises(InputError, match='truncated'):
      encode.load(path)
  changed = bytearray(data)
  changed[-1] ^= 1
  path.write_bytes(changed)
  with pytest.raises(InputError, match='was altered'):
    encode.load(path)
  safetensors.numpy.save_file({'a': np.zeros(3)}, path)
  with pytest.raises(InputError, match='none of a compressed network'):
    encode.load(path)


def test_a_failed_write_leaves_the_old_file(tmp_path):
  path = tmp_path / 'model.safetensors'
  encode.save(path, example())
  before = path.read_bytes()
  with pytest.raises(TypeError):
    encode.save(path, example(), {'model': object()})
  assert path.read_bytes() == before
  assert len(list(tmp_path.iterdir())) == 1


def test_the_same_network_gives_the_same_bytes(tmp_path):
  paths = [tmp_path / f'{i}.safetensors' for i in range(2)]
  for path in paths:
    encode.save(path, example(), {'b': 1, 'a': 2})
  assert paths[0].read_bytes() == paths[1].read_bytes()
