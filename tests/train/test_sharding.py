import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import train
from compress.errors import InputError
from tests.train import problem

ROOT = Path(__file__).parents[2]


def losses(step):
  state, history = train.fit(
    step,
    problem.initial(),
    problem.batches(),
    steps=problem.STEPS,
    progress=False,
  )
  return [record['loss'] for record in history], state


@pytest.fixture(scope='module')
def reference():
  return losses(problem.compiled())


@pytest.mark.parametrize(
  'make',
  [
    lambda: train.jit_step(problem.step(), train.data_mesh(jax.devices()[:1])),
    lambda: problem.compiled('mesh'),
    lambda: problem.compiled('pmap'),
    lambda: train.pmap_step(problem.step(), jax.devices()[:4]),
  ],
  ids=['mesh of 1', 'mesh of 8', 'pmap over 8', 'pmap over 4'],
)
def test_any_number_of_devices_gives_the_same_losses(make, reference):
  got, state = losses(make())
  np.testing.assert_allclose(got, reference[0], rtol=1e-5)
  if state.step.ndim:
    state = train.unreplicate(state)
  for one, other in zip(
    problem.host(state), problem.host(reference[1]), strict=True
  ):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_two_processes_give_the_same_losses(tmp_path, reference):
  with socket.socket() as probe:
    probe.bind(('localhost', 0))
    port = probe.getsockname()[1]
  workers = [
    subprocess.Popen(
      [
        *(sys.executable, '-W', 'error', '-m', 'tests.train.worker'),
        *('distributed', str(tmp_path), f'localhost:{port}', '2', str(process)),
      ],
      cwd=ROOT,
      env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
    for process in range(2)
  ]
  try:
    said = [worker.communicate(timeout=150)[0] for worker in workers]
  finally:
    for worker in workers:
      worker.kill()
      worker.wait()
  assert [worker.returncode for worker in workers] == [0, 0], said
  for process in range(2):
    got = json.loads((tmp_path / f'losses{process}.json').read_text())
    assert got['devices'] == 4
    assert got['seen'] == problem.STEPS * problem.BATCH
    for kind in ('jit', 'pmap'):
      np.testing.assert_allclose(got[kind], reference[0], rtol=1e-5)
  # What two processes saved, one continues.
  for kind in ('jit', 'pmap'):
    state = train.restore(tmp_path / kind / 'checkpoints', problem.initial())
    assert int(state.step) == problem.STEPS
    lines = train.read_history(tmp_path / kind / 'metrics.jsonl')
    assert [line['step'] for line in lines] == [*range(1, problem.STEPS + 1)]


def test_batch_is_sharded_and_state_replicated():
  mesh = train.data_mesh()
  batch = train.put_batch({'x': np.ones((16, 3), np.uint8), 't': 0.5}, mesh)
  assert batch['x'].addressable_shards[0].data.shape == (2, 3)
  assert batch['x'].dtype == jnp.uint8
  assert batch['t'].is_fully_replicated
  assert train.put_batch(batch, mesh)['x'] is batch['x']
  state = train.put_state(problem.initial(), mesh)
  assert all(
    leaf.is_fully_replicated and len(leaf.sharding.device_set) == 8
    for leaf in jax.tree.leaves(state)
  )


def test_replicate_and_back_changes_nothing():
  state = problem.initial()
  many = train.replicate(state)
  assert many.step.shape == (8,)
  assert many.params['first']['kernel'].shape == (8, 6, 8)
  problem.assert_bit_equal(train.unreplicate(many), state)


@pytest.mark.parametrize(
  ('rows', 'advice'), [(12, '8 or 16'), (3, 'of 8 '), (0, 'of 8 ')]
)
@pytest.mark.parametrize('kind', ['mesh', 'pmap'])
def test_batch_that_does_not_divide(kind, rows, advice):
  batch = {name: array[:rows] for name, array in problem.data().items()}
  with pytest.raises(InputError, match=f'identity has {rows} rows.*{advice}'):
    problem.compiled(kind)(problem.initial(), batch)


def test_empty_mesh():
  with pytest.raises(InputError, match='at least one device'):
    train.data_mesh([])


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ({'processes': 2}, 'belong together'),
    (
      {'coordinator': 'localhost:1', 'processes': 2, 'process': 2},
      'from 0 to 1',
    ),
  ],
)
def test_distributed_arguments(given, message):
  with pytest.raises(InputError, match=message):
    train.initialize_distributed(**given)
