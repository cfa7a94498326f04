"""Running a program of integer layers, which knows no real number."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from compress.quantize import integer_layers
from compress.quantize.integer_arithmetic import scale_by


class Grid(NamedTuple):
  """A grid of codes as integer layers store it: in int8, int16 or int32.

  Attributes:
    scale: the step.
    zero: the stored code of 0.
    low: the lowest stored code.
    high: the highest.
    lift: what is added to a stored code for the code that the spec means.
    dtype: name of the type of the spec's codes.
    rounding: of codes.
  """

  scale: float
  zero: int
  low: int
  high: int
  lift: int
  dtype: str
  rounding: str

  @property
  def stored(self) -> str:
    """Name of the type of the stored codes."""
    reach = max(-self.low - 1, self.high)
    return next(f'int{b}' for b in (8, 16, 32) if reach < 2 ** (b - 1))


@dataclasses.dataclass(frozen=True)
class Layer:
  """One integer operation of the program.

  Attributes:
    name: unique; that of its entry in the variables, if it has any.
    op: `conv`, `dot`, `rescale`, `add`, `sum`, `max`, `sum_pool`, `max_pool`,
      `reshape`, `broadcast`, `transpose`, `slice`, `pad`, `concat`, `reverse`.
    inputs: places of its operands: 0 is the network's input, i the result of
      the i-th layer.
    static: what the operation needs besides arrays.
  """

  name: str
  op: str
  inputs: tuple[int, ...]
  static: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Ends(NamedTuple):
  """Grids at both ends, and the place of the output."""

  inputs: Grid
  outputs: Grid
  place: int


def run_program(
  layers: Sequence[Layer],
  ends: Ends,
  variables: Mapping[str, Mapping[str, jax.Array]],
  codes: jax.Array,
) -> jax.Array:
  """Runs all layers.

  Args:
    layers: in an order in which operands come first.
    ends: of the network.
    variables: layer to its integer arrays.
    codes: of the input grid's type, [B, ...].

  Returns:
    Codes of the output grid's type.
  """
  values = [_recode(codes, -ends.inputs.lift, ends.inputs.stored)]
  for layer in layers:
    operands = [values[i] for i in layer.inputs]
    values.append(run_layer(layer, variables.get(layer.name, {}), *operands))
  return _recode(values[ends.place], ends.outputs.lift, ends.outputs.dtype)


def run_layer(
  layer: Layer, variables: Mapping[str, jax.Array], *xs: jax.Array
) -> jax.Array:
  """Runs one layer.

  Args:
    layer: the operation.
    variables: its arrays.
    *xs: its operands, integers [B, ...].

  Returns:
    Integers.
  """
  (x, *others), given = xs, layer.static
  match layer.op:
    case 'conv':
      return _conv(x, variables, given)
    case 'dot':
      return _dot(x, variables)
    case 'rescale':
      return _rescale(x, variables, given)
    case 'add':
      return x + others[0]
    case 'sum':
      return jnp.sum(x.astype(jnp.int32), given['axes'])
    case 'max':
      return jnp.max(x, given['axes'])
    case 'sum_pool':
      return integer_layers.sum_pool(x, **given)
    case 'max_pool':
      return integer_layers.max_pool(x, **given)
    case 'reshape':
      return x.reshape(len(x), *given['shape'])
    case 'broadcast':
      return jnp.broadcast_to(x, (len(x), *given['shape']))
    case 'transpose':
      return lax.transpose(x, given['order'])
    case 'slice':
      start, limit = (0, *given['start']), (len(x), *given['limit'])
      return lax.slice(x, start, limit, (1, *given['strides']))
    case 'pad':
      return integer_layers.pad_with(x, given['padding'], given['value'])
    case 'concat':
      return lax.concatenate(xs, given['axis'])
    case 'reverse':
      return lax.rev(x, given['axes'])
  raise NotImplementedError(layer.op)


def _conv(x, variables, given) -> jax.Array:
  kernel = jnp.asarray(variables['kernel'])
  options = {k: given[k] for k in ('strides', 'dilation', 'groups')}
  padding = ((0, 0), *given['padding'], (0, 0))
  x = integer_layers.pad_with(x, padding, given['zero'])
  acc = integer_layers.raw_conv(x, kernel, **options)
  if 'zero' in variables:
    sums = integer_layers.q1_sums_conv(x, kernel.shape, **options)
    acc = acc - sums * integer_layers.along_last(variables['zero'], 4)
  return acc


def _dot(x, variables) -> jax.Array:
  acc = integer_layers.raw_dot(x, jnp.asarray(variables['kernel']))
  if 'zero' in variables:
    zero = integer_layers.along_last(variables['zero'], acc.ndim)
    acc = acc - integer_layers.q1_sums_dot(x) * zero
  return acc


def _rescale(x, variables, given) -> jax.Array:
  """`clip(M acc + offset, low, high)`, M by the sign of acc."""
  v = {name: jnp.asarray(value) for name, value in variables.items()}
  x = x.astype(jnp.int32)
  if 'left' in v:
    x = x << v['left']
  if 'bias' in v:
    x = x + v['bias']
  m, n = v['multiplier'], v['shift']
  if 'multiplier_below' in v:
    m = jnp.where(x < 0, v['multiplier_below'], m)
    n = jnp.where(x < 0, v['shift_below'], n)
  y = scale_by(x, m, n, rounding=given['rounding'])
  low, high = v['low'] - v['offset'], v['high'] - v['offset']
  y = jnp.clip(y, low, high) + v['offset']
  return y.astype(given['dtype'])


def _recode(codes, lift: int, dtype: str) -> jax.Array:
  if not lift:
    return codes.astype(dtype)
  return (codes.astype(jnp.int32) + lift).astype(dtype)
