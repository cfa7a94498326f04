"""Which fakes of a conditional GAN a student learns from, and their labels.

Ding, Wang, Xu, Wang and Welch 2021 (cGAN-KD), arXiv:2104.03164, after the GAN
is trained. For every class:

1. rejection by density ratio (cDR-RS; Ding et al. 2021, arXiv:2103.11166): a
   fake x of class y stays with probability r(x|y) / M, where r is the ratio of
   real to fake density in a network's features and M the largest seen;
2. the filter: of those, the share rho that the teacher errs least on;
3. the adjustment: the label becomes what the teacher says.

The ratio is learned with the softplus loss (Ding, Wang and Welch 2019,
arXiv:1909.10670). In regression the error is absolute in place of the
cross-entropy, and the label the teacher's number. Figures on the host are
float64 NumPy.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from compress.errors import InputError
from compress.synthesize.steps import run_steps

Tree = Any


class DensityRatio(nn.Module):
  """A ratio of densities, from features and the condition; 5 dense layers.

  The paper ends in a ReLU; a softplus here, which cannot die.

  Attributes:
    widths: of the hidden layers.
  """

  widths: Sequence[int] = (256, 128, 64, 32)

  @nn.compact
  def __call__(self, features: jax.Array, conditions: jax.Array) -> jax.Array:
    """Maps [B, D] and [B, K] to ratios [B], above 0."""
    x = jnp.concatenate([features, conditions], axis=1)
    for i, width in enumerate(self.widths):
      x = nn.relu(nn.Dense(width, name=f'fc{i}')(x))
    return nn.softplus(nn.Dense(1, name='ratio')(x)).squeeze(1)


def softplus_ratio_loss(
  real: jax.Array, fake: jax.Array, *, penalty: float = 0.01
) -> jax.Array:
  """Learns a density ratio from samples of both densities.

  `mean_fake(s(r) r - softplus(r)) - mean_real s(r)`, s the logistic function:
  up to a constant the Bregman divergence of softplus, least where r is the
  ratio of the real to the fake density. To it is added `penalty (mean_fake r -
  1)^2`, since the true ratio has mean 1 over fakes.

  Args:
    real: ratios of real samples, [B].
    fake: ratios of fakes, [B'].
    penalty: lambda, 0 or more; 0.01 in cGAN-KD.

  Returns:
    Float32 scalar.
  """
  real, fake = real.astype(jnp.float32), fake.astype(jnp.float32)
  loss = (jax.nn.sigmoid(fake) * fake - jax.nn.softplus(fake)).mean()
  loss = loss - jax.nn.sigmoid(real).mean()
  return loss + penalty * jnp.square(fake.mean() - 1)


def train_density_ratio(
  real: tuple[np.ndarray, np.ndarray],
  fake: tuple[np.ndarray, np.ndarray],
  key: jax.Array,
  *,
  steps: int = 2000,
  batch: int = 128,
  learning_rate: float = 1e-4,
  penalty: float = 0.01,
  progress: bool = True,
  description: str | None = None,
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
  """Trains `DensityRatio` on the features of real images and of fakes.

  Args:
    real: features [N, D] of real images, and their conditions [N, K].
    fake: features [M, D] of fakes, and the conditions they were made for.
    key: random key.
    steps: updates of Adam.
    batch: real ones and fakes a step.
    learning_rate: of Adam.
    penalty: see `softplus_ratio_loss`.
    progress: show a bar.
    description: stands before the bar.

  Returns:
    `(features [B, D], conditions [B, K]) -> float64 [B]`, the ratio.

  Raises:
    FloatingPointError: the loss is not finite.
  """
  network = DensityRatio()
  optimizer = optax.adam(learning_rate)

  def loss_fn(params, real, fake):
    ratios = [network.apply({'params': params}, *x) for x in (real, fake)]
    loss = softplus_ratio_loss(*ratios, penalty=penalty)
    return loss, {'loss': loss, 'fake_ratio': ratios[1].mean()}

  @jax.jit
  def step(real, fake, state, key):
    params, moments = state

    def some(key, arrays):
      rows = jax.random.randint(key, (batch,), 0, len(arrays[0]))
      return tuple(array[rows] for array in arrays)

    keys = jax.random.split(key)
    grads, metrics = jax.grad(loss_fn, has_aux=True)(
      params, some(keys[0], real), some(keys[1], fake)
    )
    with jax.numpy_dtype_promotion('standard'):
      updates, moments = optimizer.update(grads, moments, params)
    return (optax.apply_updates(params, updates), moments), metrics

  real, fake = (jax.tree.map(jnp.asarray, tuple(x)) for x in (real, fake))
  first, later = jax.random.split(key)
  params = network.init(first, *(x[:1] for x in real))['params']
  (params, _), _ = run_steps(
    functools.partial(step, real, fake),
    (params, optimizer.init(params)),
    later,
    steps=steps,
    progress=progress,
    description=description or 'density ratio',
  )
  apply = jax.jit(network.apply)

  def ratio(features, conditions):
    found = apply({'params': params}, features, conditions)
    return np.asarray(found, np.float64)

  return ratio


def accept_by_ratio(
  ratios: np.ndarray, draws: np.ndarray, *, bound: float
) -> tuple[np.ndarray, float]:
  """Rejection sampling by density ratio, with a running maximum.

  A fake is accepted where `draw < r / M`; M is the largest of `bound` and the
  ratios so far, its own among them. As long as `bound` holds, the share of the
  accepted is E[r] / M.

  Args:
    ratios: [N], 0 or more, in the order in which they were drawn.
    draws: [N], uniform in [0, 1).
    bound: M so far, from the fakes of a burn-in.

  Returns:
    Bool [N], the accepted ones, and the new bound.
  """
  ratios = np.asarray(ratios, np.float64)
  running = np.maximum.accumulate(np.append(bound, ratios))
  accepted = np.asarray(draws, np.float64) * running[1:] < ratios
  return accepted, float(running[-1])


def class_errors(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """A teacher's cross-entropy for every fake.

  Args:
    logits: [N, K].
    labels: int [N], the classes the fakes were made for.

  Returns:
    Float64 [N], nats.
  """
  logits = np.asarray(logits, np.float64)
  shifted = logits - logits.max(axis=1, keepdims=True)
  own = np.take_along_axis(shifted, np.asarray(labels)[:, None], axis=1)
  return np.log(np.exp(shifted).sum(axis=1)) - own.squeeze(1)


def regression_errors(outputs: np.ndarray, numbers: np.ndarray) -> np.ndarray:
  """A teacher's absolute error for every fake.

  Args:
    outputs: of the teacher, [N].
    numbers: [N], what the fakes were made for.

  Returns:
    Float64 [N].
  """
  gap = np.asarray(outputs, np.float64) - np.asarray(numbers, np.float64)
  return np.abs(gap)


def error_cutoff(errors: np.ndarray, *, rho: float) -> float:
  """The largest error that the filter lets pass.

  Args:
    errors: of a burn-in, [N] of one class (or of one interval of numbers).
    rho: share that passes, above 0 and at most 1; 0.9 in cGAN-KD for classes,
      0.7 for numbers.

  Returns:
    The smallest error that at least the share rho does not exceed; infinite
    for rho = 1, so that everything passes.

  Raises:
    InputError: rho out of range, or no error.
  """
  if not 0 < rho <= 1:
    raise InputError(f'rho is {rho}; right is above 0 and at most 1')
  if not len(errors):
    raise InputError('there is no error to take the quantile of')
  if rho == 1:
    return float('inf')
  return float(np.quantile(errors, rho, method='inverted_cdf'))


def adjust_labels(logits: np.ndarray) -> np.ndarray:
  """What the teacher takes the fakes for.

  Args:
    logits: [N, K].

  Returns:
    Int32 [N].
  """
  return np.asarray(logits).argmax(axis=1).astype(np.int32)


class Subsampled(NamedTuple):
  """The fakes that a student learns from.

  Attributes:
    images: float32 [N, H, W, C].
    labels: int32 [N], the teacher's.
    conditions: int32 [N], the classes they were made for: as many of each.
    bounds: float64 [K], M of each class.
    cutoffs: float64 [K], the largest error of each class.
    accepted: float64 [K], share of the candidates that the ratio let pass.
  """

  images: np.ndarray
  labels: np.ndarray
  conditions: np.ndarray
  bounds: np.ndarray
  cutoffs: np.ndarray
  accepted: np.ndarray


def subsample_fakes(
  draw: Callable[[np.ndarray, jax.Array], np.ndarray],
  ratio: Callable[[np.ndarray, np.ndarray], np.ndarray],
  teacher: Callable[[np.ndarray], np.ndarray],
  key: jax.Array,
  *,
  classes: int,
  count: int,
  rho: float = 0.9,
  burn_in: int = 5000,
  batch: int = 256,
  most: int = 100,
) -> Subsampled:
  """Draws, rejects, filters and labels fakes, class by class.

  The burn-in of a class gives M, and, of those of its fakes that the ratio lets
  pass, the cut-off; its fakes are not used again.

  Args:
    draw: `(classes int [B], key) -> images float32 [B, H, W, C]`.
    ratio: `(images, classes int [B]) -> [B]`, the density ratio.
    teacher: `images -> logits [B, K]`.
    key: random key.
    classes: K.
    count: fakes of a class that are wanted.
    rho: see `error_cutoff`.
    burn_in: fakes of a class that are drawn for M and the cut-off.
    batch: fakes at once.
    most: candidates of a class, in multiples of `count`, after which it is
      given up.

  Returns:
    The fakes, `count` of each class.

  Raises:
    InputError: of a class too few are left.
  """
  kept = []
  bounds, cutoffs, shares = np.zeros((3, classes))
  for label in range(classes):
    of_class = jax.random.fold_in(key, label)

    def candidates(number, size, label=label, of_class=of_class):
      first, second = jax.random.split(jax.random.fold_in(of_class, number))
      conditions = np.full(size, label, np.int32)
      images = np.asarray(draw(conditions, first))
      draws = np.asarray(jax.random.uniform(second, (size,)))
      return images, np.asarray(ratio(images, conditions)), draws

    tried = [candidates(i, batch) for i in range(-(-burn_in // batch))]
    images, ratios, draws = (
      np.concatenate(x)[:burn_in] for x in zip(*tried, strict=True)
    )
    bound = float(ratios.max())
    passed, _ = accept_by_ratio(ratios, draws, bound=bound)
    errors = class_errors(
      teacher(images[passed]), np.full(passed.sum(), label, np.int32)
    )
    cutoffs[label] = error_cutoff(errors, rho=rho)
    found, drawn, accepted = [], 0, 0
    while sum(map(len, found)) < count and drawn < most * count:
      images, ratios, draws = candidates(len(tried) + drawn // batch, batch)
      passed, bound = accept_by_ratio(ratios, draws, bound=bound)
      drawn, accepted = drawn + batch, accepted + int(passed.sum())
      errors = class_errors(teacher(images), np.full(batch, label, np.int32))
      found.append(images[passed & (errors <= cutoffs[label])])
    bounds[label], shares[label] = bound, accepted / max(drawn, 1)
    images = np.concatenate(found)[:count]
    if len(images) < count:
      raise InputError(
        f'class {label}: {len(images)} of {drawn} fakes are left, {count} are '
        'wanted; train the GAN longer, or ask for fewer'
      )
    kept.append(images)
  images = np.concatenate(kept)
  parts = range(0, len(images), batch)
  logits = np.concatenate([teacher(images[i : i + batch]) for i in parts])
  return Subsampled(
    images,
    adjust_labels(logits),
    np.repeat(np.arange(classes, dtype=np.int32), count),
    bounds,
    cutoffs,
    shares,
  )
