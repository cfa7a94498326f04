import numpy as np
import pytest
from PIL import Image

from compress.data import lfw
from compress.errors import InputError


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A folder in LFW's layout: Ann 1, Bob 2, Cy 3 photographs."""
  root = tmp_path_factory.mktemp('lfw')
  for value, name in enumerate(('Ann_A', 'Bob_B', 'Cy_C'), start=1):
    (root / name).mkdir()
    for k in range(1, value + 1):
      pixels = np.zeros((250, 250, 3), np.uint8)
      pixels[69:181, 69:181] = 40 * value + 5 * k
      Image.fromarray(pixels).save(
        root / name / f'{name}_{k:04d}.jpg', quality=100
      )
  (root / 'readme.txt').write_text('not a person')
  return root


def test_people_photographs_and_crop(folder, tmp_path):
  faces = lfw.load_lfw(tmp_path, source=folder)
  assert faces.identities.tolist() == [0, 1, 1, 2, 2, 2]
  assert faces.paths[0] == 'Ann_A/1'
  assert faces.images.shape == (6, 112, 112, 3)
  middle = faces.images[:, 40:70, 40:70].mean(axis=(1, 2, 3))
  assert sorted(middle[1:3].round()) == [85, 90]
  # A wider square brings black borders in.
  wide = lfw.load_lfw(tmp_path, source=folder, crop=200)
  assert wide.images[0, 0].max() < 10 and faces.images[0, 0].min() > 30


def test_the_prepared_copy_needs_no_source(folder, tmp_path):
  lfw.load_lfw(tmp_path, source=folder)
  faces = lfw.load_lfw(tmp_path, min_photos=2)
  assert faces.identities.tolist() == [1, 1, 2, 2, 2]
  assert (tmp_path / 'lfw' / '0.1.1').is_dir()
  with pytest.raises(InputError, match='nobody has 4 photographs'):
    lfw.load_lfw(tmp_path, min_photos=4)
  with pytest.raises(InputError, match='does not fit'):
    lfw.load_lfw(tmp_path, crop=251)


def test_wrong_sources_are_refused(folder, tmp_path):
  with pytest.raises(InputError, match='no such folder of LFW'):
    lfw.load_lfw(tmp_path, source=tmp_path / 'none')
  empty = tmp_path / 'empty'
  empty.mkdir()
  with pytest.raises(InputError, match='no photographs'):
    lfw.load_lfw(tmp_path / 'data', source=empty)
  (empty / 'Ann').mkdir()
  (empty / 'Ann' / 'Ann_0001.jpg').write_bytes(b'no image')
  with pytest.raises(InputError, match='Ann_0001.jpg: not an image'):
    lfw.load_lfw(tmp_path / 'data', source=empty)
  assert not (tmp_path / 'data' / 'lfw' / '0.1.1').exists()
