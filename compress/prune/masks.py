"""Masks on weights as a `Compressor`, and what keeps removed weights removed.

Five parts (design of jaxpruner, Lee et al. 2023, arXiv:2304.14082, without its
classes): which leaves (rules), how much each weight matters (saliency), how
many stay in each leaf (allocation), which ones (selection), and when
(schedule). `state.carried['masks']` maps leaf path to a bool array, True where
the weight stays.

A removed weight is zero in the forward pass whatever the parameter holds. With
the masked gradient it also gets none, but momentum and weight decay still move
the parameter: `remask` and `reset_moments` after the optimizer's update keep it
where it is.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from compress import compressor as compressor_lib
from compress.compressor import Compressor, Rules, State
from compress.errors import InputError
from compress.packed import Dense, Sparse
from compress.prune import magnitude as magnitude_lib
from compress.prune.allocation import Allocation, uniform
from compress.prune.masking import apply_masks, check_tree
from compress.prune.paths import by_path
from compress.prune.rounding import LIBRARY, Rounding, check_sparsity
from compress.prune.schedule import Schedule, one_shot
from compress.prune.selection import Selection, select_weights

Gradient = Literal['masked', 'straight_through']

_NEVER = frozenset(
  {'bias', 'scale', 'mean', 'var', 'alpha', 'gamma', 'beta', 'negative_slope'}
)


class _Prune:
  """Type of `PRUNE`."""

  def __repr__(self):
    return 'PRUNE'


PRUNE = _Prune()
"""In a rule: prune this leaf; the allocation says how much of it."""


def is_kernel(path: str, leaf: jax.Array) -> bool:
  """Whether a leaf is pruned by default: two or more axes, no bias or norm.

  Args:
    path: the leaf's path.
    leaf: its array.

  Returns:
    Whether it has at least two axes and is not named as biases, scales and
    statistics are.
  """
  return jnp.ndim(leaf) >= 2 and path.rsplit('/', 1)[-1] not in _NEVER


def covered(
  rules: Rules,
  params,
  *,
  prunable: Callable[[str, jax.Array], bool] = is_kernel,
) -> dict[str, Any]:
  """The leaves that rules cover and that may be pruned.

  Args:
    rules: ordered `(pattern, spec)` pairs over leaf paths; `KEEP` leaves dense
      what it matches, such as a classifier or the first layer.
    params: pytree of arrays.
    prunable: `(path, leaf) -> bool`, which leaves a rule may cover at all.

  Returns:
    Leaf path to spec, in the order of the leaves.

  Raises:
    InputError: no rules, or rules that cover no leaf.
  """
  specs = compressor_lib.resolve(rules, params).specs
  leaves = by_path(params)
  found = {path: s for path, s in specs.items() if prunable(path, leaves[path])}
  if not found:
    patterns = [pattern for pattern, _ in rules]
    raise InputError(
      f'no weights to prune: of {len(leaves)} leaves (such as '
      f'{next(iter(leaves), None)}) the rules {patterns} cover none with two '
      f'or more axes'
    )
  return found


def prune_weights(
  rules: Rules,
  *,
  saliency: magnitude_lib.Saliency | Mapping[str, jax.Array] = (
    magnitude_lib.magnitude_saliency
  ),
  allocation: Allocation | None = None,
  selection: Selection | None = None,
  schedule: Schedule | None = None,
  rounding: Rounding = LIBRARY,
  gradient: Gradient = 'masked',
  regrow: bool = False,
  prunable: Callable[[str, jax.Array], bool] = is_kernel,
  key: jax.Array | None = None,
) -> Compressor:
  """Prunes the weights that a plan covers, by masks.

  Masks are taken in `init` where the schedule starts at step 0, and in `update`
  at the first call at or after each of its events. Sparsities, and so counts,
  are exact: they are made on the host for each event, and traced code only
  looks them up.

  Args:
    rules: ordered `(pattern, spec)` pairs over leaf paths; the spec is the
      final sparsity, the fraction removed in [0, 1), or `PRUNE` where the
      allocation knows (budgets, `given`), or `KEEP`. Leaves that `prunable`
      refuses stay dense whatever matches them.
    saliency: `(weights, *, grad, key) -> array` of the weights' shape, such as
      those of `compress.prune.magnitude`; or leaf path to an array that is
      given, for saliencies that need data.
    allocation: how many stay in each leaf; `uniform()` by default.
    selection: which; `select_weights()` by default.
    schedule: when; `one_shot()` by default.
    rounding: convention of counts and ties.
    gradient: `masked`: removed weights get none; `straight_through`: they get
      that of the weight they would be, for methods that let them return.
    regrow: let every event choose among all weights; otherwise what is removed
      stays removed, and masks are nested.
    prunable: `(path, leaf) -> bool`, which leaves may be pruned at all.
    key: random key for saliencies that draw.

  Returns:
    The compressor; `state.carried` holds 'masks' and 'event', the number of
    the schedule's events that are done.

  Raises:
    InputError: here, a sparsity outside [0, 1); in `init`, rules that cover
      nothing, a saliency of another tree or shape, a leaf that the selection
      cannot cut, a budget that cannot be met.
  """
  allocation = uniform() if allocation is None else allocation
  selection = select_weights() if selection is None else selection
  schedule = one_shot() if schedule is None else schedule
  if not rules:
    raise InputError('no rules: the set of weights to prune is empty')
  rules = [(pattern, _spec(spec, pattern)) for pattern, spec in rules]

  def plan_of(leaves, specs):
    """Sizes in units, final sparsities, and each event's limits."""
    shapes = {path: tuple(leaves[path].shape) for path in specs}
    units = {path: selection.units(shapes[path], path) for path in specs}
    asked = {p: None if s is PRUNE else s for p, s in specs.items()}
    finals = allocation.targets(shapes, asked)
    rows = {p: schedule.sparsities(final) for p, final in finals.items()}
    limits = [
      allocation.limit(
        shapes,
        {p: float(row[event]) for p, row in rows.items()},
        rounding=rounding,
        units=units,
      )
      for event in range(schedule.events + 1)
    ]
    if selection.pattern is not None:
      _check_pattern(selection.pattern, shapes, finals, limits[-1])
    return shapes, jax.tree.map(_falling, *limits)

  def choose(params, masks, event, grads):
    leaves = by_path(params)
    leaves = {path: leaves[path] for path in masks}
    specs = covered(rules, params, prunable=prunable)
    shapes, limits = plan_of(leaves, specs)
    if callable(saliency):
      flat = None if grads is None else by_path(grads)
      found = magnitude_lib.saliencies(saliency, leaves, grads=flat, key=key)
    else:
      found = check_tree(saliency, params, 'a saliency', needed=masks)
    scores = {}
    for path in masks:
      score = selection.score(found[path])
      if not regrow:
        alive = selection.score(masks[path].astype(jnp.float32)) > 0
        score = jnp.where(alive, score, -jnp.inf)
      scores[path] = jnp.where(jnp.isnan(score), -jnp.inf, score)
    limit = jax.tree.map(lambda rows: jnp.asarray(rows)[event], limits)
    counts = allocation.count(scores, limit, rounding=rounding, shapes=shapes)
    new = {}
    for path, score in scores.items():
      chosen = selection.choose(score, counts[path], ties=rounding.ties)
      new[path] = selection.spread(chosen, shapes[path])
      if not regrow:
        new[path] &= masks[path]
    return new

  def init(params):
    leaves = by_path(params)
    specs = covered(rules, params, prunable=prunable)
    masks = {path: jnp.ones(leaves[path].shape, bool) for path in specs}
    event = schedule.event(0)
    if schedule.start == 0:
      masks = choose(params, masks, event, None)
    else:
      plan_of(leaves, specs)
    return {'masks': masks, 'event': event}

  def update(params, carried, *, step, grads):
    if schedule.last_step == 0:
      return carried
    event = schedule.event(step)

    def change(carried):
      masks = choose(params, carried['masks'], event, grads)
      return {'masks': masks, 'event': event}

    return jax.lax.cond(
      event > carried['event'], change, lambda carried: carried, carried
    )

  return masked(init, update, gradient=gradient, pattern=selection.pattern)


