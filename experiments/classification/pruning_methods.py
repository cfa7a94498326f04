"""The methods of the pruning benchmark, as data.

Weights: a score, an allocation and a selection make masks. Channels: a score
of groups and a scope say what leaves for good. A few methods choose masks in
one piece with the score, or move them while they train.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from compress import prune
from compress.compressor import Compressor
from experiments.classification import pruning_scores as scores
from experiments.classification.pruning_scores import KERNELS, Bench, Score


class Chosen(NamedTuple):
  """Masks by leaf path, and the variables that they stand on."""

  masks: dict[str, jax.Array]
  variables: Any


@dataclasses.dataclass(frozen=True)
class Method:
  """One way to prune.

  Attributes:
    name: what tables call it.
    score: of weights or of channels; None where `choose` or `moving` does it.
    channels: channels leave for good; otherwise weights are masked.
    initial: prunes the network as initialized, which is then trained as long
      as pretraining and fine-tuning take together; otherwise the pretrained
      network, which is then fine-tuned.
    allocation: of weights.
    scope: of channels, `local` (every group alike) or `global`.
    choose: `(bench, variables, seed, ratio, sparsity) -> Chosen`.
    moving: `(sparsity, steps, seed) -> Compressor` whose masks move.
    one_program: the moving masks' training does not depend on the sparsity.
    rewired: masked places get a gradient, and are set to zero after every
      update, moments too.
  """

  name: str
  score: Score | None = None
  channels: bool = False
  initial: bool = False
  allocation: Callable[[], prune.Allocation] = prune.uniform
  scope: str = 'local'
  choose: Callable[..., Chosen] | None = None
  moving: Callable[..., Compressor] | None = None
  one_program: bool = False
  rewired: bool = False


def choose_masks(
  method: Method, bench: Bench, variables, *, seed, ratio, sparsity, found
) -> Chosen:
  """Masks of a method of weights.

  Args:
    method: one without `moving`.
    bench: what it is scored on.
    variables: the network's collections.
    seed: of what is drawn.
    ratio: the compression ratio asked for.
    sparsity: fraction of the kernels' weights to be removed.
    found: the method's scores, for those with a `score`.

  Returns:
    The masks, and the variables, which some methods repair.

  Raises:
    InputError: the method cannot prune the network so far.
  """
  if method.choose is not None:
    return method.choose(bench, variables, seed, ratio, sparsity)
  compressor = prune.prune_weights(
    _rules(sparsity), saliency=found, allocation=method.allocation()
  )
  state = compressor.init(variables['params'])
  return Chosen(prune.masks_of(state), variables)


def _rules(sparsity):
  return [(KERNELS, sparsity)]


def _synflow(bench, variables, seed, ratio, sparsity) -> Chosen:
  del seed, ratio
  ones = jnp.ones((1, *bench.network.image_shape))
  masks = prune.synflow_masks(
    bench.network.apply, variables, ones, density=1 - sparsity, prunable=KERNELS
  )
  return Chosen(masks, variables)


def _wanda(bench, variables, seed, ratio, sparsity) -> Chosen:
  del ratio
  return _layer_by_layer(prune.prune_wanda, bench, variables, seed, sparsity)


def _sparsegpt(bench, variables, seed, ratio, sparsity) -> Chosen:
  del ratio
  return _layer_by_layer(
    prune.prune_sparsegpt, bench, variables, seed, sparsity
  )


def _layer_by_layer(solve, bench, variables, seed, sparsity) -> Chosen:
  images = jnp.asarray(bench.batch(seed)['images'])
  found = solve(bench.network.apply, variables, _rules(sparsity), images)
  return Chosen(found.masks, found.variables)


def _n_m(bench, variables, seed, ratio, sparsity) -> Chosen:
  """2:4 at ratio 2, 1 of as many as the ratio says beyond."""
  del sparsity
  kept, block = (2, 4) if ratio <= 2 else (1, round(ratio))
  compressor = prune.prune_weights(
    _rules(1 - kept / block),
    saliency=scores.magnitude(bench, variables, seed),
    selection=prune.select_n_m(kept, block, pad=True),
  )
  state = compressor.init(variables['params'])
  return Chosen(prune.masks_of(state), variables)


def _gradual(sparsity, steps, seed) -> Compressor:
  del seed
  return prune.prune_weights(
    _rules(sparsity),
    allocation=prune.global_threshold(),
    schedule=prune.cubic(10, interval=max(1, steps * 6 // 100)),
  )


def _iterative(sparsity, steps, seed) -> Compressor:
  del seed
  return prune.prune_weights(
    _rules(sparsity),
    schedule=prune.iterative(4, interval=max(1, steps // 5)),
  )


def _movement(sparsity, steps, seed) -> Compressor:
  del seed
  schedule = prune.movement_schedule(
    steps,
    warmup=steps // 20,
    cooldown=steps // 3,
    interval=max(1, steps // 50),
  )
  return prune.movement(_rules(sparsity), schedule=schedule)


def _rewiring(steps) -> prune.Rewiring:
  return prune.Rewiring(every=max(1, steps // 30), end=max(1, steps * 3 // 4))


def _rigl(sparsity, steps, seed) -> Compressor:
  return prune.rigl(
    _rules(sparsity), schedule=_rewiring(steps), key=jax.random.key(seed)
  )


def _set(sparsity, steps, seed) -> Compressor:
  return prune.sparse_evolution(
    _rules(sparsity), schedule=_rewiring(steps), key=jax.random.key(seed)
  )


METHODS = {
  method.name: method
  for method in (
    Method('random', scores.random),
    Method('layer_magnitude', scores.magnitude),
    Method(
      'global_magnitude', scores.magnitude, allocation=prune.global_threshold
    ),
    Method(
      'erk_magnitude', scores.magnitude, allocation=prune.erdos_renyi_kernel
    ),
    Method('layer_gradient', scores.gradient),
    Method(
      'global_gradient', scores.gradient, allocation=prune.global_threshold
    ),
    Method(
      'brain_damage', scores.brain_damage, allocation=prune.global_threshold
    ),
    Method('wanda', choose=_wanda),
    Method('sparsegpt', choose=_sparsegpt),
    Method('n_m', choose=_n_m),
    Method('gradual', moving=_gradual),
    Method('iterative', moving=_iterative),
    Method('movement', moving=_movement),
    Method(
      'random_initial',
      scores.random,
      initial=True,
      allocation=prune.erdos_renyi_kernel,
    ),
    Method(
      'snip', scores.snip, initial=True, allocation=prune.global_threshold
    ),
    Method(
      'grasp',
      scores.gradient_flow,
      initial=True,
      allocation=prune.global_threshold,
    ),
    Method('synflow', choose=_synflow, initial=True),
    Method('set', moving=_set, initial=True, one_program=True, rewired=True),
    Method('rigl', moving=_rigl, initial=True, one_program=True, rewired=True),
    Method('random_channels', scores.random_channel, channels=True),
    Method('depgraph', scores.depgraph, channels=True),
    Method('depgraph_global', scores.depgraph, channels=True, scope='global'),
    Method('l1_filters', scores.filter_norm, channels=True),
    Method('taylor_2017', scores.of_grid('taylor_2017'), channels=True),
    Method('taylor_2019', scores.of_grid('taylor_2019'), channels=True),
    Method('fisher', scores.of_grid('fisher'), channels=True),
    Method('apoz', scores.of_grid('apoz'), channels=True),
    Method(
      'channel_brain_damage',
      scores.of_grid('channel_brain_damage'),
      channels=True,
    ),
    Method('relevance', scores.relevance, channels=True),
    Method('nisp', scores.propagated, channels=True),
  )
}
"""By name; the controls are those of `CONTROLS`."""

CONTROLS = ('random', 'layer_magnitude', 'global_magnitude')
"""Always run: Blalock et al. 2020 ask for them."""
CHANNEL_CONTROLS = ('random_channels',)
"""Run beside any method of channels."""
