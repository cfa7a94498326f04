"""Integers for weights alone: int8 or int4, a scale for each small group.

Activations stay float, so nothing is calibrated; the file and the memory of
the weights shrink, the arithmetic does not. In JAX the packed tree goes
straight to `to_stablehlo`. In ONNX the integers are initializers behind a
DequantizeLinear that has a scale for each block (opset 21); onnxruntime runs
such a matrix product with 4-bit integers as one `MatMulNBits`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from compress import graph as graph_lib
from compress import packed as packed_lib
from compress import quantize
from compress.deploy.builder import onnx_module
from compress.deploy.onnx_export import to_onnx
from compress.errors import InputError
from compress.packed import Dense, Quantized

_OPSET = 21
_IR_VERSION = 10


def quantize_weights_only(
  variables, *, bits: int, group_size: int = 32, kernels: str = '(.*/)?kernel'
):
  """Kernels in few bits, a scale for `group_size` inputs of each channel.

  Args:
    variables: `{'params': ..., ...}`, nested dicts of arrays.
    bits: 8 or 4.
    group_size: consecutive weights that share a scale; onnxruntime's fast
      product wants a power of two, 16 or more.
    kernels: pattern of the paths below `params`.

  Returns:
    The same tree, packed.

  Raises:
    InputError: other bits, a bad group size, or no such leaf.
  """
  if bits not in (4, 8):
    raise InputError(f'weights alone are stored in 4 or 8 bits, not {bits}')
  spec = quantize.AffineSpec(
    bits=bits, granularity='group', group_size=group_size, bounds='narrow'
  )
  weights = quantize.quantize_weights([(kernels, spec)])
  params = variables['params']
  state = jax.jit(weights.init)(params)
  others = {k: v for k, v in variables.items() if k != 'params'}
  return {
    **jax.tree.map(Dense, others),
    'params': weights.pack(params, state),
  }


class WeightOnly(NamedTuple):
  """An ONNX model whose weights are integers.

  Attributes:
    model: the `onnx.ModelProto`.
    floats: paths of quantized tensors that had to stay float in it.
  """

  model: Any
  floats: tuple[str, ...]


def to_onnx_weight_only(
  apply: Callable[..., Any], variables, *inputs, name: str = 'network'
) -> WeightOnly:
  """Exports a model with integer weights and float activations.

  The codes and scales of the file are those of the packed tree.

  Args:
    apply: pure function `apply(variables, *inputs)`.
    variables: nested dict of arrays or packed tensors.
    *inputs: arrays or `jax.ShapeDtypeStruct`s `[B, ...]`; B is free.
    name: of the graph.

  Returns:
    The model, and what stayed float.

  Raises:
    InputError: as for `to_onnx`.
  """
  is_packed = packed_lib.is_packed
  plain = jax.tree.map(
    lambda x: packed_lib.unpack(x) if is_packed(x) else x,
    variables,
    is_leaf=is_packed,
  )
  model = to_onnx(apply, plain, *inputs, name=name)
  writer = _Pass(model)
  for path, leaf in jax.tree_util.tree_leaves_with_path(
    variables, is_leaf=is_packed
  ):
    ready = isinstance(leaf, Quantized) and leaf.bits <= 8
    if ready and leaf.zero_point is None and leaf.codes.ndim in (2, 4):
      writer.replace(graph_lib.path_string(path), leaf)
  return writer.finish()


class _Pass:
  """Replaces float initializers of a model by integers and scales."""

  def __init__(self, model):
    self.onnx = onnx_module()
    self.model = model
    self.arrays = {
      t.name: self.onnx.numpy_helper.to_array(t)
      for t in model.graph.initializer
    }
    inferred = self.onnx.shape_inference.infer_shapes(model).graph
    self.shapes = {
      v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
      for v in [*inferred.value_info, *inferred.input]
    }
    self.makers = {out: n for n in model.graph.node for out in n.output}
    self.readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
      for i, given in enumerate(node.input):
        self.readers.setdefault(given, []).append((node, i))
    self.ahead: dict[str, list[Any]] = {}
    self.added: list[Any] = []
    self.gone: set[str] = set()
    self.floats: list[str] = []

  def replace(self, path: str, leaf: Quantized) -> None:
    """One packed tensor's initializer, wherever it is read."""
    found = self.find(leaf)
    if found is None:
      self.floats.append(path)
      return
    given, gain, rows = found
    codes, scale, axis, block = _blocks(leaf, gain)
    stem = path.removeprefix('params/')
    kind = 'INT4' if leaf.bits <= 4 else 'INT8'
    self.add(f'{stem}/codes', codes, kind)
    self.add(f'{stem}/scale', scale.astype(np.float32), 'FLOAT')
    attributes = {'axis': axis}
    if block is not None:
      attributes['block_size'] = block
    node = self.onnx.helper.make_node(
      'DequantizeLinear',
      [f'{stem}/codes', f'{stem}/scale'],
      [f'{stem}/values'],
      name=f'{stem}/DequantizeLinear',
      **attributes,
    )
    ahead = [node]
    value = f'{stem}/values'
    if codes.ndim == 2 and leaf.codes.ndim == 4:
      ahead, value = self.unfold(ahead, value, leaf.codes.shape, stem)
    readers = self.readers[given]
    self.ahead.setdefault(readers[0][0].name, []).extend(ahead)
    for reader, i in readers:
      reader.input[i] = value
      if rows == 'last':
        self.channels_last(reader, stem)
    self.gone.add(given)

  def find(self, leaf: Quantized):
    """The initializer of a tensor, its gain a channel, and its rows' order."""
    value = np.asarray(packed_lib.unpack(leaf), np.float32)
    wanted = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value
    axis = 0 if value.ndim == 4 else 1
    for name, array in self.arrays.items():
      if name in self.gone or array.shape != wanted.shape:
        continue
      if array.dtype != np.float32 or name not in self.readers:
        continue
      gain = _gain(array, wanted, axis)
      if gain is not None:
        return name, gain, 'first'
      shape = self.flattened(name)
      if value.ndim != 2 or shape is None:
        continue
      channels, height, width = shape
      turned = value.reshape(height, width, channels, -1)
      turned = turned.transpose(2, 0, 1, 3).reshape(value.shape)
      gain = _gain(array, turned, axis)
      if gain is not None:
        return name, gain, 'last'
    return None

  def flattened(self, name: str):
    """The [C, H, W] that a matrix's input was flattened from."""
    for node, _ in self.readers[name]:
      maker = self.makers.get(node.input[0])
      if node.op_type not in ('MatMul', 'Gemm') or maker is None:
        return None
      if maker.op_type != 'Flatten':
        return None
      shape = self.shapes.get(maker.input[0], [])
      if len(shape) != 4 or not all(shape[1:]):
        return None
      return shape[1:]
    return None

  def channels_last(self, reader, stem: str) -> None:
    """Turns what a matrix reads, which is less than the matrix."""
    flatten = self.makers[reader.input[0]]
    turned, rows = f'{stem}/channels_last', f'{stem}/rows'
    helper = self.onnx.helper
    self.ahead.setdefault(reader.name, []).extend(
      [
        helper.make_node(
          'Transpose',
          [flatten.input[0]],
          [turned],
          name=turned,
          perm=[0, 2, 3, 1],
        ),
        helper.make_node('Flatten', [turned], [rows], name=rows),
      ]
    )
    reader.input[0] = rows

  def unfold(self, ahead, value: str, shape, stem: str):
    """A matrix `[KH KW I, O]` as the kernel `[O, I, KH, KW]`."""
    helper = self.onnx.helper
    self.add(f'{stem}/shape', np.asarray(shape, np.int64), 'INT64')
    split, kernel = f'{stem}/split', f'{stem}/turned'
    return [
      *ahead,
      helper.make_node(
        'Reshape', [value, f'{stem}/shape'], [split], name=split
      ),
      helper.make_node(
        'Transpose', [split], [kernel], name=kernel, perm=[3, 2, 0, 1]
      ),
    ], kernel

  def add(self, name: str, array: np.ndarray, kind: str) -> None:
    """An initializer; int4 is stored two to a byte."""
    proto = self.onnx.TensorProto
    code = getattr(proto, kind)
    if kind != 'INT4':
      tensor = self.onnx.numpy_helper.from_array(array, name)
    else:
      low = (array.reshape(-1) & 15).astype(np.uint8)
      low = np.pad(low, (0, low.size % 2))
      data = (low[::2] | (low[1::2] << 4)).tobytes()
      tensor = self.onnx.helper.make_tensor(
        name, code, array.shape, data, raw=True
      )
    self.added.append(tensor)

  def finish(self) -> WeightOnly:
    """The model, without what nothing reads any more."""
    graph = self.model.graph
    nodes = []
    for node in graph.node:
      nodes += [*self.ahead.get(node.name, ()), node]
    read = {given for node in nodes for given in node.input}
    read |= {out.name for out in graph.output}
    nodes = [n for n in nodes if any(out in read for out in n.output)]
    read = {given for node in nodes for given in node.input}
    kept = [*graph.initializer, *self.added]
    kept = [t for t in kept if t.name in read]
    helper = self.onnx.helper
    made = helper.make_model(
      helper.make_graph(
        nodes, graph.name, list(graph.input), list(graph.output), kept
      ),
      opset_imports=[helper.make_opsetid('', _OPSET)],
      producer_name=self.model.producer_name,
    )
    made.ir_version = _IR_VERSION
    self.onnx.checker.check_model(made)
    return WeightOnly(made, tuple(self.floats))


