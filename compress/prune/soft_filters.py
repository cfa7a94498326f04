"""Soft filter pruning: filters are zeroed, and may come back.

He, Kang, Dong, Fu, Yang 2018, 'Soft Filter Pruning for Accelerating Deep
Convolutional Neural Networks', arXiv:1808.06866. While training, at the end of
every epoch, the filters of smallest norm ||F_j||_2 in each layer are set to
zero, but no mask holds them there: the next steps update them like all others,
and another choice may follow. What is zero at the end leaves for good.
Reported: more than 42 % fewer operations in ResNet-101 on ImageNet with 0.2 %
more top-5 accuracy.

Departures: the paper's code calls the fraction of filters that is *kept* its
rate; here a sparsity is what is removed. The count is the code's,
`int(C_out sparsity)` filters (`SOFT_FILTER`).

A BatchNorm behind a zeroed filter still puts out its bias: the network with
zeros is not the one that remains when the channels leave with their norms.
Evaluate that one (`graph.shrink`, or `graph.mask_channels`). Where channels of
several layers are added, only those leave that are zero in all of them
(`filters_by_group`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compress import compressor as compressor_lib
from compress.compressor import Rules
from compress.errors import InputError
from compress.graph import ChannelGroup
from compress.prune.group_importance import by_group
from compress.prune.l1_filters import filter_norms
from compress.prune.masks import covered
from compress.prune.paths import pick
from compress.prune.rounding import SOFT_FILTER, Rounding, check_sparsity
from compress.prune.selection import top_k


def strong_filters(
  params,
  sparsities: Mapping[str, float],
  *,
  order: int = 2,
  rounding: Rounding = SOFT_FILTER,
) -> dict[str, jax.Array]:
  """The filters of greatest norm in each layer.

  Args:
    params: pytree of arrays; kernels [..., C_out].
    sparsities: kernel path to the fraction of its filters removed, [0, 1).
    order: of the norm, 1 or 2.
    rounding: convention of the counts and of ties.

  Returns:
    Kernel path to bool [C_out], True where a filter stays; traceable.

  Raises:
    InputError: a path is no leaf, or a sparsity or order is out of range.
  """
  keep = {}
  for path, kernel in pick(params, sparsities).items():
    sparsity = check_sparsity(sparsities[path], path)
    count = rounding.count(kernel.shape[-1], sparsity)
    norms = filter_norms(kernel, order=order)
    keep[path] = top_k(norms, count, ties=rounding.ties)
  return keep


def zero_filters(params, keep: Mapping[str, jax.Array]):
  """Sets filters to zero; biases and norms behind them stay.

  Args:
    params: pytree of arrays; kernels [..., C_out].
    keep: kernel path to bool [C_out].

  Returns:
    The tree.

  Raises:
    InputError: a path is no leaf, or a mask is not [C_out].
  """
  for path, kernel in pick(params, keep).items():
    if keep[path].shape != kernel.shape[-1:]:
      raise InputError(
        f'{path}: a mask of shape {list(keep[path].shape)} for '
        f'{kernel.shape[-1]} filters'
      )

  def zeroed(kernel, stays, path):
    del path
    stays = stays.reshape((1,) * (kernel.ndim - 1) + (-1,))
    return jnp.where(stays, kernel, jnp.zeros((), kernel.dtype))

  return compressor_lib.map_covered(zeroed, params, keep)


def soft_filters(
  rules: Rules,
  *,
  period: int,
  start: int = 0,
  last_step: int | None = None,
  order: int = 2,
  rounding: Rounding = SOFT_FILTER,
) -> Callable[..., Any]:
  """What a training step does after its update: zeroes filters at times.

  After the updates number `start + period`, `start + 2 period`, ..., counted
  from 1, and up to `last_step`. The optimizer's moments stay, so that what
  was zeroed moves on.

  Args:
    rules: ordered `(pattern, sparsity)` pairs over leaf paths of the state's
      params, the fraction of the filters removed in [0, 1), or `KEEP`.
    period: updates between two choices; the paper's is one epoch.
    start: updates before the first period.
    last_step: the last update that may be followed by zeroing; None is no end.
      Where the final network is to be the zeroed one, it is a step of zeroing.
    order: of the norm.
    rounding: convention of the counts and of ties.

  Returns:
    `(state, *, grads, key) -> state` for `train.make_step`'s `after_update`;
    the state has fields `params` and `step`. It raises InputError, when
    traced, for rules that cover no kernel.

  Raises:
    InputError: no rules, a sparsity out of range, or a period below 1.
  """
  if period < 1 or start < 0:
    raise InputError(
      f'period={period}, start={start}: right is a period of 1 or more and a '
      'start of 0 or more'
    )
  for pattern, spec in rules:
    if spec is not compressor_lib.KEEP:
      check_sparsity(spec, f'rule {pattern!r}')

  def after_update(state, *, grads=None, key=None):
    del grads, key
    sparsities = covered(rules, state.params)
    done = state.step + 1 - start
    due = (done > 0) & (done % period == 0)
    if last_step is not None:
      due &= state.step + 1 <= last_step

    def zeroed(params):
      keep = strong_filters(params, sparsities, order=order, rounding=rounding)
      return zero_filters(params, keep)

    params = jax.lax.cond(due, zeroed, lambda params: params, state.params)
    return state._replace(params=params)

  return after_update


def live_filters(params, paths: Sequence[str]) -> dict[str, np.ndarray]:
  """The filters that are not all zero.

  Args:
    params: pytree of arrays; kernels [..., C_out].
    paths: of the kernels.

  Returns:
    Kernel path to bool [C_out].

  Raises:
    InputError: a path is no leaf.
  """
  return {
    path: np.asarray(kernel != 0).reshape(-1, kernel.shape[-1]).any(0)
    for path, kernel in pick(params, paths).items()
  }


def filters_by_group(
  keep: Mapping[str, np.ndarray], groups: Sequence[ChannelGroup]
) -> dict[str, np.ndarray]:
  """From the filters that stay to the channels that do.

  A channel leaves when all filters that make it leave; one that a kernel
  without an entry in `keep` makes stays.

  Args:
    keep: kernel path, with or without `params/`, to bool [C_out].
    groups: of `graph.channels`.

  Returns:
    Group name to bool [n], for `graph.shrink`.

  Raises:
    InputError: as `by_group`.
  """
  given = {path.removeprefix('params/') for path in keep}
  whole = {
    group.name
    for group in groups
    for member in group.members
    if member.role == 'out' and member.path.removeprefix('params/') not in given
  }
  numbers = {path: np.asarray(mask, np.float64) for path, mask in keep.items()}
  stays = by_group(numbers, groups, reduction='max')
  return {
    name: (values > 0) | (name in whole) for name, values in stays.items()
  }
