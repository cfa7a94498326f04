"""The report of mixed precision: same bytes, other bits, what it changed."""

import dataclasses
from typing import Any

import numpy as np
from scipy import stats

from compress import audit, graph
from experiments.faces import judge, words

_ZEROQ = 'Cai et al., 2020, ZeroQ, arXiv:2001.00281'
METHODS = {
  'uniform': {'summary': 'Every kernel has the same number of bits.'},
  'mixed': {
    'summary': 'Every kernel has bits of its own: the least sum of '
    'sensitivities that the bytes of the uniform network can buy.',
    'paper': _ZEROQ,
  },
}
_INPUTS = {
  'photographs': 'photographs of people who are not tested',
  'synthesized': 'images made from the network itself, by matching what its '
  'BatchNorms remember; no photograph went into them',
  'noise': 'noise around the middle grey, a control',
}


def make_report(
  *, settings, network, test, original, budgets, table, losses, front, command
) -> tuple[dict[str, Any], list[audit.Plot]]:
  """The report of a finished study, for `audit.write_report`.

  Args:
    settings: of the study.
    network: the original.
    test: the `VerificationSet`.
    original: [M, D], its embeddings of the test photographs.
    budgets: `mixed_precision.Budget`, one a uniform network.
    table: `mixed_precision.Table`.
    losses: leaf path -> bits -> sensitivity.
    front: of `search.pareto_front`.
    command: the command line.

  Returns:
    The dictionary, and the figures.
  """
  protocol = audit.Protocol(draws=settings.bootstrap)
  image = np.zeros((1, *network.image_shape), np.float32)
  cost = graph.cost(graph.trace(network.apply, network.variables, image))
  whole = 4 * sum(table.sizes.values())
  reference = {
    'name': network.name,
    'method': 'float32',
    'weight_bits': 32,
    'activation_bits': 32,
    'params': cost.parameters,
    'macs': cost.macs,
    'weights': network.provenance,
    'bytes': {'nominal': whole, 'packed': whole},
    'execution': 'float',
    **judge.judge(original, test, protocol),
  }
  variants = [
    {
      'name': one.name,
      'method': kind,
      'baseline': kind == 'uniform',
      'weight_bits': budget.bits,
      'activation_bits': settings.activation_bits,
      'bytes': one.bytes,
      'execution': one.recipe.execution,
      'layer_bits': dict(one.recipe.layer_bits),
      'predicted_loss': loss,
      **judge.judge(one.embeddings, test, protocol, original),
    }
    for budget in budgets
    for kind, one, loss in (
      ('uniform', budget.uniform, budget.loss[0]),
      ('mixed', budget.mixed, budget.loss[1]),
    )
  ]
  eers = [one['verification']['eer'] for one in variants]
  rows = [
    _compare(budget, pair, test, original, protocol)
    for budget, *pair in zip(budgets, eers[::2], eers[1::2], strict=True)
  ]
  report = {
    'study': 'mixed_precision',
    'title': 'Bits for every layer, and one number for all',
    'summary': [_sentence(*pair) for pair in zip(budgets, rows, strict=True)],
    'description': [
      'Each kernel was quantized alone, to every number of bits from '
      f'{min(settings.bits)} to {max(settings.bits)}, and 1 − cos of the '
      'embeddings taken as what it costs. For the bytes of each uniform '
      'network, the choice of least sum was searched, quantized, stored, read '
      'back and judged. Sensitivities and activation ranges come from '
      f'{settings.count} {_INPUTS[settings.inputs]}. Nothing is trained.',
    ],
    'command': command,
    'environment': audit.environment(),
    'dataset': {
      'name': test.name,
      'people': len(np.unique(test.identities)),
      'photos': len(test.images),
      'genuine_pairs': int(test.genuine.sum()),
      'impostor_pairs': int((~test.genuine).sum()),
      'split': f'test on people {settings.test_people}',
    },
    'reference': reference,
    'variants': variants,
    'methods': METHODS,
    'tables': [_comparison(rows), _layers(budgets, table, losses)],
    'warnings': words.warnings(settings),
    'notes': _notes(),
    'reproduce': [command],
    'settings': dataclasses.asdict(settings),
    'sensitivities': losses,
  }
  return report, [_front(front, budgets)]


def _compare(budget, eers, test, original, protocol) -> dict[str, Any]:
  """The mixed network against the uniform one of its bytes."""
  pair = budget.uniform.embeddings, budget.mixed.embeddings
  found = judge.judge(pair[1], test, protocol, pair[0])
  cosines = [audit.embedding_cosines(original, x) for x in pair]
  gains = cosines[1] - cosines[0]
  people = np.unique(test.identities)
  means = np.array([gains[test.identities == p].mean() for p in people])
  half = stats.t.ppf(0.975, len(means) - 1) * stats.sem(means)
  mean = float(means.mean())
  return {
    'bits': budget.bits,
    'bytes': [x.bytes['packed'] for x in (budget.uniform, budget.mixed)],
    'eer': eers,
    'difference': found['difference']['eer'],
    'interval': found['difference'].get('interval', {}).get('eer'),
    'cosine': [float(x.mean()) for x in cosines],
    'gain': (mean, mean - half, mean + half),
    'loss': budget.loss,
  }


