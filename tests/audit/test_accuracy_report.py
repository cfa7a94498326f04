import copy
import re
import xml.etree.ElementTree

import numpy as np
import pytest

from compress import audit
from compress.audit import (
  accuracy_tables,
  accuracy_words,
  entries,
  plot_accuracy,
)
from compress.errors import InputError
from tests.audit import classification_example


@pytest.fixture(scope='module')
def example():
  return classification_example.example_report()


@pytest.fixture(scope='module')
def found(example):
  return entries.versions(example)


@pytest.fixture(scope='module')
def page(example, tmp_path_factory):
  folder = tmp_path_factory.mktemp('report')
  paths = audit.write_report(
    example, {}, folder, images=classification_example.example_images()
  )
  return {kind: path.read_text() for kind, path in paths.items()}


def test_the_table_shows_accuracy_and_ratios(found):
  table = accuracy_tables.accuracy(found)
  heads = [heading for heading, _ in table.columns]
  assert heads[:4] == ['Network', 'Sparsity', 'Accuracy', 'Against reference']
  rows = {row[0].value: [cell.value for cell in row] for row in table.rows}
  assert rows['LeNet-5'][2] == '99.20 ± 0.12'
  assert rows['LeNet-5'][3] == '–'
  last = rows['channels 32×']
  assert last[1:4] == ['96.9', '95.20 ± 0.54', '−4.00']
  assert last[6:] == ['4.1 k', '32.0×', '16.8 k', '32.0×', '13.4×']
  assert table.rows[0][2].detail == 'n = 3'


def test_columns_and_tables_without_figures_are_left_out(example):
  bare = copy.deepcopy(example)
  for entry in (bare['reference'], *bare['variants']):
    for key in ('top5', 'accuracy_before', 'bytes', 'latency_ms', 'macs'):
      entry.pop(key, None)
    entry.pop('speedup', None)
    entry.pop('widths', None)
  found = entries.versions(bare)
  heads = [heading for heading, _ in accuracy_tables.accuracy(found).columns]
  assert 'Top-5' not in heads and 'MACs' not in heads
  assert accuracy_tables.costs(found) is None
  assert accuracy_tables.runs(found) is None
  assert plot_accuracy.accuracy_against(found, 'speedup') is None
  assert plot_accuracy.kept_widths(found) is None
  assert plot_accuracy.accuracy_against(found, 'compression') is not None
  assert plot_accuracy.accuracy_against(found[:1], 'compression') is None


def test_bytes_without_milliseconds_are_called_bytes(example):
  assert (
    'milliseconds' in accuracy_tables.costs(entries.versions(example)).title
  )
  bare = copy.deepcopy(example)
  del bare['reference']['latency_ms']
  table = accuracy_tables.costs(entries.versions(bare))
  assert table.title == 'Bytes' and len(table.columns) == 2


def test_runs_that_are_listed_one_by_one(example, tmp_path):
  listed = copy.deepcopy(example)
  variant = listed['variants'][0]
  listed['variants'] = [
    {**variant, 'accuracy': 97.0 + i, 'seed': i} for i in range(3)
  ]
  found = entries.versions(listed)
  row = accuracy_tables.accuracy(found).rows[1]
  assert (row[2].value, row[2].detail) == ('98.00 ± 1.00', 'n = 3')
  single = accuracy_tables.runs(found)
  assert [r[0].value for r in single.rows][1:] == [
    f'random 2× (seed {i})' for i in range(3)
  ]
  assert (
    'Every run' in audit.write_report(listed, {}, tmp_path)['md'].read_text()
  )


@pytest.mark.parametrize('axis', ['compression', 'speedup'])
def test_figures_have_a_line_a_method(found, axis):
  plot = plot_accuracy.accuracy_against(found, axis)
  xml.etree.ElementTree.fromstring(plot.svg)
  assert plot == plot_accuracy.accuracy_against(found, axis)
  for name in classification_example.METHODS:
    assert name in plot.alt
  assert 'standard deviations' in plot.caption
  # One line and its bars each in the colours of the first four methods.
  for i in range(1, 5):
    assert f'--series-{i}' in plot.svg
  assert '--series-5' not in plot.svg
  assert plot.caption.endswith('.') and plot.alt.endswith('.')


def test_kept_widths_of_few_and_of_many_layers(found, example):
  plot = plot_accuracy.kept_widths(found)
  xml.etree.ElementTree.fromstring(plot.svg)
  assert '4 of 5 networks' in plot.caption
  assert 'channels 2× keeps 405 of 570 channels' in plot.alt
  many = copy.deepcopy(example)
  many['variants'][0]['widths'] = {
    f'stage{i // 10}/block{i % 10}/conv1': [8 + i % 9, 16] for i in range(40)
  }
  plot = plot_accuracy.kept_widths(entries.versions(many)[:2])
  xml.etree.ElementTree.fromstring(plot.svg)
  assert 'networks are drawn' not in plot.caption


def test_more_methods_than_colours(example):
  many = copy.deepcopy(example)
  many['variants'] = [
    {
      'name': f'm{i} {ratio}×',
      'method': f'm{i}',
      'params': 131_080 / ratio,
      'accuracy': 90.0 + i / 10,
    }
    for i in range(10)
    for ratio in (2, 4)
  ]
  plot = plot_accuracy.accuracy_against(entries.versions(many), 'compression')
  assert '2 further methods are grey' in plot.caption


def test_words_name_the_best_at_each_level(example, found):
  lines = [
    line.replace('\N{NO-BREAK SPACE}', ' ')
    for line in (accuracy_words.summary(found))
  ]
  assert len(lines) == 4
  assert lines[0].startswith(
    'At about 2 times fewer parameters, global magnitude 2×, the best of 4,'
  )
  assert 'classifies 98.30 ± 0.20 % of the test images' in lines[-1]
  assert '−0.90 points from the reference' in lines[-1]
  done = ' '.join(accuracy_words.what_was_done(example))
  assert 'LeNet-5 (131 k parameters)' in done
  assert 'Four methods' in done and '3 times' in done
  nothing = {**example, 'variants': []}
  assert accuracy_words.summary(entries.versions(nothing)) == []
  assert 'no compressed versions' in ' '.join(
    accuracy_words.what_was_done(nothing)
  )


def test_the_page_speaks_of_images_not_of_faces(page):
  for text in (page['html'], page['md']):
    for word in ('photograph', 'EER', 'FAR', 'impostor', 'Groups', 'people'):
      assert word not in text, word
    assert 'global magnitude 32×' in text
  assert 'What it cost: accuracy' in page['html']
  ids = re.findall(r'<figure id="([^"]+)"', page['html'])
  assert ids == ['accuracy-compression', 'accuracy-speedup', 'kept-widths']
  assert page['html'].count('image-rendering: pixelated') == 14
  names = re.findall(r'\bid="([^"]+)"', page['html'])
  assert len(names) == len(set(names))


def test_terminal_fits(example):
  lines = audit.format_table(example).splitlines()
  assert max(map(len, lines)) <= 100
  assert 'top-1 %' in lines[0] and 'measured' in lines[0]
  assert lines[2].split()[0] == 'LeNet-5'


def test_wrong_images_are_refused(example, tmp_path):
  with pytest.raises(InputError, match='uint8'):
    audit.write_report(
      example, {}, tmp_path, images=np.zeros((2, 8, 8, 2), np.uint8)
    )
