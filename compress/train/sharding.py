"""The same step on many devices.

`jit_step` is the way: the batch is sharded over a one-dimensional mesh on its
leading axis, the state is replicated, and XLA puts in the collectives. A loss
sees the global batch, so losses over pairs need nothing special. `pmap_step`
runs the same step for those who use `jax.pmap`; there a loss sees its own rows
and the axis name `DATA_AXIS`.

More machines: start one process per machine, call `initialize_distributed`
first, build the mesh over `jax.devices()` (all of them) and give each process
its own rows of every batch (`compress.train.batches` cuts them). Nothing else
changes.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from compress.errors import InputError

DATA_AXIS = 'data'

Tree = Any


def initialize_distributed(
  *,
  coordinator: str | None = None,
  processes: int | None = None,
  process: int | None = None,
) -> None:
  """Start `jax.distributed`; call it before anything else touches JAX.

  Without arguments JAX reads them from the cluster it knows (TPU pods, Slurm,
  Open MPI). On CPU devices the collectives run over gloo. Each process then
  has its own `jax.local_devices()`, and `jax.devices()` holds all of them.

  Args:
    coordinator: `host:port` of process 0, reachable from all processes.
    processes: the number of processes.
    process: this process's number, 0 to processes - 1.

  Raises:
    InputError: some but not all arguments are given, or the number is out of
      range.
  """
  given = [x is not None for x in (coordinator, processes, process)]
  if any(given) and not all(given):
    raise InputError(
      'coordinator, processes and process belong together: give all three, or '
      'none inside a cluster that JAX knows.'
    )
  if all(given) and not 0 <= process < processes:
    raise InputError(
      f'process is {process}; with {processes} processes it is from 0 to '
      f'{processes - 1}.'
    )
  jax.config.update('jax_cpu_collectives_implementation', 'gloo')
  jax.distributed.initialize(coordinator, processes, process)


def data_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
  """Return a one-dimensional mesh with the axis `DATA_AXIS`.

  Args:
    devices: the devices; by default all of them, of all processes.

  Returns:
    The mesh.

  Raises:
    InputError: the sequence is empty.
  """
  devices = jax.devices() if devices is None else list(devices)
  if not devices:
    raise InputError('A mesh needs at least one device; none was given.')
  return Mesh(np.asarray(devices), (DATA_AXIS,))


def put_batch(batch: Tree, mesh: Mesh) -> Tree:
  """Put a batch on the mesh, sharded on the leading axis of every leaf.

  Args:
    batch: pytree of arrays `[B, ...]`, this process's rows (with one process:
      all rows). Leaves without axes are replicated. Leaves that already lie
      where they belong are not touched.
    mesh: from `data_mesh`.

  Returns:
    The same pytree of global arrays `[B * processes, ...]`.

  Raises:
    InputError: a leading axis does not divide over the mesh's devices.
  """
  rows = NamedSharding(mesh, PartitionSpec(DATA_AXIS))

  def put(path, leaf):
    if isinstance(leaf, jax.Array) and leaf.ndim and leaf.sharding == rows:
      return leaf
    if not np.ndim(leaf):
      return _put_whole(leaf, mesh)
    _check_rows(path, leaf, len(mesh.local_devices))
    if rows.is_fully_addressable:
      return jax.device_put(leaf, rows)
    return jax.make_array_from_process_local_data(rows, np.asarray(leaf))

  return jax.tree_util.tree_map_with_path(put, batch)


def put_state(state: Tree, mesh: Mesh) -> Tree:
  """Replicate a state over the mesh; leaves already there are not touched.

  Args:
    state: pytree of arrays, with the same values in every process.
    mesh: from `data_mesh`.

  Returns:
    The pytree on every device of the mesh. It may share memory with `state`.
  """
  return jax.tree.map(lambda leaf: _put_whole(leaf, mesh), state)


def jit_step(step: Callable, mesh: Mesh | None = None) -> Callable:
  """Compile a step for a mesh: batch sharded, state replicated and donated.

  Args:
    step: from `compress.train.make_step`.
    mesh: from `data_mesh`; by default one over all devices.

  Returns:
    `(state, batch) -> (state, metrics)`. It places both arguments itself
    (`put_state`, `put_batch`: a process gives its own rows) and compiles once
    per batch shape. The state given to it is used up: its memory becomes the
    new state's.
  """
  mesh = data_mesh() if mesh is None else mesh
  whole = NamedSharding(mesh, PartitionSpec())
  jitted = jax.jit(step, donate_argnums=0, out_shardings=whole)

  def run(state, batch):
    return jitted(put_state(state, mesh), put_batch(batch, mesh))

  return run


def pmap_step(
  step: Callable, devices: Sequence[jax.Device] | None = None
) -> Callable:
  """Map a step over devices with `jax.pmap`; the same numbers as `jit_step`.

  Equal up to float rounding, and only if the loss is a mean over rows or
  gathers the rows itself. BatchNorm in train mode without an axis name uses
  each device's own statistics here and the global batch's under `jit_step`.

  Args:
    step: from `compress.train.make_step`.
    devices: this process's devices; by default all of them.

  Returns:
    `(state, batch) -> (state, metrics)`, for a state that is replicated or
    not, and a batch `[B, ...]`, this process's rows. The state it returns is
    replicated (`unreplicate` undoes that), the metrics are not. The state
    given to it is used up.
  """
  local = jax.local_devices() if devices is None else list(devices)
  mapped = jax.pmap(
    partial(step, axis_name=DATA_AXIS),
    axis_name=DATA_AXIS,
    devices=devices,
    donate_argnums=0,
    out_axes=(0, None),
  )

  def split(path, leaf):
    if not np.ndim(leaf):
      return jnp.broadcast_to(jnp.asarray(leaf), (len(local),))
    _check_rows(path, leaf, len(local))
    return leaf.reshape(len(local), -1, *leaf.shape[1:])

  def run(state, batch):
    if not state.step.ndim:
      state = replicate(state, local)
    return mapped(state, jax.tree_util.tree_map_with_path(split, batch))

  return run


def replicate(state: Tree, devices: Sequence[jax.Device] | None = None) -> Tree:
  """Copy a state to every local device along a new leading axis, for `pmap`.

  Args:
    state: pytree of arrays `[...]`.
    devices: this process's devices; by default all of them.

  Returns:
    The pytree of arrays `[devices, ...]`, one row per device.
  """
  devices = jax.local_devices() if devices is None else list(devices)
  rows = NamedSharding(data_mesh(devices), PartitionSpec(DATA_AXIS))

  def copy(leaf):
    leaf = jnp.asarray(leaf)
    leaf = jnp.broadcast_to(leaf, (len(devices), *leaf.shape))
    return jax.device_put(leaf, rows)

  return jax.tree.map(copy, state)


def unreplicate(state: Tree) -> Tree:
  """Return the first device's row of a state that `replicate` made.

  Args:
    state: pytree of arrays `[devices, ...]`.

  Returns:
    The pytree of arrays `[...]` on one device.
  """
  return jax.tree.map(lambda leaf: leaf.addressable_data(0)[0], state)


def _put_whole(leaf, mesh):
  """Replicate one leaf; across processes each one gives its own copy."""
  whole = NamedSharding(mesh, PartitionSpec())
  if isinstance(leaf, jax.Array) and leaf.sharding == whole:
    return leaf
  if whole.is_fully_addressable:
    return jax.device_put(leaf, whole)
  leaf = jnp.asarray(leaf)
  if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    data = _put_whole(jax.random.key_data(leaf), mesh)
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
  return jax.make_array_from_process_local_data(
    whole, np.asarray(leaf), leaf.shape
  )


def _check_rows(path, leaf, devices):
  rows = leaf.shape[0]
  if rows and rows % devices == 0:
    return
  name = jax.tree_util.keystr(path, simple=True, separator='/') or 'the batch'
  up = devices * max(1, math.ceil(rows / devices))
  fitting = f'{up - devices} or {up}' if up > devices else f'{up}'
  raise InputError(
    f'{name} has {rows} rows, which do not divide over {devices} devices; '
    f'a batch of {fitting} would.'
  )
