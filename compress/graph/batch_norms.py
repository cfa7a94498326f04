"""BatchNorms with stored statistics, found by data flow, and what enters them.

A BatchNorm in evaluation subtracts a leaf of the variables (the running mean)
from each channel and multiplies by something that holds the square root of
another (the running variance); Ioffe, Szegedy 2015, arXiv:1502.03167. Found is
whatever does so, `(x - mean) * (scale / sqrt(var + eps)) + bias` or the same
with the numbers drawn together, `x * s + (bias - mean * s)`, whatever its layer
is called and wherever it stands.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from compress.graph import _constants, _jaxpr
from compress.graph import rewrite as rewrite_lib
from compress.graph import sites as sites_lib

_Constant = _constants.Constant

# What leaves a number the same leaf in another shape or type.
_SAME_LEAF = frozenset(
  {
    'broadcast_in_dim',
    'convert_element_type',
    'copy',
    'copy_p',
    'expand_dims',
    'reshape',
    'squeeze',
    'stop_gradient',
  }
)
_ROOTS = frozenset({'pow', 'rsqrt', 'sqrt'})
_FACTORS = frozenset({'div', 'mul', 'neg'})
_TERMS = frozenset({'add', 'add_any', 'neg', 'sub'})
_OPENED = _jaxpr.INLINE | _jaxpr.REMAT


@dataclasses.dataclass(frozen=True)
class BatchNorm:
  """One BatchNorm of a model, its statistics leaves of the variables.

  Attributes:
    name: path of the running mean without its collection and leaf name, such
      as `block1/bn2`; a second use of the same statistics gets `#1`.
    mean: path of the running mean's leaf.
    variance: path of the running variance's leaf.
    shape: of what enters it.
    axis: the channel axis of that.
    operand: which operand of its first operation that is.
    path: where the first operation stands in the nested jaxprs; opaque.
    kind: `batch_norm`.
  """

  name: str
  mean: str
  variance: str
  shape: tuple[int, ...]
  axis: int
  operand: int
  path: tuple[Any, ...] = dataclasses.field(repr=False)
  kind: str = 'batch_norm'


class BatchNormInput(NamedTuple):
  """What entered a BatchNorm, beside the statistics that it has stored.

  Attributes:
    value: `[..., C]`, the channels moved to the end.
    mean: `[C]`, the running mean.
    variance: `[C]`, the running variance, without epsilon.
  """

  value: jax.Array
  mean: jax.Array
  variance: jax.Array


def batch_norms(
  apply: Callable[..., Any], variables, *inputs
) -> tuple[BatchNorm, ...]:
  """Finds the BatchNorms of a model.

  One that uses the batch's own statistics, or whose statistics were folded
  into a layer, is none.

  Args:
    apply: pure function `apply(variables, *inputs)`, in evaluation.
    variables: pytree of arrays or `jax.ShapeDtypeStruct`s.
    *inputs: the same, for the shapes.

  Returns:
    Them, in order of evaluation; empty where there is none.

  Raises:
    NotImplementedError: one lies inside `scan`, `while`, `cond` or another
      construct from which its input cannot be read; names it.
  """
  closed, _ = _jaxpr.make(apply, variables, *inputs)
  return tuple(_find(closed, sites_lib.leaf_paths(variables)).values())


def tap_batch_norms(apply: Callable[..., Any]) -> Callable[..., Any]:
  """The same function, which also hands out what enters its BatchNorms.

  Args:
    apply: pure function `apply(variables, *inputs)`, in evaluation.

  Returns:
    `(variables, *inputs) -> (out, found)`, `found` a dict from the name of a
    `BatchNorm` to its `BatchNormInput`, in order of evaluation. Ordinary JAX:
    good under `jit`, `grad`, `vmap` and sharding. Raises what `batch_norms`
    raises when it is traced.
  """

  @functools.wraps(apply)
  def tapped(variables, *inputs):
    closed, tree = _jaxpr.make(apply, variables, *inputs)
    paths = sites_lib.leaf_paths(variables)
    flat = jax.tree.leaves((variables, *inputs))
    leaves = dict(zip(paths, flat, strict=False))

    def rule(norm, op, *operands):
      value = jnp.moveaxis(operands[norm.operand], norm.axis, -1)
      mean, variance = leaves[norm.mean], leaves[norm.variance]
      aux = BatchNormInput(value, mean.reshape(-1), variance.reshape(-1))
      return rewrite_lib.Emit(op(*operands), aux)

    found = _find(closed, paths)
    out, aux = rewrite_lib.evaluate(closed, flat, found, rule)
    return jax.tree.unflatten(tree, out), aux

  return tapped


class _Centered(NamedTuple):
  """An activation less a leaf: a BatchNorm if a root of another divides it."""

  start: BatchNorm


class _Scaled(NamedTuple):
  """An activation times a root: a BatchNorm if mean times root follows."""

  start: BatchNorm


def _find(closed, paths) -> dict[tuple[Any, ...], BatchNorm]:
  """BatchNorms by `path`; the jaxpr's first inputs are the leaves `paths`."""
  jaxpr = _jaxpr.opened(closed)
  args: list[Any] = [None] * len(jaxpr.invars)
  for i, path in enumerate(paths):
    args[i] = _Constant(lambda: None, leaf=path)
  finder = _Finder()
  finder.walk(closed, args, ())
  return dict(sorted(finder.found.items(), key=lambda item: item[0]))


