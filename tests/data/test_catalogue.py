import gzip
import struct

import numpy as np
import pytest

from compress import data
from compress.data.image_files import cifar10_examples
from compress.errors import InputError


def idx(array):
  header = b'\x00\x00\x08' + bytes([array.ndim])
  return header + struct.pack(f'>{array.ndim}I', *array.shape) + array.tobytes()


@pytest.fixture(scope='module')
def mnist(tmp_path_factory):
  """A folder with 40 and 10 images; pixel (0, 0) is 10 times the label."""
  folder = tmp_path_factory.mktemp('mnist')
  for stem, count in (('train', 40), ('t10k', 10)):
    labels = (np.arange(count) % 10).astype(np.uint8)
    images = np.zeros((count, 28, 28), np.uint8)
    images[:, 0, 0] = 10 * labels
    for kind, array in (('images-idx3', images), ('labels-idx1', labels)):
      path = folder / f'{stem}-{kind}-ubyte.gz'
      path.write_bytes(gzip.compress(idx(array)))
  return folder


@pytest.fixture(scope='module')
def cifar(tmp_path_factory):
  folder = tmp_path_factory.mktemp('cifar') / 'cifar-10-batches-bin'
  folder.mkdir()
  rng = np.random.default_rng(0)
  for name in ('data_batch_1', 'data_batch_2', 'test_batch'):
    records = rng.integers(0, 256, (10, 3073), np.uint8)
    records[:, 0] = np.arange(10)
    (folder / f'{name}.bin').write_bytes(records.tobytes())
  return folder.parent


def test_mnist_from_its_own_files_then_from_the_prepared_copy(mnist, tmp_path):
  options = {'validation': 0.5, 'seed': 3}
  splits = data.load_tfds('fashion_mnist', tmp_path, source=mnist, **options)
  assert [len(part) for part in splits] == [20, 20, 10]
  for part in splits:
    assert part.image_shape == (28, 28, 1)
    np.testing.assert_array_equal(part.images[:, 0, 0, 0], 10 * part.labels)
  assert splits.test.classes[9] == 'Ankle boot'
  again = data.load_tfds('fashion_mnist', tmp_path, **options)
  np.testing.assert_array_equal(again.train.images, splits.train.images)
  assert (tmp_path / 'fashion_mnist').is_dir()


def test_validation_is_held_out_of_training(mnist, tmp_path):
  splits = data.load_tfds('mnist', tmp_path, source=mnist, validation=0.25)
  assert [len(part) for part in splits] == [30, 10, 10]
  assert np.bincount(splits.validation.labels).tolist() == [1] * 10


def test_cifar_planes_become_channels(cifar, tmp_path):
  splits = data.load_tfds('cifar10', tmp_path, source=cifar, validation=0.5)
  assert [len(part) for part in splits] == [10, 10, 10]
  raw = (cifar / 'cifar-10-batches-bin' / 'test_batch.bin').read_bytes()
  records = np.frombuffer(raw, np.uint8).reshape(10, 3073)
  order = np.argsort(splits.test.labels)
  first = splits.test.images[order[0]]
  np.testing.assert_array_equal(first[..., 1].ravel(), records[0, 1025:2049])


def test_wrong_names_and_folders_are_refused(mnist, tmp_path):
  with pytest.raises(InputError, match='no set of the catalogue'):
    data.load_tfds('no_such_set_at_all', tmp_path)
  with pytest.raises(InputError, match='not prepared from files'):
    data.load_tfds('imagenette', tmp_path, source=mnist)
  with pytest.raises(InputError, match='no such folder'):
    data.load_tfds('mnist', tmp_path, source=tmp_path / 'none')
  with pytest.raises(InputError, match='data_batch'):
    data.load_tfds('cifar10', tmp_path, source=mnist)
  with pytest.raises(InputError, match='no image classification set'):
    data.load_tfds('lfw', tmp_path)


def test_damaged_files_are_refused(tmp_path):
  path = tmp_path / 'file'
  whole = idx(np.zeros((2, 3), np.uint8))
  path.write_bytes(whole)
  assert data.read_idx(path).shape == (2, 3)
  for content, message in (
    (whole[:-1], '5 values follow'),
    (whole[:6], 'no IDX'),
    (b'', 'no IDX'),
    (gzip.compress(whole)[:-9], 'cannot be read|gzip'),
    (b'\x00\x00\x0d\x01' + bytes(8), 'no IDX'),
  ):
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
      data.read_idx(path)
  with pytest.raises(InputError, match='cannot be read'):
    data.read_idx(tmp_path / 'none')
  (tmp_path / 'test_batch.bin').write_bytes(bytes(3072))
  with pytest.raises(InputError, match='no multiple of 3073'):
    list(cifar10_examples(tmp_path, 'test'))
