"""The affine grid: golden codes, exactness, gradients, invariants."""

import functools

import hypothesis
import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from compress.errors import InputError
from compress.quantize import affine, ranges
from compress.quantize.spec import AffineSpec, QParams

settings = hypothesis.settings(
  max_examples=40, deadline=None, derandomize=True, database=None
)
W24 = np.array([[-1, -0.3, 0.55, 0.9], [0.1, 0.22, 0.31, 0.4]], np.float32)
SPECS = [
  AffineSpec(),
  AffineSpec(bits=4, symmetric=False, bounds='full', rounding='half_away'),
  AffineSpec(bits=16, symmetric=False, bounds='unsigned'),
  AffineSpec(bits=6, bounds='full', granularity='channel', gradient='identity'),
  AffineSpec(bits=3, symmetric=False, granularity='group', group_size=5),
  AffineSpec(bits=8, granularity='channel', axis=0, power_of_two=True),
  AffineSpec(bits=2, symmetric=True, bounds='unsigned'),
]


def bits_of(x):
  x = np.asarray(x)
  return x.view({1: np.uint8, 2: np.uint16, 4: np.uint32}[x.itemsize])


def name_of(spec):
  return f'{spec.bits}-{spec.granularity}'


def normal(shape, seed=0, dtype=jnp.float32):
  x = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
  return jnp.asarray(x).astype(dtype)


def round_trip(x, q, spec, **kwargs):
  codes = affine.quantize(x, q, spec, **kwargs)
  return affine.dequantize(codes, q, spec, dtype=x.dtype)


def params(scale, zero_point=0):
  return QParams(jnp.float32(scale), jnp.int32(zero_point))


def test_unsigned_asymmetric_golden():
  spec = AffineSpec(symmetric=False, bounds='unsigned')
  q = ranges.qparams_from_range(-0.5, 1.5, spec)
  assert q.scale == np.float32(0.00784313725490196)
  assert q.zero_point == 64
  x = jnp.array([-0.6, -0.5, 0, 0.1, 0.9, 1.5, 2.0])
  codes = affine.quantize(x, q, spec)
  assert codes.dtype == jnp.uint8
  assert codes.tolist() == [0, 0, 64, 77, 179, 255, 255]
  expected = [-0.501961, -0.501961, 0, 0.101961, 0.901961, 1.498039, 1.498039]
  np.testing.assert_allclose(
    affine.fake_quantize(x, q, spec), expected, atol=5e-7
  )


def test_narrow_symmetric_golden():
  spec = AffineSpec()
  q = ranges.qparams_from_range(-2.54, 1.0, spec)
  assert q.scale == np.float32(0.02) and q.zero_point == 0
  x = jnp.array([-2.6, -2.54, -1, -0.012, 0, 0.033, 1, 2.54])
  codes = affine.quantize(x, q, spec)
  assert codes.dtype == jnp.int8
  assert codes.tolist() == [-127, -127, -50, -1, 0, 2, 50, 127]


@pytest.mark.parametrize(
  'rounding, expected',
  [
    ('half_even', [-2, -2, 0, 0, 2, 2]),
    ('half_away', [-3, -2, -1, 1, 2, 3]),
  ],
)
def test_ties(rounding, expected):
  x = jnp.array([-1.25, -0.75, -0.25, 0.25, 0.75, 1.25])
  spec = AffineSpec(rounding=rounding)
  assert affine.quantize(x, params(0.5), spec).tolist() == expected
  back = affine.fake_quantize(x, params(0.5), spec)
  assert bits_of(back).tolist() == bits_of(np.float32(expected) / 2).tolist()


