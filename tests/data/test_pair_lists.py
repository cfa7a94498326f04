import pathlib

import numpy as np
import pytest

from compress.data import pair_lists
from compress.errors import InputError

LFW = [
  '2\t2',
  'Ann\t1\t2',
  'Bob_B\t1\t12',
  'Ann\t1\tBob_B\t1',
  'Ann\t2\tCy\t1',
  'Cy\t1\t2',
  'Cy\t1\t3',
  'Ann\t3\tCy\t3',
  'Bob_B\t2\tCy\t2',
]


def test_lfw():
  listed = pair_lists.parse_lfw(LFW, name='pairs.txt')
  assert listed.pairs[0] == ('Ann/Ann_0001.jpg', 'Ann/Ann_0002.jpg')
  assert listed.pairs[1][1] == 'Bob_B/Bob_B_0012.jpg'
  assert listed.pairs[3] == ('Ann/Ann_0002.jpg', 'Cy/Cy_0001.jpg')
  assert listed.genuine.tolist() == [True, True, False, False] * 2
  assert listed.folds.tolist() == [0] * 4 + [1] * 4
  assert listed.people['Bob_B/Bob_B_0012.jpg'] == 'Bob_B'
  png = pair_lists.parse_lfw(LFW, name='pairs.txt', suffix='.png')
  assert png.pairs[0][0] == 'Ann/Ann_0001.png'


def test_lfw_development_list_is_one_fold():
  listed = pair_lists.parse_lfw(['1', *LFW[2:4]], name='pairsDevTest.txt')
  assert listed.folds is None and listed.genuine.tolist() == [True, False]


def test_lfw_without_header_is_cut_into_tenths():
  lines = ['m.01 1 2', 'm.01 1 m.02 1'] * 10
  listed = pair_lists.parse_lfw(lines, name='x', header=False)
  assert listed.folds.tolist() == sorted([*range(10)] * 2)
  assert listed.pairs[1] == ('m.01/m.01_0001.jpg', 'm.02/m.02_0001.jpg')
  assert pair_lists.parse_lfw(LFW[1:], name='x', header=False).folds is None


@pytest.mark.parametrize(
  ('lines', 'message'),
  [
    (['x'], "line 1: 'x'"),
    (['1 2 3'], 'line 1'),
    (['0\t300'], '0 pairs'),
    (['10\t300'], '0 pairs, but the first line states 10 x 2 x 300'),
    (LFW[:-1], '7 pairs, but the first line states 2 x 2 x 2'),
    (['1', 'a 1', 'a 1 b 1'], "line 2: 'a 1': right would be 'name i j'"),
    (['1', 'a 1 b', 'a 1 b 1'], "line 2: 'a 1 b'"),
    (['1', 'a 1 \u00b2', 'a 1 b 1'], 'line 2'),
    (['1', 'a 1 2 3 4', 'a 1 b 1'], 'line 2'),
    (['1', '../a 1 2', 'a 1 b 1'], 'line 2: .* leaves the folder'),
    (['1', '/a 1 2', 'a 1 b 1'], 'line 2: .* leaves the folder'),
    (['2 1', 'a 1 b 1', 'a 1 2', 'a 1 2', 'a 1 b 1'], 'line 2: each fold'),
  ],
)
def test_lfw_refuses(lines, message):
  with pytest.raises(InputError, match=message):
    pair_lists.parse_lfw(lines, name='pairs.txt')


def _cross(marks):
  lines = []
  for i, mark in enumerate(marks):
    other = f'Ann_{i:04d}' if mark else f'Bob_{i:04d}'
    lines += [f'Ann_{i + 50:04d}.jpg {mark}', f'{other}.jpg {mark}']
  return lines


def test_cross_with_stated_folds():
  marks = [k for k in range(1, 11) for _ in range(2)] + [0] * 20
  listed = pair_lists.parse_cross(_cross(marks), name='pairs_CALFW.txt')
  assert listed.genuine.tolist() == [True] * 20 + [False] * 20
  assert listed.folds[:20].tolist() == [m - 1 for m in marks[:20]]
  assert listed.folds[20:].tolist() == listed.folds[:20].tolist()
  assert listed.pairs[20] == ('Ann_0070.jpg', 'Bob_0020.jpg')
  assert listed.people['Ann_0070.jpg'] == 'Ann'


def test_cross_with_plain_marks():
  listed = pair_lists.parse_cross(_cross([1, 0] * 10), name='x')
  assert listed.folds.tolist() == sorted([*range(10)] * 2)
  assert pair_lists.parse_cross(_cross([1, 0]), name='x').folds is None


@pytest.mark.parametrize(
  ('lines', 'message'),
  [
    (['a_1.jpg 1'], '1 lines, an odd number'),
    (['a_1.jpg 1', 'a_2.jpg'], "line 2: 'a_2.jpg'"),
    (['a_1.jpg 1', 'a_2.jpg x'], "line 2: 'a_2.jpg x'"),
    (['a_1.jpg 1', 'a_2.jpg 0'], 'line 2: the two lines .* not 1 and 0'),
    (['../a_1.jpg 1', 'a_2.jpg 1'], 'line 1: .* leaves the folder'),
  ],
)
def test_cross_refuses(lines, message):
  with pytest.raises(InputError, match=message):
    pair_lists.parse_cross(lines, name='x')


def test_sllfw():
  lines = ['Ann/Ann_0001.jpg', 'Ann/Ann_0002.jpg'] * 10
  lines += ['Ann/Ann_0001.jpg', 'Bob/Bob_0004.jpg'] * 10
  listed = pair_lists.parse_sllfw(lines, name='pair_SLLFW.txt')
  assert listed.genuine.tolist() == [True] * 10 + [False] * 10
  assert listed.pairs[-1] == ('Ann/Ann_0001.jpg', 'Bob/Bob_0004.jpg')
  assert listed.folds.tolist() == sorted([*range(10)] * 2)


@pytest.mark.parametrize(
  ('lines', 'message'),
  [
    (['a/1.jpg'], 'an odd number'),
    (['a/1.jpg', '2.jpg'], "line 2: '2.jpg'"),
    (['a/1.jpg', '../2.jpg'], 'line 2'),
  ],
)
def test_sllfw_refuses(lines, message):
  with pytest.raises(InputError, match=message):
    pair_lists.parse_sllfw(lines, name='x')


def test_layouts_are_told_apart():
  guess = pair_lists.guess_layout
  assert guess(LFW, name='x') == 'lfw'
  assert guess(['300'], name='x') == 'lfw'
  assert guess(['Ann_0001.jpg 1'], name='x') == 'cross'
  assert guess(['Ann/Ann_0001.jpg'], name='x') == 'sllfw'
  with pytest.raises(InputError, match='begins no known list'):
    guess(['Ann 1 2'], name='x')


def test_read_lines(tmp_path):
  path = pathlib.Path(tmp_path, 'pairs.txt')
  path.write_bytes('\ufeff1\r\n\r\nA\u00e9 1 2 \r\n'.encode())
  assert pair_lists.read_lines(path) == ['1', 'A\u00e9 1 2']
  path.write_text('\n \n')
  with pytest.raises(InputError, match='no pairs in it'):
    pair_lists.read_lines(path)
  path.write_bytes(np.arange(256, dtype=np.uint8).tobytes())
  with pytest.raises(InputError, match='not a text file'):
    pair_lists.read_lines(path)
  with pytest.raises(InputError, match='none.txt: cannot be read'):
    pair_lists.read_lines(tmp_path / 'none.txt')
