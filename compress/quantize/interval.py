"""Trained intervals: a range that is learned, cut into levels.

The quantizer of QKD (Kim, Bhalgat, Lee, Patel, Kwak 2019, arXiv:1911.12491) and
of others with a trained clip. With an interval I and k bits

  w_q = I round(clip(w / I, -1, 1) (2^(k-1) - 1)) / (2^(k-1) - 1)
  x_q = I round(clip(x / I,  0, 1) (2^k - 1)) / (2^k - 1)

for weights (bounds 'narrow') and for activations that are never negative
(bounds 'unsigned'). This is learned step size quantization (`lsq.py`) with
`I = qmax s`: the same levels, the same straight-through gradient, and that of
I is `d v_hat / ds / qmax`, without LSQ's factor. An interval is as long as the
values, whatever the bits, so that one learning rate serves 2 bits and 8; a step
is not. The paper could not be opened; the quantizer is written from what others
say of it.

A network that draws its activations' precision has one interval for all of
them: see `draw_precision`.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from compress import compressor as compressor_lib
from compress.compressor import KEEP, Compressor, Rules, State
from compress.errors import InputError
from compress.quantize import lsq, ranges
from compress.quantize.codebook import leaf_key
from compress.quantize.spec import AffineSpec
from compress.quantize.weights import RangeFunction, quantize_weights


def init_interval(v: jax.Array, spec: AffineSpec) -> jax.Array:
  """The first interval: the largest magnitude of some values.

  Args:
    v: weights, or a batch of activations.
    spec: the quantizer; symmetric, bounds 'narrow' or 'unsigned'.

  Returns:
    float32, of the shape of `QParams.scale`; positive.
  """
  _check(spec)
  scale = ranges.tensor_qparams(v, spec).scale
  return scale * spec.qmax


def quantize_interval(
  v: jax.Array, interval: jax.Array, spec: AffineSpec
) -> jax.Array:
  """Quantizes values on an interval that gets a gradient.

  Args:
    v: float array.
    interval: I > 0, of the shape of `QParams.scale`.
    spec: symmetric and static, bounds 'narrow' or 'unsigned'.

  Returns:
    Array of `v`'s shape and dtype.

  Raises:
    InputError: another spec.
  """
  _check(spec)
  # The factor of LSQ is 1 / sqrt(count qmax).
  return lsq.lsq(v, _step(interval, spec), spec, count=1 / spec.qmax)


def quantize_intervals(
  rules: Rules, *, range_fn: RangeFunction = ranges.tensor_range
) -> Compressor:
  """Quantizes the weights that a plan covers on trained intervals.

  Args:
    rules: ordered `(pattern, AffineSpec)` pairs over leaf paths; the specs
      symmetric, static, bounds 'narrow' or 'unsigned'.
    range_fn: `(x, spec) -> (lo, hi)`, where the first intervals come from: by
      default from the largest magnitude, as in QKD.

  Returns:
    The compressor; `state.learned` maps leaf path to interval.

  Raises:
    InputError: another spec.
  """
  for _, spec in rules:
    if spec is not KEEP:
      _check(spec)
  inner = quantize_weights(rules, learned=True, range_fn=range_fn)

  def specs_of(params):
    return compressor_lib.resolve(rules, params).specs

  def init(params) -> State:
    specs, state = specs_of(params), inner.init(params)
    intervals = {p: s * specs[p].qmax for p, s in state.learned.items()}
    return state._replace(learned=intervals)

  def apply(params, state):
    def at(leaf, spec, path):
      return quantize_interval(leaf, state.learned[path], spec)

    return compressor_lib.map_covered(at, params, specs_of(params))

  def pack(params, state):
    specs = specs_of(params)
    steps = {p: _step(i, specs[p]) for p, i in state.learned.items()}
    return inner.pack(params, state._replace(learned=steps))

  return Compressor(init, apply, inner.update, pack)


class Drawn(NamedTuple):
  """An activation's interval, and which precision it has this time.

  Attributes:
    interval: float32, as `quantize_interval` takes it.
    high: bool [], whether the precision is the high one.
  """

  interval: jax.Array
  high: jax.Array


def draw_precision(
  key: jax.Array, names: Sequence[str], *, probability: float = 0.5
) -> dict[str, jax.Array]:
  """Draws which activations have the high precision in this step.

  Boo, Shin, Choi, Sung 2021, 'Stochastic Precision Ensemble', AAAI,
  arXiv:2009.14502: every layer draws by itself. What others say of it leaves
  open which of the two its u counts; at its 0.5 both are the same.

  Args:
    key: random key, another one every step.
    names: of activations.
    probability: u in [0, 1] of the high precision.

  Returns:
    Name to bool [].

  Raises:
    InputError: no probability.
  """
  if not 0 <= probability <= 1:
    raise InputError(f'probability={probability}: right is 0 to 1')
  return {
    name: jax.random.bernoulli(leaf_key(key, name), probability)
    for name in names
  }


def drawn_quantizer(
  *, high_bits: int = 8
) -> Callable[[jax.Array, Drawn, AffineSpec], jax.Array]:
  """A quantizer of activations whose precision is drawn.

  Both precisions share the interval and differ in the number of levels. Values
  are quantized twice and selected, which is cheap, and one program serves all
  draws.

  Args:
    high_bits: of the high precision; the low one is the spec's.

  Returns:
    For `quantize_activations(..., quantizer=...)`, with a `Drawn` a name.
  """

  def quantizer(x, drawn, spec):
    more = dataclasses.replace(spec, bits=high_bits)
    return jnp.where(
      drawn.high,
      quantize_interval(x, drawn.interval, more),
      quantize_interval(x, drawn.interval, spec),
    )

  return quantizer


def _step(interval, spec):
  return ranges.divide(interval.astype(jnp.float32), jnp.float32(spec.qmax))


def _check(spec: AffineSpec) -> None:
  lsq.check_spec(spec)
  if spec.bounds == 'full':
    raise InputError("bounds='full': an interval is narrow or unsigned")
