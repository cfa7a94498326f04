import numpy as np
import pytest

from compress.data import align
from compress.errors import InputError


def _moved(points, scale, angle, shift):
  c, s = scale * np.cos(angle), scale * np.sin(angle)
  return points @ np.array([[c, s], [-s, c]]) + np.array(shift)


def test_similarity_is_recovered_exactly():
  source = _moved(align.TEMPLATE, 2.5, 0.4, (30.0, -7.0))
  matrix = align.similarity_transform(source)
  np.testing.assert_allclose(
    source @ matrix[:, :2].T + matrix[:, 2], align.TEMPLATE, atol=1e-10
  )
  # The inverse of scale 2.5, rotation 0.4.
  np.testing.assert_allclose(np.linalg.det(matrix[:, :2]), 1 / 2.5**2)
  np.testing.assert_allclose(np.arctan2(matrix[1, 0], matrix[0, 0]), -0.4)


def test_similarity_is_the_least_squares_one():
  rng = np.random.default_rng(1)
  source = rng.uniform(0, 100, (5, 2))
  matrix = align.similarity_transform(source)
  # u = a x - b y + c and v = b x + a y + d, solved directly.
  x, y = source.T
  one, zero = np.ones(5), np.zeros(5)
  rows = np.concatenate(
    [np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)]
  )
  target = align.TEMPLATE
  a, b, c, d = np.linalg.lstsq(rows, target.T.ravel(), rcond=None)[0]
  np.testing.assert_allclose(matrix, [[a, -b, c], [b, a, d]], atol=1e-9)


def test_similarity_never_mirrors():
  mirrored = align.TEMPLATE * np.array([-1.0, 1.0])
  matrix = align.similarity_transform(mirrored)
  assert np.linalg.det(matrix[:, :2]) > 0


@pytest.mark.parametrize(
  'source',
  [
    np.full((5, 2), 3.0),
    np.full((5, 2), np.nan),
    np.full((5, 2), np.inf),
    np.zeros((4, 2)),
    np.zeros(10),
  ],
)
def test_similarity_refuses(source):
  with pytest.raises(InputError, match='landmarks'):
    align.similarity_transform(source)
  with pytest.raises(InputError, match='photo 7'):
    align.align_face(np.zeros((9, 9), np.uint8), source, name='photo 7')


def test_warp_identity_and_shift_are_exact():
  rng = np.random.default_rng(2)
  image = rng.integers(0, 256, (112, 112, 3), np.uint8)
  same = np.array([[1.0, 0, 0], [0, 1.0, 0]])
  np.testing.assert_array_equal(align.warp(image, same), image)
  moved = align.warp(image, same + np.array([[0, 0, 3], [0, 0, -2]]))
  expected = np.zeros_like(image)
  expected[:-2, 3:] = image[2:, :-3]
  np.testing.assert_array_equal(moved, expected)


def test_warp_half_a_pixel_is_the_mean_and_fades_to_black():
  image = np.zeros((3, 4), np.uint8)
  image[1] = (10, 30, 50, 90)
  half = np.array([[1.0, 0, 0.5], [0, 1.0, 0]])
  moved = align.warp(image, half, side=5)
  # Output x takes input x - 0.5; beyond the last column it is black.
  assert moved[1].tolist() == [5, 20, 40, 70, 45]
  assert not moved[3:].any()


def test_warp_doubles_about_pixel_centres():
  image = np.array([[0, 100]], np.uint8)
  double = np.array([[2.0, 0, 0], [0, 2.0, 0]])
  assert align.warp(image, double, side=3)[0].tolist() == [0, 50, 100]


def test_align_puts_marks_on_the_template():
  points = _moved(align.TEMPLATE, 2.0, -0.3, (40.0, 90.0))
  image = np.zeros((360, 360, 3), np.uint8)
  for x, y in np.rint(points).astype(int):
    image[y - 4 : y + 5, x - 4 : x + 5] = 255
  face = align.align_face(image, points)
  assert face.shape == (112, 112, 3) and face.dtype == np.uint8
  for x, y in align.TEMPLATE:
    left, top = int(round(x)) - 6, int(round(y)) - 6
    patch = face[top : top + 13, left : left + 13, 0].astype(float)
    rows, columns = np.mgrid[top : top + 13, left : left + 13]
    centre = [(columns * patch).sum(), (rows * patch).sum()] / patch.sum()
    np.testing.assert_allclose(centre, (x, y), atol=0.4)


_HEADER = 'path,lex,ley,rex,rey,nx,ny,lmx,lmy,rmx,rmy\n'
_ROW = 'a/1.png,' + ','.join(str(v) for v in align.TEMPLATE.ravel()) + '\n'


def test_read_landmarks(tmp_path):
  file = tmp_path / 'landmarks.csv'
  file.write_text(_HEADER + _ROW)
  table = align.read_landmarks(file)
  assert list(table) == ['a/1.png']
  np.testing.assert_array_equal(table['a/1.png'], align.TEMPLATE)


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('', 'the header must be path,lex'),
    ('x,y\n', 'the header must be path,lex'),
    (_HEADER, 'no landmarks in it'),
    (_HEADER + _ROW + _ROW, 'line 3: a/1.png is listed twice'),
    (_HEADER + 'a,1,2,3\n', 'line 2: ten finite numbers'),
    (_HEADER + 'a' + ',1' * 9 + ',nan\n', 'line 2: ten finite numbers'),
    (_HEADER + 'a' + ',1' * 9 + ',x\n', 'line 2: ten finite numbers'),
  ],
)
def test_read_landmarks_refuses(tmp_path, text, message):
  file = tmp_path / 'landmarks.csv'
  file.write_text(text)
  with pytest.raises(InputError, match=message):
    align.read_landmarks(file)


def test_read_landmarks_refuses_what_is_no_text(tmp_path):
  with pytest.raises(InputError, match='none.csv'):
    align.read_landmarks(tmp_path / 'none.csv')
  (tmp_path / 'b.csv').write_bytes(b'\xff\xfe\x80')
  with pytest.raises(InputError, match='b.csv'):
    align.read_landmarks(tmp_path / 'b.csv')
