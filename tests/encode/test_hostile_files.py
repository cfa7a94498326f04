"""Files that somebody damaged, or made to do damage."""

import functools
import hashlib
import json
import os
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from compress import encode
from compress import packed as packed_lib
from compress.encode import file as file_lib
from compress.encode import streams, tensors
from compress.errors import InputError
from compress.packed import Bucketed, Codebook, Dense, Quantized, Sparse

FAST, SLOW = 5_000, 200_000


@functools.cache
def network():
  """One tensor of each kind and codec that is small enough to mutate."""
  rng = np.random.default_rng(0)
  mask = rng.random((12, 10)) < 0.2
  skewed = rng.geometric(0.5, (40, 12)).clip(0, 7).astype(np.int8)
  return {
    'dense': Dense(jnp.asarray(rng.normal(size=5), jnp.bfloat16)),
    'quantized': Quantized(
      jnp.asarray(skewed), jnp.ones((1, 12)), None, bits=4
    ),
    'offset': Quantized(
      jnp.asarray(skewed.astype(np.uint8)),
      jnp.ones((4, 1, 12)),
      jnp.ones((4, 1, 12), jnp.int32),
      bits=4,
      group_size=10,
    ),
    'sparse': Sparse(
      jnp.asarray(mask),
      Quantized(jnp.ones((12, 10), jnp.int8), jnp.float32(2), None, bits=2),
    ),
    'n_m': Sparse(
      jnp.arange(32).reshape(4, 8) % 4 < 2,
      Dense(jnp.arange(32.0).reshape(4, 8)),
      pattern=(2, 8, -1),
    ),
    'shared': Sparse(
      jnp.asarray(mask),
      Codebook(
        jnp.asarray(rng.integers(0, 5, (1, 12, 10)), jnp.uint8),
        jnp.arange(5.0).reshape(1, 1, 5, 1),
        (12, 10),
      ),
    ),
    'bucketed': Bucketed(
      jnp.asarray(skewed.astype(np.uint8)),
      jnp.zeros(5),
      jnp.ones(5),
      jnp.arange(8.0),
      bits=3,
      bucket_size=100,
    ),
    'product': Codebook(
      jnp.asarray(rng.integers(0, 6, (2, 12, 5)), jnp.uint8),
      jnp.arange(120.0).reshape(2, 5, 6, 2),
      (12, 10),
    ),
  }


def codecs(name):
  def only(*, row_length=None):
    codecs = encode.all_codecs(row_length=row_length)
    return [codec for codec in codecs if codec.name == name]

  return only


@functools.cache
def encoded():
  """(tensor, what it stands for), for every tensor and codec that admits it."""
  found = []
  for codec in (c.name for c in encode.all_codecs()):
    for packed in network().values():
      try:
        tensor = tensors.encode_tensor(packed, codecs=codecs(codec))
      except InputError:
        assert codec == 'sparse'
        continue
      found.append((tensor, np.asarray(packed_lib.unpack(packed))))
  return found


def same(found, expected):
  found = np.asarray(found)
  return found.dtype == expected.dtype and np.array_equal(found, expected)


def test_every_codec_round_trips():
  for tensor, expected in encoded():
    entry = json.loads(json.dumps(tensor.entry))
    found = tensors.decode_tensor(
      streams.Tensor(tensor.parts, entry), max_bytes=10**6
    )
    assert same(packed_lib.unpack(found), expected)
  used = {
    stream['codec']
    for tensor, _ in encoded()
    for stream in tensor.entry['streams'].values()
    if 'codec' in stream
  }
  assert used == {c.name for c in encode.all_codecs()}


def test_codebooks_and_the_rest_through_a_file(tmp_path):
  path = tmp_path / 'network.safetensors'
  encode.save(path, network(), {'model': 'none'})
  found = encode.load(path)
  assert found.metadata == {'model': 'none'}
  for name, packed in network().items():
    assert jax.tree.structure(found.tree[name]) == jax.tree.structure(packed)
    assert same(
      packed_lib.unpack(found.tree[name]), np.asarray(packed_lib.unpack(packed))
    )


