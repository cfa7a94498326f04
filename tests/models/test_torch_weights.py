import pickle
import zipfile

import jax
import numpy as np
import pytest

from compress.errors import InputError
from compress.models import load_iresnet
from compress.models.torch_weights import read_state_dict
from tests.models.networks import (
  BLOCKS,
  FEATURES,
  IRESNET_EMBEDDINGS,
  WIDTHS,
  images,
  iresnet_state,
)
from tests.models.torch_files import pickled, write_pth


class Attack:
  def __reduce__(self):
    return (eval, ('1 + 1',))


@pytest.fixture
def path(tmp_path):
  return tmp_path / 'backbone.pth'


def one(array, **options):
  """Returns the arguments of a file with one array, its pickle changed."""
  state = {'fc.weight': np.asarray(array, np.float32)}
  return {'state': state, 'data_pkl': pickled(state, **options)}


def test_agrees_with_torch(path):
  module, variables = load_iresnet(write_pth(path, iresnet_state()))
  assert module.blocks == BLOCKS
  assert module.widths == WIDTHS
  assert module.features == FEATURES
  embeddings = jax.jit(module.apply)(variables, images())
  error = np.abs(embeddings - np.array(IRESNET_EMBEDDINGS)).max()
  assert error < 1e-5 * np.abs(IRESNET_EMBEDDINGS).max()


def test_reads_views_and_types(path):
  state = {
    'half': np.array([1.5, -2.0], np.float16),
    'transposed': np.arange(6, dtype=np.float32).reshape(2, 3).T,
    'count': np.int64(7),
    'empty': np.zeros((0, 3), np.float32),
  }
  # The storage of a transposed view lies in the order of its base.
  stored = {**state, 'transposed': np.arange(6, dtype=np.float32)}
  read = read_state_dict(
    write_pth(path, stored, data_pkl=pickled(state)), right='a state dict'
  )
  assert list(read) == list(state)
  for name, array in state.items():
    np.testing.assert_array_equal(read[name], array)
    assert read[name].dtype == np.asarray(array).dtype


def test_prefix_of_parallel_training(path):
  state = {f'module.{k}': v for k, v in iresnet_state().items()}
  module, _ = load_iresnet(write_pth(path, state))
  assert module.blocks == BLOCKS


@pytest.mark.parametrize(
  ('written', 'message'),
  [
    (one([1.0], count=2), 'storage 0 has 4 bytes instead of 8'),
    (one([1.0], offset=1), 'reaches past its storage'),
    ({**one([1.0]), 'leave_out': '0'}, 'a damaged PyTorch file'),
    ({**one([1.0]), 'data_pkl': pickle.dumps(Attack())}, 'asks for .*eval'),
    ({**one([1.0]), 'data_pkl': pickle.dumps([1])}, 'tensors under names'),
    ({**one([1.0]), 'data_pkl': b'\x80\x02garbage'}, 'a damaged PyTorch file'),
  ],
)
def test_unsafe_or_damaged_archives(path, written, message):
  with pytest.raises(InputError, match=message) as caught:
    load_iresnet(write_pth(path, **written))
  assert str(path) in str(caught.value)
  assert '\n' not in str(caught.value)


def test_truncated(path):
  write_pth(path, iresnet_state())
  path.write_bytes(path.read_bytes()[:-1000])
  with pytest.raises(InputError, match='truncated'):
    load_iresnet(path)


@pytest.mark.parametrize(
  ('data', 'message'),
  [
    (pickle.dumps({'a': 1}, protocol=2), 'before 1.6 .*torch.save'),
    (b'random bytes', 'no PyTorch file'),
    (b'', 'empty'),
  ],
)
def test_other_files(path, data, message):
  path.write_bytes(data)
  with pytest.raises(InputError, match=message):
    load_iresnet(path)


def test_missing_file(path):
  with pytest.raises(InputError, match='no such file'):
    load_iresnet(path)


def test_another_zip(path):
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('word/document.xml', '')
  with pytest.raises(InputError, match=r'without data\.pkl'):
    load_iresnet(path)


def changed(**arrays):
  """Returns the state with entries replaced, or removed where None."""
  state = {**iresnet_state(), **arrays}
  return {name: array for name, array in state.items() if array is not None}


@pytest.mark.parametrize(
  ('arrays', 'message'),
  [
    ({'layer1.0.se.fc1.weight': np.zeros(3, np.float32)}, 'no part of an IRes'),
    ({'layer2.1.bn1.bias': None}, 'missing, first params/stage2/block1/bn1/b'),
    ({'layer3.0.conv1.weight': None}, 'four stages'),
    ({'bn1.bias': np.zeros(5, np.float32)}, r'has shape \[5\] instead of \[4'),
    ({'bn1.bias': np.full(4, np.nan, np.float32)}, 'not finite'),
    ({'fc.weight': np.zeros((7, 640), np.float32)}, 'params/fc/kernel has sha'),
  ],
)
def test_other_networks(path, arrays, message):
  with pytest.raises(InputError, match=message) as caught:
    load_iresnet(write_pth(path, changed(**arrays)))
  assert 'backbone.pth' in str(caught.value)
