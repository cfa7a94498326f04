"""Fine-tuning of a quantized twin against its teacher."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from compress import distill, train
from experiments.faces.student import Student

UNTUNED = ('post_training', 'one_shot')
"""Methods that train nothing."""

EMBEDDING = ('embedding', 'quantface')
"""Two names of one loss: QuantFace's, and what it does."""


@dataclasses.dataclass(frozen=True)
class Tuning:
  """How a twin is fine-tuned.

  Attributes:
    steps: updates.
    batch: photographs a step.
    learning_rate: at the first step; falls to 0 along half a cosine.
    optimizer: `adam`, or `sgd` as QuantFace sets it.
    ekd_form: `rank` or `distance`.
    ekd_debias: correct the anchors' moving average for its start at 0.
    margin: of the ArcFace head (Ef-QuantFace: .4).
    scale: of the ArcFace head (64).
  """

  steps: int = 30
  batch: int = 32
  learning_rate: float = 1e-4
  optimizer: str = 'adam'
  ekd_form: str = 'rank'
  ekd_debias: bool = True
  margin: float = 0.4
  scale: float = 64.0


def make_loss(student: Student, method: str, tuning: Tuning):
  """The loss of a method, for `compress.train.make_step`.

  Args:
    student: the twin.
    method: `labels`, `embedding` (which QuantFace calls its own: `quantface`),
      `ekd` or `ekd_class`.
    tuning: options.

  Returns:
    `(params, carried, batch, key, *, axis_name) -> (loss, (carried, metrics))`.
    `batch` holds `images` [B, H, W, 3] of any number type, `teacher` [B, D],
    `labels` [B] and `general` [B], 1 where the class head looks.
  """

  def loss_fn(params, carried, batch, key, *, axis_name=None):
    del key
    images = batch['images'].astype(jnp.float32)
    embeddings, twin = student.apply(
      params['twin'], carried['twin'], images, train=True
    )
    carried = {**carried, 'twin': twin}
    metrics = {'cosine': _cosine(embeddings, batch['teacher'])}
    if method == 'labels':
      return _class_loss(params, embeddings, batch, tuning), (carried, metrics)
    if method in EMBEDDING:
      loss = distill.embedding_loss(embeddings, batch['teacher'])
      return loss, (carried, metrics)
    loss, anchors = distill.ekd_loss(
      embeddings,
      batch['teacher'],
      batch['labels'],
      carried['anchors'],
      form=tuning.ekd_form,
      debias=tuning.ekd_debias,
      axis_name=axis_name,
    )
    carried['anchors'] = anchors
    if method == 'ekd_class':
      metrics['ekd'] = loss
      loss = loss + _class_loss(params, embeddings, batch, tuning)
    return loss, (carried, metrics)

  return loss_fn


def _class_loss(params, embeddings, batch, tuning):
  """ArcFace's cross-entropy over the general part of the batch."""
  logits = distill.arcface_logits(
    embeddings,
    params['head'],
    batch['labels'],
    scale=tuning.scale,
    margin=tuning.margin,
  )
  return distill.cross_entropy(logits, batch['labels'], where=batch['general'])


def _cosine(a, b):
  return (distill.normalize(a) * distill.normalize(b)).sum(axis=-1).mean()


def batch_shape(method: str, tuning: Tuning) -> distill.BatchShape:
  """How the photographs of a batch are drawn; see `make_batches`."""
  if method in EMBEDDING or method == 'labels':
    return distill.BatchShape(general=tuning.batch, people=0, photos=0)
  of_one = 4
  groups = max(1, tuning.batch // 2 // of_one)
  general = tuning.batch - groups * of_one
  return distill.BatchShape(general=general, people=groups, photos=of_one)


def make_batches(method: str, tuning: Tuning, *, images, labels, teacher, seed):
  """The batch of every step, a pure function of the step.

  EKD draws half of the photographs at random and half balanced, four of a
  person, as its authors do; the other methods draw all at random. Each
  photograph is mirrored or not by a coin.

  Args:
    method: see `make_loss`.
    tuning: batch size.
    images: uint8 [N, H, W, 3].
    labels: int [N], 0 to the number of people less 1.
    teacher: [N, 2, D], embeddings of each photograph and its mirror image.
    seed: of the order.

  Returns:
    step -> batch.
  """
  shape = batch_shape(method, tuning)
  indices = distill.identity_balanced(labels, seed=seed, shape=shape)
  general = np.arange(tuning.batch) < shape.general

  def batch(step: int):
    chosen = indices(step)
    rng = np.random.default_rng((seed, step))
    mirrored = rng.integers(0, 2, len(chosen))
    views = images[chosen]
    views = np.where(
      mirrored[:, None, None, None] == 1, views[:, :, ::-1], views
    )
    return {
      'images': views,
      'teacher': teacher[chosen, mirrored],
      'labels': labels[chosen].astype(np.int32),
      'general': general,
    }

  return batch


def initial_head(teacher: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """Class weights [D, C]: the mean direction of the teacher for each person.

  EKD trains the head from noise with the network, over 26 epochs; a few dozen
  steps of fine-tuning would spend themselves on a head that points nowhere.
  """
  unit = teacher / np.linalg.norm(teacher, axis=-1, keepdims=True)
  means = [unit[labels == c].mean(axis=(0, 1)) for c in range(labels.max() + 1)]
  means = np.stack(means, axis=1)
  return (means / np.linalg.norm(means, axis=0)).astype(np.float32)


def tune(
  student: Student,
  method: str,
  tuning: Tuning,
  *,
  images: np.ndarray,
  identities: np.ndarray,
  teacher: np.ndarray,
  seed: int,
  folder: pathlib.Path,
  description: str,
  progress: bool = True,
):
  """Fine-tunes a twin; resumes from the folder's last checkpoint.

  Args:
    student: the twin.
    method: see `make_loss`.
    tuning: options.
    images: uint8 [N, H, W, 3], of the people to train on.
    identities: int [N].
    teacher: [N, 2, D], embeddings of each photograph and its mirror image.
    seed: of the order of photographs.
    folder: of checkpoints and metrics.
    description: stands before the progress bar.
    progress: show the bar.

  Returns:
    `(trained, carried, history)`.
  """
  labels = np.unique(identities, return_inverse=True)[1]
  params = {'twin': student.trained}
  carried = {'twin': student.carried}
  if method in ('ekd', 'ekd_class'):
    carried['anchors'] = distill.init_ekd()
  if method in ('labels', 'ekd_class'):
    params['head'] = jnp.asarray(initial_head(teacher, labels))
  rate = train.cosine(tuning.learning_rate, steps=tuning.steps)
  optimizer = train.sgd(rate) if tuning.optimizer == 'sgd' else train.adam(rate)
  step = train.make_step(make_loss(student, method, tuning), optimizer)
  mesh = _mesh(tuning.batch)
  state = train.init_state(params, optimizer, carried, jax.random.key(seed))
  state, history = train.fit(
    train.jit_step(step, mesh),
    state,
    make_batches(
      method,
      tuning,
      images=images,
      labels=labels,
      teacher=teacher,
      seed=seed,
    ),
    steps=tuning.steps,
    folder=folder,
    save_every=max(1, tuning.steps // 4),
    keep=1,
    progress=progress,
    description=description,
  )
  state = jax.device_get(state)
  return state.params['twin'], state.carried['twin'], history


def _mesh(batch: int):
  """All devices, or as many as the batch can be dealt to evenly."""
  devices = jax.devices()
  count = max(n for n in range(1, len(devices) + 1) if batch % n == 0)
  return train.data_mesh(devices[:count])
