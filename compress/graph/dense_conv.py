"""Dense convolution with gradients that are fast on CPUs.

XLA's CPU library computes the weight gradient of a convolution as a
convolution whose window is the whole image, and that of a strided one's input
by a dilated convolution: both slow where images are large. Here they are
matrix products, large ones, of a few images at a time:

* weight gradient: the input shifted by each column of the kernel, `[P, kw*I]`
  over the pixels P, and the output's gradient shifted by each row, `[P,
  kh*O]`; their one product holds every tap's gradient. A stride splits the
  rows into phases.
* strided forward: the taps side by side, `[P, kh*kw*I]`, times the kernel.
* strided input gradient: for each row phase, the output gradients that reach
  it side by side, times a kernel that makes all column phases at once.
* 1 x 1 kernels: plain products.

Where the library is as fast, it is kept: forward and input gradient of unit
strides, and the input gradient of strides below 400 output pixels. Milliseconds
of two cores at batch 16, library to this file, measured in turn:

| layer | forward | input gradient | weight gradient |
| --- | --- | --- | --- |
| 3 x 3, 64 at 112 x 112 | library | library | 338 to 87 |
| 3 x 3, 64 at 112 x 112, stride 2 | 48 to 22 | 115 to 39 | 99 to 60 |
| 3 x 3, 128 at 56 x 56, stride 2 | 14 to 12 | 38 to 20 | 48 to 40 |
| 3 x 3, 128 at 28 x 28 | library | library | 35 to 29 |
| 3 x 3, 256 at 28 x 28, stride 2 | 15 to 12 | library | 39 to 25 |
| 3 x 3, 256 at 14 x 14 | library | library | 30 to 21 |
| 1 x 1, 64 at 112 x 112, stride 2 | 3.9 to 2.4 | 31 to 15 | 55 to 4.5 |
| 1 x 1, 128 at 56 x 56 (batch 32) | 72 to 47 | 69 to 40 | 322 to 45 |
| 1 x 1, 512 at 14 x 14 (batch 32) | 21 to 19 | 22 to 19 | 115 to 22 |

The sums are also nearer to exact ones: the first weight gradient at batch 4 is
3e-7 off, the library's 8e-6, relative to its largest entry.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from compress.errors import InputError
from compress.graph.window import (
  DIMENSIONS,
  Window,
  images_at_once,
  map_images,
  nbytes,
  padded,
  sum_images,
  tap,
  wide,
  window_of,
)

# Bytes of gathered input that are worked on at a time.
_BUDGET = 2**22
# Below this many output pixels the library's strided input gradient is faster.
_FEWEST_PIXELS = 400
# Up to this many input channels all taps side by side beat the crossed shifts.
_NARROW = 8


def dense_conv(
  x: jax.Array,
  w: jax.Array,
  *,
  strides: Sequence[int] = (1, 1),
  padding: str | Sequence[tuple[int, int]] = 'SAME',
) -> jax.Array:
  """Convolves images; the library's numbers within float rounding.

  Under `jit`, `vmap` and reverse-mode derivatives of any order; forward mode
  (`jax.jvp`) of the function itself raises a `TypeError`, as of every
  `custom_vjp`.

  Args:
    x: `[B, H, W, I]`; sums are taken in float32 or wider.
    w: `[kh, kw, I, O]`, of x's type.
    strides: of rows and columns.
    padding: `'SAME'`, `'VALID'`, or `((low, high), (low, high))`.

  Returns:
    `[B, Ho, Wo, O]`, of x's type.

  Raises:
    InputError: a shape or type is not as above.
  """
  window = window_of(x, w, strides, padding)
  if w.shape[2] != x.shape[3]:
    raise InputError(
      f'a dense kernel for {x.shape[3]} channels has shape '
      f'[kh, kw, {x.shape[3]}, O]; got {list(w.shape)}'
    )
  return _conv(window, x, w)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _conv(window, x, w):
  if window.pointwise:
    return _pointwise(window, x, w)
  if window.strides == (1, 1):
    return _library(window, x, w)
  return _gathered(window, x, w)


def _forward(window, x, w):
  return _conv(window, x, w), (x, w)


def _backward(window, residuals, g):
  x, w = residuals
  if window.pointwise:
    _, gradient = jax.vjp(functools.partial(_pointwise, window), x, w)
    return gradient(g)
  return _input_gradient(window, x, g, w), _weight_gradient(window, x, g)


_conv.defvjp(_forward, _backward)


def _library(window, x, w):
  return lax.conv_general_dilated(
    x, w, window.strides, window.padding, dimension_numbers=DIMENSIONS
  )


def _pointwise(window, x, w):
  """A 1 x 1 kernel: one product over all pixels."""
  read = tap(padded(x, *window.padding), window, 0, 0)
  return _dot(read, w[0, 0]).astype(x.dtype)


def _gathered(window, x, w):
  """The taps of each output pixel side by side, times the kernel."""
  kernel = w.reshape(-1, w.shape[3])

  def forward(images):
    return _dot(_side_by_side(window, images), kernel).astype(x.dtype)

  taps = window.rows.size * window.columns.size
  gathered = (window.rows.out, window.columns.out, taps * x.shape[3])
  return map_images(forward, x, _count(len(x), gathered))


def _side_by_side(window, images):
  xp = padded(images, *window.padding)
  taps = [
    tap(xp, window, a, b)
    for a in range(window.rows.size)
    for b in range(window.columns.size)
  ]
  return jnp.concatenate(taps, 3)


def _input_gradient(window, x, g, w):
  rows, columns = window
  if window.strides == (1, 1) or rows.out * columns.out < _FEWEST_PIXELS:
    return jax.vjp(lambda x: _library(window, x, w), x)[1](g)[0]
  kernels = [_phase_kernel(window, r, w) for r in range(rows.stride)]

  def backward(images):
    lines = [_phase(window, r, images, kernels[r]) for r in range(rows.stride)]
    dx = lines[0] if len(lines) == 1 else jnp.stack(lines, 2)
    shape = (len(images), rows.stride * rows.coarse, -1, x.shape[3])
    dx = dx.reshape(shape)[:, : rows.length, : columns.length]
    return dx.astype(x.dtype)

  made = (rows.coarse, columns.coarse, columns.stride * x.shape[3])
  return map_images(backward, g, _count(len(x), made))


def _phase_kernel(window, phase, w):
  """Kernel from the gradients that reach a row phase to its columns.

  Returns:
    `[K, s*I]`: K runs over the reading taps of the rows, the shifts of the
    columns and O; s*I over column phases and I.
  """
  columns = window.columns
  taps = w.swapaxes(2, 3)  # [kh, kw, O, I]
  zero = jnp.zeros(taps.shape[2:], w.dtype)
  reads = [{s: b for b, s in columns.readers(c)} for c in range(columns.stride)]
  blocks = [
    [taps[a, read[s]] if s in read else zero for read in reads]
    for a, _ in window.rows.readers(phase)
    for s in _shifts(columns)
  ]
  return jnp.block(blocks) if blocks else None


def _phase(window, phase, g, kernel):
  """One row phase of the input gradient, `[N, Hq, Wq, s*I]`."""
  rows, columns = window
  moved = [
    _moved(_moved(g, 1, i, rows), 2, j, columns)
    for _, i in rows.readers(phase)
    for j in _shifts(columns)
  ]
  return _dot(jnp.concatenate(moved, 3), kernel)


def _shifts(axis):
  every = [axis.readers(phase) for phase in range(axis.stride)]
  return sorted({shift for readers in every for _, shift in readers})


def _moved(g, dimension, shift, axis):
  """Output rows `q + shift` at `q`, as many as a phase has rows."""
  pads = [(0, 0), (0, 0)]
  pads[dimension - 1] = (-shift, axis.coarse + shift - axis.out)
  return padded(g, *pads)


def _weight_gradient(window, x, g):
  rows, columns = window
  shape = (rows.size, columns.size, x.shape[3], g.shape[3])
  pixels = (rows.out, columns.out)
  if x.shape[3] <= _NARROW:
    taps = rows.size * columns.size * x.shape[3]

    def gathered(images, gradients):
      return _outer(_side_by_side(window, images), gradients)

    count = _count(len(x), (*pixels, taps))
    return sum_images(gathered, (x, g), count).reshape(shape).astype(x.dtype)

  def crossed(images, gradients):
    return _crossed(window, images, gradients)

  count = _count(len(x), (*pixels, max(columns.size * x.shape[3], g.shape[3])))
  return sum_images(crossed, (x, g), count).astype(x.dtype)


def _crossed(window, x, g):
  """Inputs shifted by columns times gradients shifted by rows."""
  rows, columns = window
  unshifted = Window(rows._replace(size=1, stride=1, low=0, high=0), columns)
  xp = padded(x, columns=unshifted.padding[1])
  shifted = [tap(xp, unshifted, 0, b) for b in range(columns.size)]
  shifted = jnp.concatenate(shifted, 3)
  taps = {}
  for phase in range(rows.stride):
    readers = rows.readers(phase)
    if not readers:
      continue
    read = shifted[:, phase :: rows.stride]
    gradients = [
      padded(g, (-s, read.shape[1] + s - rows.out)) for _, s in readers
    ]
    product = _outer(read, jnp.concatenate(gradients, 3))
    product = product.reshape(columns.size, x.shape[3], -1, g.shape[3])
    taps.update({tap: product[:, :, i] for i, (tap, _) in enumerate(readers)})
  return jnp.stack([taps[a] for a in range(rows.size)])


def _dot(x, kernel):
  """`[N, H, W, K]` times `[K, O]`, with few large dimensions for XLA."""
  flat = x.reshape(-1, x.shape[3])
  out = lax.dot(flat, kernel, preferred_element_type=wide(x.dtype))
  return out.reshape(*x.shape[:3], -1)


def _outer(x, g):
  """`[N, H, W, I]` and `[N, H, W, O]` to `[I, O]`, summed over pixels."""
  x, g = x.reshape(-1, x.shape[3]), g.reshape(-1, g.shape[3])
  return lax.dot_general(
    x, g, (((0,), (0,)), ((), ())), preferred_element_type=wide(x.dtype)
  )


def _count(batch, shape):
  return images_at_once(batch, nbytes(shape), _BUDGET)
