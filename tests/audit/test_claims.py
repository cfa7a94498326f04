import copy

from compress import audit
from tests.audit import classification_example


def test_a_complete_comparison_lacks_nothing():
  report = classification_example.example_report()
  assert audit.missing_evidence(report, baselines=['random']) == []


def test_every_gap_is_named():
  report = copy.deepcopy(classification_example.example_report())
  del report['reference']['accuracy']
  report['variants'] = report['variants'][:6]
  report['variants'][0]['accuracy']['n'] = 2
  del report['variants'][1]['macs'], report['variants'][1]['speedup']
  gaps = audit.missing_evidence(report, baselines=['random', 'channels'])
  assert len(gaps) == 5
  for gap, word in zip(
    gaps,
    (
      'uncompressed',
      'random 2×.',
      'layer magnitude.',
      'random 4×.',
      'channels',
    ),
    strict=True,
  ):
    assert word in gap