def fuzz_files(path, count, seed):
  """Every change of a file is noticed: it never loads as something else."""
  data = path.read_bytes()
  rng = np.random.default_rng(seed)
  header = 8 + int.from_bytes(data[:8], 'little')
  harmless = 0
  for _ in range(count):
    changed = bytearray(data)
    kind = rng.integers(5)
    # Half of the changes go into the header, where the structure is.
    end = header if rng.integers(2) else len(data)
    for _ in range(rng.integers(1, 4)):
      place = int(rng.integers(end))
      if kind == 0:
        changed[place] ^= 1 << rng.integers(8)
      elif kind == 1:
        changed[place] = rng.integers(256)
      elif kind == 2:
        del changed[place : place + int(rng.integers(1, 30))]
      elif kind == 3:
        changed[place:place] = rng.bytes(rng.integers(1, 30))
      else:
        other = int(rng.integers(len(data)))
        changed[place : place + 8] = data[other : other + 8]
      end = min(end, len(changed))
    if changed == data:
      continue
    path.write_bytes(changed)
    try:
      found = encode.load(path)
    except InputError as error:
      assert '\n' not in str(error), str(error)
      continue
    # Blanks of the container's own header may change and mean the same.
    assert found.metadata == {'model': 'none'}
    for name, packed in network().items():
      expected = np.asarray(packed_lib.unpack(packed))
      assert same(packed_lib.unpack(found.tree[name]), expected)
    harmless += 1
  assert harmless <= count // 1000


def fuzz_tensors(count, seed):
  """Bytes and fields that a forger signed anew: refused, or a whole tensor."""
  rng = np.random.default_rng(seed)
  refused = 0
  for _ in range(count):
    tensor, expected = encoded()[rng.integers(len(encoded()))]
    parts = {name: part.copy() for name, part in tensor.parts.items()}
    entry = json.loads(json.dumps(tensor.entry))
    if rng.integers(2) and parts:
      _mutate_part(parts, rng)
    else:
      _mutate_entry(entry, rng)
    try:
      found = tensors.decode_tensor(
        streams.Tensor(parts, entry), max_bytes=10**6
      )
    except ValueError as error:
      refused += 1
      assert '\n' not in str(error), str(error)
      continue
    # What stood between is one of the format's own: it has one shape.
    assert packed_lib.unpack(found).shape == tuple(entry['shape'])
  return refused / count


def _mutate_part(parts, rng):
  name = list(parts)[rng.integers(len(parts))]
  part = parts[name]
  kind = rng.integers(4)
  if kind == 0 or not part.size:
    parts[name] = part[: rng.integers(part.size + 1)]
  elif kind == 1:
    parts[name] = np.append(part, np.uint8(rng.integers(256)))
  elif kind == 2:
    del parts[name]
  else:
    part[rng.integers(part.size)] ^= 1 << rng.integers(8)


VALUES = (
  None,
  True,
  '',
  'float32',
  'object',
  'ans',
  -1,
  0,
  1,
  2,
  3,
  17,
  255,
  2**31,
  2**63,
  10**40,
  0.5,
  float('nan'),
  [],
  [-1],
  [2**40, 2**40],
  [0, 5],
  [[]],
  {},
  {'codec': 'context'},
)


def _mutate_entry(entry, rng):
  places = []

  def walk(node):
    keys = node if isinstance(node, dict) else range(len(node))
    for key in keys:
      places.append((node, key))
      if isinstance(node[key], dict | list):
        walk(node[key])

  walk(entry)
  node, key = places[rng.integers(len(places))]
  if isinstance(node, dict) and rng.integers(4) == 0:
    del node[key]
  else:
    node[key] = VALUES[rng.integers(len(VALUES))]


