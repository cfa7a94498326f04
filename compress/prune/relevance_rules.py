"""The rules by which relevance goes back through one operation.

Of layer-wise relevance propagation (Bach et al. 2015, doi
10.1371/journal.pone.0130140; Montavon et al. 2017, arXiv:1512.02479); formulas
in `relevance_propagation`.

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
from typing import Literal

import jax
import jax.numpy as jnp

from compress import graph
from compress.errors import InputError

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
class AlphaBetaRule:
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
class EpsilonRule:
  """The rule that divides by the whole sum.

  Attributes:
    epsilon: added to the magnitude of every denominator; at 0 (LRP-0) what
      stands before a sum of exactly 0 is lost.
  """

  epsilon: float = 0.0


@dataclasses.dataclass(frozen=True)
class BoxRule:
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


LayerRule = AlphaBetaRule | EpsilonRule | BoxRule


@dataclasses.dataclass(frozen=True)
class RelevanceRules:
  """How relevance goes back through a model.

  Attributes:
    layer: rule of convolutions and matrix products.
    first: rule of those with no other before them; None takes `layer`.
    bias: 'pass' gives what an added constant made to the other operand, so
      that sums are conserved; 'absorb' lets the constant keep it.
    stabilizer: in the denominators of sums outside the layers.
  """

  layer: LayerRule = AlphaBetaRule()
  first: LayerRule | None = BoxRule()
  bias: Literal['pass', 'absorb'] = 'pass'
  stabilizer: float = 1e-9

  def __post_init__(self):
    if self.bias not in ('pass', 'absorb'):
      raise InputError(f"bias={self.bias!r}: right is 'pass' or 'absorb'")


Z_PLUS = RelevanceRules()
LRP_0 = RelevanceRules(
  layer=EpsilonRule(), first=None, bias='absorb', stabilizer=0.0
)


def propagation_rule(rules: RelevanceRules) -> graph.BackwardRule:
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
  if isinstance(chosen, EpsilonRule):
    return _proportional(operation, value, chosen.epsilon)
  position = operation.carries.index(True)
  x, weight = operation.operands[position], operation.operands[1 - position]

  def layer(x, weight):
    return operation.run(*((weight, x) if position else (x, weight)))[0]

  inner = _box if isinstance(chosen, BoxRule) else _alpha_beta
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
