"""Training of a classifier: dense, under a compressor, from a teacher.

A trainer holds one compiled step, so that the seeds of a method, and operating
points that differ in the compressor's state alone, share its compilation. Or
they run side by side in one program (`Trainer.run_many`): on a CPU, three seeds
of LeNet-5 together take as long as 1.3 one after the other.
"""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from compress import distill, train
from compress.compressor import Compressor, State, identity
from compress.data import ImageDataset, Scaling
from experiments.classification import side_by_side
from experiments.classification.networks import Classifier
from experiments.classification.tuning import (
  Tuning,
  make_batches,
  make_optimizer,
)


class Trained(NamedTuple):
  """The end of a run.

  Attributes:
    variables: the network's collections; `params` as they are trained.
    compressed: the same with `params` as the compressor gives them, which is
      what the network computes with.
    state: the compressor's state.
    history: one mapping per logged update: 'step', 'loss', 'accuracy', ...
  """

  variables: Any
  compressed: Any
  state: State
  history: list[dict[str, Any]]


class Trainer(NamedTuple):
  """A compiled way to train one network.

  Attributes:
    run: `(variables, *, seed, state=None, folder=None, config=None,
      progress=True, description=None) -> Trained`; see `train_classifier`.
    run_many: `(variables, *, seeds, states=None, ...) -> list[Trained]`, R runs
      side by side, each as `run` would do it up to float rounding: a list of R
      starting points, R seeds, and R states or None.
    steps: updates of a run.
  """

  run: Callable[..., Trained]
  run_many: Callable[..., list[Trained]]
  steps: int


