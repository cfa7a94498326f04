"""What activation ranges are taken from: photographs, or no data at all."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compress import audit, graph, synthesize
from compress.errors import InputError
from experiments import folder as folder_lib
from experiments.faces.networks import Network

SOURCES = ('photographs', 'synthesized', 'noise')
BATCH = 32
LEARNING_RATE = 0.1
START = 0.5
"""Deviation of the noise, in halves of the range of a pixel."""

_LABELS = {
  'synthesized': 'Synthesized: made from the network alone',
  'noise': 'Noise: the same before the first step',
}


def check_sources(settings, network: Network) -> None:
  """Refuses to make inputs from a network that remembers no statistics.

  Args:
    settings: of the study.
    network: the reference.

  Raises:
    InputError: `synthesized` is asked for and there is no BatchNorm.
  """
  if 'synthesized' not in {v.calibration for v in settings.variants}:
    return
  image = jax.ShapeDtypeStruct((1, *network.image_shape), jnp.float32)
  if not graph.batch_norms(network.apply, network.variables, image):
    raise InputError(
      f'--calibrate_on=synthesized: {network.name} has no BatchNorm whose '
      'statistics inputs could be made to match (they are folded into its '
      'weights); right is a network that has them, or another source'
    )


def make_inputs(
  network: Network,
  source: str,
  *,
  count: int,
  steps: int,
  seed: int,
  folder: pathlib.Path,
  rules: Sequence[graph.Rule] = (),
  batch: int = BATCH,
  progress: bool = True,
) -> np.ndarray:
  """Calibration inputs that no photograph went into.

  Noise is normal around the middle grey. Synthesized inputs start from it and
  are moved until a batch's activations have the mean and deviation that the
  network's BatchNorms remember (Cai et al. 2020, 'ZeroQ', arXiv:2001.00281).
  Departures: every channel is measured in its own deviation, images stay in the
  range of pixels, and no term asks for their own mean and deviation. They are
  made batch by batch and kept in the folder, so an interrupted run goes on with
  the next batch.

  Args:
    network: the trained network, with its BatchNorms.
    source: `synthesized` or `noise`.
    count: inputs.
    steps: updates of each batch.
    seed: of the noise.
    folder: where they are kept; made if missing.
    rules: rewrite rules that run operations another way.
    batch: inputs moved together.
    progress: show a bar.

  Returns:
    uint8 [count, H, W, 3].
  """
  path = _path(folder, source, seed)
  size = min(batch, count)
  done = [folder_lib.read_array(path)] if path.is_file() else []
  loss_fn = matching_loss(network, rules)
  for number in range(sum(map(len, done)) // size, -(-count // size)):
    key = jax.random.fold_in(jax.random.key(seed), number)
    shape = (size, *network.image_shape)
    images = jnp.clip(START * jax.random.normal(key, shape), -1.0, 1.0)
    if source == 'synthesized':
      images = synthesize.synthesize(
        loss_fn,
        images,
        network.variables,
        steps=steps,
        learning_rate=LEARNING_RATE,
        bounds=(-1.0, 1.0),
        progress=progress,
        description=f'inputs {number * size + 1}-{(number + 1) * size}',
      ).images
    made = np.round(np.asarray(_pixels(images))).astype(np.uint8)
    done = [np.concatenate([*done, made])]
    folder.mkdir(parents=True, exist_ok=True)
    folder_lib.write_array(path, done[0])
  return done[0][:count]


def matching_loss(network: Network, rules: Sequence[graph.Rule] = ()):
  """The loss of images in -1..1 that are to match a network's BatchNorms.

  Args:
    network: the trained network.
    rules: rewrite rules.

  Returns:
    `(images, variables) -> scalar`.
  """
  apply = network.apply
  if rules:
    apply = graph.rewrite(apply, graph.compose(*rules))
  return synthesize.batch_norm_loss(
    lambda variables, images: apply(variables, _pixels(images)),
    statistics='batch',
    relative=True,
  )


def figures(settings, folder: pathlib.Path) -> list[audit.Plot]:
  """The pictures of inputs that were made, of the first seed.

  Args:
    settings: of the study.
    folder: the one that `make_inputs` was given.

  Returns:
    One figure, or none where all inputs were photographs.
  """
  used = dict.fromkeys(v.calibration for v in settings.variants)
  rows = {
    label: np.load(_path(folder, source, 0))
    for source, label in _LABELS.items()
    if source in used
  }
  if not rows:
    return []
  caption = (
    'Some of the inputs that activation ranges were taken from. No photograph '
    'went into them.'
  )
  return [audit.image_rows('calibration-inputs', rows, caption=caption)]


def tables(settings, entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
  """What ranges without a photograph cost, beside those of photographs.

  Args:
    settings: of the study.
    entries: the report's variants, judged.

  Returns:
    One table, or none where there is nothing to compare.
  """
  others = dict.fromkeys(v.calibration for v in settings.variants)
  others.pop('photographs', None)
  runs: dict[str, dict[tuple[int, int], dict[str, Any]]] = {}
  for entry in entries:
    place = entry['fold'], entry['seed']
    runs.setdefault(entry['name'], {})[place] = entry

  def row(variant):
    own = runs[variant.name]
    cells = [variant.name, _eer(own), _cosine(own)]
    for source in others:
      found = runs.get(dataclasses.replace(variant, calibration=source).name)
      if found is None:
        cells += [None] * 3
        continue
      gaps = [
        entry['verification']['eer'] - own[place]['verification']['eer']
        for place, entry in found.items()
      ]
      cells += [_eer(found), audit.over_runs(gaps)['mean'], _cosine(found)]
    return cells

  rows = [row(v) for v in settings.variants if v.calibration == 'photographs']
  if not (rows and others):
    return []
  columns: list[Any] = [
    'Ranges from photographs',
    {'heading': 'EER', 'unit': '%'},
    {'heading': 'Cosine', 'digits': 3},
  ]
  for source in others:
    columns += [
      {'heading': 'EER', 'unit': f'{source}, %'},
      {'heading': 'Difference', 'unit': 'points', 'sign': True},
      {'heading': 'Cosine', 'unit': source, 'digits': 3},
    ]
  return [
    {
      'title': 'Ranges without a photograph',
      'note': 'The same networks with activation ranges from other inputs. '
      'EER: mean over runs, ± sample standard deviation; difference: from that '
      'with photographs, run by run. Cosine: of the embeddings with those of '
      'float32, mean over photographs and runs.',
      'columns': columns,
      'rows': rows,
    }
  ]


def _eer(runs):
  found = audit.over_runs([x['verification']['eer'] for x in runs.values()])
  spread = '' if found['std'] is None else f'± {found["std"]:.2f}'
  return [found['mean'], spread]


def _cosine(runs):
  cosines = [x['agreement']['embedding_cosine'] for x in runs.values()]
  return float(np.mean(cosines))


def _path(folder: pathlib.Path, source: str, seed: int) -> pathlib.Path:
  return folder / f'{source}_seed{seed}.npy'


def _pixels(images: jax.Array) -> jax.Array:
  """From -1..1 to 0..255."""
  return 127.5 + 127.5 * images
