"""The training loop: resume, run, log, save.

The loop keeps the device busy: it starts step t + 1 before it looks at the
metrics of step t. Everything it writes is written in an order that makes a kill
harmless: the metrics up to a step are on disk before that step's checkpoint is,
and on resume the metrics file is cut back to the checkpoint.
"""

import contextlib
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tqdm

from compress.errors import InputError
from compress.train import checkpoint, history
from compress.train.sharding import unreplicate
from compress.train.step import TrainState

Tree = Any

_MUST_BE_FINITE = ('loss', 'grad_norm')
_RATE_WINDOW = 20


class NonFiniteError(FloatingPointError):
  """Training left the finite numbers.

  Attributes:
    step: the step whose update had a non-finite loss or gradient, from 1.
    checkpoint: folder of the last good checkpoint, or None.
  """

  def __init__(self, message: str, *, step: int, checkpoint: Path | None):
    super().__init__(message)
    self.step = step
    self.checkpoint = checkpoint


def fit(
  step: Callable,
  state: TrainState,
  batch_fn: Callable[[int], Tree],
  *,
  steps: int,
  folder: str | Path | None = None,
  config: Mapping[str, Any] | None = None,
  save_every: int = 500,
  keep: int = 2,
  log_every: int = 1,
  progress: bool = True,
  description: str | None = None,
) -> tuple[TrainState, list[dict[str, Any]]]:
  """Train until a step, from the folder's last checkpoint if there is one.

  A run that is killed at any moment and started again with the same arguments
  ends with the same bits in state and history as one left alone, if `batch_fn`
  depends on nothing but the step (`compress.train.batches`).

  Ctrl-C takes effect when the current step has been started: the state is
  saved and KeyboardInterrupt is raised; a second Ctrl-C does not wait. With
  several processes nothing is saved then, since they stop at different steps.

  Args:
    step: from `jit_step` or `pmap_step` (or `jax.jit(make_step(...))`).
    state: the initial state. A step that donates uses it up.
    batch_fn: from the number of updates done, 0 to steps - 1, to the batch of
      this process.
    steps: the number of updates after which training ends, those before a
      resume included.
    folder: holds `checkpoints/` and `metrics.jsonl`; made if missing. None
      writes nothing.
    config: JSON-able settings that tell this run from others; a folder with
      other settings is refused.
    save_every: updates between checkpoints. There is one at the start and one
      at the end as well.
    keep: how many checkpoints stay.
    log_every: updates between lines of metrics. The last update is always
      logged, and every update is checked for non-finite numbers.
    progress: show a bar on standard error, with loss and images per second.
    description: what stands before the bar.

  Returns:
    The state after `steps` updates (replicated if the step is one of
    `pmap_step`'s and has run) and the history: one `{'step': n, 'loss': ...}`
    per logged update, from the run's first on.

  Raises:
    InputError: a number out of range, a folder of another run, network or
      optimizer, a folder already past `steps`.
    NonFiniteError: loss or gradient norm is not finite; the message names the
      step and the last good checkpoint.
  """
  counts = {'save_every': save_every, 'log_every': log_every, 'keep': keep}
  for name, value in counts.items():
    if value < 1:
      raise InputError(f'{name} is {value}; it is at least 1.')
  run = _Run(folder, config, keep)
  state = run.resume(state)
  first = int(_single(state).step)
  if first > steps:
    raise InputError(
      f'{run.folder or "The state"} is at step {first}, past the {steps} steps '
      'asked for.'
    )
  run.start(first)
  waiting: deque = deque()
  speed = _Speed()
  bar = tqdm.tqdm(
    total=steps,
    initial=first,
    desc=description,
    unit='step',
    disable=not progress or jax.process_index() != 0,
    dynamic_ncols=True,
  )

  def read(leave):
    while len(waiting) > leave:
      number, images, metrics = waiting.popleft()
      metrics = jax.device_get(metrics)
      run.record(number, metrics, number % log_every == 0 or number == steps)
      bar.set_postfix(
        {'loss': f'{float(metrics["loss"]):.4g}', 'img/s': speed.after(images)},
        refresh=False,
      )
      bar.update()

  with bar, run, _interrupts_wait() as interrupts:
    try:
      if first < steps:
        run.save(state)
      for done in range(first, steps):
        batch = batch_fn(done)
        state, metrics = step(state, batch)
        waiting.append((done + 1, _images(batch), metrics))
        read(1)
        if interrupts():
          raise KeyboardInterrupt
        if (done + 1) % save_every == 0 or done + 1 == steps:
          read(0)
          run.save(state)
    except KeyboardInterrupt:
      alone = jax.process_count() == 1
      if alone and interrupts() < 2 and not _deleted(state):
        read(0)
        run.save(state)
      raise
  return state, run.records


