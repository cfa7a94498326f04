r"""A target network inside a random one, by pruning alone, with a certificate.

Malach, Yehudai, Shalev-Shwartz, Shamir 2020, 'Proving the Lottery Ticket
Hypothesis: Pruning is All You Need', arXiv:2002.00585: for every bounded
distribution and every target ReLU network of depth l with bounded weights, a
random network of depth 2l, wide enough, contains with high probability a
subnetwork (of weights, not of neurons) close to the target, untrained. This
file builds that subnetwork and bounds its error; it is a theorem to
demonstrate, not a way to train.

A target layer W [I, O] becomes two random layers, U [I, I k] and V [I k, O],
of uniform numbers in [-1, 1]. Of U only one weight a hidden neuron stays, so
that k neurons hang on each input. For every entry w_io, of those with u_j > 0
the one whose product u_j V_jo is nearest w_io is kept, and of those with
u_j < 0 another:

  relu(u x) v + relu(u' x) v' = p max(x, 0) + n min(x, 0),   p, n near w_io

A pair that would be further off than nothing at all is left out, and after the
first layer, where inputs are at least 0, only p is needed. The product of two
such numbers has the density -ln|z| / 2, so that p(w, e) of `hit_probability`
is the chance of one candidate, and of k candidates 1 - (1 - p)^k.

The printed construction and its constants could not be checked against the
paper; the certificate does not rest on them, since it bounds the error of the
subnetwork that was found. Departures: hidden neurons are shared by all outputs
(their V entries are independent), the nearest candidate is taken instead of
any within the error, and there are no biases (give the target a constant input
instead). Everything is numpy, float64, on the host.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from compress.errors import InputError


class Subnetwork(NamedTuple):
  """What stays of a random network.

  Attributes:
    weights: the random kernels of all 2l layers, float64 [in, out].
    masks: which of them stay, bool, of the same shapes.
    bound: no input of Euclidean norm at most 1 gives an output that is further
      from the target's, in any coordinate.
  """

  weights: tuple[np.ndarray, ...]
  masks: tuple[np.ndarray, ...]
  bound: float

  def pruned(self) -> tuple[np.ndarray, ...]:
    """The kernels, 0 where pruned."""
    pairs = zip(self.weights, self.masks, strict=True)
    return tuple(np.where(mask, weight, 0.0) for weight, mask in pairs)


def relu_network(kernels: Sequence[np.ndarray], x: np.ndarray) -> np.ndarray:
  """Maps x [B, I] to [B, O]: ReLU after every layer but the last, no biases."""
  for kernel in kernels[:-1]:
    x = np.maximum(x @ kernel, 0)
  return x @ kernels[-1]


def random_network(
  target: Sequence[np.ndarray], *, candidates: int, key: jax.Array
) -> tuple[np.ndarray, ...]:
  """Draws the network of twice the depth in which the target is looked for.

  Args:
    target: kernels [in, out] of the target.
    candidates: hidden neurons for each input of a target layer, k.
    key: random key.

  Returns:
    2l float64 kernels, uniform in [-1, 1]: [I, I k] and [I k, O] for each
    target layer [I, O].

  Raises:
    InputError: the target is no chain of matrices, or `candidates` < 1.
  """
  _check_target(target)
  if candidates < 1:
    raise InputError(f'candidates is {candidates}; it is at least 1')
  seed = int(jax.random.bits(key))
  rng = np.random.default_rng(seed)
  out = []
  for kernel in target:
    inputs, outputs = np.shape(kernel)
    for shape in (
      (inputs, inputs * candidates),
      (inputs * candidates, outputs),
    ):
      out.append(rng.uniform(-1, 1, shape))
  return tuple(out)


def approximate_by_pruning(
  target: Sequence[np.ndarray], network: Sequence[np.ndarray]
) -> Subnetwork:
  """Prunes a random network until it is close to a target.

  Args:
    target: kernels [in, out] of a ReLU network without biases.
    network: random kernels as from `random_network`.

  Returns:
    The subnetwork with the bound on its error.

  Raises:
    InputError: the target is no chain of matrices, or the network's shapes do
      not belong to it.
  """
  _check_target(target)
  target = [np.asarray(kernel, np.float64) for kernel in target]
  if len(network) != 2 * len(target):
    raise InputError(
      f'the network has {len(network)} layers; right is {2 * len(target)}, '
      'twice those of the target'
    )
  masks, positive, negative = [], [], []
  for i, kernel in enumerate(target):
    u, v = network[2 * i], network[2 * i + 1]
    _check_pair(kernel, u, v)
    found = _prune_layer(kernel, u, v, signed=i == 0)
    masks += found[:2]
    positive.append(found[2])
    negative.append(found[3])
  bound = certificate(target, positive, negative)
  weights = tuple(np.asarray(w, np.float64) for w in network)
  return Subnetwork(weights, tuple(masks), bound)


def certificate(
  target: Sequence[np.ndarray],
  positive: Sequence[np.ndarray],
  negative: Sequence[np.ndarray],
) -> float:
  """Bounds the error of layers `p max(x, 0) + n min(x, 0)` for `w x`.

  With h the target's input to a layer, |h| its Euclidean norm, d_i the bound on
  the error of its entry i and E the larger error of the two products, output o
  is off by at most

    sum_i max(|p_io|, |n_io|) d_i + min(norm(E_:o) |h|, sum_i E_io b_i)

  where b_i bounds |h_i|. ReLU adds nothing, being 1-Lipschitz, and |h| grows
  by at most the layer's spectral norm.

  Args:
    target: kernels [in, out].
    positive: what multiplies positive inputs, of the same shapes.
    negative: what multiplies negative ones; unused after the first layer.

  Returns:
    The bound on every coordinate over inputs of norm at most 1.
  """
  norm = 1.0
  inputs = np.ones(np.shape(target[0])[0])
  error = np.zeros_like(inputs)
  for i, kernel in enumerate(target):
    off, gain = np.abs(positive[i] - kernel), np.abs(positive[i])
    if i == 0:
      off = np.maximum(off, np.abs(negative[i] - kernel))
      gain = np.maximum(gain, np.abs(negative[i]))
    own = np.minimum(np.linalg.norm(off, axis=0) * norm, inputs @ off)
    error = error @ gain + own
    inputs = np.minimum(
      np.linalg.norm(kernel, axis=0) * norm, inputs @ np.abs(kernel)
    )
    norm = min(norm * np.linalg.norm(kernel, 2), np.linalg.norm(inputs))
  # Room for the rounding of these sums themselves.
  return float(error.max() * (1 + 1e-9) + 1e-12)


def largest_error(
  target: Sequence[np.ndarray],
  subnetwork: Subnetwork,
  *,
  samples: int = 4096,
  seed: int = 0,
) -> float:
  """Looks for the error on the unit ball: at most `subnetwork.bound`.

  Half of the inputs lie on the sphere, half inside, and the axes are among
  them. What is found is a lower bound of the true supremum.
  """
  rng = np.random.default_rng(seed)
  size = np.shape(target[0])[0]
  x = rng.normal(size=(samples, size))
  x /= np.linalg.norm(x, axis=1, keepdims=True)
  x[::2] *= rng.uniform(size=(len(x[::2]), 1)) ** (1 / size)
  x = np.concatenate([x, np.eye(size), -np.eye(size)])
  out = relu_network(subnetwork.pruned(), x)
  return float(np.abs(out - relu_network(target, x)).max())


def hit_probability(weight: float, error: float) -> float:
  """P(|u v - weight| <= error) for u, v independent, uniform in [-1, 1].

  u v has density -ln|z| / 2, so P(0 <= u v <= z) = (z - z ln z) / 2.
  """

  def below(z):
    z = min(max(z, -1.0), 1.0)
    tail = 0.0 if z == 0 else abs(z) * (1 - math.log(abs(z))) / 2
    return 0.5 + math.copysign(tail, z)

  return below(weight + error) - below(weight - error)


def success_probability(weight: float, error: float, candidates: int) -> float:
  """Chance that one of k products is within an error: 1 - (1 - p)^k."""
  return 1 - (1 - hit_probability(weight, error)) ** candidates


def candidates_for(
  target: Sequence[np.ndarray], *, error: float, failure: float
) -> int:
  """How many candidates make every weight good at once, by a union bound.

  Half of an input's neurons have the sign that a product needs, so a neuron is
  a hit with probability p / 2; the first layer needs two hits a weight.

  Args:
    target: kernels [in, out], entries in [-1, 1].
    error: to be reached at every weight, in (0, 1].
    failure: probability of missing it anywhere, in (0, 1).

  Returns:
    k, enough with probability at least 1 - failure.

  Raises:
    InputError: a number out of range; a weight beyond 1 in absolute value.
  """
  _check_target(target)
  if not 0 < error <= 1:
    raise InputError(f'error is {error}; right is above 0 and at most 1')
  if not 0 < failure < 1:
    raise InputError(f'failure is {failure}; right is between 0 and 1')
  largest = max(float(np.abs(kernel).max()) for kernel in target)
  if largest > 1:
    raise InputError(
      f'the target has a weight of {largest:.3g}; products of numbers in '
      '[-1, 1] reach 1'
    )
  events = 2 * np.size(target[0]) + sum(np.size(w) for w in target[1:])
  # The density falls with |z|, so the largest weight is the hardest to hit.
  p = hit_probability(largest, error) / 2
  return math.ceil(math.log(failure / events) / math.log1p(-p))


def _prune_layer(kernel, u, v, *, signed):
  """Masks of U and V, and the products that stand for the kernel."""
  inputs, outputs = kernel.shape
  count = v.shape[0] // inputs
  mask_u, mask_v = np.zeros(u.shape, bool), np.zeros(v.shape, bool)
  chosen = np.zeros((2, inputs, outputs))
  columns = np.arange(outputs)
  for i in range(inputs):
    rows = np.arange(i * count, (i + 1) * count)
    for side, sign in enumerate((1, -1) if signed else (1,)):
      usable = rows[sign * u[i, rows] > 0]
      if not usable.size:
        continue
      products = u[i, usable, None] * v[usable]
      off = np.abs(products - kernel[i])
      best = off.argmin(axis=0)
      better = off[best, columns] < np.abs(kernel[i])
      neurons, to = usable[best[better]], columns[better]
      mask_u[i, neurons] = True
      mask_v[neurons, to] = True
      chosen[side, i, to] = products[best[better], to]
  return mask_u, mask_v, chosen[0], chosen[1]


def _check_target(target):
  shapes = [np.shape(kernel) for kernel in target]
  chained = all(
    a[-1:] == b[:1] for a, b in zip(shapes[:-1], shapes[1:], strict=True)
  )
  if not shapes or any(len(s) != 2 for s in shapes) or not chained:
    raise InputError(
      f'the target has kernels of shapes {shapes}; right is a chain of '
      '[in, out]'
    )


def _check_pair(kernel, u, v):
  inputs, outputs = kernel.shape
  hidden = np.shape(u)[-1]
  expected = [(inputs, hidden), (hidden, outputs)]
  if [np.shape(u), np.shape(v)] != expected or hidden % inputs:
    raise InputError(
      f'random layers of shapes {np.shape(u)}, {np.shape(v)} for a target '
      f'layer {kernel.shape}; right is (I, I k), (I k, O)'
    )
