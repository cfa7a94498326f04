"""What the study of hybrids does, and the data that it does it with."""

import dataclasses
from typing import NamedTuple

import numpy as np

from compress import data
from compress.data import ImageDataset, Scaling
from experiments.classification.tuning import Tuning

PARTS = ('fairness', 'restoration', 'students')


@dataclasses.dataclass(frozen=True)
class Settings:
  """The settings that decide the result.

  Attributes:
    parts: of `PARTS`, each a report of its own.
    sparsities: of weights, for fairness; of channels, for restoration; of the
      teachers' weights, for students. Fractions in (0, 1).
    seeds: runs of everything; seed of initial weights and order of images.
    epochs: of every dense network and of every network that is tuned.
    round_epochs: after each round of FairGRAPE and its controls.
    keep: fraction of the retained weights that stays in such a round.
    minority: share of the training digits that are turned by 90 degrees.
    images: training images, None for all.
    smoke: a minimal run of the same code.
  """

  parts: tuple[str, ...] = PARTS
  fair_sparsities: tuple[float, ...] = (0.8, 0.9, 0.95)
  channel_sparsities: tuple[float, ...] = (0.25, 0.5, 0.75)
  teacher_sparsities: tuple[float, ...] = (0.36, 0.59, 0.79)
  seeds: int = 3
  epochs: int = 30
  round_epochs: int = 3
  keep: float = 0.8
  minority: float = 0.1
  images: int | None = None
  smoke: bool = False

  def smaller(self) -> 'Settings':
    """The same code on next to nothing."""
    return dataclasses.replace(
      self,
      fair_sparsities=self.fair_sparsities[:1],
      channel_sparsities=self.channel_sparsities[-1:],
      teacher_sparsities=self.teacher_sparsities[:1],
      seeds=1,
      epochs=1,
      round_epochs=1,
      keep=0.4,
      images=128,
    )

  def tuning(self, epochs: int | None = None, **options) -> Tuning:
    """How a network is trained for so many epochs, of all by default."""
    return Tuning(epochs=self.epochs if epochs is None else epochs, **options)


class Digits(NamedTuple):
  """The data of one study.

  Attributes:
    train: to train on.
    test: to report.
    scaling: of pixels.
  """

  train: ImageDataset
  test: ImageDataset
  scaling: Scaling


def load(settings: Settings) -> Digits:
  """Scikit-learn's digits, 1,797 images of 8 x 8 pixels."""
  splits = data.load_digits()
  train = splits.train
  if settings.images is not None:
    train = data.take_images(train, np.arange(settings.images))
  return Digits(train, splits.test, data.pixel_scaling(train))


def turned(dataset: ImageDataset, rows: np.ndarray) -> ImageDataset:
  """The same images, some of them turned by 90 degrees.

  Args:
    dataset: N square images.
    rows: bool [N], which.

  Returns:
    The data set.
  """
  images = np.where(
    rows[:, None, None, None],
    np.rot90(dataset.images, axes=(1, 2)),
    dataset.images,
  )
  return dataclasses.replace(dataset, images=images)
