"""Where a convolution's window lies: taps, strides, padding, phases.

Shared by the convolutions written for CPUs (`depthwise`, `dense_conv`). Images
are `[N, H, W, C]`. Row `i` of the output reads row `strides * i + tap - low`
of the input, `low` being the padding before the first row; columns alike.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from compress.errors import InputError

DIMENSIONS = ('NHWC', 'HWIO', 'NHWC')


class Axis(NamedTuple):
  """One spatial axis of a convolution; static and hashable.

  Attributes:
    size: taps of the kernel.
    stride: input rows that one output row advances.
    low: rows padded before the first; negative crops.
    high: rows padded after the last; negative crops.
    length: input rows.
  """

  size: int
  stride: int
  low: int
  high: int
  length: int

  @property
  def out(self) -> int:
    """Output rows."""
    reach = self.length + self.low + self.high - self.size
    return max(reach // self.stride + 1, 0)

  @property
  def coarse(self) -> int:
    """Rows of one phase: `length / stride`, rounded up."""
    return -(-self.length // self.stride)

  def readers(self, phase: int) -> list[tuple[int, int]]:
    """Who reads the input rows `stride * q + phase`: taps and output rows.

    Returns:
      Pairs `(tap, shift)`: output row `q + shift` reads the row by that tap.
    """
    ahead = [(tap, phase + self.low - tap) for tap in range(self.size)]
    return [(t, a // self.stride) for t, a in ahead if a % self.stride == 0]


class Window(NamedTuple):
  """Both spatial axes."""

  rows: Axis
  columns: Axis

  @property
  def strides(self) -> tuple[int, int]:
    """Strides of rows and columns."""
    return self.rows.stride, self.columns.stride

  @property
  def padding(self) -> tuple[tuple[int, int], tuple[int, int]]:
    """Explicit padding of rows and columns."""
    return tuple((axis.low, axis.high) for axis in self)

  @property
  def pointwise(self) -> bool:
    """Whether each output pixel reads one input pixel."""
    return self.rows.size == 1 == self.columns.size


def window_of(
  x: jax.Array,
  w: jax.Array,
  strides: Sequence[int],
  padding: str | Sequence[tuple[int, int]],
) -> Window:
  """The window of a convolution of x `[B, H, W, C]` by w `[kh, kw, I, O]`.

  Args:
    x: images.
    w: kernel.
    strides: of rows and columns.
    padding: `'SAME'`, `'VALID'`, or `((low, high), (low, high))`.

  Returns:
    The window, its padding explicit.

  Raises:
    InputError: x or w is not of four axes, or their types differ.
  """
  if x.ndim != 4 or w.ndim != 4 or x.dtype != w.dtype:
    raise InputError(
      'a convolution takes x [B, H, W, C] and w [kh, kw, I, O] of one type; '
      f'got {x.dtype}{list(x.shape)} and {w.dtype}{list(w.shape)}'
    )
  if isinstance(padding, str):
    padding = lax.padtype_to_pads(x.shape[1:3], w.shape[:2], strides, padding)
  sides = zip(w.shape[:2], strides, padding, x.shape[1:3], strict=True)
  return Window(*(Axis(k, s, *pad, n) for k, s, pad, n in sides))


def padded(x: jax.Array, rows=(0, 0), columns=(0, 0)) -> jax.Array:
  """Zero-pads (or crops) the spatial axes of `[N, H, W, C]`."""
  config = ((0, 0, 0), (*rows, 0), (*columns, 0), (0, 0, 0))
  return lax.pad(x, jnp.zeros((), x.dtype), config)


def tap(xp: jax.Array, window: Window, a: int, b: int) -> jax.Array:
  """What tap (a, b) reads: padded images to `[N, Ho, Wo, C]`."""
  (sh, sw), (ho, wo) = window.strides, (axis.out for axis in window)
  limits = (len(xp), a + sh * (ho - 1) + 1, b + sw * (wo - 1) + 1, xp.shape[3])
  return lax.slice(xp, (0, a, b, 0), limits, (1, sh, sw, 1))


def images_at_once(batch: int, bytes_each: int, budget: int) -> int:
  """The largest divisor of the batch whose images fit in the budget."""
  fits = max(budget // max(bytes_each, 1), 1)
  return max(n for n in range(1, batch + 1) if batch % n == 0 and n <= fits)


def by_images(x: jax.Array, count: int) -> jax.Array:
  """`[B, ...]` to `[B / count, count, ...]`."""
  return x.reshape(len(x) // count, count, *x.shape[1:])


def map_images(
  f: Callable[[jax.Array], jax.Array], x: jax.Array, count: int
) -> jax.Array:
  """Applies `f` to `count` images at a time, so that they stay in cache."""
  out = lax.map(f, by_images(x, count))
  return out.reshape(len(x), *out.shape[2:])


def sum_images(
  f: Callable[..., Any], arrays: tuple[jax.Array, ...], count: int
):
  """Sums `f(*arrays)` over the batch, `count` images at a time."""
  arrays = tuple(by_images(x, count) for x in arrays)
  start = jax.tree.map(
    lambda s: jnp.zeros(s.shape, s.dtype),
    jax.eval_shape(f, *(x[0] for x in arrays)),
  )

  def step(total, images):
    return jax.tree.map(jnp.add, total, f(*images)), None

  return lax.scan(step, start, arrays)[0]


def interleaved(phases: list[list[jax.Array]], window: Window) -> jax.Array:
  """Puts `phases[r][c]` `[N, Hq, Wq, C]` at rows r, r + s, ... of images."""
  rows, columns = window
  lines = [line[0] if len(line) == 1 else jnp.stack(line, 3) for line in phases]
  x = lines[0] if len(lines) == 1 else jnp.stack(lines, 2)
  shape = (len(x), rows.coarse * rows.stride, columns.coarse * columns.stride)
  x = x.reshape(*shape, x.shape[-1])
  return x[:, : rows.length, : columns.length]


def wide(dtype: jax.typing.DTypeLike) -> jax.typing.DTypeLike:
  """The type to sum values of a type in: float32 at least."""
  return dtype if jnp.dtype(dtype).itemsize >= 4 else jnp.float32


def nbytes(shape: Sequence[int]) -> int:
  """Bytes of a float32 array."""
  return 4 * math.prod(shape)