def _comparison(rows) -> dict[str, Any]:
  return {
    'title': 'Mixed against uniform, at the same bytes',
    'note': 'Difference: EER of the mixed network less that of the uniform '
    'one, 95 % bootstrap interval over people, in brackets; below 0 is '
    'better. Cosine: of the embeddings with those of float32, mean over '
    'photographs; its gain with a 95 % t-interval over people. Predicted: the '
    'sum of sensitivities.',
    'columns': [
      'Bytes of',
      {'heading': 'Uniform', 'unit': 'bytes'},
      {'heading': 'Mixed', 'unit': 'bytes'},
      {'heading': 'Uniform', 'unit': 'EER, %'},
      {'heading': 'Mixed', 'unit': 'EER, %'},
      {'heading': 'Difference', 'unit': 'points', 'sign': True},
      {'heading': 'Uniform', 'unit': 'cosine', 'digits': 4},
      {'heading': 'Mixed', 'unit': 'cosine', 'digits': 4},
      {'heading': 'Gain', 'unit': 'of cosine', 'digits': 4, 'sign': True},
      {'heading': 'Uniform', 'unit': 'predicted loss', 'digits': 4},
      {'heading': 'Mixed', 'unit': 'predicted loss', 'digits': 4},
    ],
    'rows': [
      [
        f'w{row["bits"]}',
        *(round(x) for x in row['bytes']),
        *row['eer'],
        [row['difference'], _bracket(row['interval'], 2)],
        *row['cosine'],
        [row['gain'][0], _bracket(row['gain'][1:], 4)],
        *row['loss'],
      ]
      for row in rows
    ],
  }


def _layers(budgets, table, losses) -> dict[str, Any]:
  bits = sorted(next(iter(losses.values())))
  shown = 4 if 4 in bits else bits[0]
  return {
    'title': 'Bits of every layer',
    'note': f'Sensitivity: 1 − cos of the embeddings if this kernel alone has '
    f'{shown} bits, in thousandths.',
    'columns': [
      'Kernel',
      'Weights',
      {'heading': 'Sensitivity', 'unit': '1/1000', 'digits': 3},
      *(
        {'heading': f'Bytes of w{budget.bits}', 'unit': 'bits'}
        for budget in budgets
      ),
    ],
    'rows': [
      [
        path,
        int(table.sizes[path]),
        1000 * losses[path][shown],
        *(dict(budget.mixed.recipe.layer_bits)[path] for budget in budgets),
      ]
      for path in losses
    ],
  }


def _front(front, budgets) -> audit.Plot:
  places = np.unique(
    np.linspace(0, len(front) - 1, min(60, len(front))).round().astype(int)
  )
  points = [
    (front.costs[i] / 1e6, max(front.losses[i], 1e-9), None) for i in places
  ]
  uniform = [(budget.cost / 1e6, budget.loss[0], None) for budget in budgets]
  return audit.lines(
    'pareto-front',
    {'best choices of bits': points, 'one number of bits': uniform},
    x='Bytes of the kernels (MB, packed)',
    y='Predicted loss (sum of sensitivities)',
    caption='What each number of bytes can buy: every layer its own bits, or '
    'all layers the same.',
    log_y=True,
  )


def _sentence(budget, row) -> str:
  interval = row['interval']
  resolved = interval is None or interval[0] is None
  resolved = ''
  if not resolved:
    inside = interval[0] <= 0 <= interval[1]
    resolved = ', not resolved' if inside else ''
  text = (
    f'At the bytes of w{budget.bits}, mixed bits give an EER of '
    f'{row["eer"][1]:.2f} % instead of {row["eer"][0]:.2f} % '
    f'({row["difference"]:+.2f} points, 95 % interval '
    f'{_bracket(interval, 2)}{resolved}), and embeddings whose cosine with '
    f'those of float32 is {row["cosine"][1]:.4f} instead of '
    f'{row["cosine"][0]:.4f} (gain {row["gain"][0]:+.4f} '
    f'{_bracket(row["gain"][1:], 4)}).'
  )
  return text.replace('-', '−')


def _notes() -> list[str]:
  return [
    'That sensitivities add up is an assumption: the predicted loss stands '
    'beside what came out. Bytes of the mixed network may be a little below '
    'those of the uniform one, never above.',
  ]


def _bracket(ends, digits: int) -> str:
  if ends is None or None in ends:
    return ''
  return f'[{ends[0]:+.{digits}f}, {ends[1]:+.{digits}f}]'
