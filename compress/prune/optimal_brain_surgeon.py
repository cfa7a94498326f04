"""Optimal Brain Surgeon: delete a weight and correct all the others.

Hassibi, Stork 1993, 'Second Order Derivatives for Network Pruning: Optimal
Brain Surgeon', NIPS 5. To second order at a minimum, deleting weight q costs
L_q = w_q^2 / (2 [H^-1]_qq), and dw = - w_q / [H^-1]_qq H^-1 e_q is the best
that all weights can do about it. The paper's abstract reports 90, 76 and 62 %
fewer weights than backpropagation with weight decay on the three MONK's
problems, and NETtalk from 18,000 weights to 1,560.

H is the outer-product approximation (1/P) sum_k x_k x_k^T, whose inverse is
built one vector at a time. It has n^2 entries: for all but the smallest nets,
a block per leaf.

Departures: after each deletion the inverse is reduced to that of the Hessian
without row and column q, H^-1 - H^-1 e_q e_q^T H^-1 / [H^-1]_qq, in place of a
new inverse at newly computed derivatives, so that deleted weights stay at zero;
between calls the caller may retrain and rebuild it.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from compress.errors import InputError
from compress.prune.curvature import flatten_params
from compress.prune.paths import by_path, pick


class Surgery(NamedTuple):
  """What the surgeon leaves.

  Attributes:
    params: the corrected parameters; deleted ones are exactly 0.
    keep: bool, the same structure, False where deleted.
    costs: [count] L_q of each deletion, in order. Their sum is the error that
      the quadratic model says was added.
  """

  params: Any
  keep: Any
  costs: jax.Array


def inverse_hessian(vectors: jax.Array, *, damping: float) -> jax.Array:
  """Inverse of damping * I + (1/P) X^T X, by P rank-one updates.

  The paper's recursion: H^-1 starts as I / damping; each vector x takes away
  H^-1 x x^T H^-1 / (P + x^T H^-1 x). With a small damping the first updates
  cancel large numbers: use float64 (`jax.enable_x64`), or in float32 a damping
  of about 1e-4 times the mean of diag(H).

  Args:
    vectors: [P, n] derivatives of the output with respect to the weights, for
      a squared error of half the squared difference; for several outputs or
      another loss, what `curvature.gauss_newton_vectors` gives, scaled by the
      root of the vectors an example, so that P counts vectors.
    damping: > 0; the paper has 1e-8 to 1e-4.

  Returns:
    [n, n].
  """
  count, size = vectors.shape

  def add(inverse, x):
    y = inverse @ x
    return inverse - jnp.outer(y, y) / (count + x @ y), None

  first = jnp.eye(size, dtype=vectors.dtype) / damping
  return jax.lax.scan(add, first, vectors)[0]


def inverse_blocks(
  params, vectors: jax.Array, *, damping: float, paths: Collection[str] = ()
) -> dict[str, jax.Array]:
  """One inverse a leaf, weights of different leaves taken as independent.

  Args:
    params: pytree of arrays, n weights in all.
    vectors: [P, n] as for `inverse_hessian`, in the order of
      `flatten_params(params)`.
    damping: > 0.
    paths: leaves that get a block; none for all.

  Returns:
    Leaf path to [m, m], m the leaf's size.

  Raises:
    InputError: a path is no leaf.
  """
  _, unflatten = flatten_params(params)
  leaves = by_path(jax.vmap(unflatten)(vectors))
  return {
    path: inverse_hessian(rows.reshape(len(rows), -1), damping=damping)
    for path, rows in pick(leaves, paths or leaves).items()
  }


def brain_surgeon_saliency(params, inverse) -> dict[str, jax.Array]:
  """Cost L_q = w_q^2 / (2 [H^-1]_qq) of deleting each weight alone.

  Args:
    params: pytree of arrays.
    inverse: [n, n] over all weights, or leaf path to [m, m].

  Returns:
    Leaf path to an array of the leaf's shape, for all leaves that `inverse`
    covers; higher = keep.

  Raises:
    InputError: shapes disagree.
  """
  blocks = _blocks(params, inverse, None)
  costs = [
    _cost(w, h) for w, h in zip(blocks.weights, blocks.inverses, strict=True)
  ]
  return pick(blocks.restore(costs, params), blocks.paths)


def brain_surgeon(
  params,
  inverse,
  *,
  count: int,
  removable: Collection[str] | None = None,
) -> Surgery:
  """Deletes weights one by one, each time correcting the others.

  Args:
    params: pytree of arrays of one dtype, n weights in all; a flat vector is
      one, too.
    inverse: [n, n] over all weights in the order of `flatten_params(params)`;
      or leaf path to [m, m], blocks: the weight of least cost in any of them
      goes, and its block is corrected; leaves without a block stay as they are.
    count: weights to delete, static.
    removable: paths of the leaves that weights may be deleted from; None for
      all that `inverse` covers. The others are corrected only (biases).

  Returns:
    Parameters, `keep` and costs. Can be jitted with `count` fixed.

  Raises:
    InputError: shapes disagree, a path is no leaf, or `count` exceeds what may
      be deleted.
  """
  blocks = _blocks(params, inverse, removable)
  free = sum(int(allowed.sum()) for allowed in blocks.allowed)
  if not 0 <= count <= free:
    raise InputError(f'{count} weights to delete; right is 0 to {free}')

  def delete(i, carry):
    weights, inverses, keep, costs = carry
    each = [
      jnp.where(allowed & k, _cost(w, h), jnp.inf)
      for w, h, k, allowed in zip(
        weights, inverses, keep, blocks.allowed, strict=True
      )
    ]
    cost = jnp.concatenate(each)
    q = jnp.argmin(cost)
    new, start = [], 0
    for w, h, k in zip(weights, inverses, keep, strict=True):
      inside = (q >= start) & (q < start + w.size)
      at = jnp.clip(q - start, 0, w.size - 1)
      new.append(jax.lax.cond(inside, _delete, _leave, w, h, k, at))
      start += w.size
    weights, inverses, keep = (list(part) for part in zip(*new, strict=True))
    return weights, inverses, keep, costs.at[i].set(cost[q])

  keep = [jnp.ones(w.shape, bool) for w in blocks.weights]
  costs = jnp.zeros((count,), blocks.weights[0].dtype)
  weights = blocks.weights
  if count:
    weights, _, keep, costs = jax.lax.fori_loop(
      0, count, delete, (weights, blocks.inverses, keep, costs)
    )
  whole = jax.tree.map(lambda w: jnp.ones(w.shape, bool), params)
  tree = jax.tree.structure(params)
  return Surgery(
    params=tree.unflatten(blocks.restore(weights, params).values()),
    keep=tree.unflatten(blocks.restore(keep, whole).values()),
    costs=costs,
  )


def _cost(weights, inverse):
  diagonal = jnp.diagonal(inverse)
  return jnp.square(weights) / (2 * jnp.where(diagonal > 0, diagonal, 1))


def _leave(weights, inverse, keep, q):
  del q
  return weights, inverse, keep


def _delete(weights, inverse, keep, q):
  """Deletes weight q; the inverse becomes that of the others."""
  column, pivot = inverse[:, q], inverse[q, q]
  keep = keep.at[q].set(False)
  weights = jnp.where(keep, weights - weights[q] / pivot * column, 0)
  inverse = inverse - jnp.outer(column, column) / pivot
  return weights, jnp.where(keep[:, None] & keep[None, :], inverse, 0), keep


class _Blocks(NamedTuple):
  """Weights that share an inverse, flat.

  Attributes:
    paths: leaves in any block.
    weights: [m] a block.
    inverses: [m, m] a block.
    allowed: bool numpy [m] a block, what may be deleted.
    restore: `(values a block, tree for the leaves without) -> {path: leaf}`,
      in the order of the tree's leaves.
  """

  paths: list[str]
  weights: list[jax.Array]
  inverses: list[jax.Array]
  allowed: list[np.ndarray]
  restore: Callable[..., dict[str, jax.Array]]


def _blocks(params, inverse, removable) -> _Blocks:
  leaves = by_path(params)
  if isinstance(inverse, Mapping):
    groups, inverses = [[path] for path in inverse], list(inverse.values())
  else:
    groups, inverses = [list(leaves)], [inverse]
  paths = [path for group in groups for path in group]
  covered = pick(params, paths)
  pick(covered, paths if removable is None else removable)
  weights = [flatten_params([leaves[p] for p in group])[0] for group in groups]
  for w, h in zip(weights, inverses, strict=True):
    if h.shape != (w.size, w.size):
      raise InputError(
        f'inverse Hessian has shape {tuple(h.shape)}; right for {w.size} '
        f'weights is [{w.size}, {w.size}]'
      )

  def allowed(path):
    free = removable is None or path in removable
    return np.full(leaves[path].size, free)

  def restore(values, others):
    found = by_path(others)
    for group, value in zip(groups, values, strict=True):
      start = 0
      for path in group:
        stop = start + leaves[path].size
        found[path] = value[start:stop].reshape(leaves[path].shape)
        start = stop
    return found

  return _Blocks(
    paths=paths,
    weights=weights,
    inverses=inverses,
    allowed=[np.concatenate([allowed(p) for p in g]) for g in groups],
    restore=restore,
  )
