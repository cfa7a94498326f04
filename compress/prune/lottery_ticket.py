r"""Lottery tickets: train, prune, wind the weights back, train again.

Frankle, Carbin 2019, 'The Lottery Ticket Hypothesis: Finding Sparse, Trainable
Neural Networks', arXiv:1803.03635. Initialize w_0 and train to w_T; of the
weights that are left remove the fraction p with the lowest |w_T|; put the
survivors back to w_0, and repeat. After n rounds a density of (1 - p)^n is
left (p = 0.2: 0.8, 0.512 after 3, 0.21 after 7, 0.069 after 12). The ticket
(w_0, mask) is then trained once more.

Deep networks need weights wound back to an early step k instead of 0 (Frankle,
Dziugaite, Roy, Carbin 2019, 'Stabilizing the Lottery Ticket Hypothesis',
arXiv:1903.01611): hand that step's weights in place of w_0.

The paper's fractions a round: LeNet-300-100 0.2 and half of that in the output
layer, convolutions of Conv-2/4/6 0.1 to 0.15 (from memory, unverified); VGG-19
and ResNet-18 compare weights over the whole network (`scope='global'`).

What a ticket is worth is seen against controls with the same number of weights
in every layer:

* `reinitialize`: the same mask on new random weights;
* `random_masks`: other places, the same weights;
* `shuffle_weights`: the same mask, w_0's surviving values dealt out anew
  within each layer (Frankle et al. 2020, arXiv:2009.08576).

Optimizer state and BatchNorm's statistics must start again with the weights,
and data comes in the same order only if the training function draws it from
the same seed; `find_tickets` calls that function anew each round and hands over
nothing but weights and masks.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from compress import compressor as compressor_lib
from compress.compressor import Rules
from compress.errors import InputError
from compress.prune.masking import apply_masks, check_tree
from compress.prune.paths import by_path, path_key, put
from compress.prune.rounding import LIBRARY, check_sparsity
from compress.prune.selection import top_k, top_k_of_all

Masks = Mapping[str, jax.Array]
Scope = Literal['layer', 'global']


class Ticket(NamedTuple):
  """What a round found.

  Attributes:
    round: rounds of pruning done; 0 is the dense network.
    masks: leaf path to bool array, what stays.
    params: the survivors, wound back, zeros elsewhere.
    trained: what `params` were trained to.
  """

  round: int
  masks: dict[str, jax.Array]
  params: Any
  trained: Any


def full_masks(params, rules: Rules) -> dict[str, jax.Array]:
  """Masks that keep everything that the rules cover; those of round 0."""
  leaves = by_path(params)
  specs = compressor_lib.resolve(rules, params).specs
  return {path: jnp.ones(leaves[path].shape, bool) for path in specs}


def next_masks(
  params, masks: Masks, rules: Rules, *, scope: Scope = 'layer'
) -> dict[str, jax.Array]:
  """Removes the smallest of the surviving weights; one round.

  Counts are exact: of m survivors of a leaf, `max(1, floor(m (1 - p)))` stay;
  of equal weights those of the lowest flat index. Not for use under `jit`.

  Args:
    params: the trained weights.
    masks: leaf path to bool, what the rounds before left.
    rules: `(pattern, fraction)` pairs over leaf paths: which fraction of its
      survivors a leaf loses, in [0, 1).
    scope: 'layer' takes each leaf's own fraction; 'global' compares |w| over
      all leaves, which then have one fraction.

  Returns:
    Masks that are subsets of those given.

  Raises:
    InputError: a fraction out of range, a leaf without a rule, masks of
      another tree, several fractions with scope 'global'.
  """
  if scope not in ('layer', 'global'):
    raise InputError(f"scope={scope!r}: 'layer' or 'global'")
  specs = compressor_lib.resolve(rules, params).specs
  for path in masks:
    if path not in specs:
      raise InputError(f'{path}: has a mask but no rule')
    check_sparsity(specs[path], path)
  leaves = by_path(params)
  check_tree(masks, params, 'a mask')
  # What is gone ranks below a survivor that happens to be zero.
  scores = {p: jnp.where(masks[p], jnp.abs(leaves[p]), -1) for p in masks}
  if scope == 'layer':
    return {
      path: top_k(score, LIBRARY.count(int(masks[path].sum()), specs[path]))
      for path, score in scores.items()
    }
  fractions = {specs[path] for path in masks}
  if len(fractions) > 1:
    raise InputError(
      f"scope='global' has the fractions {sorted(fractions)}; right is one"
    )
  scores = {path: s.astype(jnp.float32) for path, s in scores.items()}
  alive = sum(int(mask.sum()) for mask in masks.values())
  return top_k_of_all(scores, LIBRARY.count(alive, *fractions))


def reinitialize(init_fn: Callable[[jax.Array], Any], key, masks: Masks):
  """Control: the same masks on the weights that `init_fn(key)` gives."""
  return apply_masks(init_fn(key), masks)


def random_masks(masks: Masks, key: jax.Array) -> dict[str, jax.Array]:
  """Control: as many weights in each leaf, at places drawn evenly."""
  return {
    path: jax.random.permutation(path_key(key, path), mask.reshape(-1)).reshape(
      mask.shape
    )
    for path, mask in masks.items()
  }


def shuffle_weights(params_k, masks: Masks, key: jax.Array):
  """Control: the same masks and values, dealt out anew among the survivors.

  Args:
    params_k: the weights that the ticket is wound back to.
    masks: leaf path to bool of the leaf's shape.
    key: random key.

  Returns:
    The tree, zero where pruned; each leaf holds the values that
    `apply_masks` leaves, in another order.
  """

  def shuffled(path, leaf):
    mask, values = masks[path].reshape(-1), leaf.reshape(-1)
    ranks = jax.random.uniform(path_key(key, path), mask.shape)
    places = jnp.argsort(~mask, stable=True)
    order = jnp.argsort(jnp.where(mask, ranks, 2))
    out = jnp.zeros_like(values).at[places].set(values[order])
    return jnp.where(mask, out, 0).reshape(leaf.shape)

  check_tree(masks, params_k, 'a mask')
  leaves = by_path(params_k)
  return put(params_k, {path: shuffled(path, leaves[path]) for path in masks})


def density(masks: Masks) -> float:
  """The fraction of the masked leaves' weights that stays, in (0, 1]."""
  total = sum(mask.size for mask in masks.values())
  return sum(int(mask.sum()) for mask in masks.values()) / total


def find_tickets(
  train_fn: Callable[[Any, dict[str, jax.Array], int], Any],
  params_k,
  rules: Rules,
  *,
  rounds: int,
  scope: Scope = 'layer',
) -> Iterator[Ticket]:
  """Iterative pruning with rewinding, one ticket a round.

  Args:
    train_fn: `(params, masks, round) -> trained params`; it keeps what is
      masked at zero and starts its optimizer and its statistics anew.
    params_k: what survivors are wound back to: the weights at initialization,
      or those of step k of the dense training, which `train_fn` then continues
      from step k.
    rules: as for `next_masks`.
    rounds: rounds of pruning.
    scope: as for `next_masks`.

  Yields:
    The dense network first, then the ticket of each round, all trained.
  """
  masks = full_masks(params_k, rules)
  for i in range(rounds + 1):
    params = apply_masks(params_k, masks)
    ticket = Ticket(i, masks, params, train_fn(params, masks, i))
    yield ticket
    masks = next_masks(ticket.trained, masks, rules, scope=scope)
