"""Features of a model by name: what a student and a teacher are compared at.

No model is edited: it is rewritten (`compress.graph.rewrite`). A name is that
of a value named with `checkpoint_name`, or of a convolution or matrix product
(its result, before the bias). Channels that were removed change no name, so a
pruned network and its original have the same.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from compress import graph
from compress.errors import InputError
from compress.graph import Emit


def tap_features(
  apply: Callable[..., Any], names: Sequence[str]
) -> Callable[..., Any]:
  """The same function, which also hands out features by name.

  Args:
    apply: pure function `apply(variables, *inputs)`; outputs may be any tree,
      such as logits and new statistics.
    names: of `graph.trace(...).names` or `.sites`, each once.

  Returns:
    `(variables, *inputs) -> (out, features)`; `features` maps name to array as
    the model has it (stacked, where it lies in a `scan`). Differentiable.

  Raises:
    InputError: a name twice; when traced, a name that the model has not.
  """
  if len(set(names)) < len(names):
    raise InputError(f'feature names {list(names)}: one is given twice')

  def rule(site, op, *operands):
    out = op(*operands)
    return Emit(out, out) if site.name in names else out

  rewritten = graph.rewrite(apply, rule, has_aux=True)

  def tapped(variables, *inputs):
    out, found = rewritten(variables, *inputs)
    missing = [name for name in names if name not in found]
    if missing:
      known = graph.trace(apply, variables, *inputs)
      named = [site.name for site in (*known.names, *known.sites)]
      raise InputError(
        f'no feature {", ".join(map(repr, missing))} in the model; there are '
        f'{", ".join(named)}'
      )
    return out, {name: found[name] for name in names}

  return tapped


def check_pairs(
  student: dict[str, jax.Array], teacher: dict[str, jax.Array]
) -> None:
  """Raises unless two sets of features have the same names, at least one.

  Args:
    student: name to feature.
    teacher: name to feature.

  Raises:
    InputError: none, or others.
  """
  if not student or set(student) != set(teacher):
    raise InputError(
      f'features {sorted(student)} of the student and {sorted(teacher)} of the '
      'teacher; right are the same names, at least one'
    )
