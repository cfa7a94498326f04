"""When masks change, and how far they have come.

A schedule is a row of pruning events. The sparsity at each is computed on the
host, in float64, so that counts of survivors are exact; which event a step has
reached is a traced integer, so one compiled step serves the whole schedule.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from compress.errors import InputError


@dataclasses.dataclass(frozen=True)
class Schedule:
  """Events at `start`, `start + interval`, ..., each with its sparsity.

  Attributes:
    start: step of the first event; 0 prunes at initialisation.
    interval: steps between events.
    events: number of events, at least 1.
    path: `(final sparsity) -> float64 [events]`, the sparsity at each event;
      not decreasing, the last is the final one.
  """

  start: int
  interval: int
  events: int
  path: Callable[[float], np.ndarray]

  def __post_init__(self):
    if self.start < 0 or self.interval < 1 or self.events < 1:
      raise InputError(
        f'schedule with start={self.start}, interval={self.interval}, '
        f'events={self.events}: start >= 0, interval >= 1, events >= 1 needed'
      )

  def sparsities(self, final: float) -> np.ndarray:
    """float64 [events + 1]: 0 before the first event, then at each one."""
    return np.concatenate([[0.0], self.path(final)])

  def event(self, step: jax.Array | int) -> jax.Array:
    """int32 []: events that lie at or before a step; 0 before the first."""
    passed = jnp.asarray(step, jnp.int32) - self.start
    return jnp.clip(passed // self.interval + 1, 0, self.events)

  def __call__(self, step: jax.Array | int, final: float) -> jax.Array:
    """float32 []: the sparsity that holds after a step; may be traced."""
    return jnp.asarray(self.sparsities(final), jnp.float32)[self.event(step)]

  @property
  def last_step(self) -> int:
    """Step of the last event."""
    return self.start + self.interval * (self.events - 1)


def one_shot(*, step: int = 0) -> Schedule:
  """All at once.

  Args:
    step: when; 0 means at initialisation.

  Returns:
    The schedule.
  """
  return Schedule(step, 1, 1, lambda final: np.array([float(final)]))


def iterative(
  rounds: int,
  *,
  interval: int,
  start: int = 0,
  geometric: bool = True,
) -> Schedule:
  """Prune, retrain, prune again.

  Han et al. 2015 (arXiv:1506.02626); the lottery ticket (Frankle, Carbin 2019,
  arXiv:1803.03635) removes the same fraction of what is left in every round.

  Args:
    rounds: number of events.
    interval: steps of training after each.
    start: step of the first.
    geometric: density falls by the same factor every round,
      `(1 - final)^(i / rounds)`; otherwise sparsity grows evenly.

  Returns:
    The schedule.
  """

  def path(final):
    part = np.arange(1, rounds + 1) / rounds
    out = 1 - (1 - final) ** part if geometric else final * part
    out[-1] = final
    return out

  return Schedule(start, interval, rounds, path)


def cubic(
  steps: int,
  *,
  interval: int = 100,
  start: int = 0,
  initial: float = 0.0,
  ahead: bool = False,
) -> Schedule:
  """Fast at first, slower as less is left.

  Zhu and Gupta 2017, arXiv:1710.01878, eq. 1, at `t = t0, t0 + dt, ..., t0 + n
  dt`: `s_t = s_f + (s_i - s_f) (1 - (t - t0) / (n dt))^3`.

  Args:
    steps: n, so that there are n + 1 events.
    interval: dt in steps, 100 to 1000 in the paper.
    start: t0.
    initial: s_i; a leaf whose final sparsity is lower starts at that.
    ahead: one step further on the curve, `t + 1 - t0`, as jaxpruner's code.

  Returns:
    The schedule.

  Raises:
    InputError: no steps, or an initial sparsity outside [0, 1).
  """
  if steps < 1 or not 0 <= initial < 1:
    raise InputError(
      f'cubic schedule with steps={steps}, initial={initial}: steps >= 1 and '
      f'initial in [0, 1) are needed'
    )

  def path(final):
    passed = np.arange(steps + 1) * interval + (1 if ahead else 0)
    left = np.clip(1 - passed / (steps * interval), 0, None)
    out = final + (min(initial, final) - final) * left**3
    out[-1] = final
    return out

  return Schedule(start, interval, steps + 1, path)