def masked(
  init: Callable[[Any], dict[str, Any]],
  update: Callable[..., dict[str, Any]] | None = None,
  *,
  gradient: Gradient = 'masked',
  pattern: tuple[int, int, int] | None = None,
) -> Compressor:
  """The compressor of any method whose state is a set of masks.

  Args:
    init: `(params) -> carried`, a dict with 'masks', leaf path to bool array,
      and whatever else the method carries.
    update: `(params, carried, *, step, grads) -> carried`; None where the masks
      stay as they are.
    gradient: as in `prune_weights`.
    pattern: (n, m, axis) where every mask is N:M along an axis.

  Returns:
    The compressor; its `pack` gives `Sparse` tensors.

  Raises:
    InputError: an unknown gradient.
  """
  if gradient not in ('masked', 'straight_through'):
    raise InputError(f"gradient={gradient!r}: 'masked' or 'straight_through'")

  def apply(params, state):
    through = gradient == 'straight_through'
    return apply_masks(params, state.carried['masks'], straight_through=through)

  def advance(params, state, *, step, grads=None):
    if update is None:
      return state
    carried = update(params, state.carried, step=step, grads=grads)
    return state._replace(carried=carried)

  def pack(params, state):
    masks = check_tree(state.carried['masks'], params, 'a mask')

    def at(leaf, mask, path):
      del path
      # What is left is unchanged: in a chain it keeps the form it has.
      return Sparse(mask, Dense(leaf, changed=False), pattern=pattern)

    return compressor_lib.pack_covered(at, params, masks)

  return Compressor(
    lambda params: State((), init(params)), apply, advance, pack
  )


