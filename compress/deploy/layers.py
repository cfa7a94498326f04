"""Layers and quantizers of an ONNX graph that is being written."""

import dataclasses

import numpy as np

from compress.deploy.builder import Builder, Tensor
from compress.deploy.chains import stem_of
from compress.deploy.nodes import Node
from compress.deploy.plan import Plan, float_kernel, is_product
from compress.deploy.requantized import Line


class LayerWriter(Builder):
  """Writes convolutions, dense layers and quantizers, each once.

  Values as floats are written by `float`, the subclass's.
  """

  def __init__(self, outputs: list[Node]):
    super().__init__()
    self.plan = Plan(outputs)
    self.floats: dict[Node, Tensor] = {}
    self.code_tensors: dict[Node, Tensor] = {}

  def layer(self, node: Node, line: Line | None) -> Tensor:
    """A convolution or dense layer and its line, with a float result."""
    weight, source = node['weight'], node.inputs[0]
    if node.op == 'dense':
      return self.dense(node, line)
    if is_product(node):
      return self.columns(node, line)
    if source.op == 'quantize':
      codes = self.to_layout(self.codes(source), 'first', stem_of(node))
      zero = np.asarray(source['q'].zero, np.uint8)
      x = self.dequantize(codes.name, source['q'].scale, zero, stem_of(node))
    else:
      x = self.to_layout(self.float(source), 'first', stem_of(node)).name
    kernel = self.kernel(weight, line, (3, 2, 0, 1), stem_of(node), axis=0)
    inputs = [x, kernel]
    if line is not None:
      inputs.append(self.constant(line.shift.astype(np.float32), 'bias'))
    return Tensor(self.conv(node, inputs), 'first', node.shape)

  def conv(self, node: Node, inputs: list[str]) -> str:
    """A node's Conv, channels first."""
    return self.node(
      'Conv',
      inputs,
      stem_of(node),
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
    """A matrix product and its line, with a float result."""
    source, stem, order = node.inputs[0], stem_of(node), None
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
    kernel = float_kernel(weight, line, q, stem)
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
    stem, source, q = stem_of(node), node.inputs[0], node.inputs[0]['q']
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
    """Writes the codes."""
    source, q, stem = node.inputs[0], node['q'], stem_of(node)
    inner = self.plan.before_reshape(node)
    if inner is not None:
      return self.reshaped(self.codes(inner), source)
    found = self.integer_layer(node)
    if found is not None:
      return found
    x = self.float(source)
    out = self.clip(self.quantize(x.name, q, stem), q, stem)
    return self.like(x, out, node)

  def integer_layer(self, node: Node) -> Tensor | None:
    """Codes straight from an integer convolution, if they can be had."""
    found = self.plan.requantized(node)
    if found is None:
      return None
    (root, how, kernels), q = found, node['q']
    source = root.inputs[0]
    stem = stem_of(root)
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
