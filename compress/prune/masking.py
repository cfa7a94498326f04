"""What masks do to trees, and what keeps removed weights removed.

Masks are flat: leaf path to bool array, True where the weight stays; leaves
without one are left alone.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from compress import compressor as compressor_lib
from compress import graph
from compress.compressor import State
from compress.errors import InputError
from compress.prune.paths import by_path

Masks = dict[str, jax.Array]


def check_tree(
  arrays: Mapping[str, jax.Array],
  params,
  what: str,
  *,
  needed: Mapping[str, Any] | None = None,
) -> Mapping[str, jax.Array]:
  """Gives arrays by leaf path back, if they belong to a tree.

  Args:
    arrays: leaf path to array.
    params: the tree.
    what: name of the arrays, for the message.
    needed: paths that must be among them.

  Returns:
    The arrays.

  Raises:
    InputError: a path that is no leaf, a leaf of another shape, a path that is
      missing.
  """
  leaves = by_path(params)
  for path in needed or ():
    if path not in arrays:
      raise InputError(f'{path}: {what} for this leaf is missing')
  for path, array in arrays.items():
    if path not in leaves:
      raise InputError(
        f'{path}: {what} of another tree; the leaves here are such as '
        f'{next(iter(leaves), None)}'
      )
    if jnp.shape(array) != jnp.shape(leaves[path]):
      raise InputError(
        f'{path}: {what} of shape {list(jnp.shape(array))} for weights of '
        f'shape {list(jnp.shape(leaves[path]))}'
      )
  return arrays


def apply_masks(
  params, masks: Mapping[str, jax.Array], *, straight_through: bool = False
):
  """The parameters with zero where a mask is False.

  Args:
    params: pytree of arrays.
    masks: leaf path to bool array; other leaves stay as they are.
    straight_through: pass the gradient to removed weights as well.

  Returns:
    The tree.

  Raises:
    InputError: masks of another tree or of other shapes.
  """
  function = _straight_through if straight_through else _masked
  return compressor_lib.map_covered(
    lambda leaf, mask, path: function(leaf, mask),
    params,
    check_tree(masks, params, 'a mask'),
  )


def masks_of(state: State) -> Masks:
  """All masks of a compressor's state, of chains too.

  Args:
    state: the state; a leaf that several methods of a chain mask gets what
      all of them leave.

  Returns:
    Leaf path to bool array; empty where nothing is masked.
  """
  found: Masks = {}

  def visit(node):
    if isinstance(node, Mapping) and isinstance(node.get('masks'), Mapping):
      for path, mask in node['masks'].items():
        found[path] = found[path] & mask if path in found else mask
    elif isinstance(node, tuple):
      for child in node:
        visit(child)

  visit(state.carried)
  return found


def empty_leaves(masks: Mapping[str, jax.Array]) -> tuple[str, ...]:
  """Paths whose mask keeps nothing: a layer that collapsed.

  Nothing passes a collapsed layer but what a shortcut or a bias carries, and
  no gradient brings it back. Pruning at initialization by a global threshold
  is known for it (Tanaka et al. 2020), so look before training starts.
  """
  return tuple(path for path, mask in masks.items() if not mask.any())


def remask(params, state: State):
  """Sets to zero what is removed, after an optimizer's update.

  Args:
    params: pytree of arrays.
    state: state of a pruning compressor, or of a chain with one.

  Returns:
    The tree.

  Raises:
    InputError: masks of another tree or of other shapes.
  """
  return apply_masks(params, masks_of(state))


def reset_moments(
  opt_state,
  masks: Mapping[str, jax.Array],
  *,
  optimizer: optax.GradientTransformation,
  params,
):
  """Sets an optimizer's moments to zero where a mask is False.

  For weights that were grown anew, give the mask of those that were not.

  Args:
    opt_state: the optimizer's state.
    masks: path to bool array, relative to `params`.
    optimizer: the optimizer.
    params: the tree that the optimizer updates.

  Returns:
    The optimizer's state; counts and leaves without a mask as they were.

  Raises:
    InputError: masks of another tree or of other shapes.
  """
  masks = check_tree(masks, params, 'a mask')

  def whole(path, leaf):
    name = graph.path_string(path)
    return masks[name] if name in masks else jnp.ones(jnp.shape(leaf), bool)

  return optax.tree_utils.tree_map_params(
    optimizer,
    _masked,
    opt_state,
    jax.tree_util.tree_map_with_path(whole, params),
  )


def rewind(params, early, state: State):
  """The weights of an earlier step, without what has been removed since.

  Frankle and Carbin 2019, arXiv:1803.03635, from initialisation; Frankle et al.
  2020, arXiv:1912.05671, from an early step, which larger networks need. The
  optimizer and its schedule must be rewound by the caller.

  Args:
    params: the trained parameters; only structure, shapes and dtypes count.
    early: the parameters to go back to.
    state: state of a pruning compressor, or of a chain with one.

  Returns:
    The tree of `early`, zero where a weight is removed.

  Raises:
    InputError: trees or masks that do not belong together.
  """
  if jax.tree.structure(params) != jax.tree.structure(early):
    raise InputError(
      'rewind: the early parameters have another structure than the present'
    )
  check_tree(by_path(early), params, 'early weights', needed=by_path(params))
  return remask(early, state)


def _masked(weights, mask):
  return jnp.where(mask, weights, jnp.zeros((), weights.dtype))


@jax.custom_jvp
def _straight_through(weights, mask):
  return _masked(weights, mask)


@_straight_through.defjvp
def _straight_through_jvp(primals, tangents):
  return _straight_through(*primals), tangents[0]
