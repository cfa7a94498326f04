import io
import struct

import pytest
from PIL import Image

from compress.data import recordio
from compress.errors import InputError


def _png(value):
  buffer = io.BytesIO()
  Image.new('RGB', (112, 112), (value, 10, 20)).save(buffer, 'png')
  return buffer.getvalue()


def _content(labels, image=b''):
  """One label is kept in the header, several follow it."""
  if isinstance(labels, float):
    return struct.pack('<IfQQ', 0, labels, 7, 0) + image
  header = struct.pack('<IfQQ', len(labels), 0.0, 7, 0)
  return header + struct.pack(f'<{len(labels)}f', *labels) + image


def _write(path, contents, flag=0):
  records, index = b'', ''
  for key, content in enumerate(contents):
    index += f'{key}\t{len(records)}\n'
    records += struct.pack('<II', 0xCED7230A, flag << 29 | len(content))
    records += content + bytes(-len(content) % 4)
  path.write_bytes(records)
  path.with_suffix('.idx').write_text(index)
  return path


@pytest.fixture
def train(tmp_path):
  contents = [
    _content([4.0, 6.0]),  # images are records 1..3, people 4 and 5
    _content(0.0, _png(10)),
    _content([1.0, 99.0], _png(20)),
    _content(1.0, _png(30)),
    _content([1.0, 2.0]),
    _content([2.0, 4.0]),
  ]
  return _write(tmp_path / 'train.rec', contents)


def test_images_and_labels(train):
  faces = recordio.load_recordio(train)
  assert faces.name == 'train'
  assert faces.images[:, 0, 0, 0].tolist() == [10, 20, 30]
  assert faces.identities.tolist() == [0, 1, 1]
  assert faces.paths == ('1', '2', '3')


def test_chosen_records(train):
  faces = recordio.load_recordio(train, keys=[3, 1])
  assert faces.images[:, 0, 0, 0].tolist() == [30, 10]
  with pytest.raises(InputError, match='record 9: the index does not list'):
    recordio.load_recordio(train, keys=[9])
  with pytest.raises(InputError, match='no photographs chosen'):
    recordio.load_recordio(train, keys=[])


def test_a_file_without_header_record(tmp_path):
  path = _write(tmp_path / 'a.rec', [_content(5.0, _png(1))])
  assert recordio.load_recordio(path).identities.tolist() == [5]


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (_content(0.5, _png(1)), 'record 0: the label 0.5'),
    (_content(float('nan'), _png(1)), 'record 0: the label nan'),
    (_content(1.0, b'abc'), 'record 0: not an image'),
    (_content(1.0), 'record 0: the file is empty'),
    (b'1234', 'record 0: the file is truncated'),
    (struct.pack('<IfQQ', 99, 0.0, 0, 0), '99 labels do not fit'),
  ],
)
def test_wrong_records_are_refused(tmp_path, content, message):
  path = _write(tmp_path / 'a.rec', [content])
  with pytest.raises(InputError, match=message):
    recordio.load_recordio(path)


def test_wrong_files_are_refused(train, tmp_path):
  content = train.read_bytes()
  train.write_bytes(content[:200])
  with pytest.raises(InputError, match='truncated'):
    recordio.load_recordio(train)
  train.write_bytes(b'x' * 500)
  with pytest.raises(InputError, match='no record begins at offset 0'):
    recordio.load_recordio(train)
  train.with_suffix('.idx').write_text('a\tb\n')
  with pytest.raises(InputError, match="lines must be 'key<TAB>offset'"):
    recordio.load_recordio(train)
  train.with_suffix('.idx').unlink()
  with pytest.raises(InputError, match='train.idx: cannot be read'):
    recordio.load_recordio(train)
  several = _write(tmp_path / 'b.rec', [_content(1.0, _png(1))], flag=1)
  with pytest.raises(InputError, match='several parts'):
    recordio.load_recordio(several)
  with pytest.raises(InputError, match='none.idx: cannot be read'):
    recordio.load_recordio(tmp_path / 'none.rec')
