import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import synthesize
from compress.errors import InputError
from compress.synthesize import (
  answer_divergence,
  answer_loss,
  class_impression_targets,
  class_similarity,
  data_impression_targets,
  dirichlet_concentrations,
  sample_dirichlet_targets,
)


def weights():
  k, m = np.meshgrid(np.arange(6), np.arange(4), indexing='ij')
  return jnp.asarray(np.sin(1 + 0.9 * k * (m + 1)), jnp.float32)


def test_class_similarity_golden():
  found = class_similarity(weights())
  expected = [
    [0.02458308, 0.03629555, 0.01304611],
    [-0.26095399, -0.1414637],
    [0.37672451],
  ]
  for i, row in enumerate(expected):
    np.testing.assert_allclose(found[i, i + 1 :], row, rtol=1e-5)
  np.testing.assert_allclose(found, found.T)
  np.testing.assert_allclose(jnp.diag(found), 1, rtol=1e-6)
  # A class without weights is like no other, and its answers are its own.
  lonely = class_similarity(weights().at[:, 1].set(0))
  np.testing.assert_allclose(lonely[1], np.eye(4)[1])
  found = dirichlet_concentrations(lonely)
  np.testing.assert_array_equal(found.argmax(1), np.arange(4))


def test_dirichlet_concentrations_golden():
  similarity = class_similarity(weights())
  found = dirichlet_concentrations(similarity)
  expected = [1.0001, 0.01178947, 0.02365676, 0.0001]
  np.testing.assert_allclose(found[0], expected, rtol=1e-5)
  assert (found > 0).all()
  np.testing.assert_array_equal(found.argmax(1), np.arange(4))
  scaled = dirichlet_concentrations(similarity, scale=0.1)
  np.testing.assert_allclose(scaled, 0.1 * (found - 1e-4) + 1e-4, rtol=1e-5)
  flat = dirichlet_concentrations(jnp.ones((3, 3)))
  np.testing.assert_allclose(flat, 1e-4)


def test_dirichlet_samples_have_their_mean_and_vary_more_at_small_scale():
  row = jnp.array([1.0, 0.5, 0.25, 0.25])
  count = 4000
  spread = []
  for i, scale in enumerate((1.0, 0.1)):
    many = jnp.broadcast_to(scale * row, (count, 4))
    drawn = sample_dirichlet_targets(jax.random.key(i), many)
    np.testing.assert_allclose(drawn.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(drawn.mean(0), row / 2, atol=0.03)
    spread.append(float(drawn.var(0).sum()))
  mean = np.asarray(row) / 2
  exact = [(mean * (1 - mean)).sum() / (1 + s) for s in (2.0, 0.2)]
  np.testing.assert_allclose(spread, exact, rtol=0.06)


def test_tiny_concentrations_do_not_underflow():
  rows = jnp.full((500, 4), 1e-4)
  drawn = sample_dirichlet_targets(jax.random.key(0), rows)
  assert np.isfinite(drawn).all()
  np.testing.assert_allclose(drawn.sum(1), 1, rtol=1e-5)
  assert set(np.unique(drawn.argmax(1))) == {0, 1, 2, 3}


def test_data_impression_targets_take_turns():
  targets, classes = data_impression_targets(
    jax.random.key(0), weights(), 800, scales=(1.0, 0.1)
  )
  assert targets.shape == (800, 4)
  np.testing.assert_array_equal(np.bincount(classes), 200)
  np.testing.assert_array_equal(classes[:5], [0, 0, 1, 1, 2])
  own = jnp.take_along_axis(targets, classes[:, None], 1).mean()
  assert own > 0.6
  np.testing.assert_array_equal(
    class_impression_targets(3, 2), [[1, 0], [0, 1], [1, 0]]
  )


def test_answer_divergence():
  logits = jnp.array([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]])
  wanted = jax.nn.softmax(logits / 2)
  assert abs(answer_divergence(logits, wanted, temperature=2.0)) < 1e-7
  one_hot = jnp.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
  value, grad = jax.value_and_grad(answer_divergence)(logits, one_hot)
  log_q = jax.nn.log_softmax(logits)
  np.testing.assert_allclose(value, -(log_q[0, 1] + log_q[1, 2]) / 2, rtol=1e-6)
  np.testing.assert_allclose(
    grad, (jax.nn.softmax(logits) - one_hot) / 2, rtol=1e-5
  )
  to_targets = jax.grad(answer_divergence, argnums=1)(logits, wanted)
  np.testing.assert_array_equal(to_targets, 0)
  half = answer_divergence(logits.astype(jnp.bfloat16), one_hot)
  assert half.dtype == jnp.float32


class Classifier(nn.Module):
  @nn.compact
  def __call__(self, x):
    x = nn.Conv(8, (3, 3), name='conv')(x)
    x = nn.relu(nn.BatchNorm(use_running_average=True, name='bn')(x))
    return nn.Dense(4, name='head')(x.reshape(x.shape[0], -1))


@pytest.mark.parametrize('temperature', [1.0, 20.0])
def test_impressions_are_classified_as_asked(temperature):
  shape = (32, 6, 6, 1)
  variables = Classifier().init(jax.random.key(0), jnp.zeros(shape))
  head = variables['params']['head']['kernel']
  targets, _ = data_impression_targets(jax.random.key(1), head, len(head[:32]))
  made = synthesize.synthesize(
    answer_loss(Classifier().apply, temperature=temperature),
    jax.random.uniform(jax.random.key(2), shape),
    variables,
    targets,
    steps=150,
    learning_rate=0.05,
    bounds=(0, 1),
    progress=False,
  )
  assert made.loss[-1] < made.loss[0]
  found = Classifier().apply(variables, made.images).argmax(1)
  assert (found == targets.argmax(1)).mean() > 0.9


def test_priors_and_batch_norms_join_the_answer():
  x = jax.random.normal(jax.random.key(0), (4, 6, 6, 1))
  variables = Classifier().init(jax.random.key(1), x)
  targets = class_impression_targets(4, 4)
  plain = answer_loss(Classifier().apply, temperature=1.0)
  whole = answer_loss(
    Classifier().apply,
    temperature=1.0,
    batch_norm_weight=2.0,
    total_variation_weight=3.0,
    mean_square_weight=4.0,
  )
  matching = synthesize.batch_norm_loss(
    Classifier().apply, statistics='deepinversion'
  )
  expected = (
    plain(x, variables, targets)
    + 2 * matching(x, variables)
    + 3 * synthesize.total_variation(x)
    + 4 * synthesize.mean_square(x)
  )
  np.testing.assert_allclose(whole(x, variables, targets), expected, rtol=1e-5)


def test_errors():
  logits = jnp.zeros((2, 3))
  with pytest.raises(InputError, match='temperature is 0'):
    answer_divergence(logits, logits, temperature=0)
  with pytest.raises(InputError, match=r'targets \[2, 4\]'):
    answer_divergence(logits, jnp.zeros((2, 4)))
  with pytest.raises(InputError, match='scale is 0'):
    dirichlet_concentrations(jnp.eye(3), scale=0)
  with pytest.raises(InputError, match=r'right is \[K, K\]'):
    dirichlet_concentrations(jnp.zeros((3, 2)))
  with pytest.raises(InputError, match='K at least 2'):
    dirichlet_concentrations(jnp.ones((1, 1)))
  with pytest.raises(InputError, match='scales is empty'):
    data_impression_targets(jax.random.key(0), weights(), 4, scales=())
