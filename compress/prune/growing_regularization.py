"""Growing regularisation: a decay that rises where little is lost.

Wang, Qin, Zhang, Fu 2021, 'Neural Pruning via Growing Regularization',
arXiv:2012.09243: the strength of an L2 penalty grows a little at every update,
until the penalised weights are so small that removing them does no harm.

`grow_strengths` has two uses. With an importance it follows the rule of the
group-wise form in public pruning code: the growth of group k is
delta * (I_max - I_k) / (I_max - I_min), all of delta for the least important
and none for the most. Without one, all grow alike, and the weights separate by
themselves: near a minimum, the flatter directions shrink first (the paper's
second algorithm). Base strengths of 1e-5 to 1e-4 and a delta of 1e-5 are that
code's defaults.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from compress.errors import InputError
from compress.prune.paths import pick


def grow_strengths(
  strengths: Mapping[str, jax.Array],
  importance: Mapping[str, jax.Array] | None = None,
  *,
  delta: float,
  ceiling: float | None = None,
) -> dict[str, jax.Array]:
  """One update of the strengths.

  Args:
    strengths: leaf path to [...] strengths, of units or of weights.
    importance: the same paths and shapes, higher = more important; extremes
      are taken within a path. All equal within it: no growth, since then
      nothing tells which should go. None: all grow by `delta`.
    delta: >= 0, the growth of the least important.
    ceiling: strengths stop here, or None.

  Returns:
    The new strengths.

  Raises:
    InputError: importance and strengths have other paths or shapes.
  """
  if importance is None:
    grown = {path: old + delta for path, old in strengths.items()}
  else:
    if {p: v.shape for p, v in strengths.items()} != {
      p: v.shape for p, v in importance.items()
    }:
      raise InputError(
        f'importance covers {sorted(importance)}, strengths '
        f'{sorted(strengths)}; right are the same paths and shapes'
      )
    grown = {
      path: old + delta * _unimportance(importance[path]).astype(old.dtype)
      for path, old in strengths.items()
    }
  if ceiling is None:
    return grown
  return {path: jnp.minimum(value, ceiling) for path, value in grown.items()}


def growing_decay(params, strengths: Mapping[str, jax.Array]) -> jax.Array:
  """The penalty: half the sum of strength * w^2, of gradient strength * w.

  Args:
    params: pytree of arrays.
    strengths: leaf path to strengths, of the leaf's shape or [C_out] for its
      last axis.

  Returns:
    Scalar; no gradient flows to the strengths.

  Raises:
    InputError: a path is no leaf, or strengths fit neither shape.
  """
  leaves = pick(params, strengths)
  terms = []
  for path, leaf in leaves.items():
    strength = jax.lax.stop_gradient(strengths[path])
    if strength.shape not in (leaf.shape, leaf.shape[-1:]):
      raise InputError(
        f'strengths of {path!r} have shape {tuple(strength.shape)}; right is '
        f'{tuple(leaf.shape)} or [{leaf.shape[-1]}]'
      )
    squares = jnp.square(leaf)
    if strength.shape != leaf.shape:
      squares = squares.reshape(-1, leaf.shape[-1]).sum(0)
    terms.append((strength * squares).sum() / 2)
  return sum(terms[1:], start=terms[0]) if terms else jnp.zeros(())


def _unimportance(values):
  """0 for the most important entry, 1 for the least."""
  high, low = values.max(), values.min()
  span = jnp.where(high > low, high - low, 1)
  return jnp.where(high > low, (high - values) / span, 0)
