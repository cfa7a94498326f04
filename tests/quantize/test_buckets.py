"""Bucketed scaling: levels, points, gradients, bits, files."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from compress import compressor, encode, packed
from compress.errors import InputError
from compress.quantize import (
  BucketSpec,
  PointSpec,
  bits_by_gradient,
  buckets,
  learn_points,
  quantize_buckets,
)

V = jnp.array([-1, -0.4, 0.1, 0.9, 1], jnp.float32)
G = jnp.array([0.1, -0.2, 0.3, 0.4, -0.5], jnp.float32)


def drawn(*shape, seed=0):
  return jax.random.normal(jax.random.key(seed), shape)


def test_golden_even_levels():
  scaled = buckets.scale_buckets(V, bucket_size=None)
  np.testing.assert_allclose(scaled.unit, [[0, 0.3, 0.55, 0.95, 1]], rtol=1e-6)
  out = buckets.quantize_in_buckets(V, BucketSpec(2, None))
  np.testing.assert_allclose(out, [-1, -1 / 3, 1 / 3, 1, 1], rtol=1e-6)


def test_golden_points():
  points = jnp.array([0, 0.3, 0.6, 1], jnp.float32)

  def loss(values, points):
    out = buckets.quantize_to_points(values, points, bucket_size=None)
    return (out * G).sum(), out

  grads, out = jax.grad(loss, (0, 1), has_aux=True)(V, points)
  np.testing.assert_allclose(out, [-1, -0.4, 0.2, 1, 1], rtol=1e-6)
  np.testing.assert_array_equal(grads[0], 0)
  np.testing.assert_allclose(grads[1], [0.2, -0.4, 0.6, -0.2], rtol=1e-6)
  first = buckets.initial_points(V, PointSpec(4, None))
  np.testing.assert_allclose(first, [0, 0.383333, 0.816667, 1], rtol=1e-5)
  uniform = buckets.initial_points(V, PointSpec(3, None, 'uniform'))
  np.testing.assert_array_equal(uniform, [0, 0.5, 1])


def test_points_in_any_order_are_the_same_points():
  points = jnp.array([0.6, 1, 0, 0.3], jnp.float32)

  def loss(points):
    out = buckets.quantize_to_points(V, points, bucket_size=None)
    return (out * G).sum()

  gradient = jax.grad(loss)(points)
  np.testing.assert_allclose(gradient, [0.6, -0.2, 0.2, -0.4], rtol=1e-6)


def test_a_points_gradient_sums_over_buckets_of_other_widths():
  # Two buckets, 2 and 6 wide, both with values next to the middle point.
  values = jnp.array([0, 1, 2, 10, 13, 16], jnp.float32)
  weights = jnp.array([5, 1, 7, 9, 2, 3], jnp.float32)

  def loss(points):
    out = buckets.quantize_to_points(values, points, bucket_size=3)
    return (out * weights).sum()

  gradient = jax.grad(loss)(jnp.array([0, 0.5, 1]))
  np.testing.assert_allclose(
    gradient, [2 * 5 + 6 * 9, 2 * 1 + 6 * 2, 2 * 7 + 6 * 3]
  )


@pytest.mark.parametrize('gradient', ['straight_through', 'exact'])
@pytest.mark.parametrize('size', [7, 256, None])
def test_extremes_of_buckets_are_kept_to_the_bit(size, gradient):
  values = drawn(5, 9) * 3
  spec = BucketSpec(3, size, gradient=gradient)
  out = np.asarray(buckets.quantize_in_buckets(values, spec)).reshape(-1)
  flat = np.asarray(values).reshape(-1)
  for start in range(0, flat.size, size or flat.size):
    part = slice(start, start + (size or flat.size))
    assert out[part].min() == flat[part].min()
    assert out[part].max() == flat[part].max()
    assert len(np.unique(out[part])) <= 8
  step = (flat.max() - flat.min()) / 7
  assert np.abs(out - flat).max() <= step / 2 * (1 + 1e-5)


def test_the_last_bucket_is_filled_with_its_last_value():
  values = jnp.array([1, 2, 3, 10, 20], jnp.float32)
  scaled = buckets.scale_buckets(values, bucket_size=3)
  np.testing.assert_array_equal(scaled.unit, [[0, 0.5, 1], [0, 1, 1]])
  np.testing.assert_array_equal(scaled.high[:, 0], [3, 20])


def test_equal_values_stay():
  for spec in (BucketSpec(2), BucketSpec(2, gradient='exact')):
    for values in (jnp.zeros(5), jnp.full(300, -0.3)):
      out, gradient = jax.value_and_grad(
        lambda v, spec=spec: buckets.quantize_in_buckets(v, spec).sum()
      )(values)
      assert np.isfinite(gradient).all()
      np.testing.assert_array_equal(
        buckets.quantize_in_buckets(values, spec), values
      )
      assert np.isfinite(out)
    assert np.isfinite(buckets.initial_points(values, PointSpec(4))).all()


def gradient_of(values, weights, **options):
  spec = BucketSpec(2, None, **options)

  def loss(values):
    return (buckets.quantize_in_buckets(values, spec) * weights).sum()

  return jax.grad(loss)(values)


def test_gradients_straight_through_and_truncated():
  values = jnp.array([-1.5, -1, 0.2, 1, 1.1], jnp.float32)
  np.testing.assert_array_equal(gradient_of(values, G), G)
  np.testing.assert_array_equal(
    gradient_of(values, G, gradient='truncated'),
    G * jnp.array([0.0, 1, 1, 1, 0]),
  )


def test_exact_gradient_adds_that_of_the_extremes():
  # d Q_i / d alpha = Q^_i - u_i: the largest value moves alpha, the smallest
  # moves it the other way; that of beta alone is the straight-through one.
  error = np.array([0, 1 / 3, 2 / 3, 1, 1]) - [0, 0.3, 0.55, 0.95, 1]
  expected = np.asarray(G).copy()
  expected[4] += (np.asarray(G) * error).sum()
  expected[0] -= (np.asarray(G) * error).sum()
  found = gradient_of(V, G, gradient='exact')
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_exact_gradient_is_that_of_affine_changes():
  # Q(a v + b) = a Q(v) + b, so derivatives to a and b are known.
  values, weights = drawn(40), drawn(40, seed=1)
  gradient = gradient_of(values, weights, gradient='exact')
  out = buckets.quantize_in_buckets(values, BucketSpec(2, None))
  np.testing.assert_allclose(
    (gradient * values).sum(), (weights * out).sum(), rtol=1e-4
  )
  np.testing.assert_allclose(gradient.sum(), weights.sum(), rtol=1e-4)


def test_stochastic_rounding_is_unbiased():
  spec = BucketSpec(1, None, rounding='stochastic')
  values = jnp.array([0, 0.3, 0.9, 1], jnp.float32)
  keys = jax.random.split(jax.random.key(0), 20_000)
  out = jax.jit(
    jax.vmap(lambda k: buckets.quantize_in_buckets(values, spec, key=k))
  )(keys)
  # Four deviations of the mean of 20,000 coins.
  np.testing.assert_allclose(out.mean(0), values, atol=4 * 0.5 / 20_000**0.5)
  assert set(np.unique(out)) == {0, 1}
  np.testing.assert_array_equal(out[:, 0], 0)
  np.testing.assert_array_equal(out[:, 3], 1)


def test_update_draws_anew():
  rules = [('.*', BucketSpec(2, rounding='stochastic'))]
  method = quantize_buckets(rules, key=jax.random.key(0))
  params = {'w': drawn(100)}
  state = method.init(params)
  first = method.apply(params, state)['w']
  np.testing.assert_array_equal(method.apply(params, state)['w'], first)
  state = method.update(params, state, step=0)
  np.testing.assert_array_equal(method.apply(params, state)['w'], first)
  state = method.update(params, state, step=1)
  assert (method.apply(params, state)['w'] != first).any()


def test_points_learn_what_even_levels_cannot_do():
  rules = [('w', PointSpec(4, 64, 'uniform'))]
  method = learn_points(rules)
  params = {'w': drawn(512)}
  state = method.init(params)

  optimizer = optax.sgd(0.02)

  @jax.jit
  def step(points, moments):
    def loss(points):
      out = method.apply(params, compressor.State(points))
      return jnp.square(out['w'] - params['w']).mean()

    value, gradient = jax.value_and_grad(loss)(points)
    updates, moments = optimizer.update(gradient, moments)
    return value, optax.apply_updates(points, updates), moments

  points, values = state.learned, []
  moments = optimizer.init(points)
  for _ in range(60):
    value, points, moments = step(points, moments)
    values.append(float(value))
  assert values[-1] < 0.8 * values[0]


def test_nan_shows():
  out = buckets.quantize_in_buckets(V.at[0].set(jnp.nan), BucketSpec())
  assert np.isnan(out).any()


@pytest.mark.parametrize('size, points', [(256, None), (7, 5), (None, 5)])
def test_bytes_and_file(size, points, tmp_path):
  if points is None:
    method, bits = quantize_buckets([('w', BucketSpec(3, size))]), 3
  else:
    method, bits = learn_points([('w', PointSpec(points, size))]), 3
  params = {'w': drawn(20, 17)}
  state = method.init(params)
  tree = method.pack(params, state)
  ends = 8 * (-(-340 // size) if size else 1)
  expected = -(-340 * bits // 8) + ends + 4 * (points or 0)
  assert packed.nbytes(tree['w']) == expected
  path = tmp_path / 'w.safetensors'
  encode.save(path, tree)
  loaded = encode.load(path).tree['w']
  assert loaded.bits == bits and loaded.bucket_size == size
  np.testing.assert_array_equal(
    packed.unpack(loaded), method.apply(params, state)['w']
  )


def test_bits_by_gradient():
  norms = {'a': 6.0, 'b': 1.0, 'c': 1.0, 'd': 0.0}
  assert bits_by_gradient(norms, bits=4) == {'a': 6, 'b': 4, 'c': 3, 'd': 3}
  equal = bits_by_gradient(dict.fromkeys('abc', 2.0), bits=2)
  assert equal == dict.fromkeys('abc', 2)
  assert bits_by_gradient({'a': 0.0, 'b': 0.0}, bits=3) == {'a': 3, 'b': 3}
  assert bits_by_gradient({}, bits=3) == {}
  # What is beyond 8 bits goes to the others.
  capped = bits_by_gradient({'a': 1.0, 'b': 0.0, 'c': 0.0}, bits=7)
  assert capped['a'] == 8 and sum(capped.values()) == 21
  assert sum(bits_by_gradient(dict.fromkeys('ab', 1.0), bits=8).values()) == 16


@pytest.mark.parametrize(
  'make, message',
  [
    (lambda: BucketSpec(9), 'bits=9: right is 1 to 8'),
    (lambda: BucketSpec(bucket_size=0), 'bucket_size=0'),
    (lambda: BucketSpec(rounding='up'), "rounding='up'"),
    (lambda: BucketSpec(gradient='none'), "gradient='none'"),
    (lambda: PointSpec(1), 'points=1: right is 2 to 256'),
    (lambda: PointSpec(initial='random'), "initial='random'"),
    (
      lambda: quantize_buckets([('w', BucketSpec(rounding='stochastic'))]),
      'weights then need a key',
    ),
    (lambda: bits_by_gradient({'a': 1.0}, bits=1), 'bits=1'),
    (lambda: bits_by_gradient({'a': float('nan')}, bits=2), 'norm nan of a'),
  ],
)
def test_bad_input(make, message):
  with pytest.raises(InputError, match=message):
    make()
