"""Rows of tickets side by side: masks, marks and rewinding."""

import jax
import numpy as np
import pytest

from compress import prune
from experiments.classification import evaluation, lottery_training, networks
from experiments.classification.tuning import Tuning
from tests.experiments.classification import small

MARKS = np.array([1, 3, 5, 12], np.int32)


def dense_network():
  return networks.make_classifier(
    'lenet300', image_shape=small.SHAPE, classes=3
  )


def make(network, rewind_step=0):
  return lottery_training.make_ticket_trainer(
    network,
    small.dataset(),
    validation=small.dataset(40, seed=1),
    scaling=small.scaling(),
    tuning=Tuning(epochs=2, batch=16, learning_rate=0.01, optimizer='sgd'),
    marks=MARKS,
    rewind_step=rewind_step,
  )


def train(trainer, variables, masks, held, rewind_step=0):
  """Two rows, of seeds 0 and 1."""
  states = [
    lottery_training.start_row(
      masks,
      v['params'],
      marks=len(MARKS),
      rewind_step=rewind_step,
      held=held,
    )
    for v in variables
  ]
  return trainer.run_many(
    variables, seeds=[0, 1], states=states, progress=False
  )


def test_marks():
  marks = lottery_training.choose_marks(500, early=20)
  assert (marks[0], marks[-1]) == (1, 500) and 20 in marks
  assert (np.diff(marks) > 0).all()
  assert lottery_training.choose_marks(1, early=1).tolist() == [1]


@pytest.mark.parametrize(
  'level, step', [(0.2, 1), (0.5, 4), (0.6, 8), (0.55, 6), (0.8, None)]
)
def test_steps_to_level(level, step):
  accuracy = [0.2, 0.5, 0.6, 0.4, 0.7]
  found = lottery_training.steps_to_level(
    np.array([1, 4, 8, 9, 10]), accuracy, level=level
  )
  assert found == (step if step is None else pytest.approx(step))


def kernel_masks(params, keep):
  rng = np.random.default_rng(0)
  return {
    f'{layer}/kernel': rng.random(leaves['kernel'].shape) < keep
    for layer, leaves in params.items()
    if 'kernel' in leaves
  }


def test_masks_are_kept_and_the_marks_are_what_the_network_does():
  network = small.network()
  variables = [network.init(jax.random.key(i)) for i in range(2)]
  masks = kernel_masks(variables[0]['params'], 0.7)
  variables = [
    {**v, 'params': prune.apply_masks(v['params'], masks)} for v in variables
  ]
  found = train(make(network), variables, masks, False)
  predict = evaluation.make_predictor(network.apply, scaling=small.scaling())
  for start, row in zip(variables, found, strict=True):
    after = row.variables['params']
    for path, mask in masks.items():
      layer = path.split('/')[0]
      assert not np.any(after[layer]['kernel'][~mask])
      moved = after[layer]['kernel'] != start['params'][layer]['kernel']
      assert np.any(moved[mask])
    judged = evaluation.evaluate(
      predict, row.variables, small.dataset(40, seed=1)
    )
    curve = row.state.carried['curve']
    assert curve.shape == (4, 2)
    np.testing.assert_allclose(
      curve[-1], [judged.top1, judged.cross_entropy], rtol=1e-4
    )
    assert curve[0, 1] > curve[-1, 1]


def test_rewinding_goes_on_from_the_step():
  network = dense_network()
  variables = [network.init(jax.random.key(i)) for i in range(2)]
  masks = kernel_masks(variables[0]['params'], 1)
  trainer = make(network, 3)
  dense = train(trainer, variables, masks, False, 3)
  early = [row.state.carried['early'] for row in dense]
  for start, step, end in zip(variables, early, dense, strict=True):
    for other in (start['params'], end.variables['params']):
      assert np.any(step['fc1']['kernel'] != other['fc1']['kernel'])
  held = train(trainer, [{'params': p} for p in early], masks, True, 3)
  for first, again, step in zip(dense, held, early, strict=True):
    a, b = first.state.carried['curve'], again.state.carried['curve']
    # Unmoved until step 3, where the dense run had the same weights.
    np.testing.assert_allclose(b[:2], np.stack([a[1]] * 2), rtol=1e-5)
    assert np.any(b[0] != a[0])
    assert np.any(b[2] != b[1])
    jax.tree.map(
      np.testing.assert_array_equal, again.state.carried['early'], step
    )


def test_packed_rows_keep_their_masks():
  params = {'fc1': {'kernel': np.ones((6, 4), np.float32)}}
  masks = kernel_masks(params, 0.7)
  state = lottery_training.start_row(
    masks, params, marks=3, rewind_step=2, held=True
  )
  packed = lottery_training.METHOD.pack(params, state)
  np.testing.assert_array_equal(
    packed['fc1']['kernel'].mask, masks['fc1/kernel']
  )
  assert prune.masks_of(state).keys() == masks.keys()
