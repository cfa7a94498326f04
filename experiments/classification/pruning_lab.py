"""Compiled programs of the pruning benchmark, shared by all that can share.

Masks are data of one training program, whatever chose them; shrunk networks
whose programs read the same share theirs. Seeds run side by side.
"""

import functools
import hashlib
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from compress import audit, encode, graph, packed, prune
from compress.compressor import Compressor, State
from compress.data import ImageSplits, Scaling
from compress.packed import Dense
from experiments.classification import evaluation, training
from experiments.classification.networks import Classifier
from experiments.classification.pruning_methods import Method
from experiments.classification.pruning_scores import kernels
from experiments.classification.training import Trained, Trainer
from experiments.classification.tuning import Tuning, make_optimizer


class Program(NamedTuple):
  """What runs and trains networks of one shape.

  Attributes:
    key: the same for networks that share it.
    trainer: of fine-tuning.
    predict: of `evaluation.make_predictor`.
  """

  key: str
  trainer: Trainer
  predict: Callable[[Any, np.ndarray], np.ndarray]


class Judged(NamedTuple):
  """A network on the validation and on the test images."""

  validation: audit.Classification
  test: audit.Classification


def ones(params) -> dict[str, jax.Array]:
  """Masks that keep everything."""
  return {p: jnp.ones(k.shape, bool) for p, k in kernels(params).items()}


MASKS = prune.masked(lambda params: {'masks': ones(params)})
"""Masks that stay; which, the state says."""


class Lab:
  """Trains and judges the networks of one study."""

  def __init__(
    self,
    network: Classifier,
    splits: ImageSplits,
    scaling: Scaling,
    *,
    tuning: Tuning,
    scratch: Tuning,
  ):
    """Args: `tuning` of what is trained already, `scratch` of what is not."""
    self.network, self.splits, self.scaling = network, splits, scaling
    self.tuning, self.scratch = tuning, scratch
    self.predict = evaluation.make_predictor(network.apply, scaling=scaling)
    self._programs: dict[str, Program] = {}
    self._moving: dict[Any, Trainer] = {}

  def budget(self, method: Method) -> Tuning:
    """How a method's networks are trained once they are pruned."""
    return self.scratch if method.initial else self.tuning

  def make_trainer(
    self,
    network: Classifier,
    tuning: Tuning,
    *,
    compressor: Compressor | None = None,
    after_update: Callable[..., Any] | None = None,
  ) -> Trainer:
    """A program that trains on the study's images; it is not kept.

    Args:
      network: what is trained: the study's, or a smaller one.
      tuning: how.
      compressor: what the network is seen through, see
        `training.make_trainer`.
      after_update: what follows an update, see there.

    Returns:
      The program.
    """
    return training.make_trainer(
      network,
      self.splits.train,
      scaling=self.scaling,
      tuning=tuning,
      compressor=compressor,
      after_update=after_update,
    )

  @functools.lru_cache(maxsize=8)  # noqa: B019
  def masked(self, tuning: Tuning) -> Trainer:
    """The program of all masks that stay."""
    return self.make_trainer(self.network, tuning, compressor=MASKS)

  def moving(
    self, method: Method, compressor: Compressor, sparsity: float
  ) -> Trainer:
    """The program of masks that move."""
    key = method.name, None if method.one_program else sparsity
    if key not in self._moving:
      self._moving.clear()
      tuning = self.budget(method)
      steps = tuning.steps(len(self.splits.train))
      optimizer = make_optimizer(tuning, steps)
      self._moving[key] = self.make_trainer(
        self.network,
        tuning,
        compressor=compressor,
        after_update=_hold(optimizer) if method.rewired else None,
      )
    return self._moving[key]

  def program(self, smaller: Classifier, variables) -> Program:
    """The program of a shrunk network."""
    key = program_key(smaller, variables)
    if key not in self._programs:
      self._programs[key] = Program(
        key,
        self.make_trainer(smaller, self.tuning),
        evaluation.make_predictor(smaller.apply, scaling=self.scaling),
      )
    return self._programs[key]

  def judge(self, predict, variables) -> Judged:
    """Accuracies of a network."""
    return Judged(
      evaluation.evaluate(predict, variables, self.splits.validation),
      evaluation.evaluate(predict, variables, self.splits.test),
    )


def train_masked(
  trainer: Trainer,
  starts: Sequence[Any],
  states: Sequence[State],
  *,
  together: bool = True,
) -> list[Trained]:
  """Trains a network a seed; seed i draws its images by i.

  Args:
    trainer: the program.
    starts: variables, one a seed.
    states: of its compressor, one a seed.
    together: side by side; otherwise one after the other, where conditions
      that hold for all seeds at once would be computed both ways.

  Returns:
    What came out, one a seed.
  """
  seeds = list(range(len(starts)))
  if together:
    return trainer.run_many(
      list(starts), seeds=seeds, states=list(states), progress=False
    )
  return [
    trainer.run(start, seed=seed, state=state, progress=False)
    for start, state, seed in zip(starts, states, seeds, strict=True)
  ]


def program_key(network: Classifier, variables) -> str:
  """A digest of what a network computes, constants included."""
  image = jax.ShapeDtypeStruct((2, *network.image_shape), jnp.float32)
  text = jax.jit(network.apply).lower(variables, image).as_text()
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def store(path: pathlib.Path, tree, metadata: dict[str, Any]) -> dict[str, int]:
  """Writes a network and says how many bytes it takes.

  Args:
    path: the file; its folder is made.
    tree: a packed tensor at every leaf.
    metadata: for the header.

  Returns:
    The `bytes` entry of a report.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  return {
    'packed': packed.tree_nbytes(tree),
    'on_disk': encode.save(path, tree, metadata),
  }


def read(path: pathlib.Path):
  """The variables in a file."""
  tree = packed.unpack_tree(encode.load(path).tree)
  return jax.tree.map(jnp.asarray, tree)


def dense_tree(variables):
  """The variables as they are, for a file."""
  return jax.tree.map(Dense, variables)


def restore(network: Classifier, path: pathlib.Path):
  """A shrunk network's function and variables from its file.

  Args:
    network: the full network.
    path: the file.

  Returns:
    `(apply, variables)`.
  """
  kept = encode.load(path).metadata['kept']
  return graph.restore_shrunk(network.apply, kept), read(path)


def _hold(optimizer):
  """After an update: what is not there is zero, and so are its moments."""

  def after_update(state, *, grads, key):
    del grads, key
    masks = state.carried['compressor']['masks']
    params = state.params['params']
    opt_state = prune.reset_moments(
      state.opt_state,
      {f'params/{path}': mask for path, mask in masks.items()},
      optimizer=optimizer,
      params=state.params,
    )
    return state._replace(
      params={**state.params, 'params': prune.apply_masks(params, masks)},
      opt_state=opt_state,
    )

  return after_update
