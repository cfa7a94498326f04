import html.parser
import json
import re

import jax.numpy as jnp
import numpy as np
import pytest

from compress.audit import entries, numerals, report, tables
from compress.errors import InputError
from tests.audit import report_example

VOID = {'meta', 'img', 'br', 'link', 'hr', 'input', 'use', 'path', 'stop'}


class Page(html.parser.HTMLParser):
  """Collects tags, attributes and text; checks that tags nest."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.links, self.ids, self.text = [], [], [], []
    self.cells, self.open, self.sizes = [], [], []
    self.feed(text)
    self.close()

  def handle_starttag(self, tag, attrs):
    attrs = dict(attrs)
    self.tags.append((tag, attrs))
    for name in ('src', 'href', 'xlink:href', 'action', 'data'):
      if name in attrs:
        self.links.append((tag, attrs[name]))
    if 'id' in attrs:
      self.ids.append(attrs['id'])
    if tag == 'table':
      self.sizes.append([])
    if tag == 'tr':
      self.sizes[-1].append(0)
    if tag in ('td', 'th'):
      self.sizes[-1][-1] += 1
    if tag not in VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.handle_starttag(tag, attrs)
    if tag not in VOID:
      self.open.pop()

  def handle_endtag(self, tag):
    if tag in VOID:
      return
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.text.append(data)


@pytest.fixture(scope='module')
def written(tmp_path_factory):
  folder = tmp_path_factory.mktemp('report')
  return report.write_report(
    report_example.example_report(),
    report_example.example_curves(),
    folder / 'new' / 'folder',
    images=report_example.example_images(),
  )


@pytest.fixture(scope='module')
def page(written):
  return Page(written['html'].read_text())


def minimal(**fields):
  return {
    'study': 's',
    'command': 'c',
    'environment': {},
    'dataset': {},
    'reference': {'name': 'r'},
    'variants': [{'name': 'v'}],
  } | fields


def render(tmp_path, given, curves=None, **options):
  paths = report.write_report(given, curves or {}, tmp_path, **options)
  return paths, Page(paths['html'].read_text())


def test_writes_three_files_and_nothing_else(written):
  folder = written['json'].parent
  assert sorted(path.name for path in folder.iterdir()) == [
    'report.html',
    'report.json',
    'report.md',
  ]


def test_json_round_trip(written):
  given = report_example.example_report()
  assert report.read_report(written['json']) == given
  assert report.read_report(written['json'].parent) == given
  text = written['json'].read_text()
  assert list(json.loads(text)) == list(given)
  assert text.startswith('{\n  "study": "face_quantization",\n')


def test_page_is_self_contained(page):
  assert page.open == []
  for tag, link in page.links:
    inline = link.startswith(('#', 'data:image/png;base64,'))
    paper = tag == 'a' and link.startswith('https://arxiv.org/abs/')
    assert inline or paper, (tag, link)
  names = {tag for tag, _ in page.tags}
  assert not names & {'script', 'link', 'iframe', 'object', 'embed', 'form'}
  assert not any(key.startswith('on') for _, a in page.tags for key in a)


def test_page_style_fetches_nothing(written):
  text = written['html'].read_text()
  assert '@import' not in text
  assert set(re.findall(r'url\(([^)]{0,2})', text)) <= {'#t', '#s', '#g'}


def test_page_ids_are_unique_and_anchors_exist(page):
  assert len(page.ids) == len(set(page.ids))
  targets = {link[1:] for _, link in page.links if link.startswith('#')}
  assert targets <= set(page.ids)


def test_page_tables_are_rectangular_and_in_their_own_box(page):
  assert len(page.sizes) >= 6
  for sizes in page.sizes:
    assert len(set(sizes)) == 1
  boxes = [a for _, a in page.tags if a.get('class') == 'scroll']
  assert len(boxes) == len(page.sizes)


def test_page_and_markdown_hold_every_variant_and_fact(written, page):
  given = report_example.example_report()
  words = ' '.join(page.text).replace('\N{NO-BREAK SPACE}', ' ')
  markdown = written['md'].read_text()
  for entry in [given['reference'], *given['variants']]:
    assert entry['name'] in words
    assert entry['name'] in markdown
  for fact in ('78,000', 'people 31–40', given['command'], '0.10.2'):
    assert fact in words
    assert fact in markdown
  for text in (given['warnings'][0], given['notes'][0]):
    assert text in words
    assert text in markdown
  assert 'Jacob et al., 2018' in words


def test_summary_states_size_difference_and_resolution(page):
  words = ' '.join(page.text).replace('\N{NO-BREAK SPACE}', ' ')
  assert (
    'The 8-bit network (post-training w8a8) is 3.9 times smaller on disk and '
    'has an equal error rate of 0.24 %, +0.02 points from the reference '
    '(95 % interval [−0.04, +0.08]: not resolved).' in words
  )
  assert 'Fine-tuning (EKD w4a4) wins back 88 % of what plain' in words


def test_figures_have_descriptions_and_photos_have_alt_text(page):
  figures = [a for _, a in page.tags if a.get('role') == 'img']
  assert len(figures) == 6
  assert all(len(a['aria-label']) > 40 for a in figures)
  photos = [a for tag, a in page.tags if tag == 'img']
  assert len(photos) == 10
  assert all(a['alt'] and a['width'] == '112' for a in photos)


def test_markdown_tables_are_rectangular(written):
  rows = []
  for line in [*written['md'].read_text().splitlines(), '']:
    if line.startswith('|'):
      rows.append(len(re.findall(r'(?<!\\)\|', line)))
    elif rows:
      assert len(set(rows)) == 1
      assert len(rows) > 2
      rows = []
  markdown = written['md'].read_text()
  assert '| SFace (float32) | 32 / 32 | 0.22 [0.06, 0.41] |' in markdown
  assert '[arXiv:1712.05877](https://arxiv.org/abs/1712.05877)' in markdown
  assert '\n\n\n' not in markdown


def test_same_input_gives_same_bytes(written, tmp_path):
  again = report.write_report(
    report_example.example_report(),
    report_example.example_curves(),
    tmp_path,
    images=report_example.example_images(),
  )
  for kind, path in written.items():
    assert path.read_bytes() == again[kind].read_bytes()


def test_several_seeds_become_means_and_runs(tmp_path):
  given = report_example.example_report(seeds=3)
  paths, page = render(tmp_path, given)
  words = ' '.join(page.text)
  eers = [
    v['verification']['eer']
    for v in given['variants']
    if v['name'] == 'EKD w4a4'
  ]
  shown = f'{np.mean(eers):.2f} ± {np.std(eers, ddof=1):.2f}'
  assert shown in words
  assert shown in paths['md'].read_text()
  assert 'resolved in 3 of 3' in words
  assert 'EKD w4a4 (seed 2)' in words
  assert '24 runs in all' in words


def test_reference_runs_over_folds_are_averaged(tmp_path):
  runs = [{'fold': i, 'verification': {'eer': 1.0 + i}} for i in range(2)]
  given = minimal(reference={'name': 'r', 'runs': runs})
  _, page = render(tmp_path, given)
  assert '1.50 ± 0.71' in ' '.join(page.text)


HOSTILE = '<script>alert(1)</script>|*b* "q" & \'x\' `c` $a_b$ {{ 7*7 }}'


def test_hostile_text_stays_text(tmp_path):
  verification = {'eer': 1.0, 'accuracy': 99.0}
  entry = {'verification': verification, 'bytes': {'on_disk': 5}}
  given = minimal(
    study=HOSTILE,
    command=HOSTILE,
    environment={HOSTILE: HOSTILE},
    dataset={'name': HOSTILE, 'split': {HOSTILE: HOSTILE}},
    reference={'name': HOSTILE, 'method': HOSTILE} | entry,
    variants=[
      {
        'name': HOSTILE + '2',
        'method': HOSTILE,
        'groups': {HOSTILE: verification},
      }
      | entry
    ],
    methods={
      HOSTILE: {
        'summary': HOSTILE,
        'paper': HOSTILE,
        'url': 'javascript:alert(1)',
      }
    },
    warnings=[HOSTILE],
    notes=[HOSTILE],
  )
  curve = {'fmr': [0.0, 0.5, 1.0], 'fnmr': [1.0, 0.5, 0.0]}
  curves = {HOSTILE: curve, 'training': {HOSTILE: {'step': [1], 'loss': [1]}}}
  paths, page = render(tmp_path, given, curves)
  assert page.open == []
  assert 'script' not in {tag for tag, _ in page.tags}
  assert not any('javascript' in link for _, link in page.links)
  assert HOSTILE in ' '.join(page.text)
  markdown = paths['md'].read_text()
  outside_code = [x for x in markdown.splitlines() if not x.startswith('    ')]
  assert '<script' not in '\n'.join(outside_code)
  assert report.read_report(tmp_path)['study'] == HOSTILE


def test_non_finite_numbers_become_null_with_a_note(tmp_path):
  given = minimal(
    reference={
      'name': 'r',
      'verification': {
        'eer': float('nan'),
        'accuracy': np.float32('inf'),
        'interval': {'eer': [float('nan'), 1.0]},
      },
      'macs': np.int64(7),
      'codes': np.arange(3, dtype=np.int8),
      'step': jnp.int32(4),
      'flag': np.bool_(True),
    }
  )
  paths, page = render(tmp_path, given)
  found = json.loads(paths['json'].read_text())['reference']
  assert found['verification'] == {
    'eer': None,
    'eer_note': 'not a number',
    'accuracy': None,
    'accuracy_note': 'infinite',
    'interval': {'eer': [None, 1.0], 'eer_note': 'not a number'},
  }
  assert found['macs'] == 7
  assert found['codes'] == [0, 1, 2]
  assert found['step'] == 4
  assert found['flag'] is True
  assert 'reference / verification / eer: not a number' in ' '.join(page.text)


def test_own_notes_win():
  given = {'eer': float('nan'), 'eer_note': 'too few pairs'}
  clean = report.to_plain(given)
  assert clean == {'eer': None, 'eer_note': 'too few pairs'}


def test_unknown_objects_are_a_programming_error(tmp_path):
  with pytest.raises(TypeError, match=r'report.dataset.name is a object'):
    report.write_report(minimal(dataset={'name': object()}), {}, tmp_path / 'x')
  assert not (tmp_path / 'x').exists()


def test_bare_minimum_renders(tmp_path):
  _, page = render(tmp_path, minimal())
  words = ' '.join(page.text)
  assert 'one compressed version of it was compared' in words
  assert report.format_table(minimal()).count('\n') == 5
  _, page = render(tmp_path, minimal(variants=[]))
  assert 'no compressed versions of it were' in ' '.join(page.text)


def test_a_subject_of_its_own_takes_the_place_of_the_computed(tmp_path):
  _, page = render(tmp_path, minimal(subject='Four <students>'))
  words = ' '.join(page.text)
  assert 'Four <students>' in words and 'compressed version' not in words
  with pytest.raises(InputError, match='subject must be text'):
    report.write_report(minimal(subject=['students']), {}, tmp_path)


def test_null_fields_render(tmp_path):
  entry = dict.fromkeys(
    'method weight_bits activation_bits seed verification difference flips '
    'groups groups_global bytes macs bops latency_ms execution'.split()
  )
  empty = dict.fromkeys(
    ('methods', 'conventions', 'warnings', 'notes', 'reproduce', 'description')
  )
  given = minimal(
    reference={'name': 'r'} | entry,
    variants=[{'name': 'v'} | entry],
    dataset={'name': None, 'people': None},
    **empty,
  )
  curves = {'r': None, 'scores': None, 'training': {'v': None}}
  _, page = render(tmp_path, given, curves)
  assert 'None' not in ' '.join(page.text)


def test_one_group_has_no_deviation(tmp_path):
  groups = {
    'all': {'accuracy': 99.0, 'interval': {'accuracy': [98.0, 99.5]}},
    'avg': 99.0,
    'std': float('nan'),
    'ser': 1.0,
  }
  _, page = render(tmp_path, minimal(reference={'name': 'r', 'groups': groups}))
  assert [a['id'] for tag, a in page.tags if tag == 'figure'] == [
    'groups-errors'
  ]


def test_forty_variants_with_long_names(tmp_path):
  base = report_example.example_report()
  variants = [
    base['variants'][i % 8] | {'name': f'{"a long name " * 9}{i}'}
    for i in range(40)
  ]
  given = base | {'variants': variants}
  curve = report_example.example_curves()['EKD w6a6']
  curves = {v['name']: curve for v in variants}
  paths, page = render(tmp_path, given, curves)
  assert sum(s for s in map(len, page.sizes[:1])) == 42
  assert paths['html'].stat().st_size < 2e6
  table = report.format_table(given)
  assert max(map(len, table.splitlines())) <= 100


def test_zero_eer_and_perfect_curves(tmp_path):
  perfect = {'eer': 0.0, 'accuracy': 100.0, 'interval': {'eer': [0.0, 0.3]}}
  entry = {'verification': perfect, 'bytes': {'on_disk': 100}}
  given = minimal(
    reference={'name': 'r'} | entry, variants=[{'name': 'v'} | entry]
  )
  curve = {'fmr': [0.0, 0.0, 1.0], 'fnmr': [1.0, 0.0, 0.0]}
  _, page = render(tmp_path, given, {'r': curve, 'v': curve})
  figures = [a['id'] for tag, a in page.tags if tag == 'figure']
  assert figures == ['error-tradeoff', 'error-against-size']


def test_table_marks_unresolved_differences():
  table = report.format_table(report_example.example_report())
  lines = table.splitlines()
  assert max(map(len, lines)) <= 100
  assert lines[2].split()[:4] == ['SFace', '32/32', '0.22', '[0.06,']
  assert [line for line in lines[:11] if '~' in line] == [lines[3]]
  assert lines[3].split()[-4:] == ['+0.02~', '9.92', '3.90×', '25.4']


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'variants': {}}, 'variants must be a list'),
    ({'variants': [{'method': 'x'}]}, r'variants\[0\] must be'),
    ({'reference': None}, 'reference must be a mapping'),
    ({'dataset': 'ORL'}, 'dataset must be a mapping'),
    (
      {'reference': {'name': 'r', 'bytes': 3}},
      r'reference\.bytes must be a mapping',
    ),
    ({'reference': {'name': 3}}, 'name'),
    ({'warnings': 'careful'}, 'warnings must be a list'),
    ({'methods': ['x']}, 'methods must be a mapping'),
  ],
)
def test_malformed_reports_are_refused(tmp_path, change, message):
  given = minimal(**change)
  with pytest.raises(InputError, match=message):
    report.write_report(given, {}, tmp_path / 'x')
  assert not (tmp_path / 'x').exists()
  path = tmp_path / 'r.json'
  path.write_text(json.dumps(given))
  with pytest.raises(InputError, match=message):
    report.read_report(path)


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    (b'', 'not strict JSON'),
    (b'{"study": NaN}', 'NaN is no JSON number'),
    (b'{"study"', 'not strict JSON'),
    (b'\xff\xfe', 'UTF-8'),
    (b'[]', 'expected an object'),
    (b'{}', 'lacks study, command'),
    (b'[' * 100_000, 'not strict JSON'),
  ],
)
def test_malformed_files_are_refused(tmp_path, text, message):
  path = tmp_path / 'report.json'
  path.write_bytes(text)
  with pytest.raises(InputError, match=message) as caught:
    report.read_report(path)
  assert '\n' not in str(caught.value)


def test_missing_file_is_refused(tmp_path):
  with pytest.raises(InputError, match='does not exist'):
    report.read_report(tmp_path)


def test_unwritable_folder_is_refused(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(InputError, match='give a folder'):
    report.write_report(minimal(), {}, tmp_path / 'file' / 'x')
  with pytest.raises(InputError, match='give a folder'):
    report.write_report(minimal(), {}, tmp_path / 'file')


@pytest.mark.parametrize(
  'images',
  [
    np.zeros((2, 112, 112), np.uint8),
    np.zeros((2, 112, 112, 3), np.float32),
    np.zeros((2, 112, 112, 2), np.uint8),
  ],
)
def test_wrong_images_are_refused(tmp_path, images):
  with pytest.raises(InputError, match='example photographs are uint8'):
    report.write_report(minimal(), {}, tmp_path / 'x', images=images)
  assert not (tmp_path / 'x').exists()


def test_no_images_show_no_photographs(tmp_path):
  empty = np.zeros((0, 112, 112, 3), np.uint8)
  _, page = render(tmp_path, minimal(), images=empty)
  assert 'img' not in {tag for tag, _ in page.tags}


def test_overwrites_an_older_report(tmp_path):
  report.write_report(minimal(study='old'), {}, tmp_path)
  report.write_report(minimal(study='new'), {}, tmp_path)
  assert report.read_report(tmp_path)['study'] == 'new'
  assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(
  ('ends', 'avg', 'std'),
  [
    ([-0.1, 0.2], 'not resolved', 'not resolved'),
    ([0.1, 0.2], 'better', 'worse'),
    ([-0.2, -0.1], 'worse', 'better'),
  ],
)
def test_group_summaries_are_marked_by_paired_intervals(ends, avg, std):
  groups = {'a': {'accuracy': 99.0}, 'avg': 99.0, 'std': 1.0, 'ser': 2.0}
  change = {'avg': 0.1, 'std': 0.1, 'interval': {'avg': ends, 'std': ends}}
  variant = {'name': 'v', 'groups': groups, 'difference': {'groups': change}}
  given = minimal(reference={'name': 'r', 'groups': groups}, variants=[variant])
  table = tables.groups(entries.versions(given), key='groups')
  assert [cell.mark for cell in table.rows[0]] == [''] * 6
  assert [cell.mark for cell in table.rows[1]] == ['', '', '', avg, std, '']


@pytest.mark.parametrize(
  ('value', 'text'),
  [
    (0, '0.00'),
    (0.0004, '0.0004'),
    (-0.0004, '−0.0004'),
    (-1.005, '−1.00'),
    (12345.678, '12,345.68'),
    (None, '–'),
    (float('nan'), '–'),
  ],
)
def test_fixed_numbers(value, text):
  assert numerals.fixed(value) == text


def test_numbers_with_units():
  assert numerals.megabytes(38_696_353) == '38.70'
  assert numerals.megabytes(261_220_000) == '261.2'
  assert numerals.megabytes(4_200) == '0.004'
  assert numerals.count(2_609_954_816) == '2.61 G'
  assert numerals.count(167_040_000_000) == '167 G'
  assert numerals.count(None) == '–'
