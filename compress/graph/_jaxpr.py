"""The only file that touches jaxprs below JAX's stable API.

Everything the rest of `compress.graph` needs of them is here: reading
equations, telling literals from variables, finding and classifying nested
jaxprs, and evaluating one equation. Written for JAX 0.10.2, where a nested
jaxpr may come closed (`ClosedJaxpr`) or open, and for later releases, where
the two are one class.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
from jax.extend import core as jex

# Calls whose body may be evaluated in place of the call.
INLINE = frozenset(
  {
    'jit',
    'pjit',
    'closed_call',
    'core_call',
    'custom_jvp_call',
    'custom_vjp_call',
    'custom_lin',
  }
)
REMAT = frozenset({'remat2', 'remat', 'checkpoint'})


def make(function, *args) -> tuple[Any, Any]:
  """Returns the closed jaxpr of `function(*args)` and its output tree."""
  closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
  return closed, jax.tree.structure(shape)


def opened(jaxpr) -> Any:
  """The open jaxpr of an open or closed one."""
  return getattr(jaxpr, 'jaxpr', jaxpr)


def constants(jaxpr) -> Sequence[Any]:
  """The values of a closed jaxpr's constant variables."""
  return tuple(getattr(jaxpr, 'consts', ()))


def is_literal(atom) -> bool:
  """Whether an equation's operand is a literal and not a variable."""
  return isinstance(atom, jex.Literal)


def bind(eqn, *operands, **changes):
  """Evaluates one equation on other operands; returns a list of results.

  `changes` take the place of the equation's own parameters.
  """
  params = eqn.primitive.get_bind_params({**eqn.params, **changes})
  with eqn.ctx.manager:
    out = eqn.primitive.bind(*operands, **params)
  return list(out) if eqn.primitive.multiple_results else [out]


def scope(eqn) -> str:
  """The name stack (`jax.named_scope`, module names) of an equation."""
  return str(eqn.source_info.name_stack)


def bodies(eqn) -> Iterator[tuple[Any, Any, Sequence[int]]]:
  """Yields `(key, jaxpr, operands)` for every jaxpr nested in an equation.

  `operands[i]` is the index of the equation's operand that feeds the body's
  i-th input, or -1 where the body makes its own (a loop-carried value keeps
  the index of its initial value: it is not the same array).
  """
  name = eqn.primitive.name
  count = len(eqn.invars)
  if name == 'scan':
    yield 'body', eqn.params['jaxpr'], range(count)
  elif name == 'while':
    conds, body = eqn.params['cond_nconsts'], eqn.params['body_nconsts']
    carry = range(conds + body, count)
    yield 'cond', eqn.params['cond_jaxpr'], [*range(conds), *carry]
    consts = range(conds, conds + body)
    yield 'body', eqn.params['body_jaxpr'], [*consts, *carry]
  elif name == 'cond':
    for i, branch in enumerate(eqn.params['branches']):
      yield f'branch{i}', branch, range(1, count)
  else:
    for key, value in eqn.params.items():
      if hasattr(value, 'eqns') or hasattr(value, 'jaxpr'):
        matches = len(opened(value).invars) == count
        yield (
          key,
          value,
          range(count) if matches else [-1] * len(opened(value).invars),
        )
