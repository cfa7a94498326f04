import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import train
from compress.errors import InputError
from tests.train import problem, worker

ROOT = Path(__file__).parents[2]


def fit(folder=None, step=None, batch_fn=None, **options):
  return train.fit(
    step or problem.compiled(),
    problem.initial(),
    batch_fn or problem.batches(),
    folder=folder,
    **{
      'steps': problem.STEPS,
      'save_every': 5,
      'progress': False,
      **options,
    },
  )


def single(state):
  return train.unreplicate(state) if state.step.ndim else state


@pytest.mark.parametrize('kind', ['jit', 'mesh', 'pmap'])
def test_resume_is_bit_equal(tmp_path, kind):
  step = problem.compiled(kind)
  whole, history = fit(tmp_path / 'whole', step)
  fit(tmp_path / 'parts', step, steps=3)
  fit(tmp_path / 'parts', step, steps=7)
  parts, resumed = fit(tmp_path / 'parts', step)
  problem.assert_bit_equal(single(parts), single(whole))
  assert resumed == history
  assert [r['step'] for r in history] == [*range(1, problem.STEPS + 1)]
  read = [tmp_path / name / 'metrics.jsonl' for name in ('whole', 'parts')]
  assert read[0].read_bytes() == read[1].read_bytes()
  # A finished run is not run again.
  again, same = fit(tmp_path / 'parts', batch_fn=pytest.fail)
  problem.assert_bit_equal(again, single(whole))
  assert same == history


def test_a_folder_changes_nothing(tmp_path):
  alone, history = fit()
  stored, same = fit(tmp_path)
  problem.assert_bit_equal(alone, stored)
  assert history == same


def wait_for(condition, process, seconds=600):
  end = time.monotonic() + seconds
  while not condition():
    assert process.poll() is None, process.communicate()[0]
    assert time.monotonic() < end, 'the worker took too long'
    time.sleep(0.0005)


