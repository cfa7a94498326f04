"""FitNets hints: a student's layer that foretells a teacher's.

Romero, Ballas, Kahou, Chassang, Gatta and Bengio 2015, 'FitNets: Hints for
Thin Deep Nets', arXiv:1412.6550, equation 3: in a first stage the student is
trained up to a guided layer v_g so that a regressor r, trained with it and then
thrown away, gives the teacher's hint layer u_h,

  L = 1/2 || u_h - r(v_g) ||^2 ;

in a second stage the whole student is trained by soft targets. Two regressors:
the paper's, whose kernel is as large as the maps differ, and the adapter of the
RepDistiller benchmark, which trains hints and labels together.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from compress.distill.maps import check_batches, check_reduction
from compress.errors import InputError

_VARIANCE_FLOOR = 1e-5


class Regressor(NamedTuple):
  """The paper's regressor: one convolution without padding, or one product."""

  kernel: jax.Array  # [kh, kw, C_s, C_t] for maps, [D_s, D_t] for vectors
  bias: jax.Array  # [C_t] or [D_t]


class Adapter(NamedTuple):
  """The benchmark's regressor of maps: convolution, BatchNorm, ReLU.

  Its BatchNorm is by the statistics of the batch and has no state: an adapter
  lives in training only. The convolution has no bias, which BatchNorm would
  take away.
  """

  kernel: jax.Array  # [kh, kw, C_s, C_t]
  scale: jax.Array  # [C_t]
  offset: jax.Array  # [C_t]


def init_regressor(
  key: jax.Array, *, student: Sequence[int], teacher: Sequence[int]
) -> Regressor:
  """A regressor from the guided layer to the hint, kernel ~ N(0, 1 / fan-in).

  For maps the kernel has k = N_g - N_h + 1 places on each axis, N_g of the
  student's map and N_h of the teacher's, and is applied without padding.

  Args:
    key: a `jax.random.key`.
    student: shape of the guided features without the batch, (H, W, C) or (D,).
    teacher: shape of the hint, of the same rank.

  Returns:
    Float32 parameters; the bias is 0.

  Raises:
    InputError: other ranks, or a student's map smaller than the teacher's.
  """
  student, teacher = _check_shapes(student, teacher)
  spread = ()
  if len(student) == 3:
    spread = tuple(n - m + 1 for n, m in zip(student, teacher, strict=True))[:2]
    if min(spread) < 1:
      raise InputError(
        f'guided maps {list(student)} and hints {list(teacher)}; right are '
        "guided maps at least as large as the teacher's"
      )
  kernel = _kernel(key, (*spread, student[-1], teacher[-1]))
  return Regressor(kernel, jnp.zeros(teacher[-1]))


def init_adapter(
  key: jax.Array, *, student: Sequence[int], teacher: Sequence[int]
) -> Adapter:
  """The benchmark's adapter of maps, kernel ~ N(0, 1 / fan-in).

  A student's map twice as large as the teacher's gets 3x3 kernels of stride 2,
  one half as large transposed 4x4 kernels of stride 2, any other that is not
  smaller a kernel as in `init_regressor`.

  Args:
    key: a `jax.random.key`.
    student: (H, W, C) of the student's maps.
    teacher: (H, W, C) of the teacher's.

  Returns:
    Float32 parameters; scale 1, offset 0.

  Raises:
    InputError: not maps, or sizes that none of the three fits.
  """
  student, teacher = _check_shapes(student, teacher)
  if len(student) != 3:
    raise InputError(f'an adapter of {list(student)}; right is (H, W, C)')
  size, _ = _geometry(student[:2], teacher[:2])
  channels = teacher[-1]
  return Adapter(
    _kernel(key, (*size, student[-1], channels)),
    jnp.ones(channels),
    jnp.zeros(channels),
  )


def regress(
  features: jax.Array, params: Regressor, *, relu: bool = False
) -> jax.Array:
  """What the regressor makes of the student's features.

  Args:
    features: `[B, H, W, C_s]` or `[B, D_s]`.
    params: of `init_regressor`.
    relu: whether the result is rectified; only hints without negative values
      can then be met.

  Returns:
    Float32 `[B, H - kh + 1, W - kw + 1, C_t]` or `[B, D_t]`.

  Raises:
    InputError: features that the kernel does not fit.
  """
  kernel = params.kernel.astype(jnp.float32)
  if features.ndim != kernel.ndim or features.shape[-1] != kernel.shape[-2]:
    raise InputError(
      f'features {list(features.shape)} for a kernel {list(kernel.shape)}; '
      'right are [B, H, W, C] or [B, D] of its input channels'
    )
  features = features.astype(jnp.float32)
  if features.ndim == 2:
    out = features @ kernel
  else:
    out = _convolve(features, kernel, padding='VALID')
  bias = params.bias.astype(jnp.float32)
  out += jnp.expand_dims(bias, tuple(range(out.ndim - 1)))
  return jax.nn.relu(out) if relu else out


