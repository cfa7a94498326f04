"""Soft weight sharing: weights cluster around a few learned values.

Nowlan, Hinton 1992, 'Simplifying Neural Networks by Soft Weight-Sharing',
Neural Computation 4(4): the negative log likelihood of the weights under a
mixture of Gaussians, - sum_i log sum_j pi_j N(w_i; mu_j, sigma_j^2), whose
proportions, means and variances are learned along with the weights. A
component held at zero collects the weights that may go.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from compress.errors import InputError


class Mixture(NamedTuple):
  """J Gaussians, in coordinates free of constraints; learn it as parameters.

  Attributes:
    logits: [J], log of the proportions up to a constant.
    means: [J].
    log_deviations: [J], log of the standard deviations.
  """

  logits: jax.Array
  means: jax.Array
  log_deviations: jax.Array


def init_mixture(tree, *, components: int) -> Mixture:
  """Equal Gaussians, evenly spread over the range of the weights.

  Departs from the paper, whose starting values are not repeated here: the
  deviations are one spacing of the means, and with an odd number of
  components the middle one stands at zero, the range being symmetric.

  Args:
    tree: pytree of arrays, the weights; their largest magnitude is the range.
    components: J >= 2.

  Returns:
    The mixture, float32.

  Raises:
    InputError: fewer than two components, or no weight differs from zero.
  """
  if components < 2:
    raise InputError(f'{components} components; right is 2 or more')
  leaves = jax.tree.leaves(tree)
  reach = max((float(jnp.abs(leaf).max()) for leaf in leaves), default=0.0)
  if reach == 0:
    raise InputError('no weight differs from zero; right are trained weights')
  means = np.linspace(-reach, reach, components, dtype=np.float32)
  spacing = 2 * reach / (components - 1)
  return Mixture(
    logits=jnp.zeros(components, jnp.float32),
    means=jnp.asarray(means),
    log_deviations=jnp.full(components, np.log(spacing), jnp.float32),
  )


def soft_weight_sharing(tree, mixture: Mixture, *, strength: float = 1.0):
  """The penalty, strength * -sum log p(w).

  It has no lower bound where a component shrinks onto a single value; give
  the deviations a smaller learning rate or a prior, as the paper does.

  Args:
    tree: pytree of arrays, the weights; of the mixture's dtype.
    mixture: the mixture.
    strength: >= 0.

  Returns:
    Scalar, differentiable in both.
  """
  total = jnp.zeros((), mixture.means.dtype)
  for leaf in jax.tree.leaves(tree):
    joint = _log_joint(leaf.reshape(-1, 1), mixture)
    total -= jax.nn.logsumexp(joint, axis=1).sum()
  return strength * total


def responsibilities(weights: jax.Array, mixture: Mixture) -> jax.Array:
  """Probability that each weight belongs to each component.

  Args:
    weights: [...].
    mixture: the mixture, J components.

  Returns:
    [..., J], summing to 1 over J.
  """
  joint = _log_joint(weights.reshape(-1, 1), mixture)
  return jax.nn.softmax(joint, axis=1).reshape(*weights.shape, -1)


def _log_joint(column, mixture):
  """[n, J] log of pi_j N(w; mu_j, sigma_j^2), of [n, 1] weights."""
  offset = (column - mixture.means[None]) * jnp.exp(-mixture.log_deviations)[
    None
  ]
  constant = (
    jax.nn.log_softmax(mixture.logits)
    - mixture.log_deviations
    - 0.5 * np.log(2 * np.pi)
  )
  return constant[None] - 0.5 * jnp.square(offset)