def kill_when(folder, condition, delay=0.0):
  """Start the worker, kill -9 it at a moment; tell what it left."""
  process = subprocess.Popen(
    [sys.executable, '-m', 'tests.train.worker', 'killed', str(folder)],
    cwd=ROOT,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
  try:
    wait_for(condition, process)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
  finally:
    process.kill()
    process.communicate()
  return [path.name for path in (folder / 'checkpoints').glob('*-tmp*')]


def saving(folder, at_least):
  """Return whether a save of a step from `at_least` on is under way."""
  return lambda: any(
    int(path.name.split('.')[0]) >= at_least
    for path in (folder / 'checkpoints').glob('*-tmp*')
  )


def test_kill_at_any_moment_then_resume_is_bit_equal(tmp_path):
  whole, history = worker.killed(tmp_path / 'whole')
  folder = tmp_path / 'parts'
  metrics = folder / 'metrics.jsonl'

  def lines():
    return metrics.read_bytes().count(b'\n') if metrics.exists() else 0

  torn = kill_when(folder, saving(folder, 0))
  torn += kill_when(folder, saving(folder, 4), delay=0.01)
  torn += kill_when(folder, lambda: lines() >= 7)
  with metrics.open('a') as file:
    file.write('{"step": 99, "loss": 0.')
  torn += kill_when(folder, saving(folder, 10), delay=0.03)
  assert torn, 'no kill hit a save'
  assert max(train.saved_steps(folder / 'checkpoints')) < problem.STEPS
  resumed, same = worker.killed(folder)
  problem.assert_bit_equal(resumed, whole)
  assert same == history
  assert metrics.read_bytes() == (
    (tmp_path / 'whole' / 'metrics.jsonl').read_bytes()
  )
  assert not [*(folder / 'checkpoints').glob('*-tmp*')]


@pytest.fixture
def interruptible():
  """A shell starts what runs in the background with interrupts ignored."""
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures('interruptible')
def test_interrupt_saves_and_goes_on_bit_equal(tmp_path):
  whole, history = fit()
  batches = problem.batches()

  def signalled(number):
    if number == 4:
      os.kill(os.getpid(), signal.SIGINT)
    return batches(number)

  def raised(number):
    if number == 7:
      raise KeyboardInterrupt
    return batches(number)

  with pytest.raises(KeyboardInterrupt):
    fit(tmp_path, batch_fn=signalled, save_every=100)
  assert train.saved_steps(tmp_path / 'checkpoints') == (0, 5)
  with pytest.raises(KeyboardInterrupt):
    fit(tmp_path, batch_fn=raised, save_every=100)
  assert train.saved_steps(tmp_path / 'checkpoints') == (5, 7)
  assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
  resumed, same = fit(tmp_path)
  problem.assert_bit_equal(resumed, whole)
  assert same == history


def poisoned(number):
  batch = problem.batches()(number)
  if number == 6:
    batch['x'][3, 1] = np.nan
  return batch


def test_non_finite_loss_names_step_and_checkpoint(tmp_path):
  with pytest.raises(train.NonFiniteError) as caught:
    fit(tmp_path, batch_fn=poisoned)
  good = tmp_path / 'checkpoints' / '5'
  assert isinstance(caught.value, FloatingPointError)
  assert caught.value.step == 7 and caught.value.checkpoint == good
  message = str(caught.value)
  assert message.startswith('Step 7: loss is nan') and str(good) in message
  assert train.saved_steps(tmp_path / 'checkpoints') == (0, 5)
  last = (tmp_path / 'metrics.jsonl').read_text().splitlines()[-1]
  assert json.loads(last)['loss'] is None
  # Mended data: the run goes on from the good checkpoint.
  resumed, history = fit(tmp_path)
  problem.assert_bit_equal(resumed, fit()[0])
  assert [r['step'] for r in history] == [*range(1, problem.STEPS + 1)]


def test_non_finite_after_a_resume_still_knows_the_checkpoint(tmp_path):
  fit(tmp_path, steps=6)
  with pytest.raises(train.NonFiniteError) as caught:
    fit(tmp_path, batch_fn=poisoned)
  assert caught.value.checkpoint == tmp_path / 'checkpoints' / '6'
  with pytest.raises(train.NonFiniteError, match='no checkpoint was asked for'):
    fit(batch_fn=poisoned)


def test_a_bad_state_is_not_saved_at_the_end(tmp_path):
  with pytest.raises(train.NonFiniteError):
    fit(tmp_path, batch_fn=poisoned, steps=7, save_every=7)
  assert train.saved_steps(tmp_path / 'checkpoints') == (0,)


def test_non_finite_gradient_of_a_finite_loss_stops():
  def loss_fn(params, carried, batch, key, *, axis_name=None):
    del batch, key, axis_name
    return jnp.sqrt(params['w']), (carried, {})

  tool = train.sgd(0.1)
  state = train.init_state({'w': jnp.zeros(())}, tool, (), jax.random.key(0))
  with pytest.raises(train.NonFiniteError, match='grad_norm is inf'):
    train.fit(
      jax.jit(train.make_step(loss_fn, tool)),
      state,
      lambda number: None,
      steps=3,
      progress=False,
    )


def test_log_every(tmp_path):
  _, history = fit(tmp_path, log_every=5)
  assert [record['step'] for record in history] == [5, 10, 12]
  assert train.read_history(tmp_path / 'metrics.jsonl') == history


def test_progress_bar_shows_loss_and_speed(capsys):
  fit(progress=True, description='pairs')
  shown = capsys.readouterr()
  assert not shown.out
  last = shown.err.replace('\r', '\n').strip().splitlines()[-1]
  assert 'pairs' in last and '12/12' in last
  assert 'loss=' in last and 'img/s=' in last
  fit(progress=False)
  assert not capsys.readouterr().err


def test_the_next_step_starts_before_the_last_ones_metrics_are_read():
  read, order = [], []

  class Metric:
    def __init__(self, number):
      self.number = number

    def __array__(self, dtype=None, copy=None):
      del copy
      read.append(self.number)
      return np.asarray(0.5, dtype)

  def step(state, batch):
    del batch
    number = int(state.step) + 1
    order.append((number, max(read, default=0)))
    value = Metric(number)
    new = state._replace(step=state.step + 1)
    return new, {'loss': value, 'grad_norm': np.float32(1)}

  fit(step=step, steps=4)
  assert order == [(1, 0), (2, 0), (3, 1), (4, 2)]


def test_another_run_is_refused_and_left_alone(tmp_path):
  fit(tmp_path, config={'bits': 6}, steps=3)
  before = (tmp_path / 'metrics.jsonl').read_bytes()
  with pytest.raises(InputError, match='bits is 6 there and 4 here'):
    fit(tmp_path, config={'bits': 4})
  with pytest.raises(InputError, match='past the 2 steps'):
    fit(tmp_path, config={'bits': 6}, steps=2)
  with pytest.raises(InputError, match='params/first/kernel is float32'):
    train.fit(
      problem.compiled(),
      problem.initial(9),
      problem.batches(),
      steps=12,
      folder=tmp_path,
      progress=False,
    )
  assert (tmp_path / 'metrics.jsonl').read_bytes() == before
  assert train.saved_steps(tmp_path / 'checkpoints') == (0, 3)


@pytest.mark.parametrize('name', ['save_every', 'log_every', 'keep'])
def test_bad_numbers(tmp_path, name):
  with pytest.raises(InputError, match=f'{name} is 0'):
    fit(tmp_path, **{name: 0})


def test_folder_that_is_a_file(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(InputError, match='Cannot write'):
    fit(tmp_path / 'file')
