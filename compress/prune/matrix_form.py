"""A convolution or a matrix product as what it is: `W X^T`, one per group.

Layer-wise methods see every site of a model in one form: weights `[G, R, K]`,
inputs `[G, S, K]`, for G groups (1 without), R output rows, K contracted
columns and S samples. The columns of a convolution are ordered by tap, then by
input channel, so that M consecutive columns of an N:M pattern are M input
channels at one tap; its samples are the im2col patches of all positions. This
file turns operands into that form and back, and walks a model with it.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from compress import graph as graph_lib
from compress.compressor import Rules, resolve_names
from compress.errors import InputError
from compress.graph import Emit, Site
from compress.prune.paths import by_path
from compress.prune.rounding import check_sparsity


class OneShot(NamedTuple):
  """A model pruned site by site.

  Attributes:
    variables: the pruned model's.
    masks: bool, what stays, by leaf path relative to `params`.
    skipped: why a leaf that a rule covers stayed dense, by leaf path.
  """

  variables: Any
  masks: dict[str, jax.Array]
  skipped: dict[str, str]


class NM(NamedTuple):
  """N:M sparsity: of every M consecutive inputs of an output, N stay."""

  n: int
  m: int


def check_target(target: float | NM) -> None:
  """Raises InputError unless the target is a sparsity or a sound N:M."""
  if isinstance(target, NM):
    if not 0 < target.n <= target.m:
      raise InputError(f'{target.n}:{target.m}; right is 0 < N <= M')
  elif isinstance(target, bool) or not isinstance(target, int | float):
    raise InputError(f'target {target!r}; right is a sparsity or NM(n, m)')
  else:
    check_sparsity(target)


def largest(scores: jax.Array, count, *, axis: int) -> jax.Array:
  """Marks the `count` largest along an axis, ties by the lowest index.

  Args:
    scores: any array.
    count: how many; may be traced, and one for each line along the axis.
    axis: of the scores.

  Returns:
    Bool, of the scores' shape.
  """
  order = jnp.argsort(scores, axis=axis, descending=True, stable=True)
  return jnp.argsort(order, axis=axis) < count


def unsupported(site: Site) -> str | None:
  """Why a site has no matrix form; None if it has one."""
  if site.weight_operand is None:
    return 'no operand of it is a weight'
  if site.kind == 'conv' and site.weight_operand != 1:
    return 'the weight is convolved as if it were the image'
  if site.kind == 'conv' and site.params['batch_group_count'] != 1:
    return 'it groups the batch'
  if site.repeats is None:
    return 'it runs inside `while`, out of which nothing can be read'
  return None


def indivisible(site: Site, target: float | NM) -> str | None:
  """Why an N:M pattern does not fit a site's input channels; None if so."""
  if not isinstance(target, NM):
    return None
  if site.kind == 'conv':
    axis = site.params['dimension_numbers'].rhs_spec[1]
  else:
    axis = dot_axes(site, site.weight_operand)[2][-1]
  channels = (site.lhs_shape, site.rhs_shape)[site.weight_operand][axis]
  if channels % target.m == 0:
    return None
  return f'its {channels} input channels are no multiple of M = {target.m}'


