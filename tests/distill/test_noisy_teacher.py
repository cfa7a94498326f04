"""Noisy teachers: what the noise leaves alone, and its moments."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from compress import distill
from compress.errors import InputError

ROWS, CLASSES = np.arange(4)[:, None], np.arange(5)[None, :]
STUDENT = jnp.array(np.sin(1 + 3 * ROWS + CLASSES), jnp.float32)
TEACHER = jnp.array(2 * np.cos(0.5 + ROWS * CLASSES), jnp.float32)
KEY = jax.random.key(0)
KINDS = ('multiplicative', 'additive')

loss = jax.jit(
  distill.noisy_teacher_loss, static_argnames=('deviation', 'share', 'kind')
)


@functools.partial(jax.jit, static_argnames='kind')
def many(key, kind):
  """Disturbed logits `[20000, 4, 5]`, sigma 0.5, half of the rows."""
  draw = functools.partial(
    distill.noisy_logits, deviation=0.5, share=0.5, kind=kind
  )
  keys = jax.random.split(key, 20000)
  return jax.vmap(draw, in_axes=(0, None))(keys, TEACHER)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('options', [(0.0, 0.5), (0.5, 0.0)])
def test_without_noise_it_is_logit_matching(kind, options):
  found = loss(
    STUDENT, TEACHER, KEY, deviation=options[0], share=options[1], kind=kind
  )
  np.testing.assert_allclose(found, 8.684504453903735, rtol=1e-6)


@pytest.mark.parametrize('kind', KINDS)
def test_moments(kind):
  drawn = np.asarray(many(KEY, kind), np.float64)
  size = np.abs(TEACHER) if kind == 'multiplicative' else np.ones((4, 5))
  variance = 0.5 * 0.5**2 * size**2
  error = 4 * np.sqrt(variance / len(drawn)) + 1e-6
  assert np.all(np.abs(drawn.mean(0) - TEACHER) < error)
  np.testing.assert_allclose(drawn.var(0), variance, rtol=0.1, atol=1e-6)
  # Whole rows are disturbed, or left alone.
  changed = np.any(drawn != np.asarray(TEACHER), axis=2)
  np.testing.assert_allclose(changed.mean(0), 0.5, atol=0.02)
  whole = np.all(drawn != np.asarray(TEACHER), axis=2)
  assert (changed & ~whole).mean() < 1e-3


@pytest.mark.parametrize('kind', KINDS)
def test_expected_loss_is_larger_by_a_constant(kind):
  drawn = np.asarray(many(KEY, kind), np.float64)
  gap = np.asarray(STUDENT, np.float64) - drawn
  mean = (gap**2).sum(2).mean() / 2
  square = np.sum(np.asarray(TEACHER) ** 2, 1).mean()
  constant = square if kind == 'multiplicative' else 5
  expected = 8.684504453903735 + 0.5 * 0.5**2 * constant / 2
  np.testing.assert_allclose(mean, expected, rtol=5e-3)


def test_gradients():
  by_student, by_teacher = jax.grad(loss, argnums=(0, 1))(
    STUDENT, TEACHER, KEY, deviation=0.5
  )
  noisy = distill.noisy_logits(KEY, TEACHER, deviation=0.5)
  np.testing.assert_allclose(by_student, (STUDENT - noisy) / 4, rtol=1e-5)
  assert not np.any(by_teacher)


def test_half_precision_gives_float32():
  half = [x.astype(jnp.bfloat16) for x in (STUDENT, TEACHER)]
  found = loss(*half, KEY, deviation=0.5)
  assert found.dtype == jnp.float32
  full = loss(STUDENT, TEACHER, KEY, deviation=0.5)
  np.testing.assert_allclose(found, full, rtol=2e-2)


def test_sharded_batches_get_the_same_noise():
  student, teacher = jax.random.normal(KEY, (2, 16, 5))
  mesh = Mesh(np.array(jax.devices()), ('data',))
  spread = NamedSharding(mesh, P('data'))
  expected = loss(student, teacher, KEY, deviation=0.5)
  actual = loss(
    *jax.device_put((student, teacher), spread),
    jax.device_put(KEY, NamedSharding(mesh, P())),
    deviation=0.5,
  )
  np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_bad_options():
  with pytest.raises(InputError, match='deviation is -1'):
    distill.noisy_logits(KEY, TEACHER, deviation=-1)
  with pytest.raises(InputError, match='share is 2'):
    distill.noisy_logits(KEY, TEACHER, deviation=1, share=2)
  with pytest.raises(InputError, match="kind is 'both'"):
    distill.noisy_logits(KEY, TEACHER, deviation=1, kind='both')
