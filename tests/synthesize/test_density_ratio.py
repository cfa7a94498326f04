"""The loss is least at the true ratio, and a network finds one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress.errors import InputError
from compress.synthesize import density_ratio
from compress.synthesize.vicinal import Vicinity


def test_the_loss_is_least_at_the_true_ratio():
  real, fake = jnp.array([0.5, 0.3, 0.2]), jnp.array([0.2, 0.2, 0.6])
  # A sample of each in exact proportion.
  real_rows = np.repeat(np.arange(3), np.asarray(real * 10).round().astype(int))
  fake_rows = np.repeat(np.arange(3), np.asarray(fake * 10).round().astype(int))

  def loss(table):
    return density_ratio.softplus_ratio_loss(table[real_rows], table[fake_rows])

  true = real / fake
  np.testing.assert_allclose(jax.grad(loss)(true), 0, atol=1e-6)
  for shift in (0.8, 1.2):
    assert loss(true * shift) > loss(true)
  shuffled = true[jnp.array([2, 0, 1])]
  assert loss(shuffled) > loss(true)


def test_a_network_learns_the_ratio():
  rng = np.random.default_rng(0)
  conditions = np.ones((2000, 1), np.float32)
  real = rng.normal(0.5, 1, (2000, 1)).astype(np.float32)
  fake = rng.normal(-0.5, 1, (2000, 1)).astype(np.float32)
  ratio = density_ratio.train_density_ratio(
    (real, conditions),
    (fake, conditions),
    jax.random.key(0),
    steps=300,
    learning_rate=3e-3,
    progress=False,
  )
  # N(.5, 1) over N(-.5, 1) at x is exp(x).
  at = np.array([[-1.0], [0.0], [1.0]], np.float32)
  found = ratio(at, np.ones((3, 1), np.float32))
  np.testing.assert_allclose(found, np.exp(at[:, 0]), rtol=0.35)


def test_the_weights_of_pairs_by_hand():
  real, fake = jnp.array([0.0, 1.0, 2.0]), jnp.array([0.5, 3.0, 1.0])
  loss = density_ratio.softplus_ratio_loss
  np.testing.assert_allclose(
    loss(real, fake, weights=jnp.full(3, 0.3)), loss(real, fake), rtol=1e-6
  )
  # A pair that counts twice is there twice, and one of 0 is not.
  twice = jnp.array([0, 0, 2])
  np.testing.assert_allclose(
    loss(real, fake, weights=jnp.array([0.5, 0.0, 0.25])),
    loss(real[twice], fake[twice]),
    rtol=1e-6,
  )


@pytest.mark.parametrize('kind', ['hard', 'soft'])
def test_a_network_learns_the_ratio_between_the_numbers_of_the_images(kind):
  rng = np.random.default_rng(0)
  # Real images of five numbers, fakes of any.
  y = rng.integers(0, 5, (2000, 1)) / 4
  asked = rng.uniform(size=(2000, 1))
  real = y + rng.normal(0.5, 1, y.shape), y
  fake = asked + rng.normal(-0.5, 1, y.shape), asked
  ratio = density_ratio.train_density_ratio(
    tuple(x.astype(np.float32) for x in real),
    tuple(x.astype(np.float32) for x in fake),
    jax.random.key(0),
    steps=300,
    learning_rate=3e-3,
    vicinity=Vicinity(kind, kappa={'hard': 0.25, 'soft': 0.1}[kind]),
    progress=False,
  )
  # N(y + .5, 1) over N(y - .5, 1) at x is exp(x - y).
  at = np.full((3, 1), 0.375, np.float32)
  gaps = np.array([[-0.5], [0.0], [0.5]], np.float32)
  found = ratio(at + gaps, at)
  np.testing.assert_allclose(found, np.exp(gaps[:, 0]), rtol=0.35)


def test_a_vicinity_is_of_numbers():
  pair = np.zeros((4, 2), np.float32), np.zeros((4, 3), np.float32)
  with pytest.raises(InputError, match='numbers, '):
    density_ratio.train_density_ratio(
      pair, pair, jax.random.key(0), vicinity=Vicinity()
    )
