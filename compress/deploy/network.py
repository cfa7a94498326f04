"""A model as a small graph of layers, read from its jaxpr.

The graph knows convolutions, dense layers, channel-wise arithmetic, PReLU,
quantizers and sums, each node with the shape of one example, channels last.
Which node a JAX operation becomes depends on data flow alone.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from compress import graph as graph_lib
from compress import packed as packed_lib
from compress import quantize
from compress.deploy.nodes import UNARY, Node, Quantizer, Weight
from compress.deploy.strides import thin
from compress.errors import InputError
from compress.graph import Known, Step
from compress.packed import Quantized
from compress.quantize import AffineSpec, QParams

BATCH = 2
"""Examples in the traced batch: axis 0 of everything is the batch."""

_MARK = 'quantize:'
_SAME = frozenset({'copy', 'copy_p', 'stop_gradient', 'optimization_barrier'})
_ARITHMETIC = {
  'add': 'add',
  'add_any': 'add',
  'sub': 'sub',
  'mul': 'mul',
  'div': 'div',
  'max': 'max',
  'min': 'min',
}


def read_network(
  apply: Callable[..., Any],
  variables,
  *inputs,
  activations: Mapping[str, QParams] | None = None,
  specs: Mapping[str, AffineSpec] | None = None,
  placement: quantize.Placement = quantize.INPUTS,
) -> tuple[list[Node], list[Node]]:
  """Reads a model and its quantizers.

  Args:
    apply: pure function `apply(variables, *inputs)`.
    variables: nested dict of arrays or packed tensors.
    *inputs: arrays or `jax.ShapeDtypeStruct`s `[B, ...]`; B is free.
    activations: name to parameters of the quantized activations.
    specs: name to spec of the same.
    placement: that the names come from.

  Returns:
    The inputs' nodes, and those of the outputs.

  Raises:
    InputError: an operation that has no node, an activation without
      parameters, or an output that does not depend on the inputs.
  """
  activations, specs = activations or {}, specs or {}
  missing = sorted(set(specs) ^ set(activations))
  if missing:
    raise InputError(
      f'activation {missing[0]!r}: both a spec and parameters are needed'
    )
  is_packed = packed_lib.is_packed
  plain = jax.tree.map(
    lambda leaf: packed_lib.unpack(leaf) if is_packed(leaf) else leaf,
    variables,
    is_leaf=is_packed,
  )
  packed = dict(
    zip(
      graph_lib.leaf_paths(plain),
      jax.tree.leaves(variables, is_leaf=is_packed),
      strict=True,
    )
  )
  structs = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct((BATCH, *x.shape[1:]), x.dtype), inputs
  )
  met = set()

  def mark(name, x):
    if name not in specs:
      return x
    met.add(name)
    return checkpoint_name(x, _MARK + name)

  marked = graph_lib.rewrite(apply, quantize.activation_rule(mark, placement))
  nodes = [
    Node('input', (), tuple(x.shape[1:]), 'input')
    for x in jax.tree.leaves(structs)
  ]
  reader = _Reader(packed, activations, specs)
  out = graph_lib.interpret(
    marked, plain, *structs, symbols=nodes, visit=reader.visit
  )
  unmet = sorted(set(specs) - met)
  if unmet:
    raise InputError(f'the model has no activation {unmet[0]!r} to quantize')
  outputs = jax.tree.leaves(out, is_leaf=lambda x: isinstance(x, Known | Node))
  if any(isinstance(x, Known) for x in outputs):
    raise InputError('an output of the model does not depend on its inputs')
  return nodes, thin(outputs)


class _Reader:
  """Turns operations into nodes."""

  def __init__(self, packed, activations, specs):
    self.packed = packed
    self.activations = activations
    self.specs = specs

  def visit(self, step: Step, operands):
    name = step.name
    if name in _SAME or (
      name == 'convert_element_type'
      and step.out_dtypes[0] == np.dtype('float32')
    ):
      return [operands[0]]
    if any(shape[:1] != (BATCH,) for shape in step.out_shapes):
      raise InputError(f'{step.where}: its result does not keep the batch axis')
    method = getattr(self, f'visit_{name}', None)
    if name in _ARITHMETIC:
      method = self.arithmetic
    elif name in UNARY:
      method = self.unary
    if method is None:
      raise InputError(
        f'{step.where}: there is no ONNX form of this operation here'
      )
    return [method(step, *operands)]

  def node(self, step, op, *inputs, **given):
    return Node(op, inputs, step.out_shapes[0][1:], step.where, given)

  def unary(self, step, x):
    return self.node(step, step.name, x)

  def arithmetic(self, step, left, right):
    kind = _ARITHMETIC[step.name]
    if isinstance(left, Node) and isinstance(right, Node):
      return self.node(step, 'pair', left, right, kind=kind)
    swapped = isinstance(left, Known)
    known, x = (left, right) if swapped else (right, left)
    value = _per_example(known.value, step)
    _check_finite(value, step)
    if kind == 'max' and not value.any():
      return self.node(step, 'prelu', x, slope=np.zeros_like(value))
    return self.node(
      step,
      'constant',
      x,
      kind=kind,
      value=value,
      swapped=swapped,
    )

  def visit_name(self, step, x):
    name = step.params['name']
    if not name.startswith(_MARK):
      return x
    name = name.removeprefix(_MARK)
    return self.node(
      step, 'quantize', x, q=Quantizer.of(name, self.activations, self.specs)
    )

  def visit_conv_general_dilated(self, step, x, kernel):
    p = step.params
    fits = (
      isinstance(kernel, Known)
      and isinstance(x, Node)
      and graph_lib.is_image_convolution(p)
    )
    if not fits:
      raise InputError(
        f'{step.where}: only convolutions [B, H, W, C] with kernels '
        '[KH, KW, C, O] that are constant have an ONNX form here'
      )
    (top, bottom), (left, right) = p['padding']
    return self.node(
      step,
      'conv',
      x,
      weight=self.weight(kernel, step),
      strides=tuple(p['window_strides']),
      dilations=tuple(p['rhs_dilation']),
      pads=(top, left, bottom, right),
      groups=p['feature_group_count'],
    )

  def visit_dot_general(self, step, x, kernel):
    fits = (
      isinstance(kernel, Known)
      and isinstance(x, Node)
      and graph_lib.is_dense_product(
        step.params, (len(x.shape) + 1, np.ndim(kernel.value))
      )
    )
    if not fits:
      raise InputError(
        f'{step.where}: only products [B, ..., I] x [I, O] with a constant '
        'have an ONNX form here'
      )
    return self.node(step, 'dense', x, weight=self.weight(kernel, step))

  def weight(self, kernel: Known, step: Step) -> Weight:
    packed = self.packed.get(kernel.leaf)
    values = np.asarray(kernel.value, np.float32)
    _check_finite(values, step)
    if not isinstance(packed, Quantized) or packed.codes.shape != values.shape:
      return Weight(values, None)
    ready = (
      packed.bits <= 8
      and packed.group_size is None
      and packed.zero_point is None
      and packed.scale.size in (1, values.shape[-1])
    )
    if not ready:
      return Weight(values, None)
    scale = np.asarray(packed.scale, np.float32).reshape(-1)
    scale = np.broadcast_to(scale, values.shape[-1:]).copy()
    return Weight(np.asarray(packed.codes, np.int8), scale)

  def visit_ge(self, step, x, bound):
    if isinstance(bound, Known) and not np.any(np.asarray(bound.value)):
      return self.node(step, 'positive', x)
    raise InputError(f'{step.where}: only a comparison with 0 has an ONNX form')

  visit_gt = visit_ge

  def visit_select_n(self, step, which, negative, positive):
    """`where(x >= 0, x, slope * x)`."""
    x = which.inputs[0] if isinstance(which, Node) else None
    scaled = (
      isinstance(negative, Node)
      and negative.op == 'constant'
      and negative['kind'] == 'mul'
      and negative.inputs[0] is x
    )
    if x is None or which.op != 'positive' or positive is not x or not scaled:
      raise InputError(f'{step.where}: only PReLU has an ONNX form')
    return self.node(step, 'prelu', x, slope=negative['value'])

  def visit_reshape(self, step, x):
    return self.node(step, 'reshape', x)

  visit_squeeze = visit_expand_dims = visit_reshape

  def visit_broadcast_in_dim(self, step, x):
    if np.prod(step.out_shapes[0]) != np.prod(step.shapes[0]):
      raise InputError(f'{step.where}: a repeated value has no ONNX form here')
    return self.node(step, 'reshape', x)

  def visit_reduce_sum(self, step, x):
    axes = tuple(step.params['axes'])
    return self.node(step, 'sum', x, axes=axes)

  def pool(self, step, x, op):
    p = step.params
    dims, strides = p['window_dimensions'], p['window_strides']
    padding = p['padding']
    fits = (
      len(x.shape) == 3
      and dims[0] == dims[3] == strides[0] == strides[3] == 1
      and tuple(padding[0]) == tuple(padding[3]) == (0, 0)
      and set(p['base_dilation']) | set(p['window_dilation']) == {1}
    )
    if not fits:
      raise InputError(
        f'{step.where}: only pooling over H and W has an ONNX form here'
      )
    (top, bottom), (left, right) = padding[1], padding[2]
    return self.node(
      step,
      op,
      x,
      window=tuple(dims[1:3]),
      strides=tuple(strides[1:3]),
      pads=(top, left, bottom, right),
    )

  def visit_reduce_window_max(self, step, x):
    return self.pool(step, x, 'max_pool')

  def visit_reduce_window_sum(self, step, x):
    return self.pool(step, x, 'sum_pool')


def _check_finite(value: np.ndarray, step: Step) -> None:
  if np.isnan(value).any():
    raise InputError(f'{step.where}: its numbers are not finite')


def _per_example(value, step) -> np.ndarray:
  """A constant without its batch axis; axes along which it is equal are 1."""
  value = np.asarray(value, np.float32)
  rank = len(step.out_shapes[0])
  if value.ndim not in (0, rank):
    raise InputError(f'{step.where}: a constant of shape {value.shape}')
  value = value.reshape(value.shape if value.ndim else (1,) * rank)
  for axis in range(rank):
    first = np.take(value, [0], axis)
    if value.shape[axis] > 1 and (value == first).all():
      value = first
  if value.shape[0] != 1:
    raise InputError(f'{step.where}: a constant that varies along the batch')
  return value[0]
