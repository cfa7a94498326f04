import dataclasses
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress.errors import InputError
from compress.models import MobileFaceNet, load_mobilefacenet, mobilefacenet
from tests.models.networks import images
from tests.models.tflite_files import mobilefacenet_file

TINY = MobileFaceNet(
  features=5,
  stem=4,
  widths=(3, 4, 4),
  expansions=((6, 5), (8, 7), (9, 4)),
  blocks=(1, 2, 1),
  head=6,
  batch_norm=False,
)
# The file is not committed; it is read where this variable names it.
REAL_FILE = os.environ.get('MOBILEFACENET_TFLITE', '')

# The first six features that LiteRT 2 computes for `images()`.
LITERT_EMBEDDINGS = (
  (-0.13611008, 0.58849597, 0.38608015, 0.13072175, -1.2804143, 0.8943939),
  (0.14847507, 0.7020488, 0.3768343, 0.10644872, -1.4363204, 0.5728821),
)


def tiny_params(module=TINY):
  batch = jax.ShapeDtypeStruct((1, 112, 112, 3), jnp.float32)
  shapes = jax.eval_shape(module.init, jax.random.key(0), batch)['params']
  draw = np.random.default_rng(0)

  def fill(leaf):
    fan_in = max(1, leaf.size // leaf.shape[-1])
    return draw.normal(0, fan_in**-0.5, leaf.shape).astype(np.float32)

  return jax.tree.map(fill, shapes)


@pytest.fixture(scope='module')
def tiny_file():
  return mobilefacenet_file(TINY, tiny_params())


@pytest.fixture
def path(tmp_path):
  return tmp_path / 'MobileFaceNet.tflite'


def test_reads_back_every_parameter(tiny_file, path):
  path.write_bytes(tiny_file)
  module, variables = load_mobilefacenet(path)
  assert module == TINY
  jax.tree.map(
    np.testing.assert_array_equal, variables, {'params': tiny_params()}
  )


@pytest.mark.parametrize('share', [0.01, 0.3, 0.7, 0.95])
def test_truncated(share, tiny_file, path):
  path.write_bytes(tiny_file[: int(share * len(tiny_file))])
  with pytest.raises(InputError) as caught:
    load_mobilefacenet(path)
  assert str(path) in str(caught.value)
  assert 'right is the float32 MobileFaceNet.tflite' in str(caught.value)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('seed', range(4))
def test_damaged(seed, tiny_file, path):
  draw = np.random.default_rng(seed)
  data = np.frombuffer(tiny_file, np.uint8).copy()
  data[8:] = draw.integers(0, 256, data.size - 8)
  path.write_bytes(data.tobytes())
  with pytest.raises(InputError, match='damaged'):
    load_mobilefacenet(path)


@pytest.mark.parametrize(
  ('data', 'message'),
  [(b'', 'empty'), (b'random bytes' * 9, 'not a TFLite file')],
)
def test_other_files(data, message, path):
  path.write_bytes(data)
  with pytest.raises(InputError, match=message):
    load_mobilefacenet(path)


def test_missing_file(path):
  with pytest.raises(InputError, match='no such file'):
    load_mobilefacenet(path)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'blocks': (1, 2, 1, 0), 'widths': (3, 4, 4, 4)}, 'three stages'),
    ({'blocks': (1, 2), 'widths': (3, 4)}, 'there are 2 stages instead of 3'),
  ],
)
def test_other_networks(changes, message, path):
  expansions = (*TINY.expansions, (4, 4))[: len(changes['blocks'])]
  module = dataclasses.replace(TINY, **changes, expansions=expansions)
  path.write_bytes(mobilefacenet_file(module, tiny_params(module)))
  with pytest.raises(InputError, match=message):
    load_mobilefacenet(path)


@pytest.mark.skipif(not REAL_FILE, reason='MOBILEFACENET_TFLITE names no file')
def test_real_file_agrees_with_litert():
  module, variables = load_mobilefacenet(REAL_FILE)
  assert module == mobilefacenet()
  embeddings = jax.jit(module.apply)(variables, images())
  assert embeddings.shape == (2, 192)
  error = np.abs(embeddings[:, :6] - np.array(LITERT_EMBEDDINGS)).max()
  assert error < 1e-4
