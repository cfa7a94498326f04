"""The points of a layer's channels: entries of its maps and of its weights."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from compress import graph as graph_lib
from compress.errors import InputError
from compress.graph import Emit, Graph, Site
from compress.prune import matrix_form


@dataclasses.dataclass(frozen=True)
class Layer:
  """A convolution or matrix product, and the channels on one of its sides.

  Attributes:
    site: where it is.
    path: leaf path of its kernel.
    side: `output` or `input`.
    bias: leaf path of its bias, where that counts as a point, or None.
    structs: shape and type of the kernel as the site sees it (`weight`) and of
      the map on this side (`activation`).
    channels: on this side.
    others: channels on the other side that one channel meets.
  """

  site: Site
  path: str
  side: str
  bias: str | None
  structs: dict[str, jax.ShapeDtypeStruct] = dataclasses.field(compare=False)
  channels: int
  others: int

  def points(self, domain: str, value: jax.Array) -> jax.Array:
    """The points of the channels, `[P, C]`, of a weight or an activation."""
    return _POINTS[domain, self.side](self.site, value)

  def point_count(self, domain: str) -> int:
    """Points of one channel, a bias among those of the weights."""
    if domain == 'weight':
      return self.others * _taps(self.site) + (self.bias is not None)
    return math.prod(self.structs[domain].shape) // self.channels


def find_layers(
  loss_fn: Callable[..., jax.Array],
  params,
  batch,
  *,
  side: str,
  kernels: Iterable[str] | None,
  bias: bool,
) -> tuple[Layer, ...]:
  """The layers of a loss whose channels can be measured.

  Args:
    loss_fn: `(params, batch) -> scalar`.
    params: pytree of arrays or shapes.
    batch: arrays or shapes.
    side: `output` or `input`.
    kernels: leaf paths; all by default.
    bias: whether a leaf `bias` beside the kernel is a point.

  Returns:
    One layer a kernel, in order of evaluation.

  Raises:
    InputError: a kernel is unknown, used twice, or lies in a loop.
  """
  graph = graph_lib.trace(loss_fn, params, batch)
  wanted = None if kernels is None else list(kernels)
  sites: dict[str, Site] = {}
  for site in graph.sites:
    path = site.weight
    if path is None or (wanted is not None and path not in wanted):
      continue
    reason = matrix_form.unsupported(site)
    if site.repeats != 1:
      reason = 'it runs in a loop'
    if path in sites:
      reason = 'it is used twice'
    if reason:
      raise InputError(
        f'kernel {path!r} cannot be measured: {reason}; name the others in '
        '`kernels`'
      )
    sites[path] = site
  for path in wanted or ():
    if path not in sites:
      raise InputError(
        f'no site has the kernel {path!r}; the kernels are {sorted(sites)}'
      )
  seen = _structs(loss_fn, params, batch, sites, side)
  return tuple(
    _layer(site, path, side, seen[site.name], graph if bias else None)
    for path, site in sites.items()
  )


def weights_removed(
  groups: Iterable[Any], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
  """Weights that leave with each channel, through all layers that lose any.

  Args:
    groups: the `ChannelGroup`s of a graph.
    shapes: shapes of the leaves by path, `Graph.weights`.

  Returns:
    Kernel path relative to `params` to `[C]` numbers of weights, for kernels
    whose output channels are in a group. Entries under `params` count (all
    leaves, where there is no such collection), each once.
  """
  trained = any(path.startswith('params/') for path in shapes)
  out: dict[str, np.ndarray] = {}
  for group in groups:
    left: dict[str, np.ndarray] = {}
    for member in group.members:
      if trained and not member.path.startswith('params/'):
        continue
      axes = np.array(shapes[member.path])[None].repeat(group.size, 0)
      gone = left.setdefault(member.path, axes)
      gone[:, member.axis] -= np.shape(member.indices)[1]
    removed = sum(
      np.prod(shapes[path], dtype=np.int64) - rest.prod(1)
      for path, rest in left.items()
    )
    for member in group.members:
      if member.role == 'out':
        path = matrix_form.relative(member.path)
        size = shapes[member.path][member.axis]
        sizes = out.setdefault(path, np.zeros(size, np.int64))
        sizes[member.indices] += np.asarray(removed)[:, None]
  return out


def _structs(loss_fn, params, batch, sites, side) -> dict[str, Any]:
  names = {site.name for site in sites.values()}

  def rule(site, op, *operands):
    out = op(*operands)
    if site.name not in names:
      return out
    at = site.weight_operand
    shown = out if side == 'output' else operands[1 - at]
    return Emit(out, {'weight': operands[at], 'activation': shown})

  rewritten = graph_lib.rewrite(loss_fn, rule, has_aux=True)
  return jax.eval_shape(lambda p, b: rewritten(p, b)[1], params, batch)


def _layer(site, path, side, structs, graph: Graph | None) -> Layer:
  groups, rows, columns = jax.eval_shape(
    lambda w: matrix_form.weight_matrix(site, w), structs['weight']
  ).shape
  inputs = columns // _taps(site)
  bias = '/'.join((*path.split('/')[:-1], 'bias'))
  output = side == 'output'
  channels = groups * (rows if output else inputs)
  if graph is None or graph.weights.get(bias) != (channels,):
    bias = None
  others = inputs if output else rows
  return Layer(site, path, side, bias, structs, channels, others)


def _taps(site) -> int:
  if site.kind != 'conv':
    return 1
  axes = site.params['dimension_numbers'].rhs_spec[2:]
  return math.prod(site.rhs_shape[axis] for axis in axes)


def _filters(site, weight):
  matrix = matrix_form.weight_matrix(site, weight)
  return matrix.reshape(-1, matrix.shape[-1]).T


def _slices(site, weight):
  matrix = matrix_form.weight_matrix(site, weight)
  groups, rows, columns = matrix.shape
  channels = columns // _taps(site)
  matrix = matrix.reshape(groups, -1, channels).swapaxes(0, 1)
  return matrix.reshape(-1, groups * channels)


def _output_map(site, out):
  if site.kind == 'conv':
    spec = site.params['dimension_numbers'].out_spec
    return _maps(out, spec)
  batch, free, _ = matrix_form.dot_axes(site, site.weight_operand)
  first, rank = len(batch), out.ndim
  start = rank - len(free) if site.weight_operand == 1 else first
  own = range(start, start + len(free))
  rest = [axis for axis in range(first, rank) if axis not in own]
  return _columns(out, rest, (*range(first), *own))


def _input_map(site, operand):
  if site.kind == 'conv':
    return _maps(operand, site.params['dimension_numbers'].lhs_spec)
  batch, free, contracted = matrix_form.dot_axes(site, 1 - site.weight_operand)
  return _columns(operand, free, (*batch, *contracted))


def _maps(x, spec):
  image, channel, *space = spec
  return _columns(x, (image, *space), (channel,))


def _columns(x, samples, channels):
  count = math.prod(x.shape[axis] for axis in channels)
  return x.transpose((*samples, *channels)).reshape(-1, count)


_POINTS = {
  ('weight', 'output'): _filters,
  ('weight', 'input'): _slices,
  ('activation', 'output'): _output_map,
  ('activation', 'input'): _input_map,
}
