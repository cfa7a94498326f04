"""MobileFaceNet read from a TFLite file, with the `tflite` package and numpy.

The file is a float32 network with BatchNorm folded into biases. It writes PReLU
as relu(y) + c * (y - abs(y)), so that the slope is 2 c.
"""

import os
from collections.abc import Mapping

import numpy as np

from compress.errors import InputError
from compress.models.checked import read_file, variables_for
from compress.models.graph_walk import Node, Walk
from compress.models.mobilefacenet import MobileFaceNet

_RIGHT = (
  'the float32 MobileFaceNet.tflite (112 x 112 RGB, 192 features, 5.2 MB)'
)
_IDENTIFIER = slice(4, 8)
_DTYPES = {0: np.dtype('<f4'), 2: np.dtype('<i4')}
_PADDINGS = {0: 'SAME', 1: 'VALID'}
_CONV, _DEPTHWISE = 'CONV_2D', 'DEPTHWISE_CONV_2D'


def load_mobilefacenet(path: str | os.PathLike) -> tuple[MobileFaceNet, dict]:
  """Loads MobileFaceNet from a TFLite file.

  Args:
    path: the file, a float32 MobileFaceNet of any channel numbers with the
      layout of `mobilefacenet()`.

  Returns:
    The module in its folded form (`batch_norm=False`) and its variables.

  Raises:
    InputError: the file is missing, truncated, quantized or another network; or
      the `tflite` package is missing.
  """
  walk = _read(path)
  flat = {}
  tensor = _conv(walk, flat, walk.start(), 'stem/conv', size=3, stride=2)
  tensor = _prelu(walk, flat, tensor, 'stem/prelu')
  tensor = _conv(walk, flat, tensor, 'separable/depthwise', size=3)
  tensor = _prelu(walk, flat, tensor, 'separable/prelu')
  tensor = _conv(walk, flat, tensor, 'separable/pointwise', size=1)
  blocks = []
  while (stride := _next_block_stride(walk, tensor)) is not None:
    if stride == 2:
      blocks.append(-1)
    if not blocks or len(blocks) > 3:
      walk.fail(f'{tensor!r} does not begin one of three stages')
    blocks[-1] += 1
    name = f'stage{len(blocks)}/block{blocks[-1]}'
    tensor = _block(walk, flat, tensor, name, stride)
  if len(blocks) != 3:
    walk.fail(f'there are {len(blocks)} stages instead of 3')
  tensor = _conv(walk, flat, tensor, 'head/conv', size=1)
  tensor = _prelu(walk, flat, tensor, 'head/prelu')
  tensor = _conv(walk, flat, tensor, 'pool/depthwise', size=7, padding='VALID')
  tensor = _conv(walk, flat, tensor, 'pool/pointwise', size=1)
  tensor = _conv(walk, flat, tensor, 'fc', size=1)
  walk.end(walk.skip(tensor, 'RESHAPE', 'SQUEEZE'))
  flat['params/fc/kernel'] = flat['params/fc/kernel'][0, 0]
  module = _module(flat, blocks)
  return module, variables_for(module, flat, path=path, right=_RIGHT)


def _module(flat, blocks):
  """Returns the network whose channel numbers are those of the arrays."""

  def channels(name):
    return flat[f'params/{name}/bias'].size

  stages = range(1, len(blocks) + 1)
  return MobileFaceNet(
    features=channels('fc'),
    stem=channels('stem/conv'),
    widths=tuple(channels(f'stage{i}/block0/project') for i in stages),
    expansions=tuple(
      tuple(channels(f'stage{i}/block{j}/expand') for j in (0, min(n, 1)))
      for i, n in zip(stages, blocks, strict=True)
    ),
    blocks=tuple(blocks),
    head=channels('head/conv'),
    batch_norm=False,
  )


def _next_block_stride(walk, tensor):
  """Returns the stride of the block that `tensor` enters, None at the head."""
  node = walk.step(tensor, _CONV)
  depthwise = walk.step(_prelu(walk, {}, node.outputs[0], 'peek'), _DEPTHWISE)
  size = walk.shaped(depthwise, 1, [1, None, None, None]).shape[1]
  return depthwise.attributes['strides'][0] if size == 3 else None


def _block(walk, flat, tensor, name, stride):
  """Follows one inverted block; returns its output."""
  y = _conv(walk, flat, tensor, f'{name}/expand', size=1)
  y = _prelu(walk, flat, y, f'{name}/prelu1')
  y = _conv(walk, flat, y, f'{name}/depthwise', size=3, stride=stride)
  y = _prelu(walk, flat, y, f'{name}/prelu2')
  y = _conv(walk, flat, y, f'{name}/project', size=1)
  if stride != 1:
    return y
  total = walk.step(y, 'ADD')
  walk.expect(total, activation=0)
  if set(total.inputs) != {y, tensor}:
    walk.fail(f'{total.outputs[0]!r} does not add the two ends of {name}')
  return total.outputs[0]


