"""How much of a teacher a student has taken over.

Two questions that need not have one answer (Stanton, Izmailov, Kirichenko,
Alemi and Wilson 2021, "Does Knowledge Distillation Really Work?", NeurIPS,
arXiv:2106.05945): how well the student classifies, and how far it does what the
teacher does, its fidelity: the share of inputs with the same answer, and the
divergence of their probabilities.

A figure over several pairs of networks compares methods: the average relative
improvement of Tian, Krishnan and Isola (2020), arXiv:1910.10699, section 4,

  mean over pairs of (acc_method - acc_base) / (acc_base - acc_alone) .

All is float64 on the host; accuracies and shares are 0..1, but any one unit
gives the same ratios. Means of accuracies that are equal may differ in their
last digits: a difference below 1e-9 of them is none.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from compress.distill.response import check_temperature
from compress.errors import InputError

_TIE = 1e-9


class Gap(NamedTuple):
  """A student beside its teacher.

  Attributes:
    teacher: the teacher's accuracy, 0..1.
    student: the student's.
    accuracy_gap: teacher less student.
    won_back: share of the gap between the teacher and a student trained
      alone; None without such a student, or where there was no gap.
    agreement: share of the inputs with the same most likely class.
    shared_errors: share of the teacher's errors that the student repeats, the
      same wrong class; None where the teacher makes none.
    divergence: mean KL(teacher || student), nats.
    count: number of inputs.
  """

  teacher: float
  student: float
  accuracy_gap: float
  won_back: float | None
  agreement: float
  shared_errors: float | None
  divergence: float
  count: int


def agreement(student: ArrayLike, teacher: ArrayLike) -> float:
  """Share of the inputs to which both networks give the same class.

  Args:
    student: logits `[N, C]`.
    teacher: logits `[N, C]`. Of equal logits the first counts, for both.

  Returns:
    0..1.

  Raises:
    InputError: shapes that do not fit, or logits that are not finite.
  """
  student, teacher = _logits(student, teacher)
  return float(np.mean(student.argmax(1) == teacher.argmax(1)))


def fidelity_divergence(
  student: ArrayLike, teacher: ArrayLike, *, temperature: float = 1.0
) -> float:
  """Mean of KL(q_t(T) || q_s(T)) over the inputs, without T squared.

  Args:
    student: logits `[N, C]`.
    teacher: logits `[N, C]`.
    temperature: T > 0; 1 for the answers that are deployed.

  Returns:
    Nats, 0 or more.

  Raises:
    InputError: shapes that do not fit, logits that are not finite, T not
      above 0.
  """
  check_temperature(temperature)
  student, teacher = _logits(student, teacher)
  log_s = special.log_softmax(student / temperature, axis=1)
  log_t = special.log_softmax(teacher / temperature, axis=1)
  found = np.sum(np.exp(log_t) * (log_t - log_s), axis=1).mean()
  return max(float(found), 0.0)


def share_won_back(
  teacher: float, student: float, *, alone: float
) -> float | None:
  """Share of the gap between teacher and student alone that was closed.

  Args:
    teacher: the teacher's accuracy.
    student: the accuracy of the student that was taught.
    alone: that of the same student trained on labels alone, as long.

  Returns:
    `(student - alone) / (teacher - alone)`: 0 as alone, 1 as the teacher,
    outside where it is worse or better than both. None where the teacher is
    no better than the student alone.

  Raises:
    InputError: a figure that is not finite.
  """
  if not np.isfinite([teacher, student, alone]).all():
    raise InputError(
      f'accuracies {teacher}, {student}, {alone}; right are finite numbers'
    )
  gap = teacher - alone
  ahead = gap > _TIE * max(abs(teacher), abs(alone))
  return (student - alone) / gap if ahead else None


def teacher_student_gap(
  student: ArrayLike,
  teacher: ArrayLike,
  labels: ArrayLike,
  *,
  alone: ArrayLike | None = None,
) -> Gap:
  """All figures of one pair of networks.

  Args:
    student: logits `[N, C]`.
    teacher: logits `[N, C]` of the same inputs.
    labels: int `[N]`, 0..C-1.
    alone: logits `[N, C]` of the student trained on labels alone.

  Returns:
    The figures. A class counts as right if it is the first of the largest.

  Raises:
    InputError: shapes that do not fit, labels that are no class, or logits
      that are not finite.
  """
  student, teacher = _logits(student, teacher)
  labels = np.asarray(labels)
  fit = labels.shape == student.shape[:1]
  if not (fit and np.isin(labels, np.arange(student.shape[1])).all()):
    raise InputError(
      f'labels {list(labels.shape)} for logits {list(student.shape)}; right is '
      f'one of 0..{student.shape[1] - 1} for each row'
    )
  answers, taught = student.argmax(1), teacher.argmax(1)
  right_s, right_t = (
    float(np.mean(answers == labels)),
    float(np.mean(taught == labels)),
  )
  won_back = None
  if alone is not None:
    alone, _ = _logits(alone, teacher)
    before = float(np.mean(alone.argmax(1) == labels))
    won_back = share_won_back(right_t, right_s, alone=before)
  wrong = taught != labels
  repeated = (
    float(np.mean(answers[wrong] == taught[wrong])) if wrong.any() else None
  )
  return Gap(
    teacher=right_t,
    student=right_s,
    accuracy_gap=right_t - right_s,
    won_back=won_back,
    agreement=agreement(student, teacher),
    shared_errors=repeated,
    divergence=fidelity_divergence(student, teacher),
    count=len(labels),
  )


def average_relative_improvement(
  method: Sequence[float],
  base: Sequence[float],
  *,
  alone: Sequence[float],
) -> float | None:
  """By how much a method improves on another's gain, over pairs of networks.

  The formula above. A pair where the other method gains little weighs much,
  and one where it loses turns the sign: read it beside the accuracies.

  Args:
    method: accuracies of the students of each pair, any unit.
    base: of the method to compare with, such as plain distillation.
    alone: of the students trained on labels alone.

  Returns:
    0 where both gain the same, .5 where the method gains half as much again;
    None where the other method leaves some student as it was.

  Raises:
    InputError: none, sequences of other lengths, figures that are not finite.
  """
  method, base, own = (np.asarray(x, np.float64) for x in (method, base, alone))
  fit = method.shape == base.shape == own.shape == (method.size,)
  if not (fit and method.size and np.isfinite([method, base, own]).all()):
    raise InputError(
      f'accuracies {list(method.shape)}, {list(base.shape)} and '
      f'{list(own.shape)}; right is a finite one a pair of networks in each'
    )
  gains = base - own
  if (abs(gains) <= _TIE * np.maximum(abs(base), abs(own))).any():
    return None
  return float(np.mean((method - base) / gains))


def _logits(student, teacher):
  """Both as float64 `[N, C]`; raises where they are not such."""
  student = np.asarray(student, np.float64)
  teacher = np.asarray(teacher, np.float64)
  if student.ndim != 2 or student.shape != teacher.shape or not student.size:
    raise InputError(
      f'logits {list(student.shape)} and {list(teacher.shape)}; right is '
      '[N, C] for both'
    )
  if not (np.isfinite(student).all() and np.isfinite(teacher).all()):
    raise InputError('logits are not finite')
  return student, teacher
