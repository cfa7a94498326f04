"""The report of a study of lottery tickets, from the records of its rounds."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from compress import audit
from experiments.classification import lottery_training, lottery_words
from experiments.classification.images import describe_splits
from experiments.classification.lottery_words import Figures

TICKET = lottery_words.TICKET
CONTROLS = ('reinitialized', 'random_masks', 'shuffled_weights')


def make_report(
  *,
  settings,
  network,
  splits,
  marks: np.ndarray,
  rounds: Sequence[Mapping[str, Any]],
  macs: Mapping[str, int],
  command: str,
) -> dict[str, Any]:
  """Words the report.

  Args:
    settings: of the study.
    network: the classifier.
    splits: its data.
    marks: int [S], the steps at which `accuracy` of a run was taken.
    rounds: the records, the dense network's first.
    macs: leaf path to multiply-adds a weight, for one image.
    command: the command line.

  Returns:
    The report, for `audit.write_report`.
  """
  size, work = _dense_cost(network)
  whole = rounds[0]['left']
  total = sum(whole.values())
  entries, figures = [], []
  for found in rounds:
    left = found['left']
    density = sum(left.values()) / total
    removed = {path: whole[path] - count for path, count in left.items()}
    for method in dict.fromkeys(run['method'] for run in found['runs']):
      runs = [run for run in found['runs'] if run['method'] == method]
      figure = _figures(method, density, runs, marks, settings)
      name = (
        f'{method} {100 * density:.1f} %' if found['round'] else network.name
      )
      entries.append(
        {
          'name': name,
          'method': method,
          'round': found['round'],
          'sparsity': 1 - density,
          'params': size - sum(removed.values()),
          'macs': work - sum(n * macs.get(p, 0) for p, n in removed.items()),
          'kept': {p: [n, whole[p]] for p, n in left.items()},
          **_entry(figure, runs, marks),
        }
      )
      figures.append(figure)
  methods = {name: lottery_words.METHODS[name] for name in _methods(entries)}
  report = {
    'study': 'lottery_ticket',
    'title': 'Winning lottery tickets and their controls',
    'description': lottery_words.describe(settings, network, splits),
    'command': command,
    'environment': audit.environment(),
    'dataset': describe_splits(splits, validation='for the speed of learning'),
    'methods': methods,
    'conventions': list(lottery_words.CONVENTIONS),
    'reference': entries[0],
    'variants': entries[1:],
    'marks': [int(mark) for mark in marks],
    'notes': lottery_words.notes(settings, figures),
    'reproduce': [command],
  }
  report['warnings'] = audit.missing_evidence(
    report, baselines=('reinitialized', 'random_masks')
  )
  return report


def _methods(entries):
  return dict.fromkeys(entry['method'] for entry in entries)


def _dense_cost(network) -> tuple[int, int]:
  found = network.cost(jax.eval_shape(network.init, jax.random.key(0)))
  return found.parameters, found.macs


def _figures(method, density, runs, marks, settings) -> Figures:
  early = int(np.searchsorted(marks, settings.early_steps))
  early = min(early, len(marks) - 1)
  return Figures(
    method=method,
    density=density,
    before=tuple(run['before'] for run in runs),
    accuracy=tuple(run['test']['top1'] for run in runs),
    early_step=int(marks[early]),
    early=tuple(run['accuracy'][early] for run in runs),
    reached=tuple(
      lottery_training.steps_to_level(
        marks, run['accuracy'], level=settings.level
      )
      for run in runs
    ),
    level=settings.level,
  )


def _entry(figure: Figures, runs, marks) -> dict[str, Any]:
  """Accuracy at the end and on the way, over seeds, accuracies in percent."""
  judged = [audit.Classification(**run['test']) for run in runs]
  lowest = [float(marks[np.argmin(run['cross_entropy'])]) for run in runs]
  reached = [step for step in figure.reached if step is not None]
  return {
    **{k: _tidy(v) for k, v in audit.accuracy_entry(judged).items()},
    'accuracy_before': _tidy(
      audit.over_runs([100 * value for value in figure.before])
    ),
    'cross_entropy': audit.over_runs([j.cross_entropy for j in judged]),
    'early': {
      'step': figure.early_step,
      'accuracy': _tidy(
        audit.over_runs([100 * value for value in figure.early])
      ),
    },
    'steps_to_level': {
      'level': 100 * figure.level,
      'reached': len(reached),
      'of': len(runs),
      **(audit.over_runs(reached) if reached else {}),
    },
    'lowest_loss_step': audit.over_runs(lowest),
    'validation_accuracy': {
      'mean': [round(100 * x, 3) for x in _mean(runs, 'accuracy')],
    },
    'bytes': {'on_disk': round(np.mean([run['on_disk'] for run in runs]))},
    'seeds': [
      {'seed': run['seed'], 'accuracy': 100 * run['test']['top1']}
      for run in runs
    ],
  }


def _tidy(figure: dict[str, Any]) -> dict[str, Any]:
  """Without the last digits, where equal accuracies seem to differ."""
  return {k: v if v is None else round(v, 9) for k, v in figure.items()}


def _mean(runs, key) -> list[float]:
  return np.mean([run[key] for run in runs], axis=0).tolist()
