import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from compress import graph, synthesize
from compress.errors import InputError
from compress.graph import BatchNormInput
from compress.synthesize import batch_norm_loss, input_loss, statistics_loss


class Net(nn.Module):
  """Two convolutions and a dense layer, each with a BatchNorm."""

  @nn.compact
  def __call__(self, x, train=False):
    def norm(name):
      return nn.BatchNorm(
        use_running_average=not train, momentum=0.0, name=name
      )

    x = nn.relu(norm('first')(nn.Conv(4, (3, 3))(x)))
    x = nn.relu(norm('second')(nn.Conv(3, (3, 3), strides=2)(x)))
    return norm('last')(nn.Dense(5)(x.reshape(x.shape[0], -1)))


def images(count=6, seed=0):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.normal(0.3, 0.8, (count, 6, 6, 2)), jnp.float32)


def trained(x):
  """A network whose running statistics are those of one batch."""
  variables = Net().init(jax.random.key(0), x)
  _, moved = Net().apply(variables, x, train=True, mutable=['batch_stats'])
  return {**variables, **moved}


def one(value, mean, variance):
  return {'bn': BatchNormInput(*map(jnp.asarray, (value, mean, variance)))}


def test_by_hand():
  # Sample means (1, 3), deviations (1, 1); batch mean 2, variance 2.
  value = np.array([[0.0, 2.0], [2.0, 4.0]], np.float32).reshape(2, 2, 1, 1)
  found = one(value, np.float32([1.0]), np.float32([4.0]))
  sample = statistics_loss(found)
  np.testing.assert_allclose(sample, (0 + 1 + 4 + 1) / 2, rtol=1e-5)
  batch = statistics_loss(found, statistics='batch')
  np.testing.assert_allclose(batch, 1 + (2 - 2**0.5) ** 2, rtol=1e-5)
  inversion = statistics_loss(found, statistics='deepinversion')
  np.testing.assert_allclose(inversion, 1 + 2, rtol=1e-5)
  relative = statistics_loss(found, statistics='batch', relative=True)
  np.testing.assert_allclose(relative, batch / 4, rtol=1e-5)


@pytest.mark.parametrize('statistics', ['batch', 'deepinversion'])
def test_zero_on_the_batch_that_gave_the_statistics(statistics):
  x = images()
  variables = trained(x)
  loss_fn = batch_norm_loss(Net().apply, statistics=statistics)
  value, grad = jax.value_and_grad(loss_fn)(x, variables)
  assert 0 <= value < 1e-5
  assert np.isfinite(grad).all()
  assert loss_fn(images(seed=1), variables) > 1e-2


def test_zero_on_one_image_by_its_own_statistics():
  x = images(1).repeat(4, axis=0)
  found = graph.tap_batch_norms(Net().apply)(trained(x), x)[1]
  places = {k: v for k, v in found.items() if k != 'last'}
  assert 0 <= statistics_loss(places) < 1e-5


def test_what_has_one_place_takes_the_batch():
  value = np.array([[0.0], [2.0]], np.float32)
  found = one(value, np.float32([1.0]), np.float32([1.0]))
  assert statistics_loss(found) < 1e-6
  alone = one(value[:1], np.float32([1.0]), np.float32([9.0]))
  for statistics in ('sample', 'batch', 'deepinversion'):
    loss = statistics_loss(alone, statistics=statistics)
    np.testing.assert_allclose(loss, 1.0)


def test_gradients_reach_images_alone_and_are_finite_at_constants():
  x = images()
  variables = trained(x)
  loss_fn = batch_norm_loss(
    Net().apply,
    input_moments=(0.0, 1.0),
    total_variation_weight=0.1,
    mean_square_weight=0.1,
  )
  ours, theirs = jax.grad(loss_fn, argnums=(0, 1))(0 * x, variables)
  assert np.isfinite(ours).all()
  assert all((leaf == 0).all() for leaf in jax.tree.leaves(theirs))
  assert (jax.grad(loss_fn)(x, variables) != 0).any()


def test_bfloat16_gives_a_float32_loss():
  x = images().astype(jnp.bfloat16)
  found = one(x, np.zeros(2, np.float32), np.ones(2, np.float32))
  assert statistics_loss(found).dtype == jnp.float32


def test_input_loss():
  x = images(64)
  assert input_loss((x - 0.3) / 0.8, statistics='batch') < 1e-2
  mean, std = float(x.mean()), float(x.std())
  close = input_loss(x, mean=mean, std=std, statistics='batch')
  assert close < 1e-2 < input_loss(x, statistics='batch')


@pytest.mark.parametrize('statistics', synthesize.STATISTICS)
def test_same_value_sharded(statistics):
  x = images(8)
  variables = trained(x)
  loss_fn = jax.jit(batch_norm_loss(Net().apply, statistics=statistics))
  mesh = jax.make_mesh((8,), ('data',))
  spread = jax.device_put(2 * x, NamedSharding(mesh, P('data')))
  np.testing.assert_allclose(
    loss_fn(spread, variables), loss_fn(2 * x, variables), rtol=1e-5
  )


def test_descent_finds_the_statistics():
  variables = trained(images())
  loss_fn = batch_norm_loss(Net().apply, statistics='batch')
  made = synthesize.synthesize(
    loss_fn,
    jax.random.normal(jax.random.key(1), (6, 6, 6, 2)),
    variables,
    steps=60,
    learning_rate=0.1,
    progress=False,
  )
  assert made.loss[-1] < 0.05 * made.loss[0]
  thirds = made.loss.reshape(3, -1).mean(1)
  assert (np.diff(thirds) < 0).all()


def test_errors():
  with pytest.raises(InputError, match='has no BatchNorm'):
    statistics_loss({})
  with pytest.raises(InputError, match="statistics is 'all'"):
    batch_norm_loss(Net().apply, statistics='all')
  negative = batch_norm_loss(Net().apply, total_variation_weight=-1.0)
  with pytest.raises(InputError, match='0 or more'):
    negative(images(), trained(images()))
  folded = graph.fold(Net().apply, trained(images()), images())
  plain = batch_norm_loss(lambda v, x: x.sum())
  with pytest.raises(InputError, match='folded'):
    plain(images(), folded.variables)
