"""TFLite files in the layout of MobileFaceNet, written with flatbuffers."""

import flatbuffers
import numpy as np
import tflite

_OPS = {
  name: getattr(tflite.BuiltinOperator, name)
  for name in (
    ('CONV_2D', 'DEPTHWISE_CONV_2D', 'RELU', 'ABS', 'SUB', 'MUL', 'ADD')
    + ('RESHAPE',)
  )
}


class _Writer:
  """Collects tensors and operators, then lays out the flatbuffer."""

  def __init__(self, params):
    self.params = params
    self.tensors = []
    self.operators = []

  def tensor(self, shape, array=None):
    self.tensors.append((tuple(map(int, shape)), array))
    return len(self.tensors) - 1

  def constant(self, array):
    return self.tensor(np.shape(array), np.ascontiguousarray(array))

  def shape(self, tensor):
    return self.tensors[tensor][0]

  def op(self, kind, inputs, shape, **options):
    output = self.tensor(shape)
    self.operators.append((kind, inputs, output, options))
    return output

  def layer(self, path):
    node = self.params
    for part in path.split('/'):
      node = node[part]
    return node

  def conv(self, x, path, *, stride=1, valid=False):
    layer = self.layer(path)
    kernel, bias = (np.asarray(layer[k]) for k in ('kernel', 'bias'))
    if kernel.ndim == 2:
      kernel = kernel[None, None]
    depthwise = path.endswith('depthwise')
    order = (2, 0, 1, 3) if depthwise else (3, 0, 1, 2)
    n, rows, columns, _ = self.shape(x)
    grid = (1, 1) if valid else (-(-rows // stride), -(-columns // stride))
    return self.op(
      'DEPTHWISE_CONV_2D' if depthwise else 'CONV_2D',
      [x, self.constant(kernel.transpose(order)), self.constant(bias)],
      (n, *grid, kernel.shape[3]),
      stride=stride,
      padding=int(valid),
    )

  def prelu(self, x, path):
    slope = np.asarray(self.layer(path)['slope'])
    shape = self.shape(x)
    relu, magnitude = self.op('RELU', [x], shape), self.op('ABS', [x], shape)
    difference = self.op('SUB', [x, magnitude], shape, activation=True)
    half = self.constant(slope / 2)
    product = self.op('MUL', [half, difference], shape, activation=True)
    return self.op('ADD', [relu, product], shape, activation=True)

  def block(self, x, path, stride):
    y = self.prelu(self.conv(x, f'{path}/expand'), f'{path}/prelu1')
    y = self.conv(y, f'{path}/depthwise', stride=stride)
    y = self.conv(self.prelu(y, f'{path}/prelu2'), f'{path}/project')
    if stride == 2:
      return y
    return self.op('ADD', [y, x], self.shape(y), activation=True)

  def finish(self, x, y):
    """Returns the file of the graph from tensor `x` to tensor `y`."""
    b = flatbuffers.Builder(1 << 16)
    buffers = [self._buffer(b, None)]
    tensors = []
    for i, (shape, array) in enumerate(self.tensors):
      if array is not None:
        buffers.append(self._buffer(b, array))
      index = 0 if array is None else len(buffers) - 1
      tensors.append(self._tensor(b, i, shape, array, index))
    kinds = list(_OPS)
    operators = [self._operator(b, kinds, *op) for op in self.operators]
    codes = []
    for kind in kinds:
      tflite.OperatorCodeStart(b)
      tflite.OperatorCodeAddDeprecatedBuiltinCode(b, _OPS[kind])
      tflite.OperatorCodeAddBuiltinCode(b, _OPS[kind])
      tflite.OperatorCodeAddVersion(b, 1)
      codes.append(tflite.OperatorCodeEnd(b))
    fields = {
      'Tensors': _offsets(b, tensors),
      'Operators': _offsets(b, operators),
      'Inputs': b.CreateNumpyVector(np.array([x], np.int32)),
      'Outputs': b.CreateNumpyVector(np.array([y], np.int32)),
    }
    tflite.SubGraphStart(b)
    for name, offset in fields.items():
      getattr(tflite, f'SubGraphAdd{name}')(b, offset)
    graph = _offsets(b, [tflite.SubGraphEnd(b)])
    codes, buffers = _offsets(b, codes), _offsets(b, buffers)
    tflite.ModelStart(b)
    tflite.ModelAddVersion(b, 3)
    tflite.ModelAddOperatorCodes(b, codes)
    tflite.ModelAddSubgraphs(b, graph)
    tflite.ModelAddBuffers(b, buffers)
    b.Finish(tflite.ModelEnd(b), b'TFL3')
    return bytes(b.Output())

  def _buffer(self, b, array):
    data = None
    if array is not None:
      b.StartVector(1, array.nbytes, 16)
      b.head -= array.nbytes
      b.Bytes[b.head : b.head + array.nbytes] = array.tobytes()
      data = b.EndVector()
    tflite.BufferStart(b)
    if data is not None:
      tflite.BufferAddData(b, data)
    return tflite.BufferEnd(b)

  def _tensor(self, b, i, shape, array, buffer):
    integer = array is not None and array.dtype == np.int32
    name = b.CreateString(f'tensor{i}')
    shape = b.CreateNumpyVector(np.array(shape, np.int32))
    tflite.TensorStart(b)
    tflite.TensorAddShape(b, shape)
    tflite.TensorAddType(b, 2 if integer else 0)
    tflite.TensorAddBuffer(b, buffer)
    tflite.TensorAddName(b, name)
    return tflite.TensorEnd(b)

  def _operator(self, b, kinds, kind, inputs, output, options):
    built = None
    titles = {
      'CONV_2D': 'Conv2DOptions',
      'DEPTHWISE_CONV_2D': 'DepthwiseConv2DOptions',
    }
    title = titles.get(kind)
    if title is None and 'activation' in options:
      title = f'{kind.title()}Options'
    if title is not None:
      getattr(tflite, f'{title}Start')(b)
      if 'stride' in options:
        getattr(tflite, f'{title}AddPadding')(b, options['padding'])
        getattr(tflite, f'{title}AddStrideH')(b, options['stride'])
        getattr(tflite, f'{title}AddStrideW')(b, options['stride'])
        getattr(tflite, f'{title}AddDilationHFactor')(b, 1)
        getattr(tflite, f'{title}AddDilationWFactor')(b, 1)
      if kind == 'DEPTHWISE_CONV_2D':
        tflite.DepthwiseConv2DOptionsAddDepthMultiplier(b, 1)
      built = getattr(tflite, f'{title}End')(b)
    inputs = b.CreateNumpyVector(np.array(inputs, np.int32))
    outputs = b.CreateNumpyVector(np.array([output], np.int32))
    tflite.OperatorStart(b)
    tflite.OperatorAddOpcodeIndex(b, kinds.index(kind))
    tflite.OperatorAddInputs(b, inputs)
    tflite.OperatorAddOutputs(b, outputs)
    if built is not None:
      kinds_of_options = vars(tflite.BuiltinOptions)
      tflite.OperatorAddBuiltinOptionsType(b, kinds_of_options[title])
      tflite.OperatorAddBuiltinOptions(b, built)
    return tflite.OperatorEnd(b)


def _offsets(b, offsets):
  b.StartVector(4, len(offsets), 4)
  for offset in reversed(offsets):
    b.PrependUOffsetTRelative(offset)
  return b.EndVector()


def mobilefacenet_file(module, params):
  """Returns the TFLite file of a folded MobileFaceNet and its parameters."""
  writer = _Writer(params)
  image = writer.tensor((1, 112, 112, 3))
  x = writer.prelu(writer.conv(image, 'stem/conv', stride=2), 'stem/prelu')
  x = writer.prelu(writer.conv(x, 'separable/depthwise'), 'separable/prelu')
  x = writer.conv(x, 'separable/pointwise')
  for stage, blocks in enumerate(module.blocks, start=1):
    for block in range(blocks + 1):
      stride = 2 if block == 0 else 1
      x = writer.block(x, f'stage{stage}/block{block}', stride)
  x = writer.prelu(writer.conv(x, 'head/conv'), 'head/prelu')
  x = writer.conv(x, 'pool/depthwise', valid=True)
  x = writer.conv(writer.conv(x, 'pool/pointwise'), 'fc')
  flat = (1, module.features)
  shape = writer.constant(np.array(flat, np.int32))
  return writer.finish(image, writer.op('RESHAPE', [x, shape], flat))
