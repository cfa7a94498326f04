import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.ad_checkpoint import checkpoint_name

from compress import graph, train
from compress.errors import InputError
from compress.prune import channel_selection as lib
from compress.prune import channel_selection_step as training

WIRING = {'conv1': 'conv2'}


class Net(nn.Module):
  @nn.compact
  def __call__(self, x):
    y = nn.Conv(6, (3, 3), name='conv1')(x)
    y = nn.BatchNorm(use_running_average=True, name='bn')(y)
    y = nn.relu(checkpoint_name(y, 'bn'))
    return x + nn.Conv(4, (3, 3), name='conv2')(y)


def build(actions=3, gates=None):
  net, x = Net(), jax.random.normal(jax.random.key(0), (5, 6, 6, 4))
  unit = lib.init_decision_unit(
    jax.random.key(2), inputs=4, outputs=6, actions=actions
  )
  if gates is not None:
    unit = unit._replace(gates=gates)
  variables = jax.jit(net.init)(jax.random.key(1), x)
  return net.apply, variables, {'conv1': unit}, x


def some_gates():
  gates = jax.random.uniform(jax.random.key(5), (3, 6), maxval=2.0)
  return jnp.where(gates < 1, 0, gates)


def test_one_action_with_gates_of_one_is_the_network():
  apply, variables, units, x = build(actions=1)
  selected = jax.jit(lib.attach_units(apply, WIRING))
  for key in (None, jax.random.key(0)):
    out, decisions = selected(variables, units, x, key=key)
    np.testing.assert_allclose(out, apply(variables, x), atol=1e-6)
  assert decisions['conv1'].gate.shape == (5, 6)


def test_a_decision_by_hand():
  unit = lib.DecisionUnit(
    jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.array([[1.0], [2.0]])
  )
  # Pooled and rectified: (1, 0) and (0, 3): the first action, the second.
  x = jnp.array([[[2.0, -4.0], [0.0, 0.0]], [[-1.0, 2.0], [-1.0, 4.0]]])
  found = lib.decide_channels(unit, x)
  np.testing.assert_array_equal(found.action, [0, 1])
  np.testing.assert_array_equal(found.gate, [[1], [2]])
  np.testing.assert_allclose(
    found.probabilities[:, 0], [1 / (1 + np.e**-1), 1 / (1 + np.e**3)], 1e-6
  )


def test_the_gate_acts_on_the_norms_result():
  apply, variables, units, x = build(gates=some_gates())
  out, decisions = lib.attach_units(apply, WIRING)(variables, units, x)
  gate = decisions['conv1'].gate[:, None, None]
  at_norm, _ = lib.attach_units(apply, {'conv1': 'bn'})(variables, units, x)

  def rule(site, op, value, *weight):
    out = op(value, *weight)
    return out * gate if site.name == 'bn' else out

  expected = graph.rewrite(apply, rule)(variables, x)
  np.testing.assert_allclose(out, expected, atol=1e-5)
  np.testing.assert_allclose(at_norm, expected, atol=1e-5)
  assert np.any(np.asarray(gate) == 0)


def test_inference_is_deterministic_and_sampling_follows_the_key():
  apply, variables, units, x = build(gates=some_gates())
  selected = jax.jit(lib.attach_units(apply, WIRING))
  one, _ = selected(variables, units, x)
  again, _ = selected(variables, units, x)
  np.testing.assert_array_equal(one, again)
  actions = [
    selected(variables, units, x, key=jax.random.key(i))[1]['conv1'].action
    for i in (0, 0, 1, 2, 3)
  ]
  np.testing.assert_array_equal(actions[0], actions[1])
  assert len({tuple(np.asarray(a)) for a in actions}) > 1


def test_gradients_of_gates_are_those_of_the_hard_choice():
  unit = build(gates=some_gates())[2]['conv1']
  x = jax.random.normal(jax.random.key(7), (5, 3, 4))
  weights = jax.random.normal(jax.random.key(8), (5, 6))
  key = jax.random.key(9)

  def loss(unit):
    return jnp.sum(weights * lib.decide_channels(unit, x, key=key).gate ** 2)

  found = lib.decide_channels(unit, x, key=key)
  slope = jax.grad(loss)(unit)
  hard = jax.nn.one_hot(found.action, 3)
  np.testing.assert_allclose(found.gate, hard @ unit.gates, atol=1e-6)
  np.testing.assert_allclose(
    slope.gates, hard.T @ (2 * weights * found.gate), atol=1e-5
  )
  assert np.abs(slope.head).max() > 1e-4


def test_projection_clamps_and_normalises():
  unit = lib.DecisionUnit(
    jnp.array([[3.0, 4.0], [0.0, 0.0]]), jnp.array([[-1.0, 7.0], [0.5, 2.0]])
  )
  found = lib.project_units({'a': unit})['a']
  np.testing.assert_allclose(found.head, [[0.6, 0.8], [0, 0]], rtol=1e-6)
  np.testing.assert_array_equal(found.gates, [[0, 5], [0.5, 2]])


