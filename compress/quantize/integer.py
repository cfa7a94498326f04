"""Integer-only inference: a network's codes in, its codes out.

After Jacob et al. 2018, 'Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference', arXiv:1712.05877: operands of 8
bits, accumulators and biases in int32, scales as fixed-point multipliers. The
network is read from its trace; BatchNorm that folds should be folded first
(`graph.fold`).

Where the paper's network and this one differ:

- Residual sums stay int32, in units of a power of two so fine that the largest
  sum that any input could give just fits. So a network calibrated at the inputs
  of its layers (`quantize.INPUTS`) needs no further ranges, and the integers
  agree with the simulation that was judged. For sums of 8 bits, as in the
  paper, calibrate and simulate with `SUMS`, which has ranges for them too.
- PReLU and its relatives are part of the rescaling: one multiplier for
  accumulators from 0 on, one for those below.
- A BatchNorm that does not fold is a multiplier a channel too; its offset is
  added at a finer scale.
- Products with multipliers are rounded once, as the simulated quantizer rounds
  (`arithmetic='exact'`): where all scales are powers of two and biases are
  multiples of the accumulators' step, codes are those of the simulation bit for
  bit. `'jacob'` rounds twice, as gemmlowp does.

Real SFace at 8 bits, batch 1, on two loaded cores of a CPU whose XLA multiplies
int8 in hardware: 16.5 ms in integers, 50.7 ms in float32 as XLA runs it, 9.9 ms
in float32 with `graph.cpu_rules`. So it is not the fast way to run a network on
a CPU; a runtime with integer kernels is. Other CPUs may lack fast int8
convolutions altogether.

Given the same codes, SFace's layers differ from the simulation in at most 5
codes of a million, by one. Its 27 layers make more of that: cosines of
embeddings of 40 photographs are 0.9997 on average and 0.9993 at least, where
the simulation with its convolutions summed in another order has 0.9999 and
0.9997 with itself. With the exported network (`deploy.to_onnx`), whose biases
have no fraction bits, they are 0.9990 on average and 0.9987 at least.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from compress.errors import InputError
from compress.quantize import activations as activations_lib
from compress.quantize import affine, integer_graph, ranges
from compress.quantize.activations import Placement
from compress.quantize.integer_arithmetic import Multiplier as Multiplier
from compress.quantize.integer_arithmetic import multiply_high as multiply_high
from compress.quantize.integer_arithmetic import (
  quantize_multiplier as quantize_multiplier,
)
from compress.quantize.integer_arithmetic import requantize as requantize
from compress.quantize.integer_arithmetic import scale_by as scale_by
from compress.quantize.integer_arithmetic import shift_right as shift_right
from compress.quantize.integer_layers import integer_conv as integer_conv
from compress.quantize.integer_layers import integer_dot as integer_dot
from compress.quantize.integer_lowering import lower_network
from compress.quantize.integer_program import Grid as Grid
from compress.quantize.integer_program import Layer as Layer
from compress.quantize.integer_program import run_program
from compress.quantize.integer_values import make_grid
from compress.quantize.spec import AffineSpec, QParams

PIXELS = (
  QParams(np.float32(1), np.int32(0)),
  AffineSpec(symmetric=False, bounds='unsigned'),
)
"""The grid of raw pixels: the codes 0..255 are the numbers 0..255."""

SUMS = Placement(
  'sums',
  activations_lib.INPUTS.operands,
  lambda site: (
    site.name.partition('#')[0].rpartition('/')[2]
    in ('add', 'embedding', 'logits')
  ),
)
"""The inputs of every layer, every residual sum, and the output."""


@dataclasses.dataclass(frozen=True)
class IntegerNetwork:
  """A network in integers.

  Attributes:
    apply: pure function `(variables, codes [B, ...]) -> codes`, without a
      floating-point operation.
    variables: layer to its arrays: int8 kernels; int32 biases, multipliers,
      shifts, offsets and bounds.
    inputs: grid of the codes that go in.
    outputs: grid of those that come out.
    layers: the program.
  """

  apply: Callable[..., jax.Array]
  variables: dict[str, dict[str, np.ndarray]]
  inputs: Grid
  outputs: Grid
  layers: tuple[Layer, ...]


class Agreement(NamedTuple):
  """How far integers and another implementation agree on the same inputs.

  Attributes:
    cosine: float64 [N], of the two outputs of each example.
    codes: largest difference, in steps of `step`.
    step: a 255th of the range of the reference's outputs: an 8-bit code.
  """

  cosine: np.ndarray
  codes: float
  step: float


def convert(
  apply: Callable[..., Any],
  variables,
  inputs,
  *,
  activations: Mapping[str, QParams],
  specs: Mapping[str, AffineSpec],
  placement: Placement = activations_lib.INPUTS,
  input_grid: tuple[QParams, AffineSpec] | None = None,
  arithmetic: str = 'exact',
) -> IntegerNetwork:
  """Makes integers of a network and its quantizers.

  Args:
    apply: pure function `apply(variables, inputs)`, BatchNorm frozen.
    variables: nested dict, its kernels as `packed.Quantized` (or `Sparse` of
      them) of 2 to 8 bits with one scale, or one an output channel; others as
      arrays or packed tensors, for they are constants of the conversion.
    inputs: array or `jax.ShapeDtypeStruct` [B, ...], for the shape.
    activations: name to parameters of the quantized activations: the input of
      every layer (2 to 8 bits), and more where `placement` has more.
    specs: name to spec of the same.
    placement: that the names come from: `quantize.INPUTS` or `SUMS`.
    input_grid: that the network's input is on. None is that of the first layer
      where the input goes there unchanged, else `PIXELS`.
    arithmetic: `exact` or `jacob`.

  Returns:
    The network; its `apply` works for every batch size.

  Raises:
    InputError: an operation without an integer rule, a layer whose kernel or
      input is not quantized, or accumulators that int32 may not hold; each
      names the site.
  """
  if arithmetic not in ('exact', 'jacob'):
    raise InputError(f"arithmetic={arithmetic!r}: right is 'exact' or 'jacob'")
  lonely = sorted(set(specs) ^ set(activations))
  if lonely:
    raise InputError(
      f'activation {lonely[0]!r}: both a spec and parameters are needed'
    )
  first, out = integer_graph.read_graph(
    apply, variables, inputs, names=set(specs), placement=placement
  )
  grids = {n: make_grid(n, activations[n], specs[n]) for n in specs}
  given = make_grid('input', *input_grid) if input_grid else None
  layers, arrays, ends = lower_network(
    first, out, grids, arithmetic=arithmetic, input_grid=given,
    default=make_grid('input', *PIXELS),
  )  # fmt: skip

  def apply_int(variables, codes):
    return run_program(layers, ends, variables, codes)

  return IntegerNetwork(apply_int, arrays, ends.inputs, ends.outputs, layers)


def encode(network: IntegerNetwork, x: jax.Array) -> jax.Array:
  """Codes of real inputs.

  Args:
    network: that they are for.
    x: float [B, ...].

  Returns:
    Codes, of the type that the network takes.
  """
  grid = network.inputs
  ratio = ranges.divide(x, jnp.float32(grid.scale))
  ratio = jnp.clip(ratio, grid.low - grid.zero, grid.high - grid.zero)
  whole = affine.ROUND[grid.rounding](ratio)
  codes = whole.astype(jnp.int32) + (grid.zero + grid.lift)
  return codes.astype(grid.dtype)


def decode(network: IntegerNetwork, codes: jax.Array) -> jax.Array:
  """The real outputs that codes stand for, float32."""
  grid = network.outputs
  offset = codes.astype(jnp.int32) - (grid.zero + grid.lift)
  return offset.astype(jnp.float32) * np.float32(grid.scale)


def compare(
  network: IntegerNetwork,
  reference: Callable[[jax.Array], Any],
  inputs,
) -> Agreement:
  """Runs a network in integers and another way.

  Args:
    network: the integers.
    reference: float inputs [N, ...] to outputs [N, D]: the simulated network,
      or a session of the exported one.
    inputs: float32 [N, ...].

  Returns:
    How far the outputs agree.
  """
  codes = jax.jit(network.apply)(network.variables, encode(network, inputs))
  ours = np.asarray(decode(network, codes), np.float64).reshape(len(inputs), -1)
  theirs = np.asarray(reference(inputs), np.float64).reshape(ours.shape)
  norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
  cosine = (ours * theirs).sum(1) / np.where(norms == 0, 1, norms)
  step = float(np.ptp(theirs)) / 255 or 1.0
  return Agreement(cosine, float(np.abs(ours - theirs).max()) / step, step)
