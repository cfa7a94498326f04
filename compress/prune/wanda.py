"""Wanda: prune by weights and activations, without repair.

Sun, Liu, Bair, Kolter 2024, "A Simple and Effective Pruning Approach for Large
Language Models", arXiv:2306.11695, after the authors' code:

  S_ij = |W_ij| * ||X_j||_2,

`X_j` all calibration values of input j; scores are compared within each output
row and no weight is changed. With equal norms it is row-wise magnitude.

Headline (perplexity on WikiText, LLaMA-2 7B/13B/70B, dense 5.12/4.57/3.12, as
the authors print it): 50 % 6.42/5.56/3.98 where magnitude has 14.89/6.37/4.98;
2:4 11.02/8.27/5.16. Not reproduced here: no language model is at hand.

Departs from the released code: the exact number of entries goes from each row,
ties by the lowest index staying; the sum of squares is kept, not its mean,
which ranks the same; a convolution has one norm per input channel and tap,
that of its im2col column.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from compress import graph as graph_lib
from compress.compressor import Rules
from compress.errors import InputError
from compress.graph import Emit
from compress.prune import matrix_form
from compress.prune.matrix_form import NM, OneShot, largest
from compress.prune.rounding import LIBRARY
from compress.prune.selection import n_m


def wanda_score(weight: jax.Array, squares: jax.Array) -> jax.Array:
  """`|W_ij| ||X_j||`; see the file's docstring.

  Args:
    weight: `[..., R, K]`.
    squares: sum of squares of every input, `[..., K]`.

  Returns:
    Float32 `[..., R, K]`, at least 0; higher means keep.
  """
  norms = jnp.sqrt(squares.astype(jnp.float32))
  return jnp.abs(weight.astype(jnp.float32)) * norms[..., None, :]


def row_mask(score: jax.Array, *, target: float | NM) -> jax.Array:
  """Keeps the largest scores of each row, the same number in all.

  Args:
    score: `[..., R, K]`.
    target: sparsity in [0, 1), or an N:M pattern along K.

  Returns:
    Bool `[..., R, K]`.

  Raises:
    InputError: the target is out of range, or M does not divide K.
  """
  matrix_form.check_target(target)
  columns = score.shape[-1]
  if not isinstance(target, NM):
    return largest(score, LIBRARY.count(columns, target), axis=-1)
  if columns % target.m:
    raise InputError(f'{columns} columns are no multiple of M = {target.m}')
  return n_m(score, target.n, target.m, axis=-1)


class Cumulative(NamedTuple):
  """A mask by cumulative sums of scores.

  Attributes:
    keep: bool `[..., R, K]`.
    alpha: fraction of a row's total score that may go, float32 [].
  """

  keep: jax.Array
  alpha: jax.Array


def cumulative_mask(
  score: jax.Array, *, sparsity: float, tolerance: float = 1e-3
) -> Cumulative:
  """Wanda's variant: rows lose the same share of their score, not of entries.

  In each row the smallest scores go as long as their sum is at most `alpha`
  times the row's; `alpha` is found by bisection of [0, 1] until the sparsity
  of the whole matrix is within `tolerance` of the target, or 30 halvings.

  Args:
    score: `[..., R, K]`, at least 0.
    sparsity: fraction to remove, in [0, 1).
    tolerance: of the sparsity.

  Returns:
    The mask and its `alpha`.

  Raises:
    InputError: the sparsity is out of range.
  """
  matrix_form.check_target(sparsity)
  rising = jnp.sort(score.astype(jnp.float32), axis=-1)
  sums = jnp.cumsum(rising, axis=-1)

  def removed(alpha):
    return (sums <= alpha * sums[..., -1:]).sum(-1, keepdims=True)

  def gap(alpha):
    return removed(alpha).sum() / score.size - sparsity

  def unfinished(state):
    low, high, count = state
    return (jnp.abs(gap((low + high) / 2)) > tolerance) & (count < 30)

  def halve(state):
    low, high, count = state
    middle = (low + high) / 2
    over = gap(middle) > 0
    low, high = jnp.where(over, low, middle), jnp.where(over, middle, high)
    return low, high, count + 1

  start = (jnp.zeros(()), jnp.ones(()), 0)
  low, high, _ = jax.lax.while_loop(unfinished, halve, start)
  alpha = (low + high) / 2
  keep = largest(score, score.shape[-1] - removed(alpha), axis=-1)
  return Cumulative(keep, alpha)


def input_squares(
  apply: Callable[..., Any], variables, *inputs
) -> dict[str, jax.Array]:
  """Sums of squares of the inputs of every layer of the dense model.

  Sums of several batches add up to the sum of all.

  Args:
    apply: pure function `apply(variables, *inputs)`.
    variables: the model's.
    *inputs: one batch of calibration inputs.

  Returns:
    Float32 `[G, K]` by site name, columns as in `matrix_form`.
  """

  def rule(site, op, *operands):
    out = op(*operands)
    if site.kind == 'name' or matrix_form.unsupported(site):
      return out
    seen = operands[1 - site.weight_operand]
    return Emit(out, matrix_form.input_squares(site, seen))

  return graph_lib.rewrite(apply, rule, has_aux=True)(variables, *inputs)[1]


def prune_wanda(
  apply: Callable[..., Any],
  variables,
  rules: Rules,
  *inputs,
  squares: dict[str, jax.Array] | None = None,
  cumulative: bool = False,
) -> OneShot:
  """Prunes the dense and convolution layers of a model, first to last.

  Args:
    apply: pure function `apply(variables, *inputs)`.
    variables: the dense model's.
    rules: `(pattern, target)` over leaf paths relative to `params`; a target
      is a sparsity, an `NM` or `KEEP`.
    *inputs: the calibration inputs, one batch.
    squares: what `input_squares` has summed over many batches of the dense
      model; by default the layers see `inputs` through the pruned layers
      before them, as the authors recompute them.
    cumulative: rows by `cumulative_mask`; sparsities only.

  Returns:
    The pruned variables, masks, and what stayed dense and why (an N:M pattern
    whose M does not divide the input channels of a group).

  Raises:
    InputError: a target is out of range, no rule covers a leaf, or a
      cumulative mask is to have an N:M pattern.
  """

  def layer(site, target, weight, operand):
    if isinstance(target, NM) and cumulative:
      raise InputError(
        f'leaf {site.weight!r}: a cumulative mask takes a sparsity, no N:M'
      )
    if squares is None:
      score = wanda_score(weight, matrix_form.input_squares(site, operand))
    else:
      score = wanda_score(weight, squares[site.name])
    if cumulative:
      keep = cumulative_mask(score, sparsity=target).keep
    else:
      keep = row_mask(score, target=target)
    return jnp.where(keep, weight, jnp.zeros_like(weight)), keep

  return matrix_form.prune_in_order(apply, variables, rules, layer, *inputs)
