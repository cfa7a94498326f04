"""Runs a jaxpr, and those nested in it, on labels instead of arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from compress.graph import _jaxpr
from compress.graph.label_index_rules import RULES
from compress.graph.label_rules import Axes, Value, held, shape_of
from compress.graph.label_zeros import products_of_values, zeroed
from compress.graph.labels import CONSTANT, NORM, Labels

UNKNOWN = 'no rule for'
# Masks leave them as they are, so that nothing is divided by zero.
_VARIANCES = frozenset({'var', 'running_var', 'moving_variance'})
_STILL_ZERO = frozenset(
  {'broadcast_in_dim', 'convert_element_type', 'copy', 'neg', 'reshape'}
)


class Walk:
  """The labels of every array of a model.

  Args:
    jaxpr: closed; its first inputs are the leaves.
    leaves: their paths.
    free: whether the last axes of the outputs may lose indices. That of an
      output with one axis, which may be the batch's, stays.

  Attributes:
    labels: the nodes.
    leaves: axes of each leaf of the variables.
    outputs: axes of each output.
    arrays: path of a jaxpr to variable (or `id` of a literal) to axes.
    roles: (leaf, axis) to `in` or `out`, in the order of first use.
    unknown: places where an operation without a rule stands.
  """

  def __init__(self, jaxpr, leaves: Sequence[str], *, free: bool = False):
    self.labels = Labels()
    self.labels.where = self.place
    self.arrays: dict[tuple, dict[Any, Axes]] = {}
    self.roles: dict[tuple[int, int], str] = {}
    self.unknown: list[str] = []
    self._equation = None
    values = []
    for i, var in enumerate(_jaxpr.opened(jaxpr).invars):
      if i < len(leaves):
        axes = tuple(map(self.labels.fresh, shape_of(var)))
        masked = not _VARIANCES & set(leaves[i].split('/')[-2:])
        flags = (masked,) * len(axes)
        values.append(Value(axes, frozenset([i]), zeroed=flags))
      else:
        axes = tuple(map(self.labels.fixed, shape_of(var)))
        values.append(Value(axes, None, zeroed=(True,) * len(axes)))
    self.leaves = [value.axes for value in values[: len(leaves)]]
    results = self.run(jaxpr, values, ())
    self._equation = None
    self.outputs = [value.axes for value in results]
    for axes in self.outputs:
      for axis in axes[:-1] if free and len(axes) > 1 else axes:
        self.labels.freeze(axis, 'an output of the model')

  def place(self) -> str:
    """Name of the equation that is being read."""
    if self._equation is None:
      return ''
    scope = _jaxpr.scope(self._equation)
    name = self._equation.primitive.name
    return f'{scope}: {name}' if scope else name

  def constant(self, shape, value=None) -> Value:
    """An array of the program itself."""
    axes = tuple(self.labels.fresh(size, CONSTANT) for size in shape)
    zero = value is not None and np.ndim(value) == 0 and bool(value == 0)
    return Value(axes, static=True, zero=zero, zeroed=(zero,) * len(axes))

  def run(self, jaxpr, values, path) -> list[Value]:
    """Reads one jaxpr; returns its outputs."""
    consts, jaxpr = _jaxpr.constants(jaxpr), _jaxpr.opened(jaxpr)
    env = dict(zip(jaxpr.invars, values, strict=True))
    for i, var in enumerate(jaxpr.constvars):
      scalar = consts[i] if i < len(consts) and not shape_of(var) else None
      env[var] = self.constant(shape_of(var), scalar)

    def read(atom):
      if not _jaxpr.is_literal(atom):
        return env[atom]
      if id(atom) not in env:
        env[id(atom)] = self.constant(shape_of(atom), atom.val)
      return env[id(atom)]

    for i, eqn in enumerate(jaxpr.eqns):
      operands = [read(atom) for atom in eqn.invars]
      self._equation = eqn
      results = self.equation(eqn, operands, (*path, i))
      env.update(zip(eqn.outvars, results, strict=True))
    out = [read(atom) for atom in jaxpr.outvars]
    self.arrays[path] = {key: value.axes for key, value in env.items()}
    return out

  def equation(self, eqn, values, path) -> list[Value]:
    """Reads one equation; returns its results."""
    name = eqn.primitive.name
    if name == 'scan':
      return self.scan(eqn, values, path)
    if name == 'while':
      return self.loop(eqn, values, path)
    if name == 'cond':
      return self.cond(eqn, values, path)
    if name in _jaxpr.INLINE or name in _jaxpr.REMAT:
      for key, body, _ in _jaxpr.bodies(eqn):
        if len(_jaxpr.opened(body).invars) == len(values):
          return self.run(body, values, (*path, key))
    if name in RULES:
      self.assign_roles(eqn, values)
      for axis, _ in products_of_values(eqn, values):
        self.labels.mark(values[0].axes[axis], NORM)
      axes = RULES[name](self.labels, eqn, values)
    else:
      self.unknown.append(self.place())
      axes = held(self.labels, eqn, values, f'{UNKNOWN} {name}')
    leaves = [value.leaves for value in values]
    made_of = None if None in leaves else frozenset().union(*leaves)
    static = all(value.static for value in values)
    zero = name in _STILL_ZERO and values[0].zero
    return [
      Value(a, made_of, static, zero, zeroed(eqn, values, a)) for a in axes
    ]

  def scan(self, eqn, values, path):
    """Reads a scan: carried values agree, stacked ones lose an axis."""
    first = eqn.params['num_consts']
    last = first + eqn.params['num_carry']
    (key, body, _), *_ = _jaxpr.bodies(eqn)
    rows = []
    for value in values[last:]:
      self.labels.freeze(value.axes[0], 'a scan runs along it')
      row = value._replace(axes=value.axes[1:], zeroed=value.zeroed[1:])
      rows.append(row)
    carry = [_carried(value) for value in values[first:last]]
    inner = [*values[:first], *carry, *rows]
    out = self.run(body, inner, (*path, key))
    self._equation = eqn
    carry = self.joined(carry, out[: len(carry)])
    length = self.labels.fixed(eqn.params['length'])
    rows = []
    for value in out[len(carry) :]:
      axes = (length, *value.axes)
      rows.append(_carried(value._replace(axes=axes)))
    return [*carry, *rows]

  def loop(self, eqn, values, path):
    """Reads a `while`: carried values agree."""
    tested = eqn.params['cond_nconsts']
    used = tested + eqn.params['body_nconsts']
    carry = [_carried(value) for value in values[used:]]
    bodies = {key: body for key, body, _ in _jaxpr.bodies(eqn)}
    self.run(bodies['cond'], [*values[:tested], *carry], (*path, 'cond'))
    inner = [*values[tested:used], *carry]
    out = self.run(bodies['body'], inner, (*path, 'body'))
    self._equation = eqn
    return self.joined(carry, out)

  def cond(self, eqn, values, path):
    """Reads all branches; their results agree."""
    (key, body, _), *others = _jaxpr.bodies(eqn)
    out = self.run(body, values[1:], (*path, key))
    for key, body, _ in others:
      other = self.run(body, values[1:], (*path, key))
      self._equation = eqn
      out = self.joined(out, other)
    return [_carried(value) for value in out]

  def joined(self, ones, others) -> list[Value]:
    """What either of two computations gave."""
    for one, other in zip(ones, others, strict=True):
      for x, y in zip(one.axes, other.axes, strict=True):
        self.labels.unify(x, y)
    return ones

  def assign_roles(self, eqn, values):
    """Notes which axes of leaves an operation contracts, and which it makes."""
    name = eqn.primitive.name
    if name == 'conv_general_dilated':
      spec = eqn.params['dimension_numbers'].rhs_spec
      roles = [{}, {spec[1]: 'in', spec[0]: 'out'}]
    elif name == 'dot_general':
      contracted, batch = eqn.params['dimension_numbers']
      roles = [
        {
          axis: 'in' if axis in contracted[side] else 'out'
          for axis in range(len(value.axes))
          if axis not in batch[side]
        }
        for side, value in enumerate(values)
      ]
    elif name == 'gather':
      gone = eqn.params['dimension_numbers'].collapsed_slice_dims
      rank = range(len(values[0].axes))
      roles = [{axis: 'in' if axis in gone else 'out' for axis in rank}]
    else:
      return
    for value, axes in zip(values, roles, strict=False):
      for leaf in sorted(value.leaves or ()):
        if len(self.leaves[leaf]) > 1:
          self.assign(leaf, value, axes)

  def assign(self, leaf, value, roles):
    """Finds the axes of a leaf in those of a value that is made of it."""
    for axis, role in roles.items():
      there = value.axes[axis]
      for i, labels in enumerate(self.leaves[leaf]):
        if (leaf, i) not in self.roles and self.overlap(labels, there):
          self.roles[leaf, i] = role

  def overlap(self, x, y) -> bool:
    """Whether two axes share a class."""
    if x is y:
      return len(x) > 1
    if not x.any() or not y.any():
      return False
    x, y = (np.unique(self.labels.factors(axis)[0]) for axis in (x, y))
    return bool(np.isin(x[x > 0], y).any())


def _carried(value: Value) -> Value:
  """A value that changes from step to step."""
  return value._replace(
    leaves=None, zero=False, zeroed=(False,) * len(value.axes)
  )
