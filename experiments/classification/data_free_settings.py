"""What the study of inputs without data is told to do."""

import dataclasses
from typing import NamedTuple

from experiments.classification.data_free_kinds import KINDS
from experiments.classification.tuning import Tuning


class Making(NamedTuple):
  """How inputs are made.

  Attributes:
    images: of a kind.
    steps: updates of inputs that are moved down a loss.
    learning_rate: of these, in units of scaled pixels.
    generators: of KegNet.
    generator_steps: updates of each.
    generator_batch: images a step of these, and of the GAN.
    gan_steps: updates of the conditional GAN.
    gan_width: channels of its networks.
    ratio_steps: updates of its density ratio.
    burn_in: fakes of a class that tell which are chosen.
    temperature: of soft targets, that of the distillation.
  """

  images: int = 256
  steps: int = 120
  learning_rate: float = 0.05
  generators: int = 2
  generator_steps: int = 250
  generator_batch: int = 64
  gan_steps: int = 1200
  gan_width: int = 16
  ratio_steps: int = 1000
  burn_in: int = 512
  temperature: float = 4.0


@dataclasses.dataclass(frozen=True)
class Settings:
  """What decides the result.

  Attributes:
    dataset: 'digits', or a name of the tensorflow-datasets catalogue.
    data_dir: where prepared sets are kept; None is the catalogue's default.
    data_path: folder of the set's own files, None to use what is prepared.
    teacher: a key of `networks.MAKERS`.
    student: another.
    kinds: of inputs, some of `data_free_kinds.KINDS`.
    bits: widths of the quantized teachers.
    seeds: runs of everything.
    making: of inputs.
    tuning: of the teacher, and of the students for as many updates.
    calibration: inputs that ranges are calibrated on.
    observer: how a range comes from what was seen.
    smoke: a minimal run.
  """

  dataset: str = 'digits'
  data_dir: str | None = None
  data_path: str | None = None
  teacher: str = 'cifar_resnet20'
  student: str = 'cifar_resnet8'
  kinds: tuple[str, ...] = tuple(KINDS)
  bits: tuple[int, ...] = (8, 6, 4)
  seeds: int = 3
  making: Making = Making()
  tuning: Tuning = Tuning(epochs=12)
  calibration: int = 256
  observer: str = 'mse'
  smoke: bool = False

  def smaller(self) -> 'Settings':
    """The settings of a smoke run; a ResNet-20 compiles for a minute."""
    shallow = 'cifar_resnet8'
    return dataclasses.replace(
      self,
      teacher=shallow if self.teacher == 'cifar_resnet20' else self.teacher,
      seeds=1,
      bits=self.bits[-1:],
      making=self.making._replace(
        images=32,
        steps=1,
        generators=1,
        generator_steps=1,
        generator_batch=8,
        gan_steps=1,
        gan_width=4,
        ratio_steps=1,
        burn_in=16,
      ),
      tuning=dataclasses.replace(self.tuning, epochs=1, batch=32),
      calibration=32,
    )
