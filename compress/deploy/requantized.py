"""A convolution, its PReLU and its quantizer, in integers only.

What stands between an integer convolution and the next quantizer is, channel by
channel, one linear function of the accumulator (bias, BatchNorm) or two that
meet where PReLU bends. Rounding is monotonic, so the code of the larger of two
numbers is the larger of their codes:

  code(max(v, slope v)) = max(code(v), code(slope v))      for slope <= 1

and either code is an integer convolution with its own weight scale and bias,
which need no float tensor between them. Where a slope is above 1 it is the
smaller of the two; where a layer has channels of both sorts, a third
convolution takes part.
"""

from typing import NamedTuple

import numpy as np

_LARGEST = 2**30
"""Bias codes stay below this: accumulators are int32."""


class Line(NamedTuple):
  """`v -> gain * v + shift`, one a channel, of what a convolution gives.

  Attributes:
    gain: float64 [O].
    shift: float64 [O].
  """

  gain: np.ndarray
  shift: np.ndarray


class IntegerKernel(NamedTuple):
  """A convolution whose result, requantized, is one line's codes.

  Attributes:
    codes: int8 `[KH, KW, C / groups, O]`.
    scale: float32 [O]; negative where a line falls, so that all lines of a
      layer have the same codes, which a file then holds once.
    bias: int32 [O]; its scale is the input's times `scale`.
  """

  codes: np.ndarray
  scale: np.ndarray
  bias: np.ndarray


def bend(line: Line, slope: np.ndarray) -> tuple[Line, Line]:
  """The two lines of PReLU after a line: for `v >= 0`, and for `v < 0`."""
  return line, Line(line.gain * slope, line.shift * slope)


def extreme(
  lines: tuple[Line, ...], above: np.ndarray
) -> tuple[str, tuple[Line | None, ...], np.ndarray]:
  """How the lines combine to one function.

  Args:
    lines: one, or the two of a bent line.
    above: bool [O], whether the function is the larger of two lines.

  Returns:
    What joins them (`one`, `max`, `min` or `both`, which is the largest of the
    third and the smaller of the first two), the lines, and for `both` the
    channels, bool [O], in which the third takes no part.
  """
  if len(lines) == 1:
    return 'one', lines, above
  if above.all():
    return 'max', lines, above
  if not above.any():
    return 'min', lines, above
  right, left = lines
  second = Line(*(np.where(above, r, x) for r, x in zip(*lines, strict=True)))
  return 'both', (right, second, left), ~above


def integer_kernel(
  codes: np.ndarray,
  weight_scale: np.ndarray,
  line: Line,
  *,
  input_scale: float,
  output_scale: float,
  absent: np.ndarray | None = None,
) -> IntegerKernel | None:
  """The convolution whose requantized result is a line's codes.

  Args:
    codes: int8 `[KH, KW, C / groups, O]`.
    weight_scale: float32 [O].
    line: of the real result.
    input_scale: of the input's codes.
    output_scale: of the result's codes; 0 where it stays float.
    absent: bool [O], channels whose code shall be the lowest there is.

  Returns:
    The kernel, or None where int32 cannot hold it.
  """
  scale = (weight_scale * line.gain).astype(np.float32)
  tiny = np.finfo(np.float32).tiny
  # A line without a gain: its shift alone, in fine steps.
  flat = np.abs(input_scale * scale) <= tiny
  least = np.maximum(output_scale, tiny * 2**40)
  step = np.maximum(np.abs(line.shift), least) / 2**20
  scale = np.where(flat, step / input_scale, scale).astype(np.float32)
  # As ONNX dequantizes the bias.
  bias = np.round(line.shift / (np.float32(input_scale) * scale))
  if absent is not None:
    least = np.float32(1e-6 * output_scale / input_scale)
    scale = np.where(absent, least, scale)
    bias = np.where(absent, -_LARGEST, bias)
    flat = flat | absent
  if np.abs(bias).max() > _LARGEST or not np.isfinite(scale).all():
    return None
  codes = np.where(flat, 0, codes) if flat.any() else codes
  return IntegerKernel(
    codes.astype(np.int8, copy=False), scale, bias.astype(np.int32)
  )
