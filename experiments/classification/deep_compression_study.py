"""Deep Compression of a classifier: prune, retrain, share values, code.

Han, Mao, Dally 2016, arXiv:1510.00149. Pruning goes down a ladder of densities,
each rung retrained from the one before; from every rung values are shared and
trained, and the files of all stages are written, read back and judged. A rung
is made once.
"""

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from compress import audit, data, prune, quantize
from compress.compressor import State
from compress.data import ImageDataset, ImageSplits
from compress.errors import InputError
from compress.packed import unpack_tree
from experiments import coded_files
from experiments import folder as folder_lib
from experiments.classification import evaluation, networks, pruning_lab
from experiments.classification.images import load_splits
from experiments.classification.pruning_lab import MASKS, Lab, train_masked
from experiments.classification.training import Trained
from experiments.classification.tuning import Tuning

NETWORKS = {'lenet_300_100': 'lenet300', 'lenet_5': 'lenet5'}
SIZE = 28
GRID = [(step, rate) for step in (0.3, 0.5, 0.8) for rate in (0.02, 0.1)]
"""Steps and rates that the uniform grid is chosen from on validation images."""


@dataclasses.dataclass(frozen=True)
class Settings:
  """The flags of the binary; see its `--help`."""

  dataset: str
  data_dir: str | None
  data_path: str | None
  enlarge: bool
  network: str
  keep: tuple[float, ...]
  conv_bits: int
  dense_bits: int
  seeds: int
  training_epochs: int
  retraining_epochs: int
  sharing_epochs: int
  learning_rate: float
  sharing_rate: float
  shift: int
  batch: int
  smoke: bool


