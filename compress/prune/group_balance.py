"""Which survive, so that no group of people loses more than another."""

import jax
import jax.numpy as jnp

from compress.prune.selection import ordered


def group_balanced(
  importance: jax.Array,
  keep: jax.Array | int,
  *,
  target: jax.Array | None = None,
  ranking: jax.Array | None = None,
) -> jax.Array:
  """Keeps weights so that each group of people keeps its share of importance.

  FairGRAPE (Lin, Kim, Joo 2022, arXiv:2207.10888). Greedy: the group whose
  share of the kept importance is furthest below its target picks its best
  weight that is not yet taken; the weight's importance for all groups is added
  and the shares are taken anew. Before the first pick the shares are uniform.

  Args:
    importance: float [G, ...], not negative: what a weight is worth to each
      group.
    keep: int [], how many weights stay; static or traced.
    target: float [G], the shares to reach; by default each group's share of
      the whole importance.
    ranking: float [G, ...], by which a group picks; `importance` by default.

  Returns:
    bool of `importance.shape[1:]`, exactly `keep` True. Ties: the lowest group,
    the lowest flat index.
  """
  groups = importance.shape[0]
  values = importance.reshape(groups, -1).astype(jnp.float32)
  n = values.shape[1]
  ranking = values if ranking is None else ranking.reshape(groups, -1)
  order = jnp.argsort(ordered(ranking), axis=1, descending=True, stable=True)
  if target is None:
    target = _share(values.sum(1))
  keep = jnp.clip(jnp.asarray(keep, jnp.int32), 0, n)

  def pick(_, carry):
    taken, pointers, sums = carry
    group = jnp.argmin(_share(sums) - target)
    place = jax.lax.while_loop(
      lambda place: taken[order[group, place]],
      lambda place: place + 1,
      pointers[group],
    )
    index = order[group, place]
    return (
      taken.at[index].set(True),
      pointers.at[group].set(place),
      sums + values[:, index],
    )

  carry = (
    jnp.zeros(n, bool),
    jnp.zeros(groups, jnp.int32),
    jnp.zeros(groups, jnp.float32),
  )
  taken, _, _ = jax.lax.fori_loop(0, keep, pick, carry)
  return taken.reshape(importance.shape[1:])


def _share(values):
  total = values.sum()
  even = jnp.full_like(values, 1 / values.size)
  return jnp.where(total > 0, values / jnp.where(total > 0, total, 1), even)
