"""Whole networks in integers, against their simulation."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import models, quantize
from compress.errors import InputError
from compress.models.layers import PReLU
from compress.quantize import AffineSpec, integer
from tests.experiments.small_network import SmallNetwork
from tests.quantize.integer_example import (
  ACTIVATIONS,
  WEIGHTS,
  code_differences,
  example,
  float_operations,
  module_example,
)


class Rest(nn.Module):
  """Every operation that the other networks here do not have."""

  @nn.compact
  def __call__(self, x):
    y = PReLU(name='prelu')(nn.Conv(6, (3, 3), name='conv')(x))
    left, right = y[..., :2], y[..., 2:]
    # Flax's avg_pool divides by an integer, which strict promotion refuses.
    right = nn.pool(right, 0.0, jax.lax.add, (2, 2), (2, 2), 'VALID') / 4.0
    left = nn.max_pool(left, (2, 2), strides=(2, 2))
    y = jnp.concatenate([-left, jnp.abs(right)], -1)
    y = nn.Conv(6, (3, 3), feature_group_count=6, name='depthwise')(y)
    y = nn.leaky_relu(y - jnp.flip(y, 2) * 0.5)
    y = nn.Conv(4, (1, 1), feature_group_count=2, name='grouped')(y)
    y = jnp.transpose(nn.relu6(y), (0, 3, 1, 2))
    y = jnp.pad(y.max(3), ((0, 0), (1, 0), (0, 0)))
    return nn.Dense(3, name='fc')(nn.relu(nn.Dense(4, name='mlp')(y)))


def faces(count=2):
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (count, 112, 112, 3)).astype(np.float32)


def images(side, channels, count=4):
  rng = np.random.default_rng(1)
  return rng.normal(size=(count, side, side, channels)).astype(np.float32)


def small_mobilefacenet():
  return models.mobilefacenet(
    stem=4,
    widths=(6,),
    expansions=((8, 8),),
    blocks=(1,),
    head=8,
    features=8,
    batch_norm=True,
  )


NETWORKS = {
  'lenet300': lambda: (models.lenet300(image_shape=(8, 8, 1)), images(8, 1)),
  'lenet5': lambda: (
    models.lenet5(image_shape=(8, 8, 1), widths=(4, 6), hidden=16),
    images(8, 1),
  ),
  'cifar_resnet8': lambda: (
    models.cifar_resnet8(widths=(4, 8, 8)),
    images(8, 3),
  ),
  'iresnet_block': lambda: (SmallNetwork(), faces()[:, :16, :16]),
  'rest': lambda: (Rest(), images(8, 3)),
}
SLOW = {
  'resnet18': lambda: (
    models.resnet18(widths=(4, 6, 8, 8), classes=10),
    images(32, 3),
  ),
  'bottleneck': lambda: (
    models.ResNet((1, 1), widths=(4, 6), classes=10, bottleneck=True),
    images(32, 3),
  ),
  'sface': lambda: (
    models.SFace(stem=4, widths=(6, 8), strides=(2, 2), features=16),
    faces(),
  ),
  'iresnet': lambda: (
    models.IResNet((1, 1), widths=(4, 6), features=8),
    faces(),
  ),
  'mobilefacenet': lambda: (small_mobilefacenet(), faces()),
}


@functools.cache
def made(name, placement=quantize.INPUTS):
  module, x = (NETWORKS | SLOW)[name]()
  return module_example(module, x, placement=placement)


def agrees(name, placement=quantize.INPUTS):
  """The network is in integers alone, and those of the simulation."""
  found = made(name, placement)
  network, x = found.convert(), found.images
  codes = integer.encode(network, x)
  assert not float_operations(network.apply, network.variables, codes)
  for arrays in network.variables.values():
    assert all(a.dtype in (np.int8, np.int32) for a in arrays.values())
  differences = code_differences(found, network, x)
  assert set(differences) == set(found.specs)
  assert max(differences.values(), default=0) <= 1
  assert (integer.compare(network, found.twin, x).cosine > 0.999).all()


@pytest.mark.parametrize('name', NETWORKS)
def test_networks(name):
  agrees(name)


def test_residual_sums_of_eight_bits():
  found = made('iresnet_block', integer.SUMS)
  assert 'stage1/block0/add' in found.specs
  agrees('iresnet_block', integer.SUMS)
  assert found.convert().outputs.dtype == 'uint8'


@pytest.mark.slow
@pytest.mark.parametrize('placement', [quantize.INPUTS, integer.SUMS])
@pytest.mark.parametrize('name', SLOW)
def test_large_networks(name, placement):
  agrees(name, placement)


def power_of_two_example(**options):
  """Scales are powers of two, biases multiples of the accumulators' step."""
  rng = np.random.default_rng(3)

  def drawn(*shape):
    return jnp.asarray(rng.integers(-64, 65, shape) / 64, jnp.float32)

  def dense(p, x):
    return x @ p['kernel'] + p['bias'][None]

  def apply(variables, x):
    p = variables['params']
    y = dense(p['one'], x)
    y = jnp.where(y >= 0, y, 0.25 * y)
    z = jax.nn.relu(dense(p['two'], y)) + y
    return dense(p['three'], z)

  params = {
    name: {'kernel': drawn(8, 8), 'bias': drawn(8)}
    for name in ('one', 'two', 'three')
  }
  weights = AffineSpec(granularity='channel', power_of_two=True)
  activations = dataclasses.replace(ACTIVATIONS, power_of_two=True, **options)
  x = jnp.asarray(rng.integers(-256, 257, (64, 8)) / 256, jnp.float32)
  return example(
    apply, {'params': params}, x, weights=weights, activations=activations
  )


