"""Park and No: rounds and widths of the paper's own plans."""

import pytest

from compress.errors import InputError
from compress.prune import rewinding_rounds, student_widths

VGG19 = (64, 64, 128, 128, *[256] * 4, *[512] * 8)
PLAN_79 = (40, 49, 111, 97, 225, 187, 224, 170)
PLAN_79 += (356, 233, 220, 99, 111, 84, 297, 122)


def weights(widths, area=9, channels=3):
  before = (channels, *widths[:-1])
  return [area * a * b for a, b in zip(before, widths, strict=True)]


def test_a_dense_teacher_has_an_equal_student():
  assert student_widths(weights(VGG19)) == VGG19


def test_the_published_plan_of_79_percent():
  left = weights(PLAN_79)
  assert sum(left) == 4_141_413
  assert round(100 * (1 - sum(left) / sum(weights(VGG19))), 1) == 79.3
  assert student_widths(left) == PLAN_79


def test_rounding_does_not_pile_up():
  # Each width divides by the one before it as it was rounded.
  left = [int(0.4 * n) for n in weights(VGG19)]
  found = sum(weights(student_widths(left)))
  assert abs(found / sum(left) - 1) < 0.01


def test_by_hand():
  # 100 / 27 = 3.7, 300 / 36 = 8.33, dense on 4 places of 8: 70 / 32 = 2.19.
  assert student_widths([100, 300, 70], areas=[9, 9, 4]) == (4, 8, 2)
  assert student_widths([1], channels=1) == (1,)


@pytest.mark.parametrize(
  'sparsity, rounds', [(0.36, 2), (0.59, 4), (0.79, 7), (0.0, 0), (0.99, 21)]
)
def test_rounds(sparsity, rounds):
  assert rewinding_rounds(sparsity) == rounds


def test_errors():
  with pytest.raises(InputError, match='layer 1: 0 weights survive'):
    student_widths([100, 0])
  with pytest.raises(InputError, match='2 layers, 1 areas'):
    student_widths([100, 5], areas=[9])
  with pytest.raises(InputError, match='fraction=1'):
    rewinding_rounds(0.5, fraction=1.0)
  with pytest.raises(InputError, match='outside'):
    rewinding_rounds(1.0)
