"""Magnitude, random and gradient-magnitude saliency: the baselines.

A data-free saliency is `(weights, *, grad=None, key=None) -> saliency`, of the
weights' shape, higher where a weight should stay. ShrinkBench (Blalock et al.
2020, arXiv:2003.03033) compares every method with the set in `BASELINES`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from compress.errors import InputError
from compress.prune.allocation import Allocation, uniform
from compress.prune.budget import global_threshold
from compress.prune.paths import path_key

Saliency = Callable[..., jax.Array]


def magnitude_saliency(weights: jax.Array, *, grad=None, key=None) -> jax.Array:
  """`|w|` (Han et al. 2015, arXiv:1506.02626).

  Args:
    weights: float array.
    grad: not used.
    key: not used.

  Returns:
    Array of the weights' shape and dtype.
  """
  del grad, key
  return jnp.abs(weights)


def random_saliency(weights: jax.Array, *, grad=None, key=None) -> jax.Array:
  """Uniform numbers: the control that every method must beat.

  Args:
    weights: float array; only its shape counts.
    grad: not used.
    key: random key; the same key gives the same masks.

  Returns:
    float32 of the weights' shape.

  Raises:
    InputError: no key.
  """
  del grad
  if key is None:
    raise InputError('random saliency needs a key')
  return jax.random.uniform(key, weights.shape)


def gradient_saliency(weights: jax.Array, *, grad=None, key=None) -> jax.Array:
  """`|w g|`, the first-order change of the loss; LayerMagGrad, GlobalMagGrad.

  ShrinkBench takes the gradient on one minibatch.

  Args:
    weights: float array.
    grad: gradient of the loss, of the weights' shape.
    key: not used.

  Returns:
    Array of the weights' shape and dtype.

  Raises:
    InputError: no gradient.
  """
  del key
  if grad is None:
    raise InputError(
      '|w g| needs a gradient: prune at step 1 or later and pass `grads` to '
      '`update`, or give the saliency as a mapping'
    )
  return jnp.abs(weights * grad)


def activation_saliency(weights: jax.Array, norm: jax.Array) -> jax.Array:
  """`|w|` times the norm of what it multiplies; LayerMagAct, GlobalMagAct.

  Args:
    weights: kernel `[..., C_in, C_out]`.
    norm: float [C_in], the norm of each input channel over a minibatch.

  Returns:
    Array of the weights' shape and dtype.

  Raises:
    InputError: the norm has not C_in entries.
  """
  if weights.ndim < 2 or norm.shape != weights.shape[-2:-1]:
    raise InputError(
      f'norms of shape {list(norm.shape)} for a kernel of shape '
      f'{list(weights.shape)}: one for each input channel is needed'
    )
  return jnp.abs(weights) * norm[:, None].astype(weights.dtype)


def saliencies(
  saliency: Saliency,
  leaves: Mapping[str, jax.Array],
  *,
  grads: Mapping[str, Any] | None = None,
  key: jax.Array | None = None,
) -> dict[str, jax.Array]:
  """A saliency of every leaf.

  Args:
    saliency: as above.
    leaves: leaf path to weights.
    grads: leaf path to gradient.
    key: random key; each leaf gets its own, from its path.

  Returns:
    Leaf path to saliency.
  """
  return {
    path: saliency(
      leaf,
      grad=None if grads is None else grads[path],
      key=None if key is None else path_key(key, path),
    )
    for path, leaf in leaves.items()
  }


class Baseline(NamedTuple):
  """A saliency and how it is spread over the leaves.

  Attributes:
    saliency: of the kinds above.
    allocation: `uniform` (layer-wise) or `global_threshold`.
  """

  saliency: Saliency
  allocation: Allocation


BASELINES = {
  'random': Baseline(random_saliency, uniform()),
  'layer magnitude': Baseline(magnitude_saliency, uniform()),
  'global magnitude': Baseline(magnitude_saliency, global_threshold()),
  'layer gradient': Baseline(gradient_saliency, uniform()),
  'global gradient': Baseline(gradient_saliency, global_threshold()),
}
"""ShrinkBench's strategies that need no activations.

LayerMagAct and GlobalMagAct are `activation_saliency`, given to
`prune_weights` as a mapping.
"""
