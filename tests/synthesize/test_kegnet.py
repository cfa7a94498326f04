"""KegNet: the golden diversity, the parts of the loss, a small ensemble."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from compress.errors import InputError
from compress.synthesize.generators import standardize_images
from compress.synthesize.kegnet import kegnet_diversity, kegnet_generator_loss
from compress.synthesize.kegnet_training import (
  KegNetSettings,
  generator_accuracy,
  sample_kegnet,
  train_kegnet,
)

ROW = np.arange(4)[:, None]
COLUMN = np.arange(6)[None]
CODES = np.sin(0.3 * (ROW + 1) * (COLUMN + 1)).astype(np.float32)
IMAGES = np.cos(0.7 * (ROW + 1) + COLUMN**2).astype(np.float32)
LOGITS = np.array([[2.0, -1.0], [0.0, 0.0], [1.0, 3.0], [0.5, 0.5]], np.float32)
LABELS = np.array([0, 1, 1, 0], np.int32)


def test_diversity_is_the_golden_value():
  found = kegnet_diversity(CODES, IMAGES)
  assert float(found) == pytest.approx(0.5284279286359437, rel=1e-6)


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_diversity_is_one_for_equal_images_and_less_else(dtype):
  codes, images = jnp.asarray(CODES, dtype), jnp.asarray(IMAGES, dtype)
  same = jnp.broadcast_to(images[:1], images.shape)
  value, grad = jax.value_and_grad(kegnet_diversity, argnums=1)(codes, same)
  assert value == 1 and value.dtype == jnp.float32
  assert np.isfinite(np.asarray(grad, np.float32)).all()
  assert 0 < kegnet_diversity(codes, images) < 1


def test_diversity_is_that_of_the_whole_batch_on_eight_devices():
  rng = np.random.default_rng(0)
  codes = rng.normal(size=(16, 3)).astype(np.float32)
  images = rng.normal(size=(16, 2, 2, 1)).astype(np.float32)
  mesh = jax.make_mesh(
    (8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,)
  )
  spread = jax.device_put((codes, images), NamedSharding(mesh, P('data')))
  np.testing.assert_allclose(
    jax.jit(kegnet_diversity)(*spread),
    kegnet_diversity(codes, images),
    rtol=1e-6,
  )


def test_the_loss_is_the_weighted_sum_of_its_parts():
  decoded = CODES + np.float32(0.5)
  found = kegnet_generator_loss(
    LOGITS, LABELS, decoded, CODES, IMAGES, alpha=2.0, beta=3.0
  )
  q = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
  label = -np.log(q[np.arange(4), LABELS]).mean()
  np.testing.assert_allclose(found.label, label, rtol=1e-6)
  np.testing.assert_allclose(found.code, 6 * 0.25, rtol=1e-6)
  np.testing.assert_allclose(found.diversity, 0.52842793, rtol=1e-6)
  total = label + 2 * 1.5 + 3 * 0.52842793
  np.testing.assert_allclose(found.total, total, rtol=1e-6)
  reference = kegnet_generator_loss(
    LOGITS, LABELS, decoded, CODES, IMAGES, reduction='reference'
  )
  np.testing.assert_allclose(reference.code, 0.25, rtol=1e-6)
  assert reference.diversity == 0


@pytest.mark.parametrize(
  'options', [{'alpha': -1.0}, {'beta': float('nan')}, {'reduction': 'mean'}]
)
def test_bad_options_are_refused(options):
  with pytest.raises(InputError):
    kegnet_generator_loss(LOGITS, LABELS, CODES, CODES, IMAGES, **options)
  with pytest.raises(InputError):
    KegNetSettings(batch=0)


@pytest.mark.parametrize('label', [-1, 2])
def test_a_label_that_is_no_class_makes_the_loss_nan(label):
  labels = np.array([0, 1, label, 0], np.int32)
  found = kegnet_generator_loss(LOGITS, labels, CODES, CODES, IMAGES)
  assert np.isnan(found.label) and np.isnan(found.total)


def classify(variables, images):
  """Whether the right half is brighter, the left, or the upper half."""
  half = images.shape[2] // 2
  left = images[:, :, :half].mean(axis=(1, 2, 3))
  right = images[:, :, half:].mean(axis=(1, 2, 3))
  upper = images[:, : images.shape[1] // 2].mean(axis=(1, 2, 3))
  return variables * jnp.stack([left, right, upper], axis=1)


@pytest.fixture(scope='module')
def kegnet():
  settings = KegNetSettings(
    code_size=3, width=4, batch=32, steps=60, learning_rate=1e-2, beta=1.0
  )
  # Raises where a key is drawn from twice.
  with jax.debug_key_reuse(True):
    return train_kegnet(
      classify,
      jnp.float32(8),
      jax.random.key(0),
      image_shape=(6, 6, 1),
      classes=3,
      generators=2,
      settings=settings,
      progress=False,
    )


def test_generators_learn_what_the_classifier_knows(kegnet):
  assert len(kegnet.variables) == len(kegnet.history) == 2
  for history in kegnet.history:
    assert set(history) == {'loss', 'label', 'code', 'diversity', 'accuracy'}
    assert len(history['loss']) == 60
    assert history['loss'][-10:].mean() < history['loss'][:10].mean()
  images, labels = sample_kegnet(kegnet, jax.random.key(1), count=63)
  found = generator_accuracy(classify, jnp.float32(8), images, labels)
  assert found > 0.95


def test_samples_are_standardized_balanced_and_of_all_generators(kegnet):
  images, labels = sample_kegnet(kegnet, jax.random.key(1), count=63, batch=8)
  assert images.shape == (63, 6, 6, 1) and images.dtype == np.float32
  np.testing.assert_allclose(images.mean(axis=(1, 2)), 0, atol=1e-5)
  np.testing.assert_allclose(images.std(axis=(1, 2)), 1, atol=1e-2)
  np.testing.assert_array_equal(np.bincount(labels), [21, 21, 21])
  again, _ = sample_kegnet(kegnet, jax.random.key(1), count=63, batch=63)
  np.testing.assert_allclose(images, again, atol=1e-5)
  single = kegnet._replace(variables=kegnet.variables[:1])
  alone, _ = sample_kegnet(single, jax.random.key(1), count=63)
  same = np.isclose(images, alone, atol=1e-5).all(axis=(1, 2, 3))
  # Image i is by generator (i div 3) mod 2.
  np.testing.assert_array_equal(same, np.arange(63) // 3 % 2 == 0)


def test_a_constant_channel_is_standardized_to_nothing():
  images = jnp.full((1, 3, 3, 2), 7.0).at[0, 0, 0, 1].set(8.0)
  found = standardize_images(images)
  assert (found[..., 0] == 0).all() and found[0, 0, 0, 1] > 1
