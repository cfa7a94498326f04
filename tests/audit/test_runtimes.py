import pytest

from compress import audit
from compress.audit import entries, render, report, runtimes, tables
from tests.audit import report_example


def times(median):
  return {'median': median, 'spread': [median - 1, median + 1], 'n': 20}


def entry(float32, compressed, *, threads=(1, 2)):
  kinds = {}
  for kind, ms in (('float32', float32), ('compressed', compressed)):
    kinds[kind] = {
      f'threads{n}': {'batch1': times(ms / n), 'batch32': times(30 * ms / n)}
      for n in threads
    }
  return kinds


@pytest.fixture
def run():
  return {
    'name': 'small',
    'latency_ms': {
      'onnxruntime': entry(80, 40),
      'jax': entry(100, 110, threads=(2,)),
      'device': 'cpu',
    },
    'memory_bytes': {
      'onnxruntime': {
        'compressed': {'threads2': {'resident': 2e7, 'peak': 3e7}}
      }
    },
    'bytes': {
      'on_disk': 9,
      'runtime': {'onnxruntime': {'float32': 40e6, 'compressed': 10e6}},
    },
  }


def test_the_runtimes_of_an_entry(run):
  found = list(runtimes.timed(run))
  assert [(x.runtime, x.threads) for x in found] == [
    ('onnxruntime', 1),
    ('onnxruntime', 2),
    ('jax', 2),
  ]
  assert found[1].latency['compressed']['batch1']['median'] == 20
  assert found[1].memory['compressed']['peak'] == 3e7
  assert found[0].memory['compressed'] == {} == found[2].files


@pytest.mark.parametrize(
  'latency',
  [
    None,
    {},
    {'batch1': times(5), 'batch32': times(9), 'device': 'cpu', 'jax': '0.10'},
    {'batch1': 5.0},
  ],
)
def test_entries_of_before_have_no_runtimes(latency):
  assert list(runtimes.timed({'latency_ms': latency})) == []


def test_one_latency_for_narrow_tables(run):
  def median(is_reference):
    return runtimes.plain(run, 'batch1', is_reference=is_reference)['median']

  assert median(False) == 20
  assert median(True) == 40
  old = {'latency_ms': {**run['latency_ms'], 'batch1': 7}}
  assert runtimes.plain(old, 'batch1', is_reference=True) == 7
  assert runtimes.plain({}, 'batch1', is_reference=True) is None
  assert tables.latency(run, 'batch1').value == '20.0'
  assert tables.latency(run, 'batch1').detail == '[19.0, 21.0]'


def test_rows(run):
  version = entries.Version('small', (run,), False)
  columns, rows = runtimes.rows([version])
  assert len(rows) == 3 and {len(row) for row in rows} == {len(columns)}
  values = [value for value, _ in rows[1]]
  assert values[:6] == ['small', 'onnxruntime', '2', '40.0', '20.0', '2.00×']
  assert values[6:9] == ['1,200.0', '600.0', '2.00×']
  assert values[9:] == ['–', '30.00', '40.00', '10.00']
  assert rows[1][10][1] == '20.00 resident'


def test_every_form_of_the_report_shows_them(run):
  made, curves = (
    report_example.example_report(),
    report_example.example_curves(),
  )
  made['variants'][0] |= {
    key: run[key] for key in ('latency_ms', 'memory_bytes', 'bytes')
  }
  clean = report.to_plain(made)
  assert 'In every runtime, beside float32' in render.markdown(clean)
  assert '20.00 resident' in render.html(clean, curves)
  text = audit.format_table(clean)
  assert '40.0/20.0  2.00×' in text and '40.00/10.00' in text
  assert max(map(len, text.splitlines())) <= 100


def test_reports_without_runtimes_have_no_such_table():
  made = report.to_plain(report_example.example_report())
  assert 'In every runtime' not in render.markdown(made)
  assert 'runtime' not in audit.format_table(made)