def test_altered_files(tmp_path):
  path = tmp_path / 'network.safetensors'
  encode.save(path, network(), {'model': 'none'})
  fuzz_files(path, FAST // 2, seed=0)


def test_forged_tensors():
  refused = fuzz_tensors(FAST // 2, seed=0)
  assert refused > 0.5


@pytest.mark.slow
def test_many_altered_files(tmp_path):
  path = tmp_path / 'network.safetensors'
  encode.save(path, network(), {'model': 'none'})
  fuzz_files(path, SLOW // 2, seed=1)


@pytest.mark.slow
def test_many_forged_tensors():
  fuzz_tensors(SLOW // 2, seed=1)


def forge(path, entry, parts, name='a'):
  """A file whose checksums are right."""
  entry = entry | {
    'parts': list(parts),
    'sha256': file_lib._digest(parts),
  }
  body = json.dumps({'version': 2, 'tensors': {name: entry}, 'metadata': {}})
  digest = hashlib.sha256(body.encode()).hexdigest()
  safetensors.numpy.save_file(
    {f'{name}:{part}': array for part, array in parts.items()},
    path,
    metadata={file_lib.FORMAT: f'{digest} {body}'},
  )


@pytest.mark.parametrize('side', [2**13, 2**15, 2**20, 2**39])
def test_bombs_take_no_memory(tmp_path, side):
  """A file of a few bytes that asks for gigabytes."""
  path = tmp_path / 'bomb.safetensors'
  constant = Quantized(jnp.ones((64, 64), jnp.int8), jnp.ones(1), None, bits=8)
  tensor = tensors.encode_tensor(constant, codecs=codecs('ans'))
  forge(path, tensor.entry | {'shape': [side, side]}, tensor.parts)
  assert path.stat().st_size < 2000
  tracemalloc.start()
  try:
    with pytest.raises(InputError, match='tensor a: .*max_bytes|limit'):
      encode.load(path, max_bytes=10**8)
    assert tracemalloc.get_traced_memory()[1] < 10**7
  finally:
    tracemalloc.stop()


def test_names_that_cannot_both_be(tmp_path):
  path = tmp_path / 'network.safetensors'
  tree = {'a': Dense(jnp.ones(2)), 'a/b': Dense(jnp.ones(2))}
  encode.save(path, tree)
  with pytest.raises(InputError, match='tensor a/b: a is a tensor too'):
    encode.load(path)


def test_headers_of_another_kind(tmp_path):
  path = tmp_path / 'network.safetensors'
  deep = '[' * 100_000
  for body in ('{}', '[]', 'null', '{"version":2}', deep, '{"version":1,'):
    digest = hashlib.sha256(body.encode()).hexdigest()
    for text in (f'{digest} {body}', body):
      safetensors.numpy.save_file(
        {'a': np.zeros(1)}, path, metadata={file_lib.FORMAT: text}
      )
      with pytest.raises(InputError, match='none of a compressed network'):
        encode.load(path)


def test_one_tensor_is_read_without_the_others(tmp_path):
  path = tmp_path / 'network.safetensors'
  encode.save(path, network())
  data = bytearray(path.read_bytes())
  data[-1] ^= 1
  path.write_bytes(data)
  with encode.File(path) as file:
    assert set(file.names) == set(network())
    good = bad = 0
    for name in file.names:
      try:
        file.read(name)
        good += 1
      except InputError as error:
        assert f'tensor {name} was altered' in str(error)
        bad += 1
    assert (good, bad) == (len(network()) - 1, 1)
    with pytest.raises(InputError, match="no tensor 'x'"):
      file.read('x')


def test_a_write_that_stops_at_any_byte(tmp_path, monkeypatch):
  """The old file is whole, and nothing else is left."""
  path = tmp_path / 'network.safetensors'
  size = encode.save(path, network(), {'old': True})
  before = path.read_bytes()
  real = os.fdopen

  class Stops(Exception):
    pass

  for stop in [*range(0, size, max(1, size // 40)), size - 1]:

    class Full:
      """A disk that is full after some bytes."""

      def __init__(self, handle, mode):
        self.file = real(handle, mode)

      def __enter__(self):
        return self

      def __exit__(self, *error):
        self.file.close()

      def write(self, data, stop=stop):
        self.file.write(data[:stop])
        raise Stops

    monkeypatch.setattr(os, 'fdopen', Full)
    with pytest.raises(Stops):
      encode.save(path, network(), {'old': False})
    monkeypatch.setattr(os, 'fdopen', real)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