def _conv(walk, flat, tensor, name, *, size, stride=1, padding='SAME'):
  """Follows a convolution with bias; 'depthwise' in the name says which."""
  depthwise = name.endswith('depthwise')
  node = walk.step(tensor, _DEPTHWISE if depthwise else _CONV)
  shape = [1 if depthwise else None, size, size, None]
  kernel = walk.shaped(node, 1, shape)
  # A 1x1 convolution is the same with either padding.
  padding = {} if size == 1 else {'padding': padding}
  walk.expect(
    node,
    strides=(stride, stride),
    dilations=(1, 1),
    multiplier=1,
    activation=0,
    **padding,
  )
  order = (1, 2, 0, 3) if depthwise else (1, 2, 3, 0)
  kernel = kernel.transpose(order)
  flat[f'params/{name}/kernel'] = kernel
  flat[f'params/{name}/bias'] = walk.shaped(node, 2, [kernel.shape[3]])
  return node.outputs[0]


def _prelu(walk, flat, tensor, name):
  """Follows PReLU, one op or relu(y) + c * (y - abs(y))."""
  if node := walk.find(tensor, 'PRELU'):
    slope, end = walk.constant(node, 1), node
  else:
    positive = walk.step(tensor, 'RELU').outputs[0]
    magnitude = walk.step(tensor, 'ABS').outputs[0]
    difference = walk.step(tensor, 'SUB')
    if difference.inputs != (tensor, magnitude):
      walk.fail(f'{difference.outputs[0]!r} is not y - abs(y)')
    product = walk.step(difference.outputs[0], 'MUL')
    index = 1 if product.inputs[0] == difference.outputs[0] else 0
    slope = 2 * walk.shaped(product, index, [None])
    end = walk.step(product.outputs[0], 'ADD')
    if set(end.inputs) != {positive, product.outputs[0]}:
      walk.fail(f'{end.outputs[0]!r} is not relu(y) + c * (y - abs(y))')
  flat[f'params/{name}/slope'] = np.asarray(slope, np.float32).reshape(-1)
  return end.outputs[0]


def _read(path: str | os.PathLike) -> Walk:
  """Parses a TFLite file into nodes and constants."""
  try:
    import tflite
  except ImportError as error:
    raise InputError(
      f"{path}: reading TFLite needs tflite: pip install -e '.[faces]'"
    ) from error
  data = read_file(path, right=_RIGHT)
  if data[_IDENTIFIER] != b'TFL3':
    raise InputError(f'{path}: not a TFLite file; right is {_RIGHT}')
  try:
    nodes, inputs, constants = _parse(tflite, data)
  except Exception as error:  # hostile offsets can raise anything
    raise InputError(
      f'{path}: a truncated or damaged TFLite file; right is {_RIGHT}'
    ) from error
  return Walk(
    str(path), nodes, right=_RIGHT, inputs=inputs, constants=constants
  )


def _parse(tflite, data):
  """Returns nodes, input names and constants of the first subgraph."""
  model = tflite.Model.GetRootAs(data, 0)
  graph = model.Subgraphs(0)
  if max(graph.TensorsLength(), graph.OperatorsLength()) * 4 > len(data):
    raise ValueError('longer lists than the file')
  ops = {
    code: name
    for name, code in vars(tflite.BuiltinOperator).items()
    if not name.startswith('_')
  }
  names, constants = [], {}
  for i in range(graph.TensorsLength()):
    tensor = graph.Tensors(i)
    names.append(f'{tensor.Name().decode()}:{i}')
    buffer = model.Buffers(tensor.Buffer())
    if buffer.DataLength() and tensor.Type() in _DTYPES:
      array = buffer.DataAsNumpy().view(_DTYPES[tensor.Type()])
      constants[names[i]] = array.reshape(_integers(tensor.ShapeAsNumpy()))
  nodes = []
  for i in range(graph.OperatorsLength()):
    op = graph.Operators(i)
    code = model.OperatorCodes(op.OpcodeIndex())
    nodes.append(
      Node(
        ops[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())],
        tuple(names[k] for k in _integers(op.InputsAsNumpy()) if k >= 0),
        tuple(names[k] for k in _integers(op.OutputsAsNumpy())),
        _attributes(tflite, op),
      )
    )
  inputs = [names[k] for k in _integers(graph.InputsAsNumpy())]
  return nodes, inputs, constants


def _integers(vector) -> list[int]:
  """Returns a flatbuffer's vector as a list; an absent one reads as 0."""
  return [] if isinstance(vector, int) else vector.tolist()


def _attributes(tflite, op) -> Mapping[str, object]:
  """Returns the options of a convolution or an addition."""
  kinds = {
    tflite.BuiltinOptions.Conv2DOptions: tflite.Conv2DOptions,
    tflite.BuiltinOptions.DepthwiseConv2DOptions: tflite.DepthwiseConv2DOptions,
    tflite.BuiltinOptions.AddOptions: tflite.AddOptions,
  }
  kind = kinds.get(op.BuiltinOptionsType())
  if kind is None:
    return {}
  options, table = kind(), op.BuiltinOptions()
  options.Init(table.Bytes, table.Pos)
  attributes = {'activation': options.FusedActivationFunction()}
  if kind is not tflite.AddOptions:
    attributes |= {
      'padding': _PADDINGS[options.Padding()],
      'strides': (options.StrideH(), options.StrideW()),
      'dilations': (options.DilationHFactor(), options.DilationWFactor()),
    }
  if kind is tflite.DepthwiseConv2DOptions:
    attributes['multiplier'] = options.DepthMultiplier()
  return attributes
