"""Whole numbers beyond 32 bits where JAX has only 32: budgets in MACs.

A number is uint32 [4], its digits in base 2^16, lowest first.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

DIGITS = 4
LOW = 0xFFFF


def digits(value: int) -> np.ndarray:
  """The digits of a number in [0, 2^64).

  Args:
    value: a Python integer.

  Returns:
    uint32 [4].

  Raises:
    ValueError: the value does not fit.
  """
  if not 0 <= value < 1 << 64:
    raise ValueError(f'{value} does not fit 64 bits')
  return np.array([value >> 16 * i & LOW for i in range(DIGITS)], np.uint32)


def small(value: jax.Array) -> jax.Array:
  """A number below 2^31 as int32 []."""
  value = jnp.asarray(value)
  return (value[0] | value[1] << 16).astype(jnp.int32)


def dot(counts: jax.Array, costs: Sequence[int]) -> jax.Array:
  """`sum counts * costs`, exact below 2^64.

  Args:
    counts: int [L], not negative; at most 2^14 of them.
    costs: L Python integers in [0, 2^32).

  Returns:
    uint32 [4].
  """
  counts = counts.astype(jnp.uint32)
  low, high = counts & LOW, counts >> 16
  cost_low = jnp.array([cost & LOW for cost in costs], jnp.uint32)
  cost_high = jnp.array([cost >> 16 for cost in costs], jnp.uint32)
  total = [jnp.uint32(0)] * (DIGITS + 1)
  for place, product in (
    (0, low * cost_low),
    (1, low * cost_high),
    (1, high * cost_low),
    (2, high * cost_high),
  ):
    total[place] += (product & LOW).sum(dtype=jnp.uint32)
    total[place + 1] += (product >> 16).sum(dtype=jnp.uint32)
  for place in range(DIGITS):
    total[place + 1] += total[place] >> 16
    total[place] &= LOW
  return jnp.stack(total[:DIGITS])


def at_most(a: jax.Array, b: jax.Array) -> jax.Array:
  """Whether `a <= b`, bool []."""
  result = jnp.bool_(True)
  for x, y in zip(a, b, strict=True):
    result = (x < y) | ((x == y) & result)
  return result
