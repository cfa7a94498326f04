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

import collections
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from compress import quantize
from compress.deploy import requantized
from compress.deploy.builder import IR_VERSION, OPSET, Builder, Tensor, along
from compress.deploy.network import UNARY, Node, read_network
from compress.deploy.requantized import Line
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
  int8 codes, int32 sums and biases (`round_biases`). The result differs from
  the fake-quantized function by the rounding of float arithmetic, which now and
  then moves a code that lies at a tie by one step; where all scales are powers
  of two it does not. Packed kernels without `activations` are stored in int8
  and multiplied as floats.

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


class _Writer(Builder):
  """Writes nodes on demand, each once."""

  def __init__(self, outputs: list[Node]):
    super().__init__()
    self.floats: dict[Node, Tensor] = {}
    self.code_tensors: dict[Node, Tensor] = {}
    self.users = _users(outputs)
    self.readers = collections.Counter(
      {node: len(users) for node, users in self.users.items()}
    )
    self.outputs = set(outputs)

  # Values as floats.

  def float(self, node: Node) -> Tensor:
    """The node's value as a float tensor."""
    if node not in self.floats:
      self.floats[node] = self.make_float(node)
    return self.floats[node]

  def make_float(self, node: Node) -> Tensor:
    if node.op in ('conv', 'dense'):
      return self.layer(node, None)
    if node.op == 'constant':
      found = self.fused(node)
      if found is not None:
        return self.layer(*found)
      return self.constant_chain(node)
    if node.op in UNARY:
      x = self.float(node.inputs[0])
      if node.op == 'square':
        out = self.node('Mul', [x.name, x.name], _stem(node))
      else:
        out = self.node(_UNARY[node.op], [x.name], _stem(node))
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
    chain = [node]
    while (
      chain[-1].inputs[0].op == 'constant'
      and self.readers[chain[-1].inputs[0]] == 1
    ):
      chain.append(chain[-1].inputs[0])
    line = None if len(chain) < 3 else _line_of(chain[::-1])
    if line is None:
      x = self.float(node.inputs[0])
      value = self.operand(node['value'], x)
      names = [value, x.name] if node['swapped'] else [x.name, value]
      out = self.node(_PAIRS[node['kind']], names, _stem(node))
      return self.like(x, out, node)
    x = self.float(chain[-1].inputs[0])
    out = x.name
    for op, value in (('Mul', line[0]), ('Add', line[1])):
      value = self.operand(value.astype(np.float32), x)
      out = self.node(op, [out, value], _stem(node))
    return self.like(x, out, node)

  def float_prelu(self, node: Node) -> Tensor:
    x, slope = self.float(node.inputs[0]), node['slope']
    stem = _stem(node)
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
      right = self.to_layout(right, left.layout, _stem(node))
    out = self.node(_PAIRS[node['kind']], [left.name, right.name], _stem(node))
    return self.like(left, out, node)

  def float_quantize(self, node: Node) -> Tensor:
    codes, q = self.codes(node), node['q']
    zero = np.asarray(q.zero, np.uint8)
    out = self.dequantize(codes.name, q.scale, zero, _stem(node))
    return self.like(codes, out, node)

  def float_reshape(self, node: Node) -> Tensor:
    return self.reshaped(self.float(node.inputs[0]), node)

  def reshaped(self, x: Tensor, node: Node) -> Tensor:
    stem = _stem(node)
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
        x = self.to_layout(x, 'last', _stem(node))
        axes = list(node['axes'])
    elif x.layout == 'first row':
      x = self.to_layout(x, 'row', _stem(node))
    if len(node.shape) == 3:
      layout = 'last'
    given = self.constant(np.asarray(axes, np.int64), 'axes')
    out = self.node('ReduceSum', [x.name, given], _stem(node), keepdims=0)
    return Tensor(out, layout, node.shape)

  def pool(self, node: Node, op: str, **attributes) -> str:
    x = self.to_layout(self.float(node.inputs[0]), 'first', _stem(node))
    return self.node(
      op,
      [x.name],
      _stem(node),
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
    out = self.node('Mul', [mean, size], _stem(node))
    return Tensor(out, 'first', node.shape)

  # Layers.

  def fused(self, node: Node) -> tuple[Node, Line] | None:
    """The layer before a chain of constants that nothing else reads."""
    chain = [node]
    while chain[-1].inputs[0].op == 'constant':
      chain.append(chain[-1].inputs[0])
    root = chain[-1].inputs[0]
    if root.op not in ('conv', 'dense'):
      return None
    if any(self.readers[n] != 1 for n in [*chain[1:], root]):
      return None
    line = _line_of(chain[::-1], width=root.shape[-1])
    return None if line is None else (root, line)

  def layer(self, node: Node, line: Line | None) -> Tensor:
    """A convolution or dense layer and its line, with a float result."""
    weight, source = node['weight'], node.inputs[0]
    integer = source.op == 'quantize' and weight.scale is not None
    if node.op == 'dense':
      return self.dense(node, line)
    if integer and node['groups'] == 1 and node['dilations'] == (1, 1):
      return self.columns(node, line)
    if source.op == 'quantize':
      codes = self.to_layout(self.codes(source), 'first', _stem(node))
      zero = np.asarray(source['q'].zero, np.uint8)
      x = self.dequantize(codes.name, source['q'].scale, zero, _stem(node))
    else:
      x = self.to_layout(self.float(source), 'first', _stem(node)).name
    kernel = self.kernel(weight, line, (3, 2, 0, 1), _stem(node), axis=0)
    inputs = [x, kernel]
    if line is not None:
      inputs.append(self.constant(line.shift.astype(np.float32), 'bias'))
    return Tensor(self.conv(node, inputs), 'first', node.shape)

  def conv(self, node: Node, inputs: list[str]) -> str:
    return self.node(
      'Conv',
      inputs,
      _stem(node),
      kernel_shape=node['weight'].codes.shape[:2],
      strides=node['strides'],
      dilations=node['dilations'],
      pads=node['pads'],
      group=node['groups'],
    )

  def kernel(self, weight, line, perm, stem, *, axis) -> str:
    """The weights, int8 behind a DequantizeLinear where they are quantized."""
    codes, scale = weight.codes, weight.scale
    if scale is None:
      if line is not None:
        codes = (codes * line.gain).astype(np.float32)
      return self.constant(codes.transpose(perm), f'{stem}/kernel')
    if line is not None:
      scale = (scale * line.gain).astype(np.float32)
    stored = self.constant(codes.transpose(perm), f'{stem}/kernel')
    return self.dequantize(stored, scale, None, f'{stem}/kernel', axis=axis)

  def dense(self, node: Node, line: Line | None) -> Tensor:
    source, stem, order = node.inputs[0], _stem(node), None
    quantized = source.op == 'quantize'
    x = self.codes(source) if quantized else self.float(source)
    if x.layout == 'first row':
      height, width, channels = self.row_shape[x.name]
      order = np.arange(height * width * channels)
      order = order.reshape(height, width, channels).transpose(2, 0, 1)
      order = order.reshape(-1)
    layout = 'last' if len(node.shape) == 3 else 'row'
    weight = node['weight']
    if order is not None:
      weight = dataclasses.replace(weight, codes=weight.codes[order])
    if quantized and weight.scale is not None:
      name = x.name
      if len(node.shape) > 1:
        name = self.rows(name, [x.shape[-1]], stem)
      name = self.product(name, source['q'], weight, line, stem)
      if len(node.shape) > 1:
        name = self.rows(name, node.shape, stem)
      return Tensor(name, layout, node.shape)
    name = x.name
    if quantized:
      zero = np.asarray(source['q'].zero, np.uint8)
      name = self.dequantize(name, source['q'].scale, zero, stem)
    kernel = self.kernel(weight, line, (0, 1), stem, axis=1)
    out = self.node('MatMul', [name, kernel], stem)
    if line is not None and line.shift.any():
      shift = self.constant(line.shift.astype(np.float32), 'bias')
      out = self.node('Add', [out, shift], stem)
    return Tensor(out, layout, node.shape)

  def rows(self, name: str, shape, stem: str) -> str:
    """Reshapes all examples together, or apart again."""
    given = self.constant(np.asarray([-1, *shape], np.int64), 'shape')
    return self.node('Reshape', [name, given], stem)

  def product(self, name, q, weight, line, stem) -> str:
    """Codes [N, I] times an integer matrix and its line, as floats [N, O]."""
    width = weight.codes.shape[-1]
    if line is None:
      line = Line(np.ones(width), np.zeros(width))
    kernel = requantized.integer_kernel(
      weight.codes,
      weight.scale,
      line,
      input_scale=q.scale,
      output_scale=np.float32(0),
    )
    if kernel is None:
      raise InputError(
        f'{stem}: its bias is too large for an integer; the network seems not '
        'to be trained'
      )
    inputs = [
      self.dequantize(name, q.scale, np.asarray(q.zero, np.uint8), stem),
      *self.integers(kernel, q, (0, 1), stem, axis=1),
    ]
    return self.node('Gemm', inputs, stem)

  def integers(self, kernel, q, perm, stem, *, axis) -> list[str]:
    """An integer kernel and its bias, each behind a DequantizeLinear.

    The zero points are all 0, yet without them onnxruntime runs in floats.
    """
    scale, none = kernel.scale, np.zeros(kernel.scale.shape, np.int8)
    codes = self.constant(kernel.codes.transpose(perm), f'{stem}/kernel')
    bias = self.constant(kernel.bias, f'{stem}/bias')
    unit = np.float32(q.scale) * scale
    return [
      self.dequantize(codes, scale, none, f'{stem}/kernel', axis=axis),
      self.dequantize(
        bias, unit, none.astype(np.int32), f'{stem}/bias', axis=0
      ),
    ]

  def columns(self, node: Node, line: Line | None) -> Tensor:
    """A convolution with a float result, as an integer matrix product.

    onnxruntime's integer convolution gives codes only; its integer matrix
    product gives floats. The patches of a pixel are gathered as codes.
    """
    stem, source, q = _stem(node), node.inputs[0], node.inputs[0]['q']
    x = self.to_layout(self.codes(source), 'last', stem)
    height, width, channels = x.shape
    rows, columns, _ = node.shape
    kh, kw, _, _ = node['weight'].codes.shape
    top, left, bottom, right = node['pads']
    name = x.name
    if any(node['pads']):
      pads = np.asarray([0, top, left, 0, 0, bottom, right, 0], np.int64)
      zero = self.constant(np.asarray(q.zero, np.uint8), 'zero')
      name = self.node('Pad', [name, self.constant(pads, 'pads'), zero], stem)
    wide = width + left + right
    name = self.reshape(name, [(height + top + bottom) * wide, channels], stem)
    places = _places((rows, columns), (kh, kw), node['strides'], wide)
    if len(places) != height * width or (places[1:] <= places[:-1]).any():
      index = self.constant(places.astype(np.int32), 'patches')
      name = self.node('Gather', [name, index], stem, axis=1)
    name = self.rows(name, [kh * kw * channels], stem)
    name = self.product(name, q, _flat(node['weight']), line, stem)
    return Tensor(self.rows(name, node.shape, stem), 'last', node.shape)

  # Values as codes.

  def codes(self, node: Node) -> Tensor:
    """The uint8 codes of a `quantize` node."""
    if node not in self.code_tensors:
      self.code_tensors[node] = self.make_codes(node)
    return self.code_tensors[node]

  def make_codes(self, node: Node) -> Tensor:
    source, q, stem = node.inputs[0], node['q'], _stem(node)
    if source.op == 'reshape' and self.readers[source] == 1:
      # Codes are a quarter of the bytes to move.
      inner = Node(
        'quantize',
        source.inputs,
        source.inputs[0].shape,
        node.where,
        node.given,
      )
      self.readers[inner] = 1
      x = self.reshaped(self.codes(inner), source)
      return x
    found = self.integer_layer(node)
    if found is not None:
      return found
    x = self.float(source)
    out = self.clip(self.quantize(x.name, q, stem), q, stem)
    return self.like(x, out, node)

  def integer_layer(self, node: Node) -> Tensor | None:
    """Codes straight from an integer convolution, if they can be had."""
    found = self.bent(node)
    if found is None:
      return None
    root, lines, above = found
    if len(lines) > 1 and not _cheaper_twice(root):
      return None
    source, q, weight = root.inputs[0], node['q'], root['weight']
    how, lines, absent = requantized.extreme(lines, above)
    kernels = [
      requantized.integer_kernel(
        weight.codes,
        weight.scale,
        line,
        input_scale=source['q'].scale,
        output_scale=q.scale,
        absent=absent if how == 'both' and i == 2 else None,
      )
      for i, line in enumerate(lines)
    ]
    if any(kernel is None for kernel in kernels):
      return None
    stem = _stem(root)
    x = self.to_layout(self.codes(source), 'first', stem)
    parts, given = [], source['q']
    for kernel in kernels:
      inputs = [
        self.dequantize(
          x.name, given.scale, np.asarray(given.zero, np.uint8), stem
        ),
        *self.integers(kernel, given, (3, 2, 0, 1), stem, axis=0),
      ]
      parts.append(self.quantize(self.conv(root, inputs), q, stem))
    if how in ('max', 'min'):
      out = self.node('Max' if how == 'max' else 'Min', parts, stem)
    elif how == 'both':
      out = self.node('Min', parts[:2], stem)
      out = self.node('Max', [out, parts[2]], stem)
    else:
      (out,) = parts
    return Tensor(self.clip(out, q, stem), 'first', node.shape)

  def quantizers(self, node: Node) -> int:
    """How many quantizers a value goes to; 0 if it goes anywhere else."""
    count = 0
    for user in self.users[node]:
      if user is not None and user.op in ('constant', 'prelu', 'reshape'):
        found = self.quantizers(user)
      else:
        found = int(user is not None and user.op == 'quantize')
      if not found:
        return 0
      count += found
    return count

  def bent(self, node: Node):
    """The convolution before a quantizer, and the lines between the two."""
    chain, root = [], node.inputs[0]
    while root.op in ('constant', 'prelu'):
      chain.append(root)
      root = root.inputs[0]
    integer = (
      root.op == 'conv'
      and root.inputs[0].op == 'quantize'
      and root['weight'].scale is not None
    )
    if not integer or not 1 <= self.quantizers(root) <= 2:
      return None
    bends = [i for i, n in enumerate(chain) if n.op == 'prelu']
    if len(bends) > 1:
      return None
    width = root.shape[-1]
    if not bends:
      line = _line_of(chain[::-1], width=width)
      return None if line is None else (root, (line,), np.ones(width, bool))
    before = _line_of(chain[bends[0] + 1 :][::-1], width=width)
    after = _line_of(chain[: bends[0]][::-1], width=width)
    slope = _channels(chain[bends[0]]['slope'], width)
    if before is None or after is None or slope is None:
      return None
    lines = tuple(
      Line(line.gain * after.gain, line.shift * after.gain + after.shift)
      for line in requantized.bend(before, slope.astype(np.float64))
    )
    return root, lines, after.gain * (1 - slope) >= 0


def _cheaper_twice(root: Node) -> bool:
  """Whether a second integer convolution costs less than floats after one.

  In units of one multiply-accumulate, measured with onnxruntime 1.31 on a core
  with VNNI: bias, PReLU and quantizer in floats take 370 an element, a byte of
  a gathered patch 28.
  """
  kh, kw, channels, out_channels = root['weight'].codes.shape
  taps = kh * kw * channels
  gathered = taps if (kh, kw) != (1, 1) or root['strides'] != (1, 1) else 0
  return root['groups'] > 1 or taps <= 370 + 28 * gathered / out_channels


def _users(outputs: list[Node]) -> dict[Node, list[Node | None]]:
  """Which nodes read each node; None stands for the model's output."""
  users: dict[Node, list[Node | None]] = {node: [None] for node in outputs}
  stack = list(users)
  while stack:
    node = stack.pop()
    for source in node.inputs:
      if source not in users:
        users[source] = []
        stack.append(source)
      users[source].append(node)
  return users


def _line_of(chain: list[Node], *, width: int | None = None) -> Line | None:
  """The line of a chain of constants, in order; None if it is none."""
  gain, shift = np.float64(1), np.float64(0)
  for node in chain:
    kind, swapped = node['kind'], node['swapped']
    value = node['value'].astype(np.float64)
    if width is not None:
      value = _channels(value, width)
    if value is None or kind in ('max', 'min') or (kind == 'div' and swapped):
      return None
    if kind == 'add':
      shift = shift + value
    elif kind == 'sub' and swapped:
      gain, shift = -gain, value - shift
    elif kind == 'sub':
      shift = shift - value
    elif kind == 'mul':
      gain, shift = gain * value, shift * value
    else:
      gain, shift = gain / value, shift / value
  if width is not None:
    gain, shift = (np.broadcast_to(x, (width,)) for x in (gain, shift))
  return Line(gain, shift)


def _channels(value: np.ndarray, width: int) -> np.ndarray | None:
  """A constant as one number a channel, None if it varies otherwise."""
  if value.size == 1:
    return np.broadcast_to(value.reshape(()), (width,))
  if value.size == value.shape[-1] == width:
    return value.reshape(-1)
  return None


def _flat(weight):
  """A convolution's kernel as the matrix of its patches."""
  return type(weight)(
    weight.codes.reshape(-1, weight.codes.shape[-1]), weight.scale
  )


def _places(grid, window, strides, wide) -> np.ndarray:
  """Which pixels of the padded image each patch has, in order."""
  rows = np.arange(grid[0])[:, None, None, None] * strides[0]
  rows = rows + np.arange(window[0])[None, None, :, None]
  columns = np.arange(grid[1])[None, :, None, None] * strides[1]
  columns = columns + np.arange(window[1])[None, None, None, :]
  return (rows * wide + columns).reshape(-1)


def _stem(node: Node) -> str:
  _, _, name = node.where.partition("'")
  return name.rstrip("'") or node.op
