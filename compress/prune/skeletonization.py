"""Skeletonization: the relevance of a unit, read from a gate on it.

Mozer, Smolensky 1989, 'Skeletonization: A Technique for Trimming the Fat from
a Network via Relevance Assessment', NIPS 1. Every unit's output is multiplied
by an attention gate alpha = 1. Removing the unit adds E(alpha = 0) - E(alpha =
1) to the error, to first order minus the derivative at 1. Train until the
error is small, trim the least relevant unit, retrain, repeat.

The derivative is taken of the linear error sum |t - o|: that of the squared
error vanishes with the error itself, and would call every unit of a trained
net irrelevant. It equals - sum o dE/do over the samples, the first-order
Taylor criterion on unit outputs.

Departures: the error is a mean over patterns, not a sum, so that a relevance
does not depend on the size of the batch.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from compress.prune.units import gate_units


def linear_error(outputs: jax.Array, targets: jax.Array) -> jax.Array:
  """Absolute difference, summed over outputs, mean over patterns.

  Args:
    outputs: [N, ...].
    targets: the same shape.

  Returns:
    Scalar.
  """
  return jnp.abs(targets - outputs).sum() / outputs.shape[0]


def skeleton_relevance(
  apply: Callable,
  variables,
  gates: Mapping[str, jax.Array],
  batch,
  *,
  places: Mapping[str, str],
  error: Callable[[jax.Array, jax.Array], jax.Array] = linear_error,
) -> dict[str, jax.Array]:
  """Relevance - dE/d(gate) of every unit.

  Args:
    apply: pure function `apply(variables, inputs) -> outputs`.
    variables: the model's.
    gates: leaf path of the producing kernel to [C_out], where the derivative
      is taken: `units.init_gates`' ones; 0 at units already trimmed, whose
      relevance then means nothing.
    batch: `(inputs, targets)`.
    places: the same keys to where the units are (`compress.prune.units`),
      after the non-linearity.
    error: `(outputs, targets) -> scalar`.

  Returns:
    Leaf path to [C_out]; higher = keep, negative where removal helps.

  Raises:
    InputError: a place is not in the model.
  """
  inputs, targets = batch
  gated = gate_units(apply, places)

  def loss(gates):
    return error(gated(variables, gates, inputs), targets)

  return jax.tree.map(jnp.negative, jax.grad(loss)(dict(gates)))


def average_relevance(
  average: Mapping[str, jax.Array],
  relevance: Mapping[str, jax.Array],
  *,
  decay: float = 0.8,
) -> dict[str, jax.Array]:
  """Running average over batches, decay * average + (1 - decay) * relevance.

  Start from the first batch's relevance.

  Args:
    average: leaf path to [C_out].
    relevance: the same of a new batch.
    decay: in [0, 1).

  Returns:
    The new average.
  """

  def mix(old, new):
    return decay * old + (1 - decay) * new

  return jax.tree.map(mix, dict(average), dict(relevance))
