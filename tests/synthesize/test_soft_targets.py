import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import synthesize
from compress.errors import InputError
from compress.synthesize import (
  answer_loss,
  feature_distribution,
  sample_features,
  soft_labels,
)


def weights():
  rng = np.random.default_rng(0)
  return jnp.asarray(rng.normal(size=(6, 4)), jnp.float32)


def test_covariance_by_hand():
  # Features 0 and 1 speak for the same class, 2 for another.
  rows = jnp.array([[2.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
  std = jnp.array([1.0, 2.0, 3.0])
  found = feature_distribution(rows, std=std, share=0.5)
  expected = [[1.0, 1.0, 0.0], [1.0, 4.0, 0.0], [0.0, 0.0, 9.0]]
  covariance = found.factor @ found.factor.T
  np.testing.assert_allclose(covariance, expected, atol=1e-4)
  np.testing.assert_array_equal(found.mean, 0)


def test_samples_have_the_covariance():
  mean, std = jnp.arange(6.0), jnp.linspace(0.5, 2.0, 6)
  distribution = feature_distribution(weights(), mean=mean, std=std)
  drawn = sample_features(jax.random.key(0), distribution, 20000)
  covariance = distribution.factor @ distribution.factor.T
  np.testing.assert_allclose(drawn.mean(0), mean, atol=0.05)
  np.testing.assert_allclose(jnp.cov(drawn.T), covariance, atol=0.15)
  np.testing.assert_allclose(jnp.diag(covariance), std**2, rtol=1e-4)
  clipped = sample_features(
    jax.random.key(0), distribution, 20000, nonnegative=True
  )
  np.testing.assert_array_equal(clipped, jnp.maximum(drawn, 0))


def test_degenerate_weights_are_still_a_distribution():
  same = jnp.ones((40, 3))
  assert np.isfinite(feature_distribution(same, share=0.999).factor).all()
  none = feature_distribution(jnp.zeros((4, 3)))
  np.testing.assert_allclose(none.factor, np.eye(4), atol=1e-5)


def test_soft_labels_are_soft():
  distribution = feature_distribution(weights())
  features = sample_features(jax.random.key(0), distribution, 500)
  entropies = []
  for temperature in (1.0, 4.0):
    labels = soft_labels(
      features, lambda f: f @ weights(), temperature=temperature
    )
    np.testing.assert_allclose(labels.sum(1), 1, rtol=1e-5)
    entropies.append(float(-(labels * jnp.log(labels)).sum(1).mean()))
  assert 0.1 < entropies[0] < entropies[1] < np.log(4)


def test_images_learn_to_draw_the_soft_labels():
  head, key = weights(), jax.random.key(1)

  def features(variables, x):
    return jax.nn.relu(x.reshape(x.shape[0], -1) @ variables['body'])

  def apply(variables, x):
    return features(variables, x) @ variables['head']

  variables = {'body': jax.random.normal(key, (16, 6)) / 4, 'head': head}
  drawn = sample_features(key, feature_distribution(head), 32, nonnegative=True)
  targets = soft_labels(drawn, lambda f: f @ head, temperature=2.0)
  made = synthesize.synthesize(
    answer_loss(apply, temperature=2.0),
    jax.random.normal(key, (32, 4, 4, 1)),
    variables,
    targets,
    steps=90,
    learning_rate=0.05,
    progress=False,
  )
  thirds = made.loss.reshape(3, -1).mean(1)
  assert (np.diff(thirds) < 0).all()
  assert made.loss[-1] < 0.25 * made.loss[0]


def test_errors():
  with pytest.raises(InputError, match=r'std \[3\]'):
    feature_distribution(weights(), std=jnp.ones(3))
  with pytest.raises(InputError, match='share is 1'):
    feature_distribution(weights(), share=1)
  with pytest.raises(InputError, match='temperature is -1'):
    soft_labels(jnp.ones((1, 2)), lambda f: f, temperature=-1)
