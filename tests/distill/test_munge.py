"""MUNGE against the paper's rules and by hand, and pseudo-labels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import distill
from compress.errors import InputError

TABLE = np.random.default_rng(0).uniform(0, 1, (40, 5)).astype(np.float32)
KEY = jax.random.key(3)


def by_hand(table, nominal=None):
  """The nearest other row, in plain loops."""
  nominal = np.zeros(table.shape[1], bool) if nominal is None else nominal
  low, high = table.min(0), table.max(0)
  width = np.where(high > low, high - low, 1)
  found = []
  for i, a in enumerate(table):
    far = []
    for k, b in enumerate(table):
      gap = np.where(nominal, a != b, (a - b) / width)
      far.append(np.inf if i == k else float((gap**2).sum()))
    found.append(int(np.argmin(far)))
  return found


@pytest.mark.parametrize('chunk', [1, 7, 64])
def test_neighbours_are_exact(chunk):
  found = distill.nearest_neighbours(TABLE, chunk=chunk)
  assert found.tolist() == by_hand(TABLE.astype(np.float64))
  scales = np.array([1, 1e4, 1e-3, 5, 1], np.float32)
  again = distill.nearest_neighbours(TABLE * scales + 7 * scales)
  assert (again == found).mean() > 0.95


def test_nominal_attributes_count_where_they_differ():
  table = np.array([[0.0, 1], [0.1, 2], [0.9, 1], [1.0, 2]])
  nominal = np.array([False, True])
  found = distill.nearest_neighbours(table, nominal=nominal)
  # 0.9^2 is less than a differing code.
  assert found.tolist() == [2, 3, 0, 1]
  assert found.tolist() == by_hand(table, nominal)
  assert distill.nearest_neighbours(table[:, :1]).tolist() == [1, 0, 3, 2]


def test_a_row_is_never_its_own_neighbour():
  same = np.zeros((5, 3))
  assert distill.nearest_neighbours(same).tolist() == [1, 0, 0, 0, 0]


def test_no_exchange_gives_the_table():
  found = distill.munge(KEY, TABLE, swap=0.0, spread=1.0, passes=3)
  np.testing.assert_array_equal(found, np.tile(TABLE, (3, 1)))


def test_an_exchange_without_noise_by_hand():
  table = np.array([[0.0, 10], [1, 20], [5, 30]])
  found = distill.munge(
    KEY, table, swap=1.0, spread=np.inf, neighbours=[1, 2, 0]
  )
  # Rows 0 and 1 change places, then 1 and 2, then 2 and 0.
  expected = [[0, 10], [5, 30], [1, 20]]
  np.testing.assert_array_equal(found, expected)


def test_without_noise_values_are_permuted():
  found = distill.munge(KEY, TABLE, swap=0.5, spread=np.inf, passes=2)
  for part in np.split(np.asarray(found), 2):
    np.testing.assert_array_equal(np.sort(part, 0), np.sort(TABLE, 0))
    assert (part != TABLE).any()


def test_nominal_values_are_swapped_without_noise():
  table = np.stack([TABLE[:, 0], np.arange(40) % 4], axis=1)
  nominal = np.array([False, True])
  found = np.asarray(
    distill.munge(KEY, table, swap=0.7, spread=1.0, nominal=nominal)
  )
  np.testing.assert_array_equal(np.sort(found[:, 1]), np.sort(table[:, 1]))
  assert not np.isin(found[:, 0], TABLE[:, 0]).all()


def test_means_are_kept_and_values_stay_near():
  found = np.asarray(
    distill.munge(KEY, TABLE, swap=0.4, spread=5.0, passes=200)
  )
  error = TABLE.std(0) / 2 / np.sqrt(200)
  assert (np.abs(found.mean(0) - TABLE.mean(0)) < 5 * error).all()
  assert found.min() > -1 and found.max() < 2
  assert np.abs(found - np.tile(TABLE, (200, 1))).mean() < 0.3


def test_the_key_decides():
  a = distill.munge(KEY, TABLE, swap=0.5, spread=2.0, passes=2)
  b = distill.munge(KEY, TABLE, swap=0.5, spread=2.0, passes=2)
  c = distill.munge(jax.random.key(4), TABLE, swap=0.5, spread=2.0, passes=2)
  np.testing.assert_array_equal(a, b)
  assert (np.asarray(a) != np.asarray(c)).any()
  assert (np.asarray(a[:40]) != np.asarray(a[40:])).any()
  assert a.dtype == jnp.float32


def test_pseudo_labels_are_the_teachers_answers():
  weight = jnp.asarray(TABLE[:5, :3])

  def one(x):
    return x @ weight

  def two(x):
    return 2 * (x @ weight) + 1

  found = distill.pseudo_label(TABLE, [one], batch=16)
  np.testing.assert_allclose(found.logits, TABLE @ TABLE[:5, :3], rtol=1e-5)
  np.testing.assert_array_equal(found.inputs, TABLE)
  both = distill.pseudo_label(TABLE, [one, two], batch=64)
  p = jax.nn.softmax(one(TABLE)) / 2 + jax.nn.softmax(two(TABLE)) / 2
  np.testing.assert_allclose(np.exp(both.logits), p, rtol=1e-5)


def test_bad_inputs():
  with pytest.raises(InputError, match=r'a table \[1, 5\]'):
    distill.nearest_neighbours(TABLE[:1])
  with pytest.raises(InputError, match='finite'):
    distill.munge(KEY, TABLE * np.nan, swap=0.5, spread=1.0)
  with pytest.raises(InputError, match='swap 1.5'):
    distill.munge(KEY, TABLE, swap=1.5, spread=1.0)
  with pytest.raises(InputError, match='spread 0'):
    distill.munge(KEY, TABLE, swap=0.5, spread=0)
  with pytest.raises(InputError, match='of another row'):
    distill.munge(KEY, TABLE, swap=0.5, spread=1.0, neighbours=np.arange(40))
  with pytest.raises(InputError, match='a bool for each of the 5'):
    distill.munge(KEY, TABLE, swap=0.5, spread=1.0, nominal=np.zeros(5))
  with pytest.raises(InputError, match='chunk is 0'):
    distill.nearest_neighbours(TABLE, chunk=0)
  with pytest.raises(InputError, match='0 examples'):
    distill.pseudo_label(TABLE[:0], [lambda x: x])
  with pytest.raises(InputError, match='no member'):
    distill.pseudo_label(TABLE, [])
