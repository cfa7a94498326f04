import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress.errors import InputError
from compress.prune.soft_weight_sharing import (
  Mixture,
  init_mixture,
  responsibilities,
  soft_weight_sharing,
)

MIXTURE = Mixture(
  jnp.log(jnp.array([0.25, 0.75])),
  jnp.array([0.0, 1.0]),
  jnp.log(jnp.array([0.1, 0.5])),
)


def density(w):
  pi, mu, sigma = (0.25, 0.75), (0.0, 1.0), (0.1, 0.5)
  return sum(
    p * np.exp(-0.5 * ((w - m) / s) ** 2) / (s * np.sqrt(2 * np.pi))
    for p, m, s in zip(pi, mu, sigma, strict=True)
  )


def test_value_is_the_negative_log_likelihood():
  tree = {'a': jnp.array([[0.05, 0.9]]), 'b': jnp.array([-0.2])}
  expected = -sum(np.log(density(w)) for w in (0.05, 0.9, -0.2))
  got = soft_weight_sharing(tree, MIXTURE, strength=2.0)
  assert float(got) == pytest.approx(2 * expected, rel=1e-5)


def test_gradient_pulls_to_the_responsible_means():
  w = jnp.array([0.05, 0.9])
  grad = jax.grad(lambda w: soft_weight_sharing(w, MIXTURE))(w)
  r = responsibilities(w, MIXTURE)
  np.testing.assert_allclose(r.sum(-1), 1, rtol=1e-6)
  pull = (w[:, None] - MIXTURE.means[None]) / jnp.array([[0.01, 0.25]])
  np.testing.assert_allclose(grad, (r * pull).sum(1), rtol=1e-4)


def test_learning_the_mixture_lowers_the_penalty():
  rng = np.random.default_rng(0)
  w = np.concatenate([rng.normal(0, 0.02, 60), rng.normal(0.8, 0.02, 40)])
  w = jnp.asarray(w, jnp.float32)
  mixture = init_mixture(w, components=3)
  assert float(mixture.means[1]) == 0

  @jax.jit
  def step(mixture, _):
    grads = jax.grad(lambda m: soft_weight_sharing(w, m) / w.size)(mixture)
    return jax.tree.map(lambda p, g: p - 0.02 * g, mixture, grads), None

  before = soft_weight_sharing(w, mixture)
  mixture, _ = jax.lax.scan(step, mixture, None, length=300)
  assert soft_weight_sharing(w, mixture) < before - 50


def test_bad_input_is_refused():
  with pytest.raises(InputError, match='2 or more'):
    init_mixture(jnp.ones(3), components=1)
  with pytest.raises(InputError, match='differs from zero'):
    init_mixture(jnp.zeros(3), components=2)
