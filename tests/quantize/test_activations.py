import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from compress import graph as graph_lib
from compress.compressor import KEEP
from compress.quantize import (
  INPUTS,
  QUANTFACE,
  AffineSpec,
  QParams,
  activation_plan,
  affine,
  calibrate,
  cumulative,
  ema_minmax,
  finalize,
  lsq,
  minmax,
  observe,
  observe_and_quantize,
  observe_batches,
  placed_names,
  quantize_activations,
)

SPEC = AffineSpec(bits=4, symmetric=False, bounds='unsigned')
DYNAMIC = AffineSpec(bits=4, symmetric=False, bounds='unsigned', dynamic=True)


def prelu(x, name):
  return checkpoint_name(jnp.where(x > 0, x, 0.25 * x), name)


class Net(nn.Module):
  """A residual block between a stem and a dense layer."""

  @nn.compact
  def __call__(self, x):
    x = prelu(nn.Conv(4, (3, 3), name='stem')(x), 'stem/prelu')
    y = nn.Conv(
      4, (3, 3), feature_group_count=4, use_bias=False, name='depthwise'
    )(x)
    x = checkpoint_name(x + prelu(y, 'block/prelu'), 'block/add')
    x = nn.Conv(3, (2, 2), strides=2, name='conv')(x)
    x = nn.Dense(5, name='fc')(x.reshape(x.shape[0], -1))
    return checkpoint_name(x, 'embedding')


class NnxNet(nnx.Module):
  def __init__(self, rngs):
    self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
    self.fc = nnx.Linear(4, 2, rngs=rngs)

  def __call__(self, x):
    x = prelu(self.conv(x), 'prelu')
    return self.fc(x.mean((1, 2)))


@functools.cache
def linen():
  net = Net()
  x = jax.random.normal(jax.random.key(0), (8, 6, 6, 3))
  return net.apply, net.init(jax.random.key(1), x), x


@functools.cache
def nnx_model():
  definition, state = nnx.split(NnxNet(nnx.Rngs(0)))
  x = jax.random.normal(jax.random.key(0), (8, 4, 4, 3))
  return lambda state, x: nnx.merge(definition, state)(x), state, x


def plain(variables, x):
  """Attention of three tokens on each other, and a dense layer."""
  query = x @ variables['query']
  scores = jax.nn.softmax(query @ query.mT)
  x = checkpoint_name(x + scores @ x, 'attention/add')
  return x @ variables['out']


@functools.cache
def plain_model():
  keys = jax.random.split(jax.random.key(0), 3)
  variables = {
    'query': jax.random.normal(keys[0], (4, 4)),
    'out': jax.random.normal(keys[1], (4, 2)),
  }
  return plain, variables, jax.random.normal(keys[2], (8, 3, 4))


MODELS = {'linen': linen, 'nnx': nnx_model, 'plain': plain_model}
NAMES = {
  ('linen', 'inputs'): ('stem', 'depthwise', 'conv', 'fc'),
  ('linen', 'quantface'): ('stem/prelu', 'block/prelu', 'block/add'),
  ('nnx', 'inputs'): ('conv', 'fc'),
  ('nnx', 'quantface'): ('prelu',),
  ('plain', 'inputs'): (
    'query',
    'dot_general:lhs',
    'dot_general:rhs',
    'dot_general#1:lhs',
    'dot_general#1:rhs',
    'out',
  ),
  ('plain', 'quantface'): ('attention/add',),
}
CASES = [
  (model, placement) for model in MODELS for placement in (INPUTS, QUANTFACE)
]


@pytest.fixture(params=CASES, ids=lambda c: f'{c[0]}-{c[1].name}')
def case(request):
  model, placement = request.param
  apply, variables, x = MODELS[model]()
  return apply, variables, x, placement, NAMES[model, placement.name]


def everywhere(names, spec=SPEC):
  return dict.fromkeys(names, spec)


def close(a, b, **options):
  np.testing.assert_allclose(a, b, **{'rtol': 1e-6, 'atol': 1e-6} | options)


def equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_names(case):
  apply, variables, x, placement, names = case
  graph = graph_lib.trace(apply, variables, x)
  assert placed_names(graph, placement) == names


