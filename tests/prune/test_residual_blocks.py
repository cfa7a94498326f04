"""Channels inside blocks and on shortcuts; how often units speak."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import graph, models
from compress.errors import InputError
from compress.prune import activity, inside_blocks

INSIDE = tuple(f'stage{i}/block0/conv1' for i in (1, 2, 3))


@pytest.mark.parametrize(
  'option_a, between',
  [
    (True, ('stem/conv', 'stage2/block0/conv2', 'stage3/block0/conv2')),
    (False, ('stem/conv', 'stage2/block0/conv2', 'stage3/block0/conv2')),
  ],
)
def test_of_a_residual_network(option_a, between):
  network = models.cifar_resnet8(widths=(2, 4, 8), option_a=option_a)
  image = jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32)
  variables = jax.eval_shape(network.init, jax.random.key(0), image)
  groups = graph.channels(graph.trace(network.apply, variables, image)).groups
  assert inside_blocks(groups, variables) == (INSIDE, between)


def test_of_a_chain():
  network = models.lenet300(image_shape=(2, 2, 1), widths=(3, 2))
  image = jax.ShapeDtypeStruct((1, 2, 2, 1), jnp.float32)
  variables = jax.eval_shape(network.init, jax.random.key(0), image)
  groups = graph.channels(graph.trace(network.apply, variables, image)).groups
  assert inside_blocks(groups, variables) == (('fc1', 'fc2'), ())


def test_activity_by_hand():
  network = models.lenet300(image_shape=(2, 1, 1), widths=(3,), classes=2)
  images = np.array([[1, 2], [3, -4], [-5, -6], [-1, 7]], np.float32)
  images = images.reshape(4, 2, 1, 1)
  variables = network.init(jax.random.key(0), images)
  kernel = jnp.array([[1.0, 0, -1], [0, 1, -1]])
  params = variables['params']
  params = {**params, 'fc1': {'kernel': kernel, 'bias': jnp.zeros(3)}}
  found = activity(
    network.apply,
    {'params': params},
    {'fc1': 'relu1'},
    [images[:2], images[2:]],
  )
  np.testing.assert_allclose(found['fc1'], [0.5, 0.5, 0.5])
  first = activity(
    network.apply, {'params': params}, {'fc1': 'relu1'}, [images[:2]]
  )
  np.testing.assert_allclose(first['fc1'], [1, 0.5, 0.5])
  assert first['fc1'].dtype == np.float64


def test_no_batch():
  with pytest.raises(InputError, match='no batch'):
    activity(lambda v, x: x, {}, {}, [])