def weight_matrix(site: Site, weight: jax.Array) -> jax.Array:
  """The weight operand of a site as `[G, R, K]`."""
  if site.kind == 'conv':
    weight = weight.transpose(site.params['dimension_numbers'].rhs_spec)
    out, channels, *window = weight.shape
    taps, groups = math.prod(window), site.groups
    weight = weight.reshape(groups, out // groups, channels, taps)
    return weight.swapaxes(2, 3).reshape(groups, out // groups, -1)
  axes, shape = _dot_weight(site)
  return weight.transpose(axes).reshape(shape)


def weight_operand(site: Site, matrix: jax.Array) -> jax.Array:
  """The inverse of `weight_matrix`."""
  if site.kind == 'conv':
    axes = site.params['dimension_numbers'].rhs_spec
    shape = [site.rhs_shape[axis] for axis in axes]
    matrix = matrix.reshape(shape[0], math.prod(shape[2:]), shape[1])
    matrix = matrix.swapaxes(1, 2).reshape(shape)
  else:
    axes, _ = _dot_weight(site)
    full = (site.lhs_shape, site.rhs_shape)[site.weight_operand]
    matrix = matrix.reshape([full[axis] for axis in axes])
  return matrix.transpose(np.argsort(axes))


def input_matrix(site: Site, operand: jax.Array) -> jax.Array:
  """The operand of a site that is no weight, as `[G, S, K]`."""
  if site.kind == 'conv':
    patches = _patches(site, operand)
    return patches.reshape(patches.shape[0], -1, patches.shape[-1])
  batch, free, contracted = dot_axes(site, 1 - site.weight_operand)
  groups = math.prod(operand.shape[axis] for axis in batch)
  columns = math.prod(operand.shape[axis] for axis in contracted)
  operand = operand.transpose((*batch, *free, *contracted))
  return operand.reshape(groups, -1, columns)


def input_squares(site: Site, operand: jax.Array) -> jax.Array:
  """Sum of squares of every column of `input_matrix`, float32 `[G, K]`.

  A convolution's patches of the squares, summed over the images first, are
  summed over the positions; nothing of the size of all patches is made.
  """
  squares = jnp.square(operand.astype(jnp.float32))
  if site.kind == 'conv':
    images = site.params['dimension_numbers'].lhs_spec[0]
    squares = squares.sum(images, keepdims=True)
  return input_matrix(site, squares).sum(1)


def prune_in_order(
  apply: Callable[..., Any],
  variables,
  rules: Rules,
  layer: Callable[..., tuple[jax.Array, jax.Array]],
  *inputs,
) -> OneShot:
  """Prunes the weights of a model one site after the other.

  One evaluation of the model does it: each site is pruned when it is reached,
  with inputs that the pruned sites before it have made, as SparseGPT and Wanda
  recompute them. So all calibration inputs are one batch. Outside `jit` every
  intermediate value stays in memory until the end; under `jit` XLA frees them.
  A stack of layers under `scan` is pruned layer by layer too.

  Args:
    apply: pure function `apply(variables, *inputs)`.
    variables: the dense model's.
    rules: `(pattern, target)` over leaf paths relative to `params`; a target
      is a sparsity, an `NM` or `KEEP`; see `compressor.resolve`.
    layer: `(site, target, weight [G, R, K], operand) -> (weight, keep)`, both
      `[G, R, K]`, `operand` the site's input; pure, it is compiled.
    *inputs: the calibration inputs.

  Returns:
    The pruned variables, masks, and what stayed dense although covered.

  Raises:
    InputError: no rule covers a leaf, or a target is out of range.
  """
  graph = graph_lib.trace(apply, variables, *inputs)
  specs = resolve_names(rules, [relative(p) for p in graph.weights]).specs
  if not specs:
    raise InputError(
      f'no rule covers a leaf; the first leaf is {next(iter(graph.weights))!r}'
    )
  for target in specs.values():
    check_target(target)
  chosen, skipped = _choose(graph, specs)
  spread = _Spread(apply, variables, chosen, inputs)
  good = spread.entries_used_once()
  for path in set(chosen.values()) - good:
    skipped[relative(path)] = 'its entries reach sites not once, as they are'

  def rule(site, op, *operands):
    if chosen.get(site.name) not in good:
      return op(*operands)
    at = site.weight_operand
    weight = operands[at]
    target = specs[relative(site.weight)]

    @jax.jit
    def solve(weight, operand):
      found = layer(site, target, weight_matrix(site, weight), operand)
      solved, keep = (weight_operand(site, matrix) for matrix in found)
      return solved.astype(weight.dtype), keep.astype(weight.dtype)

    solved = solve(weight, operands[1 - at])
    operands = [solved[0] if i == at else x for i, x in enumerate(operands)]
    return Emit(op(*operands), solved)

  _, solved = graph_lib.rewrite(apply, rule, has_aux=True)(variables, *inputs)
  pruned = [site.weight for site in graph.sites if site.name in solved]
  leaves, kept = (
    spread({name: pair[i] for name, pair in solved.items()}) for i in range(2)
  )
  leaves = {path: leaves[path] for path in pruned}
  masks = {relative(path): kept[path] != 0 for path in pruned}
  return OneShot(replace_leaves(variables, leaves), masks, skipped)


def relative(path: str) -> str:
  """A leaf path without the collection `params` in front."""
  return path.removeprefix('params/')


def replace_leaves(tree, leaves: Mapping[str, jax.Array]):
  """The tree with the leaves at some paths replaced."""

  def at(path, leaf):
    return leaves.get(graph_lib.path_string(path), leaf)

  return jax.tree_util.tree_map_with_path(at, tree)


def _choose(graph, specs) -> tuple[dict[str, str], dict[str, str]]:
  """Site name to weight path of what can be pruned; why not of the rest."""
  chosen, skipped = {}, dict.fromkeys(specs, 'no site multiplies with it')
  for site in graph.sites:
    if site.weight is None or relative(site.weight) not in specs:
      continue
    reason = unsupported(site) or indivisible(
      site, specs[relative(site.weight)]
    )
    if reason is None:
      chosen[site.name] = site.weight
      skipped.pop(relative(site.weight), None)
    else:
      skipped[relative(site.weight)] = reason
  return {
    n: p for n, p in chosen.items() if relative(p) not in skipped
  }, skipped


class _Spread:
  """Takes values in the sites' layout to their leaves' layout.

  It is the transpose of the way from the leaves to the sites (casts,
  reshapes, transposes, slices), so no layout is guessed from a shape.
  """

  def __init__(self, apply, variables, chosen, inputs):
    def tap(site, op, *operands):
      if site.name not in chosen:
        return op(*operands)
      return Emit(op(*operands), operands[site.weight_operand])

    tapped = graph_lib.rewrite(apply, tap, has_aux=True)

    def pull(variables, inputs, values):
      def operands(leaves):
        return tapped(replace_leaves(variables, leaves), *inputs)[1]

      leaves = by_path(variables)
      leaves = {path: leaves[path] for path in sorted(set(chosen.values()))}
      return jax.vjp(operands, leaves)[1](values)[0]

    self.arguments = variables, inputs
    shapes = jax.eval_shape(lambda v, i: tapped(v, *i)[1], variables, inputs)
    self.blank = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    self.pull = jax.jit(pull)

  def __call__(self, values):
    """Leaf path to array; sites without a value give zeros."""
    return self.pull(*self.arguments, {**self.blank, **values})

  def entries_used_once(self) -> set[str]:
    """Paths of leaves whose entries reach the sites once each, as they are.

    Runs on zeros, so that it is known while an outer `jit` traces, too.
    """
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), self.arguments)
    ones = jax.tree.map(np.ones_like, self.blank)
    counts = self.pull.lower(*zeros, ones).compile()(*zeros, ones)
    return {
      path for path, count in counts.items() if (np.asarray(count) == 1).all()
    }


