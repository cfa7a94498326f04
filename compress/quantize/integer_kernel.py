"""Kernels as integer layers take them."""

import dataclasses

import numpy as np

from compress.errors import InputError
from compress.packed import Quantized, Sparse


@dataclasses.dataclass(frozen=True)
class Kernel:
  """A quantized kernel, output channels last.

  Attributes:
    codes: int8.
    scale: float64 [O].
    zero: int64 [O].
  """

  codes: np.ndarray
  scale: np.ndarray
  zero: np.ndarray


def read_kernel(packed, shape: tuple[int, ...], where: str) -> Kernel:
  """Codes, scales and zero points of a packed kernel.

  Args:
    packed: `Quantized`, or `Sparse` of one; its pruned codes become the zero
      point.
    shape: that the layer takes it in, output channels last.
    where: the layer, for messages.

  Returns:
    The kernel.

  Raises:
    InputError: it is not packed so, or not in a form with an integer rule.
  """
  mask = None
  if isinstance(packed, Sparse):
    packed, mask = packed.inner, np.asarray(packed.mask)
  if not isinstance(packed, Quantized) or packed.codes.shape != shape:
    raise InputError(
      f'{where}: its kernel is not quantized; pack it with '
      "`quantize_weights([('.*kernel', spec)])`"
    )
  features, codes = shape[-1], np.asarray(packed.codes).astype(np.int64)
  if packed.bits > 8 or packed.group_size is not None:
    raise InputError(
      f'{where}: an integer kernel has 2 to 8 bits and one scale, or '
      f'one an output channel; this one has {packed.bits} bits'
      + (f', groups of {packed.group_size}' if packed.group_size else '')
    )
  zero = np.zeros(1, np.int64)
  if packed.zero_point is not None:
    zero = np.asarray(packed.zero_point).astype(np.int64)
  scale = np.asarray(packed.scale, np.float64)
  if scale.size not in (1, features) or (
    scale.size > 1 and scale.shape[-1] != features
  ):
    raise InputError(
      f'{where}: scales of shape {scale.shape} cannot leave the sum; '
      'right is one scale, or one an output channel'
    )
  zero = np.broadcast_to(zero.reshape(-1), features)
  scale = np.broadcast_to(scale.reshape(-1), features)
  if mask is not None:
    codes = np.where(mask, codes, zero)
  lift = 128 if codes.max(initial=0) > 127 else 0
  return Kernel((codes - lift).astype(np.int8), scale, zero - lift)
