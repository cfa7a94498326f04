"""What the study of quantization with a teacher does, and its student."""

import dataclasses
from typing import NamedTuple

from compress import models
from compress.data import ImageSplits
from compress.errors import InputError
from experiments.classification import networks as networks_lib
from experiments.classification.networks import Classifier
from experiments.classification.tuning import Tuning


@dataclasses.dataclass(frozen=True)
class Settings:
  """What decides the result.

  Attributes:
    dataset: 'digits', or a name of the tensorflow-datasets catalogue.
    data_dir: where prepared sets are kept; None is the catalogue's default.
    data_path: folder of the set's own files, None to use what is prepared.
    student: 'cifar_resnet8', 'cifar_resnet20' or 'lenet300', whose quantized
      activations are never negative.
    student_width: its channels, as a share of the usual ones.
    teacher: a key of `experiments.classification.networks.MAKERS`.
    bits: of weights and activations; 2 to 6, each once.
    seeds: runs of everything.
    start_epochs: of the float student that all begin with.
    epochs: of every student from there.
    teacher_epochs: of the teacher.
    tuning: of every run, but for its epochs.
    drawn_temperature: of SPEQ's cosine.
    images: training images, None for all.
    smoke: a minimal run.
  """

  dataset: str = 'digits'
  data_dir: str | None = None
  data_path: str | None = None
  student: str = 'cifar_resnet8'
  student_width: float = 0.25
  teacher: str = 'cifar_resnet20'
  bits: tuple[int, ...] = (4, 2)
  seeds: int = 3
  start_epochs: int = 12
  epochs: int = 12
  teacher_epochs: int = 20
  tuning: Tuning = Tuning(hard_weight=0.5)
  drawn_temperature: float = 2.0
  images: int | None = None
  smoke: bool = False

  def smaller(self) -> 'Settings':
    """The same code on next to nothing."""
    return dataclasses.replace(
      self,
      student='lenet300',
      student_width=0.1,
      teacher='lenet300',
      bits=self.bits[-1:],
      seeds=1,
      start_epochs=1,
      epochs=2,
      teacher_epochs=1,
      images=128,
    )


class Row(NamedTuple):
  """One row of the report.

  Attributes:
    method: key of `quantization_aware_words.METHODS`.
    bits: of weights and activations; 0 stays float.
  """

  method: str
  bits: int = 0

  @property
  def name(self) -> str:
    """Unique, and fit for a file."""
    return (
      f'{self.method}_w{self.bits}a{self.bits}' if self.bits else self.method
    )


def make_student(settings: Settings, splits: ImageSplits) -> Classifier:
  """The small network of a study.

  Raises:
    InputError: no network that can be a student.
  """
  shape, classes = splits.train.image_shape, len(splits.train.classes)

  def widths(*usual):
    return tuple(max(1, round(settings.student_width * n)) for n in usual)

  makers = {
    'cifar_resnet8': lambda: models.cifar_resnet8(
      classes=classes, widths=widths(16, 32, 64)
    ),
    'cifar_resnet20': lambda: models.cifar_resnet20(
      classes=classes, widths=widths(16, 32, 64)
    ),
    'lenet300': lambda: models.lenet300(
      classes=classes, image_shape=shape, widths=widths(300, 100)
    ),
  }
  if settings.student not in makers:
    raise InputError(
      f'--student={settings.student}: right is one of {", ".join(makers)}'
    )
  return networks_lib.from_module(
    settings.student, makers[settings.student](), image_shape=shape
  )
