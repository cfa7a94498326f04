"""Sites: where a model multiplies, and the values it names.

A model is a pure function `apply(variables, *inputs)`. Its *sites* are the
convolutions, the matrix products and the values named with
`jax.ad_checkpoint.checkpoint_name`, in the order of evaluation. A site's
identity comes from data flow: the path of the leaf of `variables` that
reaches it as an operand.
"""

import collections
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax

from compress.graph import _jaxpr

# Primitives through which an array stays the same weight. Only the first
# operand counts; the others (indices, padding) do not carry identity.
_SAME_ARRAY = frozenset(
  {
    'broadcast_in_dim',
    'convert_element_type',
    'copy',
    'copy_p',
    'dynamic_slice',
    'expand_dims',
    'mesh_cast',
    'name',
    'optimization_barrier',
    'pad',
    'pbroadcast',
    'pcast',
    'pvary',
    'reduce_precision',
    'reshape',
    'reshard',
    'rev',
    'sharding_constraint',
    'slice',
    'squeeze',
    'stop_gradient',
    'transpose',
  }
)
_ELEMENTWISE = frozenset({'add', 'add_any', 'div', 'mul', 'sub'})
_LEAF_NAMES = frozenset({'kernel', 'weight', 'embedding', 'w'})
# What nnx calls the array inside a parameter.
_WRAPPED = frozenset({'value'})


@dataclasses.dataclass(frozen=True)
class Site:
  """One convolution, matrix product or named value of a model.

  Attributes:
    name: unique in the model. For an operation on a weight, the weight's path
      without the leading collection (`params`) and the trailing leaf name
      (`kernel`); without one, the source's name stack; for a named value, its
      name. A name that comes again gets `#1`, `#2`, ...
    kind: `conv`, `dot` or `name`.
    weight: path of the weight's leaf in `variables`, joined by `/`, or None.
    weight_operand: 0 or 1, the operand that is the weight, or None.
    lhs_shape: shape of the left operand, or of the named value.
    rhs_shape: shape of the right operand; () for a named value.
    out_shape: shape of the result.
    groups: `feature_group_count` of a convolution, else 1.
    macs: multiply-accumulates of one evaluation of the model, over the whole
      batch; the spec's formula, padded taps counted. 0 for a named value.
    repeats: how often one evaluation runs the site (`scan` length), None
      inside `while`, where nothing static tells.
    path: where the site stands in the nested jaxprs; opaque, unique.
    params: the primitive's own parameters (`dimension_numbers`, strides, ...).
  """

  name: str
  kind: str
  weight: str | None
  weight_operand: int | None
  lhs_shape: tuple[int, ...]
  rhs_shape: tuple[int, ...]
  out_shape: tuple[int, ...]
  groups: int
  macs: int
  repeats: int | None
  path: tuple[Any, ...]
  params: Mapping[str, Any] = dataclasses.field(repr=False, compare=False)


@dataclasses.dataclass(frozen=True)
class _Origin:
  """What is known of a variable: its weight path, if it depends on inputs."""

  weight: str | None
  dynamic: bool


_CONSTANT = _Origin(None, False)


def path_string(path) -> str:
  """A key path of `jax.tree_util` as `params/stage1/conv/kernel`."""
  return jax.tree_util.keystr(path, simple=True, separator='/')


def leaf_paths(tree) -> list[str]:
  """Paths of the leaves of a tree, in the order of `jax.tree.leaves`."""
  return [path_string(p) for p, _ in jax.tree_util.tree_leaves_with_path(tree)]


def weight_name(path: str) -> str:
  """A weight's path without its collection and its leaf name."""
  parts = path.split('/')
  if len(parts) > 1 and parts[0] == 'params':
    parts = parts[1:]
  for names in (_WRAPPED, _LEAF_NAMES):
    if len(parts) > 1 and parts[-1] in names:
      parts = parts[:-1]
  return '/'.join(parts)


def find_sites(closed, weights: list[str]) -> dict[tuple[Any, ...], Site]:
  """Finds the sites of a closed jaxpr whose first inputs are the weights.

  Args:
    closed: jaxpr of `apply(variables, *inputs)`.
    weights: paths of the leaves of `variables`.

  Returns:
    Sites by their `path`, in order of evaluation.
  """
  finder = _Finder()
  jaxpr = _jaxpr.opened(closed)
  origins = [_Origin(w, False) for w in weights]
  origins += [_Origin(None, True)] * (len(jaxpr.invars) - len(weights))
  finder.walk(closed, origins, (), 1)
  return finder.sites


