"""Penalties that drive weights, units or groups to zero while training.

Reed 1993, 'Pruning Algorithms - A Survey', IEEE Transactions on Neural
Networks 4(5), collects the classics; group lasso and network slimming are
their heirs. Every penalty is a pure function of a tree of arrays and returns
a scalar to add to the loss. It covers all that the tree holds, so a caller
gives it the leaves that are meant: `pick(params, plan.specs)`.

A penalty's (sub)gradient makes weights small; only a proximal step, taken
after the optimizer's, makes them exactly zero. A kernel in front of a
BatchNorm can shrink without changing the function, so that a penalty on it
means little: penalise the norm's scale.

The survey's and the papers' own constants are not repeated here: strengths are
arguments.
"""

import math
import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from compress.errors import InputError
from compress.prune.paths import by_path, pick


def weight_decay(tree, *, strength: float) -> jax.Array:
  """Sum of squares, strength * sum w^2.

  One step of gradient descent at rate r multiplies a weight by
  1 - 2 r strength; `optax.add_decayed_weights` and most frameworks leave out
  the 2.

  Args:
    tree: pytree of arrays.
    strength: >= 0.

  Returns:
    Scalar.
  """
  return strength * _total(tree, jnp.square)


def l1(tree, *, strength: float) -> jax.Array:
  """Sum of absolute values, strength * sum |w|.

  The subgradient at 0 is 0, where that of `jnp.abs` is 1: what is zero stays.

  Args:
    tree: pytree of arrays.
    strength: >= 0.

  Returns:
    Scalar.
  """
  return strength * _total(
    tree, lambda w: w * jax.lax.stop_gradient(jnp.sign(w))
  )


def l1_prox(tree, *, threshold: float):
  """Soft threshold, the proximal step of `l1`.

  Args:
    tree: pytree of arrays.
    threshold: learning rate times strength, >= 0.

  Returns:
    sign(w) max(|w| - threshold, 0), the same structure.
  """

  def shrink(w):
    return jnp.sign(w) * jnp.maximum(jnp.abs(w) - threshold, 0)

  return jax.tree.map(shrink, tree)


def weight_elimination(tree, *, strength: float, scale: float) -> jax.Array:
  """Weigend's penalty, which counts large weights and decays small ones.

  Weigend, Rumelhart, Huberman 1990, 'Generalization by Weight-Elimination
  with Application to Forecasting':
  strength * sum (w/scale)^2 / (1 + (w/scale)^2). Each weight costs half of
  `strength` at |w| = scale, and almost all of it far above.

  Args:
    tree: pytree of arrays.
    strength: >= 0; the paper adapts it while training, which is the caller's.
    scale: > 0, the size at which a weight begins to count.

  Returns:
    Scalar.
  """
  return strength * _total(tree, lambda w: _saturating(w / scale))


def unit_energy(outputs, *, strength: float, power: int) -> jax.Array:
  """Chauvin's energy spent by units, over patterns.

  Chauvin 1988, 'A Back-Propagation Algorithm with Optimal Use of Hidden
  Units': strength * sum e(o^2) over patterns and units, with
  e'(x) = 1 / (1 + x)^power and e(0) = 0. Power 0 treats all units alike;
  with higher powers, units of little energy are pushed hardest.

  Args:
    outputs: pytree of unit outputs, any shapes; `tap_units` hands them out.
    strength: >= 0.
    power: 0, 1 or 2.

  Returns:
    Scalar, a sum over patterns, not a mean.

  Raises:
    InputError: another power.
  """
  energies = (lambda x: x, jnp.log1p, lambda x: x / (1 + x))
  if power not in (0, 1, 2):
    raise InputError(f'power of the unit energy is {power}; right is 0, 1 or 2')
  return strength * _total(outputs, lambda o: energies[power](jnp.square(o)))


def ji_smoothness(
  kernel_in: jax.Array, kernel_out: jax.Array, *, strength: float
) -> jax.Array:
  """Ji's penalty on hidden units that both listen and speak.

  Ji, Snapp, Psaltis 1990, 'Generalizing Smoothness Constraints from Discrete
  Samples': strength * sum f(w_in) f(w_out), f(w) = w^2 / (1 + w^2). It is zero
  once either side of a unit is. The paper's units have one input and one
  output; here every pair of a unit's weights counts, so that one kernel of
  several inputs is the sum over them.

  Args:
    kernel_in: [..., U] weights into the U units.
    kernel_out: [..., U, K] weights out of them.
    strength: >= 0.

  Returns:
    Scalar.

  Raises:
    InputError: the kernels disagree about U.
  """
  units = kernel_in.shape[-1]
  if kernel_out.ndim < 2 or kernel_out.shape[-2] != units:
    raise InputError(
      f'kernel of shape {tuple(kernel_out.shape)} follows one of {units} '
      f'outputs; right is [..., {units}, K]'
    )
  listens = _saturating(kernel_in).reshape(-1, units).sum(0)
  speaks = jnp.moveaxis(_saturating(kernel_out), -2, 0).reshape(units, -1)
  return strength * jnp.vdot(listens, speaks.sum(1))