def _patches(site, operand) -> jax.Array:
  """im2col of a convolution's input, `[G, N, positions, K]`."""
  spec = site.params['dimension_numbers']
  operand = operand.transpose(spec.lhs_spec)
  window = [site.rhs_shape[axis] for axis in spec.rhs_spec[2:]]
  patches = jax.lax.conv_general_dilated_patches(
    operand,
    window,
    site.params['window_strides'],
    site.params['padding'],
    site.params['lhs_dilation'],
    site.params['rhs_dilation'],
    precision=jax.lax.Precision.HIGHEST,
  )
  images, channels = operand.shape[:2]
  groups, taps = site.groups, math.prod(window)
  patches = patches.reshape(images, groups, channels // groups, taps, -1)
  patches = patches.transpose(1, 0, 4, 3, 2)
  return patches.reshape(*patches.shape[:3], -1)


def dot_axes(site, operand: int):
  """Batch, free and contracted axes of one operand of a matrix product.

  Contracted axes come in the order that they have in the weight.
  """
  contracted, batch = site.params['dimension_numbers']
  order = np.argsort(contracted[site.weight_operand])
  contracted = tuple(contracted[operand][i] for i in order)
  batch = tuple(batch[operand])
  shape = (site.lhs_shape, site.rhs_shape)[operand]
  taken = {*contracted, *batch}
  free = tuple(axis for axis in range(len(shape)) if axis not in taken)
  return batch, free, contracted


def _dot_weight(site):
  parts = dot_axes(site, site.weight_operand)
  shape = (site.lhs_shape, site.rhs_shape)[site.weight_operand]
  axes = tuple(axis for part in parts for axis in part)
  sizes = [math.prod(shape[axis] for axis in part) for part in parts]
  return axes, tuple(sizes)
