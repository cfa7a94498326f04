"""A quantized network in JAX, in the arithmetic of the runtimes.

A network that is trained with simulated quantization computes in floats what a
runtime computes in integers. Both round the same numbers, but a float sum
depends on its order, and now and then a value at a tie is rounded the other
way; one code that differs in an early layer becomes thousands behind it. What
is to be deployed is therefore judged as it will run: integer sums, integer
biases, one float32 multiplier a channel (QLinearConv of ONNX), the same on
every device.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from compress import packed as packed_lib
from compress import quantize
from compress.deploy.arithmetic import (
  PAIRS,
  UNARY,
  code,
  code_bits,
  exact_parts,
  like,
  product,
  quotient,
)
from compress.deploy.chains import stem_of
from compress.deploy.network import read_network
from compress.deploy.nodes import Node
from compress.deploy.plan import Plan, float_kernel, is_integer, is_product
from compress.deploy.requantized import IntegerKernel, Line
from compress.errors import InputError
from compress.packed import Dense, Quantized
from compress.quantize import AffineSpec, QParams

_NUMBERS = ('NHWC', 'HWIO', 'NHWC')


class Lowered(NamedTuple):
  """A network in a runtime's arithmetic.

  Attributes:
    apply: pure function `apply(variables, *inputs)` for any batch; `variables`
      as arrays (`packed.unpack_tree`).
    variables: nested dict of packed tensors: integer kernels of scale 1, int32
      biases, float32 multipliers.
  """

  apply: Callable[..., Any]
  variables: dict[str, Any]


def lower(
  apply: Callable[..., Any],
  variables,
  *inputs,
  activations: Mapping[str, QParams] | None = None,
  specs: Mapping[str, AffineSpec] | None = None,
  placement: quantize.Placement = quantize.INPUTS,
) -> Lowered:
  """Rewrites a quantized network in integers, as `to_onnx` writes it.

  A convolution and the quantizer of its result give, channel by channel,

    round((sum + bias) multiplier) + zero,   multiplier = s_x s_w / s_y,

  with the sum and the bias in int32 and the product in float32; PReLU between
  the two has a multiplier for either side. A result that stays float is
  `(sum + bias) (s_x s_w)`. Sums are taken of integers in float32, in parts
  whose sums stay below 2^24, and are thus exact in any order and on any device
  (codes of 8 bits are exact in the lower precisions of accelerators).

  Args:
    apply: pure function `apply(variables, *inputs)`.
    variables: nested dict of arrays or packed tensors, as for `to_onnx`.
    *inputs: arrays or `jax.ShapeDtypeStruct`s `[B, ...]`; B is free.
    activations: name to parameters of the quantized activations.
    specs: name to spec of the same.
    placement: that the names come from.

  Returns:
    The network; its result is one array, or a tuple of several.

  Raises:
    InputError: as for `to_onnx`.
  """
  nodes, outputs = read_network(
    apply,
    variables,
    *inputs,
    activations=activations,
    specs=specs,
    placement=placement,
  )
  plan, names = Plan(outputs), {}
  values = _Values({}, names, collecting=True)

  def evaluate(values, inputs):
    given = dict(zip(nodes, jax.tree.leaves(inputs), strict=True))
    network = _Network(plan, values, given)
    plan.evaluate_blocks(network.codes, network.float)
    results = tuple(network.float(node) for node in outputs)
    return results if len(results) > 1 else results[0]

  # Traced once, to collect what the variables are.
  structs = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), inputs
  )
  jax.eval_shape(lambda *inputs: evaluate(values, inputs), *structs)

  def lowered(variables, *inputs):
    return evaluate(_Values(variables, names, collecting=False), inputs)

  return Lowered(lowered, values.tree)


class _Values:
  """The variables, by node and kind; collects them, or looks them up."""

  def __init__(self, tree, names: dict[Node, str], *, collecting: bool):
    self.tree = tree
    self.names = names
    self.collecting = collecting

  def take(self, node: Node, kind: str, value):
    """A node's variable; `value` is what it is when it is collected."""
    if node not in self.names:
      name = stem = stem_of(node)
      while name in self.names.values():
        name = f'{stem}_{len(self.names)}'
      self.names[node] = name
    name = self.names[node]
    if not self.collecting:
      return self.tree[name][kind]
    packed = value if isinstance(value, Quantized) else Dense(np.asarray(value))
    self.tree.setdefault(name, {})[kind] = packed
    return packed_lib.unpack(packed)


