"""Vicinal estimates: a GAN of numbers learns from images of nearby numbers.

Ding, Wang, Xu, Welch and Wang 2021, 'CcGAN: Continuous Conditional Generative
Adversarial Networks for Image Generation', arXiv:2011.07466. Few real images,
or none, have exactly a given number. So the discriminator judges at a target
t = y + e, y a number of the data and e normal noise of deviation sigma, and
real images of numbers around t stand for those of t: in the hard estimate
(HVDL) those within kappa, alike, in the soft one (SVDL) with weights that fall
as exp(-nu (number - t)^2), nu = 1 / kappa^2.

The estimates are drawn as in the paper's algorithms: of every target one real
image, any in the vicinity with the same chance, and one fake of a number
uniform in the vicinity; in the soft estimate both scores have the weight of
their number, and weights below a threshold end the vicinity. Departures: a
target without a real image in its vicinity loses its noise (the reference code
draws the noise again), and numbers need not lie in 0..1: what a fake is made
for stays within the data's range.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from compress.errors import InputError

KINDS = ('hard', 'soft')


def rule_of_thumb_noise(numbers: np.ndarray) -> float:
  """The deviation of the noise on targets, by Silverman's rule.

  Args:
    numbers: of the real images, [N].

  Returns:
    `sigma = 1.06 s N^(-1/5)`, s the standard deviation (divided by N).
  """
  numbers = _checked(numbers)
  return float(1.06 * numbers.std() * len(numbers) ** -0.2)


def rule_of_thumb_radius(
  numbers: np.ndarray, *, neighbours: float = 1.0
) -> float:
  """The vicinity's radius, by the widest gap in the data.

  Args:
    numbers: of the real images, [N].
    neighbours: m_kappa, how many gaps; 1 or 2 in most of the paper.

  Returns:
    `kappa = m_kappa max(gap)`, over the gaps between neighbours of the distinct
    numbers in their order.

  Raises:
    InputError: fewer than two distinct numbers, or one that is not finite.
  """
  distinct = np.unique(_checked(numbers))
  if len(distinct) < 2:
    raise InputError(
      f'{len(distinct)} distinct number(s); right are two or more, or a kappa'
    )
  return float(neighbours * np.diff(distinct).max())


def soft_weights(
  numbers: jax.Array, targets: jax.Array, *, nu: float
) -> jax.Array:
  """How much numbers count for the targets.

  Args:
    numbers: of any shape that broadcasts with the targets';
      `numbers[None], targets[:, None]` gives every pair.
    targets: as above.
    nu: how fast the weight falls; `1 / kappa^2` by the rule of thumb.

  Returns:
    `exp(-nu (number - target)^2)`, float32 above 0 and at most 1.
  """
  gap = jnp.asarray(numbers) - jnp.asarray(targets)
  return jnp.exp(-nu * jnp.square(gap.astype(jnp.float32)))


@dataclasses.dataclass(frozen=True)
class Vicinity:
  """What counts as near.

  Attributes:
    kind: 'hard' or 'soft'.
    sigma: deviation of the noise on targets, in the unit of the numbers; None
      takes `rule_of_thumb_noise`.
    kappa: radius of the hard estimate; nu is `1 / kappa^2` in the soft one.
      None takes `rule_of_thumb_radius`.
    neighbours: m_kappa of that.
    threshold: smallest weight in the soft estimate, between 0 and 1.

  Raises:
    InputError: another kind, or a number out of range.
  """

  kind: str = 'soft'
  sigma: float | None = None
  kappa: float | None = None
  neighbours: float = 1.0
  threshold: float = 1e-3

  def __post_init__(self):
    if self.kind not in KINDS:
      raise InputError(f'vicinity {self.kind!r}; right is hard or soft')
    given = [x for x in (self.kappa, self.neighbours) if x is not None]
    sigma = 0.0 if self.sigma is None else self.sigma
    if (
      not all(math.isfinite(x) and x > 0 for x in given)
      or not 0 <= sigma < math.inf
      or not 0 < self.threshold < 1
    ):
      raise InputError(
        f'{self}: kappa and neighbours are above 0, sigma at least 0, the '
        'threshold between 0 and 1'
      )

  def settled(self, numbers: np.ndarray) -> 'Vicinity':
    """The same with sigma and kappa, by the rules of thumb where not given.

    Args:
      numbers: of the real images, [N].

    Returns:
      A vicinity without None.
    """
    sigma, kappa = self.sigma, self.kappa
    if sigma is None:
      sigma = rule_of_thumb_noise(numbers)
    if kappa is None:
      kappa = rule_of_thumb_radius(numbers, neighbours=self.neighbours)
    return dataclasses.replace(self, sigma=sigma, kappa=kappa)

  @property
  def radius(self) -> float:
    """How far from its target an image may be; of a settled vicinity."""
    if self.kind == 'hard':
      return self.kappa
    return self.kappa * math.sqrt(-math.log(self.threshold))

  def weights(self, numbers: jax.Array, targets: jax.Array) -> jax.Array:
    """What scores count at their targets, for images within the radius.

    Args:
      numbers: of the images, [B].
      targets: at which they are judged, [B].

    Returns:
      Float32 [B]; 1 in the hard estimate.
    """
    if self.kind == 'hard':
      return jnp.ones(numbers.shape, jnp.float32)
    return soft_weights(numbers, targets, nu=1 / self.kappa**2)


class Drawn(NamedTuple):
  """A batch of targets, and what is judged at each.

  Attributes:
    rows: int32 [B], real images.
    targets: float32 [B].
    asked: float32 [B], the numbers that fakes are made for.
    real: float32 [B], weights of the real images' scores.
    fake: float32 [B], of the fakes'.
  """

  rows: jax.Array
  targets: jax.Array
  asked: jax.Array
  real: jax.Array
  fake: jax.Array


def draw_near(
  numbers: jax.Array,
  targets: jax.Array,
  key: jax.Array,
  *,
  vicinity: Vicinity,
) -> tuple[jax.Array, jax.Array]:
  """Draws a real image near each target, any in its vicinity alike.

  Args:
    numbers: of the real images, float32 [N], in rising order.
    targets: [B].
    key: random key.
    vicinity: settled, see `Vicinity.settled`.

  Returns:
    Rows int32 [B], and the weights of their scores, float32 [B]; 0 where the
    vicinity has no image. Pure, good under `jit`.
  """
  first, last = _ends(numbers, targets, vicinity)
  rows = jax.random.randint(key, targets.shape, first, last)
  rows = jnp.clip(rows, 0, len(numbers) - 1)
  weights = vicinity.weights(numbers[rows], targets)
  return rows, jnp.where(first < last, weights, 0.0)


def draw_vicinal(
  numbers: jax.Array,
  distinct: jax.Array,
  key: jax.Array,
  *,
  batch: int,
  vicinity: Vicinity,
) -> Drawn:
  """Draws targets, and near each a real image and a number for a fake.

  Args:
    numbers: of the real images, float32 [N], in rising order.
    distinct: the different ones among them, [U], in rising order: each is a
      target as often, however many images have it.
    key: random key.
    batch: B.
    vicinity: settled, see `Vicinity.settled`.

  Returns:
    The batch. Pure, good under `jit`.
  """
  which, noise, real, fake = jax.random.split(key, 4)
  clean = distinct[jax.random.randint(which, (batch,), 0, len(distinct))]
  noisy = clean + vicinity.sigma * jax.random.normal(noise, (batch,))

  first, last = _ends(numbers, noisy, vicinity)
  targets = jnp.where(first < last, noisy, clean)
  rows, weights = draw_near(numbers, targets, real, vicinity=vicinity)
  low = jnp.maximum(targets - vicinity.radius, numbers[0])
  high = jnp.minimum(targets + vicinity.radius, numbers[-1])
  asked = low + (high - low) * jax.random.uniform(fake, (batch,))
  return Drawn(rows, targets, asked, weights, vicinity.weights(asked, targets))


def _ends(numbers, targets, vicinity):
  """The rows of each target's vicinity: the first, and one past the last."""
  return (
    jnp.searchsorted(numbers, targets - vicinity.radius, side='left'),
    jnp.searchsorted(numbers, targets + vicinity.radius, side='right'),
  )


def _checked(numbers) -> np.ndarray:
  numbers = np.asarray(numbers, np.float64)
  if numbers.ndim != 1 or not len(numbers) or not np.isfinite(numbers).all():
    raise InputError(
      f'numbers {list(numbers.shape)}; right is [N], N at least 1, all finite'
    )
  return numbers
