"""What a study of a face network is told to do."""

import dataclasses

from experiments.faces import tuning
from experiments.faces.student import Recipe


@dataclasses.dataclass(frozen=True)
class Variant:
  """One way to make the network smaller.

  Attributes:
    method: how it is restored, a key of `judge.METHODS`.
    weight_bits: 2 to 8, or 16; None leaves weights and activations float.
    activation_bits: the same.
    sparsity: fraction of the channels removed, in [0, 1).
    importance: what a channel is removed by; see `pruning.rank_channels`.
    calibration: what activation ranges are taken from, one of
      `calibration.SOURCES`.
  """

  method: str
  weight_bits: int | None = None
  activation_bits: int | None = None
  sparsity: float = 0.0
  importance: str = 'group'
  calibration: str = 'photographs'

  @property
  def name(self) -> str:
    """What tables call it."""
    parts = [self.kind]
    if self.importance != 'group':
      parts.append(self.importance)
    if self.sparsity:
      parts.append(f'{100 * self.sparsity:g}%')
    if self.weight_bits is not None:
      parts.append(f'w{self.weight_bits}a{self.activation_bits}')
    return ' '.join(parts)

  @property
  def kind(self) -> str:
    """The method, and the source of its ranges if it is unusual."""
    if self.calibration == 'photographs':
      return self.method
    return f'{self.method} {self.calibration}'

  @property
  def shape(self) -> tuple:
    """Variants of one shape cost the same to run."""
    return self.weight_bits, self.activation_bits, self.sparsity


@dataclasses.dataclass(frozen=True)
class Settings:
  """The flags of a study's binary; see its `--help`."""

  study: str
  network: str
  weights: str | None
  dataset: str
  data_path: str | None
  data_dir: str | None
  train_people: str
  test_people: str
  test_set: str
  test_path: str | None
  test_images: str | None
  variants: tuple[Variant, ...]
  batch_norm: str
  calibration: int
  steps: int
  batch: int
  learning_rate: float
  optimizer: str
  ekd_form: str
  ekd_debias: bool
  data_fraction: float
  seeds: int
  folds: int
  bootstrap: int
  fast_convolution: bool | None
  smoke: bool
  granularity: str = 'channel'
  group_size: int | None = None
  placement: str = 'inputs'
  observer: str = 'mse'
  weight_range: str = 'minmax'
  ranges: str = 'frozen'
  scope: str = 'local'
  most: float = 1.0
  round_to: int = 1
  importance_batches: int = 64
  synthesis_steps: int = 100

  def recipe(self, variant: Variant) -> Recipe:
    """How a variant's twin is quantized."""
    return Recipe(
      weight_bits=variant.weight_bits,
      activation_bits=variant.activation_bits,
      granularity=self.granularity,
      group_size=self.group_size,
      placement=self.placement,
      observer=self.observer,
      weight_range=self.weight_range,
      ranges=self.ranges,
      batch_norm=self.batch_norm,
    )

  def tuning(self) -> tuning.Tuning:
    """How twins are fine-tuned."""
    return tuning.Tuning(
      steps=self.steps,
      batch=self.batch,
      learning_rate=self.learning_rate,
      optimizer=self.optimizer,
      ekd_form=self.ekd_form,
      ekd_debias=self.ekd_debias,
    )
