"""How many survive in each leaf.

An `Allocation` works in two steps, so that a whole schedule is exact and
compiles once. `limit` turns shapes and sparsities into integers on the host;
`count` turns those and the saliencies into the number of units that stay in
each leaf, and may be traced. Called with both it does both:
`uniform()(saliency, 0.9) -> {path: number kept}`.

Sparsities are fractions removed, in [0, 1), one for all leaves or one a path.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from compress import graph
from compress.errors import InputError
from compress.prune import wide
from compress.prune.rounding import LIBRARY, Rounding, check_sparsity
from compress.prune.selection import ranks, top_k

Shapes = Mapping[str, tuple[int, ...]]
Sparsity = float | Mapping[str, float]


class Allocation(NamedTuple):
  """A way to spread a sparsity over leaves.

  Attributes:
    name: for messages.
    targets: `(shapes, sparsity: {path: float | None}) -> {path: float}`, the
      final sparsity of each leaf; None stands for "the allocation says".
    limit: `(shapes, sparsity: {path: float}, rounding=, units=)` -> pytree of
      Python integers or of integer arrays, on the host.
    count: `(scores, limit, rounding=, shapes=) -> {path: int32 []}`, units that
      stay.
  """

  name: str
  targets: Callable[[Shapes, Mapping[str, float | None]], dict[str, float]]
  limit: Callable[..., Any]
  count: Callable[..., dict[str, jax.Array]]

  def __call__(
    self,
    saliency: Mapping[str, Any],
    sparsity: Sparsity | None = None,
    *,
    rounding: Rounding = LIBRARY,
  ) -> dict[str, int | jax.Array]:
    """Numbers of weights kept, leaf path by leaf path.

    Args:
      saliency: leaf path to array; anything with a shape does where the
        allocation looks at shapes only.
      sparsity: fraction removed, one for all or leaf path to its own; None
        where the allocation knows itself (budgets, `given`).
      rounding: convention of the counts.

    Returns:
      Leaf path to the number kept.

    Raises:
      InputError: no leaves, a sparsity outside [0, 1), or a budget that cannot
        be met.
    """
    if not saliency:
      raise InputError('no weights to prune: the set of leaves is empty')
    shapes = {path: tuple(x.shape) for path, x in saliency.items()}
    each = {
      path: sparsity.get(path) if isinstance(sparsity, Mapping) else sparsity
      for path in shapes
    }
    targets = self.targets(shapes, each)
    units = {path: math.prod(shape) for path, shape in shapes.items()}
    limit = self.limit(shapes, targets, rounding=rounding, units=units)
    return self.count(saliency, limit, rounding=rounding, shapes=shapes)


def uniform() -> Allocation:
  """Every leaf at its own sparsity: layer-wise pruning."""

  def limit(shapes, sparsity, *, rounding, units):
    return {p: rounding.count(units[p], sparsity[p]) for p in shapes}

  return Allocation('uniform', _ruled('uniform'), limit, _as_limited)


def given(sparsity: Mapping[str, float]) -> Allocation:
  """Sparsities leaf by leaf, as a search or a paper's table gives them.

  Args:
    sparsity: leaf path to fraction removed.

  Returns:
    The allocation.

  Raises:
    InputError: a sparsity outside [0, 1); at use, a leaf without one or a path
      that is no leaf.
  """
  known = {path: check_sparsity(s, path) for path, s in sparsity.items()}

  def targets(shapes, ruled):
    for path in known:
      if path not in shapes:
        raise InputError(f'{path}: has a sparsity but is no leaf to be pruned')
    for path in shapes:
      if path not in known:
        raise InputError(f'{path}: has no sparsity among those given')
      _no_rule('given', path, ruled[path])
    return {path: known[path] for path in shapes}

  return uniform()._replace(name='given', targets=targets)


def erdos_renyi(*, first_dense: bool = False) -> Allocation:
  """Density by `(n_in + n_out) / (n_in n_out)`: small layers stay denser.

  Mocanu et al. 2018 (SET, arXiv:1707.04780), in the form of Evci et al. 2020
  (RigL, arXiv:1911.11134): `density_l = eps p_l`, eps such that as many weights
  survive as at a uniform sparsity; a layer whose density would pass 1 is dense
  and eps is taken anew. For kernels of more axes `n_in`, `n_out` are the last
  two. Survivors before the last rounding are those of floor counts of zeros,
  as in RigL's code: `eps = [sum_sparse (n - floor(s n)) - sum_dense floor(s n)]
  / sum_sparse p n`; each leaf's own sparsity stands in the floors.

  Args:
    first_dense: keep the first leaf dense and let the others make up for it.

  Returns:
    The allocation.
  """
  return _erdos_renyi(
    'erdos_renyi',
    lambda shape: sum(shape[-2:]) / math.prod(shape[-2:]),
    first_dense,
  )


def erdos_renyi_kernel(
  *, power: float = 1.0, first_dense: bool = False
) -> Allocation:
  """`erdos_renyi` with all axes of a kernel, `sum(dims) / prod(dims)`.

  Evci et al. 2020, arXiv:1911.11134, ERK.

  Args:
    power: exponent of the raw density; 0 makes all densities equal.
    first_dense: keep the first leaf dense and let the others make up for it.

  Returns:
    The allocation.
  """
  return _erdos_renyi(
    'erdos_renyi_kernel',
    lambda shape: (sum(shape) / math.prod(shape)) ** power,
    first_dense,
  )


def densities(
  shapes: Shapes,
  sparsity: Sparsity,
  raw: Callable[[tuple[int, ...]], float],
  *,
  dense: frozenset[str] | set[str] = frozenset(),
) -> dict[str, float]:
  """Densities in proportion to `raw(shape)`, with the survivors of `sparsity`.

  Args:
    shapes: leaf path to shape.
    sparsity: fraction removed, one for all or one a path.
    raw: `(shape) -> float`, positive.
    dense: leaves that stay dense from the start.

  Returns:
    Leaf path to density in (0, 1], before any rounding to a count.

  Raises:
    InputError: the dense leaves alone hold more weights than may stay.
  """
  if not isinstance(sparsity, Mapping):
    sparsity = dict.fromkeys(shapes, sparsity)
  size = {path: math.prod(shape) for path, shape in shapes.items()}
  zeros = {
    path: math.floor(check_sparsity(sparsity[path], path) * n + 1e-9)
    for path, n in size.items()
  }
  dense = set(dense)
  while True:
    sparse = [path for path in shapes if path not in dense]
    if not sparse:
      return dict.fromkeys(shapes, 1.0)
    spare = sum(size[p] - zeros[p] for p in sparse)
    spare -= sum(zeros[p] for p in dense)
    if spare <= 0:
      raise InputError(
        f'{sorted(dense)[0]}: the leaves that stay dense hold more weights '
        f'than the sparsity leaves; lower it or prune more leaves'
      )
    eps = spare / sum(raw(shapes[p]) * size[p] for p in sparse)
    over = [p for p in sparse if eps * raw(shapes[p]) > 1]
    if not over:
      break
    # The densest first, as others may then come below 1.
    top = max(raw(shapes[p]) for p in over)
    dense |= {p for p in over if raw(shapes[p]) == top}
  return {p: 1.0 if p in dense else eps * raw(shapes[p]) for p in shapes}


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

  return Allocation('global', _ruled('global_threshold'), limit, count)


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


def _ruled(name):
  def targets(shapes, sparsity):
    for path in shapes:
      if sparsity[path] is None:
        raise InputError(
          f'{path}: {name} needs a sparsity in [0, 1) for this leaf'
        )
    return {path: check_sparsity(sparsity[path], path) for path in shapes}

  return targets


def _no_rule(name, path, sparsity):
  if sparsity is not None:
    raise InputError(
      f'{path}: {name} decides the sparsity itself; give PRUNE, not {sparsity}'
    )


def _as_limited(scores, limit, *, rounding, shapes):
  del rounding, shapes
  return {path: limit[path] for path in scores}


def _erdos_renyi(name, raw, first_dense):
  def limit(shapes, sparsity, *, rounding, units):
    first = {next(iter(shapes))} if first_dense else set()
    # A leaf at sparsity 0 is dense by wish, and takes nothing from the others.
    free = {p: s for p, s in shapes.items() if sparsity[p] > 0}
    density = dict.fromkeys(shapes, 1.0)
    if free:
      density |= densities(free, sparsity, raw, dense=first & set(free))
    return {
      p: rounding.count(units[p], max(0.0, 1 - density[p])) for p in shapes
    }

  return Allocation(name, _ruled(name), limit, _as_limited)


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
      _no_rule(name, path, ruled[path])
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


def _split(row, scores):
  ends = np.cumsum([x.size for x in scores.values()])[:-1]
  return dict(zip(scores, jnp.split(row, ends), strict=True))


def _count_best(scores, keep, rounding, min_keep):
  mask = top_k(_guarded(scores, min_keep), keep, ties=rounding.ties)
  parts = _split(mask, scores)
  return {p: part.sum(dtype=jnp.int32) for p, part in parts.items()}


def _count_within(scores, limit, costs, min_keep):
  """Units kept in each leaf when the best ones fill a limit of costs."""
  places = _split(ranks(_guarded(scores, min_keep)), scores)
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
