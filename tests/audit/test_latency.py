import jax
import jax.numpy as jnp
import pytest

from compress import audit
from compress.errors import InputError


def test_measured_interleaved():
  calls = []

  def named(name):
    return lambda x: calls.append(name) or x

  found = audit.measure(
    {'a': named('a'), 'b': named('b')}, jnp.ones(3), warmup=1, repeats=4
  )
  assert calls == list('ab' + 'ab' + 'ab' + 'ba' + 'ab' + 'ba')
  for entry in found.values():
    assert entry['n'] == 4
    assert 0 <= entry['q1'] <= entry['median'] <= entry['q3']
    assert entry['spread'] == [entry['q1'], entry['q3']]


def test_batches():
  shapes = set()

  @jax.jit
  def model(x):
    shapes.add(x.shape)
    return x.sum(axis=(1, 2, 3))

  found = audit.measure_batches(
    {'m': model},
    lambda size: jnp.zeros((size, 4, 4, 3)),
    batch_sizes=(1, 3),
    warmup=0,
    repeats=2,
  )
  assert shapes == {(1, 4, 4, 3), (3, 4, 4, 3)}
  assert {'batch1', 'batch3', 'device', 'version'} == set(found['m'])


def test_bad_input():
  with pytest.raises(InputError, match='nothing to measure'):
    audit.measure({}, 1)
  with pytest.raises(InputError, match='batch sizes'):
    audit.measure_batches({'m': abs}, float, batch_sizes=(0,))
