import jax
import jax.numpy as jnp
import pytest

from compress import graph, models

IMAGE = jax.ShapeDtypeStruct((1, 112, 112, 3), jnp.float32)

# Parameters and multiply-accumulates of InsightFace's layout, one photograph.
GOLDEN = {
  models.iresnet18: (24_025_600, 2_609_954_816),
  models.iresnet34: (34_139_328, 4_459_642_880),
  models.iresnet50: (43_590_848, 6_309_330_944),
  models.iresnet100: (65_156_160, 12_089_606_144),
}


def traced(module, batch=1):
  image = jax.ShapeDtypeStruct((batch, 112, 112, 3), jnp.float32)
  variables = jax.eval_shape(module.init, jax.random.key(0), IMAGE)
  return graph.trace(module.apply, variables, image)


@pytest.mark.parametrize('make', GOLDEN, ids=lambda make: make.__name__)
def test_iresnet_counts_are_exact(make):
  cost = graph.cost(traced(make()), weight_bits=6, activation_bits=6)
  parameters, macs = GOLDEN[make]
  assert cost.parameters == parameters
  assert cost.macs == macs
  assert cost.bops == 36 * macs


def test_published_bit_operations():
  # GBOPs of IResNet-18: 167.04 at w8a8, 93.96 at w6a6.
  net = traced(models.iresnet18())
  for bits, gbops in ((8, 167.04), (6, 93.96)):
    cost = graph.cost(net, weight_bits=bits, activation_bits=bits)
    assert abs(cost.bops / 1e9 - gbops) < 0.005


def test_macs_grow_with_the_batch():
  assert graph.cost(traced(models.SFace(), 4)).macs == 4 * 574_138_880


def test_bits_by_site():
  net = traced(models.SFace())
  first = net.sites[0]
  cost = graph.cost(
    net,
    weight_bits=4,
    activation_bits=lambda site: 8 if site.name == first.name else 4,
  )
  assert cost.bops == 16 * (cost.macs - first.macs) + 32 * first.macs
