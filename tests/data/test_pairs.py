import numpy as np
import pytest
from PIL import Image

from compress.data import align, pairs
from compress.errors import InputError


def _save(path, value, size=(112, 112)):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.new('RGB', size, (value, value, value)).save(path, quality=100)


def _value(images):
  return images.mean(axis=(1, 2, 3)).round().tolist()


def test_folder_of_people(tmp_path):
  root = tmp_path / 'mine'
  _save(root / 'bea' / 'x.png', 30)
  _save(root / 'al' / 'b.jpg', 20, (300, 150))
  _save(root / 'al' / 'a.PNG', 10)
  (root / 'al' / 'notes.txt').write_text('not an image')
  (root / 'al' / '._a.png').write_text('not an image')
  (root / '.hidden').mkdir()
  (root / 'empty').mkdir()
  faces = pairs.load_folder(root)
  assert faces.name == 'mine'
  assert faces.paths == ('al/a.PNG', 'al/b.jpg', 'bea/x.png')
  assert faces.identities.tolist() == [1, 1, 2]
  assert _value(faces.images) == [10, 20, 30]


def test_folder_names_that_are_numbers_are_identities(tmp_path):
  for person in ('10', '9', '031'):
    _save(tmp_path / person / '1.png', int(person))
  faces = pairs.load_folder(tmp_path)
  assert faces.identities.tolist() == [9, 10, 31]
  assert _value(faces.images) == [9, 10, 31]


def test_folder_with_landmarks(tmp_path):
  _save(tmp_path / 'al' / 'a.png', 200, (224, 224))
  landmarks = {'al/a.png': 2 * align.TEMPLATE + 0.5}
  faces = pairs.load_folder(tmp_path, landmarks=landmarks)
  assert (faces.images[0, 1:-1, 1:-1] == 200).all()
  with pytest.raises(InputError, match='landmarks do not list al/a.png'):
    pairs.load_folder(tmp_path, landmarks={})
  landmarks['al/a.png'] = np.full((5, 2), np.nan)
  with pytest.raises(InputError, match='a.png: landmarks must be finite'):
    pairs.load_folder(tmp_path, landmarks=landmarks)


def test_wrong_folders_are_refused(tmp_path):
  with pytest.raises(InputError, match='no such folder'):
    pairs.load_folder(tmp_path / 'none')
  _save(tmp_path / 'flat.png', 1)
  with pytest.raises(InputError, match='one sub-folder per person'):
    pairs.load_folder(tmp_path)
  (tmp_path / 'al').mkdir()
  (tmp_path / 'al' / 'a.png').write_text('not an image')
  with pytest.raises(InputError, match='a.png: not an image'):
    pairs.load_folder(tmp_path)


@pytest.fixture
def lfw(tmp_path):
  for value, name in enumerate(('Ann', 'Bob'), start=1):
    for k in (1, 2):
      _save(tmp_path / name / f'{name}_{k:04d}.jpg', 20 * value + k)
  return tmp_path


def test_lfw_layout(lfw):
  text = '2\t1\nAnn\t1\t2\nAnn\t1\tBob\t2\nBob\t1\t2\nBob\t1\tAnn\t2\n'
  (lfw / 'pairs.txt').write_text(text)
  loaded = pairs.load_pairs(lfw / 'pairs.txt', lfw)
  # Each photograph once, as the list first names it.
  assert _value(loaded.images) == [21, 22, 42, 41]
  assert loaded.pairs.tolist() == [[0, 1], [0, 2], [3, 2], [3, 1]]
  assert loaded.genuine.tolist() == [True, False] * 2
  assert loaded.folds.tolist() == [0, 0, 1, 1]
  assert loaded.identities.tolist() == [0, 0, 1, 1]


def test_cross_layout(tmp_path):
  for value, file in enumerate(('Ann_0001', 'Ann_0002', 'Bob_0001')):
    _save(tmp_path / 'aligned images' / f'{file}.jpg', 10 * value)
  text = 'Ann_0001.jpg 1\nAnn_0002.jpg 1\nAnn_0002.jpg 0\nBob_0001.jpg 0\n'
  (tmp_path / 'pairs_CALFW.txt').write_text(text)
  loaded = pairs.load_pairs(
    tmp_path / 'pairs_CALFW.txt', tmp_path / 'aligned images'
  )
  assert loaded.name == 'pairs_CALFW'
  assert _value(loaded.images) == [0, 10, 20]
  assert loaded.pairs.tolist() == [[0, 1], [1, 2]]
  assert loaded.genuine.tolist() == [True, False]
  # A mark that the names contradict.
  (tmp_path / 'pairs_CALFW.txt').write_text(text.replace(' 0', ' 1'))
  with pytest.raises(InputError, match='pair 1 is marked same'):
    pairs.load_pairs(tmp_path / 'pairs_CALFW.txt', tmp_path / 'aligned images')


def test_sllfw_layout(lfw):
  text = 'Ann/Ann_0001.jpg\nAnn/Ann_0002.jpg\nAnn/Ann_0001.jpg\n'
  (lfw / 'pair_SLLFW.txt').write_text(text + 'Bob/Bob_0001.jpg\n')
  loaded = pairs.load_pairs(lfw / 'pair_SLLFW.txt', lfw, layout='sllfw')
  assert loaded.pairs.tolist() == [[0, 1], [0, 2]]
  assert loaded.genuine.tolist() == [True, False]


def test_wrong_pair_files_are_refused(lfw):
  file = lfw / 'pairs.txt'
  with pytest.raises(InputError, match='pairs.txt: cannot be read'):
    pairs.load_pairs(file, lfw)
  file.write_text('1\nAnn 1 3\nAnn 1 Bob 1\n')
  with pytest.raises(InputError, match='Ann_0003.jpg: cannot be read'):
    pairs.load_pairs(file, lfw)
  with pytest.raises(InputError, match="layout 'other': must be one of"):
    pairs.load_pairs(file, lfw, layout='other')
  with pytest.raises(InputError, match="line 1: '1': right would be 'file"):
    pairs.load_pairs(file, lfw, layout='cross')
  with pytest.raises(InputError, match='no such folder of photographs'):
    pairs.load_pairs(file, lfw / 'none')
  (lfw / 'Bob' / 'Bob_0001.jpg').write_bytes(b'\xff\xd8\xff')
  file.write_text('1\nAnn 1 2\nAnn 1 Bob 1\n')
  with pytest.raises(InputError, match='Bob_0001.jpg: not an image'):
    pairs.load_pairs(file, lfw)
