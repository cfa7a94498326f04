"""ONNX graphs as exporters write them, built with `onnx.helper`."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

EPSILON = 1e-5


class _Writer:
  """Collects nodes and initializers; every method returns its output's name."""

  def __init__(self, state, *, folded, constants):
    self.state = state
    self.folded = folded
    self.constants = constants
    self.nodes = []
    self.initializers = []

  def node(self, op, *inputs, **attributes):
    name = f'/{op}_{len(self.nodes)}'
    self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
    return name

  def array(self, name, array):
    tensor = numpy_helper.from_array(np.asarray(array, np.float32), name)
    if self.constants:
      return self.node('Constant', value=tensor)
    self.initializers.append(tensor)
    return name

  def norm_arrays(self, name):
    leaves = ('weight', 'bias', 'running_mean', 'running_var')
    return [self.state[f'{name}.{leaf}'] for leaf in leaves]

  def norm(self, x, name):
    names = [
      self.array(f'{name}.{i}', a) for i, a in enumerate(self.norm_arrays(name))
    ]
    return self.node('BatchNormalization', x, *names, epsilon=EPSILON)

  def conv_norm(self, x, conv, norm, stride=1):
    kernel = self.state[f'{conv}.weight']
    inputs = []
    if self.folded:
      scale, bias, mean, var = self.norm_arrays(norm)
      factor = scale / np.sqrt(var + EPSILON)
      kernel = kernel * factor[:, None, None, None]
      inputs = [self.array(f'{conv}.bias', bias - mean * factor)]
    around = kernel.shape[2] // 2
    x = self.node(
      'Conv',
      x,
      self.array(f'{conv}.weight', kernel),
      *inputs,
      dilations=[1, 1],
      group=1,
      kernel_shape=kernel.shape[2:],
      pads=[around] * 4,
      strides=[stride, stride],
    )
    return x if self.folded else self.norm(x, norm)

  def prelu(self, x, name):
    slope = self.state[f'{name}.weight'].reshape(-1, 1, 1)
    return self.node('PRelu', x, self.array(f'{name}.slope', slope))

  def block(self, x, name, project):
    y = self.norm(x, f'{name}.bn1')
    y = self.conv_norm(y, f'{name}.conv1', f'{name}.bn2')
    y = self.prelu(y, f'{name}.prelu')
    stride = 2 if project else 1
    y = self.conv_norm(y, f'{name}.conv2', f'{name}.bn3', stride)
    if project:
      x = self.conv_norm(
        x, f'{name}.downsample.0', f'{name}.downsample.1', stride
      )
    return self.node('Add', y, x)


def tiny_iresnet(
  state, *, folded=False, normalized=False, matmul=False, constants=False
):
  """Returns the ONNX model of an IResNet's state dict.

  `folded`: BatchNorm folded into the convolution before it; `normalized`: the
  graph takes raw pixels; `matmul`: the dense layer as MatMul and Add;
  `constants`: weights as Constant nodes instead of initializers.
  """
  writer = _Writer(state, folded=folded, constants=constants)
  x = 'input.1'
  if normalized:
    x = writer.node('Sub', x, writer.array('center', 127.5))
    x = writer.node('Mul', x, writer.array('factor', 1 / 127.5))
  x = writer.conv_norm(x, 'conv1', 'bn1')
  x = writer.prelu(x, 'prelu')
  for stage in range(1, 5):
    block = 0
    while f'layer{stage}.{block}.conv1.weight' in state:
      x = writer.block(x, f'layer{stage}.{block}', project=block == 0)
      block += 1
  x = writer.node('Flatten', writer.norm(x, 'bn2'), axis=1)
  weight, bias = state['fc.weight'], writer.array('fc.bias', state['fc.bias'])
  if matmul:
    x = writer.node('MatMul', x, writer.array('fc.weight', weight.T))
    x = writer.node('Add', x, bias)
  else:
    weight = writer.array('fc.weight', weight)
    x = writer.node('Gemm', x, weight, bias, transB=1)
  x = writer.norm(x, 'features')
  graph = helper.make_graph(
    writer.nodes,
    'iresnet',
    [helper.make_tensor_value_info('input.1', 1, [1, 3, 112, 112])],
    [helper.make_tensor_value_info(x, 1, None)],
    writer.initializers,
  )
  return helper.make_model(
    graph, ir_version=8, opset_imports=[helper.make_opsetid('', 17)]
  )


def float_sface(path):
  """Returns the packaged SFace with its int8 blocks written out as float32."""
  model = onnx.load(path)
  graph = model.graph
  arrays = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
  renamed, kept = {}, []
  for node in graph.node:
    if node.op_type == 'DequantizeLinear':
      codes, scale, zero = (arrays[name] for name in node.input)
      block = helper.get_node_attr_value(node, 'block_size')
      axis = helper.get_node_attr_value(node, 'axis')
      columns = np.arange(codes.shape[axis]) // block
      scale, zero = scale.take(columns, axis), zero.take(columns, axis)
      arrays[node.output[0]] = (codes - zero.astype(np.float32)) * scale
    elif node.op_type == 'Reshape':
      shape = arrays[node.input[1]]
      arrays[node.output[0]] = arrays[node.input[0]].reshape(shape)
    else:
      kept.append(node)
  for node in kept:
    for i, name in enumerate(node.input):
      short = name.removesuffix('_reshaped').removesuffix('_dequantized')
      if short != name:
        renamed[short] = arrays[name]
        node.input[i] = short
  stored = [
    t
    for t in graph.initializer
    if not t.name.endswith(('_quantized', '_scales', '_zero_point', '_shape'))
  ]
  for field, new in (('node', kept), ('initializer', stored)):
    graph.ClearField(field)
    getattr(graph, field).extend(new)
  for name, array in renamed.items():
    graph.initializer.append(numpy_helper.from_array(array, name))
  return model
