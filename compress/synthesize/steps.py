"""The loop around a jitted step: a progress bar, and what was measured."""

from collections import deque
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import tqdm

Tree = Any


def run_steps(
  step: Callable[[Tree, jax.Array], tuple[Tree, dict[str, jax.Array]]],
  state: Tree,
  key: jax.Array,
  *,
  steps: int,
  progress: bool = True,
  description: str | None = None,
) -> tuple[Tree, dict[str, np.ndarray]]:
  """Runs a step several times, each with a key of its own.

  Args:
    step: `(state, key) -> (state, metrics)`, jitted; metrics are float scalars
      with a 'loss' among them.
    state: the first.
    key: random key; step i gets `fold_in(key, i)`.
    steps: how many, 0 or more.
    progress: show a bar on standard error.
    description: stands before the bar.

  Returns:
    The last state, and metric name -> float64 [steps].

  Raises:
    FloatingPointError: a loss is not finite; the message names the step.
  """
  waiting: deque = deque()
  found: dict[str, list[float]] = {}
  bar = tqdm.tqdm(
    total=steps,
    desc=description,
    unit='step',
    disable=not progress or jax.process_index() != 0,
    dynamic_ncols=True,
  )

  def read(leave):
    # One step behind, so that the device does not wait for the host.
    while len(waiting) > leave:
      number, metrics = waiting.popleft()
      metrics = {k: float(v) for k, v in jax.device_get(metrics).items()}
      if not np.isfinite(metrics['loss']):
        raise FloatingPointError(
          f'{description or "step"} {number}: loss is {metrics["loss"]}'
        )
      for name, value in metrics.items():
        found.setdefault(name, []).append(value)
      bar.set_postfix({'loss': f'{metrics["loss"]:.4g}'}, refresh=False)
      bar.update()

  with bar:
    for number in range(steps):
      state, metrics = step(state, jax.random.fold_in(key, number))
      waiting.append((number, metrics))
      read(1)
    read(0)
  return state, {k: np.asarray(v, np.float64) for k, v in found.items()}
