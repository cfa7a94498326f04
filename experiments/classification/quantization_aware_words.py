"""Quantization with a teacher in words: methods, papers, what came out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from compress import audit

STUDY = 'quantization_aware_distillation'

_POLINO = {
  'paper': 'Polino, Pascanu, Alistarh, 2018, Model compression via '
  'distillation and quantization',
  'url': 'https://arxiv.org/abs/1802.05668',
}
_LSQ = {
  'paper': 'Esser, McKinstry, Bablani, Appuswamy, Modha, 2019, Learned Step '
  'Size Quantization',
  'url': 'https://arxiv.org/abs/1902.08153',
}

METHODS = {
  'teacher': {'summary': 'The large float network that teaches.'},
  'labels': {'summary': 'The float student, trained by labels to the end.'},
  'distilled': {
    'summary': 'The float student, taught by the teacher.',
    'paper': 'Hinton, Vinyals, Dean, 2015, Distilling the Knowledge in a '
    'Neural Network',
    'url': 'https://arxiv.org/abs/1503.02531',
  },
  'post_training': {
    'summary': 'The float student of labels, quantized at the end with the '
    'ranges of least error; no update sees a quantizer.',
  },
  'distil_then_post_training': {
    'summary': 'Distil, then quantize: the distilled float student, quantized '
    'at the end.',
  },
  'qat': {
    'summary': 'Quantization-aware training alone: trained intervals, labels, '
    'no teacher.',
    **_LSQ,
  },
  'distil_then_qat': {
    'summary': 'Distil, then quantize: half of the updates from the teacher in '
    'float, the other half quantization-aware by labels.',
  },
  'once': {
    'summary': 'Quantize once, then distil: trained intervals at the last bits '
    'from the first update, taught by the float teacher.',
  },
  'iterated': {
    'summary': 'Quantize, distil, quantize to fewer bits, distil again: 8, 6, '
    '4, 2 bits down to the last, an equal share of the updates at each.',
  },
  'buckets': {
    'summary': 'Quantized distillation (QD): weights projected to even levels '
    'of buckets of 256 before every forward pass, taught by the float teacher.',
    **_POLINO,
  },
  'points': {
    'summary': 'Differentiable quantization (DQ): the weights stay, the levels '
    'are learned from the float teacher, one set a layer.',
    **_POLINO,
  },
  'speq': {
    'summary': 'SPEQ: no teacher but the student itself at activation '
    'precisions drawn layer by layer.',
    'paper': 'Boo, Shin, Choi, Sung, 2021, Stochastic Precision Ensemble',
    'url': 'https://arxiv.org/abs/2009.14502',
  },
  'qkd': {
    'summary': 'QKD: the quantized student alone, then together with the '
    'teacher, which learns too, then from the teacher frozen.',
    'paper': 'Kim, Bhalgat, Lee, Patel, Kwak, 2019, QKD: Quantization-aware '
    'Knowledge Distillation',
    'url': 'https://arxiv.org/abs/1911.12491',
  },
}

TITLES = {
  'labels': 'Float student',
  'distilled': 'Float student, distilled',
  'post_training': 'Post-training alone',
  'distil_then_post_training': 'Distil, then quantize',
  'qat': 'Quantization-aware alone',
  'distil_then_qat': 'Distil, then quantization-aware',
  'once': 'Quantize once, then distil',
  'iterated': 'Iterated',
  'buckets': 'QD (Polino)',
  'points': 'DQ (Polino)',
  'speq': 'SPEQ',
  'qkd': 'QKD',
}

TEACHERS = {
  'labels': 'none',
  'distilled': 'float',
  'post_training': 'none',
  'distil_then_post_training': 'float, before',
  'qat': 'none',
  'distil_then_qat': 'float, before',
  'once': 'float',
  'iterated': 'float',
  'buckets': 'float',
  'points': 'float',
  'speq': 'itself',
  'qkd': 'float, learns too',
}

RIVALS = ('qat', 'once', 'distil_then_qat', 'distil_then_post_training')


def describe(study) -> list[str]:
  """Paragraphs that say what was done."""
  settings, tuning = study.settings, study.settings.tuning
  alone, together, tutored = study.phases()
  return [
    f'A {settings.student} of {settings.student_width:g} times the usual '
    f'width was trained on {settings.dataset} for {settings.start_epochs} '
    f'epochs from {settings.seeds} seeds, and a {settings.teacher} to teach it '
    f'for {settings.teacher_epochs}. From that float student every row makes '
    f'{study.steps} more updates ({settings.epochs} epochs), on the same '
    'images in the same order, with Adam at the same highest learning rate '
    f'({tuning.learning_rate:g}) falling along half a cosine. Only then may '
    'post-training rows quantize. A stage of iterated quantization and of '
    '“distil, then” has a cosine of its own; QKD has one for its '
    f'{alone.end}, {together.end - together.begin} and '
    f'{tutored.end - tutored.begin} updates alone, together and tutored.',
    'w4a4 has 4 bits in the weights and in the activations of every layer but '
    'the first and the last, which have 8; the image itself stays float. '
    'Activations have one trained interval each and start, as the weights do, '
    'at the range of least error. Where there is a float teacher, the loss is '
    f'{tuning.hard_weight:g} of the labels’ cross-entropy and '
    f'{1 - tuning.hard_weight:g} of T² times the divergence at '
    f'T = {tuning.temperature:g}; nothing was tuned for any method.',
    'Every student is a file that was written, read back and judged; '
    'arithmetic is simulated in float32. Bytes are those of the file, whose '
    'header is a good part of so small a network.',
  ]


CONVENTIONS = (
  'Accuracies are percent of the test images; ± is the sample standard '
  'deviation over seeds.',
  'Differences are taken within a seed first: both sides start from the same '
  'weights.',
)


def difference(
  ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
  """Points of accuracy between two rows, seed by seed.

  Args:
    ours: figures of every seed.
    theirs: of the same seeds.

  Returns:
    mean, std (None of one seed), n, and `better`, seeds in which ours is.
  """
  gaps = np.round(
    [a['accuracy'] - b['accuracy'] for a, b in zip(ours, theirs, strict=True)],
    9,
  )
  return {**audit.over_runs(gaps), 'better': int((gaps > 0).sum())}


def spread(found: Mapping[str, Any], *, digits: int = 2) -> str:
  """'± 0.31', or '' where one run has none."""
  std = found.get('std')
  return '' if std is None else f'± {std:.{digits}f}'


def iterated_notes(study, figures) -> list[str]:
  """What iterated quantization does against its rivals, a sentence a width."""
  found = []
  for bits in study.settings.bits:
    ours = figures[f'iterated_w{bits}a{bits}']
    mean = audit.over_runs([run['accuracy'] for run in ours])
    rungs = ' → '.join(str(b) for b, _ in study.ladder(bits))
    parts = []
    for method in RIVALS:
      gap = difference(ours, figures[f'{method}_w{bits}a{bits}'])
      parts.append(
        f'“{TITLES[method].lower()}” {_signed(gap["mean"])} {spread(gap)} '
        f'points (better in {gap["better"]} of {gap["n"]} seeds)'
      )
    found.append(
      f'Iterated {rungs} bits reaches {mean["mean"]:.2f} {spread(mean)} %; '
      f'against {"; against ".join(parts)}.'
    )
  return [' '.join(text.split()) for text in found]


def summary(study, figures) -> list[str]:
  """The sentences at the top."""
  settings, found = study.settings, []
  dense = _mean(figures['labels'])
  for bits in settings.bits:
    rows = {
      row.method: _mean(figures[row.name])
      for row in study.rows
      if row.bits == bits
    }
    best = max(rows, key=rows.get)
    found.append(
      f'At {bits} bits post-training quantization alone takes the student '
      f'from {dense:.2f} % to {rows["post_training"]:.2f} %, '
      f'quantization-aware training alone to {rows["qat"]:.2f} %; the highest '
      f'mean is {rows[best]:.2f} %, of “{TITLES[best]}”.'
    )
  return found + iterated_notes(study, figures)


def notes(study) -> list[str]:
  """What a reader should know."""
  settings, test = study.settings, len(study.splits.test)
  found = [
    f'An image is {100 / test:.2f} points of accuracy of the {test} test '
    f'images: with {settings.seeds} seeds, gaps of a few images are chance.',
    'The papers of QKD and SPEQ could not be opened; both follow what others '
    'say of them. QKD’s teacher makes updates of its own, which are not '
    'counted; its intervals start at the range of least error and not at the '
    'extremes.',
    f'Of the {study.steps} updates iterated quantization to '
    f'{min(settings.bits)} bits spends '
    f'{study.ladder(min(settings.bits))[-1][1]} at the last width, quantizing '
    'once all of them: where the last width is hard to learn, that weighs '
    'against turns, and less so with more --epochs.',
    'DQ trains the points and the activations’ intervals and nothing else, as '
    'published: weights, biases and BatchNorm’s scales stay.',
    'Weights of QD and DQ have a scale for every 256 values, those on trained '
    'intervals one for a layer: fewer bytes, but coarser.',
  ]
  if settings.dataset == 'digits':
    found.append(
      'Digits, because they ship with scikit-learn: 8 x 8 pixels and easy; '
      '--dataset takes fashion_mnist and cifar10.'
    )
  return found


def _signed(value: float) -> str:
  return f'{value:+.2f}'.replace('-', '−')


def _mean(runs) -> float:
  return float(np.mean([run['accuracy'] for run in runs]))