@pytest.mark.parametrize(
  'symmetric, granularity, codes, zero_point, error',
  [
    (True, 'tensor', [[-7, -2, 4, 6], [1, 2, 2, 3]], 0, 1.257653e-3),
    (True, 'channel', [[-7, -2, 4, 6], [2, 4, 5, 7]], [0, 0], 4.209184e-4),
    (False, 'tensor', [[0, 6, 12, 15], [9, 10, 10, 11]], 8, 1.230556e-3),
    (False, 'channel', [[0, 6, 12, 15], [4, 8, 12, 15]], [8, 0], 5.75e-4),
  ],
)
def test_small_weight_golden(symmetric, granularity, codes, zero_point, error):
  bounds = 'narrow' if symmetric else 'unsigned'
  spec = AffineSpec(
    bits=4,
    symmetric=symmetric,
    bounds=bounds,
    granularity=granularity,
    axis=0,
  )
  w = jnp.asarray(W24)
  q = ranges.tensor_qparams(w, spec)
  assert affine.quantize(w, q, spec).tolist() == codes
  assert np.squeeze(q.zero_point).tolist() == zero_point
  got = np.mean((np.asarray(affine.fake_quantize(w, q, spec)) - W24) ** 2)
  np.testing.assert_allclose(got, error, rtol=1e-5)


@pytest.mark.parametrize(
  'bits, bounds, low, high, dtype',
  [
    (2, 'narrow', -1, 1, 'int8'),
    (4, 'full', -8, 7, 'int8'),
    (8, 'full', -128, 127, 'int8'),
    (8, 'narrow', -127, 127, 'int8'),
    (8, 'unsigned', 0, 255, 'uint8'),
    (16, 'full', -32768, 32767, 'int16'),
    (16, 'unsigned', 0, 65535, 'uint16'),
  ],
)
def test_bounds(bits, bounds, low, high, dtype):
  spec = AffineSpec(bits=bits, bounds=bounds)
  assert (spec.qmin, spec.qmax, spec.dtype) == (low, high, jnp.dtype(dtype))
  x = jnp.array([-jnp.inf, -3e38, 3e38, jnp.inf])
  codes = affine.quantize(x, params(1.0), spec)
  assert codes.tolist() == [low, low, high, high]


@pytest.mark.parametrize(
  'fields, word',
  [
    ({'bits': 1}, 'bits'),
    ({'bits': 9}, 'bits'),
    ({'bits': 8.0}, 'bits'),
    ({'bits': True}, 'bits'),
    ({'bounds': 'signed'}, 'bounds'),
    ({'granularity': 'row'}, 'granularity'),
    ({'rounding': 'up'}, 'rounding'),
    ({'gradient': None}, 'gradient'),
    ({'symmetric': 1}, 'symmetric'),
    ({'dynamic': 'yes'}, 'dynamic'),
    ({'axis': 1.0}, 'axis'),
    ({'granularity': 'group'}, 'group_size'),
    ({'granularity': 'group', 'group_size': 0}, 'group_size'),
    ({'group_size': 32}, 'group_size'),
  ],
)
def test_bad_fields(fields, word):
  with pytest.raises(InputError, match=word) as caught:
    AffineSpec(**fields)
  assert '\n' not in str(caught.value)


def test_spec_is_hashable_and_equal_by_value():
  assert len({AffineSpec(bits=4), AffineSpec(bits=4), AffineSpec()}) == 2


def test_bad_calls():
  x = normal((3, 4))
  with pytest.raises(InputError, match='axis=2'):
    ranges.tensor_range(x, AffineSpec(granularity='channel', axis=2))
  with pytest.raises(InputError, match='dynamic=False'):
    affine.fake_quantize(x, None, AffineSpec())
  with pytest.raises(InputError, match='dynamic=True'):
    affine.fake_quantize(x, params(1.0), AffineSpec(dynamic=True))
  with pytest.raises(ValueError, match='key'):
    affine.quantize(x, params(1.0), AffineSpec(rounding='stochastic'))


