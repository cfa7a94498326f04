"""Masked weights whose gradient sees more than what the mask lets pass."""

import jax
import jax.numpy as jnp


@jax.custom_jvp
def select(weights: jax.Array, scores: jax.Array, mask: jax.Array) -> jax.Array:
  """Zeroes what is masked; the scores behind the mask get its gradient.

  The forward pass is `where(mask, weights, 0)`. Backward, weights get the
  gradient where they stay, and scores get, everywhere, that of the mask:
  `dL/dscores = dL/dout * weights` (Bengio et al. 2013, arXiv:1308.3432).

  Args:
    weights: float array.
    scores: float array of that shape, which the mask was made of.
    mask: bool array of that shape.

  Returns:
    Array of the weights' shape and dtype.
  """
  del scores
  return jnp.where(mask, weights, 0)


@select.defjvp
def _select_jvp(primals, tangents):
  weights, scores, mask = primals
  to_weights, to_scores, _ = tangents
  through = (weights.astype(to_scores.dtype) * to_scores).astype(weights.dtype)
  tangent = jnp.where(mask, to_weights, 0) + through
  return select(weights, scores, mask), tangent