def adapt(
  features: jax.Array,
  params: Adapter,
  *,
  places: tuple[int, int],
  relu: bool = True,
) -> jax.Array:
  """What the benchmark's adapter makes of the student's maps.

  Args:
    features: `[B, H, W, C_s]`.
    params: of `init_adapter`, for these sizes.
    places: (height, width) of the teacher's maps.
    relu: whether the result is rectified, as for hints; activation boundaries
      are learned without.

  Returns:
    Float32 `[B, height, width, C_t]`.

  Raises:
    InputError: features that the kernel does not fit.
  """
  kernel = params.kernel.astype(jnp.float32)
  if features.ndim != 4 or len(places) != 2:
    raise InputError(
      f'features {list(features.shape)} to {list(places)} places; right are '
      'maps [B, H, W, C] of both networks'
    )
  size, how = _geometry(features.shape[1:3], places)
  if kernel.shape[:3] != (*size, features.shape[-1]):
    raise InputError(
      f'maps {list(features.shape)} to {list(places)} places for a kernel '
      f'{list(kernel.shape)}; right is an adapter made for these sizes'
    )
  out = _convolve(features.astype(jnp.float32), kernel, **how)
  mean = out.mean((0, 1, 2), keepdims=True)
  variance = jnp.square(out - mean).mean((0, 1, 2), keepdims=True)
  out = (out - mean) * jax.lax.rsqrt(variance + _VARIANCE_FLOOR)
  scale, offset = (
    leaf.astype(jnp.float32)[None, None, None]
    for leaf in (params.scale, params.offset)
  )
  out = out * scale + offset
  return jax.nn.relu(out) if relu else out


def hint_loss(
  student: jax.Array,
  teacher: jax.Array,
  params: Regressor | Adapter | None = None,
  *,
  relu: bool = False,
  reduction: str = 'paper',
) -> jax.Array:
  """Squared distance of the teacher's hint from what the student foretells.

  Args:
    student: guided features `[B, H_s, W_s, C_s]` or `[B, D_s]`.
    teacher: hints `[B, H_t, W_t, C_t]` or `[B, D_t]`; without gradient.
    params: a regressor, an adapter, or None where the shapes agree.
    relu: whether a regressor is rectified; an adapter always is.
    reduction: 'paper', half the squared norm of each image's difference, mean
      over the batch; or 'reference' (RepDistiller), the mean over all elements,
      smaller by H W C / 2.

  Returns:
    Float32 scalar >= 0.

  Raises:
    InputError: shapes that do not fit, or another reduction.
  """
  check_reduction(reduction)
  check_batches(student, teacher)
  if isinstance(params, Adapter):
    ours = adapt(student, params, places=teacher.shape[1:-1])
  elif params is None:
    ours = student.astype(jnp.float32)
  else:
    ours = regress(student, params, relu=relu)
  if ours.shape != teacher.shape:
    raise InputError(
      f'hints {list(teacher.shape)} and {list(ours.shape)} of the student; '
      'right is the same shape, by a regressor where it differs'
    )
  gap = jnp.square(ours - jax.lax.stop_gradient(teacher.astype(jnp.float32)))
  if reduction == 'reference':
    return gap.mean()
  return gap.sum() / (2 * student.shape[0])


def _check_shapes(student, teacher):
  student, teacher = tuple(student), tuple(teacher)
  if len(student) not in (1, 3) or len(student) != len(teacher):
    raise InputError(
      f'features {list(student)} of the student and {list(teacher)} of the '
      'teacher; right are (H, W, C) or (D,) for both'
    )
  return student, teacher


def _kernel(key, shape):
  fan_in = math.prod(shape[:-1])
  return jax.random.normal(key, shape) / math.sqrt(fan_in)


def _convolve(maps, kernel, *, strides=(1, 1), padding, dilation=(1, 1)):
  return jax.lax.conv_general_dilated(
    maps,
    kernel,
    strides,
    padding,
    lhs_dilation=dilation,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )


def _geometry(student, teacher):
  """Kernel size of an adapter, and how it is applied, from two sizes."""
  pairs = list(zip(student, teacher, strict=True))
  if all(n == 2 * m for n, m in pairs):
    return (3, 3), {'strides': (2, 2), 'padding': ((1, 1), (1, 1))}
  if all(2 * n == m for n, m in pairs):
    return (4, 4), {'dilation': (2, 2), 'padding': ((2, 2), (2, 2))}
  if all(n >= m for n, m in pairs):
    return tuple(n - m + 1 for n, m in pairs), {'padding': 'VALID'}
  raise InputError(
    f'maps of {list(student)} places for {list(teacher)} of the teacher; right '
    'is half as many, or at least as many'
  )
