"""Evaluates a jaxpr traced at full width on arrays with channels removed."""

import contextlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compress.graph import _jaxpr
from compress.graph._kept import Indices, Kept, Uneven, constant, meet, whole
from compress.graph._kept_rules import PULLED, RULES
from compress.graph._kept_shapes import broadcast

_SITES = frozenset({'conv_general_dilated', 'dot_general', 'name'})
_CUSTOM = frozenset({'custom_jvp_call', 'custom_vjp_call'})


class Evaluator:
  """Evaluates nested jaxprs; notes what is left of the result of each site.

  Operations on whole arrays are evaluated as they are, calls as one. An
  operation on a shortened array is evaluated by its rule; calls and loops
  around it are rebuilt. Sizes are worked out from the operands alone, while
  tracing.

  Attributes:
    sites: from the path of a site to the kept indices of its result.
  """

  def __init__(self):
    self.sites: dict[tuple[Any, ...], Indices] = {}

  def run(
    self, jaxpr, values: Sequence[Kept], prefix: tuple[Any, ...]
  ) -> list[Kept]:
    """Evaluates one jaxpr.

    Args:
      jaxpr: open or closed, with full sizes.
      values: its inputs.
      prefix: where it stands in the nested jaxprs.

    Returns:
      Its outputs.

    Raises:
      NotImplementedError: naming the operation that channels cannot be removed
        from.
    """
    consts, jaxpr = _jaxpr.constants(jaxpr), _jaxpr.opened(jaxpr)
    env = dict(zip(jaxpr.constvars, map(constant, consts), strict=True))
    env.update(zip(jaxpr.invars, values, strict=True))

    def read(atom):
      return constant(atom.val) if _jaxpr.is_literal(atom) else env[atom]

    for i, eqn in enumerate(jaxpr.eqns):
      operands = [read(atom) for atom in eqn.invars]
      scope = _jaxpr.scope(eqn)
      with jax.named_scope(scope) if scope else contextlib.nullcontext():
        try:
          out = self.equation(eqn, operands, (*prefix, i))
        except Uneven as error:
          where = f' at {scope!r}' if scope else ''
          raise NotImplementedError(
            f'{eqn.primitive.name!r}{where}: the channels that are left form '
            f'no box in {error}'
          ) from None
        if eqn.primitive.name in _SITES:
          self.sites[(*prefix, i)] = out[0].kept
        for value in out:
          if value.pull is None:
            value.array  # noqa: B018  (in the order of the model)
      env.update(zip(eqn.outvars, out, strict=True))
    return [read(atom) for atom in jaxpr.outvars]

  def equation(self, eqn, operands, path) -> list[Kept]:
    name = eqn.primitive.name

    def bind(*arrays, **changes):
      return _jaxpr.bind(eqn, *arrays, **changes)

    rule = RULES.get(name)
    pulled = rule is broadcast or (
      rule in PULLED
      and any(v.full for v in operands)
      and all(v.pull is not None for v in operands)
    )
    if not pulled and not any(v.shrunk for v in operands):
      return [whole(a) for a in bind(*(v.array for v in operands))]
    if rule is not None:
      return rule(eqn, operands, bind)
    if name in _CUSTOM and all(
      map(_differentiable, [*eqn.invars, *eqn.outvars])
    ):
      return self.custom(eqn, operands, path)
    if name in _jaxpr.INLINE:
      ((key, body, _), *_) = _jaxpr.bodies(eqn)
      return self.run(body, operands, (*path, key))
    rebuild = {
      'scan': self.scan,
      'while': self.loop,
      'cond': self.cond,
      **dict.fromkeys(_jaxpr.REMAT, self.remat),
    }.get(name)
    if rebuild is None:
      scope = _jaxpr.scope(eqn)
      raise NotImplementedError(
        f'channels cannot be removed around {name!r}'
        + (f' at {scope!r}' if scope else '')
      )
    return rebuild(eqn, operands, path)

  def body(self, jaxpr, like: Sequence[Kept], path):
    """A body as a function of arrays, and what its outputs keep.

    The function takes a list of kept indices that its outputs are brought to.
    """

    def function(arrays, wanted=None):
      values = [_given(v, a) for v, a in zip(like, arrays, strict=True)]
      out = self.run(jaxpr, values, path)
      if wanted is not None:
        out = [v.only(k) for v, k in zip(out, wanted, strict=True)]
      kept.append([v.kept for v in out])
      return [v.array for v in out]

    kept: list[list[Indices]] = []
    inputs = zip(like, _jaxpr.opened(jaxpr).invars, strict=True)
    avals = [jax.ShapeDtypeStruct(v.shape, x.aval.dtype) for v, x in inputs]
    jax.eval_shape(function, avals)
    return function, kept[0]

  def remat(self, eqn, operands, path):
    ((key, jaxpr, _), *_) = _jaxpr.bodies(eqn)
    function, kept = self.body(jaxpr, operands, (*path, key))
    options = {k: eqn.params[k] for k in ('policy', 'prevent_cse')}
    recomputed = jax.checkpoint(lambda *arrays: function(arrays), **options)
    out = recomputed(*_arrays(operands, eqn.invars))
    return _results(eqn, kept, out)

  def scan(self, eqn, operands, path):
    first, count = eqn.params['num_consts'], eqn.params['num_carry']
    consts, xs = operands[:first], operands[first + count :]
    for x in xs:
      if x.kept[0] is not None:
        raise NotImplementedError(
          "'scan' runs along an axis with removed channels"
        )
    slices = [Kept(x.full[1:], x.kept[1:], lambda: None) for x in xs]
    body, path = eqn.params['jaxpr'], (*path, 'body')

    def trial(carry):
      function, kept = self.body(body, [*consts, *carry, *slices], path)
      return function, kept, kept[:count]

    function, kept, carry = _settle(operands[first : first + count], trial)
    wanted = [*(c.kept for c in carry), *kept[count:]]
    arrays = _arrays([*consts, *carry, *xs], eqn.invars)
    consts, xs = arrays[:first], arrays[first + count :]

    def step(carry, xs):
      out = function([*consts, *carry, *xs], wanted)
      return out[:count], out[count:]

    last, ys = jax.lax.scan(
      step,
      arrays[first : first + count],
      xs,
      length=eqn.params['length'],
      reverse=eqn.params['reverse'],
      unroll=eqn.params['unroll'],
    )
    stacked = [(None, *k) for k in kept[count:]]
    return _results(eqn, [*wanted[:count], *stacked], [*last, *ys])

  def loop(self, eqn, operands, path):
    split = eqn.params['cond_nconsts']
    start = split + eqn.params['body_nconsts']
    tested, used = operands[:split], operands[split:start]

    def trial(carry):
      jaxpr = eqn.params['body_jaxpr']
      function, kept = self.body(jaxpr, [*used, *carry], (*path, 'body'))
      return function, kept, kept

    function, _, carry = _settle(operands[start:], trial)
    wanted = [v.kept for v in carry]
    test, _ = self.body(
      eqn.params['cond_jaxpr'], [*tested, *carry], (*path, 'cond')
    )
    arrays = _arrays([*tested, *used, *carry], eqn.invars)
    tested, used = arrays[:split], arrays[split:start]
    out = jax.lax.while_loop(
      lambda carry: test([*tested, *carry])[0],
      lambda carry: function([*used, *carry], wanted),
      arrays[start:],
    )
    return _results(eqn, wanted, out)

  def cond(self, eqn, operands, path):
    index, *args = operands
    found = [
      self.body(jaxpr, args, (*path, key))
      for key, jaxpr, _ in _jaxpr.bodies(eqn)
    ]
    wanted = [
      tuple(_meet_all(ks) for ks in zip(*outs, strict=True))
      for outs in zip(*(kept for _, kept in found), strict=True)
    ]
    branches = [
      lambda *arrays, f=function: f(arrays, wanted) for function, _ in found
    ]
    out = jax.lax.switch(index.array, branches, *_arrays(args, eqn.invars[1:]))
    return _results(eqn, wanted, out)

  def custom(self, eqn, operands, path):
    """A custom derivative stays one: its rule is traced and shortened too."""
    ((key, jaxpr, _), *_) = _jaxpr.bodies(eqn)
    function, kept = self.body(jaxpr, operands, (*path, key))
    results = [
      Kept(v.aval.shape, k, lambda: None)
      for v, k in zip(eqn.outvars, kept, strict=True)
    ]
    full, fixed = len(operands), eqn.params['num_consts']

    def original(*args):
      return _jaxpr.bind(eqn, *args)

    def derived(rule, like, *arrays):
      avals = [
        jax.ShapeDtypeStruct(v.full, a.dtype)
        for v, a in zip(like, arrays, strict=True)
      ]
      closed, _ = _jaxpr.make(rule, *avals)
      values = [_given(v, a) for v, a in zip(like, arrays, strict=True)]
      return Evaluator().run(closed, values, ())

    if eqn.primitive.name == 'custom_jvp_call':
      shortened = jax.custom_jvp(lambda *args: function(args, kept))

      @shortened.defjvp
      def _(primals, tangents):
        def rule(*args):
          return jax.jvp(original, args[:full], args[full:])

        out = derived(rule, [*operands, *operands], *primals, *tangents)
        out = [
          v.filled(k).array for v, k in zip(out, [*kept, *kept], strict=True)
        ]
        return out[: len(kept)], out[len(kept) :]

    else:
      shortened = jax.custom_vjp(lambda *args: function(args, kept))

      def forward(*args):
        return function(args, kept), args

      def backward(args, cotangents):
        def rule(*values):
          args, cotangents = values[:full], values[full:]

          def free(*rest):
            return original(*args[:fixed], *rest)

          return jax.vjp(free, *args[fixed:])[1](list(cotangents))

        out = derived(rule, [*operands, *results], *args, *cotangents)
        zeros = [jnp.zeros_like(a) for a in args[:fixed]]
        out = [
          v.filled(like.kept).array
          for v, like in zip(out, operands[fixed:], strict=True)
        ]
        return (*zeros, *out)

      shortened.defvjp(forward, backward)
    return _results(eqn, kept, shortened(*_arrays(operands, eqn.invars)))