def test_first_layer_by_a_plan():
  apply, variables, x = linen()
  graph = graph_lib.trace(apply, variables, x)
  rules = [('stem', AffineSpec()), ('fc', KEEP), ('no', SPEC), ('.*', SPEC)]
  plan = activation_plan(graph, INPUTS, rules)
  assert plan.specs == {
    'stem': AffineSpec(),
    'depthwise': SPEC,
    'conv': SPEC,
  }
  assert plan.unused == ('no',)
  assert plan.uncovered == ()


@pytest.mark.parametrize(
  'name, quantized',
  [
    ('prelu', True),
    ('stage1/block0/prelu', True),
    ('stage1/block0/prelu2', True),
    ('stage1/block0/add', True),
    ('stage1/block0/add#3', True),
    ('embedding', False),
    ('address', False),
    ('prelude/bn', False),
  ],
)
def test_what_quantface_quantizes(name, quantized):
  graph = graph_lib.trace(
    lambda v, x: checkpoint_name(x, name), {}, jnp.ones((1,))
  )
  assert placed_names(graph, QUANTFACE) == ((name,) if quantized else ())


def test_values_are_quantized_where_the_placement_says():
  variables = {
    'a': jnp.array([[1.0, -1.0], [0.5, 2.0]]),
    'b': jnp.array([[1.0], [1.0]]),
  }

  def apply(variables, x):
    y = prelu(x @ variables['a'], 'prelu')
    return y @ variables['b']

  x = jnp.array([[0.3, 1.0], [1.2, 0.6]])
  # Scales of 1 and 1/2 that saturate at 15 and 7.5.
  one, half = (QParams(jnp.float32(s), jnp.int32(0)) for s in (1, 0.5))
  inputs = quantize_activations(apply, INPUTS, {'a': SPEC, 'b': SPEC})
  # x -> [[0, 1], [1, 1]] -> [[0.5, 2], [1.5, 1]]
  equal(inputs(variables, {'a': one, 'b': half}, x), [[2.5], [2.5]])
  # x a is [[0.8, 1.7], [1.5, 0]] -> [[1, 1.5], [1.5, 0]]
  outputs = quantize_activations(apply, QUANTFACE, {'prelu': SPEC})
  equal(outputs(variables, {'prelu': half}, x), [[2.5], [1.5]])


def test_both_operands_of_a_product_of_activations():
  def apply(variables, x):
    del variables
    return x @ x.T

  x = jnp.array([[0.3, 1.2], [2.4, 0.7]])
  one, half = (QParams(jnp.float32(s), jnp.int32(0)) for s in (1, 0.5))
  names = ('dot_general:lhs', 'dot_general:rhs')
  run = quantize_activations(apply, INPUTS, everywhere(names))
  out = run({}, dict(zip(names, (one, half), strict=True)), x)
  left, right = np.array([[0, 1], [2, 1]]), np.array([[0.5, 1], [2.5, 0.5]])
  equal(out, left @ right.T)
  lhs_only = quantize_activations(apply, INPUTS, {names[0]: SPEC})
  close(lhs_only({}, {names[0]: one}, x), left @ np.asarray(x).T)


BATCHES = [jnp.array([[-1.0, 2.0]]), jnp.array([[0.5, 3.0]])]


@pytest.mark.parametrize(
  'observer, lo, hi, zero_point',
  [
    (minmax(), -1, 3, 4),
    (cumulative(), -1, 3, 4),
    (ema_minmax(decay=0.5), -0.25, 2.5, 1),
  ],
)
def test_ranges_by_hand(observer, lo, hi, zero_point):
  options = {'placement': INPUTS, 'specs': {'w': SPEC}, 'observer': observer}
  apply = lambda v, x: x @ v['w']  # noqa: E731
  variables = {'w': jnp.ones((2, 1))}
  states = observe_batches(apply, variables, BATCHES, **options)
  equal(observer.range(states['w'], SPEC), (lo, hi))
  qparams = finalize(states, {'w': SPEC}, observer)['w']
  close(qparams.scale, (hi - lo) / 15)
  assert qparams.zero_point == zero_point  # round(-15 lo / (hi - lo))
  equal(calibrate(apply, variables, BATCHES, **options)['w'], qparams)


