"""What the study of the teacher gap does: its networks and its images."""

import dataclasses
from typing import NamedTuple

import numpy as np

from compress import data, models
from compress.data import ImageDataset, Scaling
from compress.errors import InputError
from experiments.classification import networks as networks_lib
from experiments.classification.images import load_splits
from experiments.classification.networks import Classifier
from experiments.classification.tuning import Tuning

_MOST_TEST = 10_000


@dataclasses.dataclass(frozen=True)
class Settings:
  """What decides the result.

  Attributes:
    dataset: 'digits', or a name of the tensorflow-datasets catalogue.
    data_dir: where prepared sets are kept; None is the catalogue's default.
    data_path: folder of the set's own files, None to use what is prepared.
    train_images: images that are learned from; the first ones.
    student: width of the student.
    teachers: widths of the teachers, rising, above the student's.
    seeds: runs of everything.
    tuning: of every network.
    generations: of born-again students.
    munge_passes: invented images for each real one.
    munge_swap: probability that an attribute is exchanged.
    munge_spread: divisor of the deviation of what is exchanged.
    defensive_temperature: of defensive distillation.
    epsilon: largest change of a pixel by an attack, of 0..1.
    soft_depth: depth of soft decision trees.
    tree_depth: depth of regression trees.
    smoke: a minimal run.
  """

  dataset: str = 'digits'
  data_dir: str | None = None
  data_path: str | None = None
  train_images: int = 300
  student: int = 12
  teachers: tuple[int, ...] = (24, 48, 96, 192, 384)
  seeds: int = 5
  tuning: Tuning = Tuning(epochs=150, batch=50, learning_rate=4e-3)
  generations: int = 3
  munge_passes: int = 10
  munge_swap: float = 0.2
  munge_spread: float = 2.0
  defensive_temperature: float = 100.0
  epsilon: float = 0.1
  soft_depth: int = 4
  tree_depth: int = 6
  smoke: bool = False

  @property
  def ladder(self) -> tuple[int, ...]:
    """Widths from the largest teacher's down to the student's."""
    return (*sorted(self.teachers, reverse=True), self.student)

  def smaller(self) -> 'Settings':
    """The same code on next to nothing."""
    return dataclasses.replace(
      self,
      train_images=min(self.train_images, 40),
      teachers=self.teachers[:2],
      seeds=min(self.seeds, 2),
      tuning=dataclasses.replace(self.tuning, epochs=1),
      generations=1,
      munge_passes=1,
      soft_depth=2,
      tree_depth=2,
    )


class Images(NamedTuple):
  """The images of a study.

  Attributes:
    train: to learn from.
    validation: to choose paths on.
    test: to report; of a set of which few images are learned from, training
      images that nothing sees are among them.
    scaling: of pixels.
  """

  train: ImageDataset
  validation: ImageDataset
  test: ImageDataset
  scaling: Scaling


def load(settings: Settings) -> Images:
  """The images that the settings ask for.

  Args:
    settings: of the study.

  Returns:
    The images.

  Raises:
    InputError: a set that cannot be had, or with fewer training images.
  """
  splits = load_splits(
    settings.dataset, data_dir=settings.data_dir, data_path=settings.data_path
  )
  count = settings.train_images
  if count > len(splits.train):
    raise InputError(
      f'--train_images={count}: {splits.train.name} has '
      f'{len(splits.train)} training images'
    )
  train = data.take_images(splits.train, np.arange(count))
  if len(np.unique(train.labels)) < len(train.classes):
    raise InputError(
      f'--train_images={count}: a class has no image among them; give more'
    )
  test = splits.test
  room = max(0, min(_MOST_TEST - len(test), len(splits.train) - count))
  if room:
    left = data.take_images(splits.train, count + np.arange(room))
    test = dataclasses.replace(
      test,
      images=np.concatenate([test.images, left.images]),
      labels=np.concatenate([test.labels, left.labels]),
    )
  return Images(train, splits.validation, test, data.pixel_scaling(train))


def make_network(width: int, images: Images) -> Classifier:
  """A network of the family: two hidden layers of one width, as LeNet-300's.

  Args:
    width: units of a hidden layer.
    images: of the study.

  Returns:
    The classifier, named after its width.
  """
  shape = images.train.image_shape
  module = models.LeNet300(
    image_shape=shape,
    widths=(width, width),
    classes=len(images.train.classes),
  )
  return networks_lib.from_module(f'width {width}', module, image_shape=shape)