@pytest.mark.parametrize(
  'spec', SPECS, ids=lambda s: f'{s.bits}{s.granularity}'
)
@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16, jnp.float16])
def test_simulation_equals_integers_bit_for_bit(spec, dtype):
  x = normal((3, 3, 4, 6), dtype=dtype)
  q = ranges.tensor_qparams(x, spec)

  def simulate(x, q):
    return affine.fake_quantize(x, q, spec)

  expected = bits_of(round_trip(x, q, spec))
  constant = functools.partial(simulate, q=q)
  for got in (
    simulate(x, q),
    jax.jit(simulate)(x, q),
    jax.jit(constant)(x),
    jax.jit(functools.partial(round_trip, q=q, spec=spec))(x),
    jax.jit(jax.checkpoint(constant))(x),
    jax.lax.scan(lambda c, x: (c, constant(x)), None, x[None])[1][0],
  ):
    assert got.dtype == dtype
    np.testing.assert_array_equal(bits_of(got), expected)
  # A cast that follows sees the rounded value, not the wider one before it.
  widened = jax.jit(lambda x: constant(x).astype(jnp.float32))(x)
  np.testing.assert_array_equal(widened, simulate(x, q).astype(jnp.float32))


@pytest.mark.parametrize('shape', [(), (1, 32)])
def test_division_is_true_division_next_to_ties(shape):
  rng = np.random.default_rng(0)
  scale = rng.uniform(1e-3, 0.3, shape).astype(np.float32)
  half = rng.integers(-120, 120, (2000, 32)).astype(np.float32) + np.float32(
    0.5
  )
  x = np.nextafter(
    scale * half, rng.choice([-9, 9], half.shape).astype(np.float32)
  )
  spec = AffineSpec(granularity='channel' if shape else 'tensor')
  expected = np.clip(np.round(x / scale), -127, 127).astype(np.int8)
  inverse = np.round(x * (np.float32(1) / scale))
  assert (inverse != expected).any()
  q = QParams(jnp.asarray(scale), jnp.zeros(shape, jnp.int32))
  x = jnp.asarray(x)
  for codes in (
    affine.quantize(x, q, spec),
    jax.jit(lambda x: affine.quantize(x, q, spec))(x),
    jax.jit(lambda x, q: affine.quantize(x, q, spec))(x, q),
  ):
    np.testing.assert_array_equal(codes, expected)
  fake = jax.jit(lambda x: affine.fake_quantize(x, q, spec))(x)
  np.testing.assert_array_equal(fake, expected.astype(np.float32) * scale)


@pytest.mark.parametrize(
  'spec', SPECS, ids=lambda s: f'{s.bits}{s.granularity}'
)
def test_qparams_jit_equals_eager(spec):
  x = normal((3, 3, 4, 6), seed=3)
  eager = ranges.tensor_qparams(x, spec)
  jitted = jax.jit(lambda x: ranges.tensor_qparams(x, spec))(x)
  constant = jax.jit(lambda: ranges.tensor_qparams(x, spec))()
  for other in (jitted, constant):
    jax.tree.map(np.testing.assert_array_equal, eager, other)


def test_qparams_divide_as_numpy_does():
  hi = np.random.default_rng(1).uniform(0.1, 9, (1, 500)).astype(np.float32)
  got = ranges.qparams_from_range(-hi, hi, AffineSpec()).scale
  np.testing.assert_array_equal(got, hi / np.float32(127))
  unsigned = AffineSpec(symmetric=False, bounds='unsigned')
  for one in hi[0, :20]:
    got = ranges.qparams_from_range(0.0, one, unsigned).scale
    assert got == one / np.float32(255)


def test_vmap_equals_loop():
  spec = AffineSpec(bits=4, symmetric=False, bounds='full')
  x = normal((5, 4, 6))
  q = jax.vmap(lambda x: ranges.tensor_qparams(x, spec))(x)
  got = jax.vmap(lambda x, q: affine.fake_quantize(x, q, spec))(x, q)
  for i in range(5):
    one = affine.fake_quantize(x[i], QParams(*(p[i] for p in q)), spec)
    np.testing.assert_array_equal(got[i], one)


