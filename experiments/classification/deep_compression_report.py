"""The report of Deep Compression, from the entries of its rungs."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from compress import audit, graph, prune
from experiments.classification.deep_compression_study import SIZE
from experiments.classification.deep_compression_words import METHODS, PAPER

ALLOWED = 0.5
"""Points of accuracy that may be lost."""


def make_report(study, *, command: str) -> dict[str, Any]:
  """The report of a finished study, for `audit.write_report`.

  Args:
    study: `deep_compression_study.Study`, after `run`.
    command: the command line.

  Returns:
    The dictionary; `stages` is the table of bytes.
  """
  dense, rungs = study.dense(), study.rungs()
  cost, macs = _costs(study.network)
  whole = dense['bytes']['on_disk']
  reference = {
    **dense,
    'name': study.network.name,
    'method': 'float32',
    'params': cost.parameters,
    'macs': cost.macs,
    'compression': 1.0,
    'execution': 'float',
  }
  variants = [
    {
      **entry,
      'name': f'{stage} {100 * rung["density"]:g} %',
      'method': stage,
      'baseline': stage == 'pruned',
      'sparsity': 1 - _density(rung),
      'params': _params(rung, cost.parameters),
      'macs': _macs(rung, cost.macs, macs),
      'compression': whole / entry['bytes']['on_disk'],
      'execution': 'masked',
    }
    for rung in rungs
    for stage, entry in rung['stages'].items()
  ]
  table = stages(study.settings.network, dense, rungs)
  report = {
    'study': 'deep_compression',
    'title': f'Deep Compression of {study.network.name}',
    'description': describe(study),
    'command': command,
    'environment': audit.environment(),
    'dataset': _dataset(study),
    'reference': reference,
    'variants': variants,
    'methods': METHODS,
    'conventions': [
      'Compression is bytes of the float32 file over bytes of the file, both '
      'as they lie on disk: headers, code tables, codebooks, shapes, checksums '
      'and biases are all in them.',
    ],
    'notes': notes(study, table),
    'reproduce': [command],
    'settings': dataclasses.asdict(study.settings),
    'stages': table,
  }
  return {**report, 'warnings': audit.missing_evidence(report)}


def chosen(dense, rungs: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
  """The sparsest rung that lost no more than allowed, on validation images.

  Args:
    dense: entry of the dense network.
    rungs: entries of the rungs.

  Returns:
    Its entry, judged by the Huffman-coded file; None if all lost more.
  """
  right = dense['validation_accuracy']['mean'] - ALLOWED
  found = [
    rung
    for rung in rungs
    if rung['stages']['huffman']['validation_accuracy']['mean'] >= right
  ]
  return min(found, key=lambda rung: rung['density']) if found else None


def stages(network: str, dense, rungs) -> list[dict[str, Any]]:
  """The table of bytes after each stage, of the rung that was chosen.

  Args:
    network: name of the network.
    dense: entry of the dense network.
    rungs: entries of the rungs.

  Returns:
    One row a stage: stage, kept, bytes, ratio, paper (its ratio or None),
    accuracy, lost (points).
  """
  whole, accuracy = dense['bytes']['on_disk'], dense['accuracy']['mean']
  rows = [
    {
      'stage': 'float32',
      'kept': 1.0,
      'bytes': whole,
      'ratio': 1.0,
      'paper': 1,
      'accuracy': accuracy,
      'lost': 0.0,
    }
  ]
  rung = chosen(dense, rungs)
  for stage, entry in (rung or {'stages': {}})['stages'].items():
    found = entry['accuracy']['mean']
    rows.append(
      {
        'stage': stage,
        'kept': rung['density'],
        'bytes': entry['bytes']['on_disk'],
        'ratio': whole / entry['bytes']['on_disk'],
        'paper': PAPER[network].get(stage),
        'accuracy': found,
        'lost': accuracy - found,
      }
    )
  return rows


def format_stages(rows: Sequence[dict[str, Any]]) -> str:
  """The table of bytes as plain text."""
  lines = ['stage        kept %     bytes   ratio  paper  accuracy    lost']
  for row in rows:
    paper = '-' if row['paper'] is None else f'{row["paper"]}x'
    lines.append(
      f'{row["stage"]:<11} {100 * row["kept"]:7.4g} {row["bytes"]:9,.0f} '
      f'{row["ratio"]:6.1f}x {paper:>6} {row["accuracy"]:9.2f} '
      f'{row["lost"]:7.2f}'
    )
  return '\n'.join(lines)


def describe(study) -> list[str]:
  """Paragraphs that say what was done."""
  settings = study.settings
  rows, columns, _ = study.splits.train.image_shape
  return [
    f'{study.network.name} was trained on {settings.dataset}, {rows} x '
    f'{columns} pixels, for {settings.training_epochs} epochs from '
    f'{settings.seeds} seeds. The smallest weights of the whole network were '
    f'removed rung by rung, and after each the rest retrained for '
    f'{settings.retraining_epochs} epochs. From every rung the survivors of a '
    f'layer were clustered into {1 << settings.conv_bits} (convolutions) or '
    f'{1 << settings.dense_bits} (dense layers) shared values, beginning '
    'linearly, and the values and biases trained for '
    f'{settings.sharing_epochs} more epochs.',
    'Every stage is a file that was written, read back and judged. The '
    f'sparsest rung that loses at most {ALLOWED:g} points on validation images '
    'is the one of the table of stages; test images chose nothing.',
  ]


def notes(study, table: Sequence[dict[str, Any]]) -> list[str]:
  """The table of stages in words, and what a reader should know."""
  settings, found = study.settings, []
  if settings.smoke:
    found.append('A smoke run: too little of everything for its figures.')
  if len(table) == 1:
    found.append('Every rung lost more than allowed: there is no such table.')
  for row in table:
    paper = '' if row['paper'] is None else f' (paper, MNIST: {row["paper"]}×)'
    found.append(
      f'{row["stage"]}, {100 * row["kept"]:g} % of the weights kept: '
      f'{row["bytes"]:,.0f} bytes, {row["ratio"]:.1f}×{paper}, '
      f'{row["lost"]:+.2f} points lost.'
    )
  if settings.dataset == 'digits':
    text = (
      'Digits are no MNIST: 1,797 images of 8 x 8 pixels, easier and fewer; a '
      'test image is 0.3 points.'
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


def _dataset(study) -> dict[str, Any]:
  train, validation, test = study.splits
  rows, columns, colours = train.image_shape
  return {
    'name': study.settings.dataset,
    'images': f'{rows} x {columns} x {colours}',
    'classes': len(train.classes),
    'split': {
      'train': f'{len(train)} images',
      'validation': f'{len(validation)} images, for choices',
      'test': f'{len(test)} images, for the report',
    },
  }
