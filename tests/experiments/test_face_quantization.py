"""The study from the command line, as small as it gets."""

import functools
import json
import math
import os

import pytest

from tests.experiments import command_line
from tests.experiments.command_line import (
  assert_refused,
  assert_refused_untouched,
  contents,
  finished,
  read_report,
  run_to_report,
)

STUDY = 'face_quantization'
FARS = ('1e-1', '1e-2', '1e-3')
NAMES = (
  ('post_training w6a6', 'post_training'),
  ('post_training synthesized w6a6', 'post_training synthesized'),
  ('ekd_class synthesized w6a6', 'ekd_class synthesized'),
)
SOURCES = ['--calibrate_on=photographs', '--calibrate_on=synthesized']
start = functools.partial(command_line.start, STUDY, '--smoke')


@pytest.mark.parametrize(
  'record, message',
  [
    ({'study': 'pruning', 'config': {}}, "holds the study 'pruning'"),
    ({'study': STUDY, 'config': {'network': 'iresnet'}}, 'was made with'),
    ({'study': STUDY}, 'damaged'),
    (None, 'not empty, and no output of face_quantization'),
  ],
)
def test_a_folder_that_is_not_its_own(record, message, tmp_path):
  name = 'run.json' if record else 'holiday.jpg'
  (tmp_path / name).write_text(json.dumps(record))
  before = contents(tmp_path)
  assert_refused(start(output=tmp_path), message)
  assert contents(tmp_path) == before


@pytest.mark.parametrize(
  'flags, message',
  [
    (['--weights=missing.onnx'], 'missing.onnx: no such file'),
    (['--network=iresnet'], '--network=iresnet needs --weights'),
    (['--dataset=folder'], '--data_path'),
    (['--test_set=bin'], '--test_set=bin needs --test_path'),
    (['--folds=41'], '41 folds over 40 people'),
    (
      ['--calibrate_on=noise', '--calibrate_on=noise'],
      '--calibrate_on: a variant is given twice',
    ),
  ],
)
def test_bad_input_leaves_nothing_behind(flags, message, tmp_path):
  assert_refused_untouched(start, flags, message, tmp_path)


@pytest.fixture(scope='module')
def smoke(tmp_path_factory):
  return run_to_report(start, tmp_path_factory, *SOURCES)


def numbers(value, path=''):
  """Path and value of every number of a report."""
  if isinstance(value, dict):
    for key, inner in value.items():
      yield from numbers(inner, f'{path}/{key}')
  elif isinstance(value, list):
    for i, inner in enumerate(value):
      yield from numbers(inner, f'{path}/{i}')
  elif isinstance(value, int | float) and not isinstance(value, bool):
    yield path, value


@pytest.mark.slow
def test_prints_the_table_and_where_the_report_is(smoke):
  output, printed = smoke
  rows = [line.partition('  ')[0] for line in printed.splitlines()]
  assert {'sface', 'post_training w6a6'} <= set(rows)
  # Longer names lose their middle.
  assert len({x for x in rows if '…' in x and x.endswith('w6a6')}) == 2
  assert (output / 'report.md').is_file()
  page = (output / 'report.html').read_text()
  assert page.lstrip().lower().startswith('<!doctype html>')
  assert 'src="http' not in page
  assert 'id="calibration-inputs"' in page


@pytest.mark.slow
def test_the_report_has_its_fields(smoke):
  report = read_report(smoke[0])
  assert report['study'] == STUDY
  assert report['command'].startswith(f'python -m experiments.{STUDY} --smoke')
  (table,) = report['tables']
  assert table['title'] == 'Ranges without a photograph'
  assert [row[0] for row in table['rows']] == ['post_training w6a6']
  assert {'python', 'jax', 'device', 'cores'} <= set(report['environment'])
  dataset = report['dataset']
  assert (dataset['name'], dataset['people'], dataset['photos']) == (
    'ORL',
    3,
    30,
  )
  # 3 people of 10 photographs: 3 * 45, and 3 * 100.
  assert (dataset['genuine_pairs'], dataset['impostor_pairs']) == (135, 300)
  assert dataset['split'] == 'train on people 1-4, test on people 31-33'
  variants = report['variants']
  named = [
    (v['name'], v['method'], v['weight_bits'], v['activation_bits'], v['seed'])
    for v in variants
  ]
  assert named == [(*name, 6, 6, 0) for name in NAMES]
  assert (
    'start at those of images made'
    in (report['methods']['ekd_class synthesized']['summary'])
  )
  for entry in (report['reference'], *variants):
    found = entry['verification']
    assert set(FARS) <= set(found['tar_at_far'])
    assert 0 <= found['eer'] <= 100 and 0 <= found['accuracy'] <= 100
    interval = found['interval']
    for low, high in (interval['eer'], interval['accuracy']):
      assert low <= high
    assert set(FARS) <= set(interval['tar_at_far'])
    assert {'man', 'avg', 'std', 'ser'} <= set(entry['groups'])
    assert set(FARS) <= set(entry['groups']['man']['tar_at_far'])
    sizes = entry['bytes']
    assert 0 < sizes['nominal'] <= sizes['packed']
    # Entropy-coded, with a header.
    assert 0.5 * sizes['packed'] < sizes['on_disk'] < 1.01 * sizes['packed']
    assert entry['macs'] > 0 and entry['bops'] > 0
    for batch in ('batch1', 'batch32'):
      assert entry['latency_ms'][batch]['median'] > 0
  assert all(math.isfinite(value) for _, value in numbers(report))


@pytest.mark.slow
def test_what_the_report_says_of_costs(smoke):
  output, _ = smoke
  report = read_report(output)
  reference, given, matched, tuned = report['reference'], *report['variants']
  assert reference['bops'] == 32 * 32 * reference['macs']
  # The image keeps 8 bits at the first layer.
  assert 6 * 6 * tuned['macs'] < tuned['bops'] < 6 * 8 * tuned['macs']
  assert given['bops'] == matched['bops'] == tuned['bops']
  assert len({v['macs'] for v in (reference, given, tuned)}) == 1
  assert tuned['bytes']['on_disk'] <= 0.2 * reference['bytes']['on_disk']
  files = {
    'reference.safetensors': reference,
    'networks/post_training_w6a6/network.safetensors': given,
    'networks/ekd_class_synthesized_w6a6/network.safetensors': tuned,
  }
  for path, entry in files.items():
    assert (output / path).stat().st_size == entry['bytes']['on_disk']


def without_times(report):
  report = dict(report)
  for entry in (report['reference'], *report['variants']):
    entry.pop('latency_ms')
    entry.pop('speedup', None)
  return report


@pytest.mark.slow
def test_a_second_run_computes_nothing_anew(smoke):
  output, _ = smoke
  report = read_report(output)
  kept = {p: b for p, b in contents(output).items() if 'networks/' in p}
  times = {p: os.stat(output / p).st_mtime_ns for p in kept}
  finished(start(*SOURCES, output=output))
  assert {p: os.stat(output / p).st_mtime_ns for p in kept} == times
  assert {p: b for p, b in contents(output).items() if 'networks/' in p} == kept
  assert without_times(read_report(output)) == without_times(report)


@pytest.mark.slow
def test_another_setting_is_refused(smoke):
  output, _ = smoke
  before = contents(output)
  done = start(*SOURCES, '--observer=minmax', output=output)
  assert_refused(done, "another observer ('mse', now 'minmax')")
  assert contents(output) == before
