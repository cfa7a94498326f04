import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from compress.data import align, orl
from compress.data.images import read_image
from compress.errors import InputError


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  return tmp_path_factory.mktemp('prepared')


@pytest.fixture(scope='module')
def faces(data_dir):
  return orl.load_orl(data_dir)


def test_forty_people_ten_photographs_each(faces):
  assert faces.images.shape == (400, 112, 112, 3)
  assert faces.people == tuple(range(1, 41))
  assert (np.bincount(faces.identities)[1:] == 10).all()
  assert faces.paths[:2] == ('s1/1.pgm', 's1/2.pgm')
  assert faces.paths[-1] == 's40/10.pgm'
  women = np.unique(faces.identities[faces.groups == 'woman'])
  assert women.tolist() == [8, 10, 32, 35]
  assert set(faces.groups) == {'woman', 'man'}


def test_grey_is_repeated_and_landmarks_are_applied(faces):
  assert (faces.images == faces.images[..., :1]).all()
  photo = read_image(orl.photo_folder() / 's7' / '3.pgm')
  assert photo.shape == (112, 92, 3)
  expected = align.align_face(photo, orl.orl_landmarks()['7/3'])
  np.testing.assert_array_equal(faces.images[62], expected)


def test_landmarks_lie_near_the_template():
  distances = []
  for points in orl.orl_landmarks().values():
    matrix = align.similarity_transform(points)
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    distances.append(np.linalg.norm(moved - align.TEMPLATE, axis=1))
  assert len(distances) == 400
  # Poses differ, so no similarity fits exactly; pixels of 112.
  assert np.mean(distances) < 3.0
  assert np.max(distances) < 10.0


def test_the_prepared_copy_is_read_again(faces, data_dir):
  prepared = data_dir / 'orl_faces' / '1.0.0'
  before = {p.name: p.stat().st_mtime_ns for p in prepared.iterdir()}
  again = orl.load_orl(data_dir)
  np.testing.assert_array_equal(again.images, faces.images)
  assert before == {p.name: p.stat().st_mtime_ns for p in prepared.iterdir()}
  assert [p.name for p in data_dir.iterdir()] == ['orl_faces']


def test_two_processes_prepare_at_once(tmp_path, faces):
  code = (
    'import sys, zlib; from compress.data import load_orl; '
    'd = load_orl(sys.argv[1]); print(zlib.crc32(d.images.tobytes()))'
  )
  runs = [
    subprocess.Popen(
      [sys.executable, '-c', code, str(tmp_path)],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      env=os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)},
    )
    for _ in range(2)
  ]
  outputs = [run.communicate() for run in runs]
  assert [run.returncode for run in runs] == [0, 0], outputs
  assert outputs[0][0] == outputs[1][0]
  assert [p.name for p in tmp_path.iterdir()] == ['orl_faces']


def test_a_damaged_copy_is_named(faces, data_dir, tmp_path):
  shutil.copytree(data_dir, tmp_path / 'copy')
  (records,) = (tmp_path / 'copy').rglob('*array_record*')
  content = records.read_bytes()
  records.write_bytes(content[: len(content) // 2])
  with pytest.raises(InputError, match='delete that folder'):
    orl.load_orl(tmp_path / 'copy')
  records.parent.joinpath('dataset_info.json').unlink()
  with pytest.raises(InputError, match='delete that folder'):
    orl.load_orl(tmp_path / 'copy')


def test_a_file_where_the_folder_should_be(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(InputError, match='cannot be written there'):
    orl.load_orl(tmp_path / 'file')


def test_missing_package_says_how_to_install_it():
  with pytest.raises(InputError, match=r"pip install -e '.\[faces\]'"):
    orl.photo_folder('no_such_package')
  with pytest.raises(InputError, match='has no ORL photographs'):
    orl.photo_folder('compress')


def test_other_photographs_are_refused(tmp_path):
  with pytest.raises(InputError, match='1.pgm: cannot be read'):
    orl.read_photos(tmp_path)
  shutil.copytree(orl.photo_folder(), tmp_path / 'copy')
  file = tmp_path / 'copy' / 's3' / '5.pgm'
  file.write_bytes(file.read_bytes()[:-1] + b'\0')
  with pytest.raises(InputError, match='sha256 differs'):
    orl.read_photos(tmp_path / 'copy')
