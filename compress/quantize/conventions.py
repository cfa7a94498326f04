"""The same grid under other names: sign of Z, and multiplying scales.

This library: `q = round(x / S) + Z`, `x_hat = S (q - Z)`.

Seed form (Gholami et al. 2021, arXiv:2103.13630, eq. 2, used by surveys):
`q = Int(x / S) - Z_seed`, `x_hat = S (q + Z_seed)`, so `Z_seed = -Z`.

ZeroQ form (the releases of ZeroQ, Cai et al. 2020, arXiv:2001.00281, and of
QuantFace, Boutros et al. 2022, arXiv:2206.10526): `q = round(sigma x - z)`,
`x_hat = (q + z) / sigma`, with `sigma = (2^b - 1) / (max - min)` and
`z = round(sigma min) + 2^(b-1)` for codes in [-2^(b-1), 2^(b-1) - 1]. So
`sigma = 1 / S` and `z = -Z` for `bounds='full'`.

The three give the same codes, except that ZeroQ multiplies where the others
divide, and rounds after the offset: where x / S lies on a tie (or within float
rounding of one) and z is odd, half-to-even goes the other way.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from compress.quantize.spec import QParams


class SeedParams(NamedTuple):
  """Parameters of the seed form."""

  scale: jax.Array  # S
  zero_point: jax.Array  # -Z, int32


class ZeroqParams(NamedTuple):
  """Parameters of the ZeroQ form."""

  sigma: jax.Array  # 1 / S
  offset: jax.Array  # z = -Z, float32 with integer values


def to_seed(q: QParams) -> SeedParams:
  """This library's parameters in the seed form.

  Args:
    q: scale and zero point.

  Returns:
    The same scale, the opposite zero point.
  """
  return SeedParams(q.scale, -q.zero_point)


def from_seed(p: SeedParams) -> QParams:
  """The inverse of `to_seed`.

  Args:
    p: scale and zero point of the seed form.

  Returns:
    The same scale, the opposite zero point.
  """
  return QParams(p.scale, -p.zero_point)


def seed_quantize(
  x: jax.Array, p: SeedParams, *, qmin: int, qmax: int
) -> jax.Array:
  """`clip(round(x / S) - Z_seed, qmin, qmax)`.

  Args:
    x: float array.
    p: parameters that broadcast to it.
    qmin: smallest code.
    qmax: largest code.

  Returns:
    int32 codes.
  """
  code = jnp.round(x / p.scale) - p.zero_point.astype(x.dtype)
  return jnp.clip(code, qmin, qmax).astype(jnp.int32)


def seed_dequantize(codes: jax.Array, p: SeedParams) -> jax.Array:
  """`S (q + Z_seed)`.

  Args:
    codes: int32 array.
    p: parameters that broadcast to it.

  Returns:
    Float array.
  """
  return p.scale * (codes + p.zero_point).astype(p.scale.dtype)


def to_zeroq(q: QParams) -> ZeroqParams:
  """This library's parameters in the ZeroQ form.

  Args:
    q: scale and zero point of a spec with `bounds='full'`.

  Returns:
    The reciprocal scale and the opposite zero point.
  """
  return ZeroqParams(1 / q.scale, -q.zero_point.astype(jnp.float32))


def from_zeroq(p: ZeroqParams) -> QParams:
  """The inverse of `to_zeroq`, up to rounding of the reciprocal.

  Args:
    p: parameters of the ZeroQ form.

  Returns:
    Scale and int32 zero point.
  """
  return QParams(1 / p.sigma, -p.offset.astype(jnp.int32))


def zeroq_params(lo: jax.Array, hi: jax.Array, *, bits: int) -> ZeroqParams:
  """Parameters from a range, as those releases compute them.

  Args:
    lo: smallest value; the range is not extended to contain 0.
    hi: largest value.
    bits: b.

  Returns:
    `sigma = (2^b - 1) / max(hi - lo, 1e-8)`, `z = round(sigma lo) + 2^(b-1)`.
  """
  sigma = (2**bits - 1) / jnp.maximum(hi - lo, 1e-8)
  return ZeroqParams(sigma, jnp.round(sigma * lo) + 2 ** (bits - 1))


def zeroq_quantize(x: jax.Array, p: ZeroqParams, *, bits: int) -> jax.Array:
  """`clip(round(sigma x - z), -2^(b-1), 2^(b-1) - 1)`.

  Args:
    x: float array.
    p: parameters that broadcast to it.
    bits: b.

  Returns:
    int32 codes.
  """
  half = 2 ** (bits - 1)
  code = jnp.clip(jnp.round(p.sigma * x - p.offset), -half, half - 1)
  return code.astype(jnp.int32)


def zeroq_dequantize(codes: jax.Array, p: ZeroqParams) -> jax.Array:
  """`(q + z) / sigma`.

  Args:
    codes: int32 array.
    p: parameters that broadcast to it.

  Returns:
    Float array.
  """
  return (codes.astype(p.sigma.dtype) + p.offset) / p.sigma
