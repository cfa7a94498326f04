"""Karnin's sensitivity: what a weight's removal costs, read from its training.

Karnin 1990, 'A Simple Procedure for Pruning Back-Propagation Trained Neural
Networks', IEEE Transactions on Neural Networks 1(2). The error that removing a
weight adds, E(0) - E(w_f), is extrapolated from the path of its training, of
which only a shadow sum is kept:

  S = sum_t (dw_t)^2 / rate * w_f / (w_f - w_i)

with w_i the initial and w_f the final weight. With steps dw = - rate * g, a
term is - g dw / rate * w_f / (w_f - w_i): the descent along the weight's own
axis from w_i to w_f, stretched to the whole way from 0 to w_f.

Departures: a weight that ends where it began has no path to extrapolate; its
saliency is 0 here, where the formula divides by zero. With momentum or Adam,
dw is no multiple of the gradient and the sum is only the formula's, not an
estimate of the error. The saliency may be negative, where a weight went
towards zero; the paper's order is the signed one.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from compress.prune.paths import by_path


class SensitivityState(NamedTuple):
  """What is carried through training.

  Attributes:
    initial: the parameters at the start.
    total: sums of squared steps over their rates, the same structure.
  """

  initial: Any
  total: Any


def init_sensitivity(params) -> SensitivityState:
  """The state before the first step."""
  return SensitivityState(params, jax.tree.map(jnp.zeros_like, params))


def add_training_step(
  state: SensitivityState, before, after, *, learning_rate
) -> SensitivityState:
  """Adds one optimizer step to the shadow sums.

  Args:
    state: the state.
    before: the parameters before the step.
    after: the parameters after it.
    learning_rate: the rate of this step, > 0; it may follow a schedule.

  Returns:
    The new state.
  """

  def add(total, old, new):
    return total + jnp.square(new - old) / learning_rate

  total = jax.tree.map(add, state.total, before, after)
  return state._replace(total=total)


def karnin_sensitivity(params, state: SensitivityState) -> dict[str, jax.Array]:
  """Saliency of every weight.

  Args:
    params: the trained parameters.
    state: what `add_training_step` gathered.

  Returns:
    Leaf path to an array of the leaf's shape; higher = keep.
  """

  def saliency(final, initial, total):
    way = final - initial
    moved = way != 0
    stretched = total * final / jnp.where(moved, way, 1)
    return jnp.where(moved, stretched, 0)

  return by_path(jax.tree.map(saliency, params, *state))
