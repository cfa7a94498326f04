"""What the report of the teacher gap says in words, from its figures."""

from typing import Any

import numpy as np

from compress import distill
from experiments.classification.paired import RULE, difference, is_clear
from experiments.classification.teacher_gap_tables import Figures, along

_HINTON = 'Hinton, Vinyals, Dean, 2015, arXiv:1503.02531'
_BORN_AGAIN = (
  'Furlanello, Lipton, Tschannen, Itti, Anandkumar, 2018, arXiv:1805.04770'
)
_ASSISTANTS = (
  'Mirzadeh, Farajtabar, Li, Levine, Matsukawa, Ghasemzadeh, 2020, '
  'arXiv:1902.03393'
)

METHODS: dict[str, dict[str, str]] = {
  'teacher': {'summary': 'Networks of the family, trained on labels.'},
  'alone': {'summary': 'Control: the student, trained on labels.'},
  'distilled': {
    'summary': 'Control: the student by labels and a teacher’s softened '
    'answers.',
    'paper': _HINTON,
  },
  'chain': {
    'summary': 'By the teacher through every size between, one after another.',
    'paper': _ASSISTANTS,
  },
  'searched': {
    'summary': 'Through the sizes that a search over paths chooses.',
    'paper': _ASSISTANTS,
  },
  'soft_targets': {
    'summary': 'Control: by the teacher’s softened answers without labels.',
    'paper': _HINTON,
  },
  'munge': {
    'summary': 'By the teacher’s answers to real and invented images.',
    'paper': 'Bucila, Caruana, Niculescu-Mizil, 2006, Model Compression, KDD',
  },
  'born_again': {
    'summary': 'By labels and the generation before, of its own size.',
    'paper': _BORN_AGAIN,
  },
  'born_again_control': {
    'summary': 'CWTM: labels, weighed by how sure the teacher is. DKPP: the '
    'teacher’s answers with all but the largest shuffled.',
    'paper': _BORN_AGAIN,
  },
  'by_ensemble': {
    'summary': 'By labels and the mean answer of the students of all teachers: '
    'an ensemble of compressed networks.',
    'paper': 'Bucila, Caruana, Niculescu-Mizil, 2006, Model Compression, KDD',
  },
  'ensemble': {
    'summary': 'Several students; the mean of their probabilities.',
    'paper': _BORN_AGAIN,
  },
}

CONVENTIONS = (
  'All networks take the same number of steps, at the same learning rates. A '
  'seed decides the initial weights and the order of the images; students of '
  'one seed begin with the same weights, so that differences are told seed by '
  f'seed. {RULE} Born-again generations begin with other weights, as they '
  'must.',
  'Temperature and weight of the labels are those that distillation is usually '
  'given (4 and 0.1) for every teacher and path, and were not tuned. Soft '
  'trees learn from probabilities at the same temperature.',
)


def method(name: str) -> str:
  """The key of `METHODS` of a student by another scheme."""
  if name.startswith('born-again'):
    return 'born_again'
  return {
    'soft targets alone': 'soft_targets',
    'MUNGE': 'munge',
    'CWTM': 'born_again_control',
    'DKPP': 'born_again_control',
  }.get(name, 'by_ensemble')


def describe(settings, images, steps: int) -> list[str]:
  """Paragraphs that say what was done."""
  count = len(images.train)
  return [
    'Networks of one family, two hidden layers of the same width, learn from '
    f'{count} images of {images.train.name} for {steps:,} steps: teachers of '
    f'width {", ".join(map(str, settings.ladder[:-1]))}, and one student of '
    f'width {settings.student}. So few images leave room between teacher and '
    'student, which all of them would not; no other image is learned from.',
    'Every teacher teaches the student directly and through assistants of the '
    'sizes between. Paths are chosen on validation images, by the mean over '
    'seeds. The student is also taught by other schemes, trees are grown on '
    'the largest teacher’s answers, and a network of its size is distilled '
    'defensively and attacked.',
  ]


