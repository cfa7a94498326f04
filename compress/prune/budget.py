"""One limit for the whole network: a global threshold, MACs, bytes.

The most salient units stay, whichever leaf they are in, while what they cost
fits the limit. Costs are whole numbers and are summed exactly.
"""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from compress import graph
from compress.errors import InputError
from compress.prune import wide
from compress.prune.allocation import Allocation, no_rule, ruled
from compress.prune.selection import ranks, split_row, top_k


def global_threshold(*, min_keep: int = 0) -> Allocation:
  """One threshold over all leaves: the most salient of the network stay.

  As many survive as the leaves' own sparsities leave together. Where units
  differ in size (channels, blocks), the most salient stay while the weights
  that they hold fit into that number.

  Args:
    min_keep: units of each leaf that stay whatever their saliency, which keeps
      layers from collapsing.

  Returns:
    The allocation.
  """

  def limit(shapes, sparsity, *, rounding, units):
    sizes = {p: math.prod(shape) for p, shape in shapes.items()}
    if len(set(sparsity.values())) == 1:
      total = sum(sizes.values())
      kept = rounding.count(total, next(iter(sparsity.values())))
    else:
      kept = sum(rounding.count(sizes[p], sparsity[p]) for p in shapes)
    _reach('global_threshold', shapes, units, sizes, min_keep, kept)
    return wide.digits(kept)

  def count(scores, limit, *, rounding, shapes):
    sizes = {p: math.prod(shapes[p]) for p in scores}
    if all(scores[p].size == sizes[p] for p in scores):
      return _count_best(scores, wide.small(limit), rounding, min_keep)
    costs = {p: sizes[p] // scores[p].size for p in scores}
    return _count_within(scores, limit, costs, min_keep)

  return Allocation('global', ruled('global_threshold'), limit, count)


def mac_budget(
  budget: float,
  *,
  macs: Mapping[str, int],
  fixed: int = 0,
  min_keep: int = 0,
) -> Allocation:
  """The most salient weights whose multiply-accumulates fit a budget.

  Args:
    budget: MACs that may stay, of the pruned leaves with `fixed`.
    macs: leaf path to the MACs that one of its weights takes part in, as
      `macs_per_weight` gives them; paths that are not pruned do not count.
    fixed: MACs of all else.
    min_keep: units of each leaf that stay whatever their saliency.

  Returns:
    The allocation; the rules give `PRUNE` in place of a sparsity. On the way
    of a schedule, the removed fraction of the MACs takes the sparsity's place.

  Raises:
    InputError: at use, a leaf without MACs, or a budget below what `fixed` and
      `min_keep` take.
  """
  return _budget('mac_budget', 'MACs', budget, macs, fixed, min_keep)


def byte_budget(
  budget: float,
  *,
  bits: Mapping[str, int] | int = 32,
  fixed: int = 0,
  min_keep: int = 0,
) -> Allocation:
  """The most salient weights whose stored form fits a budget of bytes.

  A leaf takes a bitmap of one bit a weight and `bits` for each survivor, as
  `packed.Sparse` is stored.

  Args:
    budget: bytes that the pruned leaves may take, with `fixed`.
    bits: bits of a stored weight, one number or leaf path to its own.
    fixed: bytes of all else: dense leaves, scales.
    min_keep: units of each leaf that stay whatever their saliency.

  Returns:
    The allocation; the rules give `PRUNE` in place of a sparsity.

  Raises:
    InputError: at use, a leaf without bits, or a budget below what bitmaps,
      `fixed` and `min_keep` take.
  """
  return _budget('byte_budget', 'bytes', budget, bits, fixed, min_keep)


def macs_per_weight(traced: graph.Graph) -> dict[str, int]:
  """How many multiply-accumulates each weight of a leaf takes part in.

  Args:
    traced: the model, for the batch it was traced with.

  Returns:
    Leaf path relative to `params` to MACs a weight: output positions times
    batch; the sum over all uses of a leaf.
  """
  totals: dict[str, int] = {}
  for site in traced.sites:
    if site.weight is not None and site.macs:
      totals[site.weight] = totals.get(site.weight, 0) + site.macs
  return {
    path.removeprefix('params/'): total // math.prod(traced.weights[path])
    for path, total in totals.items()
  }


def _budget(name, noun, budget, costs, fixed, min_keep):
  scale = 8 if noun == 'bytes' else 1

  def cost_of(path):
    cost = costs if isinstance(costs, int) else costs.get(path)
    if cost is None or cost < 0 or int(cost) != cost:
      raise InputError(
        f'{path}: {name} needs a whole number of '
        f'{"bits" if scale == 8 else "MACs"} a weight here, got {cost}'
      )
    return int(cost)

  def sizes_of(shapes):
    return {p: math.prod(shape) * cost_of(p) for p, shape in shapes.items()}

  def targets(shapes, ruled):
    for path in shapes:
      no_rule(name, path, ruled[path])
    least = math.ceil(fixed) * scale
    if scale == 8:
      # A bitmap each, and codes that end on a whole byte.
      least += sum(8 * -(-math.prod(shape) // 8) for shape in shapes.values())
      least += sum(7 for path in shapes if cost_of(path) % 8)
    total = sum(sizes_of(shapes).values())
    spare = min(math.floor(budget * scale) - least, total)
    if spare <= 0:
      raise InputError(
        f'{next(iter(shapes))}: {name} of {budget:.15g} {noun} cannot be met: '
        f'more than {-(-least // scale)} {noun} are needed with nothing of '
        f'the pruned leaves left'
      )
    return dict.fromkeys(shapes, 1 - spare / total)

  def limit(shapes, sparsity, *, rounding, units):
    del rounding
    sizes = sizes_of(shapes)
    density = 1 - next(iter(sparsity.values()))
    spare = round(sum(sizes.values()) * density)
    _reach(name, shapes, units, sizes, min_keep, spare)
    return wide.digits(spare)

  def count(scores, limit, *, rounding, shapes):
    del rounding
    unit = {p: math.prod(shapes[p]) // scores[p].size for p in scores}
    held = {p: cost_of(p) * unit[p] for p in scores}
    return _count_within(scores, limit, held, min_keep)

  return Allocation(name, targets, limit, count)


def _reach(name, shapes, units, sizes, min_keep, kept):
  least = sum(
    sizes[p] // units[p] * min(min_keep, units[p]) for p in shapes if units[p]
  )
  if least > kept:
    raise InputError(
      f'{next(iter(shapes))}: min_keep={min_keep} of each leaf takes {least}, '
      f'but {name} leaves {kept}'
    )


def _guarded(scores, min_keep):
  """Scores of all leaves in a row; the best `min_keep` of each come first."""
  rows = []
  for x in scores.values():
    x = x.reshape(-1).astype(jnp.float32)
    if min_keep:
      x = jnp.where(top_k(x, min_keep), jnp.inf, x)
    rows.append(x)
  return jnp.concatenate(rows)


def _count_best(scores, keep, rounding, min_keep):
  mask = top_k(_guarded(scores, min_keep), keep, ties=rounding.ties)
  parts = split_row(mask, scores)
  return {p: part.sum(dtype=jnp.int32) for p, part in parts.items()}


def _count_within(scores, limit, costs, min_keep):
  """Units kept in each leaf when the best ones fill a limit of costs."""
  places = split_row(ranks(_guarded(scores, min_keep)), scores)
  weights = [costs[p] for p in scores]

  def counts(place):
    return jnp.stack(
      [(x < place).sum(dtype=jnp.int32) for x in places.values()]
    )

  def halve(_, ends):
    low, high = ends
    middle = low + (high - low + 1) // 2
    fits = wide.at_most(wide.dot(counts(middle), weights), jnp.asarray(limit))
    return jnp.where(fits, middle, low), jnp.where(fits, high, middle - 1)

  total = sum(x.size for x in scores.values())
  ends = (jnp.int32(0), jnp.int32(total))
  low, _ = jax.lax.fori_loop(0, total.bit_length() + 1, halve, ends)
  return dict(zip(scores, counts(low), strict=True))