def test_observing_changes_no_value_and_sees_every_place(case):
  apply, variables, x, placement, names = case
  specs = everywhere(names)
  observer = minmax()
  states = {name: observer.init(()) for name in names}
  out, states = observe(apply, placement, specs, observer)(variables, states, x)
  equal(out, apply(variables, x))
  assert sorted(states) == sorted(names)
  for name in names:
    lo, hi = observer.range(states[name], SPEC)
    assert np.isfinite(lo) and lo < hi, name
  if names[0] in ('stem', 'conv', 'query'):
    equal(observer.range(states[names[0]], SPEC), (x.min(), x.max()))


def test_later_places_are_observed_in_float():
  # Observing takes no quantized value: the ranges do not depend on each other.
  apply, variables, x = linen()
  names = NAMES['linen', 'inputs']
  options = {'placement': INPUTS, 'observer': minmax()}
  all_at_once = calibrate(
    apply, variables, [x], specs=everywhere(names), **options
  )
  alone = calibrate(apply, variables, [x], specs={'fc': SPEC}, **options)
  assert sorted(all_at_once) == sorted(names)
  equal(alone['fc'], all_at_once['fc'])


def test_dynamic_equals_static_calibrated_on_the_same_batch(case):
  apply, variables, x, placement, names = case
  dynamic = quantize_activations(apply, placement, everywhere(names, DYNAMIC))
  # Each range comes from inputs that are themselves quantized, so static ones
  # are found from the first to the last.
  found = {}
  for i, name in enumerate(names):
    before = quantize_activations(apply, placement, everywhere(names[:i]))
    found |= calibrate(
      lambda v, x, f=before, given=dict(found): f(v, given, x),
      variables,
      [x],
      placement=placement,
      specs={name: SPEC},
      observer=minmax(),
    )
  static = quantize_activations(apply, placement, everywhere(names))
  assert list(found) == list(names)
  close(static(variables, found, x), dynamic(variables, {}, x), rtol=1e-4)
  out = np.asarray(dynamic(variables, {}, x))
  assert (out != np.asarray(apply(variables, x))).any()


def test_one_place_dynamic_equals_static_bit_for_bit(case):
  apply, variables, x, placement, names = case
  observer = minmax()
  for name in names:
    seen = observe(apply, placement, {name: SPEC}, observer)
    _, states = seen(variables, {name: observer.init(())}, x)
    static = finalize(states, {name: SPEC}, observer)
    runs = [
      quantize_activations(apply, placement, {name: spec})(variables, given, x)
      for spec, given in ((SPEC, static), (DYNAMIC, {}))
    ]
    equal(*runs)


def test_observe_and_quantize_freezes_when_inactive():
  apply, variables, x = linen()
  names = NAMES['linen', 'quantface']
  specs = everywhere(names)
  observer = cumulative()
  run = jax.jit(observe_and_quantize(apply, QUANTFACE, specs, observer))
  states = {name: observer.init(()) for name in names}
  out, first = run(variables, states, jnp.bool_(True), x)
  # The batch is quantized with the range that it has just widened.
  fixed = quantize_activations(apply, QUANTFACE, specs)
  given = finalize(first, specs, observer)
  close(out, fixed(variables, given, x), rtol=1e-5)
  frozen_out, frozen = run(variables, first, jnp.bool_(False), 3 * x)
  equal(frozen, first)
  close(frozen_out, fixed(variables, given, 3 * x), rtol=1e-5)
  _, later = run(variables, first, jnp.bool_(True), 3 * x)
  lo, hi = observer.range(first['stem/prelu'], SPEC)
  wide = observer.range(later['stem/prelu'], SPEC)
  assert wide[0] < lo and hi < wide[1]


def test_quantface_updates_for_299_steps():
  apply = lambda v, x: checkpoint_name(v['w'] * x, 'prelu')  # noqa: E731
  observer = cumulative()
  run = observe_and_quantize(apply, QUANTFACE, {'prelu': SPEC}, observer)
  variables = {'w': jnp.ones(())}

  def step(carry, i):
    active = i < 299
    _, states = run(variables, carry, active, i.astype(jnp.float32)[None])
    return states, None

  states, _ = jax.lax.scan(step, {'prelu': observer.init(())}, jnp.arange(400))
  equal(observer.range(states['prelu'], SPEC), (0, 298))


