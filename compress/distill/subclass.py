r"""Classes split by the teacher into subclasses of its own invention.

Mueller, Kornblith and Hinton (2020), "Subclass Distillation",
arXiv:2002.03936. With few classes the teacher's answer says little. It is given
several logits a class, is taught with the classes' labels only, through the sum
of a class's probabilities, and an auxiliary loss spreads the batch over the
subclasses. The student learns the distribution over all subclasses:

  p(c) = sum over the subclasses s of c of softmax(z)_s ,
  L_teacher = CE(y, p) + beta L_aux ,
  L_aux = mean_i log mean_j exp(v_i . v_j / T_a) - 1 / T_a ,  v = z / ||z|| ,
  L_student = (1 - a) CE(y, p_s) + a T^2 KL(q_t(T) || q_s(T)) ,

q being over subclasses. `owners` names the class of every subclass: `(0, 0, 1,
1, 1)` has two of class 0 and three of class 1. L_aux sees pairs of the batch:
under `jit` over a mesh, of the global batch.

A deployed student needs the classes only: `fold_subclasses` after its head.
"""

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np

from compress.distill.embedding import normalize
from compress.distill.response import (
  check_temperature,
  cross_entropy,
  soft_target_loss,
)
from compress.errors import InputError


def even_owners(*, classes: int, subclasses: int) -> tuple[int, ...]:
  """Owners with the same number of subclasses in every class.

  Args:
    classes: C.
    subclasses: of each class, S; the subclasses of class c are at cS..cS+S-1.

  Returns:
    C * S class indices.
  """
  return tuple(int(c) for c in np.repeat(np.arange(classes), subclasses))


def fold_subclasses(logits: jax.Array, owners: Sequence[int]) -> jax.Array:
  """Class logits, whose softmax is the sum of the subclasses' probabilities.

  Args:
    logits: of the subclasses, `[B, K]`.
    owners: the class of each, K integers; 0..C-1 all occur.

  Returns:
    Float32 `[B, C]`, log-sum-exp over the subclasses of each class.

  Raises:
    InputError: owners that do not fit the logits, or a class without any.
  """
  chex.assert_rank(logits, 2)
  owners = np.asarray(owners, np.int64)
  classes = np.unique(owners)
  if owners.shape != logits.shape[1:] or not np.array_equal(
    classes, np.arange(len(classes))
  ):
    raise InputError(
      f'owners {owners.tolist()} of {logits.shape[1]} subclass logits; right '
      'is a class for each, with no class left out'
    )
  logits = logits.astype(jnp.float32)
  folded = [
    jax.nn.logsumexp(logits[:, np.flatnonzero(owners == c)], axis=1)
    for c in classes
  ]
  return jnp.stack(folded, axis=1)


def spread_loss(logits: jax.Array, *, temperature: float = 1.0) -> jax.Array:
  """How much alike a batch's logits are in direction; L_aux above.

  0 where all rows point the same way, its maximum; above `-log B`. Rows of
  zeros have no direction: cosine 0 to all, no gradient.

  Args:
    logits: of the subclasses, `[B, K]`.
    temperature: T_a > 0.

  Returns:
    Float32 scalar <= 0, in nats.

  Raises:
    InputError: the temperature is not finite and above 0.
  """
  chex.assert_rank(logits, 2)
  check_temperature(temperature)
  unit = normalize(logits)
  cosines = jnp.matmul(unit, unit.T, precision='highest')
  # 1 / T_a goes inside: identical rows then give 0, not a rounding of it.
  alike = jax.nn.logsumexp((cosines - 1) / temperature, axis=1)
  return jnp.mean(alike) - jnp.log(jnp.float32(len(logits)))


def subclass_teacher_loss(
  logits: jax.Array,
  labels: jax.Array,
  owners: Sequence[int],
  *,
  spread_weight: float = 0.1,
  spread_temperature: float = 1.0,
) -> jax.Array:
  """What a teacher with subclasses is trained by.

  Neither the weight nor the temperature is the paper's: it searches both.

  Args:
    logits: of the subclasses, `[B, K]`.
    labels: classes 0..C-1, int `[B]`.
    owners: the class of each subclass.
    spread_weight: beta, 0 or more.
    spread_temperature: T_a > 0.

  Returns:
    Float32 scalar.

  Raises:
    InputError: a weight below 0, a temperature not finite and above 0, bad
      owners.
  """
  if not spread_weight >= 0:
    raise InputError(f'spread_weight is {spread_weight}; right is 0 or more.')
  hard = cross_entropy(fold_subclasses(logits, owners), labels)
  spread = spread_loss(logits, temperature=spread_temperature)
  return hard + spread_weight * spread


def subclass_loss(
  student: jax.Array,
  teacher: jax.Array,
  labels: jax.Array,
  owners: Sequence[int],
  *,
  temperature: float = 4.0,
  soft_weight: float = 0.9,
) -> jax.Array:
  """What the student is taught: all subclasses, and the labels.

  The soft term is the divergence; the cross-entropy of the paper has the same
  gradient. The defaults are those of `hinton_loss`, not the paper's.

  Args:
    student: logits of the subclasses, `[B, K]`.
    teacher: the same, without gradient.
    labels: classes 0..C-1, int `[B]`.
    owners: the class of each subclass.
    temperature: T > 0 of the soft term.
    soft_weight: a, the divergence's share, 0..1, the labels having the rest.

  Returns:
    Float32 scalar >= 0.

  Raises:
    InputError: an option out of its range, bad owners.
  """
  if not 0 <= soft_weight <= 1:
    raise InputError(f'soft_weight is {soft_weight}; it must be in 0..1.')
  soft = soft_target_loss(student, teacher, temperature=temperature)
  hard = cross_entropy(fold_subclasses(student, owners), labels)
  return (1 - soft_weight) * hard + soft_weight * soft
