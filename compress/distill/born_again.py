"""Born-again networks: a student as large as its teacher, and so on.

Furlanello, Lipton, Tschannen, Itti, Anandkumar 2018, 'Born-Again Neural
Networks', arXiv:1805.04770. Generation 0 learns from labels; generation k has
the same architecture, other initial weights, and the teacher k - 1:

  L_k = CE(y, p_k) + CE(p_{k-1}, p_k) ,  at temperature 1.

Two controls ask what of a teacher helps. CWTM (confidence-weighted by teacher
max) leaves of it how sure it is of an image, DKPP (dark knowledge with permuted
predictions) all probabilities but which of the wrong classes has which:

  CWTM: sum_b w_b CE(y_b, p_b) ,  w_b = max p_t,b / sum_b' max p_t,b' ,
  DKPP: CE(t_b, p_b) ,  t_b = p_t,b with all but the largest shuffled.

`ensemble_probabilities` averages the generations. The paper's DenseNets gain
most from the first generation or two. Losses are float32 scalars, means over
the batch; teachers carry no gradient and may be one-hot (logits of -inf).
"""

from collections.abc import Callable
from typing import Any, TypeVar

import chex
import jax
import jax.numpy as jnp

from compress.distill.response import (
  cross_entropy,
  pick,
  soft_cross_entropy,
)
from compress.errors import InputError

Model = TypeVar('Model')


def born_again_loss(
  student: jax.Array,
  teacher: jax.Array,
  labels: jax.Array,
  *,
  label_weight: float = 1.0,
) -> jax.Array:
  """Labels' and teacher's cross-entropy, L_k above.

  Args:
    student: logits `[B, C]`.
    teacher: logits `[B, C]` of the generation before.
    labels: int `[B]`.
    label_weight: of the labels' term, 0 or more; 0 is the paper's variant
      without labels.

  Returns:
    Float32 scalar, at least the teacher's entropy; nats.

  Raises:
    InputError: a weight below 0.
  """
  if not label_weight >= 0:
    raise InputError(f'label_weight is {label_weight}; right is 0 or more')
  chex.assert_equal_shape([student, teacher])
  soft = soft_cross_entropy(student, _probabilities(teacher)).mean()
  return label_weight * cross_entropy(student, labels) + soft


def confidence_weights(teacher: jax.Array) -> jax.Array:
  """The weights w of CWTM, over the global batch.

  Args:
    teacher: logits `[B, C]`.

  Returns:
    Float32 `[B]`, summing to 1; 1 / B where the teacher is equally sure.
  """
  chex.assert_rank(teacher, 2)
  most = _probabilities(teacher).max(axis=1)
  return most / most.sum()


def confidence_weighted_loss(
  student: jax.Array, teacher: jax.Array, labels: jax.Array
) -> jax.Array:
  """CWTM: the labels' cross-entropy, images weighed by the teacher's surety.

  Args:
    student: logits `[B, C]`.
    teacher: logits `[B, C]`.
    labels: int `[B]`; one that is no class makes the loss NaN.

  Returns:
    Float32 scalar >= 0, nats.
  """
  chex.assert_equal_shape([student, teacher])
  log_q = jax.nn.log_softmax(student.astype(jnp.float32))
  return -(confidence_weights(teacher) * pick(log_q, labels)).sum()


def permuted_targets(key: jax.Array, teacher: jax.Array) -> jax.Array:
  """DKPP's targets: the largest probability stays, the others are shuffled.

  Args:
    key: of the permutations, another one for every image.
    teacher: logits `[B, C]`. Of equally large ones the first stays.

  Returns:
    Float32 `[B, C]`; rows have the teacher's probabilities in another order.
  """
  chex.assert_rank(teacher, 2)
  p = _probabilities(teacher)
  top = jax.nn.one_hot(p.argmax(axis=1), p.shape[1], dtype=bool)
  drawn = jax.random.uniform(key, p.shape)
  # Both orders begin with the largest, which therefore keeps its place.
  shuffled = jnp.argsort(jnp.where(top, -1.0, drawn), axis=1)
  places = jnp.arange(p.shape[1], dtype=jnp.int32)[None]
  ordered = jnp.argsort(jnp.where(top, -1, places), axis=1)
  taken = jnp.take_along_axis(p, shuffled, axis=1)
  return jnp.take_along_axis(taken, jnp.argsort(ordered, axis=1), axis=1)


def permuted_predictions_loss(
  student: jax.Array, teacher: jax.Array, *, key: jax.Array
) -> jax.Array:
  """DKPP: cross-entropy to `permuted_targets`.

  Args:
    student: logits `[B, C]`.
    teacher: logits `[B, C]`.
    key: of the permutations; another one every step.

  Returns:
    Float32 scalar, at least the teacher's entropy; nats.
  """
  chex.assert_equal_shape([student, teacher])
  return soft_cross_entropy(student, permuted_targets(key, teacher)).mean()


def generations(
  train: Callable[..., Model],
  *,
  count: int,
  key: jax.Array,
  first: Model | None = None,
) -> tuple[Model, ...]:
  """Trains generation after generation, each taught by the one before.

  Args:
    train: `(teacher, *, generation, key) -> model`; `teacher` is None for
      generation 0, and the key another one for each. Nothing of a teacher but
      its answers is to be taken over, its BatchNorm statistics least of all.
    count: generations after the first teacher, 0 or more.
    key: split by generation.
    first: generation 0, if it is there already; it is then not trained.

  Returns:
    `count + 1` models, generation 0 first.

  Raises:
    InputError: a count below 0.
  """
  if count < 0:
    raise InputError(f'count is {count}; right is 0 generations or more')

  def one(teacher: Any, number: int):
    fresh = jax.random.fold_in(key, number)
    return train(teacher, generation=number, key=fresh)

  found = [one(None, 0) if first is None else first]
  for number in range(1, count + 1):
    found.append(one(found[-1], number))
  return tuple(found)


def _probabilities(teacher):
  return jax.nn.softmax(jax.lax.stop_gradient(teacher.astype(jnp.float32)))