def fixed_masks(
  masks: Mapping[str, jax.Array],
  *,
  gradient: Gradient = 'masked',
  pattern: tuple[int, int, int] | None = None,
) -> Compressor:
  """Masks that are given, and stay.

  Args:
    masks: leaf path to an array of the leaf's shape, bool or 0 and 1.
    gradient: as in `prune_weights`.
    pattern: (n, m, axis) where every mask is N:M along an axis.

  Returns:
    The compressor.

  Raises:
    InputError: no masks, one that holds more than 0 and 1; in `init`, masks of
      another tree or of other shapes.
  """
  if not masks:
    raise InputError('no masks: the set of leaves to prune is empty')
  checked = {}
  for path, mask in masks.items():
    mask = np.asarray(mask)
    if not np.isin(mask, (0, 1)).all():
      raise InputError(f'{path}: a mask holds True and False, or 1 and 0, only')
    checked[path] = mask.astype(bool)

  def init(params):
    found = check_tree(checked, params, 'a mask')
    return {'masks': {path: jnp.asarray(mask) for path, mask in found.items()}}

  return masked(init, gradient=gradient, pattern=pattern)


def _spec(spec, pattern):
  if spec is compressor_lib.KEEP or spec is PRUNE:
    return spec
  return check_sparsity(spec, f'rule {pattern!r}')


def _falling(*counts):
  """Counts event by event; rounding may not give back what it took."""
  rows = np.stack([np.asarray(x) for x in counts])
  if rows.ndim > 1:
    return rows
  rows = np.maximum.accumulate(rows[::-1])[::-1]
  return rows.astype(np.int32)


def _check_pattern(pattern, shapes, finals, limits):
  n, m, _ = pattern
  if not isinstance(limits, Mapping):
    raise InputError(
      f'{next(iter(shapes))}: {n}:{m} sparsity fixes the number kept in each '
      f'leaf; use uniform() or given() allocation'
    )
  for path, shape in shapes.items():
    kept = -(-m * limits[path] // math.prod(shape))
    if kept != n or abs(finals[path] - (1 - n / m)) > 1e-6:
      raise InputError(
        f'{path}: {n}:{m} is a sparsity of {1 - n / m:g}, not of '
        f'{finals[path]:g}'
      )
