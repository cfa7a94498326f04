"""The loss is least at the true ratio, and a network finds one."""

import jax
import jax.numpy as jnp
import numpy as np

from compress.synthesize import density_ratio


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
