"""Activation boundaries: which neurons fire, not how strongly.

Heo, Lee, Yun and Choi 2019, 'Knowledge Transfer via Distillation of Activation
Boundaries Formed by Hidden Neurons', arXiv:1811.03233, equations 6 and 7. A
student's pre-activation s is pushed to the teacher's side of zero with a
margin, whatever the teacher's value t:

  (s + m)^2 [s > -m, t <= 0] + (s - m)^2 [s <= m, t > 0] .

It is a first stage of training, before labels, on features ahead of their ReLU.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from compress.distill.hints import Adapter, adapt, init_adapter
from compress.distill.maps import check_batches, check_reduction
from compress.errors import InputError


def init_connectors(
  key: jax.Array,
  *,
  student: Sequence[Sequence[int]],
  teacher: Sequence[Sequence[int]],
) -> tuple[Adapter | None, ...]:
  """An adapter for each stage whose shape differs from the teacher's.

  Args:
    key: a `jax.random.key`.
    student: (H, W, C) of each stage, from input to output.
    teacher: as many.

  Returns:
    For each stage the parameters of `init_adapter`, or None where the shapes
    agree. They are applied without ReLU.

  Raises:
    InputError: other numbers of stages, or sizes that no adapter fits.
  """
  _check_stages(student, teacher)
  keys = jax.random.split(key, len(student))
  return tuple(
    None
    if tuple(ours) == tuple(theirs)
    else init_adapter(keys[i], student=ours, teacher=theirs)
    for i, (ours, theirs) in enumerate(zip(student, teacher, strict=True))
  )


def boundary_loss(
  student: Sequence[jax.Array],
  teacher: Sequence[jax.Array],
  params: Sequence[Adapter | None] | None = None,
  *,
  margin: float = 1.0,
  reduction: str = 'paper',
) -> jax.Array:
  """Squared distance to the teacher's side of zero, over stages and neurons.

  Of n stages, stage i has the weight 2^(i - n + 1): the last 1, each before it
  half of the next.

  Args:
    student: pre-activations of each stage, `[B, ..., C]`.
    teacher: as many, those of the teacher; without gradient.
    params: of `init_connectors`; None where all shapes agree.
    margin: m, above 0.
    reduction: 'paper', the sum over neurons, mean over the batch; or
      'reference' (RepDistiller), that times 3 / 1000.

  Returns:
    Float32 scalar >= 0; 0 where every neuron is on its side by the margin,
    which a student equal to its teacher need not be.

  Raises:
    InputError: stages that do not fit, or other options.
  """
  check_reduction(reduction)
  if not margin > 0:
    raise InputError(f'margin is {margin}; it must be above 0')
  _check_stages(student, teacher)
  params = (None,) * len(student) if params is None else params
  if len(params) != len(student):
    raise InputError(
      f'{len(params)} connectors for {len(student)} stages; right is as many'
    )
  total = jnp.zeros(())
  for stage, (ours, theirs, connector) in enumerate(
    zip(student, teacher, params, strict=True)
  ):
    check_batches(ours, theirs)
    if connector is not None:
      ours = adapt(ours, connector, places=theirs.shape[1:3], relu=False)
    if ours.shape != theirs.shape:
      raise InputError(
        f'stage {stage}: features {list(ours.shape)} of the student and '
        f'{list(theirs.shape)} of the teacher; right are the same, by a '
        'connector where they differ'
      )
    weight = 2.0 ** (stage - len(student) + 1)
    total += weight * _outside(ours.astype(jnp.float32), theirs, margin)
  total /= len(student[0])
  return total * 3 / 1000 if reduction == 'reference' else total


def _outside(student, teacher, margin):
  """The sum over elements; max(., 0) squared has a derivative everywhere."""
  fires = jax.lax.stop_gradient(teacher.astype(jnp.float32)) > 0
  short = jnp.where(fires, margin - student, margin + student)
  return jnp.square(jnp.maximum(short, 0.0)).sum()


def _check_stages(student, teacher):
  if not student or len(student) != len(teacher):
    raise InputError(
      f'{len(student)} stages of the student and {len(teacher)} of the '
      'teacher; right is as many, at least one'
    )
