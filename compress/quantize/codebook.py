"""Weights that share values: codebooks as a `Compressor`.

Every weight keeps a code and the values are few. Codes stay as `init` finds
them; centroids may be learned: a centroid's gradient is the sum of its weights'
gradients, which is what differentiating the look-up gives (Han et al. 2016,
arXiv:1510.00149, equation 3). Weights that are exactly 0 stay so, whatever
their code says: a codebook after pruning holds the survivors alone.
"""

import dataclasses
import math
import zlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from compress import compressor as compressor_lib
from compress.compressor import Compressor, Rules, State
from compress.errors import InputError
from compress.packed import Codebook, Packed, Sparse, sparse, unpack
from compress.quantize import kmeans

MAX_CENTROIDS = 1 << 16


def check_count(centroids: int, iterations: int) -> None:
  """Raises an InputError unless there may be so many of both."""
  if not 1 <= centroids <= MAX_CENTROIDS or iterations < 0:
    raise InputError(
      f'centroids={centroids}, iterations={iterations}: right are 1 to '
      f'{MAX_CENTROIDS}, and 0 or more'
    )


@dataclasses.dataclass(frozen=True)
class SharedSpec:
  """How the values of one leaf are shared.

  Attributes:
    centroids: values that are left, K; the paper has 256 for convolutions and
      32 for dense layers.
    initial: where they begin, see `kmeans.initial_centroids`.
    iterations: of k-means, at most.

  Raises:
    InputError: a field that cannot be.
  """

  centroids: int = 32
  initial: str = 'linear'
  iterations: int = 50

  def __post_init__(self):
    check_count(self.centroids, self.iterations)
    if self.initial not in kmeans.INITIAL:
      raise InputError(
        f'initial={self.initial!r}: right is one of {", ".join(kmeans.INITIAL)}'
      )


@dataclasses.dataclass(frozen=True)
class SignSpec:
  """How the signs of one leaf are kept.

  Attributes:
    scaled: the two values are plus and minus the mean magnitude, and not 1.
  """

  scaled: bool = True


def share_weights(
  rules: Rules, *, learned: bool = True, key: jax.Array | None = None
) -> Compressor:
  """Weight sharing: a leaf keeps K values, found by k-means.

  Han, Mao, Dally 2016, 'Deep Compression', arXiv:1510.00149, section 3; with
  `learned=False` the scalar k-means of Gong et al. 2014, arXiv:1412.6115. Zeros
  are left out of the clustering, and stay 0.

  Args:
    rules: ordered `(pattern, SharedSpec)` pairs over leaf paths.
    learned: learn the values; the codes stay. The weights themselves get no
      gradient.
    key: random key, for specs that begin at random values.

  Returns:
    The compressor; see `codebook_compressor`.
  """

  def cluster(leaf, spec, path):
    values = leaf.reshape(-1).astype(jnp.float32)
    kept = values != 0
    start = kmeans.initial_centroids(
      values,
      count=spec.centroids,
      initial=spec.initial,
      kept=kept,
      key=None if key is None else leaf_key(key, path),
    )
    found = kmeans.cluster_numbers(
      values, start, kept=kept, iterations=spec.iterations
    )
    codes = found.codes.reshape(1, -1, leaf.shape[-1] if leaf.ndim else 1)
    return make_codebook(leaf, codes, found.centroids[None, None, :, None])

  return codebook_compressor(rules, cluster, learned=learned)


def binarize_signs(rules: Rules, *, learned: bool = False) -> Compressor:
  """Keeps of each weight its sign: one bit, 32 times less.

  Gong et al. 2014, arXiv:1412.6115, section 3.2.1, where there is no scale:
  `SignSpec(scaled=False)`. The sign of what is above 0 is +1; zeros stay 0.

  Args:
    rules: ordered `(pattern, SignSpec)` pairs over leaf paths.
    learned: learn the two values.

  Returns:
    The compressor; see `codebook_compressor`.
  """

  def cluster(leaf, spec, path):
    del path
    values = leaf.astype(jnp.float32)
    alpha = jnp.float32(1)
    if spec.scaled:
      count = jnp.maximum((values != 0).sum(), 1).astype(jnp.float32)
      alpha = jnp.abs(values).sum() / count
    codes = (values > 0).reshape(1, -1, leaf.shape[-1] if leaf.ndim else 1)
    values = jnp.stack([-alpha, alpha])[None, None, :, None]
    return make_codebook(leaf, codes, values)

  return codebook_compressor(rules, cluster, learned=learned)


