"""What a method of the distillation benchmark is: trainings, and losses."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from compress import distill

MAPS = ('map1', 'map2', 'map3')


class Shapes(NamedTuple):
  """Shapes of one image's features, by the benchmark's names."""

  student: dict[str, tuple[int, ...]]
  teacher: dict[str, tuple[int, ...]]


class Setting(NamedTuple):
  """What a method is prepared for.

  Attributes:
    shapes: of the features.
    labels: int [N] of the training images.
    classes: K.
    temperature: of the teacher's soft targets.
    hard_weight: share of the labels where the soft targets have the rest.
  """

  shapes: Shapes
  labels: np.ndarray
  classes: int
  temperature: float
  hard_weight: float


def _nothing(key):
  del key
  return {}


class Stage(NamedTuple):
  """One training of a student.

  Attributes:
    loss: `(student, teacher, lesson) -> (scalar, memory)`, of two views.
    features: names that the views have.
    extra: `key ->` what the loss learns along; None for what the stage before
      has learned.
    memory: `key ->` what it carries.
    fixed: names of what was learned along before that this stage only reads:
      they move from `extra` into the memory, where nothing decays them.
    own: whether the memory gets `logits` [N, K] besides, of the training
      images, by the student as it was trained alone.
    teaches: whether the student trained is kept; else only what was learned
      along.
  """

  loss: Callable[..., Any]
  features: tuple[str, ...] = ()
  extra: Callable[[jax.Array], Any] | None = None
  memory: Callable[[jax.Array], Any] = _nothing
  fixed: tuple[str, ...] = ()
  own: bool = False
  teaches: bool = True


def begin(stage: Stage, extra: Any, key: jax.Array) -> tuple[Any, Any]:
  """What a stage learns along and what it carries, at its start.

  Args:
    stage: the stage.
    extra: what the stage before has learned along.
    key: of what is drawn.

  Returns:
    The extra and the memory.
  """
  first, second = jax.random.split(key)
  extra = extra if stage.extra is None else stage.extra(first)
  memory = stage.memory(second)
  if stage.fixed:
    memory = {**memory, **{name: extra[name] for name in stage.fixed}}
    extra = {k: v for k, v in extra.items() if k not in stage.fixed}
  return extra, memory


def share_epochs(
  stages: Sequence[Stage], epochs: int, *, first: int
) -> list[int]:
  """Epochs of every stage, so that all methods teach a student for as long.

  Args:
    stages: of a method.
    epochs: of a student.
    first: of every stage but the last.

  Returns:
    The last has what those that teach before it leave.
  """
  before = stages[:-1]
  spent = sum(first for stage in before if stage.teaches)
  return [*(first for _ in before), epochs - spent]


class Method(NamedTuple):
  """A way to teach.

  Attributes:
    summary: one line.
    paper: authors, year, title, identifier; '' for none.
    make: `Setting -> tuple of stages`. What a stage learned along is the extra
      of the next; all but the last are short.
    teacher: whether it needs one.
    subclasses: logits a class, of the student and of a teacher of its own.
  """

  summary: str
  paper: str
  make: Callable[[Setting], Sequence[Stage]]
  teacher: bool = True
  subclasses: int = 1


def with_labels(weight: float, term: Callable[..., jax.Array]) -> Callable:
  """Labels, and a weight times a term of the two views and what is learned."""

  def loss(student, teacher, lesson):
    hard = distill.cross_entropy(student.logits, lesson.labels)
    value = term(student, teacher, lesson.extra)
    return hard + weight * value, lesson.memory

  return loss


def plain(term: Callable[..., jax.Array]) -> Callable:
  """A loss of logits and labels that remembers nothing."""

  def loss(student, teacher, lesson):
    return term(student, teacher, lesson), lesson.memory

  return loss
