"""Units that do nothing which another unit or a bias could not do as well.

Sietsma, Dow 1988, 'Neural Net Pruning - Why and How', and 1991, 'Creating
Artificial Neural Networks that Generalize': over all patterns, a unit that
never varies is a bias; one that always equals another unit of its layer, or is
always its opposite, can be merged with it. Folding their effect into the
weights that read them leaves the outputs on the observed patterns unchanged:

* constant, o_j = c: b_k += w_kj c;
* duplicate, o_j = o_i: w_ki += w_kj;
* opposite, o_j = c - o_i (c is 1 for logistic, 0 for odd units):
  w_ki -= w_kj and b_k += w_kj c.

Departures. Units are related if o_j = s o_i + c within a tolerance on every
single observation, by running extremes of the sums and differences of all
pairs; correlations could not tell almost equal from equal. A duplicate may have
an offset c, too. Channels of a convolution are units, observed at every
position. A convolution that pads with zeros reads 0 beyond the border, not c:
in front of one, only relations with c = 0 count (dead ReLUs, above all), and so
in front of a layer without a bias.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from compress.errors import InputError
from compress.graph import Graph
from compress.prune.paths import by_path, pick


class UnitExtremes(NamedTuple):
  """Running extremes of the outputs of C units.

  Attributes:
    low: [C] least output.
    high: [C] greatest output.
    low_difference: [C, C] least o_j - o_i, at [i, j].
    high_difference: [C, C] greatest o_j - o_i.
    low_sum: [C, C] least o_j + o_i.
    high_sum: [C, C] greatest o_j + o_i.
  """

  low: jax.Array
  high: jax.Array
  low_difference: jax.Array
  high_difference: jax.Array
  low_sum: jax.Array
  high_sum: jax.Array


def init_extremes(units: int, dtype=jnp.float32) -> UnitExtremes:
  """The extremes of nothing yet."""
  shapes = ((units,),) * 2 + ((units, units),) * 4
  signs = (1, -1) * 3
  return UnitExtremes(
    *(
      jnp.full(shape, sign * jnp.inf, dtype)
      for shape, sign in zip(shapes, signs, strict=True)
    )
  )


def observe_units(extremes: UnitExtremes, outputs: jax.Array) -> UnitExtremes:
  """Extends the extremes by one batch; jit it.

  Time is proportional to observations times C^2, memory to observations
  times C.

  Args:
    extremes: so far.
    outputs: [..., C], as the layers that read the units see them
      (`units.tap_units`).

  Returns:
    The new extremes.

  Raises:
    InputError: another number of units.
  """
  units = extremes.low.shape[0]
  if outputs.shape[-1] != units:
    raise InputError(f'outputs of {outputs.shape[-1]} units; right are {units}')
  x = outputs.reshape(-1, units).astype(extremes.low.dtype)

  def pairs(column):
    difference, total = x - column[:, None], x + column[:, None]
    return difference.min(0), difference.max(0), total.min(0), total.max(0)

  new = UnitExtremes(x.min(0), x.max(0), *jax.lax.map(pairs, x.T))
  return merge_extremes(extremes, new)


def merge_extremes(one: UnitExtremes, two: UnitExtremes) -> UnitExtremes:
  """The extremes over the observations of both."""
  return UnitExtremes(
    *(
      (jnp.minimum, jnp.maximum)[i % 2](a, b)
      for i, (a, b) in enumerate(zip(one, two, strict=True))
    )
  )


class UnitRelations(NamedTuple):
  """What removed units are to kept ones: o_j = sign * o_partner + offset.

  Attributes:
    keep: bool numpy [C].
    partner: int numpy [C], a kept unit; -1 for a constant, and where kept.
    sign: int numpy [C]: 1 duplicate, -1 opposite, 0 constant or kept.
    offset: float64 numpy [C].
  """

  keep: np.ndarray
  partner: np.ndarray
  sign: np.ndarray
  offset: np.ndarray


def find_noncontributing(
  extremes: UnitExtremes,
  *,
  atol: float = 1e-6,
  rtol: float = 1e-6,
  offsets: bool = True,
) -> UnitRelations:
  """Finds constant, duplicate and opposite units.

  Of related units the first is kept, and at least one unit is.

  Args:
    extremes: of at least one observation.
    atol: how far from its relation a unit may ever be;
    rtol: the same per greatest magnitude of the two units.
    offsets: whether relations with an offset count.

  Returns:
    The relations; an offset within the tolerance of 0 is exactly 0.

  Raises:
    InputError: nothing was observed.
  """
  e = UnitExtremes(*(np.asarray(part, np.float64) for part in extremes))
  units = e.low.size
  if not np.isfinite(e.low).all() or not np.isfinite(e.high).all():
    raise InputError('units without finite observations; right is 1 or more')
  magnitude = np.maximum(np.abs(e.low), np.abs(e.high))
  found = UnitRelations(
    np.ones(units, bool),
    np.full(units, -1),
    np.zeros(units, int),
    np.zeros(units),
  )

  def offset(low, high, reach):
    """The offset that explains an interval, or None."""
    if max(abs(low), abs(high)) <= reach:
      return 0.0
    if offsets and (high - low) / 2 <= reach:
      return (high + low) / 2
    return None

  def remove(j, partner, sign, value):
    found.keep[j] = False
    found.partner[j], found.sign[j], found.offset[j] = partner, sign, value

  for j in range(units):
    value = offset(e.low[j], e.high[j], atol + rtol * magnitude[j])
    if value is not None and found.keep.sum() > 1:
      remove(j, -1, 0, value)
  for j in range(units):
    for i in range(j) if found.keep[j] else ():
      if not found.keep[i]:
        continue
      reach = atol + rtol * max(magnitude[i], magnitude[j])
      same = offset(e.low_difference[i, j], e.high_difference[i, j], reach)
      opposite = offset(e.low_sum[i, j], e.high_sum[i, j], reach)
      if same is not None or opposite is not None:
        sign = 1 if same is not None else -1
        remove(j, i, sign, same if same is not None else opposite)
        break
  return found


class Reader(NamedTuple):
  """A layer that reads the units.

  Attributes:
    kernel: leaf path of its kernel [..., C_in, C_out]; C_in a multiple of the
      units if a flattening of [H, W, C] lies between.
    bias: leaf path of its bias [C_out], or None.
    padded: whether it reads zeros beyond a border.
  """

  kernel: str
  bias: str | None
  padded: bool


def readers_of(graph: Graph, params, names: Iterable[str]) -> list[Reader]:
  """Describes layers by their sites.

  Args:
    graph: the model's, from `graph.trace`.
    params: the `params` collection of the traced variables.
    names: sites that read the units: all of them, or folding is wrong.

  Returns:
    The readers, in order. A leaf `bias` beside the kernel is the bias.

  Raises:
    InputError: no such site, or one of another layout than [..., C_in, C_out]
      with a single group.
  """
  sites = {site.name: site for site in graph.sites}
  leaves = by_path(params)
  found = []
  for name in names:
    site = sites.get(name)
    kernel = (site and site.weight or '').removeprefix('params/')
    if kernel not in leaves:
      raise InputError(
        f'no site {name!r} with a weight in params; sites are '
        f'{", ".join(sites) or "none"}'
      )
    numbers, padded = site.params['dimension_numbers'], False
    rank = leaves[kernel].ndim
    if site.kind == 'conv':
      inner = numbers.rhs_spec[:2] == (rank - 1, rank - 2)
      padded = any(p != (0, 0) for p in site.params['padding'])
      padded = padded or any(d != 1 for d in site.params['lhs_dilation'])
    else:
      inner = site.weight_operand == 1 and tuple(numbers[0][1]) == (0,)
      inner = inner and rank == 2
    if site.groups != 1 or not inner:
      raise InputError(
        f'site {name!r} has {site.groups} groups or another layout; right is '
        'one group and a kernel [..., C_in, C_out]'
      )
    bias = '/'.join([*kernel.split('/')[:-1], 'bias'])
    found.append(Reader(kernel, bias if bias in leaves else None, padded))
  return found


def fold_units(params, relations: UnitRelations, readers: Sequence[Reader]):
  """Moves the effect of removed units to kept ones and biases.

  Args:
    params: pytree of arrays.
    relations: from `find_noncontributing`.
    readers: all layers that read the units.

  Returns:
    `params` in which the readers' weights on removed units are 0.

  Raises:
    InputError: a path is no leaf, a kernel does not fit, or an offset meets a
      padded layer or one without a bias.
  """
  units = relations.keep.size
  removed = np.flatnonzero(~relations.keep)
  leaves = by_path(params)
  for reader in readers:
    kernel = pick(leaves, [reader.kernel])[reader.kernel]
    if kernel.ndim < 2 or kernel.shape[-2] % units:
      raise InputError(
        f'{reader.kernel!r} has shape {tuple(kernel.shape)}; right for '
        f'{units} units is [..., {units}, C_out]'
      )
    if relations.offset.any() and (reader.padded or reader.bias is None):
      raise InputError(
        f'an offset cannot be folded through {reader.kernel!r}, padded or '
        'without a bias; right is find_noncontributing(..., offsets=False)'
      )
    taps = kernel.reshape(-1, units, kernel.shape[-1])
    merged = [j for j in removed if relations.sign[j]]
    signs = jnp.asarray(relations.sign[merged], kernel.dtype)[None, :, None]
    partners = relations.partner[merged]
    new = taps.at[:, partners].add(signs * taps[:, np.array(merged, int)])
    leaves[reader.kernel] = new.at[:, removed].set(0).reshape(kernel.shape)
    if relations.offset.any():
      offset = jnp.asarray(relations.offset, kernel.dtype)
      moved = jnp.einsum('tcd,c->d', taps, offset)
      leaves[reader.bias] = pick(leaves, [reader.bias])[reader.bias] + moved
  return jax.tree.unflatten(jax.tree.structure(params), leaves.values())


class UnitRemoval(NamedTuple):
  """A model without its non-contributing units.

  Attributes:
    params: folded; what makes and what reads the removed units is 0.
    keep: leaf path of the producing kernel to bool numpy [C].
    relations: what the removed units were.
  """

  params: Any
  keep: dict[str, np.ndarray]
  relations: UnitRelations


def remove_noncontributing(
  params,
  extremes: UnitExtremes,
  *,
  kernel: str,
  bias: str | None,
  readers: Sequence[Reader],
  atol: float = 1e-6,
  rtol: float = 1e-6,
) -> UnitRemoval:
  """Finds the non-contributing units of a layer and folds them away.

  Args:
    params: pytree of arrays.
    extremes: of the units' outputs, over all patterns.
    kernel: leaf path of the kernel [..., C] that makes the units.
    bias: leaf path of its bias [C], or None.
    readers: all layers that read the units. UnitRelations with an offset count
      only if none of them is padded or without a bias.
    atol: as for `find_noncontributing`.
    rtol: as for `find_noncontributing`.

  Returns:
    The removal.

  Raises:
    InputError: a path is no leaf, or shapes disagree.
  """
  offsets = all(r.bias is not None and not r.padded for r in readers)
  found = find_noncontributing(extremes, atol=atol, rtol=rtol, offsets=offsets)
  folded = fold_units(params, found, readers)
  leaves = by_path(folded)
  gone = np.flatnonzero(~found.keep)
  for path in [kernel] if bias is None else [kernel, bias]:
    leaf = pick(leaves, [path])[path]
    if leaf.shape[-1] != found.keep.size:
      raise InputError(
        f'{path!r} has {leaf.shape[-1]} outputs; right are {found.keep.size}'
      )
    leaves[path] = leaf.at[..., gone].set(0)
  tree = jax.tree.structure(params)
  return UnitRemoval(
    jax.tree.unflatten(tree, leaves.values()), {kernel: found.keep}, found
  )
