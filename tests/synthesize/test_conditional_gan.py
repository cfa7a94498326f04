"""The hinge loss by hand, and GANs that learn flat grey levels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress.errors import InputError
from compress.synthesize.conditional_gan import (
  GanSettings,
  hinge_discriminator_loss,
  hinge_generator_loss,
  sample_gan,
  train_conditional_gan,
)
from compress.synthesize.vicinal import Vicinity


def test_hinge_losses_by_hand():
  real, fake = jnp.array([2.0, 0.5]), jnp.array([-3.0, 0.5])
  assert hinge_discriminator_loss(real, fake) == 0.25 + 0.75
  assert hinge_generator_loss(fake) == 1.25
  weights = jnp.array([1.0, 0.5]), jnp.array([0.1, 0.5])
  # A half of 0.5 * 0.5, and a half of 0.5 * 1.5.
  found = hinge_discriminator_loss(real, fake, weights=weights)
  assert found == 0.125 + 0.375


def test_fakes_show_what_they_are_asked_for():
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 2, 64)
  images = rng.normal(size=(64, 4, 4, 1)) * 0.1
  images = (images + (2 * labels - 1)[:, None, None, None]).astype(np.float32)
  conditions = np.eye(2, dtype=np.float32)[labels]
  settings = GanSettings(
    code_size=2,
    width=4,
    batch=16,
    steps=150,
    learning_rate=5e-3,
    discriminator_rate=5e-3,
  )
  gan = train_conditional_gan(
    images, conditions, jax.random.key(0), settings=settings, progress=False
  )
  assert {k: len(v) for k, v in gan.history.items()} == {
    k: 150 for k in ('loss', 'fooling', 'real', 'fake')
  }
  asked = np.eye(2, dtype=np.float32)[np.arange(20) % 2]
  fakes = sample_gan(gan, asked, jax.random.key(1), batch=8)
  assert fakes.shape == (20, 4, 4, 1)
  assert images.min() <= fakes.min() and fakes.max() <= images.max()
  level = fakes.mean(axis=(1, 2, 3))
  assert level[::2].mean() < -0.3 and level[1::2].mean() > 0.3


@pytest.mark.parametrize('kind', ['hard', 'soft'])
def test_fakes_of_numbers_follow_them_across_a_gap(kind):
  rng = np.random.default_rng(0)
  numbers = rng.uniform(size=60).astype(np.float32)
  numbers = numbers[np.abs(numbers - 0.5) > 0.08]
  images = rng.normal(size=(len(numbers), 4, 4, 1)) * 0.1
  images = (images + (2 * numbers - 1)[:, None, None, None]).astype(np.float32)
  settings = GanSettings(
    code_size=2,
    width=4,
    batch=32,
    steps=250,
    learning_rate=5e-3,
    discriminator_rate=5e-3,
    vicinity=Vicinity(kind),
  )
  gan = train_conditional_gan(
    images,
    numbers[:, None],
    jax.random.key(0),
    settings=settings,
    progress=False,
  )
  asked = np.repeat(np.array([0.1, 0.5, 0.9], np.float32), 20)
  fakes = sample_gan(gan, asked[:, None], jax.random.key(1))
  levels = (fakes.mean(axis=(1, 2, 3)).reshape(3, 20).mean(axis=1) + 1) / 2
  np.testing.assert_allclose(levels, [0.1, 0.5, 0.9], atol=0.2)
  assert np.diff(levels).min() > 0.2


def test_bad_input_is_refused():
  with pytest.raises(InputError, match='right is'):
    train_conditional_gan(
      np.zeros((2, 4, 4, 1), np.float32),
      np.zeros((3, 2), np.float32),
      jax.random.key(0),
    )
  with pytest.raises(InputError, match='numbers, \\[N, 1\\]'):
    train_conditional_gan(
      np.zeros((3, 4, 4, 1), np.float32),
      np.zeros((3, 2), np.float32),
      jax.random.key(0),
      settings=GanSettings(vicinity=Vicinity()),
    )
  with pytest.raises(InputError):
    GanSettings(learning_rate=0)