class _Run:
  """The files of a run; does nothing without a folder."""

  def __init__(self, folder, config, keep):
    self.folder = None if folder is None else Path(folder).absolute()
    self.config, self.keep = config, keep
    self.records = []
    self._file = None
    self._last = None

  def resume(self, state):
    if self.folder is None:
      return state
    restored = checkpoint.restore(
      self.folder / 'checkpoints', _single(state), config=self.config
    )
    return state if restored is None else restored

  def start(self, first):
    if self.folder is None:
      return
    path = self.folder / 'metrics.jsonl'
    if jax.process_index() != 0:
      self.records = history.read_history(path, last=first)
      return
    try:
      self.folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
      raise InputError(f'Cannot write to {self.folder}: {error}.') from error
    self.records = history.rewind(path, last=first)
    self._file = path.open('a', encoding='utf-8', buffering=1)

  def __enter__(self):
    return self

  def __exit__(self, *error):
    if self._file is not None:
      self._file.close()

  def record(self, number, metrics, logged):
    finite = all(np.isfinite(metrics[n]).all() for n in _MUST_BE_FINITE)
    if logged or not finite:
      line = history.to_line(number, metrics)
      self.records.append(history.from_line(line))
      if self._file is not None:
        self._file.write(line)
    if not finite:
      raise self._non_finite(number, metrics)

  def save(self, state):
    if self.folder is None:
      return
    if self._file is not None:
      self._file.flush()
      os.fsync(self._file.fileno())
    self._last = checkpoint.save(
      self.folder / 'checkpoints',
      _single(state),
      config=self.config,
      keep=self.keep,
    )

  def _non_finite(self, number, metrics):
    values = ', '.join(f'{n} is {metrics[n]}' for n in _MUST_BE_FINITE)
    good = (
      'no checkpoint was asked for'
      if self._last is None
      else f'the last good checkpoint is {self._last}'
    )
    return NonFiniteError(
      f'Step {number}: {values}; {good}.', step=number, checkpoint=self._last
    )


class _Speed:
  """Images per second over the last steps; the first, which compiles, aside."""

  def __init__(self):
    self._marks = deque(maxlen=_RATE_WINDOW)
    self._images = 0

  def after(self, images):
    self._images += images
    self._marks.append((time.perf_counter(), self._images))
    (start, before), (end, after) = self._marks[0], self._marks[-1]
    return f'{(after - before) / (end - start):.4g}' if end > start else '-'


@contextlib.contextmanager
def _interrupts_wait():
  """Count the first Ctrl-C only; yields the function that reads the count.

  An interrupt inside a step could come after its state was given away and
  before the new one has a name; nothing could be saved then.
  """
  seen = []
  ours = (
    threading.current_thread() is threading.main_thread()
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
  )

  def handle(number, frame):
    seen.append(number)
    if len(seen) > 1:
      signal.default_int_handler(number, frame)

  if ours:
    signal.signal(signal.SIGINT, handle)
  try:
    yield lambda: len(seen)
  finally:
    if ours:
      signal.signal(signal.SIGINT, signal.default_int_handler)


def _single(state):
  return unreplicate(state) if state.step.ndim else state


def _deleted(state):
  return any(
    isinstance(leaf, jax.Array) and leaf.is_deleted()
    for leaf in jax.tree.leaves(state)
  )


def _images(batch):
  rows = [np.shape(leaf)[0] for leaf in jax.tree.leaves(batch) if np.ndim(leaf)]
  return rows[0] * jax.process_count() if rows else 0
