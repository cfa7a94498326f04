import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import prune
from compress.errors import InputError


def test_cubic_by_hand():
  schedule = prune.cubic(4, interval=10, start=20)
  np.testing.assert_allclose(
    schedule.path(0.8), [0, 0.4625, 0.7, 0.7875, 0.8], atol=1e-15
  )
  steps = [0, 19, 20, 29, 30, 59, 60, 999]
  found = [float(schedule(step, 0.8)) for step in steps]
  expected = [0, 0, 0, 0, 0.4625, 0.7875, 0.8, 0.8]
  np.testing.assert_allclose(found, expected, atol=1e-7)
  assert schedule.last_step == 60


def test_cubic_ahead_is_one_step_further():
  schedule = prune.cubic(4, interval=10, ahead=True)
  part = np.array([1, 11, 21, 31, 41]) / 40
  expected = 0.8 - 0.8 * np.clip(1 - part, 0, None) ** 3
  np.testing.assert_allclose(schedule.path(0.8), expected, atol=1e-15)


def test_a_lottery_round_takes_the_same_fraction():
  found = prune.iterative(7, interval=5).path(1 - 0.8**7)
  np.testing.assert_allclose(1 - found, 0.8 ** np.arange(1, 8), atol=1e-12)
  even = prune.iterative(4, interval=5, geometric=False).path(0.8)
  np.testing.assert_allclose(even, [0.2, 0.4, 0.6, 0.8])


@pytest.mark.parametrize(
  'schedule',
  [
    prune.one_shot(),
    prune.iterative(3, interval=2),
    prune.cubic(5),
    prune.cubic(3, initial=0.5),
    prune.cubic(3, initial=0.95),
    prune.cubic(2, interval=1, ahead=True),
  ],
)
def test_sparsity_only_rises_to_the_final_one(schedule):
  row = schedule.sparsities(0.9)
  assert len(row) == schedule.events + 1
  assert row[0] == 0 and row[-1] == 0.9
  assert (np.diff(row) >= 0).all()


def test_traced_steps():
  schedule = prune.iterative(3, interval=2, start=1)
  function = jax.jit(lambda step: (schedule.event(step), schedule(step, 0.5)))
  found = [int(function(jnp.int32(i))[0]) for i in range(8)]
  assert found == [0, 1, 1, 2, 2, 3, 3, 3]
  assert function._cache_size() == 1


def test_schedules_that_make_no_sense():
  with pytest.raises(InputError, match='steps >= 1'):
    prune.cubic(0)
  with pytest.raises(InputError, match='interval >= 1'):
    prune.iterative(3, interval=0)
  with pytest.raises(InputError, match='start >= 0'):
    prune.one_shot(step=-1)
