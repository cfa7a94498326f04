"""The common answer of several networks, whatever they are.

A member is any function from inputs to logits: another seed, a generation of
born-again networks, a compressed network, an exported one. The mean is that of
the probabilities, as in Furlanello et al. 2018, arXiv:1805.04770, section 3.3
(generations), and in Bucila et al. 2006 (a teacher of many models); the mean of
logits, which is the geometric mean of probabilities, is there by name.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import chex
import jax
import jax.numpy as jnp

from compress.distill.response import check_temperature
from compress.errors import InputError

Member = Callable[[jax.Array], jax.Array]


def ensemble_probabilities(
  members: Sequence[Member], inputs: jax.Array, *, temperature: float = 1.0
) -> jax.Array:
  """Mean of the members' probabilities, `mean_m softmax(z_m / T)`.

  Args:
    members: each `inputs -> logits [B, C]`, at least one.
    inputs: a batch.
    temperature: T > 0.

  Returns:
    Float32 `[B, C]`; rows sum to 1.

  Raises:
    InputError: no member, T not above 0.
  """
  logits = ensemble_logits(members, inputs, temperature=temperature)
  return jnp.exp(logits)


def ensemble_logits(
  members: Sequence[Member],
  inputs: jax.Array,
  *,
  temperature: float = 1.0,
  mean: Literal['probabilities', 'logits'] = 'probabilities',
) -> jax.Array:
  """Logits of the ensemble, for losses that soften them again.

  Args:
    members: each `inputs -> logits [B, C]`, at least one.
    inputs: a batch.
    temperature: T > 0 of the members; the logits given are at 1.
    mean: 'probabilities', the logarithm of their mean, or 'logits', their own
      mean, `mean_m z_m / T`.

  Returns:
    Float32 `[B, C]`. With 'probabilities', rows of exp() sum to 1.

  Raises:
    InputError: no member, T not above 0, another mean.
  """
  if not members:
    raise InputError('an ensemble has no member; right is one or more')
  check_temperature(temperature)
  if mean not in ('probabilities', 'logits'):
    raise InputError(f'mean is {mean!r}; right is probabilities or logits')
  answers = [member(inputs).astype(jnp.float32) for member in members]
  chex.assert_equal_shape(answers)
  stacked = jnp.stack(answers) / temperature
  if mean == 'logits':
    return stacked.mean(axis=0)
  log_q = jax.nn.log_softmax(stacked)
  return jax.nn.logsumexp(log_q, axis=0) - jnp.log(jnp.float32(len(answers)))
