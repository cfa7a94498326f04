"""What a network loses if one layer alone is compressed.

Cai et al. 2020, 'ZeroQ', arXiv:2001.00281, equation 3:

  omega_i(k) = mean_j KL( M(x_j) || M_i,k(x_j) ) ,

M_i,k the network with layer i at k bits and all others as they are. Inputs may
be real or synthesized. A network that gives embeddings has no classes to
diverge in; there 1 - cos of the embeddings takes the place of KL.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from compress import graph
from compress.errors import InputError


def softmax_divergence(reference: jax.Array, changed: jax.Array) -> jax.Array:
  """KL from the reference's classes to the changed network's, an example.

  As small as a layer at 8 bits makes it, the sum of p log(p / q) would be lost
  in its rounding. With d, by how much the logits moved, less its mean under p,
  it is log(1 + sum of p (exp(d) - 1 - d)), of which nothing cancels.

  Args:
    reference: logits [B, C].
    changed: logits [B, C].

  Returns:
    Float32 [B], nats, 0 or more.
  """
  reference, changed = (x.astype(jnp.float32) for x in (reference, changed))
  p = jax.nn.softmax(reference)
  moved = changed - reference
  moved -= (p * moved).sum(-1, keepdims=True)
  near = jnp.abs(moved).max(-1, keepdims=True) < 1
  little = jnp.where(near, moved, 0.0)
  small = jnp.log1p((p * (jnp.expm1(little) - little)).sum(-1))
  log_p, log_q = jax.nn.log_softmax(reference), jax.nn.log_softmax(changed)
  large = (p * (log_p - log_q)).sum(-1)
  return jnp.where(near.squeeze(-1), small, jnp.maximum(large, 0.0))


def cosine_divergence(reference: jax.Array, changed: jax.Array) -> jax.Array:
  """1 - cos of embeddings, as half the squared distance of unit vectors.

  Args:
    reference: [B, D].
    changed: [B, D].

  Returns:
    Float32 [B], 0 to 2.
  """

  def unit(x):
    x = x.astype(jnp.float32)
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)

  return jnp.square(unit(reference) - unit(changed)).sum(-1) / 2


def layer_sensitivities(
  apply: Callable[..., jax.Array],
  params: Any,
  options: Mapping[Any, Any],
  batches: Iterable[Any],
  *,
  paths: Iterable[str],
  divergence: Callable[[jax.Array, jax.Array], jax.Array] = softmax_divergence,
  progress: bool = True,
) -> dict[str, dict[Any, float]]:
  """Mean divergence of the outputs, for every layer and option.

  Args:
    apply: `(params, inputs) -> outputs [B, ...]`, differentiable or not;
      compiled here, once for all layers.
    params: the network's parameters.
    options: key, such as a number of bits -> `params` as all layers would be
      with it, such as a compressor's `apply` gives them.
    batches: inputs, gone through once for each layer and option.
    paths: leaf paths of the layers.
    divergence: `(reference, changed) -> [B]`.
    progress: show a bar on standard error.

  Returns:
    Path -> key -> mean over all inputs.

  Raises:
    InputError: a path that is no leaf, no inputs, or an output that is not
      finite.
  """
  batches, paths = list(batches), list(paths)
  known = graph.leaf_paths(params)
  missing = [path for path in paths if path not in known]
  if missing or not batches or not paths:
    raise InputError(
      f'layers {missing or paths} and {len(batches)} batches; right are leaf '
      'paths of the parameters and at least one batch'
    )
  leaves, treedef = jax.tree.flatten(params)
  changed = {key: jax.tree.leaves(tree) for key, tree in options.items()}
  run = jax.jit(apply)
  measure = jax.jit(divergence)
  references = [run(params, batch) for batch in batches]
  count = sum(len(reference) for reference in references)
  found: dict[str, dict[Any, float]] = {path: {} for path in paths}
  work = [(path, key) for path in paths for key in options]
  for path, key in tqdm.tqdm(
    work, unit='layer', desc='sensitivity', disable=not progress
  ):
    place = known.index(path)
    tried = [*leaves]
    tried[place] = changed[key][place]
    tried = jax.tree.unflatten(treedef, tried)
    total = sum(
      float(np.asarray(measure(reference, run(tried, batch))).sum())
      for reference, batch in zip(references, batches, strict=True)
    )
    if not np.isfinite(total):
      raise InputError(f'{path}, {key}: an output is not finite')
    found[path][key] = total / count
  return found
