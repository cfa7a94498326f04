"""A classifier that is taught by another one, at its logits and its features.

Which loss is an argument, so that hybrids of pruning and distillation differ in
one function. What the loss itself learns (projections) is trained along and
thrown away.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from compress import distill, train
from compress.data import ImageDataset, Scaling
from experiments.classification.networks import Classifier
from experiments.classification.tuning import (
  Tuning,
  make_batches,
  make_optimizer,
)


class Teacher(NamedTuple):
  """A trained network.

  Attributes:
    network: the network.
    variables: its collections.
  """

  network: Classifier
  variables: Any


class View(NamedTuple):
  """What a network makes of a batch.

  Attributes:
    logits: [B, K].
    features: name -> [B, ..., C].
  """

  logits: jax.Array
  features: dict[str, jax.Array]


Loss = Callable[[View, View, jax.Array, Any], jax.Array]


def response_loss(tuning: Tuning) -> Loss:
  """Hinton's loss, on logits alone, with the tuning's temperature."""

  def loss(student, teacher, labels, extra):
    del extra
    return distill.hinton_loss(
      student.logits,
      teacher.logits,
      labels,
      temperature=tuning.temperature,
      hard_weight=tuning.hard_weight,
    )

  return loss


def restoring_loss(tuning: Tuning, *, attention_weight: float) -> Loss:
  """Chen et al.'s: labels, response and attention maps."""

  def loss(student, teacher, labels, extra):
    del extra
    return distill.restoration_loss(
      student.logits,
      teacher.logits,
      labels,
      student.features,
      teacher.features,
      temperature=tuning.temperature,
      attention_weight=attention_weight,
    )

  return loss


def direction_loss(*, weight: float) -> Loss:
  """Aghli and Ribeiro's: labels and the features' cosines.

  Args:
    weight: lambda, of the mean over features.

  Returns:
    The loss; its `extra` maps feature to projection, of `init_projections`.
  """

  def loss(student, teacher, labels, extra):
    gaps = [
      distill.cosine_feature_loss(
        feature, teacher.features[name], projection=extra[name]
      )
      for name, feature in student.features.items()
    ]
    mean = sum(gaps[1:], start=gaps[0]) / len(gaps)
    return distill.cross_entropy(student.logits, labels) + weight * mean

  return loss


def init_projections(
  student: Teacher, teacher: Teacher, features: Sequence[str], *, seed: int
) -> dict[str, jax.Array]:
  """Projections of the student's channels onto the teacher's, by feature.

  Args:
    student: the student and its variables.
    teacher: the teacher.
    features: names that both have.
    seed: of the draw.

  Returns:
    Name -> [C_s, C_t].
  """

  def widths(one):
    image = jax.ShapeDtypeStruct((1, *one.network.image_shape), jnp.float32)
    tapped = distill.tap_features(one.network.apply, features)
    _, found = jax.eval_shape(tapped, one.variables, image)
    return {name: value.shape[-1] for name, value in found.items()}

  ours, theirs = widths(student), widths(teacher)
  keys = jax.random.split(jax.random.key(seed), len(features))
  return {
    name: distill.init_projection(key, student=ours[name], teacher=theirs[name])
    for name, key in zip(features, keys, strict=True)
  }


def teach(
  student: Teacher,
  dataset: ImageDataset,
  *,
  teacher: Teacher,
  loss: Loss,
  scaling: Scaling,
  tuning: Tuning,
  seed: int,
  features: Sequence[str] = (),
  extra: Any = None,
  progress: bool = True,
  description: str | None = None,
) -> Any:
  """Trains a student by a teacher, on one device.

  The teacher looks at the same, augmented images as it does in use: BatchNorm
  with the statistics that it has.

  Args:
    student: the network and the variables it starts from; they stay valid.
    dataset: the training images.
    teacher: the teacher.
    loss: `(student, teacher, labels, extra) -> scalar` of two views.
    scaling: of pixels.
    tuning: options.
    seed: of the order and augmentation of the images.
    features: names that both networks have.
    extra: pytree that the loss learns along; None for nothing.
    progress: show a bar.
    description: stands before the bar.

  Returns:
    The student's variables.

  Raises:
    InputError: a network without one of the features.
  """
  learn, look = student.network.learn, teacher.network.apply
  if features:
    learn = distill.tap_features(learn, features)
    look = distill.tap_features(look, features)

  def loss_fn(params, carried, batch, key, *, axis_name=None):
    del key, axis_name
    images, labels = batch['images'], batch['labels']
    variables = {'params': params['params'], **carried['collections']}
    out = learn(variables, images)
    (logits, collections), found = out if features else (out, {})
    seen = look(carried['teacher'], images)
    theirs = View(*seen) if features else View(seen, {})
    value = loss(View(logits, found), theirs, labels, params['extra'])
    right = (logits.argmax(axis=-1).astype(labels.dtype) == labels).mean()
    carried = {**carried, 'collections': collections}
    return value, (carried, {'accuracy': right})

  steps = tuning.steps(len(dataset))
  optimizer = make_optimizer(tuning, steps)
  step = train.jit_step(
    train.make_step(loss_fn, optimizer), train.data_mesh(jax.devices()[:1])
  )
  variables = student.variables
  collections = {k: v for k, v in variables.items() if k != 'params'}
  state = train.init_state(
    {'params': variables['params'], 'extra': {} if extra is None else extra},
    optimizer,
    {'collections': collections, 'teacher': teacher.variables},
    jax.random.key(seed),
  )
  batch_fn = make_batches(
    dataset,
    scaling(dataset.images),
    scaling=scaling,
    tuning=tuning,
    seed=seed,
  )
  state, _ = train.fit(
    step,
    state,
    batch_fn,
    steps=steps,
    progress=progress,
    description=description or student.network.name,
  )
  params, carried = jax.device_get((state.params, state.carried))
  found = {'params': params['params'], **carried['collections']}
  return jax.tree.map(jnp.asarray, found)
