"""A teacher that studies together with its quantized student.

QKD: Kim, Bhalgat, Lee, Patel, Kwak 2019, 'QKD: Quantization-aware Knowledge
Distillation', arXiv:1911.12491. Three phases: in *self-studying* the quantized
student learns by labels alone, since a teacher's regularization hurts a student
of little capacity at the start; in *co-studying* both learn, each by the labels
and by the other's soft answers, which makes the teacher one that a quantized
network can follow; in *tutoring* the teacher is frozen.

The paper could not be opened; phases and formulas are as its abstract and
others' code have them. That code weights the two terms by alpha and 1 - alpha;
here the labels have weight 1 and the divergence `soft_weight`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from compress.distill.response import cross_entropy, soft_target_loss
from compress.errors import InputError

PHASES = ('self_study', 'co_study', 'tutoring')


class StudyLosses(NamedTuple):
  """The two losses of a step, float32 scalars.

  Attributes:
    student: without gradient to the teacher.
    teacher: without gradient to the student; 0 where the teacher does not
      learn.
  """

  student: jax.Array
  teacher: jax.Array


class Phase(NamedTuple):
  """A stretch of training.

  Attributes:
    name: of `PHASES`.
    begin: its first step.
    end: the step after its last.
  """

  name: str
  begin: int
  end: int


def co_study_losses(
  student: jax.Array,
  teacher: jax.Array,
  labels: jax.Array,
  *,
  temperature: float = 2.0,
  soft_weight: float = 1.0,
  phase: str = 'co_study',
) -> StudyLosses:
  """Losses of student and teacher in one of the phases.

  `CE(S) + w T^2 KL(q_t || q_s)` for the student, without the second term in
  self-studying; `CE(T) + w T^2 KL(q_s || q_t)` for the teacher in co-studying,
  else 0. The other side is detached in each, so that the gradient of the sum is
  that of both.

  Args:
    student: logits `[B, C]`.
    teacher: logits `[B, C]`.
    labels: classes 0..C-1, int `[B]`.
    temperature: T > 0; others use 2 or 6.
    soft_weight: w, added to the labels' weight of 1; 0 or more, no share.
    phase: one of `PHASES`; static. A teacher whose loss is 0 must be left out
      of the optimizer as well, or momentum and decay would still move it.

  Returns:
    Both losses.

  Raises:
    InputError: another phase, a temperature or weight that cannot be.
  """
  if phase not in PHASES:
    raise InputError(f'phase is {phase!r}; it must be {", ".join(PHASES)}.')
  if not soft_weight >= 0:
    raise InputError(f'soft_weight is {soft_weight}; it must be 0 or more.')

  def mutual(ours, theirs):
    soft = soft_target_loss(ours, theirs, temperature=temperature)
    return cross_entropy(ours, labels) + soft_weight * soft

  if phase == 'self_study':
    return StudyLosses(cross_entropy(student, labels), jnp.float32(0))
  if phase == 'tutoring':
    return StudyLosses(mutual(student, teacher), jnp.float32(0))
  return StudyLosses(mutual(student, teacher), mutual(teacher, student))


def study_phases(
  steps: int, *, shares: Sequence[float] = (30, 100, 70)
) -> tuple[Phase, ...]:
  """Where the phases of a run begin and end.

  Args:
    steps: of the run, 0 or more.
    shares: of self-studying, co-studying and tutoring, 0 or more, in any unit;
      by default the epochs of CIFAR that others report.

  Returns:
    The three phases, one after the other; a phase may be empty.

  Raises:
    InputError: shares or steps that cannot be.
  """
  total = sum(shares)
  right = len(shares) == len(PHASES) and all(x >= 0 for x in shares)
  if steps < 0 or not right or not 0 < total < float('inf'):
    raise InputError(
      f'{steps} steps in shares of {tuple(shares)}; right are three shares '
      'that are 0 or more, and not all 0'
    )
  marks = [round(steps * sum(shares[:i]) / total) for i in range(4)]
  return tuple(
    Phase(name, begin, end)
    for name, begin, end in zip(PHASES, marks, marks[1:], strict=False)
  )
