"""Margin heads: values, the gradient of each variant, the ends of the range."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from compress import distill
from compress.errors import InputError

OPTIONS = ('scale', 'margin', 'gradient')
arcface_logits = jax.jit(distill.arcface_logits, static_argnames=OPTIONS)
arcface_loss = jax.jit(distill.arcface_loss, static_argnames=OPTIONS)
arcface_gradients = jax.jit(
  jax.value_and_grad(distill.arcface_loss, argnums=(0, 1)),
  static_argnames=OPTIONS,
)
VARIANTS = ('exact', 'insightface', 'tface')
MARGIN = 0.5


def target_logit(angle, gradient='exact', margin=MARGIN, scale=1.0):
  """The true class's logit of an embedding at an angle from its class."""
  embedding = 3 * jnp.stack([jnp.cos(angle), jnp.sin(angle)])[None, :]
  weights = 2 * jnp.array([[1.0, 0.0], [0.0, 1.0]])
  logits = arcface_logits(
    embedding,
    weights,
    jnp.array([0]),
    scale=scale,
    margin=margin,
    gradient=gradient,
  )
  return logits[0, 0]


target_slope = jax.jit(jax.value_and_grad(target_logit), static_argnums=1)


def batch(size=5, features=6, classes=7):
  keys = jax.random.split(jax.random.key(0), 3)
  return (
    jax.random.normal(keys[0], (size, features)),
    distill.init_head(keys[1], features, classes),
    jax.random.randint(keys[2], (size,), 0, classes),
  )


@pytest.mark.parametrize('gradient', VARIANTS)
def test_arcface_adds_the_margin_to_the_angle(gradient):
  embeddings, weights, labels = batch()
  logits = arcface_logits(
    embeddings, weights, labels, scale=64.0, margin=0.4, gradient=gradient
  )
  unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
  cosine = np.float64(
    unit @ (weights / np.linalg.norm(weights, axis=0, keepdims=True))
  )
  expected = 64 * cosine
  rows = np.arange(5)
  assert np.all(np.arccos(cosine[rows, labels]) < math.pi - 0.4)
  expected[rows, labels] = 64 * np.cos(np.arccos(cosine[rows, labels]) + 0.4)
  np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_cosface_subtracts_the_margin_from_the_cosine():
  embeddings, weights, labels = batch()
  logits = distill.cosface_logits(embeddings, weights, labels)
  plain = 64 * distill.cosines(embeddings, weights)
  expected = plain - 64 * 0.4 * jax.nn.one_hot(labels, 7)
  np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_no_margin_is_normalised_softmax_in_every_variant():
  embeddings, weights, labels = batch()
  plain = 64 * distill.cosines(embeddings, weights)
  for gradient in VARIANTS:
    logits = arcface_logits(
      embeddings, weights, labels, margin=0.0, gradient=gradient
    )
    np.testing.assert_allclose(logits, plain, atol=1e-5)


# theta < pi - m, then beyond it.
@pytest.mark.parametrize('angle', [0.2, 1.0, 1.6, 2.5, 2.8, 3.0])
def test_target_gradients_by_formula(angle):
  """d logit / d theta; the straight-through variant's is that of cos."""
  beyond = angle > math.pi - MARGIN
  value = {gradient: math.cos(angle + MARGIN) for gradient in VARIANTS}
  slope = {gradient: -math.sin(angle + MARGIN) for gradient in VARIANTS}
  slope['insightface'] = -math.sin(angle)
  if beyond:
    value['tface'] = math.cos(angle) - MARGIN * math.sin(math.pi - MARGIN)
    slope['tface'] = -math.sin(angle)
  for gradient in VARIANTS:
    actual = target_slope(angle, gradient)
    expected = value[gradient], slope[gradient]
    np.testing.assert_allclose(actual, expected, atol=1e-4, err_msg=gradient)


@pytest.mark.parametrize('gradient', ['exact', 'tface'])
@pytest.mark.parametrize('angle', [0.3, 1.2, 2.4, 2.9])
def test_target_gradient_by_finite_differences(angle, gradient):
  _, slope = target_slope(angle, gradient)
  step = 1e-2
  change = target_logit(angle + step, gradient) - target_logit(
    angle - step, gradient
  )
  np.testing.assert_allclose(slope, change / (2 * step), atol=1e-3)


def test_tface_falls_with_the_angle_where_exact_turns_back():
  angles = jnp.linspace(0.1, 3.1, 31)
  exact = jax.jit(jax.vmap(target_logit))(angles)
  tface = jax.jit(jax.vmap(lambda angle: target_logit(angle, 'tface')))(angles)
  turn = math.pi - MARGIN
  before = angles < turn
  np.testing.assert_allclose(tface[before], exact[before], atol=1e-6)
  assert np.all(np.diff(tface[angles < turn]) < 0)
  assert np.all(np.diff(tface[angles > turn]) < 0)
  assert np.all(np.diff(exact[angles > turn]) > 0)