def test_penalty_and_temperature_by_hand():
  gate = jnp.array([[1.0, 0.0], [2.0, 1.0]])
  decision = lib.Decision(gate, jnp.zeros(2, int), gate)
  found = training.selection_penalty({'a': decision}, density=0.5, weight=2.0)
  np.testing.assert_allclose(found, 2 * 0.5**2)
  taus = [
    training.selection_temperature(step, steps=10) for step in (0, 5, 10, 99)
  ]
  np.testing.assert_allclose(taus, [5, 2.75, 0.5, 0.5])


def test_macs_are_active_inputs_times_active_outputs():
  apply, variables, units, x = build(gates=some_gates())
  _, decisions = lib.attach_units(apply, WIRING)(variables, units, x)
  traced = graph.trace(apply, variables, x[:1])
  found = lib.sample_macs(traced, WIRING, decisions)
  active = np.sum(np.asarray(decisions['conv1'].gate) > 0, axis=1)
  np.testing.assert_allclose(found, 6 * 6 * 9 * (4 * active + active * 4))
  assert lib.active_density(decisions) == pytest.approx(active.mean() / 6)
  other = lib.sample_macs(
    traced, {'conv1': 'bn'}, decisions, readers={'conv1': ['conv2']}
  )
  np.testing.assert_array_equal(found, other)
  with pytest.raises(InputError, match="'bn' is no layer"):
    lib.sample_macs(traced, {'conv1': 'bn'}, decisions)


def test_decision_paths():
  gate = jnp.ones((2, 1))
  decisions = {
    'b': lib.Decision(gate, jnp.array([1, 2]), gate),
    'a': lib.Decision(gate, jnp.array([0, 3]), gate),
  }
  np.testing.assert_array_equal(lib.decision_paths(decisions), [[0, 1], [3, 2]])


def test_training_brings_the_density_to_the_target():
  x = jax.random.normal(jax.random.key(0), (32, 4))
  labels = (x[:, 0] > 0).astype(jnp.int32)
  unit = lib.init_decision_unit(
    jax.random.key(1), inputs=4, outputs=8, actions=3
  )
  keys = jax.random.split(jax.random.key(2), 2)
  params = {
    'a': 0.5 * jax.random.normal(keys[0], (4, 8)),
    'b': 0.5 * jax.random.normal(keys[1], (8, 2)),
  }

  def apply(params, x):
    return nn.relu(x @ params['a']) @ params['b']

  selected = lib.attach_units(apply, {'a': 'b'})

  def loss(params, units, batch, *, key, temperature):
    logits, decisions = selected(
      params, units, batch[0], key=key, temperature=temperature
    )
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch[1])
    return jnp.mean(loss), decisions

  init, step = training.make_selection_step(
    loss,
    params_optimizer=train.sgd(0.05, momentum=0.9),
    units_optimizer=train.adam(0.02),
    density=0.4,
  )

  @jax.jit
  def run(state):
    def body(state, i):
      tau = training.selection_temperature(i, steps=200)
      key = jax.random.fold_in(jax.random.key(3), i)
      return step(state, (x, labels), key=key, temperature=tau)

    return jax.lax.scan(body, state, jnp.arange(200))

  state, metrics = run(init(params, {'a': unit}))
  assert abs(np.mean(metrics['density'][-20:]) - 0.4) < 0.08
  assert metrics['loss'][-1] < 0.3 < metrics['loss'][0]
  head = state.units['a'].head
  np.testing.assert_allclose(jnp.linalg.norm(head, axis=1), 1, rtol=1e-5)


def test_bad_wiring_gets_one_line():
  apply, variables, units, x = build()

  def run(wiring, units=units, apply=apply):
    return lib.attach_units(apply, wiring)(variables, units, x)

  with pytest.raises(InputError, match='units for'):
    run(WIRING, {})
  with pytest.raises(InputError, match="no site 'conv3'"):
    run({'conv1': 'conv3'})
  with pytest.raises(InputError, match="no site 'conv0'"):
    run({'conv0': 'conv3'}, {'conv0': units['conv1']})
  with pytest.raises(InputError, match='comes before'):
    run({'conv2': 'conv1'}, {'conv2': units['conv1']})
  wrong = lib.init_decision_unit(
    jax.random.key(0), inputs=4, outputs=5, actions=2
  )
  with pytest.raises(InputError, match='does not fit'):
    run(WIRING, {'conv1': wrong})
  wrong = lib.init_decision_unit(
    jax.random.key(0), inputs=3, outputs=6, actions=2
  )
  with pytest.raises(InputError, match='the unit is for 3'):
    run(WIRING, {'conv1': wrong})
  with pytest.raises(InputError, match='density'):
    training.selection_penalty({}, density=0.0)
  with pytest.raises(InputError, match='at least 1'):
    lib.init_decision_unit(jax.random.key(0), inputs=3, outputs=6, actions=0)