class _Finder:
  """One pass over the nested jaxprs; nothing is computed."""

  def __init__(self):
    self.found: dict[tuple[Any, ...], BatchNorm] = {}
    self.names: dict[str, int] = {}
    self.closed_in: list[str] = []

  def walk(self, jaxpr, args, prefix) -> list[Any]:
    """Follows constants and half-seen BatchNorms; None is all else."""
    consts, jaxpr = _jaxpr.constants(jaxpr), _jaxpr.opened(jaxpr)
    env = dict(zip(jaxpr.invars, args, strict=True))
    for var, value in zip(jaxpr.constvars, consts, strict=False):
      env[var] = _constants.known(value)

    def read(atom):
      if _jaxpr.is_literal(atom):
        return _constants.known(atom.val)
      return env.get(atom)

    for i, eqn in enumerate(jaxpr.eqns):
      operands = [read(atom) for atom in eqn.invars]
      out = self.equation(eqn, operands, (*prefix, i))
      env.update(zip(eqn.outvars, out, strict=True))
    return [read(atom) for atom in jaxpr.outvars]

  def equation(self, eqn, operands, path) -> list[Any]:
    name = eqn.primitive.name
    if name in _OPENED:
      (key, body, _), *_ = _jaxpr.bodies(eqn)
      return self.walk(body, operands, (*path, key))
    if operands and all(isinstance(v, _Constant) for v in operands):
      return _constants.constant_results(eqn, operands)
    for key, body, feeding in _jaxpr.bodies(eqn):
      inner = [operands[i] if i >= 0 else None for i in feeding]
      self.closed_in.append(name)
      self.walk(body, inner, (*path, key))
      self.closed_in.pop()
    if name in _SAME_LEAF:
      return [operands[0]]
    if name in ('add', 'add_any', 'div', 'mul', 'sub'):
      return [self.affine(eqn, name, operands, path)]
    return [None] * len(eqn.outvars)

  def affine(self, eqn, name, operands, path) -> Any:
    """What an affine operation of an activation and a constant makes of it."""
    at = next((i for i in (0, 1) if isinstance(operands[i], _Constant)), None)
    if at is None:
      return None
    constant, value = operands[at], operands[1 - at]
    if name in ('mul', 'div'):
      variance = _root_leaf(constant)
      if variance is None or (name == 'div' and at == 0):
        return None
      if isinstance(value, _Centered):
        self.keep(value.start, variance=variance)
        return None
      return _Scaled(self.start(eqn, constant, path, 1 - at, variance=variance))
    if isinstance(value, _Scaled):
      mean = _scaled_leaf(constant, value.start.variance)
      if mean is not None:
        self.keep(value.start, mean=mean)
      return None
    if name == 'sub':
      mean = _leaf(constant) if at == 1 else None
    else:
      mean = _negated_leaf(constant)
    if mean is None:
      return None
    return _Centered(self.start(eqn, constant, path, 1 - at, mean=mean))

  def start(self, eqn, constant, path, operand, *, mean='', variance=''):
    shape = tuple(eqn.invars[operand].aval.shape)
    axis = constant.channel.axis if constant.channel is not None else None
    axis = len(shape) - 1 if axis is None else axis
    return BatchNorm('', mean, variance, shape, axis, operand, path)

  def keep(self, start, **leaf):
    """Notes a BatchNorm that is now fully seen, once."""
    if start.path in self.found:
      return
    norm = dataclasses.replace(start, **leaf)
    name = _norm_name(norm.mean)
    if self.closed_in:
      raise NotImplementedError(
        f'BatchNorm {name!r} lies inside {self.closed_in[-1]!r}, from which '
        'its input cannot be read; unroll the loop'
      )
    count = self.names[name] = self.names.get(name, -1) + 1
    name = f'{name}#{count}' if count else name
    self.found[norm.path] = dataclasses.replace(norm, name=name)


