"""Values of a jaxpr that depend on the model's variables alone.

They are computed only when asked for, and know whether they vary along a
single axis: what folding must know of a scale or shift.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from compress.graph import _jaxpr

AFFINE = frozenset({'add', 'add_any', 'div', 'mul', 'sub'})
_UNARY = frozenset(
  {'convert_element_type', 'copy', 'neg', 'rsqrt', 'sqrt', 'stop_gradient'}
)


class Channel(NamedTuple):
  """A constant that varies along one axis only, or (axis None) along none."""

  vector: Callable[[], Any]
  axis: int | None


@dataclasses.dataclass
class Constant:
  """A value that depends on the variables only; computed when asked for.

  `channel` is there where the value varies along one axis only, or none;
  `made` says by which operation on which constants it came about.
  """

  value: Callable[[], Any]
  channel: Channel | None = None
  leaf: str | None = None
  made: 'Made | None' = None


class Made(NamedTuple):
  """The operation that gave a constant."""

  name: str
  operands: tuple[Constant, ...]


def known(value) -> Constant:
  scalar = jnp.ndim(value) == 0
  return Constant(
    lambda: value, Channel(lambda: value, None) if scalar else None
  )


def constant_results(eqn, operands) -> list[Constant]:
  """Results of an equation on constants, evaluated once and only on demand."""

  @functools.cache
  def results():
    return tuple(_jaxpr.bind(eqn, *(v.value() for v in operands)))

  out = []
  for i, var in enumerate(eqn.outvars):

    def value(i=i):
      return results()[i]

    axis = _varying_axis(eqn, operands, var)
    leaf = _same_leaf(eqn, operands)
    channel = None
    if axis is not None:
      axis = None if axis < 0 else axis
      channel = Channel(functools.partial(_vector, value, axis), axis)
    made = Made(eqn.primitive.name, tuple(operands))
    out.append(Constant(value, channel, leaf, made))
  return out


def _vector(value, axis):
  """The entries of a value along the one axis that it varies on."""
  full = value()
  if axis is None:
    return full[(0,) * full.ndim]
  index = [0] * full.ndim
  index[axis] = slice(None)
  return full[tuple(index)]


def _varying_axis(eqn, operands, var) -> int | None:
  """The axis that a constant varies on; -1 for none, None for several."""
  shape = var.aval.shape
  wide = [axis for axis, size in enumerate(shape) if size > 1]
  if len(wide) <= 1:
    return wide[0] if wide else -1
  name = eqn.primitive.name
  if name == 'broadcast_in_dim':
    moved = eqn.params['broadcast_dimensions']
    inner = eqn.invars[0].aval.shape
    axes = [moved[i] for i, size in enumerate(inner) if size > 1]
    return _single(axes)
  if name in AFFINE or len(operands) == 1 and name in _UNARY:
    axes = []
    for atom, value in zip(eqn.invars, operands, strict=True):
      if value.channel is None:
        return None
      if atom.aval.shape == shape and value.channel.axis is not None:
        axes.append(value.channel.axis)
    return _single(axes)
  return None


def _single(axes) -> int | None:
  unique = set(axes)
  if len(unique) > 1:
    return None
  return unique.pop() if unique else -1


def _same_leaf(eqn, operands) -> str | None:
  """The leaf that a cast to its own type or a copy still is."""
  if eqn.primitive.name in ('copy', 'copy_p', 'convert_element_type'):
    if eqn.invars[0].aval.dtype == eqn.outvars[0].aval.dtype:
      return operands[0].leaf
  return None
