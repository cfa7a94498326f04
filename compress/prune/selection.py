"""Which survive: from saliencies and counts to masks.

A *unit* is what leaves as one: a weight, a block of weights, a channel. A
`Selection` scores the units of a leaf, chooses among them, and spreads the
choice over the leaf. Masks are bool of the leaf's shape, True where the weight
stays. Saliencies are higher where a unit should stay; NaN counts as lowest.
Counts may be traced: one compiled function serves a whole schedule.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from compress.errors import InputError
from compress.prune.rounding import Ties


class Selection(NamedTuple):
  """A way to choose.

  Attributes:
    score: `(saliency) -> scores`, one a unit, of any shape.
    choose: `(scores, keep, ties=) -> bool` of the scores' shape; `keep` is the
      number of units that stay, static or traced.
    spread: `(chosen, shape) -> mask` of the leaf's shape.
    units: `(shape, path) -> int`, how many units a leaf has; raises
      `InputError` naming the path where the leaf has no such units.
    pattern: (n, m, axis) of an N:M choice, else None.
  """

  score: Callable[[jax.Array], jax.Array]
  choose: Callable[..., jax.Array]
  spread: Callable[[jax.Array, tuple[int, ...]], jax.Array]
  units: Callable[[tuple[int, ...], str], int]
  pattern: tuple[int, int, int] | None = None

  def __call__(self, saliency, keep, *, ties: Ties = 'index') -> jax.Array:
    """The mask of one leaf of which `keep` units stay."""
    chosen = self.choose(self.score(saliency), keep, ties=ties)
    return self.spread(chosen, saliency.shape)


def ranks(saliency: jax.Array) -> jax.Array:
  """Place of every entry, 0 the most salient; ties by lowest flat index.

  Args:
    saliency: float array of any shape.

  Returns:
    int32 of the same shape, a permutation of 0..n-1.
  """
  flat = ordered(saliency).reshape(-1)
  order = jnp.argsort(flat, descending=True, stable=True)
  places = jnp.arange(flat.size, dtype=jnp.int32)
  return jnp.zeros_like(places).at[order].set(places).reshape(saliency.shape)


def top_k(
  saliency: jax.Array, keep: jax.Array | int, *, ties: Ties = 'index'
) -> jax.Array:
  """Keeps the `keep` most salient entries.

  Args:
    saliency: float array of any shape.
    keep: int [], how many stay, in [0, n]; static or traced.
    ties: `index`: exactly `keep`, ties by lowest flat index; `kept`: also all
      that equal the last survivor; `removed`: without all that equal the best
      of the removed.

  Returns:
    bool of the saliency's shape.
  """
  n = saliency.size
  if n == 0:
    return jnp.zeros(saliency.shape, bool)
  keep = jnp.clip(jnp.asarray(keep, jnp.int32), 0, n)
  x = ordered(saliency)
  ascending = jnp.sort(x.reshape(-1))
  last = ascending[jnp.clip(n - keep, 0, n - 1)]
  if ties == 'kept':
    return (x >= last) & (keep > 0)
  if ties == 'removed':
    return (x > ascending[jnp.clip(n - keep - 1, 0, n - 1)]) | (keep == n)
  if ties != 'index':
    raise InputError(f"ties={ties!r}: 'index', 'kept' or 'removed'")
  above, equal = x > last, x == last
  spare = keep - above.sum(dtype=jnp.int32)
  place = jnp.cumsum(equal.reshape(-1), dtype=jnp.int32).reshape(x.shape)
  return above | (equal & (place <= spare))


def top_k_of_all(
  scores: Mapping[str, jax.Array], keep: jax.Array | int
) -> dict[str, jax.Array]:
  """Keeps the `keep` most salient entries of all leaves together.

  Args:
    scores: leaf path to float array; all of one dtype.
    keep: how many stay of all, as for `top_k`.

  Returns:
    Leaf path to bool of the array's shape; ties by order of the leaves, then
    lowest flat index.
  """
  row = jnp.concatenate([s.reshape(-1) for s in scores.values()])
  return split_row(top_k(row, keep), scores)


def split_row(
  row: jax.Array, like: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
  """The entries of all leaves in a row, as leaves.

  Args:
    row: [n], leaf after leaf.
    like: leaf path to array; their sizes sum to n.

  Returns:
    Leaf path to entries, of the shape of the array in `like`.
  """
  ends = np.cumsum([x.size for x in like.values()])[:-1]
  parts = zip(like.items(), jnp.split(row, ends), strict=True)
  return {path: part.reshape(x.shape) for (path, x), part in parts}


def threshold(saliency: jax.Array, value: jax.Array | float) -> jax.Array:
  """Keeps what is more salient than a value.

  With saliency `|w|` and value `q std(w)` it is the layer-wise threshold of Han
  et al. 2015 (arXiv:1506.02626), q their quality parameter.

  Args:
    saliency: float array of any shape.
    value: float [] or broadcastable to it.

  Returns:
    bool of the saliency's shape.
  """
  return saliency > jnp.asarray(value, saliency.dtype)


def n_m(
  saliency: jax.Array, n: jax.Array | int, m: int, *, axis: int = -2
) -> jax.Array:
  """Keeps the n most salient of every m consecutive entries along an axis.

  Mishra et al. 2021, arXiv:2104.08378, for 2:4. The axis is the one that the
  layer contracts: -2 both for a Dense kernel [I, O] and for a convolution's
  [kh, kw, I, O], whose spatial positions stay apart.

  Args:
    saliency: float array.
    n: int [], how many stay in a block, 0..m; static or traced.
    m: length of a block. A last block that is shorter is treated as filled up
      with weights that are removed: it keeps min(n, its length).
    axis: the contracted axis.

  Returns:
    bool of the saliency's shape; ties by lowest index.

  Raises:
    InputError: m < 1, a static n outside [0, m], or no such axis.
  """
  _check_axis(saliency.shape, axis, 'a saliency')
  if m < 1 or (isinstance(n, int) and not 0 <= n <= m):
    raise InputError(f'{n}:{m} sparsity: 0 <= N <= M and M >= 1 are needed')
  length = saliency.shape[axis]
  x = jnp.moveaxis(ordered(saliency), axis, -1)
  short = -length % m
  x = jnp.pad(
    x, [(0, 0)] * (x.ndim - 1) + [(0, short)], constant_values=-jnp.inf
  )
  blocks = x.reshape(*x.shape[:-1], -1, m)
  order = jnp.argsort(blocks, axis=-1, descending=True, stable=True)
  mask = jnp.argsort(order, axis=-1) < n
  mask = mask.reshape(x.shape)[..., :length]
  return jnp.moveaxis(mask, -1, axis)


def select_weights() -> Selection:
  """Single weights, by `top_k`."""
  return Selection(
    score=lambda saliency: saliency,
    choose=top_k,
    spread=lambda chosen, shape: chosen.reshape(shape),
    units=lambda shape, path: math.prod(shape),
  )


def select_n_m(
  n: int, m: int, *, axis: int = -2, pad: bool = False
) -> Selection:
  """N:M sparsity of every leaf, by `n_m`; its sparsity is `1 - n/m`.

  On the way of a schedule, a block keeps `ceil(m count / size)` entries, never
  fewer than n, so masks pass from m:m to n:m and stay nested.

  Args:
    n: entries that stay in a block.
    m: length of a block.
    axis: the contracted axis.
    pad: accept a leaf whose axis m does not divide; its last block is treated
      as filled up with removed weights.

  Returns:
    The selection; its `units` raises for a leaf that does not fit.

  Raises:
    InputError: not 1 <= n <= m.
  """
  if not 1 <= n <= m:
    raise InputError(f'{n}:{m} sparsity: 1 <= N <= M is needed')

  def units(shape, path):
    _check_axis(shape, axis, path)
    if shape[axis] % m and not pad:
      raise InputError(
        f'{path}: {shape[axis]} entries on axis {axis} are no multiple of '
        f'M={m}; keep the leaf dense by a KEEP rule, or pad=True'
      )
    return math.prod(shape)

  def choose(scores, keep, *, ties='index'):
    del ties
    kept = in_block(scores.size, keep, m)
    return n_m(scores, jnp.maximum(kept, n), m, axis=axis)

  return Selection(
    score=lambda saliency: saliency,
    choose=choose,
    spread=lambda chosen, shape: chosen.reshape(shape),
    units=units,
    pattern=(n, m, axis),
  )


def in_block(size: int, keep: jax.Array | int, m: int) -> jax.Array:
  """`ceil(m keep / size)`, exact where `m * keep` exceeds int32.

  Args:
    size: weights of a leaf.
    keep: int [], how many of them stay.
    m: length of a block.

  Returns:
    int32 [], entries that stay in a block.
  """
  steps = jnp.array([j * size // m for j in range(m)], jnp.int32)
  return (jnp.asarray(keep, jnp.int32) > steps).sum(dtype=jnp.int32)


def select_blocks(
  shape: Sequence[int], *, reduce: Callable[..., jax.Array] = jnp.mean
) -> Selection:
  """Blocks over the last axes of a leaf, each kept or removed as a whole.

  Args:
    shape: the block's extent on the leaf's last `len(shape)` axes, such as
      `(4, 4)` for input by output; it must divide them.
    reduce: `(saliency, axis=axes) -> scores`, over the entries of a block.

  Returns:
    The selection; its `units` raises for a leaf that does not fit.

  Raises:
    InputError: an empty block, or one without extent.
  """
  block = tuple(shape)
  if not block or min(block) < 1:
    raise InputError(f'a block of shape {list(block)} holds no weight')

  def split(leaf_shape):
    lead = leaf_shape[: len(leaf_shape) - len(block)]
    pairs = zip(leaf_shape[len(lead) :], block, strict=True)
    return lead, tuple((size // b, b) for size, b in pairs)

  def score(saliency):
    lead, pairs = split(saliency.shape)
    cut = saliency.reshape(*lead, *(x for pair in pairs for x in pair))
    inner = tuple(len(lead) + 2 * i + 1 for i in range(len(pairs)))
    return reduce(cut, axis=inner)

  def spread(chosen, leaf_shape):
    for i, size in enumerate(block):
      chosen = jnp.repeat(chosen, size, axis=chosen.ndim - len(block) + i)
    return chosen.reshape(leaf_shape)

  def units(leaf_shape, path):
    tail = leaf_shape[-len(block) :]
    if len(tail) < len(block) or any(
      size % b for size, b in zip(tail, block, strict=True)
    ):
      raise InputError(
        f'{path}: blocks of {list(block)} do not divide its shape '
        f'{list(leaf_shape)}; keep the leaf dense by a KEEP rule'
      )
    return math.prod(leaf_shape) // math.prod(block)

  return Selection(score, top_k, spread, units)


def select_channels(
  *, axis: int = -1, reduce: Callable[..., jax.Array] = jnp.sum
) -> Selection:
  """Whole channels of a leaf, by their summed saliency; masks, not removal.

  Args:
    axis: the channel axis; -1 is the output of Flax kernels.
    reduce: `(saliency, axis=axes) -> scores`, over the entries of a channel.

  Returns:
    The selection; its `units` raises for a leaf without that axis.
  """

  def score(saliency):
    others = tuple(i for i in range(saliency.ndim) if i != axis % saliency.ndim)
    return reduce(saliency, axis=others)

  def spread(chosen, shape):
    aligned = [1] * len(shape)
    aligned[axis] = shape[axis]
    return jnp.broadcast_to(chosen.reshape(aligned), shape)

  def units(shape, path):
    _check_axis(shape, axis, path)
    return shape[axis]

  return Selection(score, top_k, spread, units)


def ordered(x: jax.Array) -> jax.Array:
  """Floats of which NaN counts as lowest."""
  x = jnp.asarray(x)
  if not jnp.issubdtype(x.dtype, jnp.floating):
    x = x.astype(jnp.float32)
  return jnp.where(jnp.isnan(x), -jnp.inf, x)


def _check_axis(shape, axis, path):
  if not -len(shape) <= axis < len(shape):
    raise InputError(
      f'{path}: axis {axis} is not in its shape {list(shape)}; KEEP the leaf '
      f'or name another axis'
    )
