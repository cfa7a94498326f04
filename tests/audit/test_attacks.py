"""Attacks against golden values of a linear classifier, and their bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import audit
from compress.errors import InputError

WEIGHT = jnp.asarray([[2.0, -1.0], [-1.0, 2.0], [0.0, 0.5]])
BIAS = jnp.asarray([[0.1, -0.1]])
IMAGE = jnp.asarray([[0.6, 0.4, 0.5]])
LABEL = jnp.asarray([0])


def linear(x):
  return x.reshape(x.shape[0], -1) @ WEIGHT + BIAS


def test_golden():
  np.testing.assert_allclose(linear(IMAGE), [[0.9, 0.35]], rtol=1e-6)
  loss = audit.cross_entropies(linear(IMAGE), LABEL)
  assert float(loss[0]) == pytest.approx(0.455492, rel=1e-5)
  assert float(audit.margins(linear(IMAGE), LABEL)[0]) == pytest.approx(-0.55)
  slope = audit.input_gradient(linear, IMAGE, LABEL)
  np.testing.assert_allclose(slope, [[-1.097593, 1.097593, 0.182932]], 1e-5)
  small = audit.fgsm(linear, IMAGE, LABEL, epsilon=0.1)
  np.testing.assert_allclose(small, [[0.5, 0.5, 0.6]], rtol=1e-6)
  loss = audit.cross_entropies(linear(small), LABEL)
  assert float(loss[0]) == pytest.approx(0.744397, rel=1e-5)
  large = audit.fgsm(linear, IMAGE, LABEL, epsilon=0.3)
  np.testing.assert_allclose(large, [[0.3, 0.7, 0.8]], rtol=1e-6)
  loss = audit.cross_entropies(linear(large), LABEL)
  assert float(loss[0]) == pytest.approx(1.620417, rel=1e-5)
  steps = audit.pgd(linear, IMAGE, LABEL, epsilon=0.3, step=0.1, steps=3)
  np.testing.assert_allclose(steps, large, rtol=1e-6)


def test_the_box_holds():
  images = jnp.asarray(np.random.default_rng(0).uniform(0, 1, (5, 2, 2, 1)))
  images = images.astype(jnp.float32).at[0, 0, 0, 0].set(1.0)
  labels = jnp.asarray([0, 1, 0, 1, 0])

  def curved(x):
    return linear(jnp.sin(9 * x).reshape(5, -1)[:, :3])

  for found in (
    audit.fgsm(curved, images, labels, epsilon=0.1),
    audit.pgd(curved, images, labels, epsilon=0.1, step=0.04, steps=7),
    audit.pgd(
      curved,
      images,
      labels,
      epsilon=0.1,
      step=0.04,
      steps=7,
      key=jax.random.key(0),
    ),
  ):
    assert found.shape == images.shape and found.dtype == jnp.float32
    assert float(jnp.abs(found - images).max()) <= 0.1 + 1e-6
    assert float(found.min()) >= 0 and float(found.max()) <= 1


def test_many_steps_are_not_weaker_than_one():
  images = jnp.asarray(np.random.default_rng(1).uniform(0, 1, (64, 3)))
  images = images.astype(jnp.float32)
  labels = linear(images).argmax(1)
  options = {'epsilon': 0.2}
  one = audit.fgsm(linear, images, labels, **options)
  many = audit.pgd(linear, images, labels, step=0.05, steps=10, **options)
  losses = [audit.cross_entropies(linear(x), labels) for x in (one, many)]
  assert (losses[1] >= losses[0] - 1e-5).all()


def test_nothing_to_follow_leaves_the_image():
  def flat(x):
    return jnp.zeros((x.shape[0], 2)) * x.sum()

  found = audit.fgsm(flat, IMAGE, LABEL, epsilon=0.3)
  np.testing.assert_array_equal(found, IMAGE)
  still = audit.fgsm(linear, IMAGE, LABEL, epsilon=0.0)
  np.testing.assert_array_equal(still, IMAGE)


def test_temperature_and_scale_cancel():
  def sharp(x):
    return 50 * linear(x)

  plain = audit.input_gradient(linear, IMAGE, LABEL)
  soft = audit.input_gradient(sharp, IMAGE, LABEL, temperature=50.0)
  np.testing.assert_allclose(soft, plain, rtol=1e-5)
  steep = audit.input_gradient(sharp, IMAGE, LABEL)
  assert np.abs(steep).max() < 1e-8


def test_judgement_by_hand():
  right = np.eye(3)[[0, 1, 2, 0]]
  wrong = np.eye(3)[[0, 2, 2, 1]]
  found = audit.judge_attack(right, wrong, np.array([0, 1, 2, 1]))
  assert found == audit.Attacked(0.75, 0.75, pytest.approx(1 / 3), 4)
  none = audit.judge_attack(right, wrong, np.array([1, 0, 0, 2]))
  assert none.success is None and none.accuracy == 0


def test_bad_inputs():
  with pytest.raises(InputError, match='epsilon 2'):
    audit.fgsm(linear, IMAGE, LABEL, epsilon=2)
  with pytest.raises(InputError, match='temperature 0'):
    audit.input_gradient(linear, IMAGE, LABEL, temperature=0)
  with pytest.raises(InputError, match='steps 0'):
    audit.pgd(linear, IMAGE, LABEL, epsilon=0.1, step=0.1, steps=0)
  with pytest.raises(InputError, match=r'\[1, 2\] and \[2, 2\]'):
    audit.judge_attack(np.eye(2)[:1], np.eye(2), np.zeros(1, int))
  with pytest.raises(InputError, match=r'labels \[3\]'):
    audit.judge_attack(np.eye(2), np.eye(2), np.zeros(3, int))
