"""The four choices that make a saliency of channels, and those with a name.

The axes of Persand, Anderson, Gregg 2021, arXiv:1906.04675; `saliency_grid`
has the formula and measures them. The parts are pure functions: of points x,
their gradients g and Hessian diagonals h, of `[P, C]` points of C channels in
one image, of one layer's saliencies `[C]`.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from compress.errors import InputError

Domain = str
ACTIVATION, WEIGHT = 'activation', 'weight'


@dataclasses.dataclass(frozen=True)
class Pointwise:
  """What is measured at one point.

  Attributes:
    name: for reports.
    function: `(x, g, h) -> f`, of x's shape.
    gradient: whether it reads g.
    hessian: whether it reads h.
  """

  name: str
  function: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
  gradient: bool = False
  hessian: bool = False


@dataclasses.dataclass(frozen=True)
class Reduction:
  """How the points `[P, C]` of the channels in one image become `[C]`."""

  name: str
  function: Callable[[jax.Array], jax.Array]


class Facts(NamedTuple):
  """What a scaling knows of a layer, per domain.

  Attributes:
    points: points of a channel.
    active_points: those attached to channels that are still there.
    weights_removed: weights that leave with each channel, `[C]`, or None.
  """

  points: float
  active_points: float
  weights_removed: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Scaling:
  """How saliencies `[C]` of one layer are made comparable with others'."""

  name: str
  function: Callable[[np.ndarray, Facts], np.ndarray]


def _half_square_hessian(x, g, h):
  del g
  return 0.5 * jnp.square(x) * h


AVERAGE = Pointwise('average', lambda x, g, h: x)
GRADIENT = Pointwise('gradient', lambda x, g, h: g, gradient=True)
TAYLOR_1 = Pointwise('taylor1', lambda x, g, h: -x * g, gradient=True)
HESSIAN = Pointwise('hessian', _half_square_hessian, hessian=True)
SQUARED_GRADIENT = Pointwise(
  'squared_gradient', lambda x, g, h: 0.5 * jnp.square(x * g), gradient=True
)
TAYLOR_2 = Pointwise(
  'taylor2',
  lambda x, g, h: _half_square_hessian(x, g, h) - x * g,
  gradient=True,
  hessian=True,
)
TAYLOR_2_APPROXIMATE = Pointwise(
  'taylor2_approximate',
  lambda x, g, h: 0.5 * jnp.square(x * g) - x * g,
  gradient=True,
)
POSITIVE = Pointwise('positive', lambda x, g, h: (x > 0).astype(x.dtype))

POINTWISES = (
  AVERAGE,
  GRADIENT,
  TAYLOR_1,
  HESSIAN,
  SQUARED_GRADIENT,
  TAYLOR_2,
  TAYLOR_2_APPROXIMATE,
)

NONE = Reduction('none', lambda f: f.sum(0))
L1 = Reduction('l1', lambda f: jnp.abs(f).sum(0))
L2 = Reduction('l2', lambda f: jnp.square(f).sum(0))
ABS_SUM = Reduction('abs_sum', lambda f: jnp.abs(f.sum(0)))
SQR_SUM = Reduction('sqr_sum', lambda f: jnp.square(f.sum(0)))

REDUCTIONS = (NONE, L1, L2, ABS_SUM, SQR_SUM)


def _over(s, norm):
  return s / norm if norm > 0 else s


def _per_weight(s, facts):
  if facts.weights_removed is None:
    raise InputError(
      'the scaling weights_removed needs `weights_removed`, e.g. that of '
      '`weights_removed(groups, graph.weights)`, with this layer in it'
    )
  return s / facts.weights_removed


UNSCALED = Scaling('unscaled', lambda s, facts: s)
L0 = Scaling('l0', lambda s, facts: s / facts.points)
L0_ADJUSTED = Scaling('l0_adjusted', lambda s, facts: s / facts.active_points)
LAYER_L1 = Scaling('layer_l1', lambda s, facts: _over(s, np.abs(s).sum()))
LAYER_L2 = Scaling(
  'layer_l2', lambda s, facts: _over(s, np.sqrt(np.square(s).sum()))
)
WEIGHTS_REMOVED = Scaling('weights_removed', _per_weight)

