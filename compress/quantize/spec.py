"""What an affine quantizer is: `AffineSpec`, and its numbers, `QParams`."""

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from compress.errors import InputError

_CHOICES = {
  'bounds': ('full', 'narrow', 'unsigned'),
  'granularity': ('tensor', 'channel', 'group'),
  'rounding': ('half_even', 'half_away', 'stochastic'),
  'gradient': ('clipped', 'identity'),
}


@dataclasses.dataclass(frozen=True)
class AffineSpec:
  """Every choice an affine quantizer makes; static, hashable, validated.

  Attributes:
    bits: width of a code, 2 to 8, or 16.
    symmetric: `Z = 0` and a range symmetric about 0 (with `unsigned` bounds:
      a range that starts at 0, for values that are never negative).
    bounds: integer codes. `full` is [-2^(b-1), 2^(b-1) - 1] (PyTorch, ONNX),
      `narrow` leaves the lowest out (TensorRT, oneDNN weights; no -128 * -128),
      `unsigned` is [0, 2^b - 1].
    granularity: one scale per `tensor`, per `channel` (each index of `axis`),
      or per `group` of `group_size` consecutive input elements of each channel.
    axis: the channel axis; -1 is the output axis of a Flax kernel, 0 gives one
      scale per example or token of an activation.
    group_size: elements in a group; None unless `granularity` is `group`. The
      other axes of the tensor, flattened in order, are cut into groups; the
      last group may be shorter.
    rounding: of a code. `half_even` is IEEE, NumPy and JAX; `half_away` is C's
      `round`; `stochastic` rounds up with the probability of the fractional
      part and needs a `key`. Zero points are always rounded half to even.
    gradient: `clipped` passes the gradient where clipping moves the value by
      no more than rounding may, i.e. within half a step of the lowest and
      highest level, ends included (the interval PyTorch's fake quantize uses;
      it contains every value of the range that the parameters came from);
      `identity` passes it everywhere (QuantFace).
    dynamic: the range is that of the tensor itself, at every call.
    power_of_two: scales are rounded up to a power of two (shift-only).

  Raises:
    InputError: a field outside of what is said above.
  """

  bits: int = 8
  symmetric: bool = True
  bounds: Literal['full', 'narrow', 'unsigned'] = 'narrow'
  granularity: Literal['tensor', 'channel', 'group'] = 'tensor'
  axis: int = -1
  group_size: int | None = None
  rounding: Literal['half_even', 'half_away', 'stochastic'] = 'half_even'
  gradient: Literal['clipped', 'identity'] = 'clipped'
  dynamic: bool = False
  power_of_two: bool = False

  def __post_init__(self):
    if not _is_int(self.bits) or self.bits not in (*range(2, 9), 16):
      raise InputError(f'bits={self.bits!r}: must be 2 to 8, or 16')
    for name, allowed in _CHOICES.items():
      value = getattr(self, name)
      if not isinstance(value, str) or value not in allowed:
        raise InputError(f'{name}={value!r}: must be one of {allowed}')
    for name in ('symmetric', 'dynamic', 'power_of_two'):
      value = getattr(self, name)
      if not isinstance(value, bool):
        raise InputError(f'{name}={value!r}: must be True or False')
    if not _is_int(self.axis):
      raise InputError(f'axis={self.axis!r}: must be an integer')
    grouped = self.granularity == 'group'
    if grouped and not (_is_int(self.group_size) and self.group_size > 0):
      raise InputError(
        f"group_size={self.group_size!r}: granularity 'group' needs a positive "
        'integer'
      )
    if not grouped and self.group_size is not None:
      raise InputError(
        f'group_size={self.group_size!r}: must be None for granularity '
        f'{self.granularity!r}'
      )

  @property
  def qmin(self) -> int:
    """The smallest code."""
    if self.bounds == 'unsigned':
      return 0
    return -(2 ** (self.bits - 1)) + (self.bounds == 'narrow')

  @property
  def qmax(self) -> int:
    """The largest code."""
    return 2 ** (self.bits - (self.bounds != 'unsigned')) - 1

  @property
  def dtype(self) -> Any:
    """The smallest whole-byte integer type that holds the codes."""
    sign = 'u' if self.bounds == 'unsigned' else ''
    return jnp.dtype(f'{sign}int{8 if self.bits <= 8 else 16}')


def _is_int(value) -> bool:
  return isinstance(value, int) and not isinstance(value, bool)


class QParams(NamedTuple):
  """The numbers of a quantizer; leaves broadcast to the tensor.

  Shapes: `[]` per tensor; `[1, ..., C, ..., 1]` (the tensor's rank) per
  channel; `[G, 1, C]` per group, which `expand` brings to the tensor's shape.
  """

  scale: jax.Array  # S > 0, float32
  zero_point: jax.Array  # Z, int32 in [qmin, qmax]
