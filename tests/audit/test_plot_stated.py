"""A study's own figures: what is drawn, and what is refused."""

import re

import numpy as np
import pytest

from compress import audit
from compress.errors import InputError
from tests.audit import classification_example


def _heat(values, **options):
  return audit.heat_map(
    'gains',
    np.asarray(values),
    rows=['hints', 'attention'],
    columns=['a to b', 'a to c'],
    caption='Points gained.',
    unit='points',
    **options,
  )


def test_a_heat_map_says_its_numbers():
  plot = _heat([[1.25, -0.5], [-5e-15, np.nan]], digits=2)
  assert plot.alt == (
    'Heat map, points: hints +1.25 in a to b, −0.50 in a to c; attention 0.00 '
    'in a to b.'
  )
  assert plot.svg.startswith('<svg')


def test_the_largest_gain_and_loss_have_the_ends_of_the_scale():
  svg = _heat([[2.0, -2.0], [0.0, 0.0]]).svg
  # Blue is a series of the page's palette, orange too.
  cells = re.findall(r'fill: ([^;"]+)', svg)
  assert any('0072b2' in cell for cell in cells)
  assert any('d55e00' in cell for cell in cells)


@pytest.mark.parametrize(
  'values', [np.zeros((1, 2)), np.full((2, 2), np.nan), np.zeros((2, 3))]
)
def test_a_heat_map_without_numbers_or_names_is_refused(values):
  with pytest.raises(InputError, match='heat map'):
    _heat(values)


def test_image_rows_hold_every_image_once():
  rows = {
    'real': np.zeros((3, 8, 8, 1), np.uint8),
    'a < b': np.zeros((12, 8, 8, 3), np.uint8),
  }
  plot = audit.image_rows('inputs', rows, caption='Inputs.', most=10)
  assert plot.svg.count('<image ') == 3 + 10
  assert 'a &lt; b' in plot.svg
  assert plot.svg.count('pixelated') == 13


@pytest.mark.parametrize(
  'rows',
  [
    {},
    {'x': np.zeros((3, 8, 8), np.uint8)},
    {'x': np.zeros((3, 8, 8, 1), np.float32)},
    {'x': np.zeros((0, 8, 8, 1), np.uint8)},
  ],
)
def test_what_is_no_image_is_refused(rows):
  with pytest.raises(InputError, match='images'):
    audit.image_rows('inputs', rows, caption='')


def test_lines_say_their_points():
  plot = audit.lines(
    'gap',
    {'plain': [(1e3, 90.0, 0.5), (1e4, 91.0, None)], 'chain': [(1e4, 92, 1)]},
    x='parameters',
    y='accuracy',
    caption='',
    levels={'alone': 89.0},
    log_x=True,
  )
  assert 'plain 90 at 1000, 91 at 1e+04; chain 92 at 1e+04' in plot.alt
  assert 'mathdefault' not in plot.svg
  with pytest.raises(InputError, match='no points'):
    audit.lines('gap', {'plain': []}, x='', y='', caption='')


def test_figures_stand_on_the_page_with_their_words(tmp_path):
  report = classification_example.example_report()
  plot = _heat([[1.0, -0.5], [0.0, 2.0]])
  paths = audit.write_report(report, {}, tmp_path, figures=[plot])
  page = paths['html'].read_text()
  assert '<figure id="gains">' in page
  assert 'Points gained.' in page
  assert 'aria-label="Heat map, points: hints' in page
