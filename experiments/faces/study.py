"""The studies of a face network: what is done, kept in files, and judged.

A study is a list of variants of one trained network. Each is made, written to a
file, read back and judged on people it never saw; an interrupted study goes on
where it stopped. The binaries choose the variants.
"""

import dataclasses
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
from experiments.faces import calibration, judge, people, tuning
from experiments.faces import networks as networks_lib
from experiments.faces import student as student_lib
from experiments.faces.networks import Network
from experiments.faces.settings import Settings, Variant
from experiments.faces.twins import Twins


class Run(NamedTuple):
  """One variant, seed and fold."""

  variant: Variant
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
  calibration.check_sources(settings, network)
  splits, everyone = _load_people(settings)
  _check_batches(settings, splits)
  output = folder_lib.open_folder(
    output_dir, settings.study, dataclasses.asdict(settings), resume=resume
  )
  rules = (graph.cpu_rules(enabled=settings.fast_convolution),)
  reference = judge.compile_reference(network, rules)
  reference_size = _store_reference(network, output)
  runs = list(_runs(settings, len(splits), output))
  inputs = output / 'calibration'
  twins = Twins(network, settings, splits, rules, inputs)
  print(
    f'{settings.study}: {network.name} on {splits[0].train.name}, '
    f'{len(runs)} runs; results in {output}'
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
    report,
    curves,
    output,
    images=splits[0].test.images,
    figures=calibration.figures(settings, inputs),
  )
  return audit.format_table(report), paths


def _smaller(settings: Settings) -> Settings:
  """The same study, over in seconds."""
  # One that is trained, and one that is not and shares its compiled functions.
  tuned = [v for v in settings.variants if v.method not in tuning.UNTUNED][-1:]
  given = [v for v in settings.variants if v.method in tuning.UNTUNED]
  alike = [
    v
    for v in given
    for t in tuned
    if (v.shape, v.importance) == (t.shape, t.importance)
  ]
  given = alike or given
  first = {v.calibration: v for v in reversed(given)}
  given = [v for v in given if first[v.calibration] is v]
  return dataclasses.replace(
    settings,
    variants=(*given, *tuned),
    train_people='1-4' if settings.dataset == 'orl' else settings.train_people,
    test_people='31-33' if settings.dataset == 'orl' else settings.test_people,
    calibration=8,
    steps=1,
    batch=8,
    bootstrap=min(settings.bootstrap, 20),
    importance_batches=2,
    synthesis_steps=2,
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
  methods = {v.method for v in settings.variants} - set(tuning.UNTUNED)
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


def _runs(settings, folds, output) -> Iterator[Run]:
  for fold in range(folds):
    for seed in range(settings.seeds):
      for variant in settings.variants:
        label = variant.name.replace(' ', '_').replace('%', '')
        if settings.seeds > 1 or folds > 1:
          label += f'_seed{seed}_fold{fold}'
        yield Run(variant, seed, fold, output / 'networks' / label)


def _store_reference(network: Network, output: pathlib.Path) -> dict[str, int]:
  tree = jax.tree.map(Dense, network.variables)
  size = encode.save(
    output / 'reference.safetensors', tree, {'network': network.name}
  )
  packed = packed_lib.tree_nbytes(tree)
  return {'nominal': packed, 'packed': packed, 'on_disk': size}


def _run_one(item: Run, settings, twins: Twins, split, teacher) -> None:
  """Makes one twin, stores it, reads it back and embeds the test set."""
  variant, student = item.variant, twins.student(item)
  recipe = settings.recipe(variant)
  trained, carried, history = student.trained, student.carried, []
  item.folder.mkdir(parents=True, exist_ok=True)
  if variant.method not in tuning.UNTUNED:
    trained, carried, history = tuning.tune(
      student,
      variant.method,
      settings.tuning(),
      images=split.train.images,
      identities=split.train.identities,
      teacher=teacher.train,
      seed=item.seed,
      folder=item.folder / 'training',
      description=variant.name,
    )
  packed = student.pack(trained, carried)
  pruned = twins.pruned(item)
  metadata = {
    'study': settings.study,
    'network': twins.network.name,
    'weights': twins.network.provenance,
    'method': variant.method,
    'recipe': dataclasses.asdict(recipe),
    'kept': pruned.described,
  }
  size = encode.save(item.folder / 'network.safetensors', packed, metadata)
  embeddings = networks_lib.embed(twins.stored(item), split.test.images)
  cost = student_lib.bit_operations(student)
  entry = {
    'bytes': {**student_lib.stored_bytes(packed), 'on_disk': size},
    'sparsity': variant.sparsity,
    'widths': pruned.widths,
    'params': cost.parameters,
    'macs': cost.macs,
    'bops': cost.bops,
    'execution': recipe.execution,
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
  return (
    folder_lib.read_array(item.folder / 'embeddings.npy'),
    folder_lib.read_json(item.folder / 'entry.json'),
  )