def _settle(carry, trial):
  """Shortens what a loop carries until each turn hands on what it took."""
  while True:
    function, kept, returned = trial(carry)
    wanted = [
      tuple(map(meet, v.kept, k)) for v, k in zip(carry, returned, strict=True)
    ]
    shorter = [v.only(k) for v, k in zip(carry, wanted, strict=True)]
    if all(a is b for a, b in zip(shorter, carry, strict=True)):
      return function, kept, carry
    carry = shorter


def _meet_all(indices):
  out = None
  for k in indices:
    out = meet(out, k)
  return out


def _given(like: Kept, array) -> Kept:
  return Kept(like.full, like.kept, lambda: array)


def _results(eqn, kept, arrays) -> list[Kept]:
  return [
    Kept(v.aval.shape, k, lambda a=a: a)
    for v, k, a in zip(eqn.outvars, kept, arrays, strict=True)
  ]


def _arrays(operands, atoms) -> list[Any]:
  """The operands' arrays, numbers of the program as arrays of their type."""
  pairs = zip(operands, atoms, strict=True)
  return [
    v.array
    if hasattr(v.array, 'dtype')
    else np.asarray(v.array, atom.aval.dtype)
    for v, atom in pairs
  ]


def _differentiable(atom) -> bool:
  return jnp.issubdtype(atom.aval.dtype, jnp.inexact)
