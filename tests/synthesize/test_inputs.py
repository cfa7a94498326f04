import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress.errors import InputError
from compress.synthesize import mean_square, synthesize, total_variation


def bowl(images, target):
  return jnp.square(images - target).sum()


def test_goes_to_the_target_and_is_deterministic():
  init, target = jnp.zeros((2, 3, 3, 1)), jnp.full((2, 3, 3, 1), 0.5)
  settings = {'steps': 80, 'learning_rate': 0.1, 'progress': False}
  first = synthesize(bowl, init, target, **settings)
  np.testing.assert_allclose(first.images, target, atol=0.02)
  assert first.loss.shape == (80,)
  np.testing.assert_allclose(first.loss[0], 18 * 0.25, rtol=1e-6)
  again = synthesize(bowl, init, target, **settings)
  np.testing.assert_array_equal(first.images, again.images)
  np.testing.assert_array_equal(first.loss, again.loss)


def test_one_compilation_for_several_batches():
  traced = []

  def loss_fn(images, target):
    traced.append(1)
    return bowl(images, target)

  for value in (0.0, 1.0, 2.0):
    target = jnp.full((1, 2, 2, 1), value)
    synthesize(loss_fn, 0 * target, target, steps=3, progress=False)
  assert len(traced) == 1


def test_learning_rate_falls_on_a_plateau_but_not_below_its_least():
  def flat(images):
    return 0 * images.sum() + 1.0

  made = synthesize(
    flat,
    jnp.zeros((1, 1, 1, 1)),
    steps=12,
    learning_rate=0.5,
    patience=3,
    min_learning_rate=0.01,
    progress=False,
  )
  expected = [0.5] * 3 + [0.05] * 3 + [0.01] * 6
  np.testing.assert_allclose(made.learning_rate, expected, rtol=1e-6)
  kept = synthesize(
    flat, jnp.zeros((1,)), steps=9, patience=None, progress=False
  )
  np.testing.assert_allclose(kept.learning_rate, 0.1, rtol=1e-6)


def test_bounds_clip_and_rescale():
  init, target = jnp.zeros((1, 2, 2, 1)), jnp.full((1, 2, 2, 1), 5.0)
  made = synthesize(
    bowl, init, target, steps=30, bounds=(-1, 1), progress=False
  )
  np.testing.assert_array_equal(made.images, jnp.ones_like(init))
  init = jnp.linspace(0.0, 1.0, 4).reshape(1, 2, 2, 1)
  made = synthesize(
    bowl, init, target, steps=5, bounds=(0, 2), rescale=True, progress=False
  )
  assert (float(made.images.min()), float(made.images.max())) == (0.0, 2.0)


def test_a_key_gives_every_step_its_own():
  def loss_fn(images, *, key):
    return jnp.square(images - jax.random.normal(key, images.shape)).sum()

  shape = (1, 2, 2, 1)
  runs = [
    synthesize(
      loss_fn,
      jnp.zeros(shape),
      steps=4,
      key=jax.random.key(seed),
      progress=False,
    )
    for seed in (0, 0, 1)
  ]
  np.testing.assert_array_equal(runs[0].images, runs[1].images)
  assert (runs[0].images != runs[2].images).all()
  assert len(set(runs[0].loss)) == 4


def test_no_steps_and_loss_that_is_not_finite():
  init = jnp.ones((1, 2, 2, 1))
  made = synthesize(bowl, init, init, steps=0, progress=False)
  np.testing.assert_array_equal(made.images, init)
  assert made.loss.shape == (0,)
  with pytest.raises(FloatingPointError, match='inputs 0: loss is nan'):
    synthesize(bowl, init * jnp.nan, init, steps=2, progress=False)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'steps': -1}, 'steps -1'),
    ({'learning_rate': 0.0}, 'learning_rate 0.0'),
    ({'patience': 0}, 'patience is 0'),
    ({'bounds': (1, 1)}, 'the lower one first'),
    ({'rescale': True}, 'rescale needs bounds'),
  ],
)
def test_errors(options, message):
  with pytest.raises(InputError, match=message):
    synthesize(bowl, jnp.zeros((1,)), jnp.zeros((1,)), **options)


def test_priors_by_hand():
  x = jnp.array([[0.0, 1.0], [2.0, 5.0]]).reshape(1, 2, 2, 1)
  # Right: 1, 3; below: 2, 4; diagonals: 5 and 1 - 2 = -1.
  expected = (1 + 9) / 2 + (4 + 16) / 2 + 25 + 1
  np.testing.assert_allclose(total_variation(x), expected)
  np.testing.assert_allclose(mean_square(x), 30 / 4)
  assert total_variation(jnp.ones((2, 4, 4, 3))) == 0
  twice = jnp.concatenate([x, x])
  np.testing.assert_allclose(total_variation(twice), expected)
  with pytest.raises(InputError, match='two rows and columns'):
    total_variation(jnp.ones((2, 1, 4, 3)))
