"""Removes channels for good: smaller variables and a function of them.

What is left of every array of a model follows from what is left of its
variables, so the kept indices of the leaves are all that a shrunk model needs
beside the original function. They are plain data: `describe_kept` makes them
JSON-able, `restore_shrunk` makes the shrunk function from them.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from compress.errors import InputError
from compress.graph import _jaxpr
from compress.graph._kept import Kept, mask, take, whole
from compress.graph._kept_flow import Evaluator
from compress.graph.channels import ChannelGroup, channels
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
    groups: of `channels(trace(apply, variables, *inputs))`, if known.
    allow_coupled: remove channels of groups tagged `norm` or `constant` all
      the same. Literal widths stay those of the full model (see above), and
      sums of squares about a mean count what is left only: verification fails
      where that shows.
    verify: compare with the masked model on the example.

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
    _shrunk(apply, kept, shapes), take_kept(variables, kept), kept, shapes
  )
  if verify:
    _verify(
      apply, variables, mask_channels(variables, groups, keep), result, inputs
    )
  return result


def take_kept(variables, kept: Mapping[str, Mapping[int, np.ndarray]]):
  """Removes from a tree what is not kept.

  Args:
    variables: pytree of arrays or `jax.ShapeDtypeStruct`s; also any tree with
      the same paths (an optimizer's moments, masks).
    kept: leaf path to axis to kept indices.

  Returns:
    The tree with smaller leaves.
  """
  leaves, tree = jax.tree.flatten(variables)
  axes = [kept.get(path, {}) for path in leaf_paths(variables)]

  def cut(leaves):
    return [
      functools.reduce(lambda a, item: take(a, *item), chosen.items(), leaf)
      for leaf, chosen in zip(leaves, axes, strict=True)
    ]

  which = [i for i, chosen in enumerate(axes) if chosen]
  axes = [axes[i] for i in which]
  shapes = any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves)
  run = functools.partial(jax.eval_shape, cut) if shapes else jax.jit(cut)
  for i, leaf in zip(which, run([leaves[i] for i in which]), strict=True):
    leaves[i] = leaf
  return jax.tree.unflatten(tree, leaves)


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


def describe_kept(
  kept: Mapping[str, Mapping[int, np.ndarray]],
  shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, Any]:
  """The kept indices as JSON-able data, one bit an index.

  Args:
    kept: leaf path to axis to kept indices, as in `Shrunk`.
    shapes: leaf path to full shape, as in `Shrunk`.

  Returns:
    For `restore_shrunk`, and for a file's metadata.
  """
  return {
    path: {
      'shape': list(shapes[path]),
      'kept': {
        str(axis): np.packbits(mask(shapes[path][axis], index)).tobytes().hex()
        for axis, index in axes.items()
      },
    }
    for path, axes in kept.items()
  }


def read_kept(
  described: Mapping[str, Any],
) -> tuple[dict[str, dict[int, np.ndarray]], dict[str, tuple[int, ...]]]:
  """What was kept, from its description.

  Args:
    described: what `describe_kept` returned.

  Returns:
    `kept` and `shapes`, as in `Shrunk`.

  Raises:
    InputError: `described` is nothing that `describe_kept` returns.
  """
  kept: dict[str, dict[int, np.ndarray]] = {}
  shapes: dict[str, tuple[int, ...]] = {}
  for path, entry in described.items():
    try:
      shapes[path] = tuple(int(n) for n in entry['shape'])
      kept[path] = {
        int(axis): _indices(text, shapes[path][int(axis)])
        for axis, text in entry['kept'].items()
      }
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
      raise InputError(
        f'kept channels of {path!r} are {entry!r:.80}; right is '
        "{'shape': [...], 'kept': {axis: hexadecimal mask}}"
      ) from None
  return kept, shapes


def restore_shrunk(
  apply: Callable[..., Any], described: Mapping[str, Any]
) -> Callable[..., Any]:
  """The shrunk function, from the original one and what was kept.

  Args:
    apply: pure function of the full variables; the one that was shrunk or
      another of the same variables (in training mode, with other outputs).
      Outputs that follow removed channels, such as new batch statistics, come
      out as short as they.
    described: what `describe_kept` returned.

  Returns:
    The function of `(variables, *inputs)`, on the small variables.

  Raises:
    InputError: `described` is nothing that `describe_kept` returns.
  """
  return _shrunk(apply, *read_kept(described))


def compose_kept(
  first: Mapping[str, Mapping[int, np.ndarray]],
  second: Mapping[str, Mapping[int, np.ndarray]],
) -> dict[str, dict[int, np.ndarray]]:
  """What is left of the original after shrinking twice.

  Args:
    first: `kept` of the first time, indices of the original variables.
    second: `kept` of the second time, indices of what the first left.

  Returns:
    Indices of the original variables. Full shapes are the first's, and the
    second's for the paths that the first lacks.
  """
  out = {path: dict(axes) for path, axes in first.items()}
  for path, axes in second.items():
    for axis, index in axes.items():
      before = out.setdefault(path, {}).get(axis)
      out[path][axis] = index if before is None else before[index]
  return out


def _indices(text: str, size: int) -> np.ndarray:
  bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))
  if not size <= len(bits) < size + 8 or bits[size:].any():
    raise ValueError
  return np.flatnonzero(bits[:size])


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


def _shrunk(apply, kept, shapes):
  @functools.wraps(apply)
  def shrunk(variables, *inputs):
    out, _, tree = _evaluate(apply, kept, shapes, variables, inputs)
    return jax.tree.unflatten(tree, [value.array for value in out])

  return shrunk


def _evaluate(apply, kept, shapes, variables, inputs):
  """Outputs, kept indices of the sites by path, and the output's tree."""
  leaves, tree = jax.tree.flatten(variables)
  full, values = [], []
  for path, leaf in zip(leaf_paths(variables), leaves, strict=True):
    if path not in kept:
      full.append(leaf)
      values.append(whole(leaf))
      continue
    axes = tuple(kept[path].get(axis) for axis in range(len(shapes[path])))
    value = Kept(shapes[path], axes, lambda leaf=leaf: leaf)
    if jnp.shape(leaf) != value.shape:
      raise InputError(
        f'{path} has shape {list(jnp.shape(leaf))}; right is '
        f'{list(value.shape)}, what is left of {list(value.full)}'
      )
    full.append(jax.ShapeDtypeStruct(value.full, leaf.dtype))
    values.append(value)
  closed, out_tree = _jaxpr.make(apply, jax.tree.unflatten(tree, full), *inputs)
  values += map(whole, jax.tree.leaves(inputs))
  evaluator = Evaluator()
  return evaluator.run(closed, values, ()), evaluator.sites, out_tree


def _verify(apply, variables, masked, shrunk, inputs):
  """Raises if the shrunk model is not the masked one on the example."""
  leaves = jax.tree.leaves((variables, inputs))
  if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves):
    raise InputError(
      'a shrunk model is verified on arrays; got shapes: pass arrays, or '
      'verify=False'
    )
  expected = jax.jit(apply)(masked, *inputs)
  out = jax.jit(shrunk.apply)(shrunk.variables, *inputs)
  worst = _difference(out, expected)
  if not worst > 1:
    return
  site = _first_different_site(apply, masked, shrunk, inputs)
  where = 'no site differs' if site is None else f'site {site!r} differs first'
  raise InputError(
    f'the shrunk model differs from the masked one, {worst:.3g} times the '
    f'tolerance ({where}); keep the channels around it, or pass verify=False'
  )


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
  _, left, _ = _evaluate(
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
