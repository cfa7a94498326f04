"""From real-valued operations to integer ones: scales leave the program.

Biases, frozen BatchNorm, PReLU and its relatives only change the real function
that accumulators stand for (`integer_values.Wide`); a `rescale` layer brings
everything at once to the next grid, as Jacob et al. 2018 (arXiv:1712.05877,
section 2.4) fuse bias, rescaling and activation.
"""

import dataclasses
from typing import Any

import numpy as np

from compress.errors import InputError
from compress.quantize import integer_layers as layers
from compress.quantize.integer_arithmetic import INT32_MAX, quantize_multiplier
from compress.quantize.integer_graph import Node
from compress.quantize.integer_program import Ends, Grid, Layer
from compress.quantize.integer_values import (
  LIMIT,
  Codes,
  Wide,
  bounded_int,
  clamped,
  plain,
  rounded_bounds,
  single,
  step_of,
  wide_value,
  with_bias,
)

_MOVES = frozenset(
  {'reshape', 'transpose', 'broadcast', 'slice', 'pad', 'concat', 'reverse'}
)
_COMMUTES = _MOVES | {'max', 'max_pool'}


def lower_network(
  first: Node,
  out: Node,
  grids: dict[str, Grid],
  *,
  arithmetic: str,
  input_grid: Grid | None,
  default: Grid,
) -> tuple[tuple[Layer, ...], dict[str, dict[str, np.ndarray]], Ends]:
  """Lowers a network.

  Args:
    first: its input.
    out: its output.
    grids: name of a quantized activation to its grid.
    arithmetic: `exact` or `jacob`.
    input_grid: of the input, if given.
    default: of an input that does not go to one quantizer unchanged.

  Returns:
    The layers, their variables, and the network's ends.
  """
  input_grid = input_grid or _only_grid(first, out, grids) or default
  lowering = Lowering(grids, arithmetic=arithmetic, input_grid=input_grid)
  value = lowering.lower(out)
  if isinstance(value, Wide):
    done = value if plain(value) else lowering.settled(value, 'output')
    step = float(done.scale.flat[0])
    grid = Grid(step, 0, -INT32_MAX, INT32_MAX, 0, 'int32', 'half_even')
    value = Codes(done.place, grid)
  ends = Ends(input_grid, value.grid, value.place)
  return tuple(lowering.layers), lowering.variables, ends


def _only_grid(first, out, grids) -> Grid | None:
  """The one grid that the input is put on, moved about at most."""
  readers: dict[Node, list[Node]] = {}
  stack, seen = [out], {out}
  while stack:
    node = stack.pop()
    for x in node.inputs:
      readers.setdefault(x, []).append(node)
      if x not in seen:
        seen.add(x)
        stack.append(x)

  def found(node):
    for reader in readers.get(node, []):
      if reader.op == 'quantize':
        yield grids[reader.name]
      elif reader.op in _MOVES:
        yield from found(reader)
      else:
        yield None

  kinds = set(found(first))
  return kinds.pop() if len(kinds) == 1 else None


