"""Rules of thumb, weights and draws of vicinal estimates, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress.errors import InputError
from compress.synthesize import vicinal
from compress.synthesize.vicinal import Vicinity


def test_rules_of_thumb_by_hand():
  numbers = np.array([0.0, 1.0, 3.0, 3.0])
  # Mean 1.75, mean square 19/4, so a variance of 27/16.
  sigma = 1.06 * np.sqrt(27 / 16) * 4**-0.2
  assert vicinal.rule_of_thumb_noise(numbers) == pytest.approx(sigma)
  # Of 32 images N^(-1/5) is a half.
  many = np.tile([0.0, 2.0], 16)
  assert vicinal.rule_of_thumb_noise(many) == pytest.approx(0.53)
  assert vicinal.rule_of_thumb_radius(numbers) == 2
  assert vicinal.rule_of_thumb_radius(numbers[::-1], neighbours=1.5) == 3


def test_rules_of_thumb_keep_the_unit():
  numbers = np.random.default_rng(0).uniform(size=50)
  for rule in (vicinal.rule_of_thumb_noise, vicinal.rule_of_thumb_radius):
    assert rule(60 * numbers + 3) == pytest.approx(60 * rule(numbers))


def test_weights_of_every_pair_by_hand():
  numbers, targets = jnp.array([0.0, 1.0, 3.0]), jnp.array([1.0, 2.0])
  soft = vicinal.soft_weights(numbers[None], targets[:, None], nu=0.5)
  a, b = np.exp(-0.5), np.exp(-2)
  np.testing.assert_allclose(soft, [[a, 1, b], [b, a, a]], rtol=1e-6)


def test_a_soft_weight_at_kappa_is_one_over_e():
  near = Vicinity('soft', sigma=0.0, kappa=0.25, threshold=1e-3)
  found = near.weights(
    jnp.array([0.5, 0.75, 0.5 + near.radius]), jnp.full(3, 0.5)
  )
  np.testing.assert_allclose(found, [1, np.exp(-1), 1e-3], rtol=1e-4)
  assert Vicinity('hard', kappa=0.25).radius == 0.25


def test_what_is_not_given_comes_from_the_data():
  numbers = np.array([0.0, 1.0, 3.0, 3.0])
  found = Vicinity('hard', neighbours=2).settled(numbers)
  assert found.kappa == 4
  assert found.sigma == vicinal.rule_of_thumb_noise(numbers)
  given = Vicinity('hard', sigma=0.0, kappa=0.5)
  assert given.settled(numbers) == given


def drawn(vicinity, numbers, batch=4000, seed=0):
  numbers = np.sort(np.asarray(numbers, np.float32))
  found = vicinal.draw_vicinal(
    jnp.asarray(numbers),
    jnp.asarray(np.unique(numbers)),
    jax.random.key(seed),
    batch=batch,
    vicinity=vicinity,
  )
  return numbers, jax.tree.map(np.asarray, found)


def test_hard_draws_are_any_image_within_the_radius():
  # Images of one number each: targets are it, and its vicinity is known.
  numbers, found = drawn(
    Vicinity('hard', sigma=0.0, kappa=1.0), [0, 1, 1, 1, 5]
  )
  real = numbers[found.rows]
  assert (np.abs(real - found.targets) <= 1).all()
  np.testing.assert_array_equal(found.real, np.ones(4000))
  np.testing.assert_array_equal(found.fake, np.ones(4000))
  share = {t: (found.targets == t).mean() for t in (0, 1, 5)}
  # Every distinct number as often; of 0 and 1 alike four images are near.
  for target in share:
    assert share[target] == pytest.approx(1 / 3, abs=0.03)
  for target in (0, 1):
    rows = found.rows[found.targets == target]
    counts = np.bincount(rows, minlength=5) / len(rows)
    np.testing.assert_allclose(counts, [0.25] * 4 + [0], atol=0.05)
  assert (found.rows[found.targets == 5] == 4).all()
  # Numbers of fakes fill the vicinity, and stay within the data's range.
  for target, low, high in ((0, 0, 1), (1, 0, 2), (5, 4, 5)):
    asked = found.asked[found.targets == target]
    assert low <= asked.min() and asked.max() <= high
    assert asked.mean() == pytest.approx((low + high) / 2, abs=0.06)


def test_soft_draws_have_the_weight_of_their_number():
  near = Vicinity('soft', sigma=0.1, kappa=0.2)
  numbers, found = drawn(near, np.linspace(0, 1, 11))
  np.testing.assert_allclose(
    found.real,
    np.exp(-np.square((numbers[found.rows] - found.targets) / 0.2)),
    rtol=1e-5,
  )
  np.testing.assert_allclose(
    found.fake,
    np.exp(-np.square((found.asked - found.targets) / 0.2)),
    rtol=1e-5,
  )
  assert found.real.min() >= 1e-3 * 0.99
  noise = found.targets - np.round(found.targets, 1)
  assert np.abs(noise).max() > 0.04 and found.targets.min() < -0.05


def test_the_mean_over_soft_draws_is_the_estimate():
  # At one target, uniform draws with weights against the sum over all images.
  near = Vicinity('soft', sigma=0.0, kappa=1.0, threshold=1e-6)
  numbers = np.array([0.0, 1.0, 2.0], np.float32)
  found = vicinal.draw_vicinal(
    jnp.asarray(numbers),
    jnp.array([1.0]),
    jax.random.key(1),
    batch=20_000,
    vicinity=near,
  )
  values = np.array([3.0, -1.0, 7.0])
  weights = np.asarray(
    vicinal.soft_weights(jnp.asarray(numbers), jnp.float32(1), nu=1.0)
  )
  real = np.asarray(found.real, np.float64)
  drawn_mean = (real * values[np.asarray(found.rows)]).sum() / real.sum()
  expected = (weights * values).sum() / weights.sum()
  assert drawn_mean == pytest.approx(expected, abs=0.08)


def test_a_target_without_images_loses_its_noise():
  _, found = drawn(Vicinity('hard', sigma=0.2, kappa=0.01), [0, 1])
  alone = np.isin(found.targets, [0, 1])
  # Noise beyond a twentieth of its deviation is nearly all of it.
  assert alone.mean() > 0.9
  assert (np.abs(found.targets - np.round(found.targets)) <= 0.011).all()


def test_a_vicinity_without_images_counts_nothing():
  rows, weights = vicinal.draw_near(
    jnp.array([0.0, 1.0]),
    jnp.array([-2.0, 0.5, 0.9, 3.0]),
    jax.random.key(0),
    vicinity=Vicinity('hard', sigma=0.0, kappa=0.25),
  )
  np.testing.assert_array_equal(weights, [0, 0, 1, 0])
  assert rows[2] == 1 and ((rows >= 0) & (rows < 2)).all()


def test_a_draw_is_the_same_under_jit():
  near = Vicinity('soft', sigma=0.1, kappa=0.2)
  numbers = jnp.linspace(0, 1, 11)

  def draw(numbers, key):
    return vicinal.draw_vicinal(numbers, numbers, key, batch=16, vicinity=near)

  plain = draw(numbers, jax.random.key(0))
  compiled = jax.jit(draw)(numbers, jax.random.key(0))
  for a, b in zip(plain, compiled, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
  'settings',
  [
    {'kind': 'round'},
    {'kappa': 0.0},
    {'sigma': -1.0},
    {'threshold': 1.0},
    {'neighbours': float('nan')},
  ],
)
def test_other_vicinities_are_refused(settings):
  with pytest.raises(InputError, match='right is|are above 0'):
    Vicinity(**settings)


def test_other_numbers_are_refused():
  with pytest.raises(InputError, match='distinct'):
    vicinal.rule_of_thumb_radius(np.ones(3))
  for numbers in (np.array([0.0, np.nan]), np.ones((2, 1)), np.ones(0)):
    with pytest.raises(InputError, match='all finite'):
      vicinal.rule_of_thumb_noise(numbers)