SCALINGS = (UNSCALED, L0, L0_ADJUSTED, LAYER_L1, LAYER_L2, WEIGHTS_REMOVED)


def scaled_twice(first: Scaling, second: Scaling) -> Scaling:
  """One scaling after another, as Molchanov et al. 2017 have it."""
  return Scaling(
    f'{first.name}+{second.name}',
    lambda s, facts: second.function(first.function(s, facts), facts),
  )


@dataclasses.dataclass(frozen=True)
class ChannelSaliency:
  """One point of the grid.

  Attributes:
    domain: `activation` or `weight`.
    pointwise: f.
    reduction: over the points of a channel in one image.
    scaling: of the mean over images.
  """

  domain: Domain
  pointwise: Pointwise
  reduction: Reduction
  scaling: Scaling

  def __post_init__(self):
    if self.domain not in (ACTIVATION, WEIGHT):
      raise InputError(f'domain {self.domain!r}; right is activation or weight')
    if self.domain == WEIGHT and self.pointwise == POSITIVE:
      raise InputError('the point-wise function positive is of activations')

  @property
  def name(self) -> str:
    """`domain/pointwise/reduction/scaling`."""
    parts = (self.pointwise, self.reduction, self.scaling)
    return '/'.join((self.domain, *(part.name for part in parts)))


LI_L1 = ChannelSaliency(WEIGHT, AVERAGE, L1, UNSCALED)
"""Sum of absolute weights: Li et al. 2017, arXiv:1608.08710."""
FILTER_L2 = ChannelSaliency(WEIGHT, AVERAGE, L2, UNSCALED)
"""Sum of squared weights: the squared norm of the filter."""
MEAN_ACTIVATION = ChannelSaliency(ACTIVATION, AVERAGE, NONE, L0)
APOZ = ChannelSaliency(ACTIVATION, POSITIVE, NONE, L0)
"""1 - average percentage of zeros: Hu et al. 2016, arXiv:1607.03250."""
MOLCHANOV_2017 = ChannelSaliency(
  ACTIVATION, TAYLOR_1, ABS_SUM, scaled_twice(L0, LAYER_L2)
)
"""First-order Taylor of a feature map: Molchanov 2017, arXiv:1611.06440."""
MOLCHANOV_2019 = ChannelSaliency(WEIGHT, TAYLOR_1, SQR_SUM, UNSCALED)
"""Squared first-order Taylor of a filter: arXiv:1906.10771."""
THEIS_FISHER = ChannelSaliency(ACTIVATION, TAYLOR_1, SQR_SUM, UNSCALED)
"""Fisher information of a gate: Theis et al. 2018, arXiv:1801.05787."""
CHANNEL_BRAIN_DAMAGE = ChannelSaliency(WEIGHT, HESSIAN, NONE, UNSCALED)
"""Optimal brain damage of LeCun et al. 1990, summed over a filter."""
SKELETONIZATION = ChannelSaliency(ACTIVATION, TAYLOR_1, NONE, UNSCALED)
"""Mozer, Smolensky 1989; theirs has the linear loss `sum |t - o|`."""


def all_saliencies() -> Iterator[ChannelSaliency]:
  """The 420 of the grid, then APoZ."""
  axes = ((ACTIVATION, WEIGHT), POINTWISES, REDUCTIONS, SCALINGS)
  for choices in itertools.product(*axes):
    yield ChannelSaliency(*choices)
  yield APOZ


def random_channels(
  key: jax.Array, channels: Mapping[str, int]
) -> dict[str, np.ndarray]:
  """The random baseline: uniform on [0, 1), by leaf path of the kernel."""
  keys = jax.random.split(key, max(len(channels), 1))
  return {
    path: np.asarray(jax.random.uniform(k, (channels[path],)), np.float64)
    for path, k in zip(sorted(channels), keys, strict=True)
  }
