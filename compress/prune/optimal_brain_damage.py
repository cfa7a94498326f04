"""Optimal Brain Damage: what a weight's removal adds to the error.

LeCun, Denker, Solla 1990, 'Optimal Brain Damage', NIPS 2. At a minimum the
gradient vanishes; with the Hessian's off-diagonal ignored, setting weight k to
zero adds s_k = h_kk w_k^2 / 2 to the error. Train, delete the lowest, retrain,
repeat.

The paper computes h_kk by a pass backward through the layers,
d2E/dw_ij^2 = d2E/da_i^2 x_j^2 and
d2E/da_i^2 = f'(a_i)^2 sum_l w_li^2 d2E/da_l^2 + f''(a_i) dE/dx_i, which needs
a layered net and drops the terms between units of a layer; its
Levenberg-Marquardt form drops f'' as well. Here h comes from
`compress.prune.curvature`, for any differentiable model: `hessian_diagonal`
(exact, small nets), `hutchinson_diagonal` (estimate of it),
`gauss_newton_diagonal` (no f'', h >= 0, between units exact) or
`empirical_fisher`. With one hidden layer and one output, the exact diagonal is
the paper's recursion and the Gauss-Newton diagonal its Levenberg-Marquardt
form.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from compress.errors import InputError
from compress.prune.paths import pick


def brain_damage_saliency(
  params, diagonal: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
  """Saliency h w^2 / 2 of every weight; LeCun et al. 1990, equation 5.

  Args:
    params: pytree of arrays.
    diagonal: leaf path to second derivatives, of the leaf's shape. A negative
      one (away from a minimum) gives a negative saliency.

  Returns:
    Leaf path to an array of the leaf's shape, for the paths of `diagonal`;
    higher = keep.

  Raises:
    InputError: a path is no leaf, or of another shape.
  """
  leaves = pick(params, diagonal)
  for path, leaf in leaves.items():
    if leaf.shape != diagonal[path].shape:
      raise InputError(
        f'diagonal of {path!r} has shape {tuple(diagonal[path].shape)}; right '
        f'is {tuple(leaf.shape)}'
      )
  return {p: diagonal[p] * jnp.square(w) / 2 for p, w in leaves.items()}
