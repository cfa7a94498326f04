"""What of a student is quantized, and to how many bits.

First and last layer have 8 bits, and the image itself stays float.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from compress import compressor as compressor_lib
from compress import quantize
from compress.compressor import KEEP, Compressor, State
from compress.quantize import AffineSpec

EDGE_BITS = 8


class Scheme(NamedTuple):
  """How a student is quantized.

  Attributes:
    style: of its weights: 'intervals', 'buckets' or 'points'; 'float' quantizes
      nothing, activations neither.
    bits: of weights and activations but those of the first and last layer.
  """

  style: str
  bits: int = 0


FLOAT = Scheme('float')


class Student(NamedTuple):
  """A network and its quantizers.

  Attributes:
    variables: collections; `params` as they are trained.
    state: of the scheme's compressor.
    intervals: activation name to interval, float32 [].
  """

  variables: Any
  state: State
  intervals: dict[str, jax.Array]


def make_compressor(scheme: Scheme, *, edges: Sequence[str]) -> Compressor:
  """The method on weights of a scheme.

  Args:
    scheme: style and bits.
    edges: leaf paths of the first and last layer's kernels.

  Returns:
    The compressor.
  """

  def rules(edge, inner):
    return [*((path, edge) for path in edges), ('.*kernel', inner)]

  if scheme.style == 'float':
    return compressor_lib.identity()
  if scheme.style == 'intervals':
    specs = AffineSpec(bits=EDGE_BITS), AffineSpec(bits=scheme.bits)
    return quantize.quantize_intervals(
      rules(*specs), range_fn=quantize.mse_range
    )
  even = quantize.BucketSpec
  if scheme.style == 'buckets':
    return quantize.quantize_buckets(rules(even(EDGE_BITS), even(scheme.bits)))
  points = quantize.PointSpec(2**scheme.bits)
  return compressor_lib.chain(
    quantize.learn_points(rules(KEEP, points)),
    quantize.quantize_buckets(rules(even(EDGE_BITS), KEEP)),
  )


def activation_specs(
  scheme: Scheme, activations: Sequence[str]
) -> dict[str, AffineSpec]:
  """What activations are quantized to.

  Args:
    scheme: style and bits.
    activations: their names, that of the last layer's input last.

  Returns:
    Name to spec, empty for float; none is negative.
  """
  if scheme.style == 'float':
    return {}
  last = activations[-1]
  return {
    name: AffineSpec(
      bits=EDGE_BITS if name == last else scheme.bits, bounds='unsigned'
    )
    for name in activations
  }
