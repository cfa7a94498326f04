import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress.errors import InputError
from experiments.faces.networks import embed, load_network
from tests.experiments.small_network import (
  FEATURES,
  photographs,
  small_network,
)


def first_pixels(images):
  return jnp.asarray(images[:, 0, 0, :])


@pytest.mark.parametrize('batch', [1, 3, 4, 7, 50])
def test_embeds_photographs_and_mirror_images(batch):
  images, _ = photographs(people=1, each=7)
  sizes = []

  def function(part):
    sizes.append(len(part))
    assert part.dtype == np.float32
    return first_pixels(part)

  out = embed(function, images, batch=batch)
  assert out.shape == (7, 2, 3) and out.dtype == np.float32
  np.testing.assert_array_equal(out[:, 0], images[:, 0, 0, :])
  np.testing.assert_array_equal(out[:, 1], images[:, 0, -1, :])
  # One compilation: the last batch is as large as the others.
  assert set(sizes) == {batch}


@pytest.mark.parametrize('bad', [np.nan, np.inf])
@pytest.mark.parametrize('column', [0, -1])
def test_an_embedding_that_is_not_finite_names_its_photograph(column, bad):
  images, _ = photographs(people=1, each=7)
  images[:, 0] = np.minimum(images[:, 0], 254)
  images[5, 0, column] = 255

  def function(part):
    pixels = np.array(first_pixels(part))
    return np.where(pixels == 255, bad, pixels)

  with pytest.raises(InputError, match='photograph 5 is not finite'):
    embed(function, images, batch=3)


def test_what_fills_up_the_last_batch_is_not_judged():
  images, _ = photographs(people=1, each=5)

  def nan_for_black(part):
    return np.where(part.sum((1, 2)) > 0, part[:, 0, 0], np.nan)

  assert np.isfinite(embed(nan_for_black, images, batch=4)).all()


def test_a_nan_in_the_image_is_found():
  network = small_network()
  images, _ = photographs(people=1, each=3)
  images = images.astype(np.float32)
  images[2, 4, 4, 0] = np.nan
  run = jax.jit(network.apply)
  with pytest.raises(InputError, match='photograph 2'):
    embed(lambda x: run(network.variables, x), images)


def test_a_module_as_a_network():
  network = small_network()
  images = photographs(people=2, each=2)[0].astype(np.float32)
  out = jax.jit(network.apply)(network.variables, images)
  assert out.shape == (4, FEATURES)
  trained, stats = jax.jit(network.train_apply)(network.variables, images)
  assert trained.shape == out.shape and (trained != out).any()
  before = network.variables['batch_stats']['stem']['bn']['mean']
  assert (stats['stem']['bn']['mean'] != before).any()
  assert network.provenance == {'weights': 'none'}


@pytest.mark.parametrize(
  'name, weights, message',
  [
    ('iresnet', None, '--network=iresnet needs --weights'),
    ('mobilefacenet', None, r'needs --weights, the path of a \.tflite'),
    ('facenet', 'x.onnx', '--network=facenet: right would be one of'),
    ('facenet', None, '--network=facenet: right would be one of'),
    ('sface', 'missing.onnx', 'missing.onnx: no such file'),
    ('iresnet', 'missing.pth', 'missing.pth: no such file'),
    ('mobilefacenet', 'missing.tflite', 'missing.tflite: no such file'),
  ],
)
def test_no_network(name, weights, message):
  with pytest.raises(InputError, match=message):
    load_network(name, weights)
