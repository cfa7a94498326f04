r"""Sparse from the first step to the last: SET and RigL.

Mocanu, Mocanu, Stone, Nguyen, Gibescu, Liotta 2018, 'Scalable training of
artificial neural networks with adaptive sparse connectivity inspired by network
science', arXiv:1707.04780 (SET); Evci, Gale, Menick, Castro, Elsen 2020,
'Rigging the Lottery: Making All Tickets Winners', arXiv:1911.11134 (RigL).
Masks start at random, denser in small layers (`allocation`). Every dT steps
each layer drops a fraction f of its smallest |w| and grows as many at places
drawn evenly (SET) or where the dense gradient is largest (RigL):

  f(t) = a / 2 (1 + cos(pi t / T_end)),    n_drop = int(f nnz)

What grows starts at 0, with moments of 0; a place that is dropped and grown at
once keeps its weight. On such a step the optimizer's update is left out. The
paper's ImageNet training: dT = 100, a = 0.3, T_end = 25,000 of 32,000 steps,
batch 4096.

Headline, RigL on ImageNet with ResNet-50 (dense 76.8 %), ERK: 80 % sparse
75.12 %, 90 % 73.07 %; trained five times as long 77.17 % and 76.42 %. This code
has not been run on it.

Departures: ties go to the lowest flat index instead of to noise of 1e-5; SET
follows the RigL authors' code (smallest |w|, decaying f) unless
`decay='constant'`; the first update is at step dT, not 0; the dense gradient is
there on every step, so one compiled step serves all.

Use with `compress.train`:

  method = rigl(rules, schedule=schedule, key=key)
  optimizer = sparse_optimizer(optax.sgd(0.1), method, schedule)
  step = make_step(loss, optimizer, after_update=regrow(method, optimizer))

where `loss` applies `method` to params, with `carried` the method's.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from compress.compressor import Compressor, Rules, State
from compress.errors import InputError
from compress.prune import masking
from compress.prune.allocation import Allocation, erdos_renyi_kernel
from compress.prune.masks import PRUNE, covered, masked
from compress.prune.paths import by_path, path_key
from compress.prune.rounding import RIGL, Rounding
from compress.prune.selection import top_k


@dataclasses.dataclass(frozen=True)
class Rewiring:
  """When connections change, and how many.

  Attributes:
    every: steps between changes, dT.
    end: no change at or after this step, T_end.
    fraction: of a layer's survivors that change first, a, in [0, 1].
    decay: 'cosine', or 'constant' for the same fraction throughout.
  """

  every: int = 100
  end: int = dataclasses.field(kw_only=True)
  fraction: float = 0.3
  decay: Literal['cosine', 'constant'] = 'cosine'

  def __post_init__(self):
    if self.every < 1 or self.end < 1 or not 0 <= self.fraction <= 1:
      raise InputError(
        f'rewiring with every={self.every}, end={self.end}, fraction='
        f'{self.fraction}: every >= 1, end >= 1, fraction in [0, 1] needed'
      )
    if self.decay not in ('cosine', 'constant'):
      raise InputError(f"decay={self.decay!r}: 'cosine' or 'constant'")

  def due(self, step: jax.Array | int) -> jax.Array | bool:
    """Whether connections change at a step; bool []."""
    return (step > 0) & (step % self.every == 0) & (step < self.end)

  def drop_fraction(self, step) -> jax.Array:
    """Fraction f that changes at a step; Evci et al. 2020; float32 []."""
    if self.decay == 'constant':
      return jnp.float32(self.fraction)
    turn = jnp.pi * jnp.asarray(step, jnp.float32) / self.end
    return self.fraction / 2 * (1 + jnp.cos(turn))


def rigl(
  rules: Rules,
  *,
  schedule: Rewiring,
  key: jax.Array,
  allocation: Allocation | None = None,
  rounding: Rounding = RIGL,
) -> Compressor:
  """Grows where the dense gradient is largest; RigL.

  The forward pass sees masked weights; the gradient is the dense one, which
  `update` reads and `sparse_optimizer` masks.

  Args:
    rules: `(pattern, sparsity)` pairs over leaf paths; the fraction removed.
    schedule: when and how many.
    key: random key of the first masks; the same on all devices.
    allocation: densities of the layers; `erdos_renyi_kernel()` by default.
    rounding: convention of the counts.

  Returns:
    The compressor; `state.carried` holds 'masks'. Its `update` raises
    InputError where a change may be due and there are no gradients.
  """

  def growth(step, path, grads, shape):
    del step, shape
    return jnp.abs(grads[path])

  return _rewired(
    rules, schedule, key, allocation, rounding, growth, needs_grads=True
  )


def sparse_evolution(
  rules: Rules,
  *,
  schedule: Rewiring,
  key: jax.Array,
  allocation: Allocation | None = None,
  rounding: Rounding = RIGL,
) -> Compressor:
  """Grows at places drawn evenly; SET.

  Args:
    rules: as for `rigl`.
    schedule: when and how many; the paper's has decay='constant'.
    key: random key of the first masks and of what grows.
    allocation: as for `rigl`.
    rounding: convention of the counts.

  Returns:
    The compressor; `state.carried` holds 'masks'.
  """

  def growth(step, path, grads, shape):
    del grads
    drawn = jax.random.fold_in(jax.random.fold_in(key, 1), step)
    return jax.random.uniform(path_key(drawn, path), shape)

  return _rewired(
    rules, schedule, key, allocation, rounding, growth, needs_grads=False
  )


def drop_and_grow(
  weights: jax.Array, mask: jax.Array, growth: jax.Array, count: jax.Array | int
) -> jax.Array:
  """The next mask of a leaf: drops the smallest weights, grows as many.

  Args:
    weights: float array.
    mask: bool, what there is.
    growth: float array, at least 0: where to grow. What was just dropped may
      grow again.
    count: int [], how many to drop, at most as many as there are.

  Returns:
    bool, with as many True as `mask`.
  """
  alive = jnp.where(mask, jnp.abs(weights), -1)
  kept = top_k(alive, mask.sum(dtype=jnp.int32) - count)
  free = jnp.where(kept, -jnp.inf, jnp.nan_to_num(growth))
  return kept | top_k(free, count)


def mask_gradients(grads, masks: masking.Masks):
  """The dense gradient without that of weights that are not there."""
  return masking.apply_masks(grads, masks)


class SparseOptimizerState(NamedTuple):
  """State of `sparse_optimizer`.

  Attributes:
    inner: the wrapped optimizer's.
    masks: which weights are there; written by `regrow`.
    step: int32 [], updates so far.
  """

  inner: Any
  masks: masking.Masks
  step: jax.Array


class SparseOptimizer(NamedTuple):
  """An optax transformation that keeps masks, and the one that it wraps."""

  init: Callable[[Any], SparseOptimizerState]
  update: Callable[..., tuple[Any, SparseOptimizerState]]
  inner: optax.GradientTransformation


def sparse_optimizer(
  optimizer: optax.GradientTransformation,
  method: Compressor,
  schedule: Rewiring,
) -> SparseOptimizer:
  """Masks the dense gradients, and rests on steps at which masks change.

  Clipping by the global norm sees the masked gradients. On a step of rest
  nothing of the optimizer moves, its count for the learning rate included.

  Args:
    optimizer: an optax gradient transformation.
    method: from `rigl` or `sparse_evolution`.
    schedule: the method's.

  Returns:
    The transformation, for the parameters that the method is made for.
  """

  def init(params):
    masks = masking.masks_of(method.init(params))
    return SparseOptimizerState(optimizer.init(params), masks, jnp.int32(0))

  def update(grads, state, params=None):
    updates, inner = optimizer.update(
      mask_gradients(grads, state.masks), state.inner, params
    )
    rest = schedule.due(state.step)
    updates = jax.tree.map(lambda u: jnp.where(rest, 0, u), updates)
    inner = jax.tree.map(
      lambda old, new: jnp.where(rest, old, new), state.inner, inner
    )
    return updates, SparseOptimizerState(inner, state.masks, state.step + 1)

  return SparseOptimizer(init, update, optimizer)


def regrow(
  method: Compressor,
  optimizer: SparseOptimizer,
  *,
  carried_key: str | None = None,
) -> Callable[..., Any]:
  """The `after_update` of `compress.train.make_step` for sparse training.

  Changes the masks where it is time, puts what is not there to 0 (so that what
  grows starts at 0) and the moments of what grew to 0.

  Args:
    method: from `rigl` or `sparse_evolution`.
    optimizer: the step's, from `sparse_optimizer`.
    carried_key: where the method's carried state stands in the step's; None if
      it is all of it.

  Returns:
    `(state, *, grads, key) -> state`; `state.params` are the method's.
  """

  def after_update(state, *, grads, key):
    del key
    carried = state.carried
    own = carried if carried_key is None else carried[carried_key]
    own = method.update(
      state.params, State((), own), step=state.step, grads=grads
    )
    masks, before = masking.masks_of(own), state.opt_state.masks
    inner = masking.reset_moments(
      state.opt_state.inner,
      {path: before[path] | ~mask for path, mask in masks.items()},
      optimizer=optimizer.inner,
      params=state.params,
    )
    new = own.carried
    return state._replace(
      params=masking.apply_masks(state.params, masks),
      opt_state=state.opt_state._replace(inner=inner, masks=masks),
      carried=new if carried_key is None else {**carried, carried_key: new},
    )

  return after_update


def _rewired(
  rules, schedule, key, allocation, rounding, growth, *, needs_grads
):
  allocation = erdos_renyi_kernel() if allocation is None else allocation

  def init(params):
    specs = covered(rules, params)
    leaves = by_path(params)
    sparsities = {p: None if s is PRUNE else s for p, s in specs.items()}
    counts = allocation(
      {path: leaves[path] for path in specs}, sparsities, rounding=rounding
    )
    first = jax.random.fold_in(key, 0)
    return {
      'masks': {
        path: top_k(
          jax.random.uniform(path_key(first, path), leaves[path].shape), count
        )
        for path, count in counts.items()
      }
    }

  def update(params, carried, *, step, grads):
    if needs_grads and grads is None:
      if isinstance(step, jax.core.Tracer) or schedule.due(step):
        raise InputError('RigL grows by the gradient: update needs grads')
      return carried
    leaves = by_path(params)
    flat = None if grads is None else by_path(grads)

    def change(masks):
      part = schedule.drop_fraction(step)
      out = {}
      for path, mask in masks.items():
        there = mask.sum(dtype=jnp.int32)
        count = (part * there.astype(jnp.float32)).astype(jnp.int32)
        where = growth(step, path, flat, mask.shape)
        out[path] = drop_and_grow(leaves[path], mask, where, count)
      return out

    masks = carried['masks']
    due = schedule.due(step)
    return {'masks': jax.lax.cond(due, change, lambda same: same, masks)}

  return masked(init, update, gradient='straight_through')
