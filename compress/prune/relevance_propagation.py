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

What passes, besides convolutions and matrix products with a weight: ReLU,
PReLU, leaky ReLU, clipping, tanh, sigmoid and ELU (as it is, as for any
activation of one number); multiplication and division by what does not depend
on the inputs (as it is); max-pooling (to the winner); sums, average pooling
and residual additions (in proportion to what each operand gives, with its
sign: near cancellation the parts may be large, their sum is kept); everything
that only moves values. Products of two activations (attention, gates, swish,
batch statistics), exponentials, square roots and loops are refused.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from compress import graph
from compress.errors import InputError

Saliency = dict[str, jax.Array]

_SUMS = frozenset(
  {'add', 'add_any', 'cumsum', 'reduce_sum', 'reduce_window_sum', 'sub'}
)
_WINNERS = frozenset(
  {'max', 'min', 'reduce_max', 'reduce_min', 'reduce_window_max'}
)
_ACTIVATIONS = frozenset(
  {'clamp', 'erf', 'expm1', 'logistic', 'max', 'min', 'neg', 'tanh'}
)


@dataclasses.dataclass(frozen=True)
class AlphaBeta:
  """The rule for layers that weighs positive and negative parts.

  Attributes:
    alpha: share of the positive parts; 1 is z+.
    beta: share of the negative parts; alpha + beta = 1.
    stabilizer: added to the magnitude of every denominator.
  """

  alpha: float = 1.0
  beta: float = 0.0
  stabilizer: float = 1e-9

  def __post_init__(self):
    if abs(self.alpha + self.beta - 1) > 1e-9:
      raise InputError(
        f'alpha={self.alpha} and beta={self.beta} must add up to 1'
      )


@dataclasses.dataclass(frozen=True)
class Epsilon:
  """The rule that divides by the whole sum.

  Attributes:
    epsilon: added to the magnitude of every denominator; at 0 (LRP-0) what
      stands before a sum of exactly 0 is lost.
  """

  epsilon: float = 0.0


@dataclasses.dataclass(frozen=True)
class Box:
  """The z^B rule of the first layer, for inputs within known bounds.

  Attributes:
    low: least value that the layer's input may have.
    high: greatest.
    stabilizer: added to the magnitude of every denominator.
  """

  low: float = -1.0
  high: float = 1.0
  stabilizer: float = 1e-9

  def __post_init__(self):
    if not self.low < self.high:
      raise InputError(f'low={self.low} must be below high={self.high}')


LayerRule = AlphaBeta | Epsilon | Box


@dataclasses.dataclass(frozen=True)
class Rules:
  """How relevance goes back through a model.

  Attributes:
    layer: rule of convolutions and matrix products.
    first: rule of those with no other before them; None takes `layer`.
    bias: 'pass' gives what an added constant made to the other operand, so
      that sums are conserved; 'absorb' lets the constant keep it.
    stabilizer: in the denominators of sums outside the layers.
  """

  layer: LayerRule = AlphaBeta()
  first: LayerRule | None = Box()
  bias: Literal['pass', 'absorb'] = 'pass'
  stabilizer: float = 1e-9

  def __post_init__(self):
    if self.bias not in ('pass', 'absorb'):
      raise InputError(f"bias={self.bias!r}: right is 'pass' or 'absorb'")


LRP_0 = Rules(layer=Epsilon(), first=None, bias='absorb', stabilizer=0.0)


def relevance(
  apply: Callable[..., Any],
  variables,
  inputs: jax.Array,
  labels: jax.Array,
  *,
  rules: Rules = Rules(),
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
  rules: Rules = Rules(),
  start: Literal['logit', 'one'] = 'logit',
  normalize: bool = False,
  fold: bool = True,
) -> Saliency:
  """The saliency of every filter: magnitudes of relevance, summed.

  Sums |R| over samples and positions of the layer's result. The model is
  compiled once per call; saliencies of several batches add up.

  Args:
    apply: as for `relevance`.
    variables: nested dict of arrays.
    inputs: [B, ...] reference samples (`reference_samples` draws them).
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
    InputError: as `relevance`.
  """
  if fold:
    apply, variables, _ = graph.fold(apply, variables, inputs)

  @jax.jit
  def saliency(variables, inputs, labels):
    back = relevance(apply, variables, inputs, labels, rules=rules, start=start)
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


