"""Deep Compression of SFace on ORL, fine-tuned by the original's embeddings.

Pruning goes down a ladder of densities; after each removal, and again once the
survivors share values, the network learns to give the embeddings of the
original (mean squared error of normalised embeddings, no labels). Every stage
is a file, read back and judged on people who were not trained on.
"""

import functools
import pathlib
import re
import shutil
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import tqdm

from compress import audit, graph, prune, quantize
from compress import packed as packed_lib
from compress.compressor import Compressor, State
from compress.packed import Dense
from experiments import coded_files
from experiments import folder as folder_lib
from experiments.faces import deep_compression_report, people, tuning
from experiments.faces import networks as networks_lib
from experiments.faces.recipe import Recipe
from experiments.faces.student import Student, prepare

SMALL = 4096
"""Kernels of fewer weights stay dense: they are no bytes, but much accuracy."""

GRID = 0.3, 0.05
"""Step and rate of the file in the manner of DeepCABAC."""


class Setup(NamedTuple):
  """What all runs have in common.

  Attributes:
    run: `(variables, images) -> embeddings`.
    variables: of the original, BatchNorm folded.
    faces: whom to train on and whom to test.
    teacher: [N, 2, D], embeddings of the training photographs.
    original: [M, D], of the test photographs.
    tuning: how it is fine-tuned.
    bits: of codes of convolutions, and of dense layers.
    iterations: of k-means, at most.
  """

  run: Any
  variables: dict[str, Any]
  faces: people.Faces
  teacher: np.ndarray
  original: np.ndarray
  tuning: tuning.Tuning
  bits: tuple[int, int]
  iterations: int


def run(
  *,
  keep: Sequence[float],
  steps: int,
  conv_bits: int,
  dense_bits: int,
  seeds: int,
  smoke: bool,
  output_dir: str,
  resume: bool,
  command: str,
) -> None:
  """Runs the study, from where an earlier run in the folder stopped.

  Args:
    keep: fractions of the weights of large kernels that are kept, falling.
    steps: updates of each fine-tuning.
    conv_bits: of a code of convolutions.
    dense_bits: of a code of dense layers.
    seeds: of the order of photographs; 0 to this, less 1.
    smoke: as few photographs as possible.
    output_dir: folder of the results.
    resume: continue what is there.
    command: for the report.
  """
  network = networks_lib.load_network('sface')
  dataset = people.load_faces('orl')
  config = {
    'network': 'sface',
    'keep': list(keep),
    'steps': steps,
    'bits': [conv_bits, dense_bits],
    'seeds': seeds,
    'smoke': smoke,
  }
  output = folder_lib.open_folder(
    output_dir, 'deep_compression', config, resume=resume
  )
  setup = _prepare(network, dataset, steps, (conv_bits, dense_bits), smoke)
  whole = coded_files.save_stage(
    output / 'dense',
    'float32',
    jax.tree.map(Dense, setup.variables),
    {'network': 'sface'},
  )
  print(f'deep_compression: sface on orl; results in {output}')
  entries = []
  with tqdm.tqdm(total=seeds * len(keep), unit='rung', desc='sface') as bar:
    for seed in range(seeds):
      before = setup.variables
      for density in keep:
        place = output / f'kept_{100 * density:g}_seed{seed}'
        bar.set_postfix_str(place.name)
        if not (place / 'entry.json').is_file():
          _rung(setup, before, density, seed, place)
        before = coded_files.read_stage(place, 'pruned')
        entry = folder_lib.read_json(place / 'entry.json')
        entries.append((density, seed, place, entry))
        bar.update()
  report = deep_compression_report.make_report(
    setup, network, whole, entries, config=config, command=command
  )
  images = setup.faces.test.images
  paths = audit.write_report(report, {}, output, images=images)
  print(audit.format_table(report))
  print(f'\n{audit.format_stated(report["tables"][0])}')
  print(f'\nreport: {paths["html"].resolve()}')


