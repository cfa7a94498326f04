"""Students of fixed inputs: what the teacher says of them is computed once.

All students of a network, alone, by plain distillation, on inputs of any kind,
are trained by one compiled step for as many updates: the weight of the labels
is data.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compress import distill, train
from experiments.classification.networks import Classifier
from experiments.classification.tuning import Tuning, make_optimizer


def make_pupil(
  network: Classifier,
  *,
  tuning: Tuning,
  steps: int,
  progress: bool = True,
) -> Callable[..., Any]:
  """Prepares the training of a student.

  The loss is `w CE(labels) + (1 - w) T^2 KL(teacher || student)`, Hinton's mix
  (arXiv:1503.02531).

  Args:
    network: the student.
    tuning: batch size, optimizer, temperature.
    steps: updates of a run.
    progress: show a bar.

  Returns:
    `(variables, images, teacher, labels, *, hard_weight, seed, description) ->
    variables`: images float32 [N, H, W, C], the teacher's logits [N, K], int32
    labels [N] and the weight w of these, 0..1; all on the host.
  """
  optimizer = make_optimizer(tuning, steps)

  def loss_fn(params, carried, batch, key, *, axis_name=None):
    del key, axis_name
    logits, collections = network.learn(
      {'params': params, **carried['collections']}, batch['images']
    )
    hard = distill.cross_entropy(logits, batch['labels'])
    soft = distill.soft_target_loss(
      logits, batch['teacher'], temperature=tuning.temperature
    )
    weight = carried['hard_weight']
    loss = weight * hard + (1 - weight) * soft
    return loss, ({**carried, 'collections': collections}, {})

  step = train.jit_step(
    train.make_step(loss_fn, optimizer), train.data_mesh(jax.devices()[:1])
  )

  def learn(
    variables, images, teacher, labels, *, hard_weight, seed, description
  ):
    arrays = {'images': images, 'teacher': teacher, 'labels': labels}
    collections = {k: v for k, v in variables.items() if k != 'params'}
    state = train.init_state(
      variables['params'],
      optimizer,
      {
        'collections': collections,
        'hard_weight': jnp.float32(hard_weight),
      },
      jax.random.key(seed),
    )
    state, _ = train.fit(
      step,
      state,
      train.array_batches(
        arrays, batch=min(tuning.batch, len(images)), seed=seed, last='wrap'
      ),
      steps=steps,
      progress=progress,
      description=description,
    )
    params, carried = jax.device_get((state.params, state.carried))
    found = {'params': params, **carried['collections']}
    return jax.tree.map(jnp.asarray, found)

  return learn


def make_answers(
  apply: Callable[[Any, jax.Array], Any], *, batch: int = 256
) -> Callable[[Any, np.ndarray], Any]:
  """Compiles a network for float images.

  Args:
    apply: `(variables, images) -> logits [B, K]`, or a tree of arrays [B, ...].
    batch: images at once; the last batch is filled up.

  Returns:
    `(variables, float32 [N, H, W, C]) -> float32 [N, K]`, on the host, N at
    least 1; or the tree, of arrays [N, ...].
  """
  compiled = jax.jit(apply)

  def answers(variables, images):
    parts = []
    for start in range(0, len(images), batch):
      part = images[start : start + batch]
      filled = np.resize(part, (batch, *part.shape[1:]))
      parts.append(jax.device_get(compiled(variables, filled)))
    count = len(images)
    return jax.tree.map(lambda *x: np.concatenate(x)[:count], *parts)

  return answers