class Lowering:
  """Lowers nodes, once each, into `layers` and their `variables`.

  Args:
    grids: name of an activation to its grid.
    arithmetic: `exact` rounds once, as the grid says; `jacob` twice.
    input_grid: of the network's input.
  """

  def __init__(self, grids, *, arithmetic: str, input_grid: Grid):
    self.grids = grids
    self.arithmetic = arithmetic
    self.input_grid = input_grid
    self.layers: list[Layer] = []
    self.variables: dict[str, dict[str, np.ndarray]] = {}
    self.known: dict[Any, Codes | Wide] = {}

  def emit(self, hint, op, inputs, variables=None, **static) -> int:
    """Adds a layer; returns the place of its result."""
    used = {layer.name for layer in self.layers}
    names = (f'{hint}#{i}' if i else hint for i in range(len(used) + 1))
    name = next(n for n in names if n not in used)
    self.layers.append(Layer(name, op, tuple(inputs), static))
    if variables:
      self.variables[name] = variables
    return len(self.layers)

  def lower(self, node: Node) -> Codes | Wide:
    """The value of a node."""
    if node not in self.known:
      if node.op == 'input':
        self.known[node] = Codes(0, self.input_grid)
      elif node.op in _COMMUTES or node.op in ('sum', 'sum_pool'):
        self.known[node] = self.rearranged(node)
      else:
        method = getattr(self, f'lower_{node.op}', None)
        if method is None:
          raise InputError(f'{node.where}: this operation has no integer rule')
        self.known[node] = method(node)
    return self.known[node]

  def lower_quantize(self, node: Node) -> Codes:
    """Codes on the grid of the activation."""
    return self.on_grid(node.inputs[0], self.grids[node.name], node.name)

  def on_grid(self, node: Node, grid: Grid, name: str) -> Codes:
    """Codes of a node on a grid; the quantizer goes before what it can."""
    key = node, grid
    if key not in self.known:
      if node.op in _COMMUTES:
        parts = [self.on_grid(x, grid, name) for x in node.inputs]
        place = self.moved(node, [part.place for part in parts], grid.zero)
        self.known[key] = Codes(place, grid)
      else:
        value = self.lower(node)
        if not isinstance(value, Codes) or value.grid != grid:
          value = self.to_grid(self.wide(value, node), grid, name)
        self.known[key] = value
    return self.known[key]

  def moved(self, node, places, zero) -> int:
    """Emits pooling, or what moves integers about."""
    given = dict(node.given)
    if node.op in ('reshape', 'broadcast'):
      given = {'shape': node.shape}
    elif node.op == 'pad':
      given |= {'value': zero}
    elif node.op in ('max', 'sum'):
      given = {'axes': node['axes']}
    return self.emit(node.op, node.op, places, **given)

  def lower_conv(self, node: Node) -> Wide:
    """Products of codes; what is known of the sums becomes a bias."""
    (x,) = node.inputs
    codes, kernel = self.lower(x), node['kernel']
    if not isinstance(codes, Codes) or codes.grid.stored != 'int8':
      raise InputError(
        f'{node.where}: its input has no quantizer of 2 to 8 bits; calibrate '
        f'the activation {node.name!r}'
      )
    grid = codes.grid
    bound = layers.check_accumulators(
      kernel.codes, grid.zero, kernel.zero, grid.low, grid.high, node.where
    )
    wide = kernel.codes.astype(np.int64).reshape(-1, kernel.codes.shape[-1])
    bias = grid.zero * (len(wide) * kernel.zero - wide.sum(0))
    variables = {'kernel': kernel.codes}
    if kernel.zero.any():
      variables['zero'] = kernel.zero.astype(np.int32)
    static = {}
    if node.op == 'conv':
      static = {
        k: node[k] for k in ('strides', 'dilation', 'padding', 'groups')
      } | {'zero': grid.zero}
    place = self.emit(node.name, node.op, [codes.place], variables, **static)
    rank = len(node.shape) + 1
    last = (1,) * (rank - 1) + (-1,)
    return wide_value(
      place,
      bias.reshape(last),
      bound.reshape(last),
      (grid.scale * kernel.scale).reshape(last),
      rank,
    )

  lower_dot = lower_conv

  def lower_affine(self, node: Node) -> Wide:
    """Other numbers for the same accumulators."""
    v, scale = self.wide_of(node.inputs[0]), node['scale']
    offset = node['offset']
    with np.errstate(invalid='ignore'):
      ends = [
        np.where(scale == 0, offset, end * scale + offset)
        for end in (v.low, v.high)
      ]
    if v.bounded:
      v = dataclasses.replace(v, low=np.minimum(*ends), high=np.maximum(*ends))
    if v.below is None:
      return dataclasses.replace(
        v, scale=v.scale * scale, offset=v.offset * scale + offset
      )
    return dataclasses.replace(
      v,
      above=v.above * scale,
      below=v.below * scale,
      shift=v.shift * scale + offset,
    )

  def lower_prelu(self, node: Node) -> Wide:
    """A kink at 0: one multiplier for each sign."""
    v = self.wide_of(node.inputs[0])
    if (v.low >= 0).all():
      return v
    simple = v.below is None or (
      not v.shift.any() and (v.above >= 0).all() and (v.below >= 0).all()
    )
    if v.bounded or not simple:
      v = self.settled(v, node.op)
    below = v.above if v.below is None else v.below
    return dataclasses.replace(v, below=below * node['slope'])

  def lower_clip(self, node: Node) -> Wide:
    """Bounds, which become those of the codes."""
    v, low, high = self.wide_of(node.inputs[0]), node['low'], node['high']
    return dataclasses.replace(
      v,
      low=np.minimum(np.maximum(v.low, low), high),
      high=np.maximum(np.minimum(v.high, high), low),
    )

  def lower_add(self, node: Node) -> Wide:
    """Both operands in units of one step, added in int32."""
    values = [self.wide_of(x) for x in node.inputs]
    step = step_of(sum(v.reach() for v in values))
    parts = [self.fixed(v, step, node.op) for v in values]
    bound = sum(v.bound for v in parts)
    place = self.emit('add', 'add', [v.place for v in parts])
    return wide_value(place, 0, bound, step, len(node.shape) + 1)

  def rearranged(self, node: Node) -> Codes | Wide:
    """Pooling, and what moves values about."""
    values = [self.lower(x) for x in node.inputs]
    sums = node.op in ('sum', 'sum_pool')
    grids = {v.grid if isinstance(v, Codes) else None for v in values}
    if not sums and len(grids) == 1 and None not in grids:
      (grid,) = grids
      place = self.moved(node, [v.place for v in values], grid.zero)
      return Codes(place, grid)
    values = [self.wide(v, x) for v, x in zip(values, node.inputs, strict=True)]
    terms = 1
    if sums:
      terms = _terms(node)
    reach = max(v.reach() for v in values)
    step = step_of(reach * terms)
    if len(values) == 1 and plain(values[0]):
      (v,) = values
      if v.bound.max() * terms < LIMIT:
        step = v.scale.flat[0]
    parts = [self.fixed(v, step, node.op) for v in values]
    bound = max(float(v.bound.max()) for v in parts) * terms
    place = self.moved(node, [v.place for v in parts], 0)
    return wide_value(place, 0, bound, step, len(node.shape) + 1)

  def wide_of(self, node: Node) -> Wide:
    """Accumulators of a node."""
    return self.wide(self.lower(node), node)

  def wide(self, value: Codes | Wide, node: Node) -> Wide:
    """Accumulators of a value; of codes, `q - Z`."""
    if isinstance(value, Wide):
      return value
    grid = value.grid
    reach = max(grid.high - grid.zero, grid.zero - grid.low)
    rank = len(node.shape) + 1
    return wide_value(value.place, -grid.zero, reach, grid.scale, rank)

  def settled(self, v: Wide, hint: str) -> Wide:
    """The same value, nothing of it left to be done but a scale."""
    return self.fixed(v, step_of(v.reach()), hint)

  def fixed(self, v: Wide, step: float, hint: str) -> Wide:
    """The same value in units of `step`, which int32 must hold."""
    if plain(v) and v.scale.flat[0] == step and not v.bias.any():
      return v
    if v.below is not None and v.offset.any():
      v = self.inner_fixed(v)
    v = single(v)
    shift = v.offset if v.below is None else v.shift
    bound = np.minimum(np.ceil(v.reach() / step) + 1, LIMIT)
    offset = bounded_int(shift / step)
    with np.errstate(invalid='ignore'):
      low, high = (
        bounded_int(np.clip(end / step, -LIMIT, LIMIT))
        for end in (v.low, v.high)
      )
    place = self.rescale(
      v, 1 / step, f'{hint}:rescale', offset=offset, low=low, high=high
    )
    return wide_value(place, 0, bound, step, v.scale.ndim)

  def inner_fixed(self, v: Wide) -> Wide:
    """The same value, its offset merged into accumulators of a finer scale."""
    inner = dataclasses.replace(
      v,
      above=np.ones_like(v.above),
      below=None,
      shift=np.zeros_like(v.shift),
      low=np.full_like(v.low, -np.inf),
      high=np.full_like(v.high, np.inf),
    )
    done = self.settled(inner, 'offset')
    return dataclasses.replace(
      done, above=v.above, below=v.below, shift=v.shift, low=v.low, high=v.high
    )

  def to_grid(self, v: Wide, grid: Grid, name: str) -> Codes:
    """Codes of a value; see `_with_bias` for what is rounded when."""
    v = single(v)
    v = with_bias(v, grid.scale, self.arithmetic)
    if v.offset.any() and v.below is not None:
      v = self.inner_fixed(v)
    if v.offset.any() or v.shift.any():
      bits = (grid.high - grid.low).bit_length()
      ends = v.low, v.high
      free = dataclasses.replace(
        v,
        low=np.full_like(v.low, -np.inf),
        high=np.full_like(v.high, np.inf),
      )
      fine = self.fixed(free, grid.scale * 2.0 ** -(28 - bits), name)
      v = dataclasses.replace(fine, low=ends[0], high=ends[1])
    low, high = (
      np.clip(
        rounded_bounds(end / grid.scale, grid) + grid.zero, grid.low, grid.high
      )
      for end in (v.low, v.high)
    )
    place = self.rescale(
      v,
      1 / grid.scale,
      f'{name}:codes',
      offset=np.full((1,) * v.scale.ndim, grid.zero),
      low=low,
      high=high,
      rounding=grid.rounding,
      dtype=grid.stored,
    )
    return Codes(place, grid)

  def rescale(
    self,
    v: Wide,
    factor: float,
    hint: str,
    *,
    offset,
    low,
    high,
    rounding='half_even',
    dtype='int32',
  ) -> int:
    """Emits `clip(M acc + offset, low, high)`, M by the sign of acc."""
    above = v.scale * v.above * factor
    below = above if v.below is None else v.scale * v.below * factor
    if v.below is not None:
      flip = v.scale < 0
      above, below = np.where(flip, below, above), np.where(flip, above, below)
    m, n = quantize_multiplier(clamped(above))
    variables = {'multiplier': m, 'shift': n}
    if v.below is not None:
      m, n = quantize_multiplier(clamped(below))
      variables |= {'multiplier_below': m, 'shift_below': n}
    if v.left.any():
      variables['left'] = v.left.astype(np.int32)
    if v.bias.any():
      variables['bias'] = v.bias.astype(np.int32)
    variables |= {
      'offset': offset.astype(np.int32),
      'low': low.astype(np.int32),
      'high': high.astype(np.int32),
    }
    if self.arithmetic == 'jacob':
      rounding = 'jacob'
    return self.emit(
      hint, 'rescale', [v.place], variables, rounding=rounding, dtype=dtype
    )


def _terms(node: Node) -> int:
  """Numbers that one sum is over."""
  if node.op == 'sum_pool':
    return int(np.prod(node['window']))
  shape = (1, *node.inputs[0].shape)
  return int(np.prod([shape[axis] for axis in node['axes']]))