def _norm_name(mean: str) -> str:
  """The path of a running mean without its collection and leaf name."""
  parts = mean.removeprefix('batch_stats/').split('/')
  return '/'.join(parts[:-1] if len(parts) > 1 else parts)


def _leaf(constant: _Constant) -> str | None:
  """The leaf that a constant is, in whatever shape; None if it is another."""
  if constant.leaf is not None:
    return constant.leaf
  made = constant.made
  if made is not None and made.name in _SAME_LEAF:
    return _leaf(made.operands[0])
  return None


def _negated_leaf(constant: _Constant) -> str | None:
  """The leaf that a constant is the negative of."""
  made = constant.made
  if made is None:
    return None
  if made.name == 'neg':
    return _leaf(made.operands[0])
  if made.name in _SAME_LEAF:
    return _negated_leaf(made.operands[0])
  return None


def _root_leaf(constant: _Constant) -> str | None:
  """The leaf whose square root is a factor of a constant."""
  made = constant.made
  if made is None:
    return None
  if made.name in _ROOTS:
    return _only_leaf(made.operands[0])
  if made.name in _SAME_LEAF or made.name in _FACTORS:
    return _first(map(_root_leaf, made.operands))
  return None


def _only_leaf(constant: _Constant) -> str | None:
  """The one leaf among the terms of a constant (variance and epsilon)."""
  found = set()

  def visit(value):
    if value.leaf is not None:
      found.add(value.leaf)
    elif value.made is not None:
      for operand in value.made.operands:
        visit(operand)

  visit(constant)
  return found.pop() if len(found) == 1 else None


def _scaled_leaf(constant: _Constant, variance: str) -> str | None:
  """The leaf that stands times a root of `variance` among a constant's terms.

  That is the mean in `bias - mean * scale / sqrt(variance)`.
  """
  made = constant.made
  if made is None:
    return None
  if made.name in _SAME_LEAF or made.name in _TERMS:
    return _first(_scaled_leaf(v, variance) for v in made.operands)
  if made.name in ('mul', 'div'):
    pairs = (made.operands, made.operands[::-1])
    for mean, root in pairs:
      leaf = _leaf(mean)
      if leaf is not None and _root_leaf(root) == variance:
        return leaf
  return None


def _first(values) -> str | None:
  return next((v for v in values if v is not None), None)
