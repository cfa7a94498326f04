"""A layer as a matrix product: rows of what it reads and of what it gives.

A convolution or dense layer is Y = X W with one row for every image and
position, and one column of X for every input channel and tap of the kernel.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from compress import graph as graph_lib
from compress.errors import InputError
from compress.graph import ChannelGroup, Emit, Graph, Member, Site


class Rows(NamedTuple):
  """What a layer reads and gives, one row an image and position.

  Attributes:
    inputs: [R, D], D = I T, taps of one input channel side by side.
    outputs: [R, O], before a bias.
    total: [R, O] of a named value that the outputs are added up to, or None.
  """

  inputs: jax.Array
  outputs: jax.Array
  total: jax.Array | None


def one_reader(
  group: ChannelGroup, traced: Graph
) -> tuple[Site, Member] | None:
  """The only layer that reads a group, if it has a plain kernel.

  Args:
    group: of `graph.channels`.
    traced: the model.

  Returns:
    Its site and the member of the group that is its kernel's input side. None
    where there are several, the kernel is transformed on its way or used
    elsewhere, or the convolution is grouped.
  """
  reading = [member for member in group.members if member.role == 'in']
  if len(reading) != 1:
    return None
  member = reading[0]
  sites = [site for site in traced.sites if site.weight == member.path]
  if len(sites) != 1:
    return None
  site = sites[0]
  axis = _input_axis(site)
  plain = (
    axis == member.axis
    and site.repeats == 1
    and traced.weights[member.path]
    == (site.lhs_shape, site.rhs_shape)[site.weight_operand]
  )
  return (site, member) if plain else None


def to_matrix(kernel: np.ndarray, site: Site) -> np.ndarray:
  """The kernel as [I T, O], for `Rows.inputs`."""
  order = _order(kernel.ndim, site)
  moved = np.transpose(kernel, order)
  size = moved.shape[-1] if site.kind == 'conv' else None
  if size is None:
    return moved.reshape(len(moved), -1)
  return moved.reshape(-1, size)


def from_matrix(
  matrix: np.ndarray, shape: tuple[int, ...], site: Site
) -> np.ndarray:
  """The kernel of a matrix; the inverse of `to_matrix`."""
  order = _order(len(shape), site)
  moved = np.reshape(matrix, [shape[axis] for axis in order])
  return np.transpose(moved, np.argsort(order))


def read_rows(
  apply: Callable[..., Any], site: Site, *, total: str | None = None
) -> Callable[..., Rows]:
  """The function that gives a layer's rows.

  Args:
    apply: pure function `apply(variables, inputs)`.
    site: of `one_reader`.
    total: name of a value of `checkpoint_name`, of the layer's output shape.

  Returns:
    `(variables, inputs) -> Rows`, image by image. It raises InputError, when
    traced, if there is no such value or it has another shape.
  """

  def rule(found, op, *operands):
    out = op(*operands)
    if found.name == site.name:
      inputs = _rows_in(site, operands[1 - site.weight_operand])
      return Emit(out, (inputs, _rows_out(site, out)))
    if found.kind == 'name' and found.name == total:
      return Emit(out, out)
    return out

  rewritten = graph_lib.rewrite(apply, rule, has_aux=True)

  def read(variables, inputs):
    _, aux = rewritten(variables, inputs)
    added = None
    if total is not None:
      if total not in aux or aux[total].ndim != len(site.out_shape):
        raise InputError(
          f'no value {total!r} of the shape {list(site.out_shape)} that '
          f'{site.name!r} gives; right is one named with checkpoint_name'
        )
      added = _rows_out(site, aux[total])
    return Rows(*aux[site.name], added)

  return read


def _input_axis(site) -> int | None:
  """The axis of a kernel that a layer contracts, if it is a plain layer."""
  numbers, operand = site.params['dimension_numbers'], site.weight_operand
  if site.kind == 'conv':
    alone = site.groups == 1 and site.params['batch_group_count'] == 1
    return numbers.rhs_spec[1] if alone and operand == 1 else None
  contracted, batched = numbers
  if len(contracted[operand]) != 1 or batched[0]:
    return None
  return contracted[operand][0]


def _order(ndim, site):
  """Axes of a kernel: inputs, taps, outputs."""
  first = _input_axis(site)
  if site.kind == 'conv':
    last, _, *spatial = site.params['dimension_numbers'].rhs_spec
    return [first, *spatial, last]
  return [first, *(axis for axis in range(ndim) if axis != first)]


def _rows_in(site, x):
  if site.kind == 'dot':
    axis = site.params['dimension_numbers'][0][1 - site.weight_operand][0]
    x = jnp.moveaxis(x, axis, -1)
    return x.reshape(-1, x.shape[-1])
  numbers = site.params['dimension_numbers']
  shape = [site.rhs_shape[axis] for axis in numbers.rhs_spec[2:]]
  patches = jax.lax.conv_general_dilated_patches(
    x,
    shape,
    site.params['window_strides'],
    site.params['padding'],
    lhs_dilation=site.params['lhs_dilation'],
    rhs_dilation=site.params['rhs_dilation'],
    dimension_numbers=numbers,
    precision=jax.lax.Precision.HIGHEST,
  )
  return _rows_out(site, patches)


def _rows_out(site, out):
  """[R, O] of a layer's result, image by image."""
  if site.kind == 'conv':
    batch, channel, *spatial = site.params['dimension_numbers'].out_spec
    out = jnp.transpose(out, (batch, *spatial, channel))
    return out.reshape(-1, out.shape[-1])
  kernel = (site.lhs_shape, site.rhs_shape)[site.weight_operand]
  free = len(kernel) - 1
  if site.weight_operand == 0:
    out = jnp.moveaxis(out, range(free), range(out.ndim - free, out.ndim))
  columns = int(np.prod(out.shape[out.ndim - free :]))
  return out.reshape(-1, columns)
