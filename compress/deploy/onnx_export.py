"""ONNX models that onnxruntime runs in integers.

Why the graph is written here and not by jax2onnx 0.17. Of SFace it makes 56
transposes around 27 convolutions (81 once BatchNorm is folded: it transposes
the kernels when the network runs), of every PReLU a comparison, a product and a
selection, and of a quantizer its arithmetic; while it traces, it replaces
functions of Flax, so that a model traced anew (`graph.fold`) is not the same.
What has to be known for integers, which quantizer belongs to which layer, is
lost by then. The networks of this package need some twenty operations; each is
written as what onnxruntime runs best, and one that is not known is an error
that names it. Only standard operations are written, channels first.

What onnxruntime 1.31 does with quantizers decides the form:

- A convolution runs in integers only if its result is codes at once. Its
  `PRelu` is slow (five times `Max` of a product, also in floats), and float; a
  quantizer before it would round what the simulation does not. So the
  convolution is written once for either side of PReLU, each with its own
  weight scales, and the larger of two codes is taken: `requantized`.
- A convolution whose result stays float (residual sums), or for which a second
  run costs more than arithmetic in floats, is a matrix product of gathered
  patches, as `Gemm`: in integers, with a float result. It needs explicit zero
  points, though all are 0; `MatMul` with a bias would run in floats.
- The transposes before and after convolutions cancel, since onnxruntime runs
  integers channels last; of those in the file none is left but the image's.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from compress import quantize
from compress.deploy.builder import IR_VERSION, OPSET, Tensor, along
from compress.deploy.chains import stem_of
from compress.deploy.layers import LayerWriter
from compress.deploy.network import read_network
from compress.deploy.nodes import UNARY, Node
from compress.errors import InputError
from compress.quantize import AffineSpec, QParams

_PAIRS = {
  'add': 'Add',
  'sub': 'Sub',
  'mul': 'Mul',
  'div': 'Div',
  'max': 'Max',
  'min': 'Min',
}
_UNARY = {
  'exp': 'Exp',
  'log': 'Log',
  'logistic': 'Sigmoid',
  'neg': 'Neg',
  'sqrt': 'Sqrt',
  'tanh': 'Tanh',
  'abs': 'Abs',
  'erf': 'Erf',
}


def to_onnx(
  apply: Callable[..., Any],
  variables,
  *inputs,
  activations: Mapping[str, QParams] | None = None,
  specs: Mapping[str, AffineSpec] | None = None,
  placement: quantize.Placement = quantize.INPUTS,
  name: str = 'network',
):
  """Writes a model as ONNX, in floats or in integers.

  With `activations` and packed weights, every convolution and matrix product of
  a quantized activation and a quantized kernel runs in integers: uint8 codes by
  int8 codes, int32 sums and biases. `lower` gives the same in JAX, to the bit
  where no float sum is left but of two numbers. The fake-quantized function
  rounds its sums and no biases, which moves codes that lie near a tie by one
  step. Packed kernels without `activations` are stored in int8 and multiplied
  as floats.

  Args:
    apply: pure function `apply(variables, *inputs)`, BatchNorm folded where it
      can be (`graph.fold`).
    variables: nested dict of arrays or packed tensors. Kernels that are
      `Quantized` in up to 8 bits, symmetric, per tensor or output channel, are
      stored as they are; others are unpacked.
    *inputs: arrays or `jax.ShapeDtypeStruct`s `[B, ...]`; B is free in the
      ONNX model.
    activations: name to parameters of the quantized activations.
    specs: name to spec of the same: static, per tensor, up to 8 bits.
    placement: that the names come from.
    name: of the ONNX graph.

  Returns:
    The `onnx.ModelProto`, checked. Its input `images` and its output
    `embedding` (or `input0`, `output0`, ... where there are several) are as the
    model has them, channels last.

  Raises:
    InputError: an operation that has no ONNX form here, by its site; an
      activation that cannot be quantized so, by its name; onnx is missing.
  """
  nodes, outputs = read_network(
    apply,
    variables,
    *inputs,
    activations=activations,
    specs=specs,
    placement=placement,
  )
  writer = _Writer(outputs)
  helper = writer.onnx.helper
  kind = writer.onnx.TensorProto.FLOAT
  given = []
  for i, node in enumerate(nodes):
    label = writer.name('images' if len(nodes) == 1 else f'input{i}')
    layout = 'last' if len(node.shape) == 3 else 'row'
    writer.floats[node] = Tensor(label, layout, node.shape)
    given.append(
      helper.make_tensor_value_info(label, kind, ['batch', *node.shape])
    )
  writer.plan.evaluate_blocks(writer.codes, writer.float)
  results = []
  for i, node in enumerate(outputs):
    label = writer.name('embedding' if len(outputs) == 1 else f'output{i}')
    out = writer.float(node)
    layout = 'last' if len(node.shape) == 3 else 'row'
    out = writer.to_layout(out, layout, 'output')
    writer.nodes.append(helper.make_node('Identity', [out.name], [label]))
    results.append(
      helper.make_tensor_value_info(label, kind, ['batch', *node.shape])
    )
  graph = helper.make_graph(
    writer.nodes, name, given, results, writer.initializers
  )
  model = helper.make_model(
    graph,
    opset_imports=[helper.make_opsetid('', OPSET)],
    producer_name='compress',
  )
  model.ir_version = IR_VERSION
  writer.onnx.checker.check_model(model)
  return model


class _Writer(LayerWriter):
  """Writes nodes on demand, each once."""

  def float(self, node: Node) -> Tensor:
    """The node's value as a float tensor."""
    if node not in self.floats:
      self.floats[node] = self.make_float(node)
    return self.floats[node]

  def make_float(self, node: Node) -> Tensor:
    if node.op in ('conv', 'dense'):
      return self.layer(node, None)
    if node.op == 'constant':
      found = self.plan.fused(node)
      if found is not None:
        return self.layer(*found)
      return self.constant_chain(node)
    if node.op in UNARY:
      x = self.float(node.inputs[0])
      if node.op == 'square':
        out = self.node('Mul', [x.name, x.name], stem_of(node))
      else:
        out = self.node(_UNARY[node.op], [x.name], stem_of(node))
      return self.like(x, out, node)
    method = getattr(self, f'float_{node.op}', None)
    if method is None:
      raise InputError(f'{node.where}: no ONNX form')
    return method(node)

  def like(self, x: Tensor, name: str, node: Node) -> Tensor:
    if x.layout == 'first row':
      self.row_shape[name] = self.row_shape[x.name]
    return Tensor(name, x.layout, node.shape)

  def operand(self, value: np.ndarray, x: Tensor) -> str:
    """A constant that meets a tensor in its layout."""
    if x.layout == 'first row' and value.size > 1:
      height, width, channels = self.row_shape[x.name]
      value = value.reshape(height, width, channels).transpose(2, 0, 1)
      value = value.reshape(-1)
    return self.constant(along(value, x.layout), 'constant')

  def constant_chain(self, node: Node) -> Tensor:
    """Arithmetic with constants; long chains become one product and one sum."""
    found = self.plan.chain(node)
    if found is None:
      x = self.float(node.inputs[0])
      value = self.operand(node['value'], x)
      names = [value, x.name] if node['swapped'] else [x.name, value]
      out = self.node(_PAIRS[node['kind']], names, stem_of(node))
      return self.like(x, out, node)
    source, line = found
    x = self.float(source)
    out = x.name
    for op, value in (('Mul', line[0]), ('Add', line[1])):
      value = self.operand(value.astype(np.float32), x)
      out = self.node(op, [out, value], stem_of(node))
    return self.like(x, out, node)

  def float_prelu(self, node: Node) -> Tensor:
    x, slope = self.float(node.inputs[0]), node['slope']
    stem = stem_of(node)
    if not slope.any():
      return self.like(x, self.node('Relu', [x.name], stem), node)
    scaled = self.node('Mul', [x.name, self.operand(slope, x)], stem)
    if (slope <= 1).all():
      out = self.node('Max', [x.name, scaled], stem)
    elif (slope >= 1).all():
      out = self.node('Min', [x.name, scaled], stem)
    else:
      positive = self.node('Relu', [x.name], stem)
      rest = self.operand(np.float32(1) - slope, x)
      rest = self.node('Mul', [positive, rest], stem)
      out = self.node('Add', [scaled, rest], stem)
    return self.like(x, out, node)

  def float_pair(self, node: Node) -> Tensor:
    left, right = (self.float(x) for x in node.inputs)
    if left.layout != right.layout:
      right = self.to_layout(right, left.layout, stem_of(node))
    out = self.node(
      _PAIRS[node['kind']], [left.name, right.name], stem_of(node)
    )
    return self.like(left, out, node)

  def float_quantize(self, node: Node) -> Tensor:
    codes, q = self.codes(node), node['q']
    zero = np.asarray(q.zero, np.uint8)
    out = self.dequantize(codes.name, q.scale, zero, stem_of(node))
    return self.like(codes, out, node)

  def float_reshape(self, node: Node) -> Tensor:
    return self.reshaped(self.float(node.inputs[0]), node)

  def reshaped(self, x: Tensor, node: Node) -> Tensor:
    stem = stem_of(node)
    if len(node.shape) == 1 and len(x.shape) == 3 and x.layout == 'first':
      out = self.node('Flatten', [x.name], stem)
      layout = 'row' if x.shape[:2] == (1, 1) else 'first row'
      self.row_shape[out] = x.shape
      return Tensor(out, layout, node.shape)
    x = self.to_layout(x, 'last' if len(x.shape) == 3 else 'row', stem)
    layout = 'last' if len(node.shape) == 3 else 'row'
    return Tensor(self.reshape(x.name, node.shape, stem), layout, node.shape)

  def float_sum(self, node: Node) -> Tensor:
    x = self.float(node.inputs[0])
    axes = list(node['axes'])
    layout = 'row'
    if x.layout == 'first':
      axes = [{1: 2, 2: 3, 3: 1}[axis] for axis in axes]
      if sorted(axes) != [2, 3]:
        x = self.to_layout(x, 'last', stem_of(node))
        axes = list(node['axes'])
    elif x.layout == 'first row':
      x = self.to_layout(x, 'row', stem_of(node))
    if len(node.shape) == 3:
      layout = 'last'
    given = self.constant(np.asarray(axes, np.int64), 'axes')
    out = self.node('ReduceSum', [x.name, given], stem_of(node), keepdims=0)
    return Tensor(out, layout, node.shape)

  def pool(self, node: Node, op: str, **attributes) -> str:
    x = self.to_layout(self.float(node.inputs[0]), 'first', stem_of(node))
    return self.node(
      op,
      [x.name],
      stem_of(node),
      kernel_shape=node['window'],
      strides=node['strides'],
      pads=node['pads'],
      **attributes,
    )

  def float_max_pool(self, node: Node) -> Tensor:
    return Tensor(self.pool(node, 'MaxPool'), 'first', node.shape)

  def float_sum_pool(self, node: Node) -> Tensor:
    mean = self.pool(node, 'AveragePool', count_include_pad=1)
    size = np.float32(np.prod(node['window']))
    size = self.constant(np.asarray(size, np.float32), 'window')
    out = self.node('Mul', [mean, size], stem_of(node))
    return Tensor(out, 'first', node.shape)
