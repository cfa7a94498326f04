"""The optimizers of quantized students and of teachers that learn along.

The length of the learning rate's cosine is state and no constant, so that one
compiled step serves stages of any length.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from compress import train
from experiments.classification.tuning import Tuning

_INTERVAL_RATE = 0.1


class Pace(NamedTuple):
  """The learning rate's place on its cosine: updates done, and of how many."""

  count: jax.Array
  steps: jax.Array


def pace(options: Tuning) -> optax.GradientTransformation:
  """Scales updates along half a cosine whose length is in the state."""

  def init(params):
    del params
    return Pace(jnp.int32(0), jnp.int32(1))

  def update(updates, state, params=None):
    del params
    done = state.count.astype(jnp.float32) / state.steps.astype(jnp.float32)
    share = jnp.minimum(done, 1.0)
    rate = options.learning_rate * (1 + jnp.cos(jnp.pi * share)) / 2
    scaled = jax.tree.map(lambda u: u * rate.astype(u.dtype), updates)
    return scaled, state._replace(count=state.count + 1)

  return optax.GradientTransformation(init, update)


def set_steps(opt_state: Any, steps: int) -> Any:
  """The same optimizer's state, at the start of a cosine of so many updates."""
  start = Pace(jnp.int32(0), jnp.int32(max(1, steps)))
  return (*opt_state[:-1], start)


def teacher_optimizer(options: Tuning) -> optax.GradientTransformation:
  """Adam, its last state a `Pace`."""
  return optax.chain(
    train.adam(1.0, weight_decay=options.weight_decay), pace(options)
  )


def student_optimizer(
  options: Tuning, *, style: str
) -> optax.GradientTransformation:
  """Adam, its last state a `Pace`, for 'params', 'learned' and 'intervals'.

  Args:
    options: learning rate, weight decay.
    style: of the weights; points are learned without them, the weights'
      intervals slowly, as QKD's notes have it, since they are short.

  Returns:
    The optimizer.
  """
  fixed = style == 'points'
  rate = _INTERVAL_RATE if style == 'intervals' else 1.0
  parts = {
    'params': optax.set_to_zero()
    if fixed
    else train.adam(1.0, weight_decay=options.weight_decay),
    'learned': optax.chain(train.adam(1.0), optax.scale(rate)),
    'intervals': train.adam(1.0),
  }

  def label(params):
    return {
      name: jax.tree.map(lambda _, name=name: name, part)
      for name, part in params.items()
    }

  return optax.chain(optax.multi_transform(parts, label), pace(options))


def pair(
  own: optax.GradientTransformation, teacher: optax.GradientTransformation
) -> optax.GradientTransformation:
  """Two optimizers, of 'own' and of 'teacher'."""

  def init(params):
    return own.init(params['own']), teacher.init(params['teacher'])

  def update(updates, state, params=None):
    first, mine = own.update(updates['own'], state[0], params['own'])
    second, other = teacher.update(
      updates['teacher'], state[1], params['teacher']
    )
    return {'own': first, 'teacher': second}, (mine, other)

  return optax.GradientTransformation(init, update)
