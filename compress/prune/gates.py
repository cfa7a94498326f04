"""Pruning from scratch: widths from gates on a network that never trained.

Wang, Zhang, Xie, Zhou, Su, Zhang, Hu 2020, "Pruning from Scratch", AAAI,
arXiv:1909.12579, after the authors' code. The random weights stay as they are;
one gate a channel, 1 at first, is learned for a few epochs with

  L = cross-entropy + strength * (mean |gate| - density)^2

and clamped to [0, 1] at every step. One threshold for all gates then gives the
widths, found by bisection on the fraction of channels removed until the MACs
are met; the narrow network is trained from scratch, for as much compute as the
wide one would have had (`scratch_epochs`). The authors: Adam at 0.01, strength
0.5, 10 epochs on CIFAR with batches of 128, networks widened to 80 from 64.

Headline (abstract): similar or better accuracy than pruning a trained network
at an equal budget, so that pre-training is not needed. No number of the
paper's is asserted here.

A gate belongs behind the norm and before the activation function; a value
behind ReLU or PReLU named with `checkpoint_name` is as good, since both are
positively homogeneous. At a site in front of batch norm with batch statistics
a gate has no effect. Gates on the sums of residual branches are avoided on
purpose: a bottleneck block has two gates, its outer width stays.

Departs from the code: exactly the asked number of channels goes, ties by the
lowest index staying; every layer keeps its best channel.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from compress import graph as graph_lib
from compress.errors import InputError

Gates = dict[str, jax.Array]


class Gated(NamedTuple):
  """Learned gates.

  Attributes:
    gates: `[C]` in 0..1 by name.
    accuracy: of the epoch that they are from.
    density: fraction of gates that are not zero.
  """

  gates: Gates
  accuracy: float
  density: float


class Widths(NamedTuple):
  """An architecture read from gates.

  Attributes:
    keep: bool `[C]` by gate name.
    widths: channels that stay, by gate name.
    macs: of the narrow network.
    removed: the fraction of channels asked to go in the last bisection.
  """

  keep: dict[str, np.ndarray]
  widths: dict[str, int]
  macs: int
  removed: float


def init_gates(graph: graph_lib.Graph, names: Iterable[str]) -> Gates:
  """Open gates, one a channel (the last axis), at named values or sites.

  Args:
    graph: the traced model.
    names: of `graph.names`, or of `graph.sites`.

  Returns:
    Ones, `[C]` by name.

  Raises:
    InputError: a name is unknown.
  """
  known = {site.name: site for site in (*graph.sites, *graph.names)}
  for name in names:
    if name not in known:
      raise InputError(f'no value {name!r}; there are {sorted(known)}')
  return {name: jnp.ones(known[name].out_shape[-1]) for name in names}


def gate_channels(apply: Callable[..., Any]) -> Callable[..., Any]:
  """The same function with gates: `(variables, gates, *inputs) -> out`.

  Args:
    apply: pure function `apply(variables, *inputs)`, channels last.

  Returns:
    The gated function; a site or named value with a gate is multiplied by it.
  """

  def gated(variables, gates, *inputs):
    def rule(site, op, *operands):
      out = op(*operands)
      if site.name not in gates:
        return out
      gate = gates[site.name].astype(out.dtype)
      return out * gate.reshape((1,) * (out.ndim - 1) + (-1,))

    return graph_lib.rewrite(apply, rule)(variables, *inputs)

  return gated


def gate_penalty(gates: Gates, *, density: float) -> jax.Array:
  """`(mean |gate| - density)^2`, over all gates of all layers together."""
  total = sum(jnp.abs(gate).sum() for gate in gates.values())
  count = sum(gate.size for gate in gates.values())
  return jnp.square(total / count - density)


def clamp_gates(gates: Gates) -> Gates:
  """Gates back in [0, 1]."""
  return jax.tree.map(lambda gate: jnp.clip(gate, 0.0, 1.0), gates)


def gate_density(gates: Gates) -> float:
  """Fraction of gates that are not zero."""
  open_gates = sum(int(np.count_nonzero(gate)) for gate in gates.values())
  return open_gates / sum(gate.size for gate in gates.values())


def learn_gates(
  loss_fn: Callable[[Gates, Any], jax.Array],
  accuracy_fn: Callable[[Gates], float],
  gates: Gates,
  epochs: Iterable[Iterable[Any]],
  *,
  density: float,
  strength: float = 0.5,
  optimizer: optax.GradientTransformation | None = None,
) -> Gated:
  """Learns gates and nothing else.

  Args:
    loss_fn: `(gates, batch) -> scalar`, the task's loss with the frozen
      weights closed over.
    accuracy_fn: `gates -> 0..1`, called after each epoch.
    gates: where to start, `init_gates`.
    epochs: the batches of each epoch.
    density: fraction of gate mass to aim for, in (0, 1].
    strength: of the penalty.
    optimizer: Adam with a learning rate of 0.01 by default.

  Returns:
    The most accurate epoch among those whose density is at most `density`;
    where none is, the epoch of the lowest density.

  Raises:
    InputError: the density is out of range, or there is no epoch.
  """
  if not 0 < density <= 1:
    raise InputError(f'density {density}; right is above 0 and at most 1')
  optimizer = optimizer or optax.adam(0.01)

  def total(gates, batch):
    penalty = gate_penalty(gates, density=density)
    return loss_fn(gates, batch) + strength * penalty

  @jax.jit
  def step(gates, state, batch):
    grads = jax.grad(total)(gates, batch)
    # Optax mixes an integer count with floats; strict promotion refuses it.
    with jax.numpy_dtype_promotion('standard'):
      updates, state = optimizer.update(grads, state, gates)
    return clamp_gates(optax.apply_updates(gates, updates)), state

  state, seen = optimizer.init(gates), []
  for batches in epochs:
    for batch in batches:
      gates, state = step(gates, state, batch)
    seen.append(Gated(gates, float(accuracy_fn(gates)), gate_density(gates)))
  if not seen:
    raise InputError('no epoch to learn gates in; right is at least one')
  sparse = [found for found in seen if found.density <= density]
  if sparse:
    return max(sparse, key=lambda found: found.accuracy)
  return min(seen, key=lambda found: found.density)


def keep_channels(
  gates: Mapping[str, Any], *, removed: float
) -> dict[str, np.ndarray]:
  """Cuts the lowest gates of all layers; each layer keeps its best channel.

  Args:
    gates: `[C]` by name.
    removed: fraction of all channels, in [0, 1].

  Returns:
    Bool `[C]` by name; a larger fraction keeps a subset.
  """
  names = list(gates)
  values = [np.asarray(gates[name]) for name in names]
  flat = np.concatenate(values)
  order = np.argsort(-flat, kind='stable')
  count = flat.size - math.floor(removed * flat.size + 1e-9)
  keep = np.zeros(flat.size, bool)
  keep[order[:count]] = True
  ends = np.cumsum([value.size for value in values])[:-1]
  out = dict(zip(names, np.split(keep, ends), strict=True))
  for name, value in zip(names, values, strict=True):
    out[name][np.argmax(value)] = True
  return out


def widths_for_macs(
  gates: Mapping[str, Any],
  macs_fn: Callable[[Mapping[str, int]], int],
  *,
  sparsity: float,
  tolerance: float = 1e-3,
  iterations: int = 10,
) -> Widths:
  """Widths whose MACs fall by a given fraction, by bisection.

  Halves [0, 1], the fraction of channels removed, until
  `|1 - macs / full - sparsity| / sparsity <= tolerance`.

  Args:
    gates: `[C]` by name.
    macs_fn: widths by gate name -> MACs, falling with the widths; `site_macs`
      makes one.
    sparsity: fraction of MACs to remove, in (0, 1).
    tolerance: relative.
    iterations: at most.

  Returns:
    The nearest widths that were seen. Few channels, or gates with one value
    each, may not come within the tolerance: compare `macs`.

  Raises:
    InputError: the sparsity is out of range.
  """
  if not 0 < sparsity < 1:
    raise InputError(f'sparsity {sparsity}; right is above 0 and below 1')
  full = macs_fn({name: len(gate) for name, gate in gates.items()})
  low, high = 0.0, 1.0
  best, best_gap = None, math.inf
  for _ in range(iterations):
    removed = (low + high) / 2
    keep = keep_channels(gates, removed=removed)
    widths = {name: int(kept.sum()) for name, kept in keep.items()}
    macs = macs_fn(widths)
    gap = 1 - macs / full - sparsity
    if abs(gap) < best_gap:
      best, best_gap = Widths(keep, widths, macs, removed), abs(gap)
    if best_gap / sparsity <= tolerance:
      break
    low, high = (low, removed) if gap > 0 else (removed, high)
  return best


def site_macs(
  graph: graph_lib.Graph, groups: Mapping[str, Any]
) -> Callable[[Mapping[str, int]], int]:
  """MACs of a model as a function of the widths of its channel groups.

  Args:
    graph: the traced model.
    groups: the `ChannelGroup` that each gate stands for, by gate name; sites
      of other channels keep their MACs.

  Returns:
    `widths by gate name -> MACs`, exact where a site's MACs are proportional
    to each of its kernel's axes (convolutions, products).
  """
  sizes: dict[str, list[tuple[str, int, int, int]]] = {}
  for name, group in groups.items():
    for member in group.members:
      count = np.shape(member.indices)[1]
      entry = (name, member.axis, group.size, count)
      sizes.setdefault(member.path, []).append(entry)

  def macs(widths):
    total = 0
    for site in graph.sites:
      count = site.macs
      if site.weight in sizes:
        shape = graph.weights[site.weight]
        left = list(shape)
        for name, axis, size, each in sizes[site.weight]:
          left[axis] -= (size - widths[name]) * each
        count = count * math.prod(left) // math.prod(shape)
      total += count
    return total

  return macs


def scratch_epochs(epochs: int, *, full_macs: int, macs: int) -> int:
  """Epochs that spend the wide network's training compute (Scratch-B).

  Liu et al. 2019, arXiv:1810.05270: at least as many as the wide network's.
  """
  return max(epochs, round(epochs * full_macs / macs))
