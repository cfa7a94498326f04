"""Folding: affine operations after a convolution or dense layer, merged in.

A BatchNorm with frozen statistics, a bias, a scale: whatever multiplies or
shifts the result of a convolution or matrix product by numbers that depend on
the variables alone, channel by channel, is merged into the kernel and one
bias (Jacob et al. 2018, arXiv:1712.05877, section 3.2). What follows what is
found by data flow, so no layer needs a name or an order.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from compress.graph import _constants, _jaxpr
from compress.graph import sites as sites_lib

_AFFINE = {
  'add': operator.add,
  'add_any': operator.add,
  'sub': operator.sub,
  'mul': operator.mul,
  'div': operator.truediv,
}


class Folded(NamedTuple):
  """A folded model.

  Attributes:
    apply: the same function of `(variables, *inputs)`, its affine operations
      gone. Differentiable; input shapes stay free.
    variables: the remaining leaves at their old paths, kernels rescaled, one
      `bias` beside each folded kernel. Leaves that only folded operations
      read (BatchNorm statistics) are gone.
    sites: names of the sites that something was folded into.
  """

  apply: Callable[..., Any]
  variables: Any
  sites: tuple[str, ...]


def fold(apply: Callable[..., Any], variables, *inputs) -> Folded:
  """Folds every affine operation that follows a convolution or dense layer.

  Folded is a chain of `+ - * /` with numbers that are constant for the model
  (functions of `variables` only) and vary along the output channel only, from
  the layer to the first other operation or second reader. The kernel must be
  a leaf of `variables` itself, read once. A BatchNorm that precedes a
  zero-padded convolution, or that uses batch statistics, stays.

  Args:
    apply: pure function `apply(variables, *inputs)`.
    variables: nested dict of arrays.
    *inputs: arrays or `jax.ShapeDtypeStruct`s, for the shapes.

  Returns:
    The folded model; equal to the given one up to float rounding.

  Raises:
    TypeError: if `variables` is no nested dict.
  """
  if not isinstance(variables, dict):
    raise TypeError(
      f'fold needs variables as a nested dict, not {type(variables).__name__}'
      ' (for Flax nnx: `nnx.to_pure_dict(state)`)'
    )
  shapes = jax.tree.map(
    lambda a: jax.ShapeDtypeStruct(jnp.shape(a), jnp.result_type(a)), variables
  )
  names: dict[str, str] = {}

  def new_leaves(variables):
    interpreter = _Interpreter(shapes, variables)
    interpreter.run(apply, *(jnp.zeros(x.shape, x.dtype) for x in inputs))
    names.update(interpreter.names)
    return interpreter.made

  made = jax.jit(new_leaves)(variables)
  leaves = dict(
    zip(
      sites_lib.leaf_paths(variables), jax.tree.leaves(variables), strict=True
    )
  )
  reader = _Interpreter(shapes, variables, folded=dict.fromkeys(made))
  jax.eval_shape(lambda *inputs: reader.run(apply, *inputs), *inputs)
  kept = {path: leaves[path] for path in leaves if path in reader.read}
  biases: dict[str, str] = {}
  for path, (kernel, bias) in made.items():
    biases[path] = _bias_path(path, set(kept))
    kept |= {path: kernel, biases[path]: bias}

  @functools.wraps(apply)
  def folded(variables, *inputs):
    return _Interpreter(shapes, variables, folded=biases).run(apply, *inputs)

  return Folded(folded, _nest(kept), tuple(names.values()))


@dataclasses.dataclass
class _Layer:
  """The not yet computed result of a layer: `scale * op(lhs, w) + shift`."""

  site: Any
  eqn: Any
  lhs: Any
  weight: _constants.Constant
  steps: tuple[Callable[[Any, Any], tuple[Any, Any]], ...] = ()


class _Interpreter:
  """Evaluates a model with its layers held back until their chain ends.

  Without `folded` it works out new kernels and biases (`made`) from the old
  variables; with it, from the path of a folded kernel to that of its bias, it
  evaluates on the new variables and notes which other leaves it reads.
  """

  def __init__(self, shapes, variables, *, folded=None):
    self.shapes = shapes
    self.folded = folded
    self.paths = sites_lib.leaf_paths(shapes)
    given = sites_lib.leaf_paths(variables)
    self.leaves = dict(zip(given, jax.tree.leaves(variables), strict=True))
    self.made: dict[str, tuple[Any, Any]] = {}
    self.names: dict[str, str] = {}
    self.read: set[str] = set()

  def run(self, apply, *inputs):
    closed, tree = _jaxpr.make(apply, self.shapes, *inputs)
    self.found = sites_lib.find_sites(closed, self.paths)
    self.uses = _leaf_uses(self.found)
    args = [self.leaf(path) for path in self.paths]
    args += jax.tree.leaves(inputs)
    out = self.body(closed, args, ())
    return jax.tree.unflatten(tree, [self.plain(v) for v in out])

  def leaf(self, path) -> _constants.Constant:
    def value():
      self.read.add(path)
      return self.leaves[path]

    return _constants.Constant(value, leaf=path)

  def body(self, jaxpr, args, prefix):
    consts, jaxpr = _jaxpr.constants(jaxpr), _jaxpr.opened(jaxpr)
    env = dict(zip(jaxpr.invars, args, strict=True))
    for var, value in zip(jaxpr.constvars, consts, strict=True):
      env[var] = _constants.known(value)
    readers = _readers(jaxpr)

    def read(atom):
      if _jaxpr.is_literal(atom):
        return _constants.known(atom.val)
      value = env[atom]
      if isinstance(value, _Layer) and readers[atom] > 1:
        value = env[atom] = self.plain(value)
      return value

    for i, eqn in enumerate(jaxpr.eqns):
      operands = [read(atom) for atom in eqn.invars]
      out = self.equation(eqn, operands, (*prefix, i))
      env.update(zip(eqn.outvars, out, strict=True))
    return [read(atom) for atom in jaxpr.outvars]

  def equation(self, eqn, operands, path):
    name = eqn.primitive.name
    if all(
      isinstance(v, _constants.Constant) for v in operands
    ) and not _effectful(eqn):
      return _constants.constant_results(eqn, operands)
    if name in _jaxpr.INLINE and self.holds_site(path):
      ((key, body, _),) = _jaxpr.bodies(eqn)
      return self.body(body, operands, (*path, key))
    site = self.found.get(path)
    if site is not None and self.foldable(site, eqn, operands):
      return [_Layer(site, eqn, self.plain(operands[0]), operands[1])]
    if name in _AFFINE:
      layer = self.extend(eqn, operands)
      if layer is not None:
        return [layer]
    return _jaxpr.bind(eqn, *(self.plain(v) for v in operands))

  def holds_site(self, path):
    return any(found[: len(path)] == path for found in self.found)

  def foldable(self, site, eqn, operands) -> bool:
    weight = operands[1] if len(operands) > 1 else None
    return (
      site.kind != 'name'
      and isinstance(weight, _constants.Constant)
      and weight.leaf is not None
      and self.uses[weight.leaf] == 1
      and tuple(eqn.invars[1].aval.shape) == self.shape(weight.leaf)
      and _output_axis(eqn) is not None
    )

  def shape(self, path):
    return tuple(jax.tree.leaves(self.shapes)[self.paths.index(path)].shape)

  def extend(self, eqn, operands) -> _Layer | None:
    """A layer with one more affine operation on it, if this is one."""
    left, right = operands
    swapped = isinstance(right, _Layer)
    layer, other = (right, left) if swapped else (left, right)
    name = eqn.primitive.name
    if not isinstance(layer, _Layer) or not isinstance(
      other, _constants.Constant
    ):
      return None
    if other.channel is None or (swapped and name == 'div'):
      return None
    axis = other.channel.axis
    if axis is not None and axis != _output_axis(layer.eqn):
      return None

    def step(scale, shift):
      c, op = other.channel.vector(), _AFFINE[name]
      if name in ('mul', 'div'):
        return op(scale, c), op(shift, c)
      if swapped and name == 'sub':
        return -scale, c - shift
      return scale, op(shift, c)

    return dataclasses.replace(layer, steps=(*layer.steps, step))

  def plain(self, value):
    """An ordinary JAX value."""
    if isinstance(value, _constants.Constant):
      return value.value()
    if not isinstance(value, _Layer):
      return value
    if not value.steps:
      return _jaxpr.bind(value.eqn, value.lhs, value.weight.value())[0]
    path = value.weight.leaf
    if self.folded is None:
      self.made[path] = self.make(value)
      self.names[path] = value.site.name
      kernel, bias = self.made[path]
    elif self.folded[path] is None:
      kernel, bias = self.leaves[path], jnp.zeros((), value.lhs.dtype)
    else:
      kernel, bias = self.leaves[path], self.leaves[self.folded[path]]
    out = _jaxpr.bind(value.eqn, value.lhs, kernel)[0]
    return out + bias.reshape((1,) * (out.ndim - 1) + (-1,))

  def make(self, layer: _Layer):
    """Computes the new kernel and bias of a layer."""
    kernel, eqn = self.leaves[layer.weight.leaf], layer.eqn
    width = eqn.outvars[0].aval.shape[_output_axis(eqn)]
    scale = jnp.ones((width,), kernel.dtype)
    shift = jnp.zeros((width,), kernel.dtype)
    for step in layer.steps:
      scale, shift = step(scale, shift)
    return kernel * _along(scale, kernel.ndim, _kernel_axis(eqn)), shift


def _effectful(eqn) -> bool:
  return bool(eqn.effects) or not eqn.invars


def _readers(jaxpr) -> dict[Any, int]:
  """How many operands and outputs read each variable."""
  count: dict[Any, int] = dict.fromkeys(jaxpr.invars, 0)
  atoms = [atom for eqn in jaxpr.eqns for atom in eqn.invars]
  for atom in [*atoms, *jaxpr.outvars]:
    if not _jaxpr.is_literal(atom):
      count[atom] = count.get(atom, 0) + 1
  return count


def _leaf_uses(found) -> dict[str, int]:
  uses: dict[str, int] = {}
  for site in found.values():
    if site.weight is not None:
      uses[site.weight] = uses.get(site.weight, 0) + (site.repeats or 2)
  return uses


def _output_axis(eqn) -> int | None:
  """The channel axis of a layer's result, where its weight has one."""
  if eqn.primitive.name == 'conv_general_dilated':
    if eqn.params['batch_group_count'] != 1:
      return None
    axis = eqn.params['dimension_numbers'].out_spec[1]
  else:
    (_, rhs), (_, batch) = eqn.params['dimension_numbers']
    if batch or eqn.invars[1].aval.ndim - len(rhs) != 1:
      return None
    axis = eqn.outvars[0].aval.ndim - 1
  return axis if axis == eqn.outvars[0].aval.ndim - 1 else None


def _kernel_axis(eqn) -> int:
  """The output-channel axis of a layer's weight."""
  if eqn.primitive.name == 'conv_general_dilated':
    return eqn.params['dimension_numbers'].rhs_spec[0]
  (_, contracted), _ = eqn.params['dimension_numbers']
  (axis,) = set(range(eqn.invars[1].aval.ndim)) - set(contracted)
  return axis


def _along(vector, ndim, axis):
  shape = [1] * ndim
  shape[axis] = -1
  return vector.reshape(shape)


def _bias_path(weight: str, taken: set[str]) -> str:
  parent, _, leaf = weight.rpartition('/')
  prefix = f'{parent}/' if parent else ''
  names = (f'{prefix}bias', f'{prefix}{leaf}_bias', f'{prefix}{leaf}_shift')
  return next(name for name in names if name not in taken)


def _nest(flat: dict[str, Any]) -> dict[str, Any]:
  tree: dict[str, Any] = {}
  for path, value in flat.items():
    *parents, leaf = path.split('/')
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
    node[leaf] = value
  return tree
