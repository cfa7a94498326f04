import io
import pickle

import numpy as np
import pytest
from PIL import Image

from compress.data import insightface
from compress.errors import InputError


def _png(value, width=112, height=112):
  buffer = io.BytesIO()
  Image.new('RGB', (width, height), (value, 10, 20)).save(buffer, 'png')
  return buffer.getvalue()


def _python2(images, labels):
  """What Python 2 wrote at protocol 2: text strings, which hold bytes."""
  content = b'\x80\x02]('
  for image in images:
    content += b'T' + len(image).to_bytes(4, 'little') + image
  content += b'e](' + b''.join(b'\x88' if s else b'\x89' for s in labels)
  return content + b'e\x86.'


IMAGES = [_png(value) for value in range(24)]
LABELS = [i % 2 == 0 for i in range(12)]
_ARRAYS = [np.frombuffer(image, np.uint8) for image in IMAGES]


def _dump(images, labels, protocol=4):
  return pickle.dumps((images, labels), protocol=protocol)


@pytest.mark.parametrize(
  'content',
  [
    _python2(IMAGES, LABELS),
    _dump(IMAGES, LABELS, 0),
    _dump(IMAGES, LABELS, 2),
    _dump(IMAGES, LABELS, 5),
    pickle.dumps([IMAGES, tuple(LABELS)]),
    _dump(IMAGES, np.array(LABELS)),
    _dump(IMAGES, np.array(LABELS), 2),
    _dump(IMAGES, np.array(LABELS, np.int64), 2),
    _dump(IMAGES, [np.bool_(s) for s in LABELS], 2),
    _dump(IMAGES, [np.bool_(s) for s in LABELS]),
    _dump(_ARRAYS, LABELS),
    _dump(_ARRAYS, LABELS, 2),
    _dump(np.array(IMAGES, object), LABELS),
  ],
)
def test_pairs_in_order(tmp_path, content):
  path = tmp_path / 'toy.bin'
  path.write_bytes(content)
  loaded = insightface.load_bin(path)
  assert loaded.name == 'toy'
  assert loaded.images[:, 0, 0, 0].tolist() == list(range(24))
  assert (loaded.images[..., 1:] == (10, 20)).all()
  assert loaded.pairs[:2].tolist() == [[0, 1], [2, 3]]
  assert loaded.genuine.tolist() == LABELS
  assert loaded.folds.tolist() == [0, 0, 1, 1, *range(2, 10)]
  assert loaded.identities is None and loaded.groups is None


def test_python2_scalars(tmp_path):
  # numpy.core.multiarray.scalar(dtype('b1'), '\x01') as Python 2 pickled it.
  true = (
    b'cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(U\x02b1K\x00K\x01tR'
    b'(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tbU\x01\x01tR'
  )
  image = b'T' + len(IMAGES[0]).to_bytes(4, 'little') + IMAGES[0]
  content = b'\x80\x02](' + image + image + b'e](' + true + b'e\x86.'
  path = tmp_path / 'toy.bin'
  path.write_bytes(content)
  loaded = insightface.load_bin(path)
  assert loaded.genuine.tolist() == [True] and loaded.folds is None


def test_other_sizes_are_scaled_by_the_short_side(tmp_path):
  path = tmp_path / 'toy.bin'
  path.write_bytes(_dump([_png(7, 224, 300), _png(9, 96, 112)], [True]))
  loaded = insightface.load_bin(path)
  assert loaded.images.shape == (2, 112, 112, 3)
  assert (loaded.images[0] == (7, 10, 20)).all()


class _Evil:
  def __reduce__(self):
    return print, ('this must not run',)


_REFUSED = {
  'empty': (b'', 'not an InsightFace'),
  'text': (b'hello world', 'not an InsightFace'),
  'truncated': (_dump(IMAGES, LABELS)[:-900], 'not an InsightFace'),
  'truncated 2': (_python2(IMAGES, LABELS)[:3000], 'not an InsightFace'),
  'code': (pickle.dumps(([_Evil()], [True])), 'names builtins.print'),
  'system': (b"cos\nsystem\n(S'true'\ntR.", 'names .*system'),
  'codec': (
    b"(c_codecs\nencode\n(Va\nS'rot13'\ntRl.",
    'not an InsightFace',
  ),
  'bytes': (b'c__builtin__\nbytes\n(I9999999999\ntR.', 'bytes with arguments'),
  'one list': (pickle.dumps(IMAGES), 'does not hold two lists'),
  'dict': (pickle.dumps({1: 2}), 'does not hold two lists'),
  'no list': (pickle.dumps((3, LABELS)), 'int stands where a list'),
  'no bytes': (_dump([1, 2], [True]), 'int stands where an image'),
  'no label': (_dump(IMAGES[:2], ['yes']), 'stands where True or False'),
  'floats': (_dump(IMAGES[:2], np.array([np.nan])), "array of type 'f8'"),
  'odd': (_dump(IMAGES[:3], [True]), '3 images for 1 pairs'),
  'more labels': (_dump(IMAGES[:4], LABELS), '4 images for 12 pairs'),
  'none': (_dump([], []), '0 images for 0 pairs'),
  'no image': (
    _dump([IMAGES[0], b'abc'], [True]),
    'toy.bin, image 1: not an image',
  ),
}


@pytest.mark.parametrize('case', _REFUSED)
def test_anything_else_is_refused(tmp_path, case, capsys):
  content, message = _REFUSED[case]
  path = tmp_path / 'toy.bin'
  path.write_bytes(content)
  with pytest.raises(InputError, match=message) as error:
    insightface.load_bin(path)
  assert 'toy.bin' in str(error.value) and '\n' not in str(error.value)
  assert not capsys.readouterr().out


def test_missing_file_is_named(tmp_path):
  with pytest.raises(InputError, match='none.bin: cannot be read'):
    insightface.load_bin(tmp_path / 'none.bin')
