"""The ratio of real to fake density, learned in a network's features.

Ding, Wang and Welch 2019, 'Subsampling Generative Adversarial Networks: Density
Ratio Estimation in Feature Space with Softplus Loss', arXiv:1909.10670, with
the condition beside the features as in cDR-RS (Ding et al. 2021,
arXiv:2103.11166). What the ratio is for is in `subsampling`.
"""

import functools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from compress.errors import InputError
from compress.synthesize.steps import run_steps
from compress.synthesize.vicinal import Vicinity, draw_near


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
  real: jax.Array,
  fake: jax.Array,
  *,
  penalty: float = 0.01,
  weights: jax.Array | None = None,
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
    weights: of the pairs of a real sample and a fake, [B], 0 or more; means
      are weighted. Not all 0.

  Returns:
    Float32 scalar.
  """
  real, fake = real.astype(jnp.float32), fake.astype(jnp.float32)

  def mean(x):
    return x.mean() if weights is None else (weights * x).sum() / weights.sum()

  loss = mean(jax.nn.sigmoid(fake) * fake - jax.nn.softplus(fake))
  loss -= mean(jax.nn.sigmoid(real))
  return loss + penalty * jnp.square(mean(fake) - 1)


def train_density_ratio(
  real: tuple[np.ndarray, np.ndarray],
  fake: tuple[np.ndarray, np.ndarray],
  key: jax.Array,
  *,
  steps: int = 2000,
  batch: int = 128,
  learning_rate: float = 1e-4,
  penalty: float = 0.01,
  vicinity: Vicinity | None = None,
  progress: bool = True,
  description: str | None = None,
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
  """Trains `DensityRatio` on the features of real images and of fakes.

  With a vicinity conditions are numbers, and every fake is compared, at its own
  number, with a real image of a nearby one, as for CcGAN in cGAN-KD. A pair
  counts as its real image does, on both sides: so the ratio is to the density
  of the real images around a number, and has the mean 1 whatever the weights. A
  fake with no real image around its number is left out.

  Args:
    real: features [N, D] of real images, and their conditions [N, K].
    fake: features [M, D] of fakes, and the conditions they were made for.
    key: random key.
    steps: updates of Adam.
    batch: real ones and fakes a step.
    learning_rate: of Adam.
    penalty: see `softplus_ratio_loss`.
    vicinity: what counts as near; sigma is not used. None for classes, and for
      numbers that are taken as they are.
    progress: show a bar.
    description: stands before the bar.

  Returns:
    `(features [B, D], conditions [B, K]) -> float64 [B]`, the ratio.

  Raises:
    InputError: a vicinity for other than numbers.
    FloatingPointError: the loss is not finite.
  """
  network = DensityRatio()
  optimizer = optax.adam(learning_rate)
  if vicinity is not None:
    numbers = np.asarray(real[1])
    if numbers.shape[1:] != (1,):
      raise InputError(
        f'conditions {list(numbers.shape)} with a vicinity; right are numbers, '
        '[N, 1]'
      )
    vicinity = vicinity.settled(numbers[:, 0])
    order = np.argsort(numbers[:, 0], kind='stable')
    real = tuple(np.asarray(x)[order] for x in real)

  def loss_fn(params, real, fake, weights):
    ratios = [network.apply({'params': params}, *x) for x in (real, fake)]
    loss = softplus_ratio_loss(*ratios, penalty=penalty, weights=weights)
    return loss, {'loss': loss, 'fake_ratio': ratios[1].mean()}

  @jax.jit
  def step(real, fake, state, key):
    params, moments = state

    def some(key, arrays):
      rows = jax.random.randint(key, (batch,), 0, len(arrays[0]))
      return tuple(array[rows] for array in arrays)

    keys = jax.random.split(key)
    theirs, weights = some(keys[1], fake), None
    if vicinity is None:
      ours = some(keys[0], real)
    else:
      at = theirs[1]
      rows, weights = draw_near(
        real[1][:, 0], at[:, 0], keys[0], vicinity=vicinity
      )
      ours = real[0][rows], at
    grads, metrics = jax.grad(loss_fn, has_aux=True)(
      params, ours, theirs, weights
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
