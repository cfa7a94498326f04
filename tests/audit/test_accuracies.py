import pytest

from compress.audit import accuracies, entries
from compress.audit.entries import Version


def version(*runs, reference=False):
  return Version('v', runs, reference)


def test_a_figure_is_a_number_a_summary_or_several_runs():
  one = accuracies.figure(version({'accuracy': 97.0}), 'accuracy')
  assert one == (97.0, None, 1)
  summary = {'mean': 97.0, 'std': 0.5, 'n': 3}
  found = accuracies.figure(version({'accuracy': summary}), 'accuracy')
  assert found == (97.0, 0.5, 3)
  runs = version({'accuracy': 96.0}, {'accuracy': {'mean': 98.0}}, {})
  assert accuracies.figure(runs, 'accuracy') == (97.0, pytest.approx(2**0.5), 2)
  for wrong in ({}, {'accuracy': None}, {'accuracy': {'mean': 'x'}}):
    assert accuracies.figure(version(wrong), 'accuracy') is None


def test_ratios_come_from_counts_unless_stated():
  base = version({'params': 100, 'macs': 60}, reference=True)
  small = version({'params': 25, 'macs': 20})
  assert accuracies.compression(small, base) == 4
  assert accuracies.speedup(small, base) == 3
  assert accuracies.compression(base, base) == 1
  stated = version(
    {'params': 25, 'compression': 5.0, 'speedup': {'theoretical': 2}}
  )
  assert accuracies.compression(stated, base) == 5
  assert accuracies.speedup(stated, base) == 2
  assert accuracies.measured_speedup(stated) is None
  assert accuracies.compression(version({'params': 0}), base) is None
  assert accuracies.compression(version({}), base) is None


def test_widths_that_make_no_sense_are_left_out():
  found = accuracies.widths(
    version({'widths': {'a': [3, 4], 'b': [5, 4], 'c': 3, 'd': [1], 'e': 'xy'}})
  )
  assert found == {'a': (3, 4)}
  assert accuracies.widths(version({})) == {}


def test_kind_of_study():
  classifier = version({'accuracy': 97.0})
  face = version({'accuracy': 97.0, 'verification': {'eer': 1.0}})
  assert accuracies.is_classification([classifier])
  assert not accuracies.is_classification([classifier, face])
  assert not accuracies.is_classification([version({})])
  assert accuracies.change(classifier, classifier) == 0
  assert entries.versions({'reference': {'name': 'r'}, 'variants': []})[
    0
  ].is_reference
