"""Inputs by gradient descent: the network is fixed and the images move.

What every optimisation-based method of this package shares. The descent is that
of Cai, Yao, Dong, Gholami, Mahoney and Keutzer 2020, 'ZeroQ: A Novel Zero Shot
Quantization Framework', arXiv:2001.00281, in its authors' code: Adam on the
images, the learning rate cut to a tenth whenever the loss has not improved for
some steps.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from compress.errors import InputError
from compress.synthesize.steps import run_steps


class Synthesized(NamedTuple):
  """Images that were made, and how it went.

  Attributes:
    images: as the initial ones, after the last step.
    loss: float64 [steps], before each step.
    learning_rate: float64 [steps], of each step.
  """

  images: jax.Array
  loss: np.ndarray
  learning_rate: np.ndarray


def synthesize(
  loss_fn: Callable[..., jax.Array],
  init: jax.Array,
  *arrays: Any,
  steps: int = 500,
  learning_rate: float = 0.1,
  patience: int | None = 100,
  min_learning_rate: float = 1e-4,
  bounds: tuple[float, float] | None = None,
  rescale: bool = False,
  key: jax.Array | None = None,
  progress: bool = True,
  description: str | None = None,
) -> Synthesized:
  """Moves images down a loss.

  ZeroQ's code has 500 steps at 0.5 (0.1 in a variant), a patience of 100 and
  1e-4 as the least learning rate, on images that start from the standard normal
  distribution. Compiled once for one `loss_fn` and shape, so several batches
  should share the function and differ in `arrays`.

  Args:
    loss_fn: `(images, *arrays) -> float32 scalar`; with `key`,
      `(images, *arrays, key=...)`.
    init: float32 [B, H, W, C], the first images; any shape that `loss_fn`
      takes will do.
    *arrays: pytrees of arrays that `loss_fn` needs besides, such as the
      network's variables and targets. They stay as they are.
    steps: updates, 0 or more.
    learning_rate: of Adam, in units of the images.
    patience: steps without a loss lower by 1e-4 of itself after which the
      learning rate is cut to a tenth; None leaves it as it is.
    min_learning_rate: that it is not cut below.
    bounds: lowest and highest value of the images; clipped after every update.
    rescale: instead of clipping, stretch the least and greatest value of the
      whole batch to the bounds, as Nayak et al. 2019 do (arXiv:1905.08114).
    key: random key for losses that draw; every step gets one of its own.
    progress: show a bar on standard error.
    description: what stands before the bar.

  Returns:
    The images and the history. The same arguments give the same bits.

  Raises:
    InputError: a number out of range.
    FloatingPointError: a loss is not finite; names the step.
  """
  if steps < 0 or not learning_rate > 0:
    raise InputError(
      f'steps {steps}, learning_rate {learning_rate}; right is 0 or more, and '
      'above 0'
    )
  if patience is not None and patience < 1:
    raise InputError(f'patience is {patience}; right is 1 or more, or None')
  if bounds is not None and not bounds[0] < bounds[1]:
    raise InputError(f'bounds are {bounds}; right is the lower one first')
  if rescale and bounds is None:
    raise InputError('rescale needs bounds to stretch the images to')
  optimizer = _optimizer(learning_rate, patience, min_learning_rate)
  images = jnp.asarray(init, jnp.float32)
  step = functools.partial(
    _step,
    arrays,
    loss_fn=loss_fn,
    options=(learning_rate, patience, min_learning_rate),
    bounds=None if bounds is None else tuple(map(float, bounds)),
    rescale=rescale,
    draws=key is not None,
  )
  (images, _), history = run_steps(
    step,
    (images, optimizer.init(images)),
    jax.random.key(0) if key is None else key,
    steps=steps,
    progress=progress,
    description=description or 'inputs',
  )
  nothing = np.zeros(0)
  return Synthesized(
    images,
    history.get('loss', nothing),
    history.get('learning_rate', nothing),
  )


def total_variation(images: jax.Array) -> jax.Array:
  """How much neighbouring pixels differ; an image prior of DeepInversion.

  The mean squared difference to the neighbour on the right, below, and on the
  two diagonals below, summed over the four. Yin et al. 2020, 'Dreaming to
  Distill', arXiv:1912.08795; their code takes the root of the sum
  over the batch, so that weights depend on its size and on that of the images.

  Args:
    images: [B, H, W, C], H and W at least 2.

  Returns:
    Float32 scalar, 0 or more.

  Raises:
    InputError: a single row or column of pixels.
  """
  if min(images.shape[1:3]) < 2:
    raise InputError(
      f'images {list(images.shape)}; right are two rows and columns or more'
    )
  x = images.astype(jnp.float32)
  gaps = (
    x[:, :, 1:] - x[:, :, :-1],
    x[:, 1:] - x[:, :-1],
    x[:, 1:, 1:] - x[:, :-1, :-1],
    x[:, 1:, :-1] - x[:, :-1, 1:],
  )
  return sum(jnp.square(gap).mean() for gap in gaps)


def mean_square(images: jax.Array) -> jax.Array:
  """The mean square of the values: the other image prior of DeepInversion.

  Yin et al. 2020, arXiv:1912.08795, have the norm of the batch;
  the mean does not depend on its size.

  Args:
    images: [B, ...].

  Returns:
    Float32 scalar, 0 or more.
  """
  return jnp.square(images.astype(jnp.float32)).mean()


def image_prior(
  images: jax.Array, *, total_variation_weight: float, mean_square_weight: float
) -> jax.Array:
  """Both priors, weighted; what has no weight is not computed.

  Args:
    images: [B, H, W, C].
    total_variation_weight: of `total_variation`, 0 or more.
    mean_square_weight: of `mean_square`, 0 or more.

  Returns:
    Float32 scalar, 0 or more.

  Raises:
    InputError: a negative weight.
  """
  if not (total_variation_weight >= 0 and mean_square_weight >= 0):
    raise InputError(
      f'total_variation_weight {total_variation_weight}, mean_square_weight '
      f'{mean_square_weight}; right is 0 or more'
    )
  loss = jnp.float32(0)
  if total_variation_weight:
    loss += total_variation_weight * total_variation(images)
  if mean_square_weight:
    loss += mean_square_weight * mean_square(images)
  return loss


def _optimizer(learning_rate, patience, min_learning_rate):
  adam = optax.adam(learning_rate)
  if patience is None:
    return optax.with_extra_args_support(adam)
  least = min(1.0, min_learning_rate / learning_rate)
  return optax.chain(
    adam,
    optax.contrib.reduce_on_plateau(
      factor=0.1, patience=patience, rtol=1e-4, min_scale=least
    ),
  )


@functools.partial(
  jax.jit,
  static_argnames=('loss_fn', 'options', 'bounds', 'rescale', 'draws'),
)
def _step(arrays, state, key, *, loss_fn, options, bounds, rescale, draws):
  """One update; compiled once for each loss function and set of options."""
  images, moments = state
  optimizer = _optimizer(*options)
  keys = {'key': key} if draws else {}
  loss, grads = jax.value_and_grad(loss_fn)(images, *arrays, **keys)
  with jax.numpy_dtype_promotion('standard'):
    updates, moments = optimizer.update(grads, moments, images, value=loss)
  images = optax.apply_updates(images, updates)
  if rescale:
    low, high = images.min(), images.max()
    share = (images - low) / jnp.maximum(high - low, 1e-12)
    images = bounds[0] + (bounds[1] - bounds[0]) * share
  elif bounds is not None:
    images = jnp.clip(images, *bounds)
  scale = moments[-1].scale if options[1] is not None else 1.0
  metrics = {'loss': loss, 'learning_rate': jnp.float32(options[0]) * scale}
  return (images, moments), metrics
