r"""SynFlow: pruning at initialization without data.

Tanaka, Kunin, Yamins, Ganguli 2020, 'Pruning neural networks without any data
by iteratively conserving synaptic flow', arXiv:2006.05467. On the network with
every parameter replaced by its absolute value, fed with ones, the flow is the
sum of the outputs R, and the saliency (equation 2)

  s = | dR/dw * w |

Where nothing is added on the way (no biases), s sums to R over every layer of a
chain: the flow is conserved, so small layers have large saliencies. Pruned in n
rounds (100) of which the k-th leaves a density of rho^(k/n), no layer is
emptied while it could be otherwise ("maximal critical compression"); in one
round (n = 1) layers do collapse.

Normalization layers must be in evaluation mode: `apply` uses their running
statistics, whose absolute values are taken too, as in the authors' code. With
biases or shifts among the parameters the conservation is not exact.

The flow grows with depth beyond float32 (3e38), so everything is computed in
float64, whether or not JAX's default allows it; a model that insists on
float32 inside may overflow, which is an error here. Departures: of equal
saliencies the lowest flat index stays, where the authors' code prunes every
weight at the threshold, and survivors number floor(n rho).
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from compress.errors import InputError
from compress.prune import rounding
from compress.prune.paths import KERNELS, matching, put
from compress.prune.selection import top_k_of_all

Apply = Callable[..., jax.Array]


def synflow_saliency(
  apply: Apply,
  variables: Mapping[str, Any],
  ones,
  *,
  masks: Mapping[str, jax.Array] | None = None,
  normalize: bool = True,
  prunable: str = KERNELS,
) -> dict[str, jax.Array]:
  """Flow through each weight; Tanaka et al. 2020, equation 2.

  Args:
    apply: `(variables, inputs) -> outputs` in evaluation mode, deterministic;
      the outputs are one array.
    variables: `{'params': ..., ...}`, with the running statistics where there
      are any. They stay as they are: absolute values are taken of copies.
    ones: the inputs, [1, ...] of ones. Where the model normalizes its inputs,
      give what it turns into ones.
    masks: path to bool array of the leaf's shape; weights outside are 0.
    normalize: divide by R, so that each layer of a chain sums to 1.
    prunable: regular expression over whole leaf paths, relative to 'params'.

  Returns:
    Leaf path to array of the leaf's shape, at least 0; higher = keep. Float32,
    or float64 where JAX's default allows it.

  Raises:
    InputError: no 'params', outputs that are not one array, nothing matches
      `prunable`, or a flow that is not finite.
  """
  _check(apply, variables, ones)
  dtype = jnp.float64 if jax.config.jax_enable_x64 else jnp.float32

  @jax.jit
  def run(variables):
    scores, flow = _scores(apply, _positive(variables), ones, masks, prunable)
    scale = jnp.where(flow > 0, flow, 1) if normalize else 1
    scores = {p: (s / scale).astype(dtype) for p, s in scores.items()}
    finite = [jnp.isfinite(s).all() for s in scores.values()]
    return scores, jnp.stack(finite).all()

  with jax.enable_x64(True):
    scores, finite = run(variables)
  _check_finite(finite)
  return scores


def synflow_masks(
  apply: Apply,
  variables: Mapping[str, Any],
  ones,
  *,
  density: float,
  rounds: int = 100,
  prunable: str = KERNELS,
) -> dict[str, jax.Array]:
  """Prunes in rounds, each by the flow that the last one left.

  The loop is compiled once, whatever the number of rounds.

  Args:
    apply: as for `synflow_saliency`.
    variables: as for `synflow_saliency`.
    ones: as for `synflow_saliency`.
    density: the fraction of all prunable weights that stays, in (0, 1].
    rounds: after round k = 1..rounds the density is density^(k / rounds).
    prunable: regular expression over whole leaf paths, relative to 'params'.

  Returns:
    Leaf path to bool array of the leaf's shape, what stays: exactly
    max(1, floor(density n)) of all n weights together.

  Raises:
    InputError: as `synflow_saliency`, and a density or a number of rounds out
      of range.
  """
  _check(apply, variables, ones)
  if not 0 < density <= 1:
    raise InputError(f'density is {density}; right is above 0 and up to 1')
  if rounds < 1:
    raise InputError(f'rounds is {rounds}; it is at least 1')
  leaves = matching(variables['params'], prunable)
  total = sum(leaf.size for leaf in leaves.values())
  counts = [
    rounding.LIBRARY.count(total, 1 - density ** (k / rounds))
    for k in range(1, rounds + 1)
  ]
  full = {path: jnp.ones(leaf.shape, bool) for path, leaf in leaves.items()}

  @jax.jit
  def run(variables, counts):
    positive = _positive(variables)

    def one(masks, count):
      scores, flow = _scores(apply, positive, ones, masks, prunable)
      # What is gone ranks below a weight that nothing flows through.
      ranked = {p: jnp.where(masks[p], s, -1) for p, s in scores.items()}
      return top_k_of_all(ranked, count), flow

    return jax.lax.scan(one, full, counts)

  with jax.enable_x64(True):
    masks, flows = run(variables, jnp.asarray(counts, jnp.int32))
    _check_finite(jnp.isfinite(flows[0]))
  return masks


def _scores(apply, positive, ones, masks, prunable):
  """Flow through each weight, float64, and the whole flow."""
  leaves = matching(positive['params'], prunable)
  if masks is not None:
    leaves = {p: jnp.where(masks[p], w, 0) for p, w in leaves.items()}

  def flow(some):
    params = put(positive['params'], some)
    out = apply({**positive, 'params': params}, _double(ones))
    return jnp.sum(out.astype(jnp.float64))

  total, grads = jax.value_and_grad(flow)(leaves)
  return {p: jnp.abs(grads[p] * w) for p, w in leaves.items()}, total


def _positive(tree):
  return jax.tree.map(lambda leaf: jnp.abs(_double(leaf)), tree)


def _double(leaf):
  leaf = jnp.asarray(leaf)
  if jnp.issubdtype(leaf.dtype, jnp.floating):
    return leaf.astype(jnp.float64)
  return leaf


def _check(apply, variables, ones):
  if not isinstance(variables, Mapping) or 'params' not in variables:
    raise InputError("variables have no 'params'; right is {'params': ...}")
  out = jax.eval_shape(apply, variables, ones)
  if not isinstance(out, jax.ShapeDtypeStruct):
    raise InputError(
      'apply returns more than one array; right is the outputs alone, in '
      'evaluation mode'
    )


def _check_finite(finite):
  if not finite:
    raise InputError(
      'the flow is not finite; right is a model that computes in the dtype of '
      'its parameters (float64 here), or normalize=True'
    )