def test_gradient_clipped():
  spec = AffineSpec(symmetric=False, bounds='unsigned')
  q = ranges.qparams_from_range(-0.5, 1.5, spec)
  x = jnp.array([-9, -0.51, -0.5, -0.1, 0, 1.5, 1.51, jnp.inf])
  loss = lambda x, scale: affine.fake_quantize(  # noqa: E731
    x, QParams(scale, q.zero_point), spec
  ).sum()
  for transform in (lambda f: f, jax.jit, jax.checkpoint):
    dx, ds = jax.grad(transform(loss), argnums=(0, 1))(x, q.scale)
    assert dx.tolist() == [0, 0, 1, 1, 1, 1, 0, 0]
    assert ds == 0
  _, tangent = jax.jvp(lambda x: loss(x, q.scale), (x,), (jnp.ones_like(x),))
  assert tangent == 4


@pytest.mark.parametrize('bounds', ['narrow', 'full', 'unsigned'])
@pytest.mark.parametrize('symmetric', [True, False])
@pytest.mark.parametrize('bits', [2, 5, 8, 16])
def test_gradient_reaches_both_ends_of_the_range(bounds, symmetric, bits):
  spec = AffineSpec(bits=bits, symmetric=symmetric, bounds=bounds)
  hi = jnp.exp(normal((50,), seed=2))
  lo = hi * (0 if symmetric and bounds == 'unsigned' else -1)

  def grads(lo, hi):
    q = ranges.qparams_from_range(lo, hi, spec)
    x = jnp.stack([lo, hi, hi + 1.1 * q.scale, lo - 1.1 * q.scale])
    return jax.grad(lambda x: affine.fake_quantize(x, q, spec).sum())(x)

  got = jax.vmap(grads)(lo, hi)
  np.testing.assert_array_equal(got, np.tile([1, 1, 0, 0], (50, 1)))


def test_gradient_identity_and_dtype():
  spec = AffineSpec(gradient='identity')
  x = normal((4,), dtype=jnp.bfloat16) * 100
  dx = jax.grad(lambda x: affine.fake_quantize(x, params(0.01), spec).sum())(x)
  assert dx.dtype == jnp.bfloat16 and (dx == 1).all()


def test_second_derivative_is_straight_through():
  x = jnp.array([0.2, -0.7, 50.0])
  f = lambda x: (affine.fake_quantize(x, params(0.1), AffineSpec()) ** 3).sum()  # noqa: E731
  expected = [6 * 0.2, 6 * -0.7, 0]
  np.testing.assert_allclose(jnp.diag(jax.hessian(f)(x)), expected, rtol=1e-5)
  hvp = jax.jvp(jax.grad(f), (x,), (jnp.ones_like(x),))[1]
  np.testing.assert_allclose(hvp, expected, rtol=1e-5)


def test_backward_keeps_a_boolean_mask_only():
  x = normal((64,))
  _, vjp = jax.vjp(
    lambda x: affine.fake_quantize(x, params(0.1), AffineSpec()), x
  )
  kept = [leaf for leaf in jax.tree.leaves(vjp) if jnp.size(leaf) > 1]
  assert [leaf.dtype for leaf in kept] == [jnp.bool_]


def test_dynamic_equals_static_of_the_same_batch():
  x = normal((6, 5), seed=4)
  static = AffineSpec(symmetric=False, bounds='unsigned')
  dynamic = AffineSpec(symmetric=False, bounds='unsigned', dynamic=True)
  expected = affine.fake_quantize(x, ranges.tensor_qparams(x, static), static)
  np.testing.assert_array_equal(
    affine.fake_quantize(x, None, dynamic), expected
  )
  dx = jax.grad(lambda x: affine.fake_quantize(x, None, dynamic).sum())(x)
  assert (dx == 1).all()


