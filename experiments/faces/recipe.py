"""What decides a network's quantized twin: bits, grids, ranges, places."""

import dataclasses
import functools
import re

from compress import compressor as compressor_lib
from compress import quantize
from compress.quantize import AffineSpec

PLACEMENTS = {'inputs': quantize.INPUTS, 'quantface': quantize.QUANTFACE}
OBSERVERS = {
  'minmax': quantize.minmax,
  'cumulative': quantize.cumulative,
  'ema': quantize.ema_minmax,
  'sample_minmax': quantize.sample_minmax,
  'mean_std': quantize.mean_std,
  'percentile': quantize.percentile,
  'mse': functools.partial(quantize.mse, exponent=2.0, apart=True),
  'gptq': quantize.mse,
  'kl': quantize.kl.kl,
  'aciq': quantize.aciq.aciq,
}
IMAGE_BITS = 8
"""The image that enters the first layer: its pixels are 8-bit numbers."""


@dataclasses.dataclass(frozen=True)
class Recipe:
  """Every choice that makes a quantized twin.

  Attributes:
    weight_bits: 2 to 8, or 16; None with `activation_bits` None leaves the
      network float.
    activation_bits: 2 to 8, or 16.
    granularity: of weight scales: `tensor`, `channel` or `group`.
    group_size: weights of a group.
    placement: where activations are quantized, `inputs` or `quantface`.
    observer: how an activation range comes from what was seen.
    weight_range: where a kernel's range comes from, `minmax` or `mse`.
    ranges: in training: `frozen` as calibrated, `running` (updated by the
      first 299 steps, as QuantFace), or `learned` (LSQ).
    batch_norm: `frozen` (folded where it can be) or `batch` (statistics of
      the batch in training, moving averages at inference).
    layer_bits: leaf path and bits of kernels that have others than
      `weight_bits`.
  """

  weight_bits: int | None = 8
  activation_bits: int | None = 8
  granularity: str = 'channel'
  group_size: int | None = None
  placement: str = 'inputs'
  observer: str = 'mse'
  weight_range: str = 'minmax'
  ranges: str = 'frozen'
  batch_norm: str = 'frozen'
  layer_bits: tuple[tuple[str, int], ...] = ()

  def __post_init__(self):
    # Lists, as JSON has them, would make it unhashable.
    bits = tuple((path, bits) for path, bits in self.layer_bits)
    object.__setattr__(self, 'layer_bits', bits)

  @property
  def is_integer(self) -> bool:
    """Whether integer runtimes have its grids: 8 bits, zero in the middle."""
    bits = [self.weight_bits or 32, self.activation_bits or 32]
    bits += [bits for _, bits in self.layer_bits]
    return (
      max(bits) <= 8
      and self.granularity != 'group'
      and self.placement == 'inputs'
    )

  @property
  def execution(self) -> str:
    """The arithmetic of the network in its file, as reports call it."""
    if self.weight_bits is None:
      return 'float'
    return 'integer' if self.is_integer else 'simulated'

  def weight_spec(self) -> AffineSpec:
    """The quantizer of kernels: QuantFace's, or a symmetric one."""
    shared = {
      'bits': self.weight_bits,
      'granularity': self.granularity,
      'group_size': self.group_size,
    }
    if self.placement == 'quantface':
      return AffineSpec(
        symmetric=False,
        bounds='full',
        gradient='identity',
        dynamic=True,
        **shared,
      )
    return AffineSpec(symmetric=True, bounds='narrow', **shared)

  def activation_spec(self, bits: int | None = None) -> AffineSpec:
    """The quantizer of activations: one asymmetric range a tensor."""
    return AffineSpec(
      bits=bits or self.activation_bits,
      symmetric=False,
      bounds='unsigned',
      gradient='identity' if self.placement == 'quantface' else 'clipped',
    )

  def weight_rules(self) -> compressor_lib.Rules:
    """Kernels; in QuantFace's placement PReLU slopes too, as it has them."""
    if self.weight_bits is None:
      return ()
    spec = self.weight_spec()
    rules = [
      (re.escape(path), dataclasses.replace(spec, bits=bits))
      for path, bits in self.layer_bits
    ]
    rules.append(('(.*/)?kernel', spec))
    if self.placement == 'quantface':
      slope = dataclasses.replace(
        self.activation_spec(), bounds='full', dynamic=True
      )
      rules.append(('(.*/)?slope', slope))
    return tuple(rules)

  def activation_rules(self, first: str) -> compressor_lib.Rules:
    """All placed activations alike, but the image in no fewer than 8 bits."""
    if self.activation_bits is None:
      return ()
    bits = max(IMAGE_BITS, self.activation_bits)
    return (
      (re.escape(first), self.activation_spec(bits)),
      ('.*', self.activation_spec()),
    )
