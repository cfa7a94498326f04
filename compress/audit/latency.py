"""Measured latency of compiled functions.

A machine's speed drifts within seconds, so callables that are to be compared
are measured in one run, interleaved: every round times each of them once, in
an order that rotates. Times are wall-clock milliseconds from the call until
the result is ready; compilation and warm-up come first and are told apart.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from compress.errors import InputError

BATCH_SIZES = (1, 32)


def measure(
  functions: Mapping[str, Callable[..., Any]],
  *args: Any,
  warmup: int = 10,
  repeats: int = 50,
) -> dict[str, dict[str, Any]]:
  """Times several callables on the same arguments, interleaved.

  Args:
    functions: name -> callable, jitted by the caller. The result may be any
      pytree of arrays.
    *args: arguments, already on the device.
    warmup: untimed rounds after the first call of each.
    repeats: timed rounds, at least 1.

  Returns:
    name -> {'median', 'q1', 'q3' (ms per call), 'spread' ([q1, q3]), 'n',
    'first' (ms of the first call, compilation included)}.

  Raises:
    InputError: nothing to measure.
  """
  if not functions or repeats < 1 or warmup < 0:
    raise InputError(
      f'nothing to measure: {len(functions)} functions, {repeats} repeats, '
      f'{warmup} warm-up rounds'
    )
  names = list(functions)
  first = {name: _once(functions[name], args) for name in names}
  for _ in range(warmup):
    for name in names:
      _once(functions[name], args)
  times = {name: [] for name in names}
  for i in range(repeats):
    shift = i % len(names)
    for name in names[shift:] + names[:shift]:
      times[name].append(_once(functions[name], args))
  return {name: latency_entry(times[name], first[name]) for name in names}


def measure_batches(
  functions: Mapping[str, Callable[[jax.Array], Any]],
  make_batch: Callable[[int], Any],
  *,
  batch_sizes: Sequence[int] = BATCH_SIZES,
  warmup: int = 10,
  repeats: int = 50,
) -> dict[str, dict[str, Any]]:
  """Times several models at several batch sizes, interleaved.

  Args:
    functions: name -> callable of one batch, jitted by the caller.
    make_batch: maps a batch size to the batch, e.g. images [B, H, W, C].
    batch_sizes: the batch sizes B.
    warmup: untimed rounds.
    repeats: timed rounds.

  Returns:
    name -> the `latency_ms` entry of a report: 'batch1', 'batch32', ... (see
    `measure`; ms per batch, not per image), and 'device', 'version'
    (of JAX).

  Raises:
    InputError: nothing to measure, or a batch size below 1.
  """
  if not batch_sizes or min(batch_sizes) < 1:
    raise InputError(f'batch sizes must be 1 or more, got {tuple(batch_sizes)}')
  device = jax.devices()[0].device_kind
  report = {name: {} for name in functions}
  for size in batch_sizes:
    batch = jax.block_until_ready(jax.device_put(make_batch(size)))
    found = measure(functions, batch, warmup=warmup, repeats=repeats)
    for name, entry in found.items():
      report[name][f'batch{size}'] = entry
  for entry in report.values():
    entry.update(device=device, version=f'jax {jax.__version__}')
  return report


def _once(function, args) -> float:
  start = time.perf_counter()
  jax.block_until_ready(function(*args))
  return 1e3 * (time.perf_counter() - start)


def latency_entry(times: Sequence[float], first: float) -> dict[str, Any]:
  """Times of calls as a report has them.

  Args:
    times: milliseconds of each call.
    first: those of the first call, which may have compiled.

  Returns:
    What `measure` gives for one name.
  """
  q1, median, q3 = (float(x) for x in np.quantile(times, [0.25, 0.5, 0.75]))
  return {
    'median': median,
    'q1': q1,
    'q3': q3,
    'spread': [q1, q3],
    'n': len(times),
    'first': first,
  }