def test_zero_tensors_and_extreme_ranges_stay_finite():
  big = float(jnp.finfo(jnp.float32).max)
  for spec in SPECS:
    fills = jnp.array([0.0, -0.0, 1e-45, 1e-38, -1e-38, 7.0, big, -big])

    def go(fill, spec=spec):
      x = jnp.broadcast_to(fill, (2, 3))
      q = ranges.tensor_qparams(x, spec)
      return q.scale, affine.fake_quantize(x, q, spec)

    scale, fake = jax.jit(jax.vmap(go))(fills)
    assert jnp.isfinite(scale).all() and (scale > 0).all()
    assert jnp.isfinite(fake).all()
  q = ranges.qparams_from_range(-big, big, AffineSpec(symmetric=False))
  assert jnp.isfinite(
    affine.fake_quantize(jnp.array([-big, big]), q, SPECS[0])
  ).all()
  assert ranges.qparams_from_range(0.0, 0.0, AffineSpec()).scale == 1


def test_nan_is_seen_in_simulation_and_is_zero_in_codes():
  spec = AffineSpec(symmetric=False, bounds='unsigned')
  x = jnp.array([jnp.nan, 1.0])
  q = params(0.5, 9)
  assert affine.quantize(x, q, spec).tolist() == [9, 11]
  assert jnp.isnan(affine.fake_quantize(x, q, spec)).tolist() == [True, False]
  assert jnp.isnan(ranges.tensor_qparams(x, AffineSpec()).scale)


@pytest.mark.parametrize(
  'scale, expected', [(1.0, 1.0), (0.25, 0.25), (0.3, 0.5), (5.0, 8.0)]
)
def test_power_of_two(scale, expected):
  spec = AffineSpec(power_of_two=True)
  got = ranges.qparams_from_range(0.0, 127 * scale, spec).scale
  assert got == expected


def test_groups_cut_the_flattened_inputs():
  w = normal((2, 2, 3, 5))  # 12 inputs: groups of 5, 5 and 2
  spec = AffineSpec(bits=4, granularity='group', group_size=5)
  q = ranges.tensor_qparams(w, spec)
  assert q.scale.shape == (3, 1, 5)
  flat = np.asarray(w).reshape(12, 5)
  got = np.asarray(affine.fake_quantize(w, q, spec)).reshape(12, 5)
  for g, rows in enumerate((slice(0, 5), slice(5, 10), slice(10, 12))):
    top = np.abs(flat[rows]).max(0)
    np.testing.assert_array_equal(q.scale[g, 0], top / np.float32(7))
    one = affine.fake_quantize(
      jnp.asarray(flat[rows]),
      QParams(q.scale[g], q.zero_point[g]),
      AffineSpec(bits=4, granularity='channel'),
    )
    np.testing.assert_array_equal(got[rows], one)
  # Groups follow the channel axis wherever it is.
  first = AffineSpec(bits=4, granularity='group', group_size=5, axis=0)
  moved = jnp.moveaxis(w, -1, 0)
  np.testing.assert_array_equal(
    affine.fake_quantize(moved, ranges.tensor_qparams(moved, first), first),
    jnp.moveaxis(affine.fake_quantize(w, q, spec), -1, 0),
  )


def test_stochastic_rounding_is_unbiased_and_keeps_grid_points():
  spec = AffineSpec(bits=16, rounding='stochastic')
  key = jax.random.key(0)
  x = jnp.full((400_000,), 0.3)
  codes = affine.quantize(x, params(1.0), spec, key=key).astype(jnp.float32)
  assert abs(codes.mean() - 0.3) < 3e-3
  assert abs(codes.var() - 0.21) < 2e-3
  grid = jnp.arange(-32767.0, 32768.0)
  fake = affine.fake_quantize(grid, params(1.0), spec, key=key)
  np.testing.assert_array_equal(fake, grid)
  y = normal((99,))
  np.testing.assert_array_equal(
    affine.fake_quantize(y, params(0.1), spec, key=key),
    round_trip(y, params(0.1), spec, key=key),
  )


