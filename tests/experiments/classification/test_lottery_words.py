"""What the notes conclude from figures."""

from experiments.classification import lottery_words
from experiments.classification.lottery_study import Settings
from experiments.classification.lottery_words import Figures


def figures(method, density, accuracy, early, reached=(10.0, 12.0, 14.0)):
  spread = (-0.002, 0.0, 0.002)
  if method == 'winning_ticket':
    spread = (-0.002, 0.001, 0.001)
  return Figures(
    method=method,
    density=density,
    before=(0.5 if method == 'winning_ticket' else 0.1,) * 3,
    accuracy=tuple(accuracy + x for x in spread),
    early_step=20,
    early=tuple(early + x for x in spread),
    reached=reached,
    level=0.9,
  )


def test_differences_are_paired():
  assert lottery_words.clearly_above((0.9, 0.8, 0.7), (0.8, 0.71, 0.6))
  assert not lottery_words.clearly_above((0.9, 0.8), (0.8, 0.9))
  assert not lottery_words.clearly_above((0.9,), (0.1,))


def test_claims_that_are_borne_out():
  found = lottery_words.notes(
    Settings(),
    [
      figures('dense', 1.0, 0.95, 0.8),
      figures('winning_ticket', 0.2, 0.96, 0.85),
      figures('reinitialized', 0.2, 0.93, 0.7),
    ],
  )
  text = ' '.join(found)
  assert 'As in the paper' in text and 'Weaker' not in text
  assert 'dense 10.0 %, tickets 50.0 %, reinitialized 10.0 %' in text
  assert 'this head start' in text
  assert 'keeps 20.0 %' in text
  assert 'Tickets minus reinitialized' in text and '+3.00' in text
  assert 'dense 80.0 %, tickets 85.0 %, reinitialized 70.0 %' in text
  assert 'dense 12, tickets 12, reinitialized 12' in text


def test_claims_that_are_not():
  found = lottery_words.notes(
    Settings(rewind_step=5),
    [
      figures('dense', 1.0, 0.95, 0.8),
      figures('winning_ticket', 0.2, 0.94, 0.7, (None, 10.0, 10.0)),
      figures('random_masks', 0.2, 0.96, 0.7, (None, None, None)),
    ],
  )
  weaker = [note for note in found if note.startswith('Weaker than the paper')]
  assert len(weaker) == 3
  assert 'at least as good' in weaker[0] and '−1.00' in weaker[0]
  assert 'end above random masks' in weaker[1]
  assert 'learn faster' in weaker[2]
  text = ' '.join(found)
  assert 'No ticket is as good' in text
  assert 'tickets reached by 2 of 3 seeds, random masks never' in text
  assert 'begin at step 5' in text


def test_no_round_where_the_claims_are_made():
  found = lottery_words.notes(
    Settings(),
    [
      figures('dense', 1.0, 0.95, 0.8),
      figures('winning_ticket', 0.8, 0.94, 0.7),
    ],
  )
  assert found[-1].startswith('No round leaves a tenth to a fifth')
