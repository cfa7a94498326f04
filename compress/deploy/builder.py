"""Nodes, initializers and layouts of an ONNX graph that is being written."""

from typing import Any, NamedTuple

import numpy as np

from compress.errors import InputError

OPSET = 17
IR_VERSION = 9


class Tensor(NamedTuple):
  """A value of the ONNX graph.

  Attributes:
    name: in the graph.
    layout: `first` or `last`, where the channel axis of [B, H, W, C] is; `row`
      for any other shape, and for [B, H, W, C] flattened as it stands;
      `first row` for the same flattened with channels first.
    shape: of one example, as the model has it: channels last.
  """

  name: str
  layout: str
  shape: tuple[int, ...]


def onnx_module():
  """The onnx package.

  Raises:
    InputError: it is not installed.
  """
  try:
    import onnx
  except ImportError:
    raise InputError(
      "writing ONNX needs the package onnx: pip install -e '.[deploy]'"
    ) from None
  return onnx


class Builder:
  """Collects nodes and initializers; every method returns a name."""

  def __init__(self):
    self.onnx = onnx_module()
    self.nodes: list[Any] = []
    self.initializers: list[Any] = []
    self.names: set[str] = set()
    self.constants: dict[Any, str] = {}
    # Of flattened channels-first values: the shape that they had.
    self.row_shape: dict[str, tuple[int, ...]] = {}

  def name(self, stem: str) -> str:
    """A name that is not taken yet."""
    name, count = stem, 0
    while name in self.names:
      count += 1
      name = f'{stem}_{count}'
    self.names.add(name)
    return name

  def constant(self, value: np.ndarray, stem: str) -> str:
    """An initializer; equal ones are stored once."""
    value = np.ascontiguousarray(value)
    key = value.dtype.str, value.shape, value.tobytes()
    if key not in self.constants:
      self.constants[key] = self.name(stem)
      tensor = self.onnx.numpy_helper.from_array(value, self.constants[key])
      self.initializers.append(tensor)
    return self.constants[key]

  def node(self, op: str, inputs: list[str], stem: str, **attributes) -> str:
    """A node of one output."""
    out = self.name(f'{stem}/{op}')
    self.nodes.append(
      self.onnx.helper.make_node(op, inputs, [out], name=out, **attributes)
    )
    return out

  def dequantize(self, codes: str, scale, zero, stem: str, *, axis=None) -> str:
    """DequantizeLinear; `zero` None is 0."""
    inputs = [codes, self.constant(np.asarray(scale, np.float32), 'scale')]
    if zero is not None:
      inputs.append(self.constant(zero, 'zero'))
    given = {} if axis is None else {'axis': axis}
    return self.node('DequantizeLinear', inputs, stem, **given)

  def quantize(self, x: str, q, stem: str) -> str:
    """QuantizeLinear to uint8 codes, and the bounds of narrower grids."""
    scale = self.constant(np.asarray(q.scale, np.float32), 'scale')
    zero = self.constant(np.asarray(q.zero, np.uint8), 'zero')
    return self.node('QuantizeLinear', [x, scale, zero], stem)

  def clip(self, codes: str, q, stem: str) -> str:
    """Codes within a grid that is narrower than uint8."""
    for op, bound, free in (('Max', q.low, 0), ('Min', q.high, 255)):
      if bound != free:
        limit = self.constant(np.asarray(bound, np.uint8), 'bound')
        codes = self.node(op, [codes, limit], stem)
    return codes

  def to_layout(self, x: Tensor, layout: str, stem: str) -> Tensor:
    """The same value in another layout."""
    if x.layout == layout:
      return x
    if (x.layout, layout) == ('first row', 'row'):
      height, width, channels = self.row_shape[x.name]
      shape = np.asarray([0, channels, height, width], np.int64)
      split = self.node(
        'Reshape', [x.name, self.constant(shape, 'shape')], stem
      )
      last = self.node('Transpose', [split], stem, perm=[0, 2, 3, 1])
      name = self.reshape(last, x.shape, stem)
    else:
      perm = [0, 2, 3, 1] if layout == 'last' else [0, 3, 1, 2]
      name = self.node('Transpose', [x.name], stem, perm=perm)
    return Tensor(name, layout, x.shape)

  def reshape(self, name: str, shape, stem: str) -> str:
    """Reshapes each example."""
    given = self.constant(np.asarray([0, *shape], np.int64), 'shape')
    return self.node('Reshape', [name, given], stem)


def along(value: np.ndarray, layout: str) -> np.ndarray:
  """A constant of per-example rank, so that it broadcasts in a layout."""
  if value.size == 1:
    return value.reshape(())
  if layout == 'first':
    value = value.transpose(2, 0, 1)
  return value
