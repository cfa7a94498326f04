"""Models measured in turn, each in a process of its own."""

import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from compress import audit, deploy
from compress.errors import InputError

_ROOT = pathlib.Path(__file__).parents[2]


class Worker:
  """A process with one model; a context manager.

  Attributes:
    path: of the model.
  """

  def __init__(self, runtime: str, path, *, threads: int, shape):
    self.path = path
    self._errors = tempfile.TemporaryFile('w+', errors='replace')
    self._process = subprocess.Popen(
      [
        sys.executable,
        '-m',
        'experiments.deployment.worker',
        runtime,
        str(pathlib.Path(path).resolve()),
        str(threads),
        ','.join(map(str, shape)),
        json.dumps(deploy.SESSION_CONFIG),
      ],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=self._errors,
      text=True,
      cwd=_ROOT,
    )

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self._process.stdin.close()
    try:
      self._process.wait(10)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()
    self._process.stdout.close()
    self._errors.close()

  def answer(self) -> dict[str, Any]:
    """The next answer.

    Raises:
      InputError: the process ended; says the last line of its errors.
    """
    line = self._process.stdout.readline()
    if line:
      return json.loads(line)
    self._process.wait()
    self._errors.seek(0)
    told = self._errors.read().strip().splitlines()
    raise InputError(
      f'{self.path}: the runtime ended with status {self._process.returncode}'
      f'{": " + told[-1] if told else ""}'
    )

  def ask(self, **what) -> dict[str, Any]:
    """Asks, and waits for the answer."""
    try:
      self._process.stdin.write(json.dumps(what) + '\n')
      self._process.stdin.flush()
    except BrokenPipeError:
      pass  # `answer` says why.
    return self.answer()


def measure(
  models: Mapping[str, tuple[str, pathlib.Path]],
  *,
  shape: tuple[int, ...],
  threads: int,
  rounds: Mapping[int, tuple[int, int]],
  step: Callable[[str], None] = lambda text: None,
) -> dict[str, dict[str, Any]]:
  """Times models in turn: every round runs each of them once.

  Args:
    models: name to runtime and path.
    shape: (H, W, C) of an image.
    threads: of each.
    rounds: batch size to how many rounds are not timed, and are.
    step: called before each round, with words.

  Returns:
    name -> `latency` ('batch1', ...: as `audit.measure` gives them) and
    `memory` ({'resident', 'peak'} in bytes, None where unknown).

  Raises:
    InputError: a runtime cannot run its model.
  """
  with contextlib.ExitStack() as stack:
    workers = {
      name: stack.enter_context(
        Worker(runtime, path, threads=threads, shape=shape)
      )
      for name, (runtime, path) in models.items()
    }
    step('loading')
    for worker in workers.values():
      worker.answer()
    found = {name: {'latency': {}} for name in models}
    for batch, (warmup, repeats) in rounds.items():
      times = _rounds(workers, batch, warmup, repeats, step)
      for name, (first, timed) in times.items():
        entry = audit.latency_entry(timed, first)
        found[name]['latency'][f'batch{batch}'] = entry
    for name, worker in workers.items():
      found[name]['memory'] = worker.ask(memory=True)
  return found


def _rounds(workers, batch, warmup, repeats, step):
  times = {name: [] for name in workers}
  names: Sequence[str] = list(workers)
  for i in range(1 + warmup + repeats):
    step(f'batch {batch}')
    shift = i % len(names)
    for name in [*names[shift:], *names[:shift]]:
      times[name].append(workers[name].ask(batch=batch)['ms'])
  return {n: (each[0], each[1 + warmup :]) for n, each in times.items()}