@pytest.mark.parametrize('rounding', ['half_even', 'half_away'])
def test_powers_of_two_are_exact(rounding):
  found = power_of_two_example(rounding=rounding)
  network = found.convert()
  differences = code_differences(found, network, found.images)
  assert set(differences.values()) == {0}
  x = np.asarray(integer.encode(network, found.images))
  out = jax.jit(network.apply)(network.variables, x)
  ours = np.asarray(integer.decode(network, out))
  np.testing.assert_array_equal(ours, found.twin(found.images))


def test_two_roundings_are_within_one_code():
  found = power_of_two_example()
  network = found.convert(arithmetic='jacob')
  differences = code_differences(found, network, found.images)
  assert max(differences.values()) == 1


def test_asymmetric_and_short_weights():
  weights = dataclasses.replace(
    WEIGHTS, bits=4, symmetric=False, bounds='unsigned'
  )
  module, x = NETWORKS['lenet5']()
  found = module_example(module, x, weights=weights)
  network = found.convert()
  assert max(code_differences(found, network, x).values()) <= 1
  assert (integer.compare(network, found.twin, x).cosine > 0.999).all()


def test_batches_may_be_split():
  found = made('iresnet_block')
  network = found.convert()
  run = jax.jit(network.apply)
  codes = np.tile(
    np.asarray(integer.encode(network, found.images)), (2, 1, 1, 1)
  )
  whole = np.asarray(run(network.variables, codes))
  parts = [run(network.variables, codes[i : i + 1]) for i in range(len(codes))]
  np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_pixels_enter_as_they_are():
  network = made('iresnet_block').convert()
  assert network.inputs.dtype == 'uint8' and network.inputs.scale == 1
  pixels = np.arange(256, dtype=np.float32).reshape(1, 16, 16, 1)
  codes = integer.encode(network, jnp.asarray(pixels))
  np.testing.assert_array_equal(codes, pixels.astype(np.uint8))


def dense_example(apply=None, *, width=4, **options):
  apply = apply or (lambda v, x: x @ v['params']['fc']['kernel'])
  kernel = jnp.ones((width, 2), jnp.float32)
  return example(
    apply,
    {'params': {'fc': {'kernel': kernel}}},
    jnp.linspace(0.0, 1.0, 2 * width).reshape(2, width),
    **options,
  )


def test_accumulators_that_may_overflow():
  with pytest.raises(InputError, match=r"site 'fc': .*70000 terms.*int32"):
    dense_example(width=70_000).convert()


@pytest.mark.parametrize(
  ('function', 'message'),
  [
    (lambda x: jnp.tanh(x), 'tanh .*no integer rule'),
    (lambda x: x * x, 'product of two activations'),
    (lambda x: jnp.maximum(x, x + 1), 'larger of two activations'),
    (lambda x: jnp.where(x > 1, x, 0), 'comparison'),
    (lambda x: x / (1 + x), 'division'),
  ],
)
def test_operations_without_a_rule(function, message):
  def apply(variables, x):
    return function(x @ variables['params']['fc']['kernel'])

  with pytest.raises(InputError, match=message) as error:
    dense_example(apply).convert()
  assert "after site 'fc'" in str(error.value)


def test_what_is_not_quantized():
  found = dense_example()
  float_kernel = {'params': {'fc': {'kernel': jnp.ones((4, 2))}}}
  with pytest.raises(InputError, match="'fc': its kernel is not quantized"):
    found._replace(variables=float_kernel).convert()
  with pytest.raises(InputError, match="'fc': both a spec and"):
    found._replace(activations={}).convert()
  with pytest.raises(InputError, match='arithmetic'):
    found.convert(arithmetic='float')
  with pytest.raises(InputError, match='static ranges'):
    specs = {'fc': dataclasses.replace(ACTIVATIONS, dynamic=True)}
    found._replace(specs=specs).convert()


def test_groups_cannot_leave_the_sum():
  weights = AffineSpec(granularity='group', group_size=2)
  with pytest.raises(InputError, match="'fc': .*groups of 2"):
    dense_example(weights=weights).convert()


def test_channels_that_are_always_zero():
  def apply(variables, x):
    y = x @ variables['params']['fc']['kernel'] + jnp.asarray([[0.3, -0.7]])
    return y @ variables['params']['out']['kernel']

  params = {
    'fc': {'kernel': jnp.asarray([[0.0, 1e-9]] * 4)},
    'out': {'kernel': jnp.asarray([[1.0], [0.5]])},
  }
  x = jnp.linspace(0.0, 1.0, 8).reshape(2, 4)
  found = example(apply, {'params': params}, x)
  network = found.convert()
  assert max(code_differences(found, network, found.images).values()) == 0
  first = {'activations': {'fc': found.activations['fc']}}
  first['specs'] = {'fc': found.specs['fc']}
  with pytest.raises(InputError, match="'out': its input has no quantizer"):
    found._replace(**first).convert()
  assert integer.compare(network, found.twin, found.images).codes <= 1
