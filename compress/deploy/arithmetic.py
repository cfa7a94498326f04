"""Arithmetic that rounds as a runtime does, whatever a compiler prefers."""

import jax
import jax.numpy as jnp
import numpy as np

_EXACT = 2**24
"""Integers below this are exact in float32, and so are their sums."""


def quotient(left: jax.Array, right: jax.Array) -> jax.Array:
  """`left / right`, rounded once.

  XLA multiplies by the reciprocal where it sees a divisor broadcast, and makes
  one division of two.
  """
  left, right = jnp.broadcast_arrays(left, right)
  left, right = jax.lax.optimization_barrier((left, right))
  return left / right


def product(left: jax.Array, right: jax.Array) -> jax.Array:
  """`left right`, rounded before anything is added to it.

  Compilers contract a product and a sum to one operation of one rounding, over
  barriers too; not over a maximum that may change an infinity.
  """
  out = left * like(right, left)
  return jnp.maximum(out, np.finfo(np.float32).min)


def like(value: jax.Array, x: jax.Array) -> jax.Array:
  """A constant of one example, or of channels, with as many axes as `x`."""
  return value.reshape((1,) * (x.ndim - value.ndim) + value.shape)


def code(value: jax.Array, q) -> jax.Array:
  """Values in units of a grid's step, as codes; NaN is the lowest."""
  shifted = jnp.round(value) + np.float32(q.zero)
  return jnp.clip(shifted, q.low, q.high).astype(jnp.uint8)


def code_bits(codes: np.ndarray) -> int:
  """The fewest bits, at least 2, that two's complement codes fit in."""
  if not codes.size:
    return 2
  low, high = int(codes.min()), int(codes.max())
  return max(2, 1 + max(high, -low - 1, 0).bit_length())


def exact_parts(codes: np.ndarray, axis: int, largest: int):
  """Cuts the input channels so that no sum of a part can reach 2^24."""
  channels = codes.shape[axis]
  others = tuple(i for i in range(codes.ndim - 1) if i != axis)
  weight = np.abs(codes.astype(np.int64)).sum(axis=others)
  bounds = np.cumsum(weight * largest, axis=0)
  starts, begun = [0], np.zeros(codes.shape[-1], np.int64)
  if bounds[-1].max() >= _EXACT:
    for i in range(1, channels):
      if (bounds[i] - begun).max() >= _EXACT:
        starts.append(i)
        begun = bounds[i - 1]
  return list(zip(starts, [*starts[1:], channels], strict=True))


PAIRS = {
  'add': jnp.add,
  'sub': jnp.subtract,
  'mul': product,
  'div': quotient,
  'max': jnp.maximum,
  'min': jnp.minimum,
}
UNARY = {
  'exp': jnp.exp,
  'log': jnp.log,
  'logistic': jax.nn.sigmoid,
  'neg': jnp.negative,
  'sqrt': jnp.sqrt,
  'tanh': jnp.tanh,
  'abs': jnp.abs,
  'erf': jax.lax.erf,
  'square': jnp.square,
}