@pytest.mark.parametrize('wrong', ['', 'stem2', 'fc:lhs'])
def test_a_missing_activation(wrong):
  apply, variables, x = linen()
  specs = {wrong: SPEC}
  states = {wrong: minmax().init(())}
  given = {wrong: QParams(jnp.float32(1), jnp.int32(0))}
  with pytest.raises(ValueError, match=f'no activation {wrong!r}'):
    quantize_activations(apply, INPUTS, specs)(variables, given, x)
  with pytest.raises(ValueError, match=f'no activation {wrong!r}'):
    observe(apply, INPUTS, specs, minmax())(variables, states, x)


def test_rules_that_replaced_the_site_are_found_out():
  apply, variables, x = linen()
  fast = graph_lib.rewrite(apply, graph_lib.cpu_rules(enabled=True))
  run = quantize_activations(fast, INPUTS, {'depthwise': DYNAMIC})
  with pytest.raises(ValueError, match="no activation 'depthwise'"):
    run(variables, {}, x)


def looped(variables, x):
  """A layer three times over, inside `scan`."""

  def body(x, w):
    return jnp.tanh(x @ w), None

  x, _ = jax.lax.scan(body, x, variables['layers'])
  return x @ variables['out']


def looped_model():
  keys = jax.random.split(jax.random.key(0), 3)
  variables = {
    'layers': jax.random.normal(keys[0], (3, 4, 4)),
    'out': jax.random.normal(keys[1], (4, 2)),
  }
  return looped, variables, jax.random.normal(keys[2], (5, 4))


def test_inside_scan():
  apply, variables, x = looped_model()
  names = placed_names(graph_lib.trace(apply, variables, x), INPUTS)
  assert names == ('layers', 'out')
  dynamic = quantize_activations(apply, INPUTS, everywhere(names, DYNAMIC))

  def fake(x):
    return affine.fake_quantize(x, None, DYNAMIC)

  y = x
  for w in variables['layers']:
    y = jnp.tanh(fake(y) @ w)
  close(dynamic(variables, {}, x), fake(y) @ variables['out'], rtol=1e-5)
  assert (dynamic(variables, {}, x) != apply(variables, x)).any()
  # One static range serves all iterations, if it is given.
  shared = {n: QParams(jnp.float32(0.25), jnp.int32(8)) for n in names}
  static = quantize_activations(apply, INPUTS, everywhere(names))
  assert np.isfinite(static(variables, shared, x)).all()
  observer = minmax()
  states = {name: observer.init(()) for name in names}
  specs = everywhere(names)
  for run, args in (
    (observe(apply, INPUTS, specs, observer), (states,)),
    (
      observe_and_quantize(apply, INPUTS, specs, observer),
      (states, jnp.bool_(True)),
    ),
  ):
    with pytest.raises(NotImplementedError, match="'layers' lies inside"):
      run(variables, *args, x)
  mixed = {'layers': DYNAMIC, 'out': SPEC}
  found = calibrate(
    apply, variables, [x], placement=INPUTS, specs=mixed, observer=observer
  )
  assert list(found) == ['out']


def test_further_rules_give_the_same_numbers():
  apply, variables, x = linen()
  names = NAMES['linen', 'inputs']
  specs = everywhere(names, AffineSpec(symmetric=False, bounds='unsigned'))
  rules = (graph_lib.cpu_rules(enabled=True),)
  options = {'placement': INPUTS, 'specs': specs, 'observer': minmax()}
  slow = calibrate(apply, variables, [x], **options)
  fast = calibrate(apply, variables, [x], rules=rules, **options)
  jax.tree.map(close, slow, fast)
  run = quantize_activations(apply, INPUTS, specs)
  run_fast = quantize_activations(apply, INPUTS, specs, rules=rules)

  def loss(run):
    return lambda v, q: (jax.jit(run)(v, q, x) ** 2).mean()

  expected = jax.value_and_grad(loss(run))(variables, slow)
  got = jax.value_and_grad(loss(run_fast))(variables, slow)
  jax.tree.map(lambda a, b: close(a, b, rtol=1e-4, atol=1e-5), got, expected)


