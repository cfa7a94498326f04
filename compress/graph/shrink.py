"""Removes channels for good: smaller variables and a function of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from compress.errors import InputError
from compress.graph import _jaxpr
from compress.graph._kept import take
from compress.graph.channels import ChannelGroup, channels
from compress.graph.kept import evaluate, shortened, take_kept
from compress.graph.rewrite import Emit, rewrite, trace
from compress.graph.sites import find_sites, leaf_paths

# Names of running variances: zero would make of a dead channel a loud one.
_VARIANCES = frozenset({'var', 'running_var', 'moving_variance'})


class Shrunk(NamedTuple):
  """A model without some of its channels.

  Attributes:
    apply: the same function of `(variables, *inputs)`, on smaller variables.
      Ordinary JAX; input shapes stay free.
    variables: the same tree; leaves lack the removed entries.
    kept: leaf path to axis to the int indices that are left, where any left.
    shapes: leaf path to the full shape, of the leaves in `kept`.
  """

  apply: Callable[..., Any]
  variables: Any
  kept: dict[str, dict[int, np.ndarray]]
  shapes: dict[str, tuple[int, ...]]


def shrink(
  apply: Callable[..., Any],
  variables,
  keep: Mapping[str, np.ndarray],
  *inputs,
  groups: Sequence[ChannelGroup] | None = None,
  allow_coupled: bool = False,
  verify: bool = True,
) -> Shrunk:
  """Removes channels: the same function, physically smaller.

  Every operation is evaluated on what is left of its operands. Its numbers
  stay: a width that the program wrote down (LayerNorm's `/ 64`, attention's
  `/ sqrt(16)`) is still the full one, so the result equals the masked model,
  not the model that a module of smaller width would be. Where a sum runs over
  removed channels the two may part: groups with the tags `norm` (LayerNorm,
  GroupNorm, softmax over channels) and `constant` are refused.

  The result can be traced, rewritten, folded and shrunk again; its sites have
  their old names. Fine-tuning with BatchNorm's batch statistics needs the
  training function shrunk too, by `restore_shrunk`.

  Args:
    apply: pure function `apply(variables, *inputs)`.
    variables: pytree of arrays, or of `jax.ShapeDtypeStruct`s if not verified.
    keep: name of a group of `channels` to bool `[n]`, True stays; groups that
      are not named stay whole.
    *inputs: an example; `jax.ShapeDtypeStruct`s do if not verified.
    groups: of `channels(trace(apply, variables, *inputs))`, if known. Those
      of `channels(..., outputs='free')` let outputs come out shorter; which
      entries are left of them, `ChannelGroup.outputs` tells.
    allow_coupled: remove channels of groups tagged `norm` or `constant` all
      the same. Literal widths stay those of the full model (see above), and
      sums of squares about a mean count what is left only: verification fails
      where that shows.
    verify: compare with the masked model on the example, in the entries of
      the outputs that are left; no others may be missing than those of
      removed channels.

  Returns:
    The shrunk model.

  Raises:
    InputError: a group is unknown, tagged or left empty, a mask is not bool
      `[n]`, or the shrunk model differs from the masked one; names which.
    NotImplementedError: naming an operation that has no shorter version.
  """
  if groups is None:
    groups = channels(trace(apply, variables, *inputs)).groups
  removed = _removed(groups, keep, allow_coupled)
  paths, arrays = leaf_paths(variables), jax.tree.leaves(variables)
  leaves = dict(zip(paths, arrays, strict=True))
  kept: dict[str, dict[int, np.ndarray]] = {}
  for path, axes in removed.items():
    for axis, gone in sorted(axes.items()):
      there = np.ones(leaves[path].shape[axis], bool)
      there[gone] = False
      kept.setdefault(path, {})[axis] = np.flatnonzero(there)
  shapes = {path: tuple(leaves[path].shape) for path in kept}
  result = Shrunk(
    shortened(apply, kept, shapes), take_kept(variables, kept), kept, shapes
  )
  if verify:
    masked = mask_channels(variables, groups, keep)
    gone = _removed_outputs(groups, keep)
    _verify(apply, variables, masked, result, inputs, gone)
  return result


def mask_channels(
  variables, groups: Sequence[ChannelGroup], keep: Mapping[str, np.ndarray]
):
  """Zeroes every entry of channels that are not kept.

  Running variances (leaves named `var`, `running_var` or `moving_variance`)
  stay, so that no dead channel is divided by zero.

  Args:
    variables: pytree of arrays.
    groups: of `channels`.
    keep: group name to bool `[n]`.

  Returns:
    The variables at full size.

  Raises:
    InputError: a group is unknown or left empty, or a mask is not bool `[n]`.
  """
  removed = _removed(groups, keep, True)
  leaves, tree = jax.tree.flatten(variables)
  paths = leaf_paths(variables)
  which = [
    i
    for i, path in enumerate(paths)
    if path in removed and not _VARIANCES & set(path.split('/')[-2:])
  ]

  def zeroed(leaf, axes):
    for axis, gone in axes.items():
      there = np.ones([n if a == axis else 1 for a, n in enumerate(leaf.shape)])
      there.reshape(-1)[gone] = 0
      leaf = jnp.where(there == 1, leaf, jnp.zeros((), leaf.dtype))
    return leaf

  masked = jax.jit(
    lambda leaves: [
      zeroed(leaf, removed[paths[i]])
      for i, leaf in zip(which, leaves, strict=True)
    ]
  )
  for i, leaf in zip(which, masked([leaves[i] for i in which]), strict=True):
    leaves[i] = leaf
  return jax.tree.unflatten(tree, leaves)


def _removed(groups, keep, allow_coupled) -> dict[str, dict[int, np.ndarray]]:
  """Leaf path to axis to the indices that leave; checks what is to be kept."""
  known = {group.name: group for group in groups}
  removed: dict[str, dict[int, np.ndarray]] = {}
  for name, stays in keep.items():
    if name not in known:
      raise InputError(
        f'no group of channels is called {name!r}; there are '
        f'{", ".join(map(repr, known))}'
      )
    group, stays = known[name], np.asarray(stays)
    if stays.dtype != bool or stays.shape != (group.size,):
      raise InputError(
        f'keep[{name!r}] is {stays.dtype}{list(stays.shape)}; right is '
        f'bool[{group.size}]'
      )
    if stays.all():
      continue
    if not stays.any():
      raise InputError(
        f'keep[{name!r}] keeps none of its {group.size} channels; right is at '
        'least one'
      )
    if group.tags and not allow_coupled:
      raise InputError(
        f'group {name!r} is tagged {", ".join(sorted(group.tags))}: its width '
        'is part of a computation; keep it whole, or pass allow_coupled=True'
      )
    for member in group.members:
      axes = removed.setdefault(member.path, {})
      gone = member.indices[~stays].ravel()
      axes[member.axis] = np.union1d(axes.get(member.axis, gone), gone)
  return removed


def _removed_outputs(groups, keep) -> dict[int, np.ndarray]:
  """Number of an output to the indices of its last axis that leave."""
  gone: dict[int, np.ndarray] = {}
  for group in groups:
    if group.name in keep:
      stays = np.asarray(keep[group.name])
      for number, indices in group.outputs.items():
        left = indices[~stays].ravel()
        gone[number] = np.union1d(gone.get(number, left), left)
  return gone


def _verify(apply, variables, masked, shrunk, inputs, gone):
  """Raises if the shrunk model is not the masked one on the example."""
  leaves = jax.tree.leaves((variables, inputs))
  if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves):
    raise InputError(
      'a shrunk model is verified on arrays; got shapes: pass arrays, or '
      'verify=False'
    )
  left = []

  def small(variables, inputs):
    found, _, _ = evaluate(apply, shrunk.kept, shrunk.shapes, variables, inputs)
    left.extend(value.kept for value in found)
    return [value.array for value in found]

  expected = jax.tree.leaves(jax.jit(apply)(masked, *inputs))
  out = jax.jit(small)(shrunk.variables, inputs)
  expected = [
    _left_of(number, *pair, gone.get(number, ()))
    for number, pair in enumerate(zip(expected, left, strict=True))
  ]
  worst = _difference(out, expected)
  if not worst > 1:
    return
  site = _first_different_site(apply, masked, shrunk, inputs)
  where = 'no site differs' if site is None else f'site {site!r} differs first'
  raise InputError(
    f'the shrunk model differs from the masked one, {worst:.3g} times the '
    f'tolerance ({where}); keep the channels around it, or pass verify=False'
  )


def _left_of(number, value, kept, gone):
  """What is left of an output; only `gone` of its last axis may be missing."""
  for axis, index in enumerate(kept):
    if index is None:
      continue
    size = value.shape[axis]
    missing = np.setdiff1d(np.arange(size), index)
    if axis < value.ndim - 1 or not np.isin(missing, gone).all():
      raise InputError(
        f'output {number} of the shrunk model keeps {len(index)} of {size} '
        f'indices of axis {axis}, fewer than the groups say; right are the '
        'groups of this model and these inputs'
      )
    value = take(value, axis, index)
  return value


def _difference(out, expected) -> float:
  """The largest relative difference, in units of the tolerance of its type."""
  worst = 0.0
  for a, b in zip(jax.tree.leaves(out), jax.tree.leaves(expected), strict=True):
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
      return np.inf
    if not jnp.issubdtype(b.dtype, jnp.inexact):
      worst = max(worst, 0.0 if np.array_equal(a, b) else np.inf)
      continue
    eps = float(jnp.finfo(b.dtype).eps)
    tolerance = 1e-12 if eps < 1e-12 else max(1e-5, 8 * eps)
    wide = np.complex128 if np.iscomplexobj(b) else np.float64
    a, b = a.astype(wide), b.astype(wide)
    if not np.isfinite(a).all() or not np.isfinite(b).all():
      same = np.array_equal(a, b, equal_nan=True)
      worst = max(worst, 0.0 if same else np.inf)
      continue
    if a.size:
      scale = max(np.abs(b).max(), np.finfo(np.float64).tiny)
      worst = max(worst, np.abs(a - b).max() / scale / tolerance)
  return worst


def _first_different_site(apply, masked, shrunk, inputs) -> str | None:
  """The name of the first site whose kept results differ, if it can be told."""

  def read(site, op, *operands):
    del site
    out = op(*operands)
    return Emit(out, out)

  try:
    _, full = rewrite(apply, read, has_aux=True)(masked, *inputs)
    _, small = rewrite(shrunk.apply, read, has_aux=True)(
      shrunk.variables, *inputs
    )
  except NotImplementedError:
    return None
  _, left, _ = evaluate(
    apply, shrunk.kept, shrunk.shapes, shrunk.variables, inputs
  )
  closed, _ = _jaxpr.make(apply, masked, *inputs)
  for path, site in find_sites(closed, leaf_paths(masked)).items():
    value = full.get(site.name)
    if value is None or site.name not in small:
      continue
    kept = left.get(path, (None,) * len(site.out_shape))
    outer = value.ndim - len(kept)
    for axis, index in enumerate(kept):
      if index is not None:
        value = take(value, axis + outer, index)
    if _difference(small[site.name], value) > 1:
      return site.name
  return None
