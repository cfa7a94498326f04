"""From the entries of the pruning benchmark to its report."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from compress import audit
from experiments.classification import pruning_words as words
from experiments.classification.images import describe_splits
from experiments.classification.pruning_methods import (
  CHANNEL_CONTROLS,
  CONTROLS,
  METHODS,
)

_BATCH = 32
# They come first, since figures name the first eight methods only.
_NAMED = (
  *CONTROLS,
  'gradual',
  'snip',
  'rigl',
  *CHANNEL_CONTROLS,
  'depgraph',
)


def make_report(study, *, command: str) -> dict[str, Any]:
  """The report of a finished study, for `audit.write_report`.

  Args:
    study: `pruning_study.Study`, after `run`.
    command: the command line.

  Returns:
    The dictionary.
  """
  dense = study.dense()
  entries = sorted(study.entries(), key=lambda e: e['method'] not in _NAMED)
  latency = study.latency
  reference = {
    **dense,
    'name': study.network.name,
    'method': 'dense',
    'execution': 'float',
    'compression': 1.0,
    'latency_ms': latency.get('dense'),
  }
  variants = [
    _variant(entry, dense, study.choice.total, latency) for entry in entries
  ]
  used = dict.fromkeys(entry['method'] for entry in entries)
  report = {
    'study': 'pruning_benchmark',
    'title': 'Pruning methods side by side',
    'description': describe(study, dense),
    'command': command,
    'environment': audit.environment(),
    'dataset': describe_splits(study.splits, validation='for choices'),
    'reference': reference,
    'variants': variants,
    'methods': {name: words.METHODS[name] for name in ('dense', *used)},
    'notes': notes(study, dense, entries),
    'reproduce': [command],
    'settings': dataclasses.asdict(study.settings),
    'learning_rate': study.rates(),
  }
  baselines = list(CONTROLS)
  if any(METHODS[name].channels for name in used):
    baselines += CHANNEL_CONTROLS
  gaps = audit.missing_evidence(report, baselines=baselines)
  return {**report, 'warnings': [*study.skipped, *gaps]}


def describe(study, dense) -> list[str]:
  """Paragraphs that say what was done.

  Args:
    study: the study.
    dense: entry of the dense network.

  Returns:
    Text.
  """
  settings, rates = study.settings, study.rates()
  accuracy = dense['accuracy_before']['mean']
  chosen = ', '.join(
    f'{rate}: {value:.2f} %'
    for rate, value in rates['validation_accuracy'].items()
  )
  tried = f' (validation accuracy at {rates["ratio"]:g}×: {chosen})'
  return [
    f'{study.network.name} with {study.choice.total:,} parameters was trained '
    f'on {settings.dataset} for {settings.pretraining_epochs} epochs from '
    f'{settings.seeds} seeds (test accuracy {accuracy:.2f} %). From the same '
    'weights of each seed every method removed as much as a compression '
    'ratio asks for, and what was left was trained for '
    f'{settings.tuning_epochs} more epochs, with the same images in the same '
    'order for all methods; so was the network of which nothing was removed. '
    'Methods that prune before training begin with the untrained weights and '
    'train as long as both together.',
    f'The learning rate of fine-tuning, {rates["chosen"]:g}, was chosen on '
    f'validation images with layer-wise magnitude{tried if chosen else ""} and '
    'is that of all methods; the test images chose nothing. Every network was '
    'written to a file, read back and judged. Weights were masked, the '
    'classifier’s too: their speed-up is theoretical only. Channels were '
    'removed for good, so many that the parameters left fit the same ratio: '
    'their latency was measured in turns with that of the dense network.',
  ]


def notes(study, dense, entries: Sequence[dict[str, Any]]) -> list[str]:
  """What the figures show, and where methods fall short of their papers.

  Args:
    study: the study.
    dense: entry of the dense network.
    entries: of the finished runs.

  Returns:
    One text a note.
  """
  found = []
  if study.settings.smoke:
    found.append('A smoke run: too little of everything for its figures.')
  if study.settings.dataset == 'digits':
    found.append(
      'Digits are few, small and easy: rankings at mild ratios lie within the '
      'deviations, and do not carry over to large sets of images.'
    )
  found += _at_ninety(dense, entries)
  by_method: dict[str, dict[float, dict[str, Any]]] = {}
  for entry in entries:
    by_method.setdefault(entry['method'], {})[entry['requested']] = entry
  for name, claim in words.CLAIMS.items():
    own, other = by_method.get(name, {}), by_method.get(claim.over, {})
    worse = [
      ratio
      for ratio in own
      if ratio >= claim.least
      and ratio in other
      and _is_worse(own[ratio], other[ratio], claim.before)
    ]
    if worse:
      key = 'accuracy_before' if claim.before else 'accuracy'
      figures = ', '.join(
        f'{ratio:g}×: {own[ratio][key]["mean"]:.1f} against '
        f'{other[ratio][key]["mean"]:.1f} %'
        for ratio in worse
      )
      when = ' before fine-tuning' if claim.before else ''
      found.append(
        f'{name} does worse than its paper says ({claim.says}): it is below '
        f'{claim.over}{when} at {figures}. Possible reasons: {claim.why}.'
      )
  return found


def _at_ninety(dense, entries) -> list[str]:
  """Magnitude, one-shot and gradual, and random with nine tenths gone."""
  rows = {e['method']: e for e in entries if e['requested'] == 10}
  texts = []
  shown = 'gradual', 'layer_magnitude', 'global_magnitude', 'random'
  for name in shown:
    if name in rows:
      change = rows[name]['accuracy']['mean'] - dense['accuracy']['mean']
      texts.append(f'{name} {change:+.2f}'.replace('-', '−'))
  if not texts:
    return []
  found = [
    'With 90 % of the parameters removed, points against the dense network '
    f'after fine-tuning: {", ".join(texts)}.'
  ]
  one_shot, random = rows.get('layer_magnitude'), rows.get('random')
  if one_shot and random and not _is_worse(random, one_shot, False):
    found.append(
      'In one step and with the same share of every layer, magnitude chooses '
      'no better than chance there: a few hundred updates leave most weights '
      'near their random beginning, and whatever is left learns again.'
    )
  return found


def _is_worse(own, other, before: bool) -> bool:
  """Below by more than the standard error of the difference."""
  key = 'accuracy_before' if before else 'accuracy'
  if key not in own or key not in other:
    return False
  a, b = own[key], other[key]
  error = np.sqrt(
    ((a['std'] or 0.0) ** 2 + (b['std'] or 0.0) ** 2) / max(a['n'], 1)
  )
  return b['mean'] - a['mean'] > max(error, 0.05)


def _variant(entry, dense, total, latency) -> dict[str, Any]:
  words_of_name = entry['method'].replace('_', ' ')
  found = {
    **entry,
    'name': f'{words_of_name} {entry["requested"]:g}×',
    'baseline': entry['method'] in (*CONTROLS, *CHANNEL_CONTROLS),
    'sparsity': 1 - entry['params'] / total,
    'compression': total / entry['params'],
    'speedup': {'theoretical': dense['macs'] / entry['macs']},
    'execution': 'masked',
  }
  key = entry.get('program')
  if key in latency:
    found['execution'] = 'float'
    found['latency_ms'] = latency[key]
    name = f'batch{_BATCH}'
    found['speedup']['measured'] = (
      latency['dense'][name]['median'] / latency[key][name]['median']
    )
  return found
