"""Trained intervals, and activations whose precision is drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress.errors import InputError
from compress.quantize import (
  INPUTS,
  AffineSpec,
  Drawn,
  draw_precision,
  drawn_quantizer,
  init_interval,
  quantize_activations,
  quantize_interval,
  quantize_intervals,
)

WEIGHTS = AffineSpec(bits=3)
ACTIVATIONS = AffineSpec(bits=2, bounds='unsigned')


def by_hand(v, interval, spec):
  """QKD's formulas, the rounding straight-through, for autodiff."""
  low = -1.0 if spec.bounds == 'narrow' else 0.0
  z = jnp.clip(v / interval, low, 1.0) * spec.qmax
  return interval * (z + jax.lax.stop_gradient(jnp.round(z) - z)) / spec.qmax


@pytest.mark.parametrize('spec', [WEIGHTS, ACTIVATIONS])
def test_values_and_gradients_are_the_papers(spec):
  v = jax.random.normal(jax.random.key(0), (50,))
  weights = jax.random.normal(jax.random.key(1), (50,))

  def loss(function, v, interval):
    return (function(v, interval, spec) * weights).sum()

  for interval in (0.7, 2.3):
    interval = jnp.float32(interval)
    np.testing.assert_allclose(
      quantize_interval(v, interval, spec),
      by_hand(v, interval, spec),
      atol=1e-6,
    )
    found = jax.grad(lambda *x: loss(quantize_interval, *x), (0, 1))(
      v, interval
    )
    right = jax.grad(lambda *x: loss(by_hand, *x), (0, 1))(v, interval)
    for ours, theirs in zip(found, right, strict=True):
      np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_first_interval_is_the_largest_magnitude():
  v = jnp.array([0.5, -3, 2])
  np.testing.assert_allclose(init_interval(v, WEIGHTS), 3)
  np.testing.assert_allclose(init_interval(v, ACTIVATIONS), 2)
  method = quantize_intervals([('w', WEIGHTS)])
  params = {'w': v}
  state = method.init(params)
  np.testing.assert_allclose(state.learned['w'], 3)
  np.testing.assert_allclose(
    method.apply(params, state)['w'],
    quantize_interval(v, init_interval(v, WEIGHTS), WEIGHTS),
  )


def test_a_full_grid_has_no_interval():
  with pytest.raises(InputError, match='narrow or unsigned'):
    init_interval(jnp.ones(3), AffineSpec(bounds='full'))
  with pytest.raises(InputError, match='narrow or unsigned'):
    quantize_intervals([('w', AffineSpec(bounds='full'))])


def network(variables, x):
  x = jax.nn.relu(x @ variables['a']['kernel'])
  return x @ variables['b']['kernel']


NAMES = ('a', 'b')


@pytest.fixture(name='problem')
def make_problem():
  keys = jax.random.split(jax.random.key(0), 3)
  variables = {
    'a': {'kernel': jax.random.normal(keys[0], (4, 6))},
    'b': {'kernel': jax.random.normal(keys[1], (6, 3))},
  }
  x = jax.random.uniform(keys[2], (5, 4))
  intervals = {'a': jnp.float32(0.8), 'b': jnp.float32(1.5)}
  return variables, x, intervals


def apply_with(quantizer, bits=2):
  specs = {n: AffineSpec(bits=bits, bounds='unsigned') for n in NAMES}
  return quantize_activations(network, INPUTS, specs, quantizer=quantizer)


def test_no_draw_is_the_low_precision_and_every_draw_the_high_one(problem):
  variables, x, intervals = problem
  drawn = apply_with(drawn_quantizer(high_bits=6))
  for probability, bits in ((0.0, 2), (1.0, 6)):
    chosen = draw_precision(jax.random.key(1), NAMES, probability=probability)
    parameters = {n: Drawn(intervals[n], chosen[n]) for n in NAMES}
    plain = apply_with(quantize_interval, bits)(variables, intervals, x)
    np.testing.assert_array_equal(drawn(variables, parameters, x), plain)


def test_one_program_serves_all_draws(problem):
  variables, x, intervals = problem
  drawn, traces = apply_with(drawn_quantizer()), []

  @jax.jit
  def run(key):
    traces.append(1)
    chosen = draw_precision(key, NAMES)
    parameters = {n: Drawn(intervals[n], chosen[n]) for n in NAMES}
    return drawn(variables, parameters, x)

  outs = {np.asarray(run(jax.random.key(i))).tobytes() for i in range(20)}
  assert len(outs) == 4
  assert len(traces) == 1


def test_draws_are_independent_and_reproducible():
  keys = jax.random.split(jax.random.key(0), 4000)
  names = ('one', 'two', 'three')
  draw = jax.vmap(lambda k: draw_precision(k, names, probability=0.4))
  found = np.stack([draw(keys)[name] for name in names]).astype(float)
  np.testing.assert_allclose(found.mean(1), 0.4, atol=0.04)
  np.testing.assert_allclose(np.corrcoef(found), np.eye(3), atol=0.06)
  again = draw_precision(keys[7], names, probability=0.4)
  assert [bool(again[n]) for n in names] == found[:, 7].astype(bool).tolist()
  with pytest.raises(InputError, match='probability'):
    draw_precision(keys[0], names, probability=1.1)


def test_a_value_beyond_the_interval_is_clipped_at_either_precision():
  quantizer = drawn_quantizer()
  for high in (False, True):
    drawn = Drawn(jnp.float32(1.5), jnp.array(high))
    out = quantizer(jnp.array([9.0, -1.0]), drawn, ACTIVATIONS)
    np.testing.assert_allclose(out, [1.5, 0], rtol=1e-6)
