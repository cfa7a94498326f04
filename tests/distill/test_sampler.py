"""The identity-balanced sampler: proportions, coverage, determinism."""

import dataclasses

import numpy as np
import pytest

from compress.distill import BatchShape, identity_balanced
from compress.errors import InputError

# 40 people with 1, 2, .. 6 photographs in turn, in mixed order.
COUNTS = np.resize(np.arange(1, 7), 40)
IDENTITIES = np.random.default_rng(0).permutation(
  np.repeat(100 + np.arange(40), COUNTS)
)
SMALL = BatchShape(general=6, people=4, photos=3)


def test_default_is_32_general_and_8_people_by_4():
  batch = identity_balanced(IDENTITIES, seed=0)(0)
  assert batch.shape == (64,) and batch.dtype == np.int32
  who = IDENTITIES[batch[32:]].reshape(8, 4)
  assert np.all(who == who[:, :1])
  assert len(set(who[:, 0])) == 8


def test_photos_repeat_only_where_an_identity_has_too_few():
  sample = identity_balanced(IDENTITIES, seed=3)
  seen = set()
  for step in range(10):
    for photos in sample(step)[32:].reshape(8, 4):
      has = np.sum(IDENTITIES == IDENTITIES[photos[0]])
      values, repeats = np.unique(photos, return_counts=True)
      assert len(values) == min(has, 4)
      assert repeats.max() - repeats.min() <= 1
      seen.add(int(has))
  assert seen == {1, 2, 3, 4, 5, 6}


def test_general_part_draws_without_replacement_in_an_epoch():
  sample = identity_balanced(IDENTITIES, seed=1, shape=SMALL)
  steps = 3 * len(IDENTITIES) // 6 + 1
  draws = np.concatenate([sample(step)[:6] for step in range(steps)])
  size = len(IDENTITIES)
  epochs = [draws[e * size : (e + 1) * size] for e in range(3)]
  for epoch in epochs:
    np.testing.assert_array_equal(np.sort(epoch), np.arange(size))
  assert not np.array_equal(epochs[0], epochs[1])


def test_balanced_part_meets_each_person_once_in_an_epoch():
  sample = identity_balanced(IDENTITIES, seed=1, shape=SMALL)
  for epoch in range(2):
    met = [
      IDENTITIES[sample(step)[6::3]]
      for step in range(10 * epoch, 10 * epoch + 10)
    ]
    np.testing.assert_array_equal(
      np.sort(np.concatenate(met)), 100 + np.arange(40)
    )


def test_every_photograph_comes_up_in_the_balanced_part():
  shape = BatchShape(general=0, people=8, photos=2)
  sample = identity_balanced(IDENTITIES, seed=0, shape=shape)
  seen = set(np.concatenate([sample(step) for step in range(400)]).tolist())
  assert seen == set(range(len(IDENTITIES)))


def test_pure_function_of_seed_and_step():
  sample = identity_balanced(IDENTITIES, seed=7, shape=SMALL)
  forward = [sample(step) for step in range(60)]
  again = identity_balanced(IDENTITIES, seed=7, shape=SMALL)
  for step in np.random.default_rng(0).permutation(60):
    np.testing.assert_array_equal(again(int(step)), forward[step])
  other = identity_balanced(IDENTITIES, seed=8, shape=SMALL)
  assert not np.array_equal(other(0), forward[0])
  assert len({batch.tobytes() for batch in forward}) == 60


def test_caller_cannot_spoil_later_batches():
  sample = identity_balanced(IDENTITIES, seed=7, shape=SMALL)
  first = sample(0).copy()
  sample(0)[:] = -1
  np.testing.assert_array_equal(sample(0), first)


@pytest.mark.parametrize('step', [0, 5, 33])
def test_shards_hold_the_same_photographs_in_blocks(step):
  whole = BatchShape(general=8, people=4, photos=3)
  parts = BatchShape(general=4, people=2, photos=3, shards=2)
  assert whole.size == parts.size == 20 and parts.per_shard == 10
  one = identity_balanced(IDENTITIES, seed=2, shape=whole)(step)
  two = identity_balanced(IDENTITIES, seed=2, shape=parts)(step)
  blocks = two.reshape(2, 10)
  np.testing.assert_array_equal(blocks[:, :4].ravel(), one[:8])
  np.testing.assert_array_equal(blocks[:, 4:].ravel(), one[8:])


def test_fully_balanced_and_fully_general():
  balanced = BatchShape(general=0, people=5, photos=4)
  batch = identity_balanced(IDENTITIES, seed=0, shape=balanced)(3)
  who = IDENTITIES[batch].reshape(5, 4)
  assert np.all(who == who[:, :1])
  general = BatchShape(general=20, people=0, photos=0)
  batch = identity_balanced(IDENTITIES, seed=0, shape=general)(3)
  assert len(set(batch.tolist())) == 20


def test_least_photos_leaves_single_photograph_people_out():
  shape = dataclasses.replace(SMALL, least_photos=2)
  sample = identity_balanced(IDENTITIES, seed=0, shape=shape)
  general, balanced = set(), set()
  for step in range(60):
    who = IDENTITIES[sample(step)].tolist()
    general |= set(who[:6])
    balanced |= set(who[6:])
  several = {100 + i for i in range(40) if COUNTS[i] > 1}
  assert balanced == several
  assert general == set(range(100, 140))


def test_batch_larger_than_the_data():
  sample = identity_balanced(np.arange(10), seed=0, shape=BatchShape(25, 0, 0))
  _, counts = np.unique(sample(0), return_counts=True)
  assert sorted(counts) == [2] * 5 + [3] * 5


@pytest.mark.parametrize(
  'fields, message',
  [
    ({'general': -1}, 'general is -1'),
    ({'general': 0, 'people': 0}, 'batch is empty'),
    ({'shards': 0}, 'shards is 0'),
    ({'least_photos': 0}, 'least_photos is 0'),
  ],
)
def test_bad_shapes(fields, message):
  with pytest.raises(InputError, match=message):
    BatchShape(**fields)


def test_bad_data():
  with pytest.raises(InputError, match='8 people per batch, but only 3'):
    identity_balanced(np.array([1, 1, 2, 3]), seed=0)
  with pytest.raises(InputError, match='only 1 have 2 or more'):
    shape = BatchShape(people=2, least_photos=2)
    identity_balanced(np.array([1, 1, 2, 3]), seed=0, shape=shape)
  with pytest.raises(InputError, match='must be \\[N\\]'):
    identity_balanced(np.zeros((2, 2), int), seed=0)
  with pytest.raises(InputError, match='seed is -1'):
    identity_balanced(IDENTITIES, seed=-1)
