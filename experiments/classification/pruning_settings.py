"""What the pruning benchmark is told to do."""

import dataclasses

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
