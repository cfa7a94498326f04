import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from compress.data import images
from compress.errors import InputError


def _encode(array, kind='png', **options):
  buffer = io.BytesIO()
  Image.fromarray(array).save(buffer, format=kind, **options)
  return buffer.getvalue()


def _noise(*shape):
  return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_rgb_survives():
  pixels = _noise(5, 7, 3)
  np.testing.assert_array_equal(
    images.decode_image(_encode(pixels), name='x'), pixels
  )


def test_grey_and_transparent_become_rgb():
  grey = _noise(4, 6)
  decoded = images.decode_image(_encode(grey), name='x')
  np.testing.assert_array_equal(decoded, np.stack([grey] * 3, axis=-1))
  assert images.decode_image(_encode(_noise(4, 6, 4)), name='x').shape[2] == 3


def test_the_way_the_camera_was_held_is_undone():
  exif = Image.Exif()
  exif[0x0112] = 6  # turn clockwise by a quarter to see it upright
  pixels = _noise(4, 6, 3)
  decoded = images.decode_image(_encode(pixels, exif=exif), name='x')
  np.testing.assert_array_equal(decoded, np.rot90(pixels, -1))


def test_float_pixels_are_rounded():
  pixels = np.array([[0.4, 254.6]], np.float32)
  decoded = images.decode_image(_encode(pixels, 'tiff'), name='x')
  assert decoded[0, :, 0].tolist() == [0, 255]


def _png_of_size(width, height):
  """A valid header for any size, with no pixels behind it."""

  def chunk(kind, data):
    body = kind + data
    return (
      struct.pack('>I', len(data)) + body + struct.pack('>I', zlib.crc32(body))
    )

  header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
  return (
    b'\x89PNG\r\n\x1a\n'
    + chunk(b'IHDR', header)
    + chunk(b'IDAT', zlib.compress(b''))
    + chunk(b'IEND', b'')
  )


_BROKEN = {
  'empty': (b'', 'the file is empty'),
  'text': (b'not an image at all', 'not an image'),
  'cut': (_encode(_noise(64, 64, 3))[:2000], 'not an image'),
  'cut jpeg': (_encode(_noise(64, 64, 3), 'jpeg')[:900], 'not an image'),
  'bomb': (_png_of_size(60000, 60000), 'face.png'),
  'large': (_png_of_size(12000, 9000), 'pixels'),
  'no width': (_png_of_size(0, 8), 'face.png'),
  'no size': (b'P5\n0 0\n255\n', 'face.png'),
  '16 bits': (_encode(_noise(4, 4).astype(np.uint16)), 'more than 8 bits'),
  'nan': (_encode(np.full((2, 2), np.nan, np.float32), 'tiff'), 'NaN'),
  'range': (_encode(np.full((2, 2), 300, np.float32), 'tiff'), 'not 0..255'),
}


@pytest.mark.parametrize('case', _BROKEN)
def test_broken_images_are_named(tmp_path, case):
  content, message = _BROKEN[case]
  path = tmp_path / 'face.png'
  path.write_bytes(content)
  with pytest.raises(InputError, match=message) as error:
    images.read_image(path)
  assert 'face.png' in str(error.value) and '\n' not in str(error.value)


def test_missing_files_are_named(tmp_path):
  with pytest.raises(InputError, match='none.png: cannot be read'):
    images.read_image(tmp_path / 'none.png')
  with pytest.raises(InputError, match='cannot be read'):
    images.read_image(tmp_path)
  with pytest.raises(InputError, match='cannot be read'):
    images.read_image('a\0b.png')


def test_central_square():
  aligned = _noise(112, 112, 3)
  assert images.central_square(aligned) is aligned
  wide = np.zeros((112, 200, 3), np.uint8)
  wide[:, 44:156] = aligned
  np.testing.assert_array_equal(images.central_square(wide), aligned)
  flat = np.full((250, 250, 3), 9, np.uint8)
  assert (images.central_square(flat, crop=150) == 9).all()
  assert images.central_square(flat, crop=150).shape == (112, 112, 3)
  for crop in (0, 251):
    with pytest.raises(InputError, match='does not fit into 250 x 250'):
      images.central_square(flat, crop=crop)


def test_read_faces_refuses_half_given_landmarks(tmp_path):
  (tmp_path / 'a.png').write_bytes(_encode(_noise(112, 112, 3)))
  with pytest.raises(InputError, match='do not list a.png'):
    images.read_faces(tmp_path, ['a.png'], landmarks={})
  with pytest.raises(InputError, match='exclude each other'):
    images.read_faces(tmp_path, ['a.png'], landmarks={}, crop=100)
