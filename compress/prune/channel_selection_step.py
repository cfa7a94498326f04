"""Training decision units: the loss, the schedule and the alternating step.

Of dynamic layer-wise channel selection (Wang et al. 2020, doi
10.1609/aaai.v34i04.6098); see `channel_selection`, which fixes notation.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from compress.errors import InputError
from compress.prune.channel_selection import Decision, project_units


class SelectionState(NamedTuple):
  """Weights, units and the state of their optimizers."""

  params: Any
  units: Any
  params_optimizer: Any
  units_optimizer: Any


def selection_penalty(
  decisions: Mapping[str, Decision], *, density: float, weight: float = 2.2
) -> jax.Array:
  """The term gamma (mean |g| - r)^2 of the loss.

  Args:
    decisions: of all units.
    density: r, the share of channels to keep, in (0, 1].
    weight: gamma.

  Returns:
    Scalar.

  Raises:
    InputError: density out of range.
  """
  if not 0 < density <= 1:
    raise InputError(f'density={density} is not in (0, 1]')
  gates = [jnp.abs(one.gate).ravel() for one in decisions.values()]
  return weight * (jnp.mean(jnp.concatenate(gates)) - density) ** 2


def selection_temperature(
  step: jax.typing.ArrayLike,
  *,
  steps: int,
  start: float = 5.0,
  end: float = 0.5,
) -> jax.Array:
  """The linear schedule of tau: `start` at step 0, `end` from `steps` on."""
  done = jnp.clip(jnp.asarray(step, jnp.float32) / steps, 0, 1)
  return start + done * (end - start)


def make_selection_step(
  loss_fn: Callable[..., tuple[jax.Array, Mapping[str, Decision]]],
  *,
  params_optimizer: optax.GradientTransformation,
  units_optimizer: optax.GradientTransformation,
  density: float,
  weight: float = 2.2,
) -> tuple[Callable[..., Any], Callable[..., Any]]:
  """The alternating training step: units by L, then weights by the task.

  Args:
    loss_fn: `loss_fn(params, units, batch, *, key, temperature)` to the
      task's loss and the decisions.
    params_optimizer: of the weights.
    units_optimizer: of heads and gates.
    density: r.
    weight: gamma.

  Returns:
    `init(params, units) -> SelectionState` and `step(state, batch, *, key,
    temperature) -> (state, metrics)`, pure; metrics are `loss`, `penalty` and
    `density` (mean |g|).
  """

  def init(params, units):
    return SelectionState(
      params,
      units,
      params_optimizer.init(params),
      units_optimizer.init(units),
    )

  def step(state, batch, *, key, temperature):
    units_key, params_key = jax.random.split(key)

    def objective(units):
      loss, decisions = loss_fn(
        state.params, units, batch, key=units_key, temperature=temperature
      )
      penalty = selection_penalty(decisions, density=density, weight=weight)
      gates = [jnp.abs(one.gate).ravel() for one in decisions.values()]
      metrics = {
        'loss': loss,
        'penalty': penalty,
        'density': jnp.mean(jnp.concatenate(gates)),
      }
      return loss + penalty, metrics

    slope, metrics = jax.grad(objective, has_aux=True)(state.units)
    change, units_state = units_optimizer.update(
      slope, state.units_optimizer, state.units
    )
    units = project_units(optax.apply_updates(state.units, change))

    def task(params):
      options = {'key': params_key, 'temperature': temperature}
      return loss_fn(params, units, batch, **options)[0]

    change, params_state = params_optimizer.update(
      jax.grad(task)(state.params), state.params_optimizer, state.params
    )
    params = optax.apply_updates(state.params, change)
    return SelectionState(params, units, params_state, units_state), metrics

  return init, step
