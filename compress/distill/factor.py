"""Factor transfer: features of the teacher in the student's words.

Kim, Park and Kwak 2018, 'Paraphrasing Complex Network: Network Compression via
Factor Transfer', arXiv:1802.04977. First a paraphraser, a convolutional
autoencoder, is trained without labels to give the teacher's maps back from
fewer channels, its factors; then the student learns together with a translator
whose factors are to be the teacher's:

  L_rec = | x - P(x) |^2 ,   L_FT = | F_t / |F_t|_2 - F_s / |F_s|_2 |_p .

Every layer is a 3x3 convolution with a leaky ReLU of slope 0.1; those of the
translator have a BatchNorm between, by the statistics of the batch and without
state, since both are for training only.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from compress.distill.embedding import normalize
from compress.distill.maps import check_reduction, match_places
from compress.errors import InputError

_SLOPE = 0.1
_VARIANCE_FLOOR = 1e-5


class Layer(NamedTuple):
  """One convolution of a paraphraser."""

  kernel: jax.Array  # [3, 3, C_in, C_out]
  bias: jax.Array  # [C_out]


class NormalizedLayer(NamedTuple):
  """One convolution of a translator, with its BatchNorm."""

  kernel: jax.Array  # [3, 3, C_in, C_out]
  scale: jax.Array  # [C_out]
  offset: jax.Array  # [C_out]


class Paraphraser(NamedTuple):
  """An autoencoder of the teacher's maps."""

  encoder: tuple[Layer, ...]
  decoder: tuple[Layer, ...]


class Translator(NamedTuple):
  """The student's side of a paraphraser's encoder."""

  encoder: tuple[NormalizedLayer, ...]


def init_paraphraser(
  key: jax.Array, *, channels: int, rate: float = 0.5
) -> Paraphraser:
  """A paraphraser to int(rate * channels) factors and back, three layers each.

  Args:
    key: a `jax.random.key`.
    channels: C of the teacher's maps.
    rate: factors for each channel; RepDistiller has .5.

  Returns:
    Float32 parameters; kernels ~ N(0, 2 / fan-in), biases 0. The decoder's
    convolutions are plain: at stride 1 transposed ones are the same.

  Raises:
    InputError: a rate that leaves no factor.
  """
  factors = _factors(channels, rate)
  keys = jax.random.split(key, 6)
  widths = [channels, channels, factors, factors, factors, channels, channels]
  layers = tuple(
    Layer(_kernel(keys[i], widths[i], widths[i + 1]), jnp.zeros(widths[i + 1]))
    for i in range(6)
  )
  return Paraphraser(layers[:3], layers[3:])


def init_translator(
  key: jax.Array, *, student: int, teacher: int, rate: float = 0.5
) -> Translator:
  """A translator from the student's channels to the teacher's factors.

  Args:
    key: a `jax.random.key`.
    student: C_s of the student's maps.
    teacher: C_t of the teacher's.
    rate: that of the paraphraser.

  Returns:
    Float32 parameters; kernels ~ N(0, 2 / fan-in), scales 1, offsets 0.

  Raises:
    InputError: a rate that leaves no factor.
  """
  factors = _factors(teacher, rate)
  keys = jax.random.split(key, 3)
  widths = [student, student, factors, factors]
  return Translator(
    tuple(
      NormalizedLayer(
        _kernel(keys[i], widths[i], widths[i + 1]),
        jnp.ones(widths[i + 1]),
        jnp.zeros(widths[i + 1]),
      )
      for i in range(3)
    )
  )


def extract_factors(
  maps: jax.Array, params: Paraphraser | Translator
) -> jax.Array:
  """The factors of a network's maps.

  Args:
    maps: `[B, H, W, C]`.
    params: the teacher's paraphraser, or the student's translator.

  Returns:
    Float32 `[B, H, W, factors]`.

  Raises:
    InputError: maps of other channels.
  """
  return _apply(maps, params.encoder)


