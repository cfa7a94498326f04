"""SparseGPT: one-shot pruning that repairs each layer as it goes.

Frantar, Alistarh 2023, "SparseGPT: Massive Language Models Can Be Accurately
Pruned in One-Shot", arXiv:2301.00774, after the authors' code. A layer has
weights `W [R, K]` and calibration inputs `X [S, K]`;
`H = 2 X^T X / S + damping * mean(diag H) I`, `U` is upper triangular with
`U^T U = H^-1`. Columns go from left to right; what is cut in column j is cut
by the score `w_ij^2 / U_jj^2`, compared within `span` columns of all rows, and
the columns to the right make up for it:

  e = (w_j - q_j) / U_jj,  W[:, j:] -= e U[j, j:].

Headline (perplexity on WikiText, LLaMA-2 7B/13B/70B, dense 5.12/4.57/3.12, as
Wanda's authors print it): 50 % 6.51/5.63/3.98 where magnitude has
14.89/6.37/4.98; 2:4 10.17/8.32/5.40 where magnitude has 54.59/8.33/6.33.
Not reproduced here: no language model is at hand.

Departs from the released code: exactly the asked number of entries goes in
each span (its `<=` takes one more), ties by the lowest index staying; `U`
comes from one Cholesky factorization of the reversed `H` instead of two; a
convolution is pruned as its im2col product, group by group; products are in
full float32 whatever the accelerator's default.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from compress.compressor import Rules
from compress.errors import InputError
from compress.prune import matrix_form
from compress.prune.matrix_form import NM, OneShot, largest
from compress.prune.paths import by_path
from compress.prune.rounding import LIBRARY

_FULL = jax.lax.Precision.HIGHEST


class Hessian(NamedTuple):
  """Running second moments of a layer's inputs.

  Attributes:
    matrix: `2 X^T X / S`, float32 `[..., K, K]`.
    count: S, the samples seen, float32 [].
  """

  matrix: jax.Array
  count: jax.Array


def empty_hessian(*shape: int) -> Hessian:
  """The second moments of no sample, for `K` or `G, K` columns."""
  return Hessian(jnp.zeros((*shape, shape[-1])), jnp.zeros(()))


def add_inputs(hessian: Hessian, inputs: jax.Array) -> Hessian:
  """Takes more inputs into the running mean.

  Args:
    hessian: what has been seen.
    inputs: `[..., S, K]`.

  Returns:
    The mean over all samples, in float32.
  """
  inputs = inputs.astype(jnp.float32)
  seen = hessian.count + inputs.shape[-2]
  root = inputs * jnp.sqrt(2.0 / seen)
  new = jnp.matmul(root.swapaxes(-1, -2), root, precision=_FULL)
  return Hessian(hessian.matrix * (hessian.count / seen) + new, seen)


@functools.partial(
  jax.jit, static_argnames=('target', 'damping', 'block', 'quantizer')
)
def solve_sparsegpt(
  weight: jax.Array,
  hessian: jax.Array,
  *,
  target: float | NM,
  damping: float = 0.01,
  block: int = 128,
  quantizer: Callable[[jax.Array], Callable] | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Prunes one layer.

  Args:
    weight: `[R, K]`.
    hessian: `[K, K]`, symmetric. A column that no input reaches (a zero on
      the diagonal) loses its weights.
    target: sparsity in [0, 1), or the N:M pattern.
    damping: fraction of the mean diagonal that is added to the diagonal.
    block: columns whose updates of the rest are done together, and, for a
      sparsity, the span in which scores are compared. The result depends on
      it for a sparsity, not (but for rounding) for an N:M pattern.
    quantizer: `(weight [R, K]) -> (column [R] -> column [R])`: values that
      survivors are rounded to at once, their error repaired like the rest.

  Returns:
    `(weight, keep)`, float32 and bool `[R, K]`. Without damping enough the
    factorization fails and the weights are NaN.

  Raises:
    InputError: the target is out of range, or M divides not K or not `block`.
  """
  matrix_form.check_target(target)
  rows, columns = weight.shape
  if isinstance(target, NM):
    if columns % target.m or block % target.m:
      raise InputError(
        f'{target.n}:{target.m} needs columns and block in multiples of '
        f'{target.m}; they are {columns} and {block}'
      )
  dead = jnp.diagonal(hessian) == 0
  weight = jnp.where(dead[None], 0.0, weight.astype(jnp.float32))
  quantize = quantizer(weight) if quantizer else lambda column: column
  factor = _inverse_factor(hessian.astype(jnp.float32), dead, damping)
  padding = -columns % block
  weight = jnp.pad(weight, ((0, 0), (0, padding)))
  factor = jnp.pad(factor, ((0, padding), (0, padding)))
  real = jnp.arange(columns + padding) < columns
  # Columns that only fill the last block must change nothing.
  factor = factor + jnp.diag((~real).astype(factor.dtype))
  span = target.m if isinstance(target, NM) else block

  def column(i, state):
    w, keep, errors, u = state
    old = w[:, i]
    new = jnp.where(keep[:, i], quantize(old), 0.0)
    error = (old - new) / u[i, i]
    w = w - error[:, None] * u[i][None]
    return w.at[:, i].set(new), keep, errors.at[:, i].set(error), u

  def select(w, u, real):
    scores = jnp.square(w / jnp.diagonal(u)[None])
    scores = jnp.where(real[None], scores, -1.0)
    if isinstance(target, NM):
      return largest(scores, target.n, axis=1)
    counts = np.arange(block + 1) * rows
    kept = np.array([LIBRARY.count(int(n), target) for n in counts])
    count = jnp.asarray(kept)[real.sum()]
    return largest(scores.reshape(-1), count, axis=0).reshape(scores.shape)

  def spans(i, state):
    w, keep, errors, u, real = state
    start = i * span
    here = jax.lax.dynamic_slice_in_dim(w, start, span, 1)
    square = jax.lax.dynamic_slice(u, (start, start), (span, span))
    which = jax.lax.dynamic_slice_in_dim(real, start, span)
    chosen = select(here, square, which)
    keep = jax.lax.dynamic_update_slice_in_dim(keep, chosen, start, 1)
    state = jax.lax.fori_loop(start, start + span, column, (w, keep, errors, u))
    return *state, real

  def blocks(i, state):
    w, keep = state
    start = i * block
    here = jax.lax.dynamic_slice_in_dim(w, start, block, 1)
    below = jax.lax.dynamic_slice_in_dim(factor, start, block, 0)
    square = jax.lax.dynamic_slice_in_dim(below, start, block, 1)
    which = jax.lax.dynamic_slice_in_dim(real, start, block)
    empty = jnp.zeros_like(here)
    here, chosen, errors, *_ = jax.lax.fori_loop(
      0, block // span, spans, (here, empty != 0, empty, square, which)
    )
    w = w - jnp.matmul(errors, below, precision=_FULL)
    w = jax.lax.dynamic_update_slice_in_dim(w, here, start, 1)
    return w, jax.lax.dynamic_update_slice_in_dim(keep, chosen, start, 1)

  state = (weight, jnp.zeros(weight.shape, bool))
  count = (columns + padding) // block
  weight, keep = jax.lax.fori_loop(0, count, blocks, state)
  return weight[:, :columns], keep[:, :columns]


