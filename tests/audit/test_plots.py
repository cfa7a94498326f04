import re
import xml.etree.ElementTree

import numpy as np
import pytest
from scipy.special import ndtri

from compress.audit import entries, numerals, plot_scores, plot_style, plots
from tests.audit import report_example


@pytest.fixture(scope='module')
def found():
  return entries.versions(report_example.example_report())


@pytest.fixture(scope='module')
def curves():
  return report_example.example_curves()


def draw_all(found, curves):
  return {
    plot.name: plot
    for plot in (
      plot_scores.error_tradeoff(curves, found),
      plots.error_against_size(found),
      plots.group_errors(found),
      plots.group_errors(found, key='groups_global'),
      plots.training_loss(curves['training'], found),
      plot_scores.score_histogram(curves['scores']['SFace'], name='SFace'),
    )
  }


@pytest.fixture(scope='module')
def drawn(found, curves):
  return draw_all(found, curves)


def test_every_figure_is_well_formed_and_named(drawn):
  assert list(drawn) == [
    'error-tradeoff',
    'error-against-size',
    'groups-errors',
    'groups-global-errors',
    'training-loss',
    'score-histogram',
  ]
  for plot in drawn.values():
    root = xml.etree.ElementTree.fromstring(plot.svg)
    assert root.tag == '{http://www.w3.org/2000/svg}svg'
    assert 'viewBox' in root.attrib
    assert plot.caption.endswith('.')
    assert plot.alt.endswith('.')
    assert len(plot.svg) < 300_000


def test_figures_carry_no_date_and_are_the_same_twice(drawn, found, curves):
  assert draw_all(found, curves) == drawn
  for plot in drawn.values():
    assert 'metadata' not in plot.svg
    assert not re.search(r'20\d\d-\d\d', plot.svg)


def test_figures_share_no_ids(drawn):
  ids = [
    name
    for plot in drawn.values()
    for name in re.findall(r'\bid="([^"]+)"', plot.svg)
  ]
  assert len(ids) == len(set(ids))


def test_colours_are_variables_with_a_fallback(drawn):
  for plot in drawn.values():
    assert 'var(--ink, #1b1f23)' in plot.svg
    bare = re.findall(r'(?<!, )#[0-9a-f]{6}', plot.svg)
    assert set(bare) <= {'#ffffff', '#000000'}


def test_colour_says_method_and_dash_says_width(found):
  styles = plot_style.series(found)
  assert styles['SFace'].colour == plot_style.INK
  assert styles['EKD w6a6'].colour == styles['EKD w4a4'].colour
  assert styles['EKD w6a6'].dash != styles['EKD w4a4'].dash
  assert styles['EKD w6a6'].dash == styles['QuantFace w6a6'].dash
  assert len({(s.colour, s.dash) for s in styles.values()}) == len(styles)


def test_of_many_variants_the_best_eight_are_coloured():
  report = report_example.example_report()
  report['variants'] = [
    report['variants'][0] | {'name': f'v{i}', 'verification': {'eer': 40.0 - i}}
    for i in range(40)
  ]
  found = entries.versions(report)
  styles = plot_style.series(found)
  coloured = [name for name, s in styles.items() if s.colour is not None]
  assert coloured == ['SFace', *(f'v{i}' for i in range(32, 40))]
  points = {'fmr': [0.0, 0.1, 1.0], 'fnmr': [1.0, 0.1, 0.0]}
  plot = plot_scores.error_tradeoff({v.name: points for v in found}, found)
  assert '32 others are grey' in plot.caption


@pytest.mark.parametrize(
  'points',
  [
    {'fmr': [0.0, 0.0, 1.0], 'fnmr': [1.0, 0.0, 0.0]},
    {'fmr': [1.0, 1.0], 'fnmr': [1.0, 1.0]},
    {'fmr': [0.0, 0.0], 'fnmr': [0.0, 0.0]},
    {'fmr': [0.0, np.nan, 1.0], 'fnmr': [1.0, 0.5, 0.0]},
    {'fmr': [0.0, None, 1.0], 'fnmr': [1.0, 0.5, 0.0]},
    {'fmr': [1e-9, 1.0], 'fnmr': [1.0, 1e-9]},
  ],
)
def test_extreme_curves_are_drawn(found, points):
  assert plot_scores.error_tradeoff({'SFace': points}, found) is not None


@pytest.mark.parametrize(
  'points',
  [
    None,
    {},
    {'fmr': [0.5], 'fnmr': [0.5]},
    {'fmr': [np.nan] * 3, 'fnmr': [0.0] * 3},
    {'fmr': [2.0, 3.0], 'fnmr': [0.0, 0.1]},
  ],
)
def test_curves_without_two_points_are_left_out(found, points):
  assert plot_scores.error_tradeoff({'SFace': points}, found) is None


def test_long_curves_keep_their_shape():
  fmr = np.linspace(0, 1, 20_001)
  points = plot_scores.thinned({'fmr': fmr, 'fnmr': 1 - fmr})
  assert len(points) <= 400
  np.testing.assert_allclose(points.sum(axis=1), 1)
  steps = np.abs(np.diff(ndtri(np.clip(points[1:-1], 1e-4, 1)), axis=0))
  assert steps.max() < 0.5


def test_nothing_to_draw_gives_none():
  report = {'reference': {'name': 'r'}, 'variants': []}
  found = entries.versions(report)
  assert plots.error_against_size(found) is None
  assert plots.group_errors(found) is None
  assert plots.training_loss({}, found) is None
  assert plots.training_loss({'v': {'step': [], 'loss': []}}, found) is None
  assert (
    plots.training_loss({'v': {'step': [1], 'loss': [None]}}, found) is None
  )
  assert plot_scores.score_histogram(None, name='r') is None
  assert plot_scores.score_histogram({'genuine': []}, name='r') is None


@pytest.mark.parametrize('loss', [[1.0], [0.0, -1.0], [5.0, 5.0], [1e-9, 1e9]])
def test_odd_losses_are_drawn(found, loss):
  run = {'step': list(range(len(loss))), 'loss': loss}
  assert plots.training_loss({'EKD w6a6': run, 'other': run}, found)


def test_equal_scores_are_drawn():
  scores = {'genuine': [0.5, 0.5], 'impostor': [np.nan], 'threshold': None}
  assert plot_scores.score_histogram(scores, name='r') is not None


@pytest.mark.parametrize('eer', [0.0, 1e-4, 50.0])
def test_one_point_is_drawn(eer):
  entry = {
    'name': 'r',
    'verification': {'eer': eer},
    'bytes': {'on_disk': 1},
  }
  found = entries.versions({'reference': entry, 'variants': []})
  assert plots.error_against_size(found) is not None


def test_labels_tell_long_names_apart():
  names = [f'{"common start " * 5}{i} common end' for i in range(3)]
  labels = numerals.labels([*names, 'short'], width=20)
  assert labels['short'] == 'short'
  assert len(set(labels.values())) == 4
  assert max(map(len, labels.values())) <= 20
