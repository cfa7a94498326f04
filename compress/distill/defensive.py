"""Defensive distillation, and why it does not defend.

Papernot, McDaniel, Wu, Jha, Swami 2016, 'Distillation as a Defense to
Adversarial Perturbations against Deep Neural Networks', arXiv:1511.04508. A
network is trained on labels at a high temperature T, another of the same size
on its softened probabilities, at T again, and deployed at temperature 1. Its
logits are then about T times as large as usual, its probabilities are 0 and 1,
and since

  d p_i / d x = (p_i / T) sum_j p_j (d z_i / d x - d z_j / d x) ,

which vanishes where p is one-hot, so does what gradient attacks follow, in
float32 to exactly 0.

It is no defence: Carlini, Wagner 2016, 'Defensive Distillation is Not Robust to
Adversarial Examples', arXiv:1607.04311, and 2017, arXiv:1608.04644. The
decisions are what they were, only their gradient is hidden: an attack on the
logits, or on `softened` logits, finds what it would have found. Report this
scheme together with that attack.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from compress.distill.response import (
  check_temperature,
  cross_entropy,
  soft_cross_entropy,
)

NOT_A_DEFENCE = (
  'Defensive distillation hides gradients and does not make a network robust: '
  'an attack on its logits divided by the temperature succeeds as before '
  '(Carlini, Wagner, 2016, arXiv:1607.04311).'
)


def defensive_teacher_loss(
  logits: jax.Array, labels: jax.Array, *, temperature: float
) -> jax.Array:
  """Cross-entropy of labels at temperature T: the first of the two trainings.

  Args:
    logits: `[B, C]`.
    labels: int `[B]`.
    temperature: T > 0; the paper's main figures have 20, its best 100.

  Returns:
    Float32 scalar >= 0, mean over the batch, without a factor T squared.

  Raises:
    InputError: the temperature is not finite and above 0.
  """
  check_temperature(temperature)
  return cross_entropy(logits.astype(jnp.float32) / temperature, labels)


def defensive_loss(
  student: jax.Array, teacher: jax.Array, *, temperature: float
) -> jax.Array:
  """Cross-entropy of softened probabilities, student's and teacher's at T.

  The second training; `soft_target_loss` is the same without the teacher's
  entropy and with a factor T squared, which the paper has not.

  Args:
    student: logits `[B, C]`; -inf is allowed where the teacher's is too.
    teacher: logits `[B, C]`, without gradient; -inf is allowed.
    temperature: T > 0, that of the teacher's training.

  Returns:
    Float32 scalar, at least the softened teacher's entropy; nats.

  Raises:
    InputError: the temperature is not finite and above 0.
  """
  chex.assert_equal_shape([student, teacher])
  chex.assert_rank(student, 2)
  check_temperature(temperature)
  teacher = jax.lax.stop_gradient(teacher.astype(jnp.float32))
  target = jax.nn.softmax(teacher / temperature)
  student = student.astype(jnp.float32) / temperature
  return soft_cross_entropy(student, target).mean()


def softened(
  predict: Callable[..., jax.Array], *, temperature: float
) -> Callable[..., jax.Array]:
  """A network with its logits divided by T, for whoever attacks it.

  Args:
    predict: gives logits, with any arguments.
    temperature: T > 0 of the training.

  Returns:
    The same decisions, with the gradients of the training.

  Raises:
    InputError: the temperature is not finite and above 0.
  """
  check_temperature(temperature)

  def divided(*args, **kwargs):
    return predict(*args, **kwargs).astype(jnp.float32) / temperature

  return divided
