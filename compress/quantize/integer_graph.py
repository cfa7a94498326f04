"""A network as the few real-valued operations that have an integer rule.

The reader walks the traced network, whatever framework wrote it, and makes a
`Node` of every operation that depends on the input. Axis 0 is the batch.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compress import graph as graph_lib
from compress import packed as packed_lib
from compress.errors import InputError
from compress.graph import Known, Step
from compress.packed import Packed
from compress.quantize import activations as activations_lib
from compress.quantize.integer_kernel import Kernel, read_kernel

BATCH = 2
"""Examples in the traced batch."""

_SAME = frozenset({'copy', 'copy_p', 'optimization_barrier', 'stop_gradient'})


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
  """One real-valued operation.

  Attributes:
    op: `input`; `quantize` (name); `conv` and `dot` (kernel, ...); `affine`,
      `scale x + offset`; `prelu` (slope); `clip` (low, high); `add`; `positive`
      (a comparison, part of PReLU); `sum`, `max`, `sum_pool`, `max_pool`; or
      one that moves values about: `reshape`, `transpose`, `broadcast`,
      `slice`, `pad`, `concat`, `reverse`.
    inputs: the nodes that it reads.
    shape: of one example, without the batch axis.
    where: the operation in words, for messages.
    given: what else it needs, by name.
    name: of the site.
  """

  op: str
  inputs: tuple['Node', ...]
  shape: tuple[int, ...]
  where: str
  given: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  name: str = ''

  def __getitem__(self, key: str) -> Any:
    return self.given[key]


def read_graph(
  apply: Callable[..., Any],
  variables,
  inputs,
  *,
  names: set[str],
  placement: activations_lib.Placement,
) -> tuple[Node, Node]:
  """Reads a network of one input and one output.

  Args:
    apply: pure function `apply(variables, inputs)`.
    variables: nested dict; quantized kernels as packed tensors.
    inputs: array or `jax.ShapeDtypeStruct` [B, ...]; B is free.
    names: of the quantized activations.
    placement: that the names come from.

  Returns:
    The input's node and the output's.

  Raises:
    InputError: an operation without an integer rule, named with its site, or
      an activation that the network does not have.
  """

  def unpacked(leaf):
    return packed_lib.unpack(leaf) if packed_lib.is_packed(leaf) else leaf

  plain = jax.tree.map(unpacked, variables, is_leaf=packed_lib.is_packed)
  leaves = jax.tree.leaves(variables, is_leaf=packed_lib.is_packed)
  packed = dict(zip(graph_lib.leaf_paths(plain), leaves, strict=True))
  struct = jax.ShapeDtypeStruct((BATCH, *inputs.shape[1:]), inputs.dtype)
  first = Node('input', (), tuple(inputs.shape[1:]), 'input', name='input')
  reader = _Reader(packed, names, placement)
  out = graph_lib.interpret(
    apply, plain, struct, symbols=[first], visit=reader.visit
  )
  unmet = sorted(names - reader.met)
  if unmet:
    raise InputError(f'the network has no activation {unmet[0]!r} to quantize')
  if not isinstance(out, Node):
    raise InputError(
      'integer inference takes a network of one output that depends on its '
      f'input; this one gives {type(out).__name__}'
    )
  return first, out


class _Reader:
  """Turns operations into nodes."""

  def __init__(self, packed: Mapping[str, Packed], names, placement):
    self.packed = packed
    self.names = names
    self.placement = placement
    self.met = set()
    self.last = ''

  def visit(self, step: Step, operands):
    name = step.name
    if step.site is not None:
      self.last = f' (after site {step.site.name!r})'
    else:
      # Bodies of library functions have no scope of their own.
      step = step._replace(where=step.where + self.last)
    if name in _SAME or (
      name == 'convert_element_type'
      and jnp.issubdtype(step.out_dtypes[0], jnp.floating)
    ):
      return [operands[0]]
    method = getattr(self, f'visit_{name}', None)
    if method is None:
      raise InputError(f'{step.where}: this operation has no integer rule')
    kept = 0 not in step.params.get('axes', ())
    if not kept or any(s[:1] != (BATCH,) for s in step.out_shapes):
      raise InputError(f'{step.where}: its result does not keep the batch axis')
    if step.site is not None and step.site.kind != 'name':
      operands = list(operands)
      for placed, i in self.placement.operands(step.site):
        operands[i] = self.quantized(operands[i], placed, step)
    return [method(step, *operands)]

  def quantized(self, x, name, step):
    if name not in self.names or not isinstance(x, Node):
      return x
    self.met.add(name)
    return Node('quantize', (x,), x.shape, step.where, name=name)

  def node(self, step, op, *inputs, **given):
    name = step.site.name if step.site else ''
    return Node(op, inputs, step.out_shapes[0][1:], step.where, given, name)

  def affine(self, step, x, scale=1.0, offset=0.0):
    scale, offset = (
      _per_example(v, x.shape, step.where) for v in (scale, offset)
    )
    return self.node(step, 'affine', x, scale=scale, offset=offset)

  def visit_add(self, step, left, right):
    if isinstance(left, Node) and isinstance(right, Node):
      return self.node(step, 'add', left, right)
    x, known = _apart(left, right)
    return self.affine(step, x, offset=known.value)

  visit_add_any = visit_add

  def visit_sub(self, step, left, right):
    if isinstance(left, Known):
      return self.affine(step, right, -1.0, left.value)
    if isinstance(right, Known):
      return self.affine(step, left, offset=-np.asarray(right.value))
    return self.node(step, 'add', left, self.affine(step, right, -1.0))

  def visit_mul(self, step, left, right):
    if isinstance(left, Node) and isinstance(right, Node):
      raise InputError(
        f'{step.where}: a product of two activations has no integer rule'
      )
    x, known = _apart(left, right)
    return self.affine(step, x, known.value)

  def visit_div(self, step, x, by):
    if not isinstance(by, Known):
      raise InputError(
        f'{step.where}: a division by an activation has no integer rule'
      )
    return self.affine(step, x, 1 / np.asarray(by.value, np.float64))

  def visit_neg(self, step, x):
    return self.affine(step, x, -1.0)

  def visit_abs(self, step, x):
    slope = _per_example(-1.0, x.shape, step.where)
    return self.node(step, 'prelu', x, slope=slope)

  def visit_max(self, step, left, right):
    return self.clip(step, *_apart(left, right, step), 'low')

  def visit_min(self, step, left, right):
    return self.clip(step, *_apart(left, right, step), 'high')

  def clip(self, step, x, known, end):
    bounds = {'low': -np.inf, 'high': np.inf, end: known.value}
    bounds = {
      k: _per_example(v, x.shape, step.where) for k, v in bounds.items()
    }
    return self.node(step, 'clip', x, **bounds)

  def visit_clamp(self, step, low, x, high):
    if not (isinstance(low, Known) and isinstance(high, Known)):
      raise InputError(f'{step.where}: only constant bounds have integer rules')
    bounds = {'low': low.value, 'high': high.value}
    bounds = {
      k: _per_example(v, x.shape, step.where) for k, v in bounds.items()
    }
    return self.node(step, 'clip', x, **bounds)

  def visit_ge(self, step, x, bound):
    if isinstance(bound, Known) and not np.any(np.asarray(bound.value)):
      return self.node(step, 'positive', x)
    raise InputError(
      f'{step.where}: only a comparison of an activation with 0 has an integer '
      'rule'
    )

  visit_gt = visit_ge

  def visit_select_n(self, step, which, negative, positive):
    """`where(x >= 0, x, slope * x)`."""
    x = which.inputs[0] if isinstance(which, Node) else None
    if x is None or which.op != 'positive' or positive is not x:
      raise InputError(f'{step.where}: of choices only PReLU has integer rules')
    if isinstance(negative, Known) and not np.any(np.asarray(negative.value)):
      return self.node(step, 'prelu', x, slope=np.zeros((1,) * len(x.shape)))
    scaled = (
      isinstance(negative, Node)
      and negative.op == 'affine'
      and negative.inputs[0] is x
      and not negative['offset'].any()
    )
    if not scaled:
      raise InputError(f'{step.where}: of choices only PReLU has integer rules')
    return self.node(step, 'prelu', x, slope=negative['scale'])

  def visit_name(self, step, x):
    if self.placement.outputs(step.site):
      return self.quantized(x, step.site.name, step)
    return x

  def visit_conv_general_dilated(self, step, x, kernel):
    p = step.params
    fits = (
      isinstance(kernel, Known)
      and isinstance(x, Node)
      and graph_lib.is_image_convolution(p)
    )
    if not fits:
      raise InputError(
        f'{step.where}: of convolutions only those of [B, H, W, C] with a '
        'constant kernel [KH, KW, C, O] have an integer rule'
      )
    return self.node(
      step,
      'conv',
      x,
      kernel=self.kernel(kernel, step),
      strides=tuple(p['window_strides']),
      dilation=tuple(p['rhs_dilation']),
      padding=tuple(map(tuple, p['padding'])),
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
        f'{step.where}: of products only [B, ..., K] x [K, O] with a constant '
        'kernel has an integer rule'
      )
    return self.node(step, 'dot', x, kernel=self.kernel(kernel, step))

  def kernel(self, known: Known, step) -> Kernel:
    shape = np.shape(known.value)
    return read_kernel(self.packed.get(known.leaf), shape, step.where)

  def visit_reshape(self, step, x):
    return self.node(step, 'reshape', x)

  visit_squeeze = visit_expand_dims = visit_reshape

  def visit_broadcast_in_dim(self, step, x):
    dims = tuple(step.params['broadcast_dimensions'])
    if dims[:1] != (0,):
      raise InputError(f'{step.where}: the batch axis must stay first')
    shape = step.out_shapes[0][1:]
    between = [1] * len(shape)
    for dim, size in zip(dims[1:], x.shape, strict=True):
      between[dim - 1] = size
    x = self.node(step, 'reshape', x)
    x = dataclasses.replace(x, shape=tuple(between))
    if tuple(between) == shape:
      return x
    return self.node(step, 'broadcast', x)

  def visit_transpose(self, step, x):
    order = tuple(step.params['permutation'])
    if order[0] != 0:
      raise InputError(f'{step.where}: the batch axis must stay first')
    return self.node(step, 'transpose', x, order=order)

  def visit_rev(self, step, x):
    return self.node(step, 'reverse', x, axes=tuple(step.params['dimensions']))

  def visit_slice(self, step, x):
    p = step.params
    strides = p['strides'] or (1,) * len(p['start_indices'])
    if p['start_indices'][0] or strides[0] != 1:
      raise InputError(f'{step.where}: the batch must stay whole')
    return self.node(
      step,
      'slice',
      x,
      start=tuple(p['start_indices'][1:]),
      limit=tuple(p['limit_indices'][1:]),
      strides=tuple(strides[1:]),
    )

  def visit_pad(self, step, x, value):
    config = step.params['padding_config']
    plain = (
      isinstance(value, Known)
      and isinstance(x, Node)
      and not np.any(np.asarray(value.value))
      and all(
        low >= 0 and high >= 0 and not inner for low, high, inner in config
      )
    )
    if not plain:
      raise InputError(f'{step.where}: only padding with 0 has an integer rule')
    padding = tuple((low, high) for low, high, _ in config)
    return self.node(step, 'pad', x, padding=padding)

  def visit_concatenate(self, step, *parts):
    if any(isinstance(part, Known) for part in parts):
      raise InputError(
        f'{step.where}: activations joined with constants have no integer rule'
      )
    return self.node(step, 'concat', *parts, axis=step.params['dimension'])

  def visit_reduce_sum(self, step, x):
    return self.node(step, 'sum', x, axes=tuple(step.params['axes']))

  def visit_reduce_max(self, step, x):
    return self.node(step, 'max', x, axes=tuple(step.params['axes']))

  def pool(self, step, x, op):
    p = step.params
    plain = set(p['base_dilation']) | set(p['window_dilation']) == {1}
    if not plain or p['window_dimensions'][0] != 1:
      raise InputError(
        f'{step.where}: pooling with dilation or over the batch has no integer '
        'rule'
      )
    return self.node(
      step,
      op,
      x,
      window=tuple(p['window_dimensions']),
      strides=tuple(p['window_strides']),
      padding=tuple(map(tuple, p['padding'])),
    )

  def visit_reduce_window_max(self, step, x):
    return self.pool(step, x, 'max_pool')

  def visit_reduce_window_sum(self, step, x):
    return self.pool(step, x, 'sum_pool')


def _apart(left, right, step=None):
  """The activation and the constant of two operands."""
  if isinstance(left, Node) and isinstance(right, Node):
    raise InputError(
      f'{step.where}: the larger of two activations has no integer rule'
    )
  return (right, left) if isinstance(left, Known) else (left, right)


def _per_example(value, shape, where) -> np.ndarray:
  """A constant as float64 [1, ...] of the rank with the batch axis.

  Axes along which it does not vary have length 1.
  """
  value, rank = np.asarray(value, np.float64), len(shape) + 1
  if value.ndim not in (0, rank):
    raise InputError(f'{where}: a constant of shape {value.shape}')
  value = value.reshape(value.shape if value.ndim else (1,) * rank)
  for axis in range(rank):
    first = np.take(value, [0], axis)
    if value.shape[axis] > 1 and (value == first).all():
      value = first
  if value.shape[0] != 1:
    raise InputError(f'{where}: a constant that varies along the batch')
  return value
