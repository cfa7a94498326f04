import copy

import pytest

from compress import audit
from compress.audit import accuracy_words, entries, stated_tables, terminal
from compress.errors import InputError
from tests.audit import classification_example, report_example

TABLE = {
  'title': 'Bytes & stages',
  'note': 'Smaller is <better>.',
  'columns': [
    'Stage',
    {'heading': 'Bytes', 'unit': 'on disk'},
    {'heading': 'Ratio', 'digits': 1},
    {'heading': 'Lost', 'unit': 'points', 'sign': True},
  ],
  'rows': [
    ['float32', 1068648, 1.0, None],
    ['huffman', 22629, 47.22, [0.125, '± 0.20']],
  ],
  'marked': [1],
}


def test_cells_as_text():
  (table,) = stated_tables.tables([TABLE])
  assert table.columns[1:3] == (('Bytes', 'on disk'), ('Ratio', ''))
  assert [cell.value for cell in table.rows[0]] == [
    'float32',
    '1,068,648',
    '1.0',
    '–',
  ]
  assert table.rows[1][2].value == '47.2'
  assert (table.rows[1][3].value, table.rows[1][3].detail) == (
    '+0.12',
    '± 0.20',
  )
  assert table.kinds == ('variant', 'reference')
  assert stated_tables.tables(None) == []


@pytest.mark.parametrize('classifiers', [True, False])
def test_all_forms_of_a_report_show_them(classifiers, tmp_path):
  report = copy.deepcopy(
    classification_example.example_report()
    if classifiers
    else report_example.example_report()
  )
  report['tables'] = [TABLE, {**TABLE, 'title': 'Another', 'note': ''}]
  paths = audit.write_report(report, {}, tmp_path)
  page, text = paths['html'].read_text(), paths['md'].read_text()
  assert '<h3>Bytes &amp; stages</h3>' in page
  assert 'Smaller is &lt;better&gt;.' in page
  assert '1,068,648' in page and '>47.2<' in page
  assert '| huffman | 22,629 | 47.2 | +0.12 ± 0.20 |' in text
  assert page.index('Bytes &amp; stages') < page.index('<h3>Another</h3>')
  assert audit.read_report(tmp_path)['tables'][0]['rows'] == TABLE['rows']


def test_a_summary_of_its_own_takes_the_place_of_the_computed(tmp_path):
  report = classification_example.example_report()
  report['summary'] = ['47 times smaller & <no> worse.']
  paths = audit.write_report(report, {}, tmp_path)
  page = paths['html'].read_text()
  assert '<p>47 times smaller &amp; &lt;no&gt; worse.</p>' in page
  assert 'times fewer' not in page
  assert '- 47 times smaller' in paths['md'].read_text()
  with pytest.raises(InputError, match='summary must be a list'):
    audit.write_report({**report, 'summary': 'text'}, {}, tmp_path)


def test_as_plain_text():
  lines = terminal.stated_table(TABLE).splitlines()
  assert lines[0] == 'Bytes & stages'
  assert lines[1].split() == ['Stage', 'Bytes', 'Ratio', 'Lost']
  assert lines[2].split() == ['on', 'disk', 'points']
  assert set(lines[3]) == {'-'}
  assert lines[5].split() == ['huffman', '22,629', '47.2', '+0.12', '±', '0.20']
  assert len(lines) == 6


def test_columns_that_do_not_fit_are_named():
  columns = [
    'Stage',
    *({'heading': f'Heading {i}', 'digits': 6} for i in range(9)),
  ]
  row = ['a' * 60, *([1000000.0] * 9)]
  table = {'title': 'Wide', 'columns': columns, 'rows': [row]}
  lines = terminal.stated_table(table).splitlines()
  assert max(map(len, lines)) <= 100
  assert 'Heading 3' in lines[1] and 'Heading 4' not in lines[1]
  assert lines[3].split()[1:] == ['1,000,000.000000'] * 4
  assert lines[-1].startswith('not shown: Heading 4 Heading 5 ')


@pytest.mark.parametrize(
  'change, message',
  [
    ({'title': None}, 'title'),
    ({'columns': []}, 'columns'),
    ({'columns': ['a', 'b', 'c', {'unit': 'x'}]}, 'heading'),
    ({'columns': ['a', 'b', 'c', {'heading': 'x', 'digits': -1}]}, 'digits'),
    ({'rows': 3}, 'rows'),
    ({'rows': [['a', 1, 2.0]]}, 'row 0 must be a list of 4'),
    ({'rows': [['a', 1, 2.0, {}]]}, 'row 0: a cell'),
    ({'rows': [['a', 1, 2.0, [1, 2]]]}, 'row 0: a cell'),
    ({'rows': [['a', 1, 2.0, True]]}, 'row 0: a cell'),
    ({'marked': [2]}, 'marked'),
  ],
)
def test_what_is_no_table_is_refused(change, message, tmp_path):
  report = classification_example.example_report()
  report['tables'] = [{**TABLE, **change}]
  with pytest.raises(InputError, match=message) as found:
    audit.write_report(report, {}, tmp_path)
  assert 'tables[0]' in str(found.value)
  with pytest.raises(InputError, match='list'):
    audit.write_report({**report, 'tables': {}, 'variants': 1}, {}, tmp_path)
  assert not any(tmp_path.iterdir())


def test_ratios_of_bytes_are_called_so(tmp_path):
  report = copy.deepcopy(classification_example.example_report())
  report['reference']['compression_of'] = 'bytes'
  for variant in report['variants']:
    variant['compression'] = 525_000 / variant['bytes']['on_disk']
  found = entries.versions(report)
  assert 'times fewer bytes' in ' '.join(accuracy_words.summary(found))
  page = audit.write_report(report, {}, tmp_path)['html'].read_text()
  assert 'number of parameters of the reference divided' not in page
  assert 'bytes of the reference’s file divided' in page
