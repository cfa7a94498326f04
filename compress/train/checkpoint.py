"""Checkpoints of a training state, written by orbax.

A checkpoint is the folder `<folder>/<step>`. Orbax writes it under another name
and renames it when it is complete, so a process killed at any moment leaves
either a whole checkpoint or a leftover that is ignored and cleared by the next
save. It holds the state's arrays, bit for bit, under their paths, and a JSON
manifest with every path's shape and dtype and the run's configuration.

Nothing in it depends on the number of devices or processes: a state saved on
eight devices continues on one. With several processes the folder must be one
that all of them see, and all of them call these functions.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from compress.errors import InputError

Tree = Any


def saved_steps(folder: str | Path) -> tuple[int, ...]:
  """Return the steps of the complete checkpoints in a folder, rising.

  Args:
    folder: where the checkpoints lie; it need not exist.

  Returns:
    The steps.
  """
  folder = Path(folder).absolute()
  if not folder.is_dir():
    return ()
  found = ocp.step.standard_name_format().find_all(folder)
  return tuple(sorted(checkpoint.step for checkpoint in found))


def save(
  folder: str | Path,
  state: Tree,
  *,
  config: Mapping[str, Any] | None = None,
  keep: int = 2,
) -> Path:
  """Write a checkpoint; when this returns, it is complete.

  Args:
    folder: where checkpoints lie; made if missing.
    state: `TrainState`, or any pytree with an integer `step` attribute. Leaves
      are arrays (also of size 0), random keys or numbers. It must not be
      replicated by `replicate` (use `unreplicate`).
    config: anything JSON can hold that tells this run from others. `restore`
      compares it.
    keep: how many of the newest checkpoints stay.

  Returns:
    The checkpoint's folder. A step that is there already is not written again.

  Raises:
    InputError: `keep` below 1, or the folder cannot be written.
  """
  if keep < 1:
    raise InputError(f'keep is {keep}; at least 1 checkpoint is kept.')
  folder = Path(folder).absolute()
  step = int(state.step)
  target = folder / str(step)
  if step in saved_steps(folder):
    return target
  leaves = _by_path(state)
  arrays = {
    path: _to_store(leaf) for path, leaf in leaves.items() if np.size(leaf)
  }
  manifest = {
    'leaves': {path: _kind(leaf) for path, leaf in leaves.items()},
    'config': _as_json(config),
  }
  options = ocp.CheckpointManagerOptions(
    max_to_keep=keep, enable_async_checkpointing=False
  )
  try:
    with ocp.CheckpointManager(
      folder, options=options, item_handlers=_handlers()
    ) as manager:
      manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.PyTreeSave(arrays),
          manifest=ocp.args.JsonSave(manifest),
        ),
      )
  except (PermissionError, NotADirectoryError, FileExistsError) as error:
    raise InputError(
      f'Cannot write checkpoints to {folder}: {error}.'
    ) from error
  return target


def restore(
  folder: str | Path,
  like: Tree,
  *,
  config: Mapping[str, Any] | None = None,
  step: int | None = None,
) -> Tree | None:
  """Read a checkpoint into a state of known structure.

  Args:
    folder: where the checkpoints lie.
    like: a state of the same structure, shapes and dtypes, usually the initial
      one; `jax.ShapeDtypeStruct` leaves will do. Array leaves tell by their
      sharding where the restored ones go.
    config: what the checkpoint's configuration must be; None does not compare.
    step: which checkpoint; by default the newest.

  Returns:
    The state, bit-equal to the saved one, or None if there is no checkpoint and
    no step was asked for.

  Raises:
    InputError: no checkpoint of this step, one that cannot be read, one of
      another configuration (names the first key that differs) or of another
      network or optimizer (names the first path that differs).
  """
  folder = Path(folder).absolute()
  steps = saved_steps(folder)
  if step is None:
    if not steps:
      return None
    step = steps[-1]
  if step not in steps:
    raise InputError(
      f'{folder} has no checkpoint of step {step}; it has {list(steps)}.'
    )
  source = folder / str(step)
  with ocp.Checkpointer(
    ocp.CompositeCheckpointHandler(**_handlers())
  ) as reader:
    manifest = _read(reader, source, manifest=ocp.args.JsonRestore()).manifest
    if not isinstance(manifest, dict) or {'leaves', 'config'} - set(manifest):
      raise InputError(f'{source} is not a checkpoint of compress.train.')
    if config is not None:
      _compare_configs(manifest['config'] or {}, _as_json(config), source)
    leaves = _by_path(like)
    _compare_leaves(manifest['leaves'], leaves, source)
    wanted = {
      path: ocp.RestoreArgs(restore_type=np.ndarray)
      for path, leaf in leaves.items()
      if np.size(leaf)
    }
    arrays = _read(
      reader, source, state=ocp.args.PyTreeRestore(restore_args=wanted)
    ).state
  restored = [
    _from_store(arrays.get(path), leaf) for path, leaf in leaves.items()
  ]
  return jax.tree.unflatten(jax.tree.structure(like), restored)


def _handlers():
  # Compression would take twice as long and win a few per cent.
  state = ocp.PyTreeCheckpointHandler(use_compression=False)
  return {'state': state, 'manifest': ocp.JsonCheckpointHandler()}


def _read(reader, source, **items):
  try:
    return reader.restore(source, args=ocp.args.Composite(**items))
  except (ValueError, KeyError, OSError, AttributeError) as error:
    raise InputError(
      f'{source} is not a checkpoint of compress.train, or is damaged; remove '
      'it to go on from the one before it.'
    ) from error


def _by_path(tree):
  named = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    if name in named:
      raise ValueError(f'Two leaves of the state have the path {name}.')
    named[name] = leaf
  return named


def _is_key(leaf):
  dtype = getattr(leaf, 'dtype', None)
  return dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)


def _kind(leaf):
  if isinstance(leaf, bool | int | float):
    return [[], type(leaf).__name__]
  return [list(leaf.shape), str(leaf.dtype)]


def _to_store(leaf):
  if _is_key(leaf):
    leaf = jax.random.key_data(leaf)
  if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
    return leaf
  return np.asarray(leaf)


def _from_store(array, like):
  if array is None:
    array = np.zeros(like.shape, _stored_dtype(like))
  if isinstance(like, bool | int | float):
    return type(like)(array.item())
  if isinstance(like, np.ndarray | np.generic):
    return array
  if _is_key(like):
    impl = jax.random.key_impl(jnp.empty((), like.dtype))
    return jax.random.wrap_key_data(array, impl=impl)
  sharding = getattr(like, 'sharding', None)
  if sharding is None or len(sharding.device_set) == 1:
    return jnp.array(array)
  return jax.make_array_from_callback(
    array.shape, sharding, lambda index: array[index]
  )


def _stored_dtype(leaf):
  return np.uint32 if _is_key(leaf) else leaf.dtype


def _as_json(config):
  return None if config is None else json.loads(json.dumps(config))


def _flat(config, prefix=''):
  """Flatten nested dictionaries to dotted names."""
  if not isinstance(config, dict) or not config:
    return {prefix: config}
  flat = {}
  for key, value in config.items():
    flat |= _flat(value, f'{prefix}.{key}' if prefix else key)
  return flat


def _compare_configs(stored, given, source):
  stored, given = _flat(stored), _flat(given)
  for key in [*given, *(key for key in stored if key not in given)]:
    old, new = (
      json.dumps(side[key]) if key in side else 'absent'
      for side in (stored, given)
    )
    if old != new:
      raise InputError(
        f'{source} belongs to another run: {key} is {old} there and {new} '
        'here; take another folder, or the same settings.'
      )


def _compare_leaves(stored, leaves, source):
  here = {path: _kind(leaf) for path, leaf in leaves.items()}
  for path in [*here, *(path for path in stored if path not in here)]:
    old, new = _describe(stored.get(path)), _describe(here.get(path))
    if old != new:
      raise InputError(
        f'{source} is of another network or optimizer: {path} is {old} there '
        f'and {new} here.'
      )


def _describe(kind):
  return 'absent' if kind is None else f'{kind[1]}{kind[0]}'
