"""The nodes of a network's graph, as they are written for other runtimes."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from compress.errors import InputError
from compress.quantize import AffineSpec, QParams

UNARY = frozenset(
  {'exp', 'log', 'logistic', 'neg', 'sqrt', 'tanh', 'abs', 'erf', 'square'}
)


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
  """One layer.

  Attributes:
    op: `input`, `conv`, `dense`, `constant` (arithmetic with a constant),
      `prelu`, `quantize`, `positive`, `pair` (arithmetic of two nodes),
      `reshape`, `max_pool`, `sum_pool`, `sum`, or one of `UNARY`.
    inputs: the nodes it reads.
    shape: of one example, without the batch axis.
    where: the operation in words, for messages.
    given: what else the operation needs, by name.
  """

  op: str
  inputs: tuple['Node', ...]
  shape: tuple[int, ...]
  where: str
  given: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __getitem__(self, key: str) -> Any:
    return self.given[key]


@dataclasses.dataclass(frozen=True)
class Weight:
  """A kernel, `[KH, KW, C / groups, O]` or `[I, O]`, as it will be stored.

  Attributes:
    codes: int8 codes, or float32 values where it is not quantized.
    scale: float32 [O], or None where it is not quantized.
  """

  codes: np.ndarray
  scale: np.ndarray | None

  def values(self) -> np.ndarray:
    """The float32 kernel."""
    if self.scale is None:
      return self.codes
    return self.codes.astype(np.float32) * self.scale


@dataclasses.dataclass(frozen=True)
class Quantizer:
  """One activation's grid as ONNX has it: uint8 codes.

  Attributes:
    name: of the activation.
    scale: float32 [].
    zero: the code of 0, in 0..255.
    low: the lowest code.
    high: the highest code.
  """

  name: str
  scale: np.float32
  zero: int
  low: int
  high: int

  @staticmethod
  def of(
    name: str,
    activations: Mapping[str, QParams],
    specs: Mapping[str, AffineSpec],
  ) -> 'Quantizer':
    """The grid of a named activation.

    Args:
      name: of the activation.
      activations: name to parameters.
      specs: name to spec.

    Raises:
      InputError: ONNX has no such grid.
    """
    spec, q = specs[name], activations[name]
    fits = (
      spec.bits <= 8
      and spec.granularity == 'tensor'
      and not spec.dynamic
      and spec.rounding == 'half_even'
    )
    if not fits:
      raise InputError(
        f'activation {name!r}: ONNX takes static ranges of whole tensors, 2 to '
        '8 bits, rounded half to even'
      )
    if not np.isfinite(q.scale).all() or not (np.asarray(q.scale) > 0).all():
      raise InputError(f'activation {name!r}: its scale is not above 0')
    shift = 0 if spec.bounds == 'unsigned' else 128
    zero = int(np.asarray(q.zero_point)) + shift
    scale = np.float32(np.asarray(q.scale))
    return Quantizer(name, scale, zero, spec.qmin + shift, spec.qmax + shift)
