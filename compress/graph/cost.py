"""Parameters, multiply-accumulates and bit-operations of a model."""

import math
from collections.abc import Callable
from typing import NamedTuple

from compress.graph.rewrite import Graph
from compress.graph.sites import Site


class Cost(NamedTuple):
  """What one evaluation of a model costs.

  Attributes:
    parameters: entries of the leaves under `params`, or of all leaves where
      there is no such collection.
    macs: multiply-accumulates of convolutions and matrix products, for the
      batch that the graph was traced with.
    bops: bit-operations, the sum of `macs * weight_bits * activation_bits`
      (van Baalen et al. 2020, "Bayesian Bits", arXiv:2005.07093).
  """

  parameters: int
  macs: int
  bops: int


def cost(
  graph: Graph,
  *,
  weight_bits: int | Callable[[Site], int] = 32,
  activation_bits: int | Callable[[Site], int] = 32,
) -> Cost:
  """Counts the parameters, MACs and bit-operations of a traced model.

  Args:
    graph: the traced model.
    weight_bits: bits of the weight operand (of the right one where there is
      no weight), one number or a function of the site.
    activation_bits: bits of the other operand.

  Returns:
    The counts. Element-wise operations are not counted. MACs follow
    `C_in / groups * k_h * k_w * C_out * H_out * W_out`, padded taps counted.

  Raises:
    ValueError: naming the site, if one runs inside `while`, where nothing
      static says how often.
  """
  macs = bops = 0
  for site in graph.sites:
    if site.repeats is None:
      raise ValueError(
        f'site {site.name!r} runs inside `while`: its count is not static'
      )
    w_bits = weight_bits(site) if callable(weight_bits) else weight_bits
    a_bits = (
      activation_bits(site) if callable(activation_bits) else activation_bits
    )
    macs += site.macs
    bops += site.macs * w_bits * a_bits
  return Cost(_parameters(graph), macs, bops)


def _parameters(graph: Graph) -> int:
  trained = [s for p, s in graph.weights.items() if p.startswith('params/')]
  shapes = trained or list(graph.weights.values())
  return sum(math.prod(shape) for shape in shapes)
