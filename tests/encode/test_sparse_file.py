import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from compress import encode
from compress import packed as packed_lib
from compress.encode import streams, tensors
from compress.packed import Dense, Quantized, Sparse


def example():
  key = jax.random.key(0)
  codes = jax.random.randint(key, (8, 3, 5), -4, 4).astype(jnp.int8)
  drawn = jax.random.bernoulli(key, 0.3, codes.shape)
  one_of_four = jnp.broadcast_to(
    (jnp.arange(8) % 4 == 2)[:, None, None], codes.shape
  )
  quantized = Quantized(codes, jnp.ones((1, 1, 5)) / 3, None, bits=3)
  offset = Quantized(
    (codes + 4).astype(jnp.uint8), jnp.float32(0.5), jnp.int32(4), bits=3
  )
  half = jax.random.normal(key, (7, 9), jnp.bfloat16)
  return {
    'quantized': Sparse(drawn, quantized),
    'offset': Sparse(drawn, offset),
    'indices': Sparse(one_of_four, quantized, pattern=(1, 4, -3)),
    'broken': Sparse(drawn, quantized, pattern=(1, 4, -3)),
    'half': Sparse(half > 0, Dense(half)),
    'nothing': Sparse(jnp.zeros((2, 3), bool), Dense(jnp.ones((2, 3)))),
    'all': Sparse(jnp.ones((2, 3), bool), Dense(jnp.ones((2, 3)))),
    'scalar': Sparse(jnp.bool_(True), Dense(jnp.float32(2))),
  }


def test_round_trip(tmp_path):
  tree, path = example(), tmp_path / 'model.safetensors'
  encode.save(path, tree)
  found = encode.load(path).tree
  for name, packed in tree.items():
    assert isinstance(found[name], Sparse)
    assert found[name].pattern == packed.pattern
    np.testing.assert_array_equal(found[name].mask, packed.mask)
    values = packed_lib.unpack(found[name])
    assert values.dtype == packed_lib.unpack(packed).dtype
    np.testing.assert_array_equal(values, packed_lib.unpack(packed), name)


@pytest.mark.parametrize('name', example())
def test_reported_bytes_are_the_bytes_on_disk(name, tmp_path):
  tree, path = {name: example()[name]}, tmp_path / 'model.safetensors'
  encode.save(path, tree, codecs=encode.plain_codecs)
  stored = safetensors.numpy.load_file(path)
  assert sum(a.nbytes for a in stored.values()) == packed_lib.tree_nbytes(tree)
  assert (f'{name}:indices.stream' in stored) == (name == 'indices')


@pytest.mark.parametrize(
  ('name', 'part', 'change'),
  [
    ('half', 'mask.stream', lambda x: x[:-1]),
    ('half', 'mask.stream', lambda x: x ^ 1),
    ('quantized', 'mask.stream', lambda x: np.concatenate([x, x])),
    ('all', 'values', lambda x: x[:-4]),
  ],
)
def test_parts_that_do_not_belong_together(name, part, change):
  parts, entry = tensors.encode_tensor(
    example()[name], codecs=encode.plain_codecs
  )
  parts[part] = change(parts[part])
  with pytest.raises(ValueError, match='mask|values|indices|places|bytes'):
    tensors.decode_tensor(streams.Tensor(parts, entry), max_bytes=10**6)
