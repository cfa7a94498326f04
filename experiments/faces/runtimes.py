"""Latency of a study's networks in JAX and in onnxruntime."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from compress import audit, deploy
from compress.errors import InputError
from experiments.faces import exported

BATCHES = {1: (3, 20), 32: (1, 5)}
"""Batch size to rounds that are not timed, and that are."""


def measure_in_turn(
  functions: Mapping[str, Callable[..., Any]],
  *,
  image_shape: tuple[int, ...],
  smoke: bool,
) -> dict[str, dict[str, Any]]:
  """Times `images -> embeddings`, interleaved.

  Args:
    functions: by name.
    image_shape: (H, W, 3).
    smoke: once is enough.

  Returns:
    name -> `batch1`, `batch32`, and the device.
  """

  def batch(size):
    return np.full((size, *image_shape), 128, np.float32)

  found: dict[str, dict[str, Any]] = {name: {} for name in functions}
  for size, (warmup, repeats) in BATCHES.items():
    warmup, repeats = (0, 1) if smoke else (warmup, repeats)
    measured = audit.measure_batches(
      functions, batch, batch_sizes=(size,), warmup=warmup, repeats=repeats
    )
    for name, entry in measured.items():
      found[name] |= entry
  return found


def with_runtimes(
  latency: Mapping[Any, dict[str, Any]], settings, network, runs
) -> tuple[dict[Any, dict[str, Any]], list[str]]:
  """Adds an entry a runtime to the latencies of a study.

  `jax` repeats what was measured, the simulation's; `onnxruntime` is the
  exported network's, for each that has bits and an ONNX form.

  Args:
    latency: of `reference` and of each shape of a variant, `batch1` and
      `batch32`.
    settings: of the study.
    network: the reference.
    runs: the runs, in order.

  Returns:
    The same with `jax` and `onnxruntime` (see `compress.audit.runtimes`), and
    notes on what could not be run.
  """
  threads = f'threads{_cores()}'
  sizes = [f'batch{size}' for size in BATCHES]
  whole = {size: latency['reference'][size] for size in sizes}
  found = {
    key: entry
    | {
      'jax': {
        'float32': {threads: whole},
        **(
          {'compressed': {threads: {size: entry[size] for size in sizes}}}
          if key != 'reference'
          else {}
        ),
      }
    }
    for key, entry in latency.items()
  }
  first = {}
  for run in runs:
    if run.variant.weight_bits is not None:
      first.setdefault(run.variant.shape, run)
  if not first:
    return found, []
  try:
    sessions, notes = _sessions(first, network)
  except InputError as error:
    return found, [f'No latency of onnxruntime: {error}.']
  measured = measure_in_turn(
    sessions, image_shape=network.image_shape, smoke=settings.smoke
  )
  entries = {
    name: {threads: {size: entry[size] for size in sizes}}
    for name, entry in measured.items()
  }
  for key in found:
    if key == 'reference' or str(key) in entries:
      found[key]['onnxruntime'] = {'float32': entries['reference']}
    if str(key) in entries:
      found[key]['onnxruntime']['compressed'] = entries[str(key)]
  return found, notes


def _sessions(first, network):
  """The reference and each shape's network in onnxruntime."""
  whole = exported.to_onnx(exported.uncompressed(network))[0]
  sessions, notes = {'reference': _session(whole)}, []
  for shape, run in first.items():
    stored = exported.read_stored(run.folder / 'network.safetensors', network)
    try:
      sessions[str(shape)] = _session(exported.to_onnx(stored)[0])
    except InputError as error:
      notes.append(f'{run.variant.name} has no ONNX form: {error}.')
  return sessions, notes


def _session(model) -> Callable[..., Any]:
  session = deploy.open_session(model, threads=_cores())
  name = session.get_inputs()[0].name
  return lambda images: session.run(None, {name: np.asarray(images)})


def _cores() -> int:
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1
