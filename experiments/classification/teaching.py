"""A classifier that is taught by another one, at its logits and its features.

Which loss is an argument, so that hybrids of pruning and distillation differ in
one function. What the loss itself learns (projections) is trained along and
thrown away.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from compress import distill, train
from compress.data import ImageDataset, Scaling
from compress.errors import InputError
from experiments.classification import evaluation
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


class Lesson(NamedTuple):
  """What a loss may look at beside the two views.

  Attributes:
    labels: int [B].
    indices: int [B], the images' places in the training set.
    key: of this step.
    extra: what the loss learns along.
    memory: what the loss carries from step to step, not trained.
  """

  labels: jax.Array
  indices: jax.Array
  key: jax.Array
  extra: Any
  memory: Any


class Teaching(NamedTuple):
  """A compiled way to teach one network by another.

  Attributes:
    run: `(variables, *, seed, extra=None, memory=None, progress=True,
      description=None) -> (variables, extra)`, on the host; what is passed in
      stays valid.
    steps: updates of a run.
  """

  run: Callable[..., tuple[Any, Any]]
  steps: int


def make_loss(
  network: Classifier,
  teacher: Classifier,
  *,
  loss: Callable[[View, View, Lesson], tuple[jax.Array, Any]],
  features: Mapping[str, tuple[str, str]],
) -> Callable[..., Any]:
  """The loss of a training step, for `compress.train.make_step`.

  Args:
    network: the student.
    teacher: the teacher, without its weights.
    loss: `(student, teacher, lesson) -> (scalar, memory)` of two views.
    features: name -> the student's and the teacher's name of a feature.

  Returns:
    `(params, carried, batch, key) -> (loss, (carried, metrics))`: `params`
    {'params', 'extra'}, `carried` {'collections', 'memory', 'teacher'}, batches
    as of `make_batches`. A batch with 'teacher', a `View`, is not looked at by
    the teacher. With an axis name the loss is that of the global batch.
  """
  places = dict.fromkeys(x for x, _ in features.values())
  learn = distill.tap_features(network.learn, [*places])
  look = _looking(teacher.apply, {k: y for k, (_, y) in features.items()})

  def loss_fn(params, carried, batch, key, *, axis_name=None):
    variables = {'params': params['params'], **carried['collections']}
    (logits, collections), found = learn(variables, batch['images'])
    ours = View(logits, {k: found[x] for k, (x, _) in features.items()})
    theirs = batch.get('teacher')
    if theirs is None:
      theirs = look(carried['teacher'], batch['images'])
    labels = batch['labels']
    ours, theirs, labels, indices = distill.gather_batch(
      (ours, theirs, labels, batch['indices']), axis_name
    )
    lesson = Lesson(labels, indices, key, params['extra'], carried['memory'])
    value, memory = loss(ours, theirs, lesson)
    answers = network.class_logits(ours.logits).argmax(axis=-1)
    right = (answers.astype(labels.dtype) == labels).mean()
    carried = {**carried, 'collections': collections, 'memory': memory}
    return value, (carried, {'accuracy': right})

  return loss_fn


def make_teaching(
  network: Classifier,
  dataset: ImageDataset,
  *,
  teacher: Teacher,
  loss: Callable[[View, View, Lesson], tuple[jax.Array, Any]],
  scaling: Scaling,
  tuning: Tuning,
  features: Mapping[str, tuple[str, str]] | None = None,
  views: View | None = None,
) -> Teaching:
  """Prepares the teaching of a network, on one device.

  The teacher looks at the same, augmented images as it does in use: BatchNorm
  with the statistics that it has. Runs from several seeds share the
  compilation.

  Args:
    network: the student.
    dataset: the training images.
    teacher: the teacher.
    loss: `(student, teacher, lesson) -> (scalar, memory)` of two views.
    scaling: of pixels.
    tuning: options.
    features: name -> the student's and the teacher's name of a feature, which
      the views have under that name.
    views: what the teacher makes of every training image, of `look_at_all`,
      with these features at least: it is not run again. Not where images are
      augmented. The result is the same up to rounding.

  Returns:
    The teaching.

  Raises:
    InputError: a network without one of the features, or `views` with
      augmentation.
  """
  features = dict(features or {})
  if views is not None:
    if tuning.augmented:
      raise InputError('augmented images differ: their views cannot be kept')
    views = View(views.logits, {k: views.features[k] for k in features})
  loss_fn = make_loss(network, teacher.network, loss=loss, features=features)

  steps = tuning.steps(len(dataset))
  optimizer = make_optimizer(tuning, steps)
  step = train.jit_step(
    train.make_step(loss_fn, optimizer), train.data_mesh(jax.devices()[:1])
  )
  images = scaling(dataset.images)

  def run(
    variables,
    *,
    seed,
    extra=None,
    memory=None,
    progress=True,
    description=None,
  ):
    collections = {k: v for k, v in variables.items() if k != 'params'}
    state = train.init_state(
      {'params': variables['params'], 'extra': {} if extra is None else extra},
      optimizer,
      {
        'collections': collections,
        'memory': {} if memory is None else memory,
        'teacher': teacher.variables if views is None else {},
      },
      jax.random.key(seed),
    )
    batch_fn = make_batches(
      dataset, images, scaling=scaling, tuning=tuning, seed=seed
    )

    def with_views(index):
      batch = batch_fn(index)
      rows = batch['indices']
      return {**batch, 'teacher': jax.tree.map(lambda x: x[rows], views)}

    state, _ = train.fit(
      step,
      state,
      batch_fn if views is None else with_views,
      steps=steps,
      progress=progress,
      description=description or network.name,
    )
    params, carried = jax.device_get((state.params, state.carried))
    found = {'params': params['params'], **carried['collections']}
    return jax.tree.map(jnp.asarray, (found, params['extra']))

  return Teaching(run, steps)


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
  """Trains a student by a teacher once; see `make_teaching`.

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

  def with_lesson(ours, theirs, lesson):
    return loss(ours, theirs, lesson.labels, lesson.extra), lesson.memory

  teaching = make_teaching(
    student.network,
    dataset,
    teacher=teacher,
    loss=with_lesson,
    scaling=scaling,
    tuning=tuning,
    features={name: (name, name) for name in features},
  )
  variables, _ = teaching.run(
    student.variables,
    seed=seed,
    extra=extra,
    progress=progress,
    description=description,
  )
  return variables


def look_at_all(
  teacher: Teacher,
  dataset: ImageDataset,
  *,
  scaling: Scaling,
  features: Mapping[str, str] | None = None,
  batch: int = 256,
) -> View:
  """What a teacher makes of all training images, for `make_teaching`.

  Args:
    teacher: the teacher.
    dataset: N images.
    scaling: of pixels.
    features: name -> the teacher's name of a feature.
    batch: images at once.

  Returns:
    The views [N, ...], numpy arrays on the host.

  Raises:
    InputError: the teacher has not one of the features.
  """
  look = _looking(teacher.network.apply, dict(features or {}))
  predict = evaluation.make_predictor(look, scaling=scaling, batch=batch)
  return predict(teacher.variables, dataset.images)


def _looking(apply, names):
  """A network as `(variables, images) -> View`, features by other names."""
  tapped = distill.tap_features(apply, [*dict.fromkeys(names.values())])

  def look(variables, images):
    logits, found = tapped(variables, images)
    return View(logits, {k: found[name] for k, name in names.items()})

  return look