def summary(settings, found: Figures) -> list[str]:
  """What was found: one paragraph a question."""
  mean = [float(np.mean(x)) for x in found.direct]
  widths, best = found.widths, found.chosen
  text = [
    f'The student alone classifies {np.mean(found.alone):.1f} % correctly, the '
    f'largest teacher {np.mean(found.teachers[0]):.1f} %. Taught by it the '
    f'student reaches {mean[0]:.1f} % ({_points(found.direct[0], found.alone)} '
    'points over alone), '
    + (
      'and validation images choose this teacher.'
      if best == 0
      else f'by the teacher of width {widths[best]}, which validation images '
      f'choose, {mean[best]:.1f} %: '
      f'{_points(found.direct[best], found.direct[0])} points over the largest '
      f'teacher’s, {_verdict(found.direct[best], found.direct[0])}.'
    )
  ]
  chain, searched = found.chains[0], found.searched[0]
  text.append(
    'Assistants, from the largest teacher: through every size between '
    f'{_points(chain, found.direct[0])} points over direct distillation, '
    f'{_verdict(chain, found.direct[0])}; along the searched path '
    f'({along(found, found.searched_paths[0])}) '
    f'{_points(searched, found.direct[0])}, '
    f'{_verdict(searched, found.direct[0])}.'
  )
  text.append(_schemes(found))
  text.append(_trees(found))
  text.append(_attacks(found))
  return text


def notes(settings, images) -> list[str]:
  """What a reader should know."""
  found = [
    f'An image is {100 / len(images.test):.2f} points of the '
    f'{len(images.test):,} test images and '
    f'{100 / len(images.validation):.2f} of the {len(images.validation):,} '
    'validation images, on which paths are chosen.',
    'Choosing the best of many paths by a few validation images favours luck: '
    'the searched path’s test accuracy is free of it, its validation accuracy '
    'is not.',
    'The penalty of soft trees sees one batch at a time, where the paper '
    'carries an average along.',
    'MUNGE exchanges pixels, which the paper does with attributes of tables: '
    'for larger images features would be the better place.',
    'Attacks look at the first 500 test images.',
  ]
  if settings.dataset == 'digits':
    found.append(
      'Digits are scikit-learn’s 1,797 images of 8 x 8 pixels. Training images '
      'that are not learned from are among the test images.'
    )
  return found


def warnings(settings) -> list[str]:
  """What the report must not be read without."""
  found = [distill.NOT_A_DEFENCE]
  if settings.smoke:
    found.append('A smoke run: too little of everything for its figures.')
  elif settings.seeds < 3:
    found.append(f'{settings.seeds} seed(s): too few to tell methods apart.')
  return found


def _points(own, other) -> str:
  mean, error = difference(own, other)
  text = f'{mean:+.2f}'.replace('-', '\N{MINUS SIGN}')
  return text if error is None else f'{text} ± {error:.2f}'


def _verdict(own, other) -> str:
  if not is_clear(own, other):
    return 'not told from chance'
  return 'clearly more' if difference(own, other)[0] > 0 else 'clearly less'


def _schemes(found: Figures) -> str:
  generations = ', '.join(
    f'{_points(runs, found.alone)} ({_verdict(runs, found.alone)})'
    for name, runs in found.others.items()
    if name.startswith('born-again')
  )
  reborn, plain = (
    found.ensembles[f'{x} ensemble'][0] for x in ('generations’', 'labels’')
  )
  soft, munge = (found.others[k] for k in ('soft targets alone', 'MUNGE'))
  return (
    f'Other schemes: born-again generations, one after the other, '
    f'{generations} points over the student alone. Their ensemble gains '
    f'{_points(reborn, found.alone)}, one of as many students on labels '
    f'{_points(plain, found.alone)}, the difference {_verdict(reborn, plain)}. '
    'Soft targets of invented images (MUNGE) '
    f'{_points(munge, soft)} over soft targets of the real ones '
    f'({_verdict(munge, soft)}).'
  )


def _trees(found: Figures) -> str:
  def of(kind, source) -> dict[str, Any]:
    return next(
      t for t in found.trees if t['kind'] == kind and t['source'] == source
    )

  parts = []
  for kind in ('soft tree', 'regression tree'):
    taught, plain = of(kind, 'teacher and MUNGE'), of(kind, 'labels')
    parts.append(
      f'a {kind} reaches {np.mean(taught["accuracy"]):.1f} % '
      f'({_points(taught["accuracy"], plain["accuracy"])} over labels) and '
      f'answers like the teacher on {np.mean(taught["agreement"]):.1f} % of '
      'the images'
    )
  return f'Taught with invented images, {"; ".join(parts)}.'


def _attacks(found: Figures) -> str:
  def mean(name, key) -> float:
    return float(np.mean([run[key] for run in found.attacks[name]]))

  return (
    'Defensive distillation: PGD turns '
    f'{mean("plain", "pgd"):.0f} % of the plain network’s right answers and '
    f'{mean("defended", "pgd"):.0f} % of the defended one’s, whose gradient is '
    f'exactly 0 at {mean("defended", "zero"):.0f} % of the pixels; with its '
    f'logits divided by the temperature {mean("defended", "divided"):.0f} %.'
  )
