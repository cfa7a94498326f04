r"""Edge-popup: a network found among random weights by learning what to keep.

Ramanujan, Wortsman, Kembhavi, Farhadi, Rastegari 2020, "What's Hidden in a
Randomly Weighted Neural Network?", arXiv:1911.13299. Weights are random and
never change; every weight has a score s, and the forward pass uses those of the
k % highest |s| of each layer. Backward the mask counts as the identity, so that
with Z_u the input and I_v the sum of neuron v

  s_uv <- s_uv - a dL/dI_v Z_u w_uv

Only the scores are trained; give the optimizer `state.learned` and nothing
else. Weights start as `signed_kaiming_constant`, scores as Kaiming-uniform;
BatchNorm has no scale and shift, layers no bias. The paper's training:
ImageNet, SGD at 0.256, momentum 0.875, weight decay 2^-15 (on the scores),
cosine with 5 epochs of warm-up, 100 epochs, batch 256, label smoothing 0.1;
CIFAR, SGD at 0.1, momentum 0.9, decay 1e-4, cosine, 100 epochs, batch 128.

Headline: 30 % of the weights of a random Wide ResNet-50 reach 73.3 % top-1 on
ImageNet (ResNet-50: 68.6 %, with Kaiming normal weights 61.7 %); this code has
not been run on ImageNet.

The straight-through step is taken at |s|, as in the authors' published code
(`GetSubnet` of `scores.abs()`), so scores get dL/dm sign(s): a weight of
negative score that would help gets a larger |s|. The equation above has no
sign(s); which of the two the paper's figures are of is not verified.
Departures: rules give the fraction removed (their `prune_rate` is what stays),
ties keep the lowest flat index, and first and last layer follow their rule as
all others do.
"""

import math

import jax
import jax.numpy as jnp

from compress import compressor as compressor_lib
from compress.compressor import KEEP, Compressor, Rules, State
from compress.packed import Dense, Sparse
from compress.prune.masks import covered
from compress.prune.paths import by_path, path_key
from compress.prune.rounding import EDGE_POPUP, Rounding, check_sparsity
from compress.prune.selection import top_k
from compress.prune.straight_through import select


def edge_popup(
  rules: Rules,
  *,
  key: jax.Array,
  sampled: bool = False,
  rounding: Rounding = EDGE_POPUP,
) -> Compressor:
  """Keeps the weights of the highest |score|; scores are learned.

  Weights get no gradient. With `sampled`, the authors' variant, each weight is
  kept with probability sigmoid(s) instead, drawn anew by every `update`, which
  folds in the step; the rules' sparsities are then not used.

  Args:
    rules: `(pattern, sparsity)` pairs over leaf paths, the fraction removed.
    key: random key of the first scores, and of the samples.
    sampled: draw masks from Bernoulli(sigmoid(s)).
    rounding: convention of the counts; the authors' remove int(s n).

  Returns:
    The compressor. `state.learned` maps leaf path to float32 scores of the
    leaf's shape; `state.carried` holds the step.

  Raises:
    InputError: a sparsity outside [0, 1); in `init`, rules that cover nothing.
  """
  for pattern, spec in rules:
    if spec is not KEEP:
      check_sparsity(spec, pattern)

  def init(params) -> State:
    leaves = by_path(params)
    learned = {
      path: kaiming_uniform_scores(path_key(key, path), leaves[path].shape)
      for path in covered(rules, params)
    }
    return State(learned, {'step': jnp.int32(0)})

  def mask_of(state, sparsity, path):
    """The mask, and the quantity whose gradient is that of the mask."""
    scores = state.learned[path]
    if sampled:
      drawn = jax.random.fold_in(key, state.carried['step'])
      chance = jax.nn.sigmoid(scores)
      return jax.random.bernoulli(path_key(drawn, path), chance), chance
    size = jnp.abs(scores)
    return top_k(size, rounding.count(size.size, sparsity)), size

  def apply(params, state):
    def masked(leaf, sparsity, path):
      mask, behind = mask_of(state, sparsity, path)
      return select(jax.lax.stop_gradient(leaf), behind, mask)

    return compressor_lib.map_covered(masked, params, covered(rules, params))

  def update(params, state, *, step, grads=None) -> State:
    del params, grads
    return state._replace(carried={'step': jnp.asarray(step, jnp.int32)})

  def pack(params, state):
    def packed(leaf, sparsity, path):
      mask, _ = mask_of(state, sparsity, path)
      return Sparse(mask, Dense(leaf, changed=False))

    return compressor_lib.pack_covered(packed, params, covered(rules, params))

  return Compressor(init, apply, update, pack)


def signed_kaiming_constant(*, density: float | None = None):
  """Initializer of weights that are all +-sqrt(2 / fan_in), signs at random.

  Args:
    density: the paper's "scaled" form: the fan is multiplied by the density,
      so that the variance of the sums is that of the dense layer. (The authors'
      `scale_fan` multiplies by 1 - density, which is the same at one half.)

  Returns:
    `(key, shape, dtype) -> array`, as Flax takes it; fan_in is the product of
    all axes but the last.
  """

  def init(key, shape, dtype=jnp.float32):
    fan = _fan_in(shape) * (1 if density is None else density)
    signs = jax.random.rademacher(key, shape, dtype)
    return signs * jnp.asarray(math.sqrt(2 / fan), dtype)

  return init


def kaiming_uniform_scores(key, shape, dtype=jnp.float32) -> jax.Array:
  """First scores, uniform in +-1 / sqrt(fan_in): Kaiming with a = sqrt(5)."""
  bound = 1 / math.sqrt(_fan_in(shape))
  return jax.random.uniform(key, shape, dtype, -bound, bound)


def _fan_in(shape):
  return max(1, math.prod(shape[:-1]))