def reconstruction_loss(teacher: jax.Array, params: Paraphraser) -> jax.Array:
  """What a paraphraser is trained by: mean squared error of the teacher's maps.

  The paper writes the squared norm; the mean over elements is smaller by the
  elements of an image.

  Args:
    teacher: `[B, H, W, C]`; without gradient.
    params: of `init_paraphraser`.

  Returns:
    Float32 scalar >= 0.

  Raises:
    InputError: maps of other channels.
  """
  teacher = jax.lax.stop_gradient(teacher.astype(jnp.float32))
  back = _apply(_apply(teacher, params.encoder), params.decoder)
  return jnp.square(back - teacher).mean()


def factor_loss(
  student: jax.Array,
  teacher: jax.Array,
  translator: Translator | None = None,
  paraphraser: Paraphraser | None = None,
  *,
  reduction: str = 'paper',
  power: int = 1,
) -> jax.Array:
  """Distance of the translated factors from the paraphrased ones.

  Args:
    student: `[B, H_s, W_s, C_s]`.
    teacher: `[B, H_t, W_t, C_t]`; the larger factors are averaged to the size
      of the smaller.
    translator: of the student; None where the maps are factors already.
    paraphraser: of the teacher, as trained by `reconstruction_loss`; None where
      the maps are factors already. Neither it nor the teacher has a gradient.
    reduction: 'paper', factors flattened and scaled to unit norm, the sum over
      them of |difference|^power, mean over the batch; or 'reference'
      (RepDistiller), the mean over factors of their squares before scaling to
      unit norm, and the mean over all elements.
    power: p, 1 or 2.

  Returns:
    Float32 scalar >= 0. With power 1 the gradient at equal factors is 0.

  Raises:
    InputError: shapes that do not fit, or other options.
  """
  check_reduction(reduction)
  if power not in (1, 2):
    raise InputError(f'power is {power}; right is 1 or 2')
  if translator is not None:
    student = extract_factors(student, translator)
  if paraphraser is not None:
    teacher = extract_factors(teacher, paraphraser)
  student, teacher = match_places(student, jax.lax.stop_gradient(teacher))
  if reduction == 'reference':
    student = jnp.square(student).mean(-1)
    teacher = jnp.square(teacher).mean(-1)
  elif student.shape != teacher.shape:
    raise InputError(
      f'factors {list(student.shape)} of the student and '
      f'{list(teacher.shape)} of the teacher; right are the same'
    )
  ours, theirs = (
    normalize(side.reshape(len(side), -1)) for side in (student, teacher)
  )
  gap = ours - theirs
  # JAX has a slope of 1 for abs(0); this form has none.
  gap = gap * jnp.sign(gap) if power == 1 else jnp.square(gap)
  return gap.mean() if reduction == 'reference' else gap.sum(1).mean()


def _factors(channels, rate):
  count = int(rate * channels)
  if count < 1:
    raise InputError(
      f'rate {rate} of {channels} channels; right leaves a factor or more'
    )
  return count


def _kernel(key, inputs, outputs):
  return jax.random.normal(key, (3, 3, inputs, outputs)) * math.sqrt(
    2 / (9 * inputs)
  )


def _channels(leaf):
  return leaf.astype(jnp.float32)[None, None, None]


def _apply(maps, layers):
  maps = maps.astype(jnp.float32)
  for layer in layers:
    kernel = layer.kernel.astype(jnp.float32)
    if maps.ndim != 4 or maps.shape[-1] != kernel.shape[2]:
      raise InputError(
        f'maps {list(maps.shape)} for a kernel {list(kernel.shape)}; right is '
        '[B, H, W, C] of its input channels'
      )
    maps = jax.lax.conv_general_dilated(
      maps, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )
    if isinstance(layer, NormalizedLayer):
      mean = maps.mean((0, 1, 2), keepdims=True)
      variance = jnp.square(maps - mean).mean((0, 1, 2), keepdims=True)
      maps = (maps - mean) * jax.lax.rsqrt(variance + _VARIANCE_FLOOR)
      maps = maps * _channels(layer.scale) + _channels(layer.offset)
    else:
      maps += _channels(layer.bias)
    maps = jax.nn.leaky_relu(maps, _SLOPE)
  return maps