def test_noise_floor_and_signal_to_noise():
  x = jnp.asarray(np.linspace(-1, 1, 200_001, dtype=np.float32))
  for bits, decibel in ((4, 22.92), (8, 48.10)):
    spec = AffineSpec(bits=bits)
    q = ranges.tensor_qparams(x, spec)
    error = np.asarray(affine.fake_quantize(x, q, spec) - x, np.float64)
    np.testing.assert_allclose(error.var() / (q.scale**2 / 12), 1, rtol=5e-3)
    power = np.mean(np.asarray(x, np.float64) ** 2)
    got = 10 * np.log10(power / np.mean(error**2))
    assert abs(got - decibel) < 0.05


def test_finer_granularity_errs_less():
  w = normal((3, 3, 8, 16)) * jnp.exp(normal((1, 1, 1, 16), seed=1))
  errors = []
  for fields in (
    {},
    {'granularity': 'channel'},
    {'granularity': 'group', 'group_size': 8},
  ):
    spec = AffineSpec(bits=4, **fields)
    q = ranges.tensor_qparams(w, spec)
    errors.append(float(((affine.fake_quantize(w, q, spec) - w) ** 2).sum()))
  assert errors[0] > errors[1] > errors[2]


tensors = hnp.arrays(
  np.float32,
  (4, 6),
  elements=st.floats(-100, 100, width=32, allow_subnormal=False),
)
specs = st.builds(
  AffineSpec,
  bits=st.sampled_from([2, 3, 4, 6, 8, 16]),
  symmetric=st.booleans(),
  bounds=st.sampled_from(['full', 'narrow', 'unsigned']),
  granularity=st.sampled_from(['tensor', 'channel']),
  rounding=st.sampled_from(['half_even', 'half_away']),
  power_of_two=st.booleans(),
)


@settings
@hypothesis.given(tensors, specs)
def test_invariants(x, spec):
  x = jnp.asarray(x)
  q = ranges.tensor_qparams(x, spec)
  got = affine.fake_quantize(x, q, spec)
  codes = affine.quantize(x, q, spec)
  assert jnp.isfinite(got).all()
  assert (codes >= spec.qmin).all() and (codes <= spec.qmax).all()
  np.testing.assert_array_equal(affine.fake_quantize(got, q, spec), got)
  zero = affine.fake_quantize(jnp.zeros_like(x), q, spec)
  assert (bits_of(zero) == 0).all()
  covered = jnp.ones(x.shape, bool)
  if spec.symmetric and spec.bounds == 'unsigned':
    covered = x >= 0
  slack = 0.5 * q.scale + 1e-6 * (jnp.abs(x) + spec.qmax * q.scale)
  assert (jnp.where(covered, jnp.abs(got - x) <= slack, True)).all()
  order = jnp.argsort(x, axis=0)
  ordered = jnp.take_along_axis(got, order, axis=0)
  assert (jnp.diff(ordered, axis=0) >= 0).all()


@settings
@hypothesis.given(tensors, specs, st.integers(-20, 20))
def test_power_of_two_scaling_moves_the_scale_only(x, spec, exponent):
  x = np.where(np.abs(x) < 1e-20, 0, x)
  x = jnp.asarray(x.astype(np.float32))
  factor = jnp.float32(2.0**exponent)
  q = ranges.tensor_qparams(x, spec)
  scaled = ranges.tensor_qparams(x * factor, spec)
  np.testing.assert_array_equal(
    affine.quantize(x, q, spec), affine.quantize(x * factor, scaled, spec)
  )
  empty = (x.max() <= 0) if spec.bounds == 'unsigned' else (x == 0).all()
  if spec.granularity == 'tensor' and not empty:
    assert scaled.scale == q.scale * factor


@settings
@hypothesis.given(tensors, specs, st.permutations(range(6)))
def test_channels_are_independent(x, spec, order):
  order = np.asarray(order)
  q = ranges.tensor_qparams(jnp.asarray(x), spec)
  other = ranges.tensor_qparams(jnp.asarray(x[:, order]), spec)
  if spec.granularity == 'channel':
    q = jax.tree.map(lambda p: p[:, order], q)
  jax.tree.map(np.testing.assert_array_equal, q, other)
