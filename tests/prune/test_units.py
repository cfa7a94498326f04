import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

from compress import graph
from compress.errors import InputError
from compress.prune.penalties import unit_energy
from compress.prune.units import gate_units, init_gates, tap_units

PLACES = {
  'conv/kernel': 'relu',
  'depthwise/kernel': 'depthwise',
  'input': 'conv:input',
  'fc/kernel': 'fc',
  'flat': 'fc:input',
}


class Net(nn.Module):
  @nn.compact
  def __call__(self, x):
    x = checkpoint_name(nn.relu(nn.Conv(4, (3, 3), name='conv')(x)), 'relu')
    x = nn.Conv(4, (3, 3), feature_group_count=4, name='depthwise')(x)
    return nn.Dense(2, name='fc')(x.mean((1, 2)))


def make():
  x = jax.random.normal(jax.random.key(0), (5, 6, 6, 3))
  variables = Net().init(jax.random.key(1), x)
  return variables, x, graph.trace(Net().apply, variables, x)


def test_gates_of_one_change_nothing():
  variables, x, traced = make()
  gates = init_gates(traced, PLACES)
  sizes = {key: gate.shape for key, gate in gates.items()}
  assert sizes == {
    'conv/kernel': (4,),
    'depthwise/kernel': (4,),
    'input': (3,),
    'fc/kernel': (2,),
    'flat': (4,),
  }
  got = jax.jit(gate_units(Net().apply, PLACES))(variables, gates, x)
  np.testing.assert_allclose(got, Net().apply(variables, x), rtol=1e-6)


def test_a_gate_of_zero_removes_its_unit():
  variables, x, traced = make()
  gated = gate_units(Net().apply, PLACES)
  gates = init_gates(traced, PLACES)
  params = variables['params']
  fc = {**params['fc'], 'kernel': params['fc']['kernel'].at[2].set(0)}
  conv = {
    **params['conv'],
    'kernel': params['conv']['kernel'].at[:, :, 1].set(0),
  }
  for key, i, other in (
    ('flat', 2, {**params, 'fc': fc}),
    ('input', 1, {**params, 'conv': conv}),
  ):
    got = gated(variables, {**gates, key: gates[key].at[i].set(0)}, x)
    expected = Net().apply({'params': other}, x)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_taps_hand_out_the_units():
  variables, x, _ = make()
  out, found = tap_units(Net().apply, PLACES)(variables, x)
  np.testing.assert_allclose(out, Net().apply(variables, x), rtol=1e-6)
  assert list(found) == list(PLACES)
  np.testing.assert_array_equal(found['input'], x)
  assert found['conv/kernel'].shape == (5, 6, 6, 4)
  assert (found['conv/kernel'] >= 0).all()
  np.testing.assert_allclose(
    found['fc/kernel'],
    found['flat'] @ variables['params']['fc']['kernel'],
    rtol=1e-5,
    atol=1e-6,
  )


def test_a_penalty_on_tapped_units_has_a_gradient():
  variables, x, _ = make()
  tapped = tap_units(Net().apply, {'conv/kernel': 'relu'})

  def loss(variables):
    return unit_energy(tapped(variables, x)[1], strength=1.0, power=1)

  grads = jax.grad(loss)(variables)['params']
  assert (grads['conv']['kernel'] != 0).any()
  assert (grads['fc']['kernel'] == 0).all()


def test_gates_are_shared_by_the_steps_of_a_scan():
  def apply(w, x):
    def step(carry, _):
      return checkpoint_name(carry * w, 'state'), None

    return jax.lax.scan(step, x, None, length=3)[0]

  gated = gate_units(apply, {'w': 'state'})
  w, x = jnp.array([2.0, 3.0]), jnp.ones(2)

  def total(gates):
    return gated(w, gates, x).sum()

  grad = jax.grad(total)({'w': jnp.ones(2)})
  np.testing.assert_allclose(grad['w'], 3 * np.array([8, 27]))


def test_bad_places_are_refused():
  variables, x, traced = make()
  with pytest.raises(InputError, match="no place 'nowhere'"):
    init_gates(traced, {'a': 'nowhere'})
  with pytest.raises(InputError, match="no place 'nowhere'"):
    tap_units(Net().apply, {'a': 'nowhere'})(variables, x)
  with pytest.raises(InputError, match='one key a place'):
    gate_units(Net().apply, {'a': 'relu', 'b': 'relu'})
  with pytest.raises(InputError, match='no single activation'):
    init_gates(traced, {'a': 'relu:input'})
