"""k-means of numbers and of vectors, for `jit` and `vmap`.

Lloyd's iterations until no point changes its cluster. A cluster that is empty
takes the point that is worst represented, one an iteration, so that no
centroid is lost and none is ever NaN; the distortion does not rise by it. In
one dimension a cluster is an interval between two midpoints, so points find
theirs by bisection.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from compress.errors import InputError

INITIAL = ('linear', 'density', 'random')


class Clusters(NamedTuple):
  """The end of k-means.

  Attributes:
    centroids: float32 [K] ascending, or [K, d].
    codes: int32 [n], the cluster of each point.
  """

  centroids: jax.Array
  codes: jax.Array


@functools.partial(jax.jit, static_argnames=('count', 'initial'))
def initial_centroids(
  values: jax.Array,
  *,
  count: int,
  initial: str = 'linear',
  kept: jax.Array | None = None,
  key: jax.Array | None = None,
) -> jax.Array:
  """Where the centroids of numbers begin.

  Han, Mao, Dally 2016, arXiv:1510.00149, section 3.2. Large weights are few and
  matter most; linear initialisation serves them best.

  Args:
    values: float32 [n].
    count: K.
    initial: `linear`: evenly from the least to the greatest, `min + j (max -
      min) / (K - 1)`; `density`: evenly along the distribution, at its
      quantiles `(j + 1/2) / K`; `random`: K of the numbers.
    kept: bool [n], the numbers that count; None for all.
    key: random key, for `random`.

  Returns:
    float32 [K], ascending; zeros where no number counts.

  Raises:
    InputError: another initialisation, or `random` without a key.
  """
  kept = jnp.ones(values.shape, bool) if kept is None else kept
  some = kept.any()
  if initial == 'linear':
    low = jnp.where(kept, values, jnp.inf).min()
    high = jnp.where(kept, values, -jnp.inf).max()
    part = jnp.arange(count) / max(1, count - 1)
    found = low + part.astype(jnp.float32) * (high - low)
  elif initial == 'density':
    order = jnp.sort(jnp.where(kept, values, jnp.inf))
    part = (2 * jnp.arange(count) + 1).astype(jnp.float32) / (2 * count)
    place = jnp.floor(part * kept.sum().astype(jnp.float32)).astype(jnp.int32)
    found = order[jnp.clip(place, 0, jnp.maximum(kept.sum() - 1, 0))]
  elif initial != 'random':
    raise InputError(
      f'initial={initial!r}: right is one of {", ".join(INITIAL)}'
    )
  elif key is None:
    raise InputError("initial='random' needs a key")
  else:
    drawn = jax.random.uniform(key, values.shape)
    drawn = jnp.where(kept, drawn, -1.0)
    least = min(count, values.size)
    chosen = jax.lax.top_k(drawn, least)[1]
    chosen = jnp.where(drawn[chosen] >= 0, chosen, chosen[0])
    found = jnp.sort(jnp.resize(values[chosen], (count,)))
  return jnp.where(some, found, 0.0).astype(jnp.float32)


@jax.jit
def cluster_numbers(
  values: jax.Array,
  centroids: jax.Array,
  *,
  kept: jax.Array | None = None,
  iterations: int = 50,
) -> Clusters:
  """Lloyd's iterations in one dimension.

  Args:
    values: float32 [n].
    centroids: float32 [K], where they begin.
    kept: bool [n], the numbers that count; the others only get a code.
    iterations: at most; it ends where no code changes.

  Returns:
    The clusters, centroids ascending.
  """
  weights = jnp.ones(values.shape) if kept is None else kept.astype(jnp.float32)
  rows = _lloyd(
    values[:, None],
    jnp.sort(centroids)[:, None],
    weights,
    iterations,
    lambda _, centroids: nearest_numbers(values, centroids[:, 0]),
    lambda centroids: jnp.sort(centroids, axis=0),
  )
  return Clusters(rows.centroids[:, 0], rows.codes)


def nearest_numbers(values: jax.Array, centroids: jax.Array) -> jax.Array:
  """int32 of the shape of `values`: the nearest of ascending centroids [K]."""
  edges = 0.5 * centroids[:-1] + 0.5 * centroids[1:]
  return jnp.searchsorted(edges, values).astype(jnp.int32)


def cluster_vectors(
  points: jax.Array,
  *,
  count: int,
  key: jax.Array,
  iterations: int = 50,
) -> Clusters:
  """Lloyd's iterations from centroids that k-means++ draws.

  Arthur and Vassilvitskii 2007: each further centroid is a point, drawn in
  proportion to its squared distance from those before it.

  Args:
    points: float32 [n, d].
    count: K.
    key: random key.
    iterations: at most; it ends where no code changes.

  Returns:
    The clusters; where points are fewer than K, some are left empty.
  """
  keys = jax.random.split(key, count)

  def draw(i, found):
    centroids, least = found
    # Where all distances are 0, any point will do.
    chosen = jax.random.categorical(keys[i], jnp.log(least + 1e-38))
    point = points[chosen]
    distance = ((points - point[None]) ** 2).sum(axis=1)
    return centroids.at[i].set(point), jnp.minimum(least, distance)

  centroids = jnp.zeros((count, points.shape[1]))
  far = jnp.full(len(points), 1e30)
  centroids, _ = jax.lax.fori_loop(0, count, draw, (centroids, far))
  weights = jnp.ones(len(points))
  return _lloyd(points, centroids, weights, iterations, nearest_vectors, _same)


def nearest_vectors(points: jax.Array, centroids: jax.Array) -> jax.Array:
  """int32 [n]: the nearest of centroids [K, d] for each of points [n, d]."""
  apart = points[:, None] - centroids[None]
  return jnp.argmin((apart**2).sum(axis=-1), axis=1).astype(jnp.int32)


def _same(centroids):
  return centroids


def _lloyd(points, centroids, weights, iterations, nearest, order) -> Clusters:
  """Alternates assignment and means; `order` sorts centroids, if they are."""
  count = len(centroids)

  def sums(values, codes):
    return jax.ops.segment_sum(values, codes, num_segments=count)

  def step(found):
    i, centroids, codes, _ = found
    # Deviations from the old centroid: their sum loses no digits to its size.
    apart = (points - centroids[codes]) * weights[:, None]
    size = sums(weights, codes)
    moved = centroids + sums(apart, codes) / jnp.maximum(size, 1)[:, None]
    error = (apart**2).sum(axis=1)
    worst, empty = jnp.argmax(error), jnp.argmin(size)
    reseed = (size[empty] == 0) & (error[worst] > 0)
    moved = jnp.where(
      reseed & (jnp.arange(count) == empty)[:, None], points[worst], moved
    )
    moved = order(moved)
    new = nearest(points, moved)
    return i + 1, moved, new, reseed | ((new != codes) & (weights > 0)).any()

  def unfinished(found):
    return (found[0] < iterations) & found[3]

  start = 0, centroids, nearest(points, centroids), jnp.bool_(True)
  _, centroids, codes, _ = jax.lax.while_loop(unfinished, step, start)
  return Clusters(centroids, codes)