def enlarge(images: np.ndarray, size: int = SIZE) -> np.ndarray:
  """Small images repeated to almost a size, with a black border to it.

  Args:
    images: uint8 [N, H, W, C]; those of the size or above stay.
    size: rows and columns.

  Returns:
    uint8 [N, size, size, C]; 8 x 8 become 24 x 24 with a border of 2.
  """
  times = size // max(images.shape[1:3])
  if times < 2:
    return images
  large = images.repeat(times, axis=1).repeat(times, axis=2)
  gaps = [size - n for n in large.shape[1:3]]
  rows, columns = [(gap // 2, gap - gap // 2) for gap in gaps]
  return np.pad(large, ((0, 0), rows, columns, (0, 0)))


class Study:
  """One network.

  Attributes:
    settings: what to do.
    output: folder of the results.
    splits: images.
    network: the classifier.
  """

  def __init__(self, settings: Settings, output_dir: str, *, resume: bool):
    self.settings = settings
    splits = load_splits(
      settings.dataset,
      data_dir=settings.data_dir,
      data_path=settings.data_path,
      most=96 if settings.smoke else None,
    )
    if settings.enlarge:
      splits = ImageSplits(*(_enlarged(part) for part in splits))
    self.splits = splits
    self.network = networks.make_classifier(
      NETWORKS[settings.network],
      image_shape=splits.train.image_shape,
      classes=len(splits.train.classes),
    )
    self.scaling = data.pixel_scaling(splits.train)
    self.output = folder_lib.open_folder(
      output_dir,
      'deep_compression',
      dataclasses.asdict(settings),
      resume=resume,
    )
    tuning = Tuning(
      epochs=settings.retraining_epochs,
      learning_rate=settings.learning_rate,
      batch=settings.batch,
      shift=settings.shift,
    )
    self._first = dataclasses.replace(tuning, epochs=settings.training_epochs)
    self._sharing = dataclasses.replace(
      tuning,
      epochs=settings.sharing_epochs,
      learning_rate=settings.sharing_rate,
      weight_decay=0.0,
    )
    self.lab = Lab(
      self.network, splits, self.scaling, tuning=tuning, scratch=self._first
    )
    self.shared = quantize.share_weights(self._rules())
    self._sharer = self.lab.make_trainer(
      self.network, self._sharing, compressor=self.shared
    )

  def run(self) -> None:
    """Makes whatever is not there yet."""
    keep = self.settings.keep
    with tqdm.tqdm(
      total=len(keep) + 1, unit='rung', desc=self.settings.network
    ) as bar:
      bar.set_postfix_str('training')
      before = self._dense()
      bar.update()
      for density in keep:
        bar.set_postfix_str(f'{100 * density:g} % kept')
        if not (self.place(density) / 'entry.json').is_file():
          self._rung(density, before)
        before = [
          coded_files.read_stage(self.place(density) / f'seed{seed}', 'pruned')
          for seed in range(self.settings.seeds)
        ]
        bar.update()

  def dense(self) -> dict[str, Any]:
    """The entry of the network that nothing was done to."""
    return folder_lib.read_json(self.output / 'dense' / 'entry.json')

  def rungs(self) -> list[dict[str, Any]]:
    """The entries of all densities, the densest first."""
    return [
      folder_lib.read_json(self.place(density) / 'entry.json')
      for density in self.settings.keep
    ]

  def _rules(self):
    conv, dense = self.settings.conv_bits, self.settings.dense_bits
    return [
      ('conv.*kernel', quantize.SharedSpec(centroids=1 << conv)),
      ('.*kernel', quantize.SharedSpec(centroids=1 << dense)),
    ]

  def _train(self, trainer, starts, states) -> list[Trained]:
    # Side by side, the convolutions of the seeds are grouped ones, which take
    # twelve times as long on CPUs.
    return train_masked(trainer, starts, states, together=False)

  def place(self, density: float) -> pathlib.Path:
    """The folder of a rung: `entry.json`, and a folder a seed."""
    return self.output / f'kept_{100 * density:g}'

  def _dense(self) -> list[Any]:
    folders = [
      self.output / 'dense' / f'seed{seed}'
      for seed in range(self.settings.seeds)
    ]
    if not (self.output / 'dense' / 'entry.json').is_file():
      starts = [
        self.network.init(jax.random.key(seed))
        for seed in range(self.settings.seeds)
      ]
      states = [MASKS.init(start['params']) for start in starts]
      made = self._train(self.lab.masked(self._first), starts, states)
      sizes = [
        coded_files.save_stage(
          folder,
          'float32',
          pruning_lab.dense_tree(one.variables),
          self._metadata('float32', 1.0),
        )
        for folder, one in zip(folders, made, strict=True)
      ]
      entry = self._judged(folders, 'float32') | {
        'bytes': {'on_disk': float(np.mean(sizes))}
      }
      folder_lib.write_json(self.output / 'dense' / 'entry.json', entry)
    return [coded_files.read_stage(folder, 'float32') for folder in folders]

  def _rung(self, density: float, before: list[Any]) -> None:
    """Prunes, retrains, shares, writes every stage and judges the files."""
    chooser = prune.prune_weights(
      [('.*', 1 - density)], allocation=prune.global_threshold(min_keep=8)
    )
    states = [
      State((), {'masks': chooser.init(one['params']).carried['masks']})
      for one in before
    ]
    trainer = self.lab.masked(self.lab.tuning)
    pruned = [one.compressed for one in self._train(trainer, before, states)]
    init = jax.jit(self.shared.init)
    shared = self._train(
      self._sharer, pruned, [init(one['params']) for one in pruned]
    )
    folders, sizes = [], []
    for seed, (one, other) in enumerate(zip(pruned, shared, strict=True)):
      folders.append(self.place(density) / f'seed{seed}')
      sizes.append(self._save(folders[-1], density, one, other))
    entry = {
      'density': density,
      'left': [_left(one['params']) for one in pruned],
      'stages': {},
    }
    for stage in coded_files.STAGES[1:]:
      stored = [size[stage] for size in sizes]
      found = self._judged(folders, stage)
      found['bytes'] = {'on_disk': float(np.mean(stored))}
      found['per_seed_bytes'] = stored
      entry['stages'][stage] = found
    entry['grid'] = [size['grid'] for size in sizes]
    folder_lib.write_json(self.place(density) / 'entry.json', entry)

  def _save(self, folder, density, pruned, shared) -> dict[str, Any]:
    """Bytes of every stage's file of one seed."""
    sizes = {}

    def save(stage, tree):
      metadata = self._metadata(stage, density)
      sizes[stage] = coded_files.save_stage(folder, stage, tree, metadata)

    save('pruned', coded_files.sparse_tree(pruned))
    tree = pruning_lab.dense_tree(shared.variables)
    packed = self.shared.pack(shared.variables['params'], shared.state)
    for stage in coded_files.CODED:
      save(stage, {**tree, 'params': packed})
    # The coarsest grid that validation images do not tell from the pruned.
    grid = self._choose_grid(pruned)
    sizes['grid'] = list(grid)
    save(
      'deepcabac', coded_files.uniform_tree(pruned, step=grid[0], rate=grid[1])
    )
    return sizes

  def _choose_grid(self, pruned) -> tuple[float, float]:
    right = self._validated(pruned)
    for grid in reversed(GRID):
      tree = coded_files.uniform_tree(pruned, step=grid[0], rate=grid[1])
      unpacked = jax.tree.map(jnp.asarray, unpack_tree(tree))
      if self._validated(unpacked) >= right - 0.002:
        return grid
    return GRID[0]

  def _validated(self, variables) -> float:
    found = evaluation.evaluate(
      self.lab.predict, variables, self.splits.validation
    )
    return found.top1

  def _judged(self, folders, stage) -> dict[str, Any]:
    """Accuracies of the networks in the files of a stage."""
    found = [
      self.lab.judge(self.lab.predict, coded_files.read_stage(folder, stage))
      for folder in folders
    ]
    return {
      **audit.accuracy_entry([one.test for one in found]),
      'validation_accuracy': audit.over_runs(
        [100 * one.validation.top1 for one in found]
      ),
      'per_seed': [100 * one.test.top1 for one in found],
      'per_seed_validation': [100 * one.validation.top1 for one in found],
    }

  def _metadata(self, stage: str, density: float) -> dict[str, Any]:
    return {
      'study': 'deep_compression',
      'network': self.settings.network,
      'dataset': self.settings.dataset,
      'image_shape': list(self.network.image_shape),
      'stage': stage,
      'kept': density,
    }


def _enlarged(part: ImageDataset) -> ImageDataset:
  if part.images.shape[1] != part.images.shape[2]:
    raise InputError(f'--enlarge: images of {part.name} are not square')
  return dataclasses.replace(part, images=enlarge(part.images))


def _left(params) -> dict[str, list[int]]:
  """Leaf path to weights left, and to weights before, of kernels."""
  return {
    path: [int((leaf != 0).sum()), int(leaf.size)]
    for path, leaf in prune.by_path(params).items()
    if leaf.ndim > 1
  }
