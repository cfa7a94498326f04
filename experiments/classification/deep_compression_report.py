"""The report of Deep Compression, from the entries of its rungs."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from compress import audit, graph, prune
from experiments.classification import deep_compression_tables as tables
from experiments.classification.deep_compression_study import SIZE
from experiments.classification.deep_compression_words import METHODS, TITLES
from experiments.classification.images import describe_splits


def make_report(study, *, command: str, ratio: float) -> dict[str, Any]:
  """The report of a finished study, for `audit.write_report`.

  Args:
    study: `deep_compression_study.Study`, after `run`.
    command: the command line.
    ratio: that the rung of the table of stages is to reach.

  Returns:
    The dictionary; the first of its `tables` has the bytes of every stage.
  """
  dense, rungs = study.dense(), study.rungs()
  rung, reached = tables.chosen(dense, rungs, ratio)
  name = TITLES[study.settings.network]
  cost, macs = _costs(study.network)
  whole = dense['bytes']['on_disk']
  reference = {
    **_shown(dense),
    'name': name,
    'method': 'float32',
    'params': cost.parameters,
    'macs': cost.macs,
    'compression': 1.0,
    'compression_of': 'bytes',
  }
  variants = [
    {
      **_shown(entry),
      'name': f'{stage} {100 * one["density"]:g} %',
      'method': stage,
      'baseline': stage == 'pruned',
      'sparsity': 1 - _density(one),
      'params': _params(one, cost.parameters),
      'macs': _macs(one, cost.macs, macs),
      'compression': whole / entry['bytes']['on_disk'],
    }
    for one in rungs
    for stage, entry in one['stages'].items()
  ]
  report = {
    'study': 'deep_compression',
    'title': f'Deep Compression of {name}',
    'summary': tables.summary(study.settings.network, dense, rung),
    'description': describe(study, ratio),
    'command': command,
    'environment': audit.environment(),
    'dataset': describe_splits(study.splits, validation='for choices'),
    'reference': reference,
    'variants': variants,
    'methods': METHODS,
    'tables': [
      tables.stage_table(study.settings.network, dense, rung),
      tables.rung_table(dense, rungs, rung),
      tables.layer_table(tables.parts_of(study, rung)),
    ],
    'notes': notes(study, rung, ratio if reached else None),
    'reproduce': [command],
    'settings': dataclasses.asdict(study.settings),
  }
  return {**report, 'warnings': audit.missing_evidence(report)}


def describe(study, ratio: float) -> list[str]:
  """Paragraphs that say what was done."""
  settings = study.settings
  rows, columns, _ = study.splits.train.image_shape
  return [
    f'{TITLES[settings.network]} was trained on {settings.dataset}, {rows} x '
    f'{columns} pixels, for {settings.training_epochs} epochs from '
    f'{settings.seeds} seeds. The smallest weights of the whole network were '
    f'removed rung by rung, and after each the rest retrained for '
    f'{settings.retraining_epochs} epochs. From every rung the survivors of a '
    f'layer were clustered into {1 << settings.conv_bits} (convolutions) or '
    f'{1 << settings.dense_bits} (dense layers) shared values, beginning '
    'linearly, and the values and biases trained for '
    f'{settings.sharing_epochs} more epochs.',
    'Every stage is a file that was written, read back and judged. The rung of '
    'the table of stages is the one that most weights are left of among those '
    f'whose Huffman-coded file is at least {ratio:g} times smaller than '
    'float32. Bytes alone choose it: neither test nor validation images do, '
    'and what the others reach stands in the table of every rung.',
  ]


def notes(study, rung, reached: float | None) -> list[str]:
  """What a reader should know.

  Args:
    study: the study.
    rung: entry of the rung that was chosen.
    reached: the ratio that it was chosen for; None if no rung has it.

  Returns:
    One paragraph each.
  """
  settings, found = study.settings, []
  if settings.smoke:
    found.append('A smoke run: too little of everything for its figures.')
  if reached is None:
    found.append(
      'No rung is as small as was asked for: the tables are of the smallest, '
      f'{100 * rung["density"]:g} % kept.'
    )
  _, validation, test = (len(part) for part in study.splits)
  found.append(
    f'An image is {100 / test:.2f} points of accuracy of the {test} test '
    f'images, and {100 / validation:.2f} of the {validation} validation images.'
  )
  if settings.dataset == 'digits':
    text = (
      'Digits, because they ship with scikit-learn; --dataset takes mnist and '
      'fashion_mnist. They are no MNIST: 1,797 images of 8 x 8 pixels, easier '
      'and fewer.'
    )
    if settings.enlarge:
      text += (
        f' They are enlarged to {SIZE} x {SIZE} pixels, each pixel repeated '
        'three times with a border of two, so that the network has the '
        'paper’s size. Neighbouring inputs are then the same, and the first '
        'layer can lose more than on MNIST: the ratios are not comparable '
        'with the paper’s. Without it, the network is smaller, and headers, '
        'tables and biases weigh more.'
      )
    found.append(text)
  found.append(
    'The paper counts weights, indices and codebooks; these files hold '
    'biases, shapes, a checksum a tensor and a JSON header besides.'
  )
  return found


def _shown(entry):
  """What a report shows of an entry: with ten classes, no top-5."""
  return {k: v for k, v in entry.items() if k != 'top5'}


def _costs(network):
  """What the dense network costs, and leaf path to multiply-adds a weight."""
  shapes = jax.eval_shape(network.init, jax.random.key(0))
  image = jax.ShapeDtypeStruct((1, *network.image_shape), jnp.float32)
  traced = graph.trace(network.apply, shapes, image)
  return graph.cost(traced), prune.macs_per_weight(traced)


def _density(rung) -> float:
  kept = sum(n for left in rung['left'] for n, _ in left.values())
  whole = sum(n for left in rung['left'] for _, n in left.values())
  return kept / whole


def _params(rung, total: int) -> float:
  removed = sum(m - n for left in rung['left'] for n, m in left.values())
  return total - removed / len(rung['left'])


def _macs(rung, total: int, each) -> float:
  removed = sum(
    (m - n) * each[path]
    for left in rung['left']
    for path, (n, m) in left.items()
  )
  return total - removed / len(rung['left'])
