"""Residual quantization: a row is the sum of one vector of each codebook.

Gong et al. 2014, arXiv:1412.6115, section 3.2.4: k-means of the rows, then of
what is left of them, for T stages.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from compress.compressor import Compressor, Rules
from compress.errors import InputError
from compress.quantize import codebook, product


@dataclasses.dataclass(frozen=True)
class ResidualSpec:
  """How one leaf is residual-quantized.

  Attributes:
    centroids: vectors of a stage's codebook, K.
    stages: T.
    length: values of a segment; None for whole rows, as in the paper.
    axis: that is cut: by default the inputs of a Flax kernel.
    iterations: of k-means, at most.

  Raises:
    InputError: a field that cannot be.
  """

  centroids: int = 256
  stages: int = 2
  length: int | None = None
  axis: int = -2
  iterations: int = 50

  def __post_init__(self):
    codebook.check_count(self.centroids, self.iterations)
    if self.stages < 1 or (self.length is not None and self.length < 1):
      raise InputError(
        f'stages={self.stages}, length={self.length}: right are 1 or more'
      )


def quantize_residuals(
  rules: Rules, *, learned: bool = False, key: jax.Array | None = None
) -> Compressor:
  """Residual quantization of the weights that a plan covers.

  Args:
    rules: ordered `(pattern, ResidualSpec)` pairs over leaf paths.
    learned: learn the centroids; the codes stay.
    key: random key of the first centroids (k-means++); None for a fixed one.

  Returns:
    The compressor; see `codebook.codebook_compressor`.

  Raises:
    InputError: in `init`, a leaf whose axis is no multiple of the length.
  """
  key = jax.random.key(0) if key is None else key

  def cluster(leaf, spec, path):
    rest = product.segments(leaf, length=spec.length, axis=spec.axis, path=path)
    codes, centroids = [], []
    for stage in range(spec.stages):
      found = product.cluster_segments(
        rest,
        count=spec.centroids,
        key=jax.random.fold_in(codebook.leaf_key(key, path), stage),
        iterations=spec.iterations,
      )
      rest = rest - jax.vmap(lambda c, i: c[i])(found.centroids, found.codes)
      codes.append(found.codes.T)
      centroids.append(found.centroids)
    return codebook.make_codebook(
      leaf, jnp.stack(codes), jnp.stack(centroids), axis=spec.axis
    )

  return codebook.codebook_compressor(rules, cluster, learned=learned)


def residual_ratio(
  rows: int, columns: int, *, stages: int, centroids: int
) -> float:
  """`32 m n / (T (32 K n + m log2 K))`, as the paper counts.

  Args:
    rows: m.
    columns: n.
    stages: T.
    centroids: K.

  Returns:
    How many times smaller codes and codebooks are than float32.
  """
  stage = 32 * centroids * columns + rows * math.log2(centroids)
  return 32 * rows * columns / (stages * stage)