def _prepare(network, dataset, steps, bits, smoke) -> Setup:
  faces = people.make_splits(
    dataset,
    train_people='1-4' if smoke else '1-30',
    test_people='31-33' if smoke else '31-40',
  )[0]
  model = prepare(network, Recipe(weight_bits=None, activation_bits=None))
  function = graph.rewrite(model.apply, graph.compose(graph.cpu_rules()))
  compiled = jax.jit(function)
  embed = functools.partial(compiled, model.variables)
  return Setup(
    run=compiled,
    variables=model.variables,
    faces=faces,
    teacher=networks_lib.embed(embed, faces.train.images),
    original=networks_lib.embed(embed, faces.test.images).sum(axis=1),
    tuning=tuning.Tuning(steps=steps, batch=8 if smoke else 32),
    bits=bits,
    iterations=2 if smoke else 50,
  )


def _rung(setup, before, density, seed, place: pathlib.Path) -> None:
  """Prunes, tunes, shares, tunes, writes every stage and embeds the test."""
  pruner = prune.prune_weights(
    [('.*', 1 - density)],
    allocation=prune.global_threshold(min_keep=64),
    prunable=lambda path, leaf: (
      prune.is_kernel(path, leaf) and leaf.size >= SMALL
    ),
  )
  # Compiled as one: operation by operation, every shape takes its own time.
  kept = jax.jit(pruner.init)(before['params'])
  pruned = _tune(setup, pruner, before, kept, seed, place / 'pruning')
  pruned = {**before, 'params': pruner.apply(pruned[0], pruned[1])}
  sharer = quantize.share_weights(_rules(pruned['params'], setup))
  state = jax.jit(sharer.init)(pruned['params'])
  params, state = _tune(setup, sharer, pruned, state, seed, place / 'sharing')
  others = {k: v for k, v in before.items() if k != 'params'}
  shared = {
    **jax.tree.map(Dense, others),
    'params': sharer.pack(params, state),
  }
  trees = {
    'pruned': coded_files.sparse_tree(pruned),
    **dict.fromkeys(coded_files.CODED, shared),
    'deepcabac': coded_files.uniform_tree(pruned, step=GRID[0], rate=GRID[1]),
  }
  entry = {}
  for stage, tree in trees.items():
    metadata = {'network': 'sface', 'stage': stage, 'kept': density}
    entry[stage] = {
      'nominal': packed_lib.tree_nominal_bytes(tree),
      'packed': packed_lib.tree_nbytes(tree),
      'on_disk': coded_files.save_stage(place, stage, tree, metadata),
    }
    stored = coded_files.read_stage(place, stage)
    embed = functools.partial(setup.run, stored)
    found = networks_lib.embed(embed, setup.faces.test.images).sum(axis=1)
    folder_lib.write_array(place / f'{stage}.npy', found)
  folder_lib.write_json(place / 'entry.json', entry)
  for name in ('pruning', 'sharing'):
    shutil.rmtree(place / name, ignore_errors=True)


def _rules(params, setup):
  conv, dense = (
    quantize.SharedSpec(centroids=1 << n, iterations=setup.iterations)
    for n in setup.bits
  )
  return [
    (re.escape(path), conv if leaf.ndim == 4 else dense)
    for path, leaf in prune.by_path(params).items()
    if prune.is_kernel(path, leaf)
  ]


def _tune(setup, compressor: Compressor, variables, state, seed, folder):
  """The parameters and the state after fine-tuning."""
  others = {k: v for k, v in variables.items() if k != 'params'}

  def apply(trained, carried, images, *, train):
    del train
    inner = State(trained['learned'], carried['state'])
    params = compressor.apply(trained['params'], inner)
    return setup.run({**carried['others'], 'params': params}, images), carried

  twin = Student(
    apply,
    {'params': variables['params'], 'learned': state.learned},
    {'state': state.carried, 'others': others},
    pack=None,
    graph=None,
    weight_specs={},
    activation_specs={},
  )
  trained, carried, _ = tuning.tune(
    twin,
    'embedding',
    setup.tuning,
    images=setup.faces.train.images,
    identities=setup.faces.train.identities,
    teacher=setup.teacher,
    seed=seed,
    folder=folder,
    description=folder.name,
    progress=False,
  )
  return trained['params'], State(trained['learned'], carried['state'])
