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

from compress.errors import InputError
from compress.prune.rounding import LIBRARY, Rounding, check_sparsity

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

  return Allocation('uniform', ruled('uniform'), limit, _as_limited)


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
      no_rule('given', path, ruled[path])
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


def ruled(name: str) -> Callable[..., dict[str, float]]:
  """The `targets` of an allocation that takes sparsities from the rules."""

  def targets(shapes, sparsity):
    for path in shapes:
      if sparsity[path] is None:
        raise InputError(
          f'{path}: {name} needs a sparsity in [0, 1) for this leaf'
        )
    return {path: check_sparsity(sparsity[path], path) for path in shapes}

  return targets


def no_rule(name: str, path: str, sparsity: float | None):
  """Refuses a rule's sparsity where the allocation decides it itself."""
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

  return Allocation(name, ruled(name), limit, _as_limited)