def codebook_compressor(
  rules: Rules, cluster: Callable[..., Codebook], *, learned: bool
) -> Compressor:
  """The compressor of any method whose state is a codebook a leaf.

  Args:
    rules: ordered `(pattern, spec)` pairs over leaf paths.
    cluster: `(leaf, spec, path) -> Codebook`, traced in `init`.
    learned: the centroids are learned; otherwise they stay as they are.

  Returns:
    The compressor. Centroids, float32 by leaf path, are `state.learned` or
    `state.carried['centroids']`, codes `state.carried['codes']`. `pack` gives a
    `Codebook`; a `Sparse` one where there are zeros, and under `jit`, where
    nobody can look.
  """

  def specs_of(params):
    return compressor_lib.resolve(rules, params).specs

  def init(params) -> State:
    codes, centroids = {}, {}

    def visit(leaf, spec, path):
      found = cluster(leaf, spec, path)
      codes[path], centroids[path] = found.codes, found.centroids
      return leaf

    compressor_lib.map_covered(visit, params, specs_of(params))
    if learned:
      return State(centroids, {'codes': codes})
    return State({}, {'codes': codes, 'centroids': centroids})

  def stored(leaf, spec, path, state) -> Sparse:
    centroids = state.learned
    if not learned:
      centroids = jax.lax.stop_gradient(state.carried['centroids'])
    book = Codebook(
      state.carried['codes'][path],
      centroids[path],
      tuple(leaf.shape),
      dtype=leaf.dtype.name,
      axis=getattr(spec, 'axis', -1),
    )
    return sparse(leaf != 0, book)

  def apply(params, state):
    def at(leaf, spec, path):
      return unpack(stored(leaf, spec, path, state))

    return compressor_lib.map_covered(at, params, specs_of(params))

  def pack(params, state):
    def at(leaf, spec, path):
      found = stored(leaf, spec, path, state)
      seen = not isinstance(found.mask, jax.core.Tracer)
      return found.inner if seen and bool(found.mask.all()) else found

    return compressor_lib.pack_covered(at, params, specs_of(params))

  return Compressor(init, apply, compressor_lib.keep_state, pack)


def make_codebook(
  leaf: jax.Array, codes: jax.Array, centroids: jax.Array, *, axis: int = -1
) -> Codebook:
  """A codebook of a leaf, its codes in the smallest type that holds them.

  Args:
    leaf: the tensor.
    codes: integers or bool [T, R, S].
    centroids: [T, S or 1, K, d].
    axis: that is cut into segments.

  Returns:
    The codebook.
  """
  kind = jnp.uint8 if centroids.shape[2] <= 256 else jnp.uint16
  return Codebook(
    codes.astype(kind),
    centroids.astype(jnp.float32),
    tuple(leaf.shape),
    dtype=leaf.dtype.name,
    axis=axis,
  )


def leaf_key(key: jax.Array, path: str) -> jax.Array:
  """A random key of a leaf's own."""
  return jax.random.fold_in(key, zlib.crc32(path.encode()))


def with_zero_code(packed: Packed) -> Packed:
  """A sparse tensor of shared values as a dense one with a code for 0.

  Then one stream of codes says both what survives and which value it has, as
  Deep Compression stores it: coded by relative indices, the zero code fills
  gaps that are too long. Values that no weight has are dropped; the others are
  numbered by magnitude, which suits coders that find small codes likely.

  Args:
    packed: any packed tensor.

  Returns:
    A `Codebook` that unpacks to the same; what is no sparse tensor with a code
    for each value is given back.
  """
  if not isinstance(packed, Sparse) or not isinstance(packed.inner, Codebook):
    return packed
  if not packed.inner.elementwise:
    return packed
  book = packed.inner
  shape = packed.inner.shape
  mask = np.asarray(packed.mask)
  if shape:
    mask = np.moveaxis(mask, book.axis, -1)
  mask = mask.reshape(book.codes.shape)
  codes = np.asarray(book.codes).astype(np.int64)
  shared = book.centroids.shape[1] == 1
  if not shared:
    raise InputError('a zero code needs one codebook for all segments')
  values = np.asarray(book.centroids).reshape(-1)
  used = np.unique(codes[mask])
  used = used[np.argsort(np.abs(values[used]), kind='stable')]
  numbers = np.zeros(len(values), np.int64)
  numbers[used] = np.arange(1, len(used) + 1)
  new = np.where(mask, numbers[codes], 0)
  kept = np.concatenate([np.zeros(1, values.dtype), values[used]])
  kind = np.uint8 if len(kept) <= 256 else np.uint16
  return Codebook(
    jnp.asarray(new.astype(kind)),
    jnp.asarray(kept.reshape(1, 1, -1, 1)),
    shape,
    dtype=book.dtype,
    axis=book.axis,
  )


def sharing_ratio(weights: int, *, centroids: int, bits: int = 32) -> float:
  """`n b / (n log2 K + K b)`: Han et al. 2016, equation 1.

  Args:
    weights: n.
    centroids: K.
    bits: of a value before, and of a centroid.

  Returns:
    How many times smaller codes and centroids are.
  """
  after = weights * math.log2(centroids) + centroids * bits
  return weights * bits / after