def make_trainer(
  network: Classifier,
  dataset: ImageDataset,
  *,
  scaling: Scaling,
  tuning: Tuning,
  compressor: Compressor | None = None,
  loss: Callable[[jax.Array, jax.Array], jax.Array] = distill.cross_entropy,
  teacher: Callable[[jax.Array], jax.Array] | None = None,
  penalty: Callable[[Any], jax.Array] | None = None,
  after_update: Callable[..., train.TrainState] | None = None,
) -> Trainer:
  """Prepares the training of a network on a data set.

  The training state of a run has `params` {'params', 'learned'}: the network's
  parameters and the compressor's `learned`; and `carried` {'collections',
  'compressor'}: the network's other collections and the compressor's `carried`.

  Args:
    network: what is trained.
    dataset: the training images.
    scaling: of pixels.
    tuning: options.
    compressor: the network computes with `compressor.apply(params, state)`, and
      `compressor.update` follows every update of the optimizer with `step`, the
      number of updates before it, and the gradients of `params`.
    loss: `(logits, labels) -> scalar` where there is no teacher.
    teacher: `images -> logits [B, K]` on the scaled, augmented images; the loss
      is then `distill.hinton_loss`. Its weights become constants of the step.
    penalty: `params -> scalar` in nats, added to the loss; `params` are those
      that are trained, before the compressor.
    after_update: `(state, *, grads, key) -> state` on the training state,
      after the compressor's update: re-masking, moments of what went.

  Returns:
    The trainer.
  """
  method = identity() if compressor is None else compressor
  steps = tuning.steps(len(dataset))
  loss_fn = _make_loss(network, method, tuning, loss, teacher, penalty)
  optimizer = make_optimizer(tuning, steps)

  def follow(state, *, grads, key):
    inner = State(state.params['learned'], state.carried['compressor'])
    inner = method.update(
      state.params['params'], inner, step=state.step, grads=grads['params']
    )
    state = state._replace(
      params={**state.params, 'learned': inner.learned},
      carried={**state.carried, 'compressor': inner.carried},
    )
    if after_update is not None:
      state = after_update(state, grads=grads, key=key)
    return state

  devices = _mesh(min(tuning.batch, len(dataset)))
  alone = train.jit_step(
    train.make_step(loss_fn, optimizer, after_update=follow), devices
  )
  together = train.jit_step(
    side_by_side.make_step(loss_fn, optimizer, after_update=follow),
    train.data_mesh(jax.devices()[:1]),
  )
  images = scaling(dataset.images)

  def batches(seed):
    return make_batches(
      dataset, images, scaling=scaling, tuning=tuning, seed=seed
    )

  def begin(variables, state):
    params = variables['params']
    state = method.init(params) if state is None else state
    collections = {k: v for k, v in variables.items() if k != 'params'}
    return (
      {'params': params, 'learned': state.learned},
      {'collections': collections, 'compressor': state.carried},
    )

  def end(params, carried, history):
    state = State(params['learned'], carried['compressor'])
    dense, others = params['params'], carried['collections']
    return Trained(
      variables={'params': dense, **others},
      compressed={'params': method.apply(dense, state), **others},
      state=state,
      history=history,
    )

  def fit(step, state, batch_fn, description, **options):
    state, history = train.fit(
      step,
      state,
      batch_fn,
      steps=steps,
      save_every=max(1, steps // 4),
      keep=1,
      description=description or network.name,
      **options,
    )
    # Off the mesh, so that what follows need not know of it.
    params, carried = jax.device_get((state.params, state.carried))
    return jax.tree.map(jnp.asarray, (params, carried)), history

  def run(
    variables,
    *,
    seed,
    state=None,
    folder=None,
    config=None,
    progress=True,
    description=None,
  ):
    params, carried = begin(variables, state)
    key = jax.random.key(seed)
    (params, carried), history = fit(
      alone,
      train.init_state(params, optimizer, carried, key),
      batches(seed),
      description,
      folder=folder,
      config=config,
      progress=progress,
    )
    return end(params, carried, history)

  def run_many(
    variables,
    *,
    seeds,
    states=None,
    folder=None,
    config=None,
    progress=True,
    description=None,
  ):
    states = [None] * len(seeds) if states is None else states
    starts = [begin(*x) for x in zip(variables, states, strict=True)]
    params, carried = side_by_side.stack(starts)
    key = jax.random.key(seeds[0])
    each = [batches(seed) for seed in seeds]
    (params, carried), history = fit(
      together,
      side_by_side.init_state(params, optimizer, carried, key),
      lambda step: side_by_side.stack([batch(step) for batch in each]),
      description,
      folder=folder,
      config=config,
      progress=progress,
    )
    parts = zip(
      side_by_side.unstack((params, carried), len(seeds)),
      side_by_side.split_history(history, len(seeds)),
      strict=True,
    )
    return [end(*found, records) for found, records in parts]

  return Trainer(run, run_many, steps)


def train_classifier(
  network: Classifier,
  variables: Any,
  dataset: ImageDataset,
  *,
  scaling: Scaling,
  tuning: Tuning,
  seed: int,
  compressor: Compressor | None = None,
  state: State | None = None,
  loss: Callable[[jax.Array, jax.Array], jax.Array] = distill.cross_entropy,
  teacher: Callable[[jax.Array], jax.Array] | None = None,
  penalty: Callable[[Any], jax.Array] | None = None,
  after_update: Callable[..., train.TrainState] | None = None,
  folder: str | pathlib.Path | None = None,
  config: dict[str, Any] | None = None,
  progress: bool = True,
  description: str | None = None,
) -> Trained:
  """Trains a network once; `make_trainer` compiles once for several runs.

  Args:
    network: what is trained.
    variables: its collections at the start; they stay valid.
    dataset: the training images.
    scaling: of pixels.
    tuning: options.
    seed: of the order and augmentation of the images.
    compressor: as in `make_trainer`.
    state: the compressor's state at the start; by default its `init`. A state
      of the same shapes shares the compilation of a trainer.
    loss: as in `make_trainer`.
    teacher: as in `make_trainer`.
    penalty: as in `make_trainer`.
    after_update: as in `make_trainer`.
    folder: of checkpoints and metrics; a run that was interrupted continues
      from there. None writes nothing.
    config: settings that tell this run from others in the folder.
    progress: show a bar.
    description: stands before the bar.

  Returns:
    The trained network, on the host.
  """
  trainer = make_trainer(
    network,
    dataset,
    scaling=scaling,
    tuning=tuning,
    compressor=compressor,
    loss=loss,
    teacher=teacher,
    penalty=penalty,
    after_update=after_update,
  )
  return trainer.run(
    variables,
    seed=seed,
    state=state,
    folder=folder,
    config=config,
    progress=progress,
    description=description,
  )


def _make_loss(network, method, tuning, loss, teacher, penalty):
  def loss_fn(params, carried, batch, key, *, axis_name=None):
    del key, axis_name
    state = State(params['learned'], carried['compressor'])
    seen = method.apply(params['params'], state)
    logits, collections = network.learn(
      {'params': seen, **carried['collections']}, batch['images']
    )
    labels = batch['labels']
    if teacher is None:
      value = loss(logits, labels)
    else:
      value = distill.hinton_loss(
        logits,
        teacher(batch['images']),
        labels,
        temperature=tuning.temperature,
        hard_weight=tuning.hard_weight,
      )
    answers = network.class_logits(logits).argmax(axis=-1)
    right = (answers.astype(labels.dtype) == labels).mean()
    metrics = {'accuracy': right}
    if penalty is not None:
      metrics['penalty'] = penalty(params['params'])
      value = value + metrics['penalty']
    return value, ({**carried, 'collections': collections}, metrics)

  return loss_fn


def _mesh(batch):
  """All devices, or as many as the batch can be dealt to evenly."""
  devices = jax.devices()
  count = max(n for n in range(1, len(devices) + 1) if batch % n == 0)
  return train.data_mesh(devices[:count])
