"""Running samples in groups that take the same branch.

XLA compiles static shapes: a gate that differs from sample to sample saves
nothing by itself. Dynamic channel selection (Wang et al. 2020, doi
10.1609/aaai.v34i04.6098) has a few actions only, so the batch is sorted by
action and goes through in blocks of one action each, every block through a
branch compiled for the channels that its action keeps.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compress.errors import InputError


def run_grouped(
  branches: Sequence[Callable[[jax.Array], jax.Array]],
  action: jax.Array,
  x: jax.Array,
  *,
  block: int,
) -> jax.Array:
  """Sends every sample through the branch of its action.

  At most B // block + min(m, B) blocks are run; those that turn out to be
  empty cost next to nothing. Works under `jit` and `grad`; under `vmap` every
  block would go through all branches.

  Args:
    branches: m functions of [block, ...], sample by sample, all to the same
      shape and type.
    action: [B] integers in 0..m-1.
    x: [B, ...].
    block: samples run at a time. Large blocks run better, small ones waste
      less; about B / m is a good start.

  Returns:
    [B, ...]; what `branches[action[i]](x[i])` gives.

  Raises:
    InputError: no branches, or a block below 1.
  """
  if block < 1 or not branches:
    raise InputError(
      f'block={block}, {len(branches)} branches: right is at least 1 each'
    )
  count, actions = len(x), len(branches)
  blocks = count // block + min(actions, count)
  sizes = jnp.bincount(action, length=actions)
  ends = jnp.cumsum(-(-sizes // block))
  starts = jnp.concatenate([jnp.zeros(1, ends.dtype), ends[:-1]]) * block
  order = jnp.argsort(action, stable=True)
  before = jnp.cumsum(sizes) - sizes
  mine = action[order]
  slot = starts[mine] + jnp.arange(count) - before[mine]
  padded = jnp.zeros((blocks * block, *x.shape[1:]), x.dtype)
  padded = padded.at[slot].set(x[order]).reshape(blocks, block, *x.shape[1:])
  which = jnp.searchsorted(ends, jnp.arange(blocks), side='right')
  out = jax.eval_shape(branches[0], padded[0])

  def idle(x):
    del x
    return jnp.zeros(out.shape, out.dtype)

  def run(item):
    return jax.lax.switch(item[0], [*branches, idle], item[1])

  results = jax.lax.map(run, (which, padded))
  results = results.reshape(blocks * block, *out.shape[1:])
  return (
    jnp.zeros((count, *out.shape[1:]), out.dtype).at[order].set(results[slot])
  )


def slim_branches(
  gates: np.ndarray,
  first: jax.Array,
  second: jax.Array,
  run: Callable[[jax.Array, jax.Array, jax.Array, np.ndarray], Any],
) -> list[Callable[[jax.Array], Any]]:
  """One branch per action, of a layer and the next, with its channels only.

  Args:
    gates: [m, C], at least 0; concrete, since they decide shapes.
    first: kernel [..., Cin, C] of the layer that makes the gated channels.
    second: kernel [..., C, Cout] of the layer that reads them.
    run: `run(x, first, second, kept)`: the two layers and what lies between,
      which must be positively homogeneous per channel once the norm is
      applied; `kept` indexes the channels, for norms and biases. It gets the
      gate multiplied into `second`.

  Returns:
    m functions of x, for `run_grouped`.

  Raises:
    InputError: the kernels do not have C channels.
  """
  gates = np.asarray(gates)
  width = gates.shape[1]
  if first.shape[-1] != width or second.shape[-2] != width:
    raise InputError(
      f'gates {gates.shape}, kernels {first.shape} and {second.shape}: right '
      'is [m, C], [..., C] and [..., C, Cout]'
    )

  def branch(gate):
    kept = np.flatnonzero(gate > 0)
    if not len(kept):
      kept = np.zeros(1, int)  # One channel of gate 0: shapes stay plain.
    scale = gate[kept].reshape((1,) * (second.ndim - 2) + (-1, 1))
    slim = second[..., kept, :] * jnp.asarray(scale, second.dtype)
    narrow = first[..., kept]
    return lambda x: run(x, narrow, slim, kept)

  return [branch(gate) for gate in gates]
