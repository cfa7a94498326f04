"""What the pruning benchmark is told to do, and the images it does it on."""

import dataclasses

import numpy as np

from compress import data

NETWORKS = {
  'lenet_300_100': 'lenet300',
  'lenet_5': 'lenet5',
  'resnet20': 'cifar_resnet20',
}


@dataclasses.dataclass(frozen=True)
class Settings:
  """The flags of the binary; see its `--help`."""

  dataset: str
  data_dir: str | None
  network: str
  methods: tuple[str, ...]
  ratios: tuple[float, ...]
  seeds: int
  pretraining_epochs: int
  tuning_epochs: int
  pretraining_rate: float
  learning_rates: tuple[float, ...]
  batch: int
  smoke: bool


def load_splits(settings: Settings) -> data.ImageSplits:
  """The images, in three parts."""
  if settings.dataset == 'digits':
    splits = data.load_digits()
  else:
    splits = data.load_tfds(settings.dataset, settings.data_dir)
  if not settings.smoke:
    return splits
  return data.ImageSplits(
    *(data.take_images(part, np.arange(min(96, len(part)))) for part in splits)
  )
