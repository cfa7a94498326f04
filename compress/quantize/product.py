"""Product quantization of weights: short pieces of rows share codebooks.

Gong, Liu, Yang, Bourdev 2014, 'Compressing Deep Convolutional Networks using
Vector Quantization', arXiv:1412.6115, section 3.2.3. A row is what one output
reads; it is cut into S segments, and segments of one place share K vectors.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp

from compress.compressor import Compressor, Rules
from compress.errors import InputError
from compress.packed import Codebook
from compress.quantize import codebook, kmeans


@dataclasses.dataclass(frozen=True)
class ProductSpec:
  """How one leaf is product-quantized.

  Attributes:
    centroids: vectors of a segment's codebook, K.
    length: values of a segment, d; divides the axis. None for whole rows.
    axis: that is cut: by default the inputs of a Flax kernel.
    iterations: of k-means, at most.

  Raises:
    InputError: a field that cannot be.
  """

  centroids: int = 256
  length: int | None = 4
  axis: int = -2
  iterations: int = 50

  def __post_init__(self):
    codebook.check_count(self.centroids, self.iterations)
    if self.length is not None and self.length < 1:
      raise InputError(f'length={self.length}: right is 1 or more, or None')


def quantize_products(
  rules: Rules, *, learned: bool = False, key: jax.Array | None = None
) -> Compressor:
  """Product quantization of the weights that a plan covers.

  The paper trains nothing afterwards; `learned=True` trains the centroids by
  their weights' summed gradients. A network computes with the looked-up
  weights: no saving of operations is claimed.

  Args:
    rules: ordered `(pattern, ProductSpec)` pairs over leaf paths.
    learned: learn the centroids; the codes stay.
    key: random key of the first centroids (k-means++); None for a fixed one.

  Returns:
    The compressor; see `codebook.codebook_compressor`.

  Raises:
    InputError: in `init`, a leaf whose axis is no multiple of the length.
  """
  key = jax.random.key(0) if key is None else key

  def cluster(leaf, spec, path):
    rows = segments(leaf, length=spec.length, axis=spec.axis, path=path)
    found = cluster_segments(
      rows,
      count=spec.centroids,
      key=codebook.leaf_key(key, path),
      iterations=spec.iterations,
    )
    return codebook.make_codebook(
      leaf, found.codes.T[None], found.centroids[None], axis=spec.axis
    )

  return codebook.codebook_compressor(rules, cluster, learned=learned)


def segments(
  leaf: jax.Array, *, length: int | None, axis: int, path: str = 'the leaf'
) -> jax.Array:
  """The segments of a leaf's rows.

  Args:
    leaf: tensor with the axis.
    length: d, or None for whole rows.
    axis: that is cut.
    path: names the leaf in a message.

  Returns:
    float32 [S, R, d].

  Raises:
    InputError: there is no such axis, or it is no multiple of d.
  """
  if not -leaf.ndim <= axis < leaf.ndim:
    raise InputError(f'{path}: shape {list(leaf.shape)} has no axis {axis}')
  width = leaf.shape[axis]
  length = width if length is None else length
  if width % length:
    raise InputError(
      f'{path}: axis {axis} of shape {list(leaf.shape)} cannot be cut into '
      f'segments of {length}'
    )
  rows = jnp.moveaxis(leaf, axis, -1).astype(jnp.float32)
  return jnp.moveaxis(rows.reshape(-1, width // length, length), 1, 0)


@functools.partial(jax.jit, static_argnames='count')
def cluster_segments(
  rows: jax.Array, *, count: int, key: jax.Array, iterations: int
) -> kmeans.Clusters:
  """k-means of every place's segments, each for itself.

  Args:
    rows: float32 [S, R, d].
    count: K.
    key: random key.
    iterations: at most.

  Returns:
    centroids [S, K, d], codes [S, R].
  """
  keys = jax.random.split(key, len(rows))

  def one(found):
    points, key = found
    return kmeans.cluster_vectors(
      points, count=count, key=key, iterations=iterations
    )

  # One after the other: side by side they would all wait for the slowest.
  return jax.lax.map(one, (rows, keys))


def product_ratio(
  rows: int, columns: int, *, segments: int, centroids: int
) -> float:
  """`32 m n / (32 K n + m S log2 K)`, as the paper counts.

  Args:
    rows: m.
    columns: n.
    segments: S.
    centroids: K.

  Returns:
    How many times smaller codes and codebooks are than float32.
  """
  codes = rows * segments * math.log2(centroids)
  return 32 * rows * columns / (32 * centroids * columns + codes)


def lookup_product(inputs: jax.Array, book: Codebook) -> jax.Array:
  """A dense layer from its codebook, without its weights.

  Every segment of the input meets the K centroids of its place once; an output
  gathers and adds one number a segment (section 3.2.3's look-up).

  Args:
    inputs: float32 [B, n].
    book: of a kernel [n, m], cut along axis 0, with one stage.

  Returns:
    float32 [B, m].

  Raises:
    InputError: a codebook of another kind.
  """
  stages, outputs, count = book.codes.shape
  _, _, _, length = book.centroids.shape
  right = len(book.shape) == 2 and book.axis % 2 == 0 and stages == 1
  if not right or book.centroids.shape[1] != count:
    raise InputError('a look-up needs a kernel [n, m] cut along its inputs')
  pieces = inputs.reshape(len(inputs), count, length)
  table = jnp.einsum('bsd,skd->bsk', pieces, book.centroids[0])
  index = book.codes[0].T.astype(jnp.int32)  # [S, m]
  index = jnp.broadcast_to(index[None], (len(inputs), count, outputs))
  return jnp.take_along_axis(table, index, axis=2).sum(axis=1)
