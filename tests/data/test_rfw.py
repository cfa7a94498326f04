import numpy as np
import pytest
from PIL import Image

from compress.data import align, rfw
from compress.errors import InputError


@pytest.fixture
def root(tmp_path):
  """Two groups of two people, ten pairs each, with landmarks."""
  for shade, group in enumerate(('African', 'Indian')):
    marks = 2.0 * align.TEMPLATE + 30.5
    lines = []
    for person in ('m.0a', 'm.0b'):
      for k in (1, 2):
        file = tmp_path / 'data' / group / person / f'{person}_{k:04d}.jpg'
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.zeros((300, 300, 3), np.uint8)
        pixels[28:258, 28:258] = 100 + 50 * shade
        Image.fromarray(pixels).save(file, quality=100)
        numbers = '\t'.join(f'{v:.3f}' for v in marks.ravel())
        lines.append(f'/data/{group}/{person}/{file.name}\t0\t{numbers}\n')
    texts = tmp_path / 'txts' / group
    texts.mkdir(parents=True)
    (texts / f'{group}_lmk.txt').write_text(''.join(lines))
    pairs = 'm.0a\t1\t2\nm.0a\t1\tm.0b\t2\n' * 5
    (texts / f'{group}_pairs.txt').write_text(pairs)
  return tmp_path


GROUPS = ('African', 'Indian')


def test_groups_folds_and_alignment(root):
  loaded = rfw.load_rfw(root, groups=GROUPS)
  assert loaded.images.shape == (6, 112, 112, 3)
  assert loaded.groups.tolist() == ['African'] * 10 + ['Indian'] * 10
  assert loaded.folds.tolist() == [*range(10)] * 2
  assert loaded.genuine.tolist() == [True, False] * 10
  assert loaded.identities.tolist() == [0, 0, 1, 2, 2, 3]
  assert loaded.pairs[10:12].tolist() == [[3, 4], [3, 5]]
  # Twice the template, so the whole face is inside the bright square.
  np.testing.assert_allclose(loaded.images[0], 100, atol=2)
  np.testing.assert_allclose(loaded.images[5], 150, atol=2)


def test_aligned_photographs_need_no_landmarks(root):
  (root / 'txts' / 'African' / 'African_lmk.txt').unlink()
  loaded = rfw.load_rfw(root, groups=['African'], aligned=True, crop=200)
  np.testing.assert_allclose(loaded.images, 100, atol=2)
  with pytest.raises(InputError, match='African_lmk.txt: cannot be read'):
    rfw.load_rfw(root, groups=['African'])
  with pytest.raises(InputError, match='crop goes with aligned=True'):
    rfw.load_rfw(root, groups=['African'], crop=200)


@pytest.mark.parametrize(
  'groups', [('Martian',), ('African', 'african'), ('Asian', 'Asian'), ()]
)
def test_unknown_groups_are_refused(root, groups):
  message = 'must be some of African, Asian, Caucasian, Indian'
  with pytest.raises(InputError, match=message):
    rfw.load_rfw(root, groups=groups)


def test_missing_and_wrong_files_are_refused(root):
  with pytest.raises(InputError, match='Asian_pairs.txt: cannot be read'):
    rfw.load_rfw(root)
  texts = root / 'txts' / 'Indian'
  marks = texts / 'Indian_lmk.txt'
  good = marks.read_text()
  marks.write_text(good.replace('m.0b_0002.jpg', 'other.jpg'))
  with pytest.raises(InputError, match='no landmarks for m.0b/m.0b_0002.jpg'):
    rfw.load_rfw(root, groups=GROUPS)
  marks.write_text('file\t0' + '\tnan' * 10)
  with pytest.raises(InputError, match='Indian_lmk.txt, line 1: ten finite'):
    rfw.load_rfw(root, groups=GROUPS)
  marks.write_text(good)
  photo = root / 'data' / 'Indian' / 'm.0a' / 'm.0a_0002.jpg'
  photo.write_bytes(photo.read_bytes()[:200])
  with pytest.raises(InputError, match='m.0a_0002.jpg: not an image'):
    rfw.load_rfw(root, groups=GROUPS)
  (texts / 'Indian_pairs.txt').write_text('m.0a\t1\n')
  with pytest.raises(InputError, match='Indian_pairs.txt, line 1'):
    rfw.load_rfw(root, groups=GROUPS)
