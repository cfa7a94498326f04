"""First-order importance of channels that leave together.

Molchanov, Mallya, Tyree, Frosio, Kautz 2019, 'Importance Estimation for Neural
Network Pruning', arXiv:1906.10771: what a set S of weights is worth is the
squared change of the loss, to first order, when they become 0,

  I_S = (sum over s in S of  g_s w_s)^2 ,

averaged over batches. Here S is what reads a channel: the sum is then exactly
minus the derivative of the loss by a gate on that channel, whatever norms and
non-linearities stand before its readers. Where nothing reads a channel of the
group, its producers are taken.

`output_importance` needs no labels and no loss: it asks how far the outputs
move. With J the derivative of all outputs of a batch by the gate,

  |J|^2 = E_r (r . J)^2 ,   r random signs

(Hutchinson 1989), so that one backward pass gives an unbiased estimate for all
channels of all groups at once. For squared error against the outputs of the
unpruned network this is the diagonal of the Hessian by the gates (Gauss-Newton,
exact at the unpruned network), half of which is the damage to second order; of
one channel alone: channels that do the same work are all called important, or
all not.

Departures: the paper's gates sit behind batch norms and are averaged over
minibatches during fine-tuning, with removal in small steps; here nothing is
said of when. Estimates from n draws have a relative standard error of about
sqrt(2 / n) for each channel.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compress.errors import InputError
from compress.graph import ChannelGroup, leaf_paths


def taylor_importance(
  loss_fn: Callable[[Any, Any], jax.Array],
  variables,
  batches: Iterable[Any],
  *,
  groups: Sequence[ChannelGroup],
) -> dict[str, np.ndarray]:
  """Mean squared first-order change of a loss by removing each channel.

  Args:
    loss_fn: `(variables, batch) -> scalar`; jitted here.
    variables: pytree of arrays that the groups' members are paths of.
    batches: what `loss_fn` takes, of equal shapes (else it compiles anew).
    groups: of `graph.channels`.

  Returns:
    Group name to float64 [n], for `keep_channels`; higher is to be kept.

  Raises:
    InputError: there is no batch, a member is no leaf of the variables, or a
      derivative is not finite.
  """
  readers = _readers(groups)
  paths = leaf_paths(variables)
  leaves, structure = jax.tree.flatten(variables)
  needed = {path for members in readers.values() for path, _, _ in members}
  if missing := needed - set(paths):
    raise InputError(
      f'{min(missing)}: a group has it, the variables do not; right are the '
      'variables that the groups were found with'
    )

  @jax.jit
  def squared(leaves, batch):
    given = dict(zip(paths, leaves, strict=True))
    chosen = {path: given[path] for path in needed}

    def loss(chosen):
      whole = [chosen.get(path, given[path]) for path in paths]
      return loss_fn(jax.tree.unflatten(structure, whole), batch)

    grads = jax.grad(loss)(chosen)
    slopes = {path: chosen[path] * grads[path] for path in needed}
    return {
      name: jnp.square(sum(_along(slopes[p], a, i) for p, a, i in members))
      for name, members in readers.items()
    }

  total, count = {name: 0.0 for name in readers}, 0
  for batch in batches:
    found = jax.device_get(squared(leaves, batch))
    count += 1
    for name, values in found.items():
      total[name] = total[name] + values.astype(np.float64)
  if not count:
    raise InputError('no batch to take derivatives of; right is at least one')
  for name, values in total.items():
    if not np.isfinite(values).all():
      raise InputError(f'{name}: a derivative is not finite')
  return {name: values / count for name, values in total.items()}


def output_importance(
  apply: Callable[..., jax.Array],
  variables,
  batches: Iterable[jax.Array],
  *,
  groups: Sequence[ChannelGroup],
  seed: int,
) -> dict[str, np.ndarray]:
  """Squared first-order change of the outputs by removing each channel.

  Args:
    apply: pure function `apply(variables, inputs) -> outputs` [B, ...]. What
      matters should come out: embeddings that are compared by their cosine
      normalised, logits as they are.
    variables: as for `taylor_importance`.
    batches: inputs, of equal shapes; each is projected once. Give the same
      ones again for less noise.
    groups: of `graph.channels`.
    seed: of the projections.

  Returns:
    Group name to float64 [n]: estimates of the squared change, summed over the
    outputs of a batch; higher is to be kept.

  Raises:
    InputError: as `taylor_importance`.
  """

  def loss_fn(variables, batch):
    key, inputs = batch
    outputs = apply(variables, inputs)
    signs = jax.random.rademacher(key, outputs.shape, outputs.dtype)
    return (outputs * signs).sum()

  keyed = (
    (jax.random.fold_in(jax.random.key(seed), i), batch)
    for i, batch in enumerate(batches)
  )
  return taylor_importance(loss_fn, variables, keyed, groups=groups)


def _readers(groups):
  """(path, axis, indices) of what reads the channels of each group."""
  found = {}
  for group in groups:
    readers = [m for m in group.members if m.role == 'in']
    makers = [m for m in group.members if m.role == 'out']
    found[group.name] = [
      (m.path, m.axis, m.indices) for m in readers or makers or group.members
    ]
  return found


def _along(array, axis, indices):
  """Sums to [n]: over all axes but one, and the entries of each channel."""
  others = tuple(a for a in range(array.ndim) if a != axis)
  return array.sum(others)[indices].sum(1)