@pytest.mark.parametrize('gradient', VARIANTS)
@pytest.mark.parametrize('sign', [1.0, -1.0])
def test_finite_where_the_cosine_is_one_or_minus_one(sign, gradient):
  weights = jax.random.normal(jax.random.key(1), (6, 4))
  embeddings = sign * 5 * weights.T
  labels = jnp.arange(4)
  loss, gradients = arcface_gradients(
    embeddings, weights, labels, gradient=gradient
  )
  assert np.isfinite(loss)
  assert all(np.all(np.isfinite(leaf)) for leaf in gradients)
  # 64 (cos(theta + m) - cos theta) is at most 64; unit steps, 64 or so.
  assert all(np.max(np.abs(leaf)) < 200 for leaf in gradients)


def test_exact_loss_gradient_by_finite_differences():
  embeddings, weights, labels = batch(size=3, features=4, classes=3)
  check_grads(
    lambda e, w: arcface_loss(e, 100 * w, labels, scale=4.0),
    (embeddings, weights),
    order=1,
    modes=['rev'],
    atol=3e-2,
    rtol=3e-2,
    eps=1e-3,
  )


@pytest.mark.parametrize('gradient', VARIANTS)
def test_zero_norm_embedding_and_weight(gradient):
  embeddings, weights, labels = batch()
  embeddings = embeddings.at[1].set(0.0)
  weights = weights.at[:, labels[2]].set(0.0)
  loss, gradients = arcface_gradients(
    embeddings, weights, labels, gradient=gradient
  )
  assert np.isfinite(loss)
  assert all(np.all(np.isfinite(leaf)) for leaf in gradients)


def test_ignores_norms():
  embeddings, weights, labels = batch()
  loss = arcface_loss(embeddings, weights, labels)
  scaled = arcface_loss(30 * embeddings, 0.2 * weights, labels)
  np.testing.assert_allclose(scaled, loss, rtol=1e-5)


def test_losses_are_cross_entropies_of_the_logits():
  embeddings, weights, labels = batch()
  for loss, logits in (
    (distill.arcface_loss, distill.arcface_logits),
    (distill.cosface_loss, distill.cosface_logits),
  ):
    z = np.float64(logits(embeddings, weights, labels, margin=0.3))
    expected = np.mean(
      np.log(np.exp(z - z.max()).sum(1)) + z.max() - z[np.arange(5), labels]
    )
    actual = loss(embeddings, weights, labels, margin=0.3)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_half_precision_jit_and_vmap():
  embeddings, weights, labels = batch()
  loss = distill.arcface_loss(embeddings, weights, labels)
  half = arcface_loss(
    embeddings.astype(jnp.bfloat16), weights.astype(jnp.bfloat16), labels
  )
  assert half.dtype == jnp.float32
  np.testing.assert_allclose(half, loss, rtol=2e-2)
  heads = jnp.stack([weights, -weights])
  mapped = jax.jit(jax.vmap(distill.arcface_loss, in_axes=(None, 0, None)))(
    embeddings, heads, labels
  )
  expected = [arcface_loss(embeddings, head, labels) for head in heads]
  np.testing.assert_allclose(mapped, jnp.stack(expected), rtol=1e-5)


@pytest.mark.parametrize('label', [-1, 7])
def test_a_label_that_is_no_class_has_no_margin_and_no_loss(label):
  embeddings, weights, labels = batch()
  labels = labels.at[2].set(label)
  cosines = distill.cosines(embeddings, weights)
  found = distill.cosface_logits(embeddings, weights, labels, scale=1.0)
  np.testing.assert_array_equal(found[2], cosines[2])
  found = arcface_logits(embeddings, weights, labels, scale=1.0)
  np.testing.assert_allclose(found[2], cosines[2], rtol=1e-6)
  assert np.isnan(arcface_loss(embeddings, weights, labels))
  assert np.isnan(distill.cosface_loss(embeddings, weights, labels))


def test_cosines_are_multiplied_at_full_precision():
  embeddings, weights, _ = batch()
  text = str(jax.make_jaxpr(distill.cosines)(embeddings, weights))
  assert 'Precision.HIGHEST' in text


def test_init_head_has_the_published_spread():
  weights = distill.init_head(jax.random.key(0), 64, 500)
  assert weights.shape == (64, 500) and weights.dtype == jnp.float32
  np.testing.assert_allclose(jnp.std(weights), 0.01, rtol=2e-2)
  np.testing.assert_allclose(jnp.mean(weights), 0, atol=2e-4)


def test_bad_options():
  embeddings, weights, labels = batch()
  with pytest.raises(InputError, match="gradient is 'true'"):
    arcface_logits(embeddings, weights, labels, gradient='true')
  with pytest.raises(InputError, match='margin is -0.1'):
    arcface_logits(embeddings, weights, labels, margin=-0.1)
