"""Evaluating a model on values of one's own kind.

`interpret` walks a model's jaxpr as JAX would, but hands every operation that
depends on the inputs to a function of the caller. What depends on the variables
alone is computed on the way and arrives as a `Known` array, with the path of
the leaf that it is.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from compress.graph import _jaxpr
from compress.graph import sites as sites_lib
from compress.graph.sites import Site

_COPIES = frozenset(
  {
    'broadcast_in_dim',
    'copy',
    'copy_p',
    'expand_dims',
    'optimization_barrier',
    'reshape',
    'squeeze',
    'stop_gradient',
  }
)


class Known(NamedTuple):
  """An array that does not depend on the model's inputs.

  Attributes:
    value: the array.
    leaf: path of the leaf of the variables that it is, perhaps in another
      shape with the elements in the same order, or None.
  """

  value: Any
  leaf: str | None = None


class Step(NamedTuple):
  """One operation that depends on the inputs.

  Attributes:
    name: of the JAX primitive.
    params: its parameters.
    where: the operation in words, for messages.
    site: the site that it is, or None.
    shapes: of its operands.
    out_shapes: of its results.
    out_dtypes: of its results.
  """

  name: str
  params: Mapping[str, Any]
  where: str
  site: Site | None
  shapes: tuple[tuple[int, ...], ...]
  out_shapes: tuple[tuple[int, ...], ...]
  out_dtypes: tuple[Any, ...]


Visit = Callable[[Step, Sequence[Any]], Sequence[Any]]


def interpret(
  apply: Callable[..., Any],
  variables,
  *inputs,
  symbols: Sequence[Any],
  visit: Visit,
) -> Any:
  """Evaluates a model with symbols for its inputs.

  Bodies of `jit`, `custom_jvp`, `custom_vjp` and `remat` are evaluated in
  place; `scan`, `while` and `cond` are handed over whole.

  Args:
    apply: pure function `apply(variables, *inputs)`.
    variables: pytree of arrays.
    *inputs: arrays or `jax.ShapeDtypeStruct`s, for the shapes.
    symbols: one value of the caller's for every leaf of `inputs`.
    visit: `(step, operands) -> results`, called for every operation that
      depends on the inputs, in order. Operands are `Known`, or what `visit`
      gave before.

  Returns:
    The model's output, its leaves `Known` or the caller's values.
  """
  closed, tree = _jaxpr.make(apply, variables, *inputs)
  paths = sites_lib.leaf_paths(variables)
  found = sites_lib.find_sites(closed, paths)

  def run(jaxpr, args, prefix):
    consts, jaxpr = _jaxpr.constants(jaxpr), _jaxpr.opened(jaxpr)
    env = dict(zip(jaxpr.constvars, map(Known, consts), strict=True))
    env.update(zip(jaxpr.invars, args, strict=True))

    def read(atom):
      return Known(atom.val) if _jaxpr.is_literal(atom) else env[atom]

    for i, eqn in enumerate(jaxpr.eqns):
      operands = [read(atom) for atom in eqn.invars]
      out = equation(eqn, operands, (*prefix, i))
      env.update(zip(eqn.outvars, out, strict=True))
    return [read(atom) for atom in jaxpr.outvars]

  def equation(eqn, operands, path):
    name = eqn.primitive.name
    if all(isinstance(v, Known) for v in operands):
      out = _jaxpr.bind(eqn, *(v.value for v in operands))
      same = (
        name in _COPIES
        and len(operands) == 1
        and jnp.size(out[0]) == jnp.size(operands[0].value)
      )
      return [Known(v, operands[0].leaf if same else None) for v in out]
    if name in _jaxpr.INLINE or name in _jaxpr.REMAT:
      (key, body, _), *_ = _jaxpr.bodies(eqn)
      return run(body, operands, (*path, key))
    site = found.get(path)
    scope = _jaxpr.scope(eqn)
    where = f'at site {site.name!r}' if site is not None else f'in {scope!r}'
    step = Step(
      name,
      eqn.params,
      f'{name} {where}' if site is not None or scope else name,
      site,
      tuple(tuple(atom.aval.shape) for atom in eqn.invars),
      tuple(tuple(var.aval.shape) for var in eqn.outvars),
      tuple(var.aval.dtype for var in eqn.outvars),
    )
    return visit(step, operands)

  leaves = zip(jax.tree.leaves(variables), paths, strict=True)
  args = [Known(leaf, path) for leaf, path in leaves]
  return jax.tree.unflatten(tree, run(closed, [*args, *symbols], ()))
