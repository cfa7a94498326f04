import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress.errors import InputError
from compress.prune import activation_maximization as lib

SHAPE = (8, 8, 3)
FAST = lib.Ascent(steps=12, step_size=0.1, chunk=4)


class Net(nn.Module):
  @nn.compact
  def __call__(self, x):
    x = nn.Conv(6, (3, 3), name='conv1')(x)
    x = nn.relu(nn.BatchNorm(use_running_average=True, name='bn')(x))
    return nn.Conv(4, (3, 3), name='conv2')(x)


def build():
  net = Net()
  variables = jax.jit(net.init)(jax.random.key(1), jnp.zeros((1, *SHAPE)))
  params = variables['params']
  kernel = params['conv1']['kernel']
  # Filter 4 repeats filter 1 at half its norm, filter 2 does nothing.
  kernel = kernel.at[..., 4].set(0.5 * kernel[..., 1]).at[..., 2].set(0.0)
  params['conv1']['kernel'] = kernel
  params['conv1']['bias'] = params['conv1']['bias'].at[2].set(0.3)
  return net.apply, variables


def look(site='conv1', ascent=FAST, seed=0):
  return lib.visualize_filters(
    *build(), site, image_shape=SHAPE, key=jax.random.key(seed), ascent=ascent
  )


def test_equal_filters_look_equal_and_an_idle_one_is_invalid():
  found = look()
  assert found.images.shape == (6, *SHAPE)
  assert found.images.min() >= 0 and found.images.max() <= 1
  # Fixed step lengths: half the kernel has the same image.
  np.testing.assert_allclose(found.images[1], found.images[4], atol=1e-4)
  assert np.abs(found.images[1] - found.images[0]).mean() > 0.05
  np.testing.assert_array_equal(found.invalid, np.arange(6) == 2)


@pytest.mark.slow
def test_the_seed_fixes_the_images():
  ascent = lib.Ascent(steps=4, jitter=2, total_variation=0.1, l2=0.1, chunk=6)
  one, again, other = (look(ascent=ascent, seed=s) for s in (0, 0, 1))
  np.testing.assert_array_equal(one.images, again.images)
  assert np.abs(one.images - other.images).max() > 0.01


@pytest.mark.parametrize('site', ['conv1', 'conv2'])
def test_small_steps_never_lower_the_activation(site):
  found = look(site, lib.Ascent(steps=10, step_size=0.005, chunk=8))
  rises = np.diff(found.activations, axis=1)
  assert np.all(rises >= -1e-6)
  assert np.all(rises[[0, 1]].sum(1) > 0)


@pytest.mark.slow
def test_layers_are_pruned_in_turn():
  apply, variables = build()
  found = lib.interpretable_filters(
    apply,
    variables,
    ['conv1', 'conv2'],
    image_shape=SHAPE,
    key=jax.random.key(0),
    threshold=0.999,
    ascent=lib.Ascent(steps=4, chunk=6),
  )
  keep = found.keep['conv1/kernel']
  assert not keep[2] and not keep[4] and keep[1]
  saliency = found.saliency['conv1/kernel']
  assert saliency[2] == -1
  np.testing.assert_array_equal(keep, saliency > 1 - 0.999)
  # The second layer is seen through what the first one kept.
  masked = jax.tree.map(lambda a: a, variables)
  masked['params']['conv1']['kernel'] *= keep.astype(np.float32)[(None,) * 3]
  masked['params']['conv1']['bias'] *= keep.astype(np.float32)
  expected = lib.visualize_filters(
    apply,
    masked,
    'conv2',
    image_shape=SHAPE,
    key=jax.random.fold_in(jax.random.key(0), 1),
    ascent=lib.Ascent(steps=4, chunk=6),
  )
  np.testing.assert_allclose(
    found.visualizations['conv2/kernel'].images, expected.images, atol=1e-4
  )


def test_bad_input_gets_one_line():
  with pytest.raises(InputError, match="no layer 'conv3'.*conv1, conv2"):
    look('conv3')
  with pytest.raises(InputError, match='low < high'):
    lib.Ascent(low=1.0, high=0.0)
