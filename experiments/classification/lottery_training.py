"""How tickets are trained: one compiled program, masks and marks as state.

A row of the program is one run: a ticket or a control of one seed. Its masks
are arrays of its state, so that rounds, controls and seeds share a compilation.
While it trains, each row notes at given steps, the marks, how well it does on
the validation images: the speed of learning, which Frankle and Carbin 2019
(arXiv:1803.03635) measure beside the accuracy at the end.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compress import distill, prune
from compress.compressor import State
from compress.data import ImageDataset, Scaling
from experiments.classification import training
from experiments.classification.networks import Classifier
from experiments.classification.training import Trainer
from experiments.classification.tuning import Tuning


def _no_default(params):
  raise TypeError('rows are started with states of start_row')


MOST_IMAGES = 1000
METHOD = prune.masked(_no_default)
_MARKS = 48


def choose_marks(steps: int, *, early: int) -> np.ndarray:
  """The steps after which a run is looked at, closest together at the start.

  Args:
    steps: updates of a run, at least 1.
    early: a step that is to be among them.

  Returns:
    int32 [S], rising, from 1 to `steps`.
  """
  spread = np.rint(np.geomspace(1, steps, _MARKS)).astype(np.int32)
  return np.unique(np.append(spread, np.int32(early)))


def start_row(
  masks: Mapping[str, jax.Array],
  params: Any,
  *,
  marks: int,
  rewind_step: int,
  held: bool,
) -> State:
  """The state of a row before its first step.

  Args:
    masks: leaf path to bool, what stays.
    params: the parameters that the row starts with.
    marks: number of marks.
    rewind_step: the step that weights are wound back to.
    held: `params` are those of that step, and stay so until it is over.

  Returns:
    The state; of one structure for all rows of a study.
  """
  carried = {
    'masks': {path: jnp.asarray(mask) for path, mask in masks.items()},
    'curve': jnp.zeros((marks, 2), jnp.float32),
  }
  if rewind_step:
    carried |= {'early': params, 'held': jnp.asarray(held)}
  return State((), carried)


def make_ticket_trainer(
  network: Classifier,
  dataset: ImageDataset,
  *,
  validation: ImageDataset,
  scaling: Scaling,
  tuning: Tuning,
  marks: np.ndarray,
  rewind_step: int = 0,
) -> Trainer:
  """Prepares the training of tickets and of their controls.

  A held row keeps its parameters through the first `rewind_step` steps, so that
  it continues from there with the images and the learning rate that the dense
  network had; moments and BatchNorm's statistics gather meanwhile. A row that
  is not held notes its parameters at that step as 'early' in its state.

  Args:
    network: what is trained.
    dataset: the training images.
    validation: images for the marks; at most `MOST_IMAGES` are used.
    scaling: of pixels.
    tuning: options.
    marks: int [S] steps, rising.
    rewind_step: 0 or a step of the run.

  Returns:
    The trainer, for rows with states of `start_row`. After a run 'curve' of a
    row's carried state is float32 [S, 2]: accuracy (0..1) and cross-entropy
    (nats) on the validation images after each mark.
  """
  images = scaling(validation.images[:MOST_IMAGES])
  labels = validation.labels[:MOST_IMAGES]
  marks = jnp.asarray(marks)

  def look(variables):
    logits = network.apply(variables, images)
    right = logits.argmax(axis=-1).astype(labels.dtype) == labels
    return jnp.stack([right.mean(), distill.cross_entropy(logits, labels)])

  def follow(state, *, grads, key):
    del grads, key
    row, params = state.carried['compressor'], state.params['params']
    done = state.step + 1
    if rewind_step:
      begins = done <= rewind_step
      params, early = (
        jax.tree.map(lambda a, b, when=when: jnp.where(when, a, b), *pair)
        for when, pair in (
          (begins & row['held'], (row['early'], params)),
          (begins & ~row['held'], (params, row['early'])),
        )
      )
      row = {**row, 'early': early}
    variables = {
      'params': prune.apply_masks(params, row['masks']),
      **state.carried['collections'],
    }
    place = jnp.minimum(jnp.searchsorted(marks, done), marks.size - 1)
    # The step is that of all rows, so that unmarked steps really skip this.
    curve = jax.lax.cond(
      marks[place] == done,
      lambda curve: curve.at[place].set(look(variables)),
      lambda curve: curve,
      row['curve'],
    )
    return state._replace(
      params={**state.params, 'params': params},
      carried={**state.carried, 'compressor': {**row, 'curve': curve}},
    )

  return training.make_trainer(
    network,
    dataset,
    scaling=scaling,
    tuning=tuning,
    compressor=METHOD,
    after_update=follow,
  )


def steps_to_level(
  marks: np.ndarray, accuracy: np.ndarray, *, level: float
) -> float | None:
  """The step at which an accuracy is first reached.

  Args:
    marks: int [S], rising.
    accuracy: [S], after each mark.
    level: of the same unit.

  Returns:
    The step, between the marks on a straight line; None if it is not reached.
  """
  reached = np.flatnonzero(np.asarray(accuracy) >= level)
  if not reached.size:
    return None
  i = int(reached[0])
  if i == 0:
    return float(marks[0])
  low, high = float(accuracy[i - 1]), float(accuracy[i])
  share = (level - low) / (high - low)
  return float(marks[i - 1] + share * (marks[i] - marks[i - 1]))
