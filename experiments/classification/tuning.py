"""How a classifier is trained: options, optimizer, the batch of every step."""

import dataclasses
from collections.abc import Callable

import numpy as np

from compress import train
from compress.data import ImageDataset, Scaling, shift_images
from compress.errors import InputError


@dataclasses.dataclass(frozen=True)
class Tuning:
  """How a classifier is trained.

  Attributes:
    epochs: passes over the training images.
    batch: images a step.
    learning_rate: the highest; falls to 0 along half a cosine.
    optimizer: 'adam' or 'sgd' (Nesterov momentum 0.9).
    weight_decay: of kernels; decoupled with Adam, L2 with SGD.
    warmup: share of the steps over which the rate first rises.
    shift: largest move of an image as augmentation, pixels.
    mirror: mirror images by a coin.
    temperature: of the teacher's soft targets.
    hard_weight: share of the labels' cross-entropy when there is a teacher.
  """

  epochs: int = 30
  batch: int = 64
  learning_rate: float = 2e-3
  optimizer: str = 'adam'
  weight_decay: float = 1e-4
  warmup: float = 0.05
  shift: int = 0
  mirror: bool = False
  temperature: float = 4.0
  hard_weight: float = 0.1

  def __post_init__(self):
    if self.optimizer not in ('adam', 'sgd'):
      raise InputError(f'optimizer is {self.optimizer!r}; right is adam or sgd')
    if self.epochs < 0 or self.batch < 1 or not self.learning_rate > 0:
      raise InputError(
        f'epochs {self.epochs}, batch {self.batch}, learning rate '
        f'{self.learning_rate}: at least 0, at least 1, above 0'
      )

  @property
  def augmented(self) -> bool:
    """Whether an image differs from epoch to epoch."""
    return bool(self.shift or self.mirror)

  def steps(self, images: int) -> int:
    """Updates of a run over so many training images."""
    batch = min(self.batch, images)
    return self.epochs * train.steps_per_epoch(size=images, batch=batch)


def make_optimizer(tuning: Tuning, steps: int):
  """The optimizer of a run, for `prune.reset_moments` and its like."""
  steps = max(1, steps)
  rate = train.cosine(
    tuning.learning_rate,
    steps=steps,
    warmup=min(steps - 1, round(tuning.warmup * steps)),
  )
  make = train.adam if tuning.optimizer == 'adam' else train.sgd
  return make(rate, weight_decay=tuning.weight_decay)


def make_batches(
  dataset: ImageDataset,
  images: np.ndarray,
  *,
  scaling: Scaling,
  tuning: Tuning,
  seed: int,
) -> Callable[[int], dict[str, np.ndarray]]:
  """The batch of every step, a pure function of seed and step.

  Args:
    dataset: N images and labels.
    images: float32 [N, H, W, C], its images scaled already.
    scaling: of pixels; images that are moved are scaled afterwards, so that
      what comes in is black.
    tuning: batch size, augmentation.
    seed: of the order and the augmentation.

  Returns:
    step -> {'images': float32 [B, H, W, C], 'labels': int32 [B], 'indices':
    int32 [B], the images' places in the set}.
  """
  batch = min(tuning.batch, len(dataset))

  def batch_fn(step):
    rows = train.batch_indices(step, size=len(dataset), batch=batch, seed=seed)
    found = {
      'labels': dataset.labels[rows],
      'indices': np.asarray(rows, np.int32),
    }
    if not tuning.augmented:
      return {'images': images[rows], **found}
    moved = shift_images(
      dataset.images[rows],
      np.random.default_rng((seed, step)),
      pixels=tuning.shift,
      mirror=tuning.mirror,
    )
    return {'images': scaling(moved), **found}

  return batch_fn
