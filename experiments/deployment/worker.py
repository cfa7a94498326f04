"""A process that holds one model in one runtime, and runs it when asked.

Started by `experiments.deployment.workers`, one for each model, so that each
has its own threads and its own memory. It reads a line of JSON for each call
and answers with one. Nothing but the runtime is imported, so that the memory
is the runtime's.
"""

import json
import os
import pathlib
import sys
import time


def main(
  runtime: str,
  path: str,
  threads: int,
  shape: tuple[int, ...],
  config: dict[str, str],
) -> None:
  """Loads the model and serves until there is no more input.

  Args:
    runtime: `onnxruntime` or `stablehlo`.
    path: of the model.
    threads: that it may use.
    shape: (H, W, C) of an image.
    config: entries of onnxruntime's session configuration.
  """
  answers = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)  # What a library prints is no answer.
  if hasattr(os, 'sched_setaffinity'):
    # XLA starts as many threads as there are processors to run on.
    mine = sorted(os.sched_getaffinity(0))[:threads]
    os.sched_setaffinity(0, mine)
  import numpy as np

  make = {'onnxruntime': _onnxruntime, 'stablehlo': _stablehlo}[runtime]
  load = make(threads, config)
  before, _ = _memory()
  _reset_peak()
  run = load(path)
  batches = {}
  print(json.dumps({'ready': True}), file=answers, flush=True)
  for line in sys.stdin:
    asked = json.loads(line)
    if 'batch' in asked:
      size = asked['batch']
      if size not in batches:
        pixels = np.random.default_rng(size).integers(0, 256, (size, *shape))
        batches[size] = pixels.astype(np.float32)
      start = time.perf_counter()
      run(batches[size])
      answer = {'ms': 1e3 * (time.perf_counter() - start)}
    else:
      resident, peak = _memory()
      answer = {'resident': None, 'peak': None}
      if before is not None:
        answer = {'resident': resident - before, 'peak': peak - before}
    print(json.dumps(answer), file=answers, flush=True)


def _onnxruntime(threads: int, config: dict[str, str]):
  import onnxruntime

  def load(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    for key, value in config.items():
      options.add_session_config_entry(key, value)
    session = onnxruntime.InferenceSession(
      path, options, providers=['CPUExecutionProvider']
    )
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})

  return load


def _stablehlo(threads: int, config: dict[str, str]):
  del threads, config
  import jax

  jax.config.update('jax_platforms', 'cpu')
  jax.block_until_ready(jax.jit(lambda x: x + 1)(0))
  from compress import deploy

  def load(path):
    run = deploy.compile_program(deploy.load_program(path))
    return lambda images: jax.block_until_ready(run(images))

  return load


def _memory() -> tuple[int | None, int | None]:
  """Bytes in memory now, and at most; None where the system does not tell."""
  try:
    text = pathlib.Path('/proc/self/status').read_text(encoding='utf-8')
  except OSError:
    return None, None
  fields = dict(line.split(':', 1) for line in text.splitlines() if ':' in line)
  return tuple(1024 * int(fields[key].split()[0]) for key in ('VmRSS', 'VmHWM'))


def _reset_peak() -> None:
  try:
    pathlib.Path('/proc/self/clear_refs').write_text('5', encoding='utf-8')
  except OSError:
    return


if __name__ == '__main__':
  main(
    sys.argv[1],
    sys.argv[2],
    int(sys.argv[3]),
    tuple(int(x) for x in sys.argv[4].split(',')),
    json.loads(sys.argv[5]),
  )
