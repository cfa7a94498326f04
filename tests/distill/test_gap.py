"""The teacher-student gap against hand-computed values."""

import numpy as np
import pytest

from compress import distill
from compress.errors import InputError

ROWS, CLASSES = np.arange(4)[:, None], np.arange(5)[None, :]
STUDENT = np.sin(1 + 3 * ROWS + CLASSES)
TEACHER = 2 * np.cos(0.5 + ROWS * CLASSES)
# RepDistiller's CIFAR-100 table, networks of one family.
ALONE = [73.26, 71.98, 69.06, 69.06, 71.14, 72.50, 70.36]
PLAIN = [74.92, 73.54, 70.66, 70.67, 73.08, 73.33, 72.98]
CRD = [75.48, 74.14, 71.16, 71.46, 73.48, 75.51, 73.94]


def one_hot(answers):
  return 3.0 * np.eye(3)[np.array(answers)]


def test_divergence_golden():
  for temperature, expected in (
    (1, 0.8355250814040285),
    (4, 0.0787292855912822),
  ):
    found = distill.fidelity_divergence(
      STUDENT, TEACHER, temperature=temperature
    )
    assert found == pytest.approx(expected, rel=1e-10)
  assert distill.fidelity_divergence(TEACHER, TEACHER) == 0
  shift = np.array([[0.5], [-8.0], [3.0], [0.0]])
  found = distill.fidelity_divergence(TEACHER + shift, TEACHER)
  assert found == pytest.approx(0, abs=1e-12)


def test_agreement_by_hand():
  assert distill.agreement(one_hot([0, 1, 2, 0]), one_hot([0, 1, 1, 1])) == 0.5
  assert distill.agreement(TEACHER, TEACHER) == 1
  assert distill.agreement(5 * STUDENT + 1, STUDENT) == 1


def test_gap_by_hand():
  labels = [0, 1, 2, 0, 1, 2, 0, 1]
  teacher = one_hot([0, 1, 2, 0, 1, 2, 1, 2])
  student = one_hot([0, 1, 2, 0, 1, 0, 1, 0])
  alone = one_hot([0, 1, 2, 0, 0, 0, 2, 0])
  found = distill.teacher_student_gap(student, teacher, labels, alone=alone)
  assert (found.teacher, found.student, found.count) == (0.75, 0.625, 8)
  assert found.accuracy_gap == 0.125
  assert found.won_back == 0.5
  assert found.agreement == 0.75
  assert found.shared_errors == 0.5
  q = np.exp(3) / (np.exp(3) + 2)
  each = (q - (1 - q) / 2) * 3
  assert found.divergence == pytest.approx(each / 4, rel=1e-12)


def test_a_student_like_its_teacher_has_no_gap():
  labels = TEACHER.argmax(1)
  found = distill.teacher_student_gap(TEACHER, TEACHER, labels)
  assert found.accuracy_gap == found.divergence == 0
  assert found.agreement == 1
  assert found.won_back is None and found.shared_errors is None


def test_share_won_back():
  assert distill.share_won_back(0.9, 0.8, alone=0.8) == 0
  assert distill.share_won_back(0.9, 0.9, alone=0.8) == pytest.approx(1)
  assert distill.share_won_back(0.9, 0.7, alone=0.8) == pytest.approx(-1)
  assert distill.share_won_back(0.8, 0.9, alone=0.8) is None


def test_average_relative_improvement():
  improvement = distill.average_relative_improvement
  assert improvement([3.0, 2.0], [2.0, 3.0], alone=[1.0, 1.0]) == 0.25
  assert improvement(PLAIN, PLAIN, alone=ALONE) == 0
  # A student that gains half as much again, in per cent or not.
  more = [p + (p - a) / 2 for p, a in zip(PLAIN, ALONE, strict=True)]
  assert improvement(more, PLAIN, alone=ALONE) == pytest.approx(0.5)
  shares = [np.array(x) / 100 for x in (CRD, PLAIN, ALONE)]
  found = improvement(CRD, PLAIN, alone=ALONE)
  assert found == pytest.approx(
    improvement(shares[0], shares[1], alone=shares[2]), rel=1e-10
  )
  assert found == pytest.approx(0.6748931166952244, rel=1e-6)
  assert improvement([2.0], [1.0], alone=[1.0]) is None


def test_means_that_tie_are_no_gain():
  # 240, 241 and 248 have the mean 243, in other last digits.
  mean = np.mean([100 * (n / 359) for n in (240, 241, 248)])
  tied = 100 * (243 / 359)
  assert mean != tied
  for alone, base in ((mean, tied), (tied, mean)):
    assert distill.share_won_back(base, 80.0, alone=alone) is None
    assert (
      distill.average_relative_improvement([80.0], [base], alone=[alone])
      is None
    )


def test_bad_inputs():
  with pytest.raises(InputError, match=r'\[4, 5\] and \[4, 4\]'):
    distill.agreement(STUDENT, TEACHER[:, :4])
  with pytest.raises(InputError, match='not finite'):
    distill.agreement(STUDENT * np.inf, TEACHER)
  with pytest.raises(InputError, match='temperature is 0'):
    distill.fidelity_divergence(STUDENT, TEACHER, temperature=0)
  with pytest.raises(InputError, match=r'labels \[3\]'):
    distill.teacher_student_gap(STUDENT, TEACHER, [0, 1, 2])
  for label in (-1, 5, 0.5):
    with pytest.raises(InputError, match=r'one of 0\.\.4 for each'):
      distill.teacher_student_gap(STUDENT, TEACHER, [0, 1, 2, label])
  with pytest.raises(InputError, match='finite numbers'):
    distill.share_won_back(0.9, float('nan'), alone=0.8)
  with pytest.raises(InputError, match='one a pair'):
    distill.average_relative_improvement([1.0], [2.0, 3.0], alone=[0.0])


def test_figures_that_are_no_numbers_are_refused():
  for place in range(3):
    figures = [[1.0, 2.0], [2.0, 3.0], [0.0, 1.0]]
    figures[place][1] = float('nan')
    method, base, alone = figures
    with pytest.raises(InputError, match='right is a finite one'):
      distill.average_relative_improvement(method, base, alone=alone)
