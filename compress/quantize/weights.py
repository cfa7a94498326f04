"""Fake quantization of weights as a `Compressor`."""

import dataclasses
import zlib
from collections.abc import Callable

import jax
import jax.numpy as jnp

from compress import compressor as compressor_lib
from compress.compressor import KEEP, Compressor, Rules, State
from compress.errors import InputError
from compress.packed import Quantized
from compress.quantize import affine, lsq, ranges
from compress.quantize.spec import AffineSpec, QParams

RangeFunction = Callable[[jax.Array, AffineSpec], tuple[jax.Array, jax.Array]]


def quantize_weights(
  rules: Rules,
  *,
  learned: bool = False,
  range_fn: RangeFunction = ranges.tensor_range,
  key: jax.Array | None = None,
) -> Compressor:
  """Quantizes the weights that a plan covers, each by its `AffineSpec`.

  What the forward pass sees is what is packed: `unpack(pack(p)) == apply(p)`
  bit for bit.

  Args:
    rules: ordered `(pattern, AffineSpec)` pairs over leaf paths. A spec that is
      `dynamic` takes its range from the weights anew at every call, as
      QuantFace does (Boutros et al. 2022); otherwise the range is the one of
      the weights that `init` sees, and stays.
    learned: learn the scales with the weights by LSQ's gradient (Esser et al.
      2020, arXiv:1902.08153). The specs must then be symmetric and static. The
      first scales are those of `range_fn`, good for a trained network as it
      is, and not the paper's `2 mean|v| / sqrt(Q_P)` (`lsq.lsq_init`).
    range_fn: `(x, spec) -> (lo, hi)`, where a range comes from.
    key: random key; needed if a spec rounds stochastically. A new rounding is
      drawn by every `update`, which folds in the step.

  Returns:
    The compressor. `state.learned` maps leaf path to scale (where learned),
    `state.carried` maps leaf path to `QParams`.

  Raises:
    InputError: a spec that cannot be learned, or one that rounds
      stochastically without a key.
  """
  for _, spec in rules:
    if spec is KEEP:
      continue
    if learned:
      lsq.check_spec(spec)
    if spec.rounding == 'stochastic' and key is None:
      raise InputError("rounding='stochastic': weights then need a key")

  def specs_of(params):
    return compressor_lib.resolve(rules, params).specs

  def init(params) -> State:
    ranged, learnt = {}, {}

    def visit(leaf, spec, path):
      if learned:
        learnt[path] = qparams(leaf, spec).scale
      elif not spec.dynamic:
        ranged[path] = qparams(leaf, spec)
      return leaf

    compressor_lib.map_covered(visit, params, specs_of(params))
    return State(learnt, {'qparams': ranged, 'step': jnp.int32(0)})

  def qparams(leaf, spec) -> QParams:
    return ranges.qparams_from_range(*range_fn(leaf, spec), spec)

  def parameters(leaf, spec, path, state) -> QParams:
    if learned:
      return lsq.lsq_qparams(state.learned[path], spec)
    if spec.dynamic:
      return qparams(jax.lax.stop_gradient(leaf), spec)
    return state.carried['qparams'][path]

  def noise_key(path, state):
    if key is None:
      return None
    step_key = jax.random.fold_in(key, state.carried['step'])
    return jax.random.fold_in(step_key, zlib.crc32(path.encode()))

  def apply(params, state):
    def quantized(leaf, spec, path):
      if learned:
        return lsq.lsq(leaf, state.learned[path], spec)
      q = parameters(leaf, spec, path, state)
      static = dataclasses.replace(spec, dynamic=False)
      return affine.fake_quantize(leaf, q, static, key=noise_key(path, state))

    return compressor_lib.map_covered(quantized, params, specs_of(params))

  def update(params, state, *, step, grads=None) -> State:
    del params, grads
    carried = {**state.carried, 'step': jnp.asarray(step, jnp.int32)}
    return state._replace(carried=carried)

  def pack(params, state):
    def packed(leaf, spec, path):
      q = parameters(leaf, spec, path, state)
      return Quantized(
        affine.quantize(leaf, q, spec, key=noise_key(path, state)),
        q.scale,
        None if spec.symmetric else q.zero_point,
        bits=spec.bits,
        dtype=leaf.dtype.name,
        axis=spec.axis,
        group_size=spec.group_size,
      )

    return compressor_lib.pack_covered(packed, params, specs_of(params))

  return Compressor(init, apply, update, pack)
