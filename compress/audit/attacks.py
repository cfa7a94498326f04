"""Attacks on classifiers within a box around the image, by its gradient.

Images are in [0, 1], a network is any function from images to logits, and the
perturbation of every pixel is at most epsilon (l_inf). What is followed is the
gradient of a loss of the logits divided by a temperature, both arguments: a
network whose softmax is saturated has a cross-entropy without gradient and a
margin with one, and only the attack that succeeds most says how robust it is
(Athalye, Carlini, Wagner 2018, arXiv:1802.00420).
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from compress.errors import InputError

Predict = Callable[[jax.Array], jax.Array]
Loss = Callable[[jax.Array, jax.Array], jax.Array]


class Attacked(NamedTuple):
  """How a network stood an attack.

  Attributes:
    accuracy: of the clean images, 0..1.
    attacked: of the perturbed ones.
    success: share of the images classified right before that no longer are;
      None where none was.
    count: number of images.
  """

  accuracy: float
  attacked: float
  success: float | None
  count: int


def cross_entropies(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """The labels' cross-entropy of every image, for an attack to raise.

  Args:
    logits: `[B, C]`.
    labels: int `[B]`.

  Returns:
    Float32 `[B]`, nats.
  """
  log_q = jax.nn.log_softmax(logits.astype(jnp.float32))
  return -jnp.take_along_axis(log_q, labels[:, None], axis=1).squeeze(1)


def margins(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """The best wrong logit less the right one, for an attack to raise.

  Carlini and Wagner 2017, arXiv:1608.04644, f_6 with the sign turned and no
  bound: its gradient does not depend on how large logits are.

  Args:
    logits: `[B, C]`, C at least 2.
    labels: int `[B]`.

  Returns:
    Float32 `[B]`; above 0 where the class is wrong.
  """
  logits = logits.astype(jnp.float32)
  own = jax.nn.one_hot(labels, logits.shape[1], dtype=bool)
  right = jnp.where(own, logits, 0.0).sum(axis=1)
  return jnp.where(own, -jnp.inf, logits).max(axis=1) - right


def fgsm(
  predict: Predict,
  images: jax.Array,
  labels: jax.Array,
  *,
  epsilon: float,
  loss: Loss = cross_entropies,
  temperature: float = 1.0,
) -> jax.Array:
  """The fast gradient sign method: one step to the edge of the box.

  `clip(x + epsilon sign(dL/dx), 0, 1)`; Goodfellow, Shlens, Szegedy 2015,
  arXiv:1412.6572. A gradient of exactly 0 leaves its pixel as it is.

  Args:
    predict: `images -> logits [B, C]`.
    images: float `[B, ...]` in [0, 1].
    labels: the true classes, int `[B]`.
    epsilon: largest change of a pixel, 0..1.
    loss: `(logits, labels) -> [B]`, to be raised.
    temperature: T > 0; the loss is that of logits / T.

  Returns:
    Float32 `[B, ...]` in [0, 1].

  Raises:
    InputError: epsilon or the temperature out of range.
  """
  _check(epsilon, temperature)
  images = jnp.asarray(images, jnp.float32)
  slope = input_gradient(
    predict, images, labels, loss=loss, temperature=temperature
  )
  return jnp.clip(images + epsilon * jnp.sign(slope), min=0.0, max=1.0)


def pgd(
  predict: Predict,
  images: jax.Array,
  labels: jax.Array,
  *,
  epsilon: float,
  step: float,
  steps: int,
  loss: Loss = cross_entropies,
  temperature: float = 1.0,
  key: jax.Array | None = None,
) -> jax.Array:
  """Projected gradient ascent: many small steps, kept within the box.

  Madry, Makelov, Schmidt, Tsipras, Vladu 2018, arXiv:1706.06083; without a key
  it is the basic iterative method of Kurakin et al. 2017, arXiv:1607.02533.

  Args:
    predict: `images -> logits [B, C]`.
    images: float `[B, ...]` in [0, 1].
    labels: the true classes, int `[B]`.
    epsilon: largest change of a pixel, 0..1.
    step: change of a pixel a step, above 0.
    steps: 1 or more.
    loss: as in `fgsm`.
    temperature: as in `fgsm`.
    key: of a start drawn evenly from the box; None starts at the image.

  Returns:
    Float32 `[B, ...]` in [0, 1], at most epsilon from the images.

  Raises:
    InputError: an option out of range.
  """
  _check(epsilon, temperature)
  if not step > 0 or steps < 1:
    raise InputError(f'step {step}, steps {steps}; right is above 0, from 1')
  images = jnp.asarray(images, jnp.float32)
  low = jnp.clip(images - epsilon, min=0.0)
  high = jnp.clip(images + epsilon, max=1.0)
  start = images
  if key is not None:
    start = low + (high - low) * jax.random.uniform(key, images.shape)

  def move(_, x):
    slope = input_gradient(
      predict, x, labels, loss=loss, temperature=temperature
    )
    return jnp.clip(x + step * jnp.sign(slope), min=low, max=high)

  return jax.lax.fori_loop(0, steps, move, start)


def input_gradient(
  predict: Predict,
  images: jax.Array,
  labels: jax.Array,
  *,
  loss: Loss = cross_entropies,
  temperature: float = 1.0,
) -> jax.Array:
  """The slope of the loss at every pixel: what gradient attacks see.

  The share of exact zeros in it tells a network that hides its gradient from
  one that is robust.

  Args:
    predict: `images -> logits [B, C]`.
    images: float `[B, ...]`.
    labels: int `[B]`.
    loss: as in `fgsm`.
    temperature: as in `fgsm`.

  Returns:
    Float32 `[B, ...]`.

  Raises:
    InputError: the temperature is not positive.
  """
  _check(0.0, temperature)
  chex.assert_rank(labels, 1)

  def total(x):
    return loss(predict(x).astype(jnp.float32) / temperature, labels).sum()

  return jax.grad(total)(jnp.asarray(images, jnp.float32))


def judge_attack(
  clean: np.ndarray, attacked: np.ndarray, labels: np.ndarray
) -> Attacked:
  """What an attack did to a network's answers.

  Args:
    clean: logits `[N, C]` of the images.
    attacked: logits `[N, C]` of the perturbed images, of the same network or,
      for an attack that is transferred, of another one.
    labels: int `[N]`.

  Returns:
    The figures, float64.

  Raises:
    InputError: shapes that do not fit.
  """
  clean, attacked = np.asarray(clean), np.asarray(attacked)
  labels = np.asarray(labels)
  if clean.ndim != 2 or attacked.shape != clean.shape or not labels.size:
    raise InputError(
      f'logits {list(clean.shape)} and {list(attacked.shape)}; right is [N, C] '
      'for both'
    )
  if labels.shape != clean.shape[:1]:
    raise InputError(
      f'labels {list(labels.shape)} for logits {list(clean.shape)}; right is '
      'one for each row'
    )
  before = clean.argmax(1) == labels
  after = attacked.argmax(1) == labels
  success = float(1 - after[before].mean()) if before.any() else None
  return Attacked(
    float(before.mean()), float(after.mean()), success, len(labels)
  )


def _check(epsilon: float, temperature: float) -> None:
  if not (0 <= epsilon <= 1 and temperature > 0):
    raise InputError(
      f'epsilon {epsilon}, temperature {temperature}; right is 0..1 and above 0'
    )
