"""Training of many small models: every seed of one in one compiled program.

A teacher's answers to all images are computed once, so that a training by
another teacher is the same program with other numbers. All networks of a study
take the same number of steps, however many images they learn from.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from compress import distill, train
from experiments.classification import side_by_side
from experiments.classification.tuning import Tuning, make_optimizer


class Examples(NamedTuple):
  """What R runs learn from.

  Attributes:
    images: float32 [M, H, W, C], scaled; the same for all runs.
    labels: int32 [M]; not to be used of invented images.
    teacher: float32 [R, M, K], logits of each run's teacher.
  """

  images: np.ndarray
  labels: np.ndarray
  teacher: np.ndarray


class Batch(NamedTuple):
  """What a loss sees of one run.

  Attributes:
    images: float32 [B, H, W, C], scaled.
    labels: int32 [B].
    teacher: float32 [B, K], logits.
    key: of this step.
  """

  images: jax.Array
  labels: jax.Array
  teacher: jax.Array
  key: jax.Array


# (the model's logits, the batch) -> scalar
Loss = Callable[[jax.Array, Batch], jax.Array]


def network_losses(settings) -> dict[str, Loss]:
  """The losses of the study's networks, by name.

  Args:
    settings: `teacher_gap_settings.Settings`.

  Returns:
    Name -> loss.
  """
  tuning, hot = settings.tuning, settings.defensive_temperature

  def soft(logits, batch):
    return distill.soft_target_loss(
      logits, batch.teacher, temperature=tuning.temperature
    )

  def hinton(logits, batch):
    return distill.hinton_loss(
      logits,
      batch.teacher,
      batch.labels,
      temperature=tuning.temperature,
      hard_weight=tuning.hard_weight,
    )

  return {
    'labels': lambda z, b: distill.cross_entropy(z, b.labels),
    'hinton': hinton,
    'soft_targets': soft,
    'born_again': lambda z, b: distill.born_again_loss(z, b.teacher, b.labels),
    'confidence_weighted': lambda z, b: distill.confidence_weighted_loss(
      z, b.teacher, b.labels
    ),
    'permuted_predictions': lambda z, b: distill.permuted_predictions_loss(
      z, b.teacher, key=b.key
    ),
    'defensive_teacher': lambda z, b: distill.defensive_teacher_loss(
      z, b.labels, temperature=hot
    ),
    'defensive': lambda z, b: distill.defensive_loss(
      z, b.teacher, temperature=hot
    ),
  }


def make_program(
  loss: Callable[[Any, Batch], jax.Array], *, tuning: Tuning, steps: int
) -> Callable[..., list[Any]]:
  """Compiles the training of a model from several seeds.

  Args:
    loss: `(params, batch) -> scalar`.
    tuning: batch size and optimizer.
    steps: updates of a run.

  Returns:
    `(params, examples, *, seeds) -> params`: lists of R pytrees, the second
    trained, on the host; it compiles once for examples of the same shapes.
  """
  optimizer = make_optimizer(tuning, steps)

  def one(params, images, labels, teacher, order, key):
    def step(carry, rows):
      params, state, key = carry
      key, use = jax.random.split(key)
      batch = Batch(images[rows], labels[rows], teacher[rows], use)
      slope = jax.grad(loss)(params, batch)
      update, state = optimizer.update(slope, state, params)
      return (optax.apply_updates(params, update), state, key), None

    start = params, optimizer.init(params), key
    return jax.lax.scan(step, start, order)[0][0]

  together = jax.jit(jax.vmap(one, in_axes=(0, None, None, 0, 0, 0)))

  def run(params: Sequence[Any], examples: Examples, *, seeds: Sequence[int]):
    size = len(examples.images)
    batch = min(tuning.batch, size)
    order = [
      [
        train.batch_indices(i, size=size, batch=batch, seed=seed)
        for i in range(steps)
      ]
      for seed in seeds
    ]
    found = together(
      side_by_side.stack(params),
      examples.images,
      examples.labels,
      examples.teacher,
      np.asarray(order, np.int32),
      jnp.stack([jax.random.key(seed) for seed in seeds]),
    )
    return side_by_side.unstack(jax.device_get(found), len(seeds))

  return run