class _Finder:
  """One pass over the nested jaxprs; collects sites as it goes."""

  def __init__(self):
    self.sites: dict[tuple[Any, ...], Site] = {}
    self.seen = collections.Counter()

  def walk(self, jaxpr, origins, prefix, repeats) -> list[_Origin]:
    """Follows origins through one jaxpr; returns those of its outputs."""
    jaxpr = _jaxpr.opened(jaxpr)
    env = dict.fromkeys(jaxpr.constvars, _CONSTANT)
    env.update(zip(jaxpr.invars, origins, strict=True))

    def read(atom):
      return _CONSTANT if _jaxpr.is_literal(atom) else env[atom]

    for i, eqn in enumerate(jaxpr.eqns):
      known = [read(atom) for atom in eqn.invars]
      out = self.equation(eqn, known, (*prefix, i), repeats)
      env.update(zip(eqn.outvars, out, strict=True))
    return [read(atom) for atom in jaxpr.outvars]

  def equation(self, eqn, known, path, repeats) -> list[_Origin]:
    name = eqn.primitive.name
    dynamic = any(origin.dynamic for origin in known)
    unknown = [_Origin(None, dynamic)] * len(eqn.outvars)
    if name in ('conv_general_dilated', 'dot_general', 'name'):
      self.add(eqn, known, path, repeats)
    if name in _SAME_ARRAY:
      return [_Origin(o.weight, o.dynamic) for o in known[: len(unknown)]]
    if name in _ELEMENTWISE:
      return [_Origin(_elementwise_weight(eqn, known), dynamic)]
    out = None
    for key, body, operands in _jaxpr.bodies(eqn):
      inner = [known[j] if j >= 0 else _Origin(None, True) for j in operands]
      if name in ('scan', 'while'):
        inner = _loop_origins(eqn, key, inner)
      times = _loop_repeats(eqn, repeats)
      out = self.walk(body, inner, (*path, key), times)
    passes = name in _jaxpr.INLINE or name in _jaxpr.REMAT
    return out if passes and out is not None else unknown

  def add(self, eqn, known, path, repeats):
    kind = {'conv_general_dilated': 'conv', 'dot_general': 'dot'}.get(
      eqn.primitive.name, 'name'
    )
    operand = None if kind == 'name' else _weight_operand(known)
    weight = None if operand is None else known[operand].weight
    if kind == 'name':
      name = eqn.params['name']
    elif weight is not None:
      name = weight_name(weight)
    else:
      name = _jaxpr.scope(eqn) or eqn.primitive.name
    count = self.seen[name]
    self.seen[name] += 1
    shapes = [tuple(atom.aval.shape) for atom in eqn.invars]
    self.sites[path] = Site(
      name=f'{name}#{count}' if count else name,
      kind=kind,
      weight=weight,
      weight_operand=operand,
      lhs_shape=shapes[0],
      rhs_shape=shapes[1] if kind != 'name' else (),
      out_shape=tuple(eqn.outvars[0].aval.shape),
      groups=eqn.params.get('feature_group_count', 1),
      macs=_macs(eqn, kind) * (repeats or 1),
      repeats=repeats,
      path=path,
      params=dict(eqn.params),
    )


def _weight_operand(known) -> int | None:
  """The operand that is a weight; the right one if both are."""
  for i in (1, 0):
    if known[i].weight is not None and not known[i].dynamic:
      return i
  return None


def _elementwise_weight(eqn, known) -> str | None:
  """A weight scaled, shifted or masked by constants is still that weight."""
  if any(origin.dynamic for origin in known):
    return None
  size = math.prod(eqn.outvars[0].aval.shape)
  full = [
    origin.weight
    for atom, origin in zip(eqn.invars, known, strict=True)
    if origin.weight is not None and math.prod(atom.aval.shape) == size
  ]
  trained = [w for w in full if w.startswith('params/')]
  for names in (full, trained):
    if len(set(names)) == 1:
      return names[0]
  return None


def _loop_origins(eqn, key, inner) -> list[_Origin]:
  """Loop-carried values are not the weight that they started from."""
  if eqn.primitive.name == 'scan':
    first = eqn.params['num_consts']
    last = first + eqn.params['num_carry']
  else:
    first = eqn.params[f'{key}_nconsts']
    last = len(inner)
  carried = _Origin(None, True)
  return [carried if first <= i < last else o for i, o in enumerate(inner)]


def _loop_repeats(eqn, repeats) -> int | None:
  if eqn.primitive.name == 'scan':
    return None if repeats is None else repeats * eqn.params['length']
  return None if eqn.primitive.name == 'while' else repeats


def _macs(eqn, kind) -> int:
  """Multiply-accumulates of one run of a convolution or matrix product."""
  if kind == 'name':
    return 0
  out = math.prod(eqn.outvars[0].aval.shape)
  if kind == 'conv':
    spec = eqn.params['dimension_numbers'].rhs_spec
    kernel = eqn.invars[1].aval.shape
    taps = math.prod(kernel[axis] for axis in spec[2:])
    return out * taps * kernel[spec[1]] // eqn.params['batch_group_count']
  (contracting, _), _ = eqn.params['dimension_numbers']
  lhs = eqn.invars[0].aval.shape
  return out * math.prod(lhs[axis] for axis in contracting)
