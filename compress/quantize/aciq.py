"""ACIQ: clipping values that are optimal for a fitted distribution.

Banner, Nahshan, Hoffer, Soudry 2019, "Post-training 4-bit quantization of
convolution networks for rapid-deployment", arXiv:1810.05723. A tensor is taken
to be Laplace (scale b) or Gaussian (deviation sigma); clipped at alpha and
quantized with M bits it has the mean squared error

  Laplace, two-sided     2 b^2 exp(-alpha / b) + alpha^2 / (3 4^M)
  Laplace, one-sided       b^2 exp(-alpha / b) + alpha^2 / (24 4^M)
  Gaussian               (alpha^2 + sigma^2) (1 - erf(alpha / (sigma sqrt 2)))
                         - alpha sigma sqrt(2 / pi) exp(-alpha^2 / 2 sigma^2)
                         + alpha^2 / (3 4^M)

whose minimum over alpha is used. For Laplace it is `alpha / b = W(3 4^M)` with
Lambert's W, and `W(12 4^M)` one-sided, i.e. the value of one more bit. The
model takes the step to be 2 alpha / 2^M and is optimistic below 4 bits.
"""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize, special

from compress.errors import InputError
from compress.quantize import observers

Prior = Literal['laplace', 'gauss']


class Deviations(NamedTuple):
  """Moments, and the mean absolute deviation about the batch means."""

  moments: observers.Moments
  absolute: jax.Array  # float32, mean of |x - mean|


@functools.cache
def clip_multiplier(
  bits: int, *, prior: Prior = 'laplace', one_sided: bool = False
) -> float:
  """The best clipping value in units of `b` (Laplace) or sigma (Gaussian).

  Args:
    bits: M, at least 1.
    prior: the distribution.
    one_sided: for values that are never negative, quantized on [0, alpha]. The
      distribution's positive half only, so that its levels are twice as dense:
      the two-sided value of one more bit.

  Returns:
    alpha / b or alpha / sigma.

  Raises:
    InputError: unknown prior or bits below 1.
  """
  if prior not in ('laplace', 'gauss') or bits < 1:
    raise InputError(
      f"prior={prior!r}, bits={bits!r}: prior is 'laplace' or 'gauss', bits at "
      'least 1'
    )
  rounding = 3 * 4.0 ** (bits + one_sided)
  if prior == 'laplace':
    return float(special.lambertw(rounding).real)

  def slope(alpha):
    density = np.sqrt(2 / np.pi) * np.exp(-(alpha**2) / 2)
    return alpha * (special.erfc(alpha / np.sqrt(2)) + 1 / rounding) - density

  return float(optimize.brentq(slope, 0.1, 20.0, xtol=1e-12))


def aciq(
  *, prior: Prior = 'laplace', axis: int | None = None
) -> observers.Observer:
  """Mean plus and minus alpha, within what was seen.

  `[mean - alpha, mean + alpha]`, or `[0, max(mean, 0) + alpha]` where nothing
  negative was seen. `b` is the mean absolute deviation about the mean of each
  batch, averaged over elements (exact for a single batch). Cutting the upper
  end at the largest value seen departs from the released code, which cuts only
  the lower end; a range beyond the data has no use.

  Args:
    prior: `laplace` fits b, `gauss` the standard deviation.
    axis: channel axis, or None for one range.

  Returns:
    An observer with a `Deviations` state.

  Raises:
    InputError: unknown prior.
  """
  clip_multiplier(8, prior=prior)

  def init(shape):
    moments = observers.init_moments(shape, axis)
    return Deviations(moments, jnp.zeros_like(moments.mean))

  def update(state, x):
    moments = observers.moments_of(x, axis)
    deviation = jnp.abs(x.astype(jnp.float32) - moments.mean)
    batch = Deviations(
      moments, observers.reduce_all_but(deviation, axis, jnp.mean)
    )
    return merge(state, batch)

  def range_(state, spec):
    moments = state.moments
    width = state.absolute
    if prior == 'gauss':
      width = jnp.sqrt(moments.squares / jnp.maximum(moments.count, 1.0))
    two, one = (
      clip_multiplier(spec.bits, prior=prior, one_sided=side) * width
      for side in (False, True)
    )
    positive = moments.lo >= 0
    lo = jnp.where(positive, 0.0, jnp.maximum(moments.mean - two, moments.lo))
    hi = jnp.where(
      positive, jnp.maximum(moments.mean, 0.0) + one, moments.mean + two
    )
    hi = jnp.minimum(hi, moments.hi)
    seen = moments.count > 0
    return jnp.where(seen, lo, 0.0), jnp.where(seen, hi, 0.0)

  def merge(a, b):
    moments = observers.merge_moments(a.moments, b.moments)
    share = b.moments.count / jnp.maximum(moments.count, 1.0)
    return Deviations(moments, a.absolute + share * (b.absolute - a.absolute))

  return observers.Observer(init, update, range_, merge)
