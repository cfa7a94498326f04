"""Pruning by layer-wise relevance propagation.

Yeom, Seegerer, Lapuschkin, Binder, Wiedemann, Mueller, Samek 2021, 'Pruning by
explaining: a novel criterion for deep neural network pruning',
arXiv:1912.08881; rules of Bach et al. 2015 (doi 10.1371/journal.pone.0130140)
and Montavon et al. 2017, arXiv:1512.02479. Relevance starts at the logit of a
reference sample's class, goes back layer by layer with its sum conserved, and
a filter's saliency is the relevance that arrives at it:

  alpha-beta   R_i = sum_j (a p_ij / p_j + b n_ij / n_j) R_j,  a + b = 1, with
               p_ij, n_ij the positive and negative part of x_i w_ij and p_j,
               n_j their sums over i; z+ is a = 1, b = 0
  z^B          R_i = sum_j (x_i w_ij - l w+_ij - h w-_ij) / (sum_i ...) R_j for
               inputs within [l, h]
  epsilon      R_i = sum_j x_i w_ij / (z_j + e sign z_j) R_j; LRP-0 at e = 0

Paper: prune 5 % of all filters at a time by the smallest saliency of any layer,
to 90 %; VGG-16, AlexNet, ResNet-18 and 50. Competitive with other criteria
where the network is trained on afterwards, clearly better where little data
forbids that; costs about one gradient pass.

Departures. The positive part is that of the product x w, so that inputs below
zero are right too; on inputs of at least zero it is the paper's x w+. The
number of reference samples per class (10) is not verified. Where all parts of
one sign are missing, their share of the relevance is lost.

What relevance passes through, and what is refused: see `relevance_rules`.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp

from compress import graph
from compress.errors import InputError
from compress.prune.relevance_rules import (
  Z_PLUS,
  RelevanceRules,
  propagation_rule,
)

Saliency = dict[str, jax.Array]


def propagate_relevance(
  apply: Callable[..., Any],
  variables,
  inputs: jax.Array,
  labels: jax.Array,
  *,
  rules: RelevanceRules = Z_PLUS,
  start: Literal['logit', 'one'] = 'logit',
) -> graph.Backward:
  """Sends the relevance of one logit per sample back through a model.

  Args:
    apply: pure function `apply(variables, inputs)` to logits [B, K], in
      inference mode. BatchNorm after a layer should be folded into it first
      (`compress.graph.fold`); left as it is, it counts as a scale and a bias
      of each channel by itself.
    variables: pytree of arrays.
    inputs: [B, ...] floats; within the box of the first layer's rule.
    labels: [B] integers, the logit that relevance starts from.
    rules: how it goes back.
    start: begin with the logit's value, or with 1.

  Returns:
    What arrived at the inputs ([B, ...], in `inputs[0]`) and at the result of
    every layer (`sites`).

  Raises:
    InputError: the model has an operation that relevance has no rule for, or
      its output is not [B, K].
  """
  if start not in ('logit', 'one'):
    raise InputError(f"start={start!r}: right is 'logit' or 'one'")

  def first(logits):
    if jnp.ndim(logits) != 2:
      raise InputError(
        f'the model gives {jnp.shape(logits)}; relevance starts from logits '
        '[B, K]'
      )
    chosen = jax.nn.one_hot(labels, logits.shape[1], dtype=logits.dtype)
    return chosen * logits if start == 'logit' else chosen

  rule = propagation_rule(rules)
  return graph.backward(apply, rule, first, variables, inputs)


def filter_relevance(
  apply: Callable[..., Any],
  variables: Mapping[str, Any],
  inputs: jax.Array,
  labels: jax.Array,
  *,
  rules: RelevanceRules = Z_PLUS,
  start: Literal['logit', 'one'] = 'logit',
  normalize: bool = False,
  fold: bool = True,
) -> Saliency:
  """The saliency of every filter: magnitudes of relevance, summed.

  Sums |R| over samples and positions of the layer's result. The model is
  compiled once per call; saliencies of several batches add up.

  Args:
    apply: as for `propagate_relevance`.
    variables: nested dict of arrays.
    inputs: [B, ...] reference samples (`balanced_indices` draws them).
    labels: [B] their classes.
    rules: how relevance goes back.
    start: begin with the logit's value, or with 1.
    normalize: divide each layer's saliency by its total.
    fold: merge BatchNorm into the layers first, as the paper requires.

  Returns:
    Path of a layer's weight, without `params/`, to [C_out]; higher means keep.
    A weight used several times gets the sum; one with several output axes an
    array of these.

  Raises:
    InputError: as `propagate_relevance`.
  """
  if fold:
    apply, variables, _ = graph.fold(apply, variables, inputs)

  @jax.jit
  def saliency(variables, inputs, labels):
    back = propagate_relevance(
      apply, variables, inputs, labels, rules=rules, start=start
    )
    magnitudes = {
      name: graph.Arrival(site, jnp.abs(value))
      for name, (site, value) in back.sites.items()
    }
    return graph.unit_totals(magnitudes)

  out = saliency(variables, inputs, labels)
  out = {path.removeprefix('params/'): value for path, value in out.items()}
  if not normalize:
    return out
  totals = {path: jnp.sum(value) for path, value in out.items()}
  return {
    path: jnp.where(totals[path] > 0, value / totals[path], 0.0)
    for path, value in out.items()
  }
