"""ONNX files as nodes and constants, parsed with the `onnx` package, never run.

Initializers, and what is computed from them alone (dequantization in blocks,
reshapes), become numpy arrays; the rest is left to be walked.
"""

import os
import pathlib
from collections.abc import Callable, Mapping

import numpy as np

from compress.errors import InputError
from compress.models.checked import read_file
from compress.models.graph_walk import Node, Walk


def read_onnx(path: str | os.PathLike, *, right: str) -> Walk:
  """Parses an ONNX file.

  Args:
    path: the file.
    right: what the file should be, for messages.

  Returns:
    Its nodes and constants, ready to be walked.

  Raises:
    InputError: no ONNX file, a truncated one, or the `onnx` package is missing.
  """
  try:
    import onnx
    from google.protobuf.message import DecodeError
  except ImportError as error:
    raise InputError(
      f"{path}: reading ONNX needs onnx: pip install -e '.[faces]'"
    ) from error
  data = read_file(path, right=right)
  try:
    model = onnx.load_model_from_string(data)
    onnx.external_data_helper.load_external_data_for_model(
      model, str(pathlib.Path(path).parent)
    )
    constants = {
      _text(tensor.name): onnx.numpy_helper.to_array(tensor)
      for tensor in model.graph.initializer
    }
    nodes = [
      Node(
        _text(node.op_type),
        tuple(map(_text, node.input)),
        tuple(map(_text, node.output)),
        {_text(a.name): _attribute(onnx, a) for a in node.attribute},
      )
      for node in model.graph.node
    ]
    nodes = _fold(nodes, constants)
  except (
    DecodeError,
    onnx.checker.ValidationError,
    OSError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
  ) as error:
    raise InputError(
      f'{path}: not an ONNX file, or a truncated one; right is {right}'
    ) from error
  if not nodes:
    raise InputError(f'{path}: there is no graph in it; right is {right}')
  # The int8 SFace file also lists its weights as inputs, which nothing reads.
  read = {name for node in nodes for name in node.inputs} - constants.keys()
  names = [_text(value.name) for value in model.graph.input]
  inputs = [name for name in names if name in read]
  return Walk(str(path), nodes, right=right, inputs=inputs, constants=constants)


def _text(value: str | bytes) -> str:
  """Returns text; protobuf gives bytes where a file's text is no UTF-8."""
  if isinstance(value, bytes):
    return value.decode('utf-8', 'replace')
  return value


def _attribute(onnx, proto):
  value = onnx.helper.get_attribute_value(proto)
  if isinstance(value, bytes):
    return _text(value)
  if isinstance(value, onnx.TensorProto):
    return onnx.numpy_helper.to_array(value)
  return value


def _fold(nodes: list[Node], constants: dict[str, np.ndarray]) -> list[Node]:
  """Adds what follows from constants alone; returns the other nodes."""
  left = []
  for node in nodes:
    fold = _FOLDS.get(node.op)
    # Of CastLike's second operand only the type counts, and all end as float32.
    sources = node.inputs[:1] if node.op == 'CastLike' else node.inputs
    if fold is None or not all(name in constants for name in sources if name):
      left.append(node)
      continue
    operands = [constants[name] for name in sources if name]
    constants[node.outputs[0]] = fold(node.attributes, *operands)
  return left


def _dequantize(attributes, codes, scale, zero_point=None):
  """ONNX DequantizeLinear: per tensor, per axis, or in blocks of an axis."""
  axis = attributes.get('axis', 1)
  block = attributes.get('block_size', 0)
  zero_point = np.zeros_like(scale) if zero_point is None else zero_point

  def spread(x):
    if block:
      return np.repeat(x, block, axis).take(range(codes.shape[axis]), axis)
    if x.ndim == 1 and codes.ndim > 1 and x.size > 1:
      return x.reshape([-1 if i == axis else 1 for i in range(codes.ndim)])
    return x

  shift = spread(zero_point).astype(np.int32)
  return (codes.astype(np.int32) - shift).astype(scale.dtype) * spread(scale)


def _reshape(attributes, x, shape):
  del attributes
  copied = [x.shape[i] if n == 0 else n for i, n in enumerate(shape.tolist())]
  return x.reshape(copied)


def _expand(attributes, x, shape):
  del attributes
  return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(shape)))


def _shape(attributes, x):
  span = slice(attributes.get('start', 0), attributes.get('end'))
  return np.asarray(x.shape[span], np.int64)


def _unsqueeze(attributes, x, axes=None):
  axes = attributes['axes'] if axes is None else axes.tolist()
  return np.expand_dims(x, tuple(axes))


_FOLDS: Mapping[str, Callable[..., np.ndarray]] = {
  'Constant': lambda attributes: np.asarray(next(iter(attributes.values()))),
  'CastLike': lambda attributes, x: x,
  'Concat': lambda attributes, *xs: np.concatenate(xs, attributes['axis']),
  'DequantizeLinear': _dequantize,
  'Expand': _expand,
  'Identity': lambda attributes, x: x,
  'Reshape': _reshape,
  'Shape': _shape,
  'Transpose': lambda attributes, x: x.transpose(attributes.get('perm')),
  'Unsqueeze': _unsqueeze,
}
