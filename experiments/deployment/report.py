"""From the models' embeddings and times to the report of the deploy study."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from compress import audit
from compress import packed as packed_lib
from experiments.deployment import words
from experiments.faces import exported, judge

_LATENCY_NAMES = {'onnxruntime': 'onnxruntime', 'stablehlo': 'jax'}
_ALIKE = 0.9999
"""Cosine of two embeddings, below which a warning is due."""


def make_report(
  *, options, command, stored, network, test, made, embedded, timed
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Judges every model and words the report.

  Args:
    options: of the study.
    command: the command line.
    stored: the network in the file.
    network: that it was made from.
    test: the `VerificationSet`.
    made: the models, one a runtime.
    embedded: `float32`, `jax` and each runtime to [N, 2, D], of each
      photograph and its mirror image.
    timed: runtime to `latency` and `memory`.

  Returns:
    The report and the curves, for `audit.write_report`.
  """
  draws = options.bootstrap
  protocol = audit.Protocol(draws=min(draws, 20) if options.smoke else draws)
  summed = {name: each.sum(axis=1) for name, each in embedded.items()}

  def judged(name):
    against = None if name == 'float32' else summed['float32']
    return judge.judge(summed[name], test, protocol, against)

  whole = packed_lib.tree_nbytes(exported.uncompressed(network).tree)
  first = timed[made[0].runtime]['latency']['float32']
  reference = {
    'name': network.name,
    'method': 'reference',
    'weight_bits': 32,
    'activation_bits': 32,
    'bytes': {'nominal': whole, 'packed': whole, 'on_disk': whole},
    'latency_ms': dict(first[list(first)[-1]]),
    'execution': 'float',
    'weights': network.provenance,
    **judged('float32'),
  }
  shared = {
    'weight_bits': stored.bits[0],
    'activation_bits': stored.bits[1],
  }
  packed = {
    'nominal': packed_lib.tree_nominal_bytes(stored.tree),
    'packed': packed_lib.tree_nbytes(stored.tree),
  }
  bits = words.bits(stored)
  variants = [
    {
      'name': f'jax {bits}',
      'method': 'jax',
      **shared,
      'bytes': {**packed, 'on_disk': pathlib.Path(options.file).stat().st_size},
      'execution': stored.recipe.execution,
      **judged('jax'),
    }
  ]
  checks, warnings = [], []
  for item in made:
    found = agreement(embedded['jax'], embedded[item.runtime], test)
    checks.append(words.check(item.runtime, found))
    if found['least_cosine'] < _ALIKE or found['flipped']:
      warnings.append(words.differs(item.runtime, found))
    variants.append(
      {
        'name': f'{item.runtime} {bits}',
        'method': item.runtime,
        **shared,
        **_costs(item, packed, timed[item.runtime]),
        'execution': stored.recipe.execution,
        'against_jax': found,
        'file': item.path.name,
        **judged(item.runtime),
      }
    )
  used = {item.runtime for item in made}
  more = ['onnx', 'onnxruntime'] if 'onnxruntime' in used else []
  report = {
    'study': 'deploy',
    'title': 'What a compressed network does in other runtimes',
    'description': words.describe(stored, options),
    'command': command,
    'environment': audit.environment(more=more),
    'dataset': _dataset(test),
    'reference': reference,
    'variants': variants,
    'methods': {
      name: words.METHODS[name] for name in ('jax', *options.runtimes)
    },
    'conventions': list(words.CONVENTIONS),
    'warnings': warnings,
    'notes': [
      *checks,
      *(note for item in made for note in item.notes),
      *words.notes(options),
    ],
    'reproduce': [command],
    'settings': dataclasses.asdict(options),
  }
  curves = {
    network.name: judge.curve(summed['float32'], test),
    'scores': {network.name: judge.scores(summed['float32'], test)},
  }
  for variant, key in zip(
    variants, ('jax', *(item.runtime for item in made)), strict=True
  ):
    curves[variant['name']] = judge.curve(summed[key], test)
  return report, curves


def _costs(item, packed, timed) -> dict[str, Any]:
  """Bytes, latency and memory of one model."""
  name = _LATENCY_NAMES[item.runtime]
  sizes = {
    'float32': item.float_path.stat().st_size,
    'compressed': item.path.stat().st_size,
  }
  return {
    'bytes': {
      **packed,
      'on_disk': sizes['compressed'],
      'runtime': {name: sizes},
    },
    'latency_ms': {name: timed['latency']},
    'memory_bytes': {name: timed['memory']},
  }


def agreement(expected, deployed, test) -> dict[str, Any]:
  """How far a runtime agrees with JAX.

  Args:
    expected: [N, 2, D], of each photograph and its mirror image.
    deployed: the same in the runtime.
    test: the `VerificationSet`.

  Returns:
    `photographs`, `least_cosine` and `mean_cosine` of the embeddings, mirror
    images included; `pairs` and `flipped`: decisions that differ at the
    threshold of JAX, moved halfway to the next score.
  """
  flat = [
    x.reshape(-1, x.shape[-1]).astype(np.float64) for x in (expected, deployed)
  ]
  cosine = (flat[0] * flat[1]).sum(1)
  cosine /= np.linalg.norm(flat[0], axis=1) * np.linalg.norm(flat[1], axis=1)
  before, after = (
    audit.cosine_scores(x.sum(axis=1), test.pairs) for x in (expected, deployed)
  )
  found = judge.judge(expected.sum(axis=1), test, audit.Protocol(draws=0))
  threshold = _between(before, found['verification']['threshold'])
  return {
    'photographs': len(expected),
    'least_cosine': float(cosine.min()),
    'mean_cosine': float(cosine.mean()),
    'pairs': len(before),
    'flipped': int(((before >= threshold) != (after >= threshold)).sum()),
  }


def _between(scores: np.ndarray, threshold: float | None) -> float:
  """A threshold that decides the same, and at which no pair lies.

  A threshold is the score of a pair; any rounding would then decide that pair
  anew.
  """
  if threshold is None:
    return -np.inf
  below = scores[scores < threshold]
  least = scores[scores >= threshold]
  if not below.size or not least.size:
    return threshold
  return float((below.max() + least.min()) / 2)


def _dataset(test) -> dict[str, Any]:
  count = None if test.identities is None else len(np.unique(test.identities))
  return {
    'name': test.name,
    'people': count,
    'photos': len(test.images),
    'genuine_pairs': int(test.genuine.sum()),
    'impostor_pairs': int((~test.genuine).sum()),
  }