def reference_samples(
  labels: np.ndarray, *, per_class: int = 10, seed: int = 0
) -> np.ndarray:
  """Draws the same number of samples of every class, without replacement.

  Args:
    labels: [N] integers.
    per_class: samples of each class.
    seed: of the draw.

  Returns:
    [classes * per_class] indices, class by class.

  Raises:
    InputError: a class has fewer samples.
  """
  labels = np.asarray(labels)
  generator = np.random.default_rng(seed)
  drawn = []
  for label in np.unique(labels):
    members = np.flatnonzero(labels == label)
    if len(members) < per_class:
      raise InputError(
        f'class {label} has {len(members)} samples, below per_class={per_class}'
      )
    drawn.append(generator.choice(members, per_class, replace=False))
  return np.concatenate(drawn)


def propagation_rule(rules: Rules) -> graph.BackwardRule:
  """The rule of every operation, for `compress.graph.backward`."""

  def rule(operation, arrived):
    name, carried = operation.name, sum(operation.carries)
    if name in graph.REARRANGING:
      return operation.pull(arrived)
    if name in ('conv_general_dilated', 'dot_general'):
      chosen = rules.layer
      if operation.first and rules.first is not None:
        chosen = rules.first
      return _layer(operation, arrived[0], chosen)
    if name in _SUMS:
      if carried == 2 or len(operation.carries) == 1:
        return _proportional(operation, arrived[0], rules.stabilizer)
      if rules.bias == 'absorb':
        return _proportional(operation, arrived[0], rules.stabilizer)
      return _pass(operation, arrived[0])
    if name in _ACTIVATIONS and carried == 1:
      return _pass(operation, arrived[0])
    if name in _WINNERS:
      return operation.pull(arrived)
    scales = name == 'mul' or (name == 'div' and operation.carries[0])
    if scales and carried == 1:
      return _pass(operation, arrived[0])
    raise InputError(
      f'no rule takes relevance through {operation.where}'
      + _hint(name, carried)
    )

  return rule


def _hint(name, carried) -> str:
  if name in ('mul', 'div') and carried == 2:
    return (
      ' of two activations: a gate, attention, batch statistics, or a '
      'softmax (end the model at its logits)'
    )
  return ''


def _pass(operation, value):
  return [value if carries else None for carries in operation.carries]


def _layer(operation, value, chosen):
  if sum(operation.carries) != 1:
    raise InputError(
      f'no rule takes relevance through {operation.where}: both operands '
      'depend on the input'
    )
  if isinstance(chosen, Epsilon):
    return _proportional(operation, value, chosen.epsilon)
  position = operation.carries.index(True)
  x, weight = operation.operands[position], operation.operands[1 - position]

  def layer(x, weight):
    return operation.run(*((weight, x) if position else (x, weight)))[0]

  inner = _box if isinstance(chosen, Box) else _alpha_beta
  out = [None, None]
  out[position] = inner(layer, x, weight, value, chosen)
  return out


def _alpha_beta(layer, x, weight, value, rule):
  above, below = jnp.maximum(x, 0), jnp.minimum(x, 0)
  up, down = jnp.maximum(weight, 0), jnp.minimum(weight, 0)

  def share(part, first, second):
    def total(above, below):
      return layer(above, first) + layer(below, second)

    z, transpose = jax.vjp(total, above, below)
    back = transpose(_ratio(part * value, z, rule.stabilizer))
    return above * back[0] + below * back[1]

  out = share(rule.alpha, up, down)
  return out + share(rule.beta, down, up) if rule.beta else out


def _box(layer, x, weight, value, rule):
  up, down = jnp.maximum(weight, 0), jnp.minimum(weight, 0)
  low, high = jnp.full_like(x, rule.low), jnp.full_like(x, rule.high)

  def total(x, low, high):
    return layer(x, weight) - layer(low, up) - layer(high, down)

  z, transpose = jax.vjp(total, x, low, high)
  back = transpose(_ratio(value, z, rule.stabilizer))
  return x * back[0] + low * back[1] + high * back[2]


def _proportional(operation, value, stabilizer):
  ratio = _ratio(value, operation.results[0], stabilizer)
  return [
    None if back is None else operand * back
    for operand, back in zip(
      operation.operands, operation.pull((ratio,)), strict=True
    )
  ]


def _ratio(value, total, stabilizer):
  """The share value / total, away from zero by the stabilizer; or 0."""
  total = total + jnp.where(total < 0, -stabilizer, stabilizer)
  return jnp.where(total == 0, 0, value / jnp.where(total == 0, 1, total))