class _Network:
  """Evaluates nodes on demand, each once."""

  def __init__(self, plan: Plan, values: _Values, given: dict[Node, Any]):
    self.plan = plan
    self.values = values
    self.floats = dict(given)
    self.codes_of: dict[Node, jax.Array] = {}
    self.sums: dict[Node, jax.Array] = {}

  def float(self, node: Node) -> jax.Array:
    """A node's value, float32."""
    if node not in self.floats:
      self.floats[node] = self.make_float(node)
    return self.floats[node]

  def codes(self, node: Node) -> jax.Array:
    """The codes of a `quantize` node, uint8."""
    if node not in self.codes_of:
      self.codes_of[node] = self.make_codes(node)
    return self.codes_of[node]

  # Integers.

  def make_codes(self, node: Node) -> jax.Array:
    q, inner = node['q'], self.plan.before_reshape(node)
    if inner is not None:
      return self.reshaped(self.codes(inner), node)
    found = self.plan.requantized(node)
    if found is None:
      scale = self.values.take(node, 'scale', np.float32(q.scale))
      return code(quotient(self.float(node.inputs[0]), scale), q)
    root, how, kernels = found
    parts = []
    for i, kernel in enumerate(kernels):
      # In this order, as QLinearConv computes it.
      multiplier = (root.inputs[0]['q'].scale * kernel.scale) / q.scale
      total = self.total(node, root, kernel, str(i) if i else '')
      name = f'multiplier{i or ""}'
      multiplier = self.values.take(node, name, multiplier.astype(np.float32))
      parts.append(code(total * like(multiplier, total), q))
    if how == 'max':
      return jnp.maximum(*parts)
    if how == 'min':
      return jnp.minimum(*parts)
    if how == 'both':
      return jnp.maximum(jnp.minimum(*parts[:2]), parts[2])
    return parts[0]

  def total(self, owner, root, kernel: IntegerKernel, suffix='') -> jax.Array:
    """A layer's integer sum and bias, as float32."""
    total = self.sum(root)
    axes = tuple(range(kernel.codes.ndim - 1))
    same = (kernel.codes == root['weight'].codes).all(axis=axes)
    if not same.all():
      mask = self.values.take(owner, f'mask{suffix}', same.astype(np.int32))
      total = total * like(mask, total)
    bias = self.values.take(owner, f'bias{suffix}', kernel.bias)
    return (total + like(bias, total)).astype(jnp.float32)

  def sum(self, root: Node) -> jax.Array:
    """The integer sums of a layer of codes, int32."""
    if root not in self.sums:
      self.sums[root] = self.make_sum(root)
    return self.sums[root]

  def make_sum(self, root: Node) -> jax.Array:
    source, codes = root.inputs[0], root['weight'].codes
    q = source['q']
    kernel = Quantized(
      codes, np.ones((), np.float32), None, bits=code_bits(codes)
    )
    kernel = self.values.take(root, 'kernel', kernel)
    zero = self.values.take(source, 'zero', np.float32(q.zero))
    x = self.codes(source).astype(jnp.float32) - zero
    largest = max(q.high - q.zero, q.zero - q.low, 1)
    axis = codes.ndim - 2
    parts = []
    for start, stop in exact_parts(codes, axis, largest):
      part = jax.lax.slice_in_dim(kernel, start, stop, axis=axis)
      values = x
      if (start, stop) != (0, codes.shape[axis]):
        values = jax.lax.slice_in_dim(x, start, stop, axis=x.ndim - 1)
      parts.append(_layer(root, values, part).astype(jnp.int32))
    return sum(parts[1:], parts[0])

  # Floats.

  def make_float(self, node: Node) -> jax.Array:
    if node.op in ('conv', 'dense'):
      return self.layer(node, None)
    if node.op == 'constant':
      found = self.plan.fused(node)
      return self.layer(*found) if found else self.constants(node)
    if node.op in UNARY:
      return UNARY[node.op](self.float(node.inputs[0]))
    method = getattr(self, f'float_{node.op}', None)
    if method is None:
      raise InputError(f'{node.where}: it cannot be lowered')
    return method(node)

  def layer(self, node: Node, line: Line | None) -> jax.Array:
    source, weight = node.inputs[0], node['weight']
    if is_product(node):
      q = source['q']
      kernel = float_kernel(weight, line, q, stem_of(node))
      scale = np.float32(q.scale) * kernel.scale
      scale = self.values.take(node, 'multiplier', scale)
      return product(self.total(node, node, kernel), scale)
    if is_integer(node):
      gain = 1 if line is None else line.gain
      scale = source['q'].scale * (weight.scale * gain).astype(np.float32)
      out = self.sum(node).astype(jnp.float32)
      scale = self.values.take(node, 'multiplier', scale)
      out = product(out, scale)
    else:
      kernel = weight.values()
      if line is not None:
        kernel = (kernel * line.gain).astype(np.float32)
      kernel = self.values.take(node, 'kernel', kernel)
      out = _layer(node, self.float(source), kernel)
    if line is not None and line.shift.any():
      shift = line.shift.astype(np.float32)
      out = out + like(self.values.take(node, 'shift', shift), out)
    return out

  def constants(self, node: Node) -> jax.Array:
    found = self.plan.chain(node)
    if found is None:
      x = self.float(node.inputs[0])
      value = self.values.take(node, 'value', node['value'])
      value = like(value, x)
      pair = (value, x) if node['swapped'] else (x, value)
      return PAIRS[node['kind']](*pair)
    source, (gain, shift) = found
    gain = self.values.take(node, 'gain', gain.astype(np.float32))
    shift = self.values.take(node, 'shift', shift.astype(np.float32))
    out = product(self.float(source), gain)
    return out + like(shift, out)

  def float_prelu(self, node: Node) -> jax.Array:
    x, slope = self.float(node.inputs[0]), node['slope']
    if not slope.any():
      return jnp.maximum(x, 0)
    given = like(self.values.take(node, 'slope', slope), x)
    if (slope <= 1).all():
      return jnp.maximum(x, x * given)
    if (slope >= 1).all():
      return jnp.minimum(x, x * given)
    rest = self.values.take(node, 'rest', np.float32(1) - slope)
    return product(x, given) + product(jnp.maximum(x, 0), rest)

  def float_pair(self, node: Node) -> jax.Array:
    left, right = (self.float(x) for x in node.inputs)
    return PAIRS[node['kind']](left, right)

  def float_quantize(self, node: Node) -> jax.Array:
    q = node['q']
    codes = self.codes(node).astype(jnp.float32)
    zero = self.values.take(node, 'zero', np.float32(q.zero))
    return (codes - zero) * self.values.take(node, 'scale', np.float32(q.scale))

  def float_reshape(self, node: Node) -> jax.Array:
    return self.reshaped(self.float(node.inputs[0]), node)

  def reshaped(self, x: jax.Array, node: Node) -> jax.Array:
    return x.reshape(x.shape[0], *node.shape)

  def float_sum(self, node: Node) -> jax.Array:
    return self.float(node.inputs[0]).sum(axis=node['axes'])

  def float_max_pool(self, node: Node) -> jax.Array:
    return self.pool(node, -np.inf, jax.lax.max)

  def float_sum_pool(self, node: Node) -> jax.Array:
    return self.pool(node, 0.0, jax.lax.add)

  def pool(self, node: Node, start, reduce) -> jax.Array:
    x, (top, left, bottom, right) = self.float(node.inputs[0]), node['pads']
    return jax.lax.reduce_window(
      x,
      np.float32(start),
      reduce,
      (1, *node['window'], 1),
      (1, *node['strides'], 1),
      ((0, 0), (top, bottom), (left, right), (0, 0)),
    )


def _layer(node: Node, x: jax.Array, kernel: jax.Array) -> jax.Array:
  """A convolution or a matrix product."""
  if node.op == 'dense':
    return x @ kernel
  top, left, bottom, right = node['pads']
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    node['strides'],
    ((top, bottom), (left, right)),
    rhs_dilation=node['dilations'],
    dimension_numbers=_NUMBERS,
    feature_group_count=node['groups'],
  )
