"""What a report of lottery tickets says in words, from its figures.

The claims that the figures are held against are those of Frankle and Carbin
2019, arXiv:1803.03635, in their general form: tickets with a fifth to a tenth
of the weights, or fewer, classify at least as well as the dense network and
learn faster, and neither new initial weights nor other masks do the same.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.classification.paired import RULE, difference, is_clear

TICKET = 'winning_ticket'
# The densities that the paper's claim is about.
_LOW, _HIGH = 0.1, 0.21
_TOLD = 4
# Accuracies this close are the same number of images.
_EQUAL = 1e-9

METHODS: dict[str, dict[str, str]] = {
  'dense': {'summary': 'The whole network.'},
  TICKET: {
    'summary': 'The smallest of the trained weights leave round by round; the '
    'others go back to what they were before training.',
    'paper': 'Frankle, Carbin, 2019, The Lottery Ticket Hypothesis, '
    'arXiv:1803.03635',
    'url': 'https://arxiv.org/abs/1803.03635',
  },
  'reinitialized': {
    'summary': 'Control: the masks of the ticket on new random weights.',
    'paper': 'Frankle, Carbin, 2019, arXiv:1803.03635',
    'url': 'https://arxiv.org/abs/1803.03635',
  },
  'random_masks': {
    'summary': 'Control: the initial weights under masks drawn at random, as '
    'many weights in each layer as the ticket has.',
    'paper': 'Frankle, Carbin, 2019, arXiv:1803.03635',
    'url': 'https://arxiv.org/abs/1803.03635',
  },
  'shuffled_weights': {
    'summary': 'Control: the masks of the ticket, its initial weights dealt '
    'out anew within each layer.',
    'paper': 'Frankle, Dziugaite, Roy, Carbin, 2020, Pruning Neural Networks '
    'at Initialization: Why Are We Missing the Mark?, arXiv:2009.08576',
    'url': 'https://arxiv.org/abs/2009.08576',
  },
}

CONVENTIONS = (
  'Sparsity and the percentages in the names count the weights that may leave, '
  'those of convolutions and dense layers; the compression ratio counts biases '
  'and normalisations, which all stay, too.',
  'A seed decides the initial weights and the order of the images. All '
  'networks of a seed see the same images in the same order, so that '
  f'differences between them are told seed by seed. {RULE}',
)


class Figures(NamedTuple):
  """What a method reached in a round, a value a seed; accuracies 0..1.

  Attributes:
    method: 'dense', 'winning_ticket' or a control.
    density: share of the weights that is left.
    before: accuracy on the test images, not yet trained.
    accuracy: the same after training.
    early_step: an early step.
    early: accuracy on the validation images after it.
    reached: the step at which that accuracy came to `level`; None if never.
    level: of accuracy.
  """

  method: str
  density: float
  before: tuple[float, ...]
  accuracy: tuple[float, ...]
  early_step: int
  early: tuple[float, ...]
  reached: tuple[float | None, ...]
  level: float


def describe(settings, network, splits) -> list[str]:
  """Paragraphs that say what was done.

  Args:
    settings: of the study.
    network: the classifier.
    splits: its data.

  Returns:
    Text of the paragraphs.
  """
  tuning = settings.tuning
  steps = tuning.steps(len(splits.train))
  if settings.scope == 'global':
    share = f'{100 * settings.fraction:g} % of all its surviving weights'
  else:
    share = (
      f'{100 * settings.fraction:g} % of the surviving weights of every layer '
      f'({100 * settings.output_fraction:g} % of the output layer)'
    )
  back = 'the values that they had before training'
  if settings.rewind_step:
    back = f'the values that they had after step {settings.rewind_step}'
  return [
    f'The network {network.name} was trained on {splits.train.name}; then, '
    f'{settings.rounds} times over, {share} were removed, the smallest first, '
    f'the others were put back to {back}, and what was left was trained '
    'again. Each such ticket was trained beside controls with as many weights '
    'in every layer.',
    f'Every training ran for {steps} steps of {tuning.batch} images '
    f'({tuning.optimizer}, learning rate {tuning.learning_rate:g} falling to 0 '
    'along half a cosine). Every network was written to a file, read back, and '
    'judged on images that it was not trained on.',
  ]


def notes(settings, figures: Sequence[Figures]) -> list[str]:
  """What the figures say of the paper's two claims, and where they fall short.

  Args:
    settings: of the study.
    figures: of every method in every round, the dense network's first.

  Returns:
    One text a note.
  """
  dense = figures[0]
  tickets = [f for f in figures if f.method == TICKET]
  rivals: dict[str, list[Figures]] = {}
  for figure in figures[1:]:
    if figure.method != TICKET:
      rivals.setdefault(figure.method, []).append(figure)
  found = []
  if settings.smoke:
    found.append('A smoke run: too little of everything for its figures.')
  found.append(_accuracy(dense, tickets))
  found += [_against(tickets, rival) for rival in rivals.values()]
  found += _speed(dense, tickets, rivals)
  found.append(_before(settings, dense, tickets, rivals))
  if not settings.smoke:
    found += _weaker(dense, tickets, rivals)
  if settings.rewind_step:
    found.append(
      f'Tickets begin at step {settings.rewind_step} with the images and the '
      'learning rate of the dense network; the steps before it, which they '
      'skip, are counted. New random weights begin at step 0.'
    )
  return found


def clearly_above(own: Sequence[float], other: Sequence[float]) -> bool:
  """Whether a difference is clear, see `paired.is_clear`, and above 0."""
  return is_clear(own, other) and difference(own, other)[0] > 0


def _percent(share: float) -> str:
  return f'{100 * share:.1f} %'


def _points(own, other) -> str:
  mean, error = difference(own, other)
  text = f'{100 * mean:+.2f}'.replace('-', '\N{MINUS SIGN}')
  return text if error is None else f'{text} (standard error {100 * error:.2f})'


def _accuracy(dense, tickets) -> str:
  mean = np.mean(dense.accuracy)
  good = [t for t in tickets if np.mean(t.accuracy) >= mean - _EQUAL]
  best = max(tickets, key=lambda t: np.mean(t.accuracy))
  text = (
    f'Accuracy: the dense network classifies {_percent(mean)} of the test '
    f'images correctly, the best ticket {_percent(np.mean(best.accuracy))} '
    f'with {_percent(best.density)} of the weights. '
  )
  if not good:
    return text + 'No ticket is as good as the dense network.'
  last = min(good, key=lambda t: t.density)
  return text + (
    'The sparsest ticket that is as good as the dense network keeps '
    f'{_percent(last.density)}.'
  )


def _against(tickets, rivals) -> str:
  name = rivals[0].method.replace('_', ' ')
  pairs = list(zip(tickets, rivals, strict=True))
  above = [t for t, r in pairs if clearly_above(t.accuracy, r.accuracy)]
  told = '; '.join(
    f'{_percent(t.density)}: {_points(t.accuracy, r.accuracy)}'
    for t, r in _spread(pairs)
  )
  return (
    f'Tickets minus {name}, in points of accuracy at the end, by the weights '
    f'that are left: {told}. In {len(above)} of {len(pairs)} rounds the '
    'difference is clearly above zero.'
  )


def _speed(dense, tickets, rivals) -> list[str]:
  lines = {'dense': [dense] * len(tickets), 'tickets': tickets}
  lines |= {name.replace('_', ' '): found for name, found in rivals.items()}
  places = _spread(range(len(tickets)))
  early, steps = [], []
  for i in places:
    early.append(
      f'{_percent(tickets[i].density)} of the weights: '
      + ', '.join(
        f'{name} {_percent(np.mean(found[i].early))}'
        for name, found in lines.items()
      )
    )
    steps.append(
      f'{_percent(tickets[i].density)} of the weights: '
      + ', '.join(f'{name} {_steps(found[i])}' for name, found in lines.items())
    )
  return [
    f'Speed of learning, accuracy on the validation images after '
    f'{dense.early_step} steps. ' + '; '.join(early) + '.',
    f'Speed of learning, steps to {_percent(dense.level)} of the validation '
    'images, mean over seeds. ' + '; '.join(steps) + '.',
  ]


def _before(settings, dense, tickets, rivals) -> str:
  lines = {'dense': [dense] * len(tickets), 'tickets': tickets}
  lines |= {name.replace('_', ' '): found for name, found in rivals.items()}
  told = '; '.join(
    f'{_percent(tickets[i].density)} of the weights: '
    + ', '.join(
      f'{name} {_percent(np.mean(found[i].before))}'
      for name, found in lines.items()
    )
    for i in _spread(range(len(tickets)))
  )
  when = 'Where they begin' if settings.rewind_step else 'Before any training'
  text = f'{when}, accuracy on the test images. {told}.'
  ahead = [t for t in tickets if np.mean(t.before) > 2 * np.mean(dense.before)]
  if ahead and not settings.rewind_step:
    text += (
      ' The masks alone hold some of what was learned (Zhou, Lan, Liu, '
      'Yosinski, 2019, arXiv:1905.01067): part of the tickets’ speed is this '
      'head start.'
    )
  return text


def _steps(figure: Figures) -> str:
  reached = [step for step in figure.reached if step is not None]
  if not reached:
    return 'never'
  if len(reached) < len(figure.reached):
    return f'reached by {len(reached)} of {len(figure.reached)} seeds'
  return f'{np.mean(reached):.0f}'


def _weaker(dense, tickets, rivals) -> list[str]:
  """Where the claims of the paper are borne out, and where not."""
  places = [i for i, t in enumerate(tickets) if _LOW <= t.density <= _HIGH]
  if not places:
    return [
      'No round leaves a tenth to a fifth of the weights, which is where '
      'the paper makes its claim.'
    ]
  held, found = [], []

  def claim(text, fails, told):
    if fails:
      found.append(f'{text}; here {told} {", ".join(fails)}')
    else:
      held.append(text)

  claim(
    'tickets are at least as good as the dense network',
    [
      f'{_percent(t.density)} ({_points(t.accuracy, dense.accuracy)} points)'
      for t in (tickets[i] for i in places)
      if np.mean(t.accuracy) < np.mean(dense.accuracy) - _EQUAL
    ],
    'the mean is lower at',
  )
  for name, rival in rivals.items():
    claim(
      f'tickets end above {name.replace("_", " ")}',
      [
        _percent(tickets[i].density)
        for i in places
        if not clearly_above(tickets[i].accuracy, rival[i].accuracy)
      ],
      'the difference is not clear at',
    )
  claim(
    'tickets learn faster than the dense network',
    [
      _percent(tickets[i].density)
      for i in places
      if not clearly_above(tickets[i].early, dense.early)
    ],
    f'they are not clearly ahead after {dense.early_step} steps at',
  )
  notes = [f'Weaker than the paper, where {text}.' for text in found]
  if held:
    notes.append(
      'As in the paper, between a tenth and a fifth of the weights: '
      + '; '.join(held)
      + '.'
    )
  return notes


def _spread(items):
  """At most four of them, the last among them."""
  items = list(items)
  count = min(_TOLD, len(items))
  picked = np.linspace(0, len(items) - 1, count + 1).round().astype(int)[1:]
  return [items[i] for i in dict.fromkeys(picked.tolist())]
