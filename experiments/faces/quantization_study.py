"""The study behind `experiments.face_quantization`."""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import tqdm

from compress import audit, data, distill, encode, graph
from compress import packed as packed_lib
from compress.packed import Dense
from experiments import folder as folder_lib
from experiments.faces import judge, people, tuning
from experiments.faces import networks as networks_lib
from experiments.faces import student as student_lib
from experiments.faces.networks import Network

STUDY = 'face_quantization'


@dataclasses.dataclass(frozen=True)
class Settings:
  """The flags of `experiments.face_quantization`; see its `--help`."""

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
  variants: tuple[tuple[str, int, int], ...]
  granularity: str
  group_size: int | None
  placement: str
  observer: str
  weight_range: str
  ranges: str
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

  def recipe(self, weight_bits: int, activation_bits: int):
    """The twin's recipe for some bits."""
    return student_lib.Recipe(
      weight_bits=weight_bits,
      activation_bits=activation_bits,
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


class Run(NamedTuple):
  """One variant, seed and fold."""

  name: str
  method: str
  weight_bits: int
  activation_bits: int
  seed: int
  fold: int
  folder: pathlib.Path


def run(
  settings: Settings, *, output_dir: str, resume: bool, command: str
) -> tuple[str, dict[str, pathlib.Path]]:
  """Runs the study, from where an earlier run in the folder stopped.

  Args:
    settings: what to do.
    output_dir: folder of the results.
    resume: continue what is there.
    command: for the report.

  Returns:
    The table as text, and the paths of the report.

  Raises:
    InputError: bad input, before anything is written.
  """
  settings = _smaller(settings) if settings.smoke else settings
  network = networks_lib.load_network(settings.network, settings.weights)
  splits, everyone = _load_people(settings)
  _check_batches(settings, splits)
  output = folder_lib.open_folder(
    output_dir, STUDY, dataclasses.asdict(settings), resume=resume
  )
  rules = (graph.cpu_rules(enabled=settings.fast_convolution),)
  reference = judge.compile_reference(network, rules)
  reference_size = _store_reference(network, output)
  runs = list(_runs(settings, len(splits), output))
  twins = Twins(network, settings, splits, rules)
  print(
    f'{STUDY}: {network.name} on {splits[0].train.name}, {len(runs)} runs; '
    f'results in {output}'
  )
  with tqdm.tqdm(total=len(runs), unit='run', desc='study') as bar:
    bar.set_postfix_str('reference')
    teachers = [_teacher(reference, split) for split in splits]
    for item in runs:
      bar.set_postfix_str(item.folder.name)
      if not (item.folder / 'entry.json').is_file():
        _run_one(item, settings, twins, splits[item.fold], teachers[item.fold])
      bar.update()
    bar.set_postfix_str('report')
    report, curves = judge.make_report(
      settings=settings,
      network=network,
      splits=splits,
      everyone=everyone,
      teachers=teachers,
      reference=reference,
      reference_bytes=reference_size,
      runs=runs,
      finished=[read_run(item) for item in runs],
      stored=twins.stored,
      command=command,
    )
  paths = audit.write_report(
    report, curves, output, images=splits[0].test.images
  )
  return audit.format_table(report), paths


def _smaller(settings: Settings) -> Settings:
  """The same study, over in seconds."""
  return dataclasses.replace(
    settings,
    variants=(
      ('post_training', 6, 6),
      ('ekd_class', 6, 6),
    )
    if len(settings.variants) > 2
    else settings.variants,
    train_people='1-4' if settings.dataset == 'orl' else settings.train_people,
    test_people='31-33' if settings.dataset == 'orl' else settings.test_people,
    calibration=8,
    steps=1,
    batch=8,
    bootstrap=min(settings.bootstrap, 20),
  )


def _load_people(settings: Settings):
  """The splits, and all photographs for the reference's own figure."""
  dataset = people.load_faces(
    settings.dataset, settings.data_path, data_dir=settings.data_dir
  )
  test_set = None
  if settings.test_set != 'people':
    test_set = people.load_test_set(
      settings.test_set, settings.test_path, settings.test_images
    )
  splits = people.make_splits(
    dataset,
    train_people=settings.train_people,
    test_people=settings.test_people,
    folds=settings.folds,
    test_set=test_set,
  )
  if settings.data_fraction < 1:
    splits = [
      split._replace(
        train=data.fraction(split.train, settings.data_fraction, seed=0)
      )
      for split in splits
    ]
  small = len(dataset.images) <= 2000 and test_set is None
  return splits, dataset if small and not settings.smoke else None


def _check_batches(settings: Settings, splits) -> None:
  """Refuses a batch that a split has too few people for, before any work."""
  methods = {method for method, *_ in settings.variants} - {'post_training'}
  for split in splits:
    for method in sorted(methods):
      shape = tuning.batch_shape(method, settings.tuning())
      distill.identity_balanced(split.train.identities, seed=0, shape=shape)


class Teacher(NamedTuple):
  """The reference's embeddings of one split.

  Attributes:
    train: [N, 2, D], of each training photograph and its mirror image.
    test: [M, D].
  """

  train: np.ndarray
  test: np.ndarray


def _teacher(reference, split: people.Faces) -> Teacher:
  test = networks_lib.embed(reference, split.test.images)
  return Teacher(
    networks_lib.embed(reference, split.train.images), test.sum(axis=1)
  )


class Twins:
  """Makes the twins of a study, and each compiled function once.

  Attributes:
    network: the reference.
    settings: of the study.
    splits: one `Faces` a fold.
    rules: rewrite rules.
  """

  def __init__(self, network, settings, splits, rules):
    self.network = network
    self.settings = settings
    self.splits = splits
    self.rules = rules
    self._students: dict[Any, student_lib.Student] = {}
    self._frozen: dict[Any, Any] = {}

  def student(self, item: 'Run') -> student_lib.Student:
    """The twin after calibration; kept until the next fold or seed."""
    key = item.fold, item.seed, item.weight_bits, item.activation_bits
    if any(kept[:2] != key[:2] for kept in self._students):
      self._students.clear()
    if key not in self._students:
      images = self.splits[item.fold].train.images
      rng = np.random.default_rng((item.seed, item.fold))
      count = min(self.settings.calibration, len(images))
      chosen = np.sort(rng.permutation(len(images))[:count])
      recipe = self.settings.recipe(item.weight_bits, item.activation_bits)
      self._students[key] = student_lib.make_student(
        self.network, recipe, images[chosen], rules=self.rules
      )
    return self._students[key]

  def stored(self, item: 'Run'):
    """The network in a run's file, `images -> embeddings`, compiled."""
    recipe = self.settings.recipe(item.weight_bits, item.activation_bits)
    if recipe not in self._frozen:
      self._frozen[recipe] = jax.jit(
        student_lib.frozen_twin(self.network, recipe, rules=self.rules)
      )
    tree = encode.load(item.folder / 'network.safetensors').tree
    tree = jax.device_put(packed_lib.unpack_tree(tree))
    return lambda images: self._frozen[recipe](tree, images)


def _runs(settings, folds, output) -> Iterator[Run]:
  for fold in range(folds):
    for seed in range(settings.seeds):
      for method, weight_bits, activation_bits in settings.variants:
        name = f'{method} w{weight_bits}a{activation_bits}'
        label = name.replace(' ', '_')
        if settings.seeds > 1 or folds > 1:
          label += f'_seed{seed}_fold{fold}'
        yield Run(
          name,
          method,
          weight_bits,
          activation_bits,
          seed,
          fold,
          output / 'networks' / label,
        )


def _store_reference(network: Network, output: pathlib.Path) -> dict[str, int]:
  tree = jax.tree.map(Dense, network.variables)
  size = encode.save(
    output / 'reference.safetensors', tree, {'network': network.name}
  )
  packed = packed_lib.tree_nbytes(tree)
  return {'nominal': packed, 'packed': packed, 'on_disk': size}


def _run_one(item: Run, settings, twins: Twins, split, teacher) -> None:
  """Makes one twin, stores it, reads it back and embeds the test set."""
  student = twins.student(item)
  trained, carried, history = student.trained, student.carried, []
  item.folder.mkdir(parents=True, exist_ok=True)
  if item.method != 'post_training':
    trained, carried, history = tuning.tune(
      student,
      item.method,
      settings.tuning(),
      images=split.train.images,
      identities=split.train.identities,
      teacher=teacher.train,
      seed=item.seed,
      folder=item.folder / 'training',
      description=item.name,
    )
  packed = student.pack(trained, carried)
  metadata = {
    'study': STUDY,
    'network': twins.network.name,
    'weights': twins.network.provenance,
    'method': item.method,
    'recipe': dataclasses.asdict(
      settings.recipe(item.weight_bits, item.activation_bits)
    ),
  }
  size = encode.save(item.folder / 'network.safetensors', packed, metadata)
  embeddings = networks_lib.embed(twins.stored(item), split.test.images)
  cost = student_lib.bit_operations(student)
  entry = {
    'bytes': {**student_lib.stored_bytes(packed), 'on_disk': size},
    'parameters': cost.parameters,
    'macs': cost.macs,
    'bops': cost.bops,
    'training': {
      'step': [line['step'] for line in history],
      'loss': [line['loss'] for line in history],
    },
  }
  folder_lib.write_array(item.folder / 'embeddings.npy', embeddings.sum(axis=1))
  folder_lib.write_json(item.folder / 'entry.json', entry)
  shutil.rmtree(item.folder / 'training' / 'checkpoints', ignore_errors=True)


def read_run(item: Run) -> tuple[np.ndarray, dict[str, Any]]:
  """The test embeddings and the entry of a finished run."""
  text = (item.folder / 'entry.json').read_text(encoding='utf-8')
  return np.load(item.folder / 'embeddings.npy'), json.loads(text)
