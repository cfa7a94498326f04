"""Trace a model once, or evaluate it with a rule at every site."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from jax.ad_checkpoint import checkpoint_name

from compress.graph import _jaxpr
from compress.graph import sites as sites_lib
from compress.graph.sites import Site

Rule = Callable[..., Any]


class Emit(NamedTuple):
  """A rule's result that also hands a value out of the model.

  Attributes:
    value: takes the place of the site's result.
    aux: any pytree of arrays; returned by the rewritten function under the
      site's name. From inside a `scan` it comes stacked, one entry an
      iteration.
  """

  value: Any
  aux: Any


@dataclasses.dataclass(frozen=True)
class Graph:
  """What a model is made of, read once from its jaxpr.

  Attributes:
    sites: every convolution and matrix product, in order of evaluation.
    names: every value named with `checkpoint_name`, in order.
    weights: path to shape of every leaf of the variables.
    jaxpr: the closed jaxpr itself; its first inputs are the leaves, in the
      order of `weights`, the others those of the inputs.
  """

  sites: tuple[Site, ...]
  names: tuple[Site, ...]
  weights: dict[str, tuple[int, ...]]
  jaxpr: Any = dataclasses.field(repr=False, compare=False)


def trace(apply: Callable[..., Any], variables, *inputs) -> Graph:
  """Reads the structure of a model.

  Args:
    apply: pure function `apply(variables, *inputs)`.
    variables: pytree of arrays or `jax.ShapeDtypeStruct`s.
    *inputs: arrays or `jax.ShapeDtypeStruct`s; their batch size is the one
      that MACs are counted for.

  Returns:
    The model's graph. Nothing is computed.
  """
  closed, _ = _jaxpr.make(apply, variables, *inputs)
  paths = sites_lib.leaf_paths(variables)
  found = sites_lib.find_sites(closed, paths).values()
  shapes = [tuple(leaf.shape) for leaf in jax.tree.leaves(variables)]
  return Graph(
    sites=tuple(s for s in found if s.kind != 'name'),
    names=tuple(s for s in found if s.kind == 'name'),
    weights=dict(zip(paths, shapes, strict=True)),
    jaxpr=closed,
  )


def compose(*rules: Rule) -> Rule:
  """One rule out of several: the first sees the site first.

  The `op` that a rule is given runs the next rule, and the last one's runs the
  model's own operation.
  """

  def rule(site, op, *operands):
    for inner in reversed(rules):
      op = functools.partial(inner, site, op)
    return op(*operands)

  return rule


def rewrite(
  apply: Callable[..., Any], rule: Rule, *, has_aux: bool = False
) -> Callable[..., Any]:
  """The same function, evaluated with `rule` at every site.

  `rule(site, op, lhs, rhs)` is called at every convolution and matrix product
  (`site.kind` is `conv` or `dot`), and `rule(site, op, x)` at every value
  named with `checkpoint_name` (`name`). `op(...)` does what the model did. The
  rule returns the value to go on with, or an `Emit`.

  The result is ordinary JAX, good under `jit`, `grad`, `vmap` and sharding.
  Bodies of `jit`, `custom_jvp` and `custom_vjp` that hold a site are evaluated
  in place, so a custom derivative around a site gives way to the body's own;
  without a site inside they are kept whole. `remat` and `scan` are rebuilt,
  and `while` and `cond` too, but nothing may be emitted from those two.

  Args:
    apply: pure function `apply(variables, *inputs)`.
    rule: see above; `compose` makes one of several.
    has_aux: return `(out, aux)`, aux a dict from site name to emitted value.

  Returns:
    A function of the same arguments.

  Raises:
    NotImplementedError: when the model is traced, naming the site, if one lies
      in a construct that cannot be rebuilt (`shard_map`, a kernel call), or
      emits inside `while` or `cond`.
  """

  @functools.wraps(apply)
  def rewritten(variables, *inputs):
    closed, tree = _jaxpr.make(apply, variables, *inputs)
    found = sites_lib.find_sites(closed, sites_lib.leaf_paths(variables))
    flat = jax.tree.leaves((variables, *inputs))
    out, aux = evaluate(closed, flat, found, rule)
    out = jax.tree.unflatten(tree, out)
    return (out, aux) if has_aux else out

  return rewritten


def evaluate(
  closed, args, found: Mapping[tuple[Any, ...], Any], rule: Rule
) -> tuple[list[Any], dict[str, Any]]:
  """Evaluates a closed jaxpr with a rule at the equations found in it.

  Args:
    closed: the jaxpr.
    args: its inputs.
    found: path of an equation in the nested jaxprs to what it is: a `Site`, or
      anything else with a `name` and a `kind`. Each has one result.
    rule: as for `rewrite`.

  Returns:
    Its outputs, and by name what was emitted.
  """
  return _Evaluator(found, rule).run(closed, args, ())


class _Evaluator:
  """Evaluates nested jaxprs with a rule; collects what it emits."""

  def __init__(self, found: Mapping[tuple[Any, ...], Any], rule: Rule):
    self.found = found
    self.rule = rule
    self.inside = {
      path[:depth]: site
      for path, site in reversed(found.items())
      for depth in range(1, len(path))
    }

  def run(self, jaxpr, args, prefix) -> tuple[list[Any], dict[str, Any]]:
    """Evaluates one jaxpr; returns its outputs and what was emitted."""
    consts, jaxpr = _jaxpr.constants(jaxpr), _jaxpr.opened(jaxpr)
    env = dict(zip(jaxpr.constvars, consts, strict=True))
    env.update(zip(jaxpr.invars, args, strict=True))
    aux: dict[str, Any] = {}

    def read(atom):
      return atom.val if _jaxpr.is_literal(atom) else env[atom]

    for i, eqn in enumerate(jaxpr.eqns):
      operands = [read(atom) for atom in eqn.invars]
      path = (*prefix, i)
      if path in self.found:
        out, emitted = self.site(self.found[path], eqn, operands)
      elif path in self.inside:
        out, emitted = self.call(eqn, operands, path)
      else:
        out, emitted = _jaxpr.bind(eqn, *operands), {}
      env.update(zip(eqn.outvars, out, strict=True))
      aux.update(emitted)
    return [read(atom) for atom in jaxpr.outvars], aux

  def site(self, site, eqn, operands):
    if site.kind == 'name':
      op = functools.partial(checkpoint_name, name=eqn.params['name'])
    else:

      def op(*values):
        return _jaxpr.bind(eqn, *values)[0]

    out = self.rule(site, op, *operands)
    if isinstance(out, Emit):
      return [out.value], {site.name: out.aux}
    return [out], {}

  def call(self, eqn, operands, path):
    """Evaluates an equation that holds a site in a nested jaxpr."""
    name = eqn.primitive.name
    (key, body, _), *others = _jaxpr.bodies(eqn)
    if name in _jaxpr.INLINE:
      return self.run(body, operands, (*path, key))
    if name in _jaxpr.REMAT:

      def recomputed(*args):
        return self.run(body, args, (*path, key))

      kept = {k: eqn.params[k] for k in ('policy', 'prevent_cse')}
      return jax.checkpoint(recomputed, **kept)(*operands)
    if name == 'scan':
      return self.scan(eqn, body, operands, (*path, key))
    if name == 'cond':
      keys = [key, *(other[0] for other in others)]
      return self.cond(eqn, operands, [(*path, k) for k in keys]), {}
    if name == 'while':
      return self.loop(eqn, operands, path), {}
    raise NotImplementedError(
      f'site {self.inside[path].name!r} lies inside {name!r}, which cannot be '
      'rewritten; apply the rewrite inside it'
    )

  def scan(self, eqn, body, operands, path):
    consts = operands[: eqn.params['num_consts']]
    carry_end = len(consts) + eqn.params['num_carry']
    count = eqn.params['num_carry']

    def step(carry, xs):
      out, aux = self.run(body, [*consts, *carry, *xs], path)
      return out[:count], (out[count:], aux)

    carry, (ys, aux) = jax.lax.scan(
      step,
      operands[len(consts) : carry_end],
      operands[carry_end:],
      length=eqn.params['length'],
      reverse=eqn.params['reverse'],
      unroll=eqn.params['unroll'],
    )
    return [*carry, *ys], aux

  def cond(self, eqn, operands, paths):
    def branch(body, path):
      return lambda *args: self.silent(body, args, path)

    branches = zip(eqn.params['branches'], paths, strict=True)
    index, *args = operands
    return jax.lax.switch(index, [branch(b, p) for b, p in branches], *args)

  def loop(self, eqn, operands, path):
    split = eqn.params['cond_nconsts']
    start = split + eqn.params['body_nconsts']
    tested, used = operands[:split], operands[split:start]

    def test(carry):
      args = [*tested, *carry]
      return self.silent(eqn.params['cond_jaxpr'], args, (*path, 'cond'))[0]

    def body(carry):
      args = [*used, *carry]
      return self.silent(eqn.params['body_jaxpr'], args, (*path, 'body'))

    return jax.lax.while_loop(test, body, operands[start:])

  def silent(self, body, args, path):
    """Evaluates a body out of which no value can be handed."""
    out, aux = self.run(body, args, path)
    if aux:
      raise NotImplementedError(
        f'site {next(iter(aux))!r} lies inside `while` or `cond`, from which '
        'no value can be emitted'
      )
    return out
