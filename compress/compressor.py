"""The shape that every method on weights has, and plans of what goes where.

A method is a pair of pure functions around a state, in the manner of an optax
transformation. `params` is any pytree of arrays, usually a model's `params`
collection; paths are relative to it, joined by `/`.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from compress import graph
from compress.errors import InputError
from compress.packed import Bucketed, Dense, Sparse, is_packed, sparse


class State(NamedTuple):
  """State of a compressor.

  Attributes:
    learned: pytree of arrays, differentiated and updated with the parameters.
    carried: pytree of arrays that only `update` changes.
  """

  learned: Any = ()
  carried: Any = ()


class Compressor(NamedTuple):
  """A method on weights.

  Attributes:
    init: `(params) -> State`.
    apply: `(params, state) -> params`, what the forward pass sees: same
      structure, shapes and dtypes; pure, differentiable in `params` and in
      `state.learned`, used inside the loss.
    update: `(params, state, *, step, grads=None) -> State`, between steps:
      masks, codebooks, ranges.
    pack: `(params, state)` -> the same tree with a `compress.packed` tensor at
      every leaf, which unpacks to what `apply` gives.
  """

  init: Callable[[Any], State]
  apply: Callable[[Any, State], Any]
  update: Callable[..., State]
  pack: Callable[[Any, State], Any]


def keep_state(params, state: State, *, step, grads=None) -> State:
  """The `update` of a method whose state stays as it is."""
  del params, step, grads
  return state


def pack_covered(function, params, specs: Mapping[str, Any]):
  """`map_covered` with a `Dense` tensor at every leaf without a spec."""

  def at(path, leaf):
    name = graph.path_string(path)
    if name in specs:
      return function(leaf, specs[name], name)
    return Dense(jnp.asarray(leaf), changed=False)

  return jax.tree_util.tree_map_with_path(at, params)


def identity() -> Compressor:
  """The method that does nothing."""
  return Compressor(
    init=lambda params: State(),
    apply=lambda params, state: params,
    update=keep_state,
    pack=lambda params, state: pack_covered(None, params, {}),
  )


def chain(*compressors: Compressor) -> Compressor:
  """Methods one after the other: the first sees the parameters first.

  Each method's `init`, `update` and `pack` see the parameters as the methods
  before it leave them. A leaf that the later methods leave alone is packed by
  the earlier ones.

  Args:
    *compressors: the methods, in order; none gives `identity()`.

  Returns:
    The composed method; its state holds one entry a method.
  """

  def stages(params, state):
    for i, compressor in enumerate(compressors):
      inner = State(state.learned[i], state.carried[i])
      yield compressor, params, inner
      params = compressor.apply(params, inner)

  def join(states):
    return State(
      tuple(s.learned for s in states), tuple(s.carried for s in states)
    )

  def init(params):
    states = []
    for compressor in compressors:
      states.append(compressor.init(params))
      params = compressor.apply(params, states[-1])
    return join(states)

  def apply(params, state):
    out = params
    for compressor, seen, inner in stages(params, state):
      out = compressor.apply(seen, inner)
    return out

  def update(params, state, *, step, grads=None):
    return join(
      [
        compressor.update(seen, inner, step=step, grads=grads)
        for compressor, seen, inner in stages(params, state)
      ]
    )

  def pack(params, state):
    out = pack_covered(None, params, {})
    for compressor, seen, inner in stages(params, state):
      new = compressor.pack(seen, inner)
      out = jax.tree.map(_later, out, new, is_leaf=is_packed)
    return out

  return Compressor(init, apply, update, pack)


def _later(before, after):
  if _unchanged(after):
    return before
  if isinstance(after, Sparse) and _unchanged(after.inner):
    return sparse(after.mask, before, pattern=after.pattern)
  # Quantized and sparse tensors keep zeros; buckets need not.
  if isinstance(before, Sparse) and not isinstance(after, Dense | Bucketed):
    return sparse(before.mask, after, pattern=before.pattern)
  return after


def _unchanged(packed):
  return isinstance(packed, Dense) and not packed.changed


@dataclasses.dataclass(frozen=True)
class _Keep:
  """Type of `KEEP`."""

  def __repr__(self):
    return 'KEEP'


KEEP = _Keep()
"""Stands for "this leaf is not compressed" where a rule needs a spec."""

Rules = Sequence[tuple[str, Any]]


@dataclasses.dataclass(frozen=True)
class Plan:
  """Which leaf gets which choice.

  Attributes:
    specs: name to spec, for what a rule covers with one.
    unused: patterns that matched nothing which an earlier one had not taken.
    uncovered: names that no rule matched.
  """

  specs: Mapping[str, Any]
  unused: tuple[str, ...]
  uncovered: tuple[str, ...]


def resolve(rules: Rules, params) -> Plan:
  """Resolves ordered patterns against the leaves of a tree; `resolve_names`."""
  return resolve_names(rules, graph.leaf_paths(params))


def resolve_names(rules: Rules, names: Sequence[str]) -> Plan:
  """Resolves ordered patterns against names (of leaves, of sites).

  Args:
    rules: `(pattern, spec)` pairs; the pattern is a regular expression that
      must match a whole name; the first that does, wins. The spec `KEEP`
      leaves what it matches uncompressed on purpose.
    names: what is to be covered.

  Returns:
    The plan.

  Raises:
    InputError: a pattern is no regular expression.
  """
  compiled = []
  for pattern, spec in rules:
    try:
      compiled.append((re.compile(pattern), spec))
    except re.error as error:
      raise InputError(
        f'plan pattern {pattern!r} is no regular expression: {error}'
      ) from None
  specs, uncovered, used = {}, [], set()
  for name in names:
    for pattern, spec in compiled:
      if pattern.fullmatch(name):
        used.add(pattern.pattern)
        if spec is not KEEP:
          specs[name] = spec
        break
    else:
      uncovered.append(name)
  unused = tuple(p for p, _ in rules if p not in used)
  return Plan(specs, unused, tuple(uncovered))


def map_covered(function, params, specs: Mapping[str, Any]):
  """Applies `function(leaf, spec, path)` at the leaves that have a spec.

  Args:
    function: called with the leaf, its spec and its path.
    params: pytree of arrays.
    specs: leaf path to spec.

  Returns:
    The tree with the results in place; other leaves as they are.
  """

  def at(path, leaf):
    name = graph.path_string(path)
    return function(leaf, specs[name], name) if name in specs else leaf

  return jax.tree_util.tree_map_with_path(at, params)
