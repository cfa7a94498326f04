"""Walking a model backwards with a rule of one's own at every operation.

Reverse-mode differentiation sends a cotangent from a result to the operands
that made it, by one rule for each operation. Other quantities go the same way
by other rules: relevance, importance, bounds. `backward` evaluates a model,
remembers what it did, and goes back through it with the rule given.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from compress.graph import _jaxpr
from compress.graph import sites as sites_lib
from compress.graph.sites import Site

# Operations whose result is their operands' values, moved, repeated or left
# out: differentiation sends a quantity back to where it came from.
REARRANGING = frozenset(
  {
    'broadcast_in_dim',
    'concatenate',
    'convert_element_type',
    'copy',
    'copy_p',
    'dynamic_slice',
    'expand_dims',
    'gather',
    'mesh_cast',
    'name',
    'optimization_barrier',
    'pad',
    'pvary',
    'reduce_precision',
    'reshape',
    'reshard',
    'rev',
    'select_n',
    'sharding_constraint',
    'slice',
    'split',
    'squeeze',
    'transpose',
  }
)


@dataclasses.dataclass(frozen=True)
class Operation:
  """One operation of a model, as it was evaluated.

  An operand *carries* if it depends on the inputs of the model other than
  through integers, booleans and `stop_gradient`.

  Attributes:
    name: of the JAX primitive, e.g. `conv_general_dilated`.
    params: the primitive's parameters.
    scope: the name stack where it stands.
    site: the site that it is, or None.
    first: whether it is a site with no other site between it and the inputs.
    carries: for every operand, whether it carries.
    learned: for every operand, whether it depends on the variables.
    operands: the values it was given.
    results: the values it gave.
    run: the operation itself, of as many operands; returns a list.
  """

  name: str
  params: Mapping[str, Any] = dataclasses.field(repr=False)
  scope: str
  site: Site | None
  first: bool
  carries: tuple[bool, ...]
  learned: tuple[bool, ...]
  operands: tuple[Any, ...] = dataclasses.field(repr=False)
  results: tuple[Any, ...] = dataclasses.field(repr=False)
  run: Callable[..., list[Any]] = dataclasses.field(repr=False)

  @property
  def where(self) -> str:
    """The operation in words, for messages."""
    if self.site is not None:
      return f'{self.name} at site {self.site.name!r}'
    return f'{self.name} in {self.scope!r}' if self.scope else self.name

  def pull(self, cotangents: Sequence[Any]) -> tuple[Any, ...]:
    """Sends cotangents back as differentiation does; None if not carried."""
    carried = [i for i, carries in enumerate(self.carries) if carries]

    def run(*values):
      operands = list(self.operands)
      for i, value in zip(carried, values, strict=True):
        operands[i] = value
      out = self.run(*operands)
      kept = zip(out, cotangents, strict=True)
      return [value for value, cotangent in kept if cotangent is not None]

    _, transpose = jax.vjp(run, *(self.operands[i] for i in carried))
    back = transpose([c for c in cotangents if c is not None])
    out = [None] * len(self.operands)
    for i, value in zip(carried, back, strict=True):
      out[i] = value
    return tuple(out)


BackwardRule = Callable[[Operation, tuple[Any, ...]], Sequence[Any]]


class Arrival(NamedTuple):
  """What came back to the result of a site."""

  site: Site
  value: jax.Array


class Backward(NamedTuple):
  """Where everything went.

  Attributes:
    out: the model's output.
    inputs: one tree for each input; what came back to it (zeros where nothing
      did, None for integers).
    sites: what came back to the result of every site that anything reached, by
      the site's name.
  """

  out: Any
  inputs: tuple[Any, ...]
  sites: dict[str, Arrival]


def backward(
  apply: Callable[..., Any],
  rule: BackwardRule,
  start: Callable[[Any], Any],
  variables,
  *inputs,
) -> Backward:
  """Evaluates a model and goes back through it with a rule.

  `rule(operation, values)` is called for every operation with a carrying
  operand that anything came back to, last to first. `values` has one array for
  each result (None for one that does not carry); the rule returns one array of
  the operand's shape, or None, for each operand; only those of carrying
  operands are looked at. A value read several times gets the sum.
  `operation.pull` is the rule of differentiation.

  Bodies of `jit`, `remat`, `custom_jvp` and `custom_vjp` are gone through
  operation by operation. `scan`, `while` and `cond` come to the rule whole.
  Ordinary JAX: works under `jit` and `vmap`.

  Args:
    apply: pure function `apply(variables, *inputs)`.
    rule: see above.
    start: from the model's output to what is sent back from it, of the same
      tree and shapes.
    variables: pytree of arrays.
    *inputs: arrays or pytrees of them.

  Returns:
    What arrived at the inputs and at the sites.
  """
  closed, tree = _jaxpr.make(apply, variables, *inputs)
  found = sites_lib.find_sites(closed, sites_lib.leaf_paths(variables))
  leaves = [_Cell(leaf, learned=True) for leaf in jax.tree.leaves(variables)]
  given, structure = jax.tree.flatten(inputs)
  entries = [_Cell(leaf, carries=_inexact(leaf)) for leaf in given]
  tape: list[tuple[Operation, list[_Cell], list[_Cell]]] = []
  ends = _Recorder(found, tape).run(closed, [*leaves, *entries], ())
  out = jax.tree.unflatten(tree, [end.value for end in ends])
  for end, value in zip(ends, jax.tree.leaves(start(out)), strict=True):
    end.add(value)
  sites = {}
  for operation, operands, results in reversed(tape):
    arrived = tuple(result.arrived() for result in results)
    if all(result.back is None for result in results):
      continue
    site = operation.site
    if site is not None:
      sites[site.name] = Arrival(site, arrived[0])
    for cell, value in zip(operands, rule(operation, arrived), strict=True):
      if value is not None:
        cell.add(value)
  back = jax.tree.unflatten(structure, [entry.arrived() for entry in entries])
  return Backward(out, back, sites)


@dataclasses.dataclass(eq=False)
class _Cell:
  """A value of the evaluation, and what has come back to it so far."""

  value: Any
  carries: bool = False
  learned: bool = False
  passed_site: bool = False
  back: Any = None

  def add(self, value):
    if self.carries:
      self.back = value if self.back is None else self.back + value

  def arrived(self):
    if self.carries and self.back is None:
      return jnp.zeros_like(self.value)
    return self.back


@dataclasses.dataclass(frozen=True)
class _Recorder:
  """Evaluates nested jaxprs and writes down what happened."""

  found: dict[tuple[Any, ...], Site]
  tape: list[Any]

  def run(self, jaxpr, args, prefix) -> list[_Cell]:
    consts, jaxpr = _jaxpr.constants(jaxpr), _jaxpr.opened(jaxpr)
    env = dict(zip(jaxpr.constvars, map(_Cell, consts), strict=True))
    env.update(zip(jaxpr.invars, args, strict=True))

    def read(atom):
      return _Cell(atom.val) if _jaxpr.is_literal(atom) else env[atom]

    for i, eqn in enumerate(jaxpr.eqns):
      operands = [read(atom) for atom in eqn.invars]
      results = self.equation(eqn, operands, (*prefix, i))
      env.update(zip(eqn.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]

  def equation(self, eqn, operands, path) -> list[_Cell]:
    name = eqn.primitive.name
    if name in _jaxpr.INLINE or name in _jaxpr.REMAT:
      key, body, _ = next(iter(_jaxpr.bodies(eqn)))
      return self.run(body, operands, (*path, key))
    values = tuple(cell.value for cell in operands)
    out = _jaxpr.bind(eqn, *values)
    site = self.found.get(path)
    passed = any(cell.passed_site for cell in operands)
    layer = site is not None and site.kind != 'name'
    moves = name != 'stop_gradient' and any(cell.carries for cell in operands)
    results = [
      _Cell(
        value,
        carries=moves and _inexact(value),
        learned=any(cell.learned for cell in operands),
        passed_site=passed or layer,
      )
      for value in out
    ]
    if any(result.carries for result in results):
      operation = Operation(
        name=name,
        params=eqn.params,
        scope=_jaxpr.scope(eqn),
        site=site,
        first=layer and not passed,
        carries=tuple(cell.carries for cell in operands),
        learned=tuple(cell.learned for cell in operands),
        operands=values,
        results=tuple(out),
        run=lambda *values: _jaxpr.bind(eqn, *values),
      )
      self.tape.append((operation, operands, results))
    return results


def _inexact(value) -> bool:
  return jnp.issubdtype(jnp.result_type(value), jnp.inexact)


def channel_axes(site: Site) -> tuple[int, ...]:
  """The axes of a site's result that its weight makes: its units.

  Args:
    site: a convolution or matrix product with a weight.

  Returns:
    Axes of `site.out_shape`. One for a convolution and for a matrix product
    with one output axis; several where the weight has several.
  """
  numbers = site.params['dimension_numbers']
  if site.kind == 'conv':
    return (numbers.out_spec[1],)
  (left, right), (batch, _) = numbers
  free = len(site.lhs_shape) - len(left) - len(batch)
  end = len(batch) + free
  if site.weight_operand == 1:
    return tuple(range(end, len(site.out_shape)))
  return tuple(range(len(batch), end))


def unit_totals(arrivals: Mapping[str, Arrival]) -> dict[str, jax.Array]:
  """Sums what arrived at the layers over samples and positions.

  Args:
    arrivals: by site name, as `Backward.sites`.

  Returns:
    Path of a layer's weight to [C_out] (or the weight's several output axes);
    uses of one weight are added up. Sites without a weight are left out.
  """
  out: dict[str, jax.Array] = {}
  for site, value in arrivals.values():
    if site.weight is None:
      continue
    axes = set(range(value.ndim)) - set(channel_axes(site))
    total = jnp.sum(value, axis=tuple(axes))
    previous = out.get(site.weight)
    out[site.weight] = total if previous is None else previous + total
  return out
