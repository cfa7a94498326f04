import tracemalloc

import numpy as np
import pytest

from compress import train
from compress.errors import InputError


@pytest.mark.parametrize('size', [1, 2, 3, 10, 97, 256, 1000])
def test_an_epoch_is_a_permutation(size):
  for seed, epoch in ((0, 0), (0, 1), (2**64 - 1, 10**6)):
    order = train.shuffled(np.arange(size), size=size, seed=seed, epoch=epoch)
    assert sorted(order) == [*range(size)]


def test_seeds_and_epochs_give_unrelated_orders():
  size = 1000
  orders = [
    train.shuffled(np.arange(size), size=size, seed=seed, epoch=epoch)
    for seed in range(3)
    for epoch in range(3)
  ]
  for i, one in enumerate(orders):
    for other in orders[:i]:
      # Two random permutations agree at 1 place on average (Poisson).
      assert (one == other).sum() <= 7
      assert abs(np.corrcoef(one, other)[0, 1]) < 4 / np.sqrt(size)


@pytest.mark.parametrize('size', [10, 37])
def test_every_item_is_equally_likely_at_every_position(size):
  draws = 2000
  counts = np.zeros((size, size))
  for epoch in range(draws):
    order = train.shuffled(np.arange(size), size=size, seed=1, epoch=epoch)
    counts[np.arange(size), order] += 1
  expected = draws / size
  chi2 = ((counts - expected) ** 2 / expected).sum()
  freedom = (size - 1) ** 2
  assert abs(chi2 - freedom) < 5 * np.sqrt(2 * freedom)


def test_neighbours_are_not_kept_together():
  size = 5000
  order = train.shuffled(np.arange(size), size=size, seed=0, epoch=0)
  assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 4 / np.sqrt(size)
  # A random permutation has about 2 places where neighbours stay neighbours.
  assert (np.abs(np.diff(order)) == 1).sum() <= 10


def test_drop_goes_through_each_epoch_without_replacement():
  options = {'size': 10, 'batch': 4, 'seed': 5}
  assert train.steps_per_epoch(size=10, batch=4) == 2
  for epoch in range(3):
    seen = np.concatenate(
      [train.batch_indices(2 * epoch + i, **options) for i in range(2)]
    )
    assert len(set(seen)) == 8
  first, second = (train.batch_indices(s, **options) for s in (0, 2))
  assert first.tolist() != second.tolist()


def test_wrap_leaves_nothing_out():
  options = {'size': 10, 'batch': 4, 'seed': 5, 'last': 'wrap'}
  assert train.steps_per_epoch(size=10, batch=4, last='wrap') == 3
  stream = np.concatenate([train.batch_indices(s, **options) for s in range(5)])
  assert sorted(stream[:10]) == sorted(stream[10:]) == [*range(10)]
  large = train.batch_indices(0, size=3, batch=7, seed=0, last='wrap')
  assert np.bincount(large[:6]).tolist() == [2, 2, 2]


@pytest.mark.parametrize('last', ['drop', 'wrap'])
def test_processes_cut_the_global_batch(last):
  options = {'size': 30, 'batch': 8, 'seed': 2, 'last': last}
  for step in range(6):
    whole = train.batch_indices(step, **options)
    pieces = [
      train.batch_indices(step, process=p, processes=4, **options)
      for p in range(4)
    ]
    assert np.concatenate(pieces).tolist() == whole.tolist()


def test_order_is_the_same_on_every_machine():
  # Golden: a changed order would break the resume of every older run.
  got = train.batch_indices(3, size=1000, batch=6, seed=42)
  assert got.tolist() == [404, 389, 627, 464, 573, 232]


def test_memory_does_not_grow_with_the_data():
  tracemalloc.start()
  batch = train.batch_indices(10**9, size=10**12, batch=64, seed=0)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert len(set(batch)) == 64 and batch.min() >= 0 and batch.max() < 10**12
  assert peak < 1e6


def test_array_batches_gathers_rows():
  data = {'a': np.arange(20), 'b': np.arange(20.0)[:, None]}
  batch_fn = train.array_batches(data, batch=4, seed=1)
  batch = batch_fn(7)
  expected = train.batch_indices(7, size=20, batch=4, seed=1)
  assert batch['a'].tolist() == expected.tolist()
  assert batch['b'].shape == (4, 1)
  half = train.array_batches(data, batch=4, seed=1, process=1, processes=2)
  assert half(7)['a'].tolist() == expected[2:].tolist()


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'batch': 11}, 'larger than the 10 items'),
    ({'batch': 0}, 'at least 1'),
    ({'last': 'keep'}, "'drop' or 'wrap'"),
    ({'processes': 3}, 'does not divide over 3 processes'),
    ({'processes': 2, 'process': 2}, 'from 0 to 1'),
    ({'seed': -1}, 'seed'),
  ],
)
def test_bad_numbers(options, message):
  with pytest.raises(InputError, match=message):
    train.batch_indices(0, **{'size': 10, 'batch': 4, 'seed': 0, **options})


def test_arrays_of_different_length():
  with pytest.raises(InputError, match=r'\[3, 4\] rows'):
    train.array_batches([np.zeros(3), np.zeros(4)], batch=1, seed=0)