def prune_sparsegpt(
  apply: Callable[..., Any],
  variables,
  rules: Rules,
  *inputs,
  damping: float = 0.01,
  block: int = 128,
  quantizer: Callable[[jax.Array], Callable] | None = None,
  chunk: int = 32,
) -> OneShot:
  """Prunes the dense and convolution layers of a model, first to last.

  Each layer sees what the layers before it, already pruned, make of the
  calibration inputs. See `matrix_form.prune_in_order` for memory and `scan`.

  Args:
    apply: pure function `apply(variables, *inputs)`.
    variables: the dense model's.
    rules: `(pattern, target)` over leaf paths relative to `params`; a target
      is a sparsity, an `NM` or `KEEP`.
    *inputs: the calibration inputs, one batch.
    damping: see `solve_sparsegpt`.
    block: see `solve_sparsegpt`; no more than a layer's columns is used.
    quantizer: see `solve_sparsegpt`.
    chunk: images whose patches are made at a time, for convolutions.

  Returns:
    The pruned variables, masks, and what stayed dense and why (an N:M pattern
    whose M does not divide the input channels of a group).

  Raises:
    InputError: a target is out of range, no rule covers a leaf, or a layer's
      second moments cannot be factored (outside `jit`), naming the leaf.
  """

  def layer(site, target, weight, operand):
    columns = weight.shape[-1]
    span = target.m if isinstance(target, NM) else 1
    solve = functools.partial(
      solve_sparsegpt,
      target=target,
      damping=damping,
      block=min(block // span * span, columns),
      quantizer=quantizer,
    )
    hessian = _collect(site, operand, chunk)
    return jax.vmap(solve)(weight, hessian.matrix)

  pruned = matrix_form.prune_in_order(apply, variables, rules, layer, *inputs)
  leaves = by_path(pruned.variables)
  for path in pruned.masks:
    leaf = leaves.get(path, leaves.get(f'params/{path}'))
    if not isinstance(leaf, jax.core.Tracer) and not jnp.isfinite(leaf).all():
      raise InputError(
        f'leaf {path!r}: its second moments are near singular; a damping '
        f'above {damping} would be right'
      )
  return pruned


def _collect(site, operand, chunk) -> Hessian:
  """Second moments of a site's input, patches made `chunk` images a time."""
  parts = [operand]
  if site.kind == 'conv':
    axis = site.params['dimension_numbers'].lhs_spec[0]
    cuts = range(chunk, operand.shape[axis], chunk)
    parts = jnp.split(operand, list(cuts), axis)
  hessian = None
  for part in parts:
    matrix = matrix_form.input_matrix(site, part)
    hessian = hessian or empty_hessian(matrix.shape[0], matrix.shape[-1])
    hessian = add_inputs(hessian, matrix)
  return hessian


def _inverse_factor(hessian, dead, damping) -> jax.Array:
  """Upper triangular U with U^T U = H^-1.

  With J the reversal and J H J = C C^T, V = J C J is upper triangular and
  H = V V^T, so U = V^-1.
  """
  hessian = hessian + jnp.diag(dead.astype(hessian.dtype))
  added = damping * jnp.diagonal(hessian).mean()
  eye = jnp.eye(hessian.shape[0], dtype=hessian.dtype)
  with jax.default_matmul_precision('highest'):
    upper = jnp.linalg.cholesky((hessian + added * eye)[::-1, ::-1])[::-1, ::-1]
    return jax.scipy.linalg.solve_triangular(upper, eye, lower=False)
