r"""Movement pruning: keep the weights that training moves away from zero.

Sanh, Wolf, Rush 2020, 'Movement Pruning: Adaptive Sparsity by Fine-Tuning',
arXiv:2005.07683. Every weight has a score S that starts at 0 and is trained
with the weights; the forward pass uses W * M(S). Backward the mask counts as
the identity, so that

  dL/dS = dL/d(W M) * W,   dL/dW = dL/d(W M) * M

and plain gradient descent sums S = -a sum_t (dL/dW)_t W_t: positive where a
weight moved away from zero. Hard (`movement`): M keeps each leaf's highest S,
as many as a cubic schedule with warm-up and cool-down says
(`movement_schedule`). Soft (`soft_movement`): M = 1[sigmoid(S) > tau], with
lambda sum sigmoid(S) added to the loss (`sigmoid_penalty`).

Scores take no weight decay, and embeddings are not pruned; at low sparsities
magnitude does as well. Headline, BERT-base fine-tuned with distillation, SQuAD
EM/F1 (dense 80.4/88.1): 10 % of the weights, magnitude 70.2/80.1, movement
75.6/84.3, soft 76.6/84.9; 3 %, 45.5/59.6, 67.5/78.0, 72.7/82.3. This code has
not been run on it.

Departures: of equal scores the lowest flat index stays, and leaves are compared
within themselves only. The soft form's penalty is given from memory
(unverified); as in the hard form its gradient passes the sigmoid unchanged.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from compress import compressor as compressor_lib
from compress.compressor import KEEP, Compressor, Rules, State
from compress.errors import InputError
from compress.packed import Dense, Sparse
from compress.prune.masks import covered
from compress.prune.paths import by_path
from compress.prune.rounding import LIBRARY, Rounding, check_sparsity
from compress.prune.schedule import Schedule, cubic
from compress.prune.selection import threshold, top_k
from compress.prune.straight_through import select


def movement(
  rules: Rules, *, schedule: Schedule, rounding: Rounding = LIBRARY
) -> Compressor:
  """Keeps the weights of the highest learned score in each leaf.

  Args:
    rules: `(pattern, sparsity)` pairs over leaf paths: the final fraction
      removed.
    schedule: when, such as a `movement_schedule`.
    rounding: convention of the counts.

  Returns:
    The compressor. `state.learned` maps leaf path to float32 scores of the
    leaf's shape, `state.carried` holds the number of the schedule's 'event'.
    Masks follow the scores at every call, so weights may return; call `update`
    every step.

  Raises:
    InputError: a sparsity outside [0, 1); in `init`, rules that cover nothing.
  """
  for pattern, spec in rules:
    if spec is not KEEP:
      check_sparsity(spec, pattern)

  def mask_of(scores, sparsity, state):
    counts = [
      rounding.count(scores.size, float(s))
      for s in schedule.sparsities(sparsity)
    ]
    return top_k(scores, jnp.asarray(counts)[state.carried['event']])

  def update(params, state, *, step, grads=None) -> State:
    del params, grads
    return state._replace(carried={'event': schedule.event(step)})

  return _scored(rules, mask_of, {'event': schedule.event(0)}, update)


def soft_movement(rules: Rules) -> Compressor:
  """Keeps the weights whose score is high enough; the penalty lowers scores.

  Args:
    rules: `(pattern, tau)` pairs over leaf paths; a weight stays while
      sigmoid(S) > tau. Scores start at 0, so tau below 1/2 starts dense.

  Returns:
    The compressor; `state.learned` maps leaf path to float32 scores. Add
    `lambda * sigmoid_penalty(state.learned)` to the loss.

  Raises:
    InputError: a tau outside (0, 1); in `init`, rules that cover nothing.
  """
  for pattern, spec in rules:
    if spec is not KEEP and not 0 < spec < 1:
      raise InputError(f'{pattern}: tau is {spec}; right is between 0 and 1')

  def mask_of(scores, tau, state):
    del state
    return threshold(jax.nn.sigmoid(scores), tau)

  return _scored(rules, mask_of, (), compressor_lib.keep_state)


def sigmoid_penalty(scores: Mapping[str, jax.Array]) -> jax.Array:
  """Sum of sigmoid(S) over all scores, float32 []."""
  return sum(jnp.sum(jax.nn.sigmoid(s)) for s in scores.values())


def movement_schedule(
  steps: int,
  *,
  warmup: int,
  cooldown: int,
  interval: int = 1,
  initial: float = 0.0,
) -> Schedule:
  """Cubic sparsity between a warm-up and a cool-down; Sanh et al. 2020.

  The sparsity is 0 before step `warmup` (`initial` at it), grows as
  s_f + (s_i - s_f) (1 - (t - warmup) / (steps - warmup - cooldown))^3 and is
  final over the last `cooldown` steps.

  Args:
    steps: of the whole training.
    warmup: steps before pruning starts.
    cooldown: steps after it has ended.
    interval: steps between changes; the last may be earlier by the remainder.
    initial: sparsity at the start of the ramp.

  Returns:
    The schedule.

  Raises:
    InputError: no step is left between warm-up and cool-down.
  """
  ramp = (steps - warmup - cooldown) // interval
  if ramp < 1 or min(warmup, cooldown) < 0:
    raise InputError(
      f'warmup={warmup} and cooldown={cooldown} leave no interval of '
      f'{interval} among {steps} steps'
    )
  return cubic(ramp, interval=interval, start=warmup, initial=initial)


def _scored(rules, mask_of, carried, update):
  """A compressor whose masks are a function of learned scores."""

  def init(params):
    leaves = by_path(params)
    learned = {
      path: jnp.zeros(leaves[path].shape, jnp.float32)
      for path in covered(rules, params)
    }
    return State(learned, carried)

  def apply(params, state):
    def at(leaf, spec, path):
      scores = state.learned[path]
      return select(leaf, scores, mask_of(scores, spec, state))

    return compressor_lib.map_covered(at, params, covered(rules, params))

  def pack(params, state):
    def at(leaf, spec, path):
      mask = mask_of(state.learned[path], spec, state)
      return Sparse(mask, Dense(leaf, changed=False))

    return compressor_lib.pack_covered(at, params, covered(rules, params))

  return Compressor(init, apply, update, pack)