def _gain(array, wanted, axis) -> np.ndarray | None:
  """Factor of each channel between two arrays, if that is all between them."""
  rest = tuple(i for i in range(array.ndim) if i != axis)
  top = np.abs(wanted).max(rest)
  share = np.abs(array).max(rest) / np.where(top > 0, top, 1)
  shape = [-1 if i == axis else 1 for i in range(array.ndim)]
  # The sign of the largest entry tells that of the factor.
  sign = np.sign((array.astype(np.float64) * wanted).sum(rest))
  gain = np.where(top > 0, share * sign, 1.0)
  close = np.allclose(
    array, wanted * gain.reshape(shape), rtol=1e-5, atol=1e-7 * (1 + top.max())
  )
  return gain if close else None


def _blocks(leaf: Quantized, gain: np.ndarray):
  """Codes and scales as a DequantizeLinear has them, its axis and block."""
  codes = np.asarray(leaf.codes).astype(np.int8)
  scale = np.asarray(leaf.scale, np.float64)
  channels = codes.shape[-1]
  size = leaf.group_size
  if size is None or scale.shape[0] == 1:
    scale = np.broadcast_to(scale.reshape(-1), (channels,)) * gain
    if codes.ndim == 4:
      return codes.transpose(3, 2, 0, 1), scale, 0, None
    return codes, scale, 1, None
  scale = scale[:, 0, :] * gain
  if codes.ndim == 4 and codes.shape[2] % size == 0:
    kh, kw, inputs, _ = codes.shape
    scale = scale.reshape(kh, kw, inputs // size, channels)
    return codes.transpose(3, 2, 0, 1), scale.transpose(3, 2, 0, 1), 1, size
  return codes.reshape(-1, channels), scale, 0, size
