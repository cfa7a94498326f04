"""Runs training in a process of its own: to be killed, or as one of several.

`python -m tests.train.worker killed FOLDER`
`python -m tests.train.worker distributed FOLDER HOST:PORT PROCESSES PROCESS`
"""

import json
import sys
import time
from pathlib import Path

import jax

jax.config.update('jax_numpy_dtype_promotion', 'strict')
jax.config.update('jax_numpy_rank_promotion', 'raise')

from compress import train  # noqa: E402
from tests.train import problem  # noqa: E402

# Wide enough that a save takes a while, so that it can be killed inside.
WIDTH = 50_000
# Seconds per step, so that the killer does not come too late.
PAUSE = 0.05


def killed(folder):
  jax.config.update('jax_num_cpu_devices', 8)
  batches = problem.batches()

  def batch_fn(number):
    time.sleep(PAUSE)
    return batches(number)

  return train.fit(
    jax.jit(problem.step(), donate_argnums=0),
    problem.initial(WIDTH),
    batch_fn,
    steps=problem.STEPS,
    folder=folder,
    config={'problem': 'pairs'},
    save_every=2,
    progress=False,
  )


def distributed(folder, coordinator, processes, process):
  jax.config.update('jax_num_cpu_devices', 2)
  train.initialize_distributed(
    coordinator=coordinator, processes=int(processes), process=int(process)
  )
  losses = {}
  for name, step in (
    ('jit', train.jit_step(problem.step())),
    ('pmap', train.pmap_step(problem.step())),
  ):
    for steps in (problem.STEPS // 2, problem.STEPS):
      state, history = train.fit(
        step,
        problem.initial(),
        problem.batches(),
        steps=steps,
        folder=Path(folder) / name,
        save_every=4,
        progress=False,
      )
    losses[name] = [record['loss'] for record in history]
  state = train.unreplicate(state)
  losses['seen'] = int(state.carried['seen'])
  losses['devices'] = jax.device_count()
  Path(folder, f'losses{process}.json').write_text(json.dumps(losses))


if __name__ == '__main__':
  {'killed': killed, 'distributed': distributed}[sys.argv[1]](*sys.argv[2:])
