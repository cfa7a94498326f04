"""Several runs of one network as one program: everything but the step mapped.

The parameters, the optimizer's state and what is carried have a leading axis
[R], one row a run; so has every array of a batch. The counter of steps is
shared. A run sees neither the others' gradients nor their norms.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import optax

from compress import train

Tree = Any


def stack(trees: Sequence[Tree]) -> Tree:
  """R trees of arrays as one whose arrays are [R, ...], on the host."""
  return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def unstack(tree: Tree, count: int) -> list[Tree]:
  """The rows of a tree of arrays [R, ...]."""
  return [jax.tree.map(lambda leaf, i=i: leaf[i], tree) for i in range(count)]


def init_state(
  params: Tree,
  optimizer: optax.GradientTransformation,
  carried: Tree,
  key: jax.Array,
) -> train.TrainState:
  """The state before the first step, of stacked `params` and `carried`."""
  return train.init_state(params, _mapped(optimizer), carried, key)


def make_step(
  loss_fn: Callable[..., Any],
  optimizer: optax.GradientTransformation,
  *,
  after_update: Callable[..., train.TrainState],
) -> Callable[..., Any]:
  """A step of R runs from the parts of one; see `compress.train.make_step`.

  Args:
    loss_fn: of one run, with scalar metrics.
    optimizer: of one run.
    after_update: of one run.

  Returns:
    The step. Its metrics hold [R] arrays, the losses as `losses`; `loss` is
    their sum.
  """

  def losses(params, carried, batch, key, *, axis_name=None):
    del axis_name

    def one(params, carried, batch):
      return loss_fn(params, carried, batch, key)

    found, (carried, metrics) = jax.vmap(one)(params, carried, batch)
    return found.sum(), (carried, {**metrics, 'losses': found})

  def follow(state, *, grads, key):
    def one(params, opt_state, carried, grads):
      new = state._replace(params=params, opt_state=opt_state, carried=carried)
      new = after_update(new, grads=grads, key=key)
      return new.params, new.opt_state, new.carried

    params, opt_state, carried = jax.vmap(one)(
      state.params, state.opt_state, state.carried, grads
    )
    return state._replace(params=params, opt_state=opt_state, carried=carried)

  return train.make_step(losses, _mapped(optimizer), after_update=follow)


def split_history(
  history: Sequence[dict[str, Any]], count: int
) -> list[list[dict[str, Any]]]:
  """The records of every single run, `loss` its own."""
  found = []
  for i in range(count):
    records = []
    for record in history:
      mine = {k: v[i] for k, v in record.items() if isinstance(v, list)}
      mine['loss'] = mine.pop('losses')
      records.append({'step': record['step'], **mine})
    found.append(records)
  return found


def _mapped(optimizer):
  """The optimizer for every row alone: norms and counts are a row's own."""

  def update(updates, state, params=None):
    return jax.vmap(optimizer.update)(updates, state, params)

  return optax.GradientTransformation(jax.vmap(optimizer.init), update)
