"""One training step: a pure function from (state, batch) to (state, metrics).

The step is written once. It runs by itself, under `jax.jit`, under `jax.jit`
with the batch sharded over a mesh, and inside `jax.pmap`, where it is told the
name of the mapped axis (`compress.train.sharding` makes each of these).

Under a sharded `jit` the loss function sees the global batch. Under `pmap` it
sees its device's rows and the axis name; a loss over pairs then gathers the
other rows itself (`jax.lax.all_gather`). In both cases the averaged gradient
is that of the loss over the global batch, if the loss function returns either
the mean over its own rows or the same global number on every device.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Tree = Any
LossFn = Callable[..., tuple[jax.Array, tuple[Tree, Mapping[str, Any]]]]
Step = Callable[..., tuple['TrainState', dict[str, jax.Array]]]


class TrainState(NamedTuple):
  """Everything a run is made of, as arrays; checkpoints hold exactly this.

  Attributes:
    step: int32 [], the number of updates done.
    params: what is differentiated and updated.
    opt_state: the optimizer's state.
    carried: what is handed from step to step without a gradient: batch
      statistics, ranges, anchors, masks.
    key: the run's random key (typed, or raw uint32 [2]); it never changes, each
      step folds its number into it.
  """

  step: jax.Array
  params: Tree
  opt_state: Tree
  carried: Tree
  key: jax.Array


def init_state(
  params: Tree,
  optimizer: optax.GradientTransformation,
  carried: Tree,
  key: jax.Array,
) -> TrainState:
  """Make the state before the first step.

  Every array is copied: jitted steps give the state's memory to the next state,
  and the arrays given here, which may be the teacher's too, stay valid.

  Args:
    params: pytree of floating arrays to train.
    optimizer: an optax gradient transformation.
    carried: pytree of arrays carried along; `()` if there are none.
    key: random key of the run.

  Returns:
    The state of step 0.
  """
  state = TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    opt_state=optimizer.init(params),
    carried=carried,
    key=key,
  )
  return jax.tree.map(_own, state)


def make_step(
  loss_fn: LossFn,
  optimizer: optax.GradientTransformation,
  *,
  after_update: Callable[..., 'TrainState'] | None = None,
) -> Step:
  """Make the training step of a loss and an optimizer.

  The step is `step(state, batch, *, axis_name=None) -> (state, metrics)`:

  1. `key = fold_in(state.key, state.step)`, the same on every device. A loss
     that draws noise per image under `pmap` folds in its
     `jax.lax.axis_index(axis_name)` as well.
  2. `loss_fn(params, carried, batch, key, axis_name=axis_name)` returns
     `(loss, (carried, metrics))`; its gradient is taken with respect to
     `params`.
  3. With an axis name, the mean over devices of gradients, metrics and the
     floating leaves of `carried`. Integer and boolean leaves of `carried` are
     not touched: a loss must compute them equal on all devices.
  4. The optimizer's update.

  Args:
    loss_fn: the loss, as above. Metrics are a mapping from name to array;
      integers become float32. The carried pytree keeps its structure, shapes
      and dtypes.
    optimizer: an optax gradient transformation.
    after_update: optional `(state, *, grads, key) -> state`, applied to the
      new state, after the optimizer's update, with the averaged gradients:
      masks, moments of what was removed, codebooks, projections. `state.step`
      is still that of the state the step began with.

  Returns:
    The step. Its metrics are those of the loss function with `loss` and
    `grad_norm` (global L2 norm before the optimizer's clipping) added, float
    arrays. It raises TypeError when `carried` changes its structure, a shape
    or a dtype.
  """
  value_and_grad = jax.value_and_grad(loss_fn, has_aux=True)

  def step(state, batch, *, axis_name=None):
    key = jax.random.fold_in(state.key, state.step)
    (loss, (carried, metrics)), grads = value_and_grad(
      state.params, state.carried, batch, key, axis_name=axis_name
    )
    metrics = {**metrics, 'loss': loss}
    metrics = {name: _floating(value) for name, value in metrics.items()}
    if axis_name is not None:
      grads, metrics = jax.lax.pmean((grads, metrics), axis_name)
      carried = jax.tree.map(lambda x: _mean_if_float(x, axis_name), carried)
    metrics['grad_norm'] = optax.tree.norm(grads)
    # Several optimizers of optax multiply integer counts with floats.
    with jax.numpy_dtype_promotion('standard'):
      updates, opt_state = optimizer.update(
        grads, state.opt_state, state.params
      )
    params = optax.apply_updates(state.params, updates)
    new = TrainState(state.step, params, opt_state, carried, state.key)
    if after_update is not None:
      new = after_update(new, grads=grads, key=key)
    return _same_types(new._replace(step=state.step + 1), state), metrics

  return step


def _own(leaf):
  """Copy a leaf, without the weak type that would cost a second compile."""
  leaf = jnp.array(leaf, copy=True)
  return _strong(leaf)


def _strong(leaf):
  if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    return leaf
  return jax.lax.convert_element_type(leaf, leaf.dtype)


def _floating(value):
  value = jnp.asarray(value)
  if jnp.issubdtype(value.dtype, jnp.floating):
    return value
  return value.astype(jnp.float32)


def _mean_if_float(leaf, axis_name):
  leaf = jnp.asarray(leaf)
  if jnp.issubdtype(leaf.dtype, jnp.floating):
    return jax.lax.pmean(leaf, axis_name)
  return leaf


def _same_types(new, old):
  """Return `new` without weak types, checked against the state before it."""
  structures = [jax.tree.structure(tree) for tree in (new, old)]
  if structures[0] != structures[1]:
    raise TypeError(
      f'The step changed the structure of the state from {structures[1]} to '
      f'{structures[0]}.'
    )

  def check(path, leaf, before):
    leaf = jnp.asarray(leaf)
    if (leaf.shape, leaf.dtype) != (before.shape, before.dtype):
      name = jax.tree_util.keystr(path, simple=True, separator='/')
      raise TypeError(
        f'The step changed {name} from {before.dtype}{list(before.shape)} to '
        f'{leaf.dtype}{list(leaf.shape)}.'
      )
    return _strong(leaf)

  return jax.tree_util.tree_map_with_path(check, new, old)
