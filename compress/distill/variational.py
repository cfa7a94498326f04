"""Variational information distillation: a Gaussian guess of the teacher.

Ahn, Hu, Damianou, Lawrence and Dai 2019, 'Variational Information Distillation
for Knowledge Transfer', arXiv:1904.05835, equations 3 to 5. The information
that student and teacher share is at least what a model of the teacher's
features given the student's can tell; the model is a Gaussian whose mean is a
small network of the student's features and whose variance is learned for each
channel, so that channels which the student cannot foretell cost little:

  L = 1/2 [(t - mu(s))^2 / v + log v] ,  v = softplus(a) + 1e-5 .
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from compress.distill.maps import check_batches, check_reduction, match_places
from compress.errors import InputError

_LEAST_VARIANCE = 1e-5


class Variational(NamedTuple):
  """Parameters of the guess."""

  kernels: tuple[jax.Array, ...]  # 1x1 convolutions, [C_in, C_out] each
  spread: jax.Array  # a, [C_t]


def init_variational(
  key: jax.Array,
  *,
  student: int,
  teacher: int,
  width: int | None = None,
  variance: float = 5.0,
) -> Variational:
  """Three 1x1 convolutions with ReLU between them, and one variance for all.

  Args:
    key: a `jax.random.key`.
    student: C_s.
    teacher: C_t.
    width: channels between; those of the teacher by default.
    variance: v of every channel, above 1e-5.

  Returns:
    Float32 parameters; kernels ~ N(0, 2 / C_in) and no biases.

  Raises:
    InputError: the variance is not above 1e-5.
  """
  if not variance > _LEAST_VARIANCE:
    raise InputError(f'variance is {variance}; it must be above 1e-5')
  width = teacher if width is None else width
  widths = [student, width, width, teacher]
  keys = jax.random.split(key, 3)
  kernels = tuple(
    jax.random.normal(keys[i], (widths[i], widths[i + 1]))
    * math.sqrt(2 / widths[i])
    for i in range(3)
  )
  above = variance - _LEAST_VARIANCE
  return Variational(
    kernels, jnp.full(teacher, above + math.log(-math.expm1(-above)))
  )


def learned_variance(params: Variational) -> jax.Array:
  """The variance v of every channel of the teacher.

  Args:
    params: of `init_variational`.

  Returns:
    Float32 `[C_t]`, 1e-5 or more.
  """
  return jax.nn.softplus(params.spread.astype(jnp.float32)) + _LEAST_VARIANCE


def variational_loss(
  student: jax.Array,
  teacher: jax.Array,
  params: Variational,
  *,
  reduction: str = 'paper',
) -> jax.Array:
  """Negative log-likelihood of the teacher's features, less its constant.

  Where the guess is right the value is log(v) / 2 an element; over v it is
  least where v is the mean squared error.

  Args:
    student: `[B, H_s, W_s, C_s]` or `[B, C_s]`.
    teacher: `[B, H_t, W_t, C_t]` or `[B, C_t]`; without gradient. The larger
      map is averaged to the size of the smaller.
    params: of `init_variational`; with no kernels, mu(s) = s.
    reduction: 'paper', the sum over the elements of an image, mean over the
      batch; or 'reference' (the authors' code, RepDistiller), the mean over all
      elements.

  Returns:
    Float32 scalar, of either sign.

  Raises:
    InputError: shapes that do not fit, or another reduction.
  """
  check_reduction(reduction)
  check_batches(student, teacher)
  teacher = jax.lax.stop_gradient(teacher.astype(jnp.float32))
  mean = student.astype(jnp.float32)
  if mean.ndim == teacher.ndim == 4:
    mean, teacher = match_places(mean, teacher)
  places = math.prod(teacher.shape[1:-1])
  # Rows, not maps: on a CPU their products take two thirds of the time.
  mean = mean.reshape(-1, mean.shape[-1])
  for i, kernel in enumerate(params.kernels):
    if mean.shape[-1] != kernel.shape[0]:
      raise InputError(
        f'features {list(student.shape)}, {mean.shape[-1]} channels for a '
        f'kernel {list(kernel.shape)}; right are its input channels last'
      )
    mean = jax.nn.relu(mean) if i else mean
    mean = jnp.matmul(mean, kernel.astype(jnp.float32))
  teacher = teacher.reshape(-1, teacher.shape[-1])
  if mean.shape != teacher.shape or params.spread.shape != teacher.shape[-1:]:
    raise InputError(
      f'a guess {list(mean.shape)} of {list(teacher.shape)}, variances '
      f'{list(params.spread.shape)}; right are the channels of the teacher'
    )
  variance = learned_variance(params)
  errors = jnp.square(teacher - mean).mean(axis=0)
  terms = (errors / variance + jnp.log(variance)) / 2
  return terms.mean() if reduction == 'reference' else places * terms.sum()