def test_jit_grad_and_vmap(case):
  apply, variables, x, placement, names = case
  run = quantize_activations(apply, placement, everywhere(names))
  given = calibrate(
    apply,
    variables,
    [x],
    placement=placement,
    specs=everywhere(names),
    observer=minmax(),
  )
  out = run(variables, given, x)
  close(jax.jit(run)(variables, given, x), out, rtol=1e-5)

  def loss(variables, x):
    return (run(variables, given, x) ** 2).mean()

  # Straight through: what the float network's gradient is, nearly.
  grads = jax.jit(jax.grad(loss))(variables, x)
  plain_loss = lambda v, x: (apply(v, x) ** 2).mean()  # noqa: E731
  floats = jax.jit(jax.grad(plain_loss))(variables, x)
  for got, near in zip(
    jax.tree.leaves(grads), jax.tree.leaves(floats), strict=True
  ):
    assert np.isfinite(got).all() and np.any(got)
    cosine = (got * near).sum() / jnp.linalg.norm(got) / jnp.linalg.norm(near)
    assert cosine > 0.8
  # Over seeds, and over examples.
  stacked = jax.tree.map(lambda v: jnp.stack([v, 0.5 * v]), variables)
  over_seeds = jax.jit(jax.vmap(run, (0, None, None)))(stacked, given, x)
  close(over_seeds[0], out, rtol=1e-5)
  one = lambda x: run(variables, given, x[None])[0]  # noqa: E731
  single = jax.jit(jax.vmap(one))(x)
  close(single, out, rtol=1e-5)


def test_sharded_over_eight_devices():
  apply, variables, x = linen()
  names = NAMES['linen', 'inputs']
  specs = everywhere(names)
  observer = minmax()
  mesh = Mesh(np.asarray(jax.devices()), ('data',))
  assert mesh.size == 8
  rows = jax.device_put(x, NamedSharding(mesh, PartitionSpec('data')))
  whole = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
  states = {name: observer.init(()) for name in names}
  run = jax.jit(observe(apply, INPUTS, specs, observer))
  _, alone = run(variables, states, x)
  _, spread = run(whole, states, rows)
  jax.tree.map(close, alone, spread)
  given = finalize(alone, specs, observer)
  for spec in (SPEC, DYNAMIC):
    quantized = jax.jit(
      quantize_activations(apply, INPUTS, everywhere(names, spec))
    )
    loss = lambda v, x, f=quantized: (f(v, given, x) ** 2).mean()  # noqa: E731
    expected = jax.value_and_grad(loss)(variables, x)
    got = jax.value_and_grad(loss)(whole, rows)
    jax.tree.map(lambda a, b: close(a, b, rtol=1e-4, atol=1e-5), got, expected)


def test_nothing_quantized_is_the_float_network(case):
  apply, variables, x, placement, names = case
  graph = graph_lib.trace(apply, variables, x)
  plan = activation_plan(graph, placement, [('.*', KEEP)])
  run = quantize_activations(apply, placement, plan.specs)
  equal(run(variables, {}, x), apply(variables, x))
  wide = AffineSpec(bits=16, symmetric=False, bounds='unsigned', dynamic=True)
  run = quantize_activations(apply, placement, everywhere(names, wide))
  out = apply(variables, x)
  close(run(variables, {}, x), out, atol=1e-3 * float(jnp.abs(out).max()))


def test_learned_scales():
  apply, variables, x = linen()
  names = NAMES['linen', 'inputs']
  specs = everywhere(names)
  given = calibrate(
    apply,
    variables,
    [x],
    placement=INPUTS,
    specs=specs,
    observer=minmax(),
  )

  def learned(x, q, spec):
    return lsq.lsq(x, q.scale, spec, zero_point=q.zero_point)

  run = quantize_activations(apply, INPUTS, specs, quantizer=learned)
  fixed = quantize_activations(apply, INPUTS, specs)
  equal(run(variables, given, x), fixed(variables, given, x))

  def loss(scales):
    qs = {n: q._replace(scale=scales[n]) for n, q in given.items()}
    return (run(variables, qs, x) ** 2).mean()

  grads = jax.jit(jax.grad(loss))({n: q.scale for n, q in given.items()})
  assert sorted(grads) == sorted(names)
  assert all(np.isfinite(g) and g != 0 for g in grads.values())