def group_lasso(tree, *, strength: float, axis: int = -1) -> jax.Array:
  """Sum of the norms of groups, strength * sum sqrt(n) ||w_group||.

  Yuan, Lin 2006, 'Model Selection and Estimation in Regression with Grouped
  Variables'. A group is all entries of a leaf that share an index along
  `axis`, n of them. The gradient of a group that is all zero is 0 here.

  Args:
    tree: pytree of arrays; kernels [..., Cin, Cout].
    strength: >= 0.
    axis: -1 groups by output channel (a filter), -2 by input channel.

  Returns:
    Scalar.
  """

  def norms(w):
    groups = _groups(w, axis)
    squares = jnp.square(groups).sum(1)
    found = squares > 0
    norm = jnp.where(found, jnp.sqrt(jnp.where(found, squares, 1)), 0)
    return math.sqrt(groups.shape[1]) * norm

  return strength * _total(tree, norms)


def group_lasso_prox(tree, *, threshold: float, axis: int = -1):
  """Proximal step of `group_lasso`: max(0, 1 - t sqrt(n) / ||w||) w.

  Args:
    tree: pytree of arrays.
    threshold: t, learning rate times strength, >= 0.
    axis: as for `group_lasso`.

  Returns:
    The same structure; a group is exactly zero when ||w|| <= t sqrt(n).
  """

  def shrink(w):
    groups = _groups(w, axis)
    norm = jnp.linalg.norm(groups, axis=1)
    reach = threshold * math.sqrt(groups.shape[1])
    factor = jnp.where(norm > reach, 1 - reach / jnp.maximum(norm, reach), 0)
    shape = [1] * w.ndim
    shape[axis] = -1
    return w * jnp.where(norm > 0, factor, 0).reshape(shape).astype(w.dtype)

  return jax.tree.map(shrink, tree)


def scale_l1(
  params, *, strength: float, pattern: str = r'(.*/)?scale'
) -> jax.Array:
  """Network slimming: L1 on the scales of the norms.

  Liu, Li, Shen, Huang, Yan, Zhang 2017, 'Learning Efficient Convolutional
  Networks through Network Slimming', arXiv:1708.06519: for VGGNet, several
  passes make the model 20 times smaller and its operations 5 times fewer.
  Strengths of 1e-5 to 1e-4 are usual. Channels then leave by `scale_saliency`.

  Args:
    params: pytree of arrays, a model's `params`.
    strength: >= 0.
    pattern: regular expression that must match a scale's whole path.

  Returns:
    Scalar.

  Raises:
    InputError: no leaf matches.
  """
  leaves = by_path(params)
  scales = [v for path, v in leaves.items() if re.fullmatch(pattern, path)]
  if not scales:
    raise InputError(
      f'pattern {pattern!r} matches no scale of {", ".join(leaves) or "none"}'
    )
  return l1(scales, strength=strength)


def scale_saliency(params, scales: Mapping[str, str]) -> dict[str, jax.Array]:
  """Saliency of channels by network slimming: |scale| of their norm.

  Args:
    params: pytree of arrays.
    scales: leaf path of the producing kernel to leaf path of the scale.

  Returns:
    Leaf path of the producing kernel to [C_out].

  Raises:
    InputError: a path is no leaf, or a scale has not one entry an output.
  """
  kernels = pick(params, scales)
  found = pick(params, scales.values())
  for path, scale in scales.items():
    if found[scale].shape != kernels[path].shape[-1:]:
      raise InputError(
        f'{scale!r} has shape {tuple(found[scale].shape)}; right for '
        f'{path!r} is [{kernels[path].shape[-1]}]'
      )
  return {path: jnp.abs(found[scale]) for path, scale in scales.items()}


def _total(tree, function) -> jax.Array:
  """Sum of a function over all entries; float32 zero of an empty tree."""
  sums = [function(leaf).sum() for leaf in jax.tree.leaves(tree)]
  return sum(sums[1:], start=sums[0]) if sums else jnp.zeros(())


def _saturating(w):
  """w^2 / (1 + w^2): w^2 near zero, 1 far from it."""
  return jnp.square(w) / (1 + jnp.square(w))


def _groups(w, axis):
  """[groups, n] of a leaf."""
  return jnp.moveaxis(w, axis, 0).reshape(w.shape[axis], -1)
