"""Learned step size against the paper's gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress.errors import InputError
from compress.quantize import affine, lsq, ranges
from compress.quantize.spec import AffineSpec

V = jnp.array([-3, -1.3, -0.7, 0.2, 0.74, 0.76, 1.6, 4], jnp.float32)
SIGNED = AffineSpec(bits=3, bounds='full')
GOLDEN = [
  (
    SIGNED,
    [-4, -3, -1, 0, 1, 2, 3, 3],
    [-4, -0.4, 0.4, -0.4, -0.48, 0.48, 3, 3],
    [0, 1, 1, 1, 1, 1, 0, 0],
    0.204124,
    0.326599,
    1.775352,
  ),
  (
    AffineSpec(bits=3, bounds='unsigned'),
    [0, 0, 0, 0, 1, 2, 3, 7],
    [0, 0, 0, -0.4, -0.48, 0.48, -0.2, 7],
    [0, 0, 0, 1, 1, 1, 1, 0],
    0.133631,
    0.855236,
    1.162241,
  ),
]


@pytest.mark.parametrize('spec, codes, ds, dv, scaling, total, first', GOLDEN)
def test_golden(spec, codes, ds, dv, scaling, total, first):
  s = jnp.float32(0.5)
  np.testing.assert_array_equal(lsq.lsq(V, s, spec), np.float32(codes) / 2)
  np.testing.assert_array_equal(
    affine.quantize(V, lsq.lsq_qparams(s, spec), spec), codes
  )
  per_element = jax.jacrev(lambda s: lsq.lsq(V, s, spec))(s)
  np.testing.assert_allclose(per_element / scaling, ds, atol=2e-5)
  step = jax.jit(jax.grad(lambda v, s: lsq.lsq(v, s, spec).sum(), (0, 1)))
  got_v, got_s = step(V, s)
  np.testing.assert_array_equal(got_v, dv)
  np.testing.assert_allclose(got_s, total, rtol=1e-5)
  np.testing.assert_allclose(lsq.lsq_init(V, spec), first, rtol=1e-6)


def test_channels_and_groups_equal_their_parts():
  v = jnp.asarray(np.random.default_rng(0).normal(size=(12, 3)), jnp.float32)
  spec = AffineSpec(bits=4, granularity='channel')
  s = lsq.lsq_init(v, spec)
  assert s.shape == (1, 3)
  ct = jnp.asarray(np.random.default_rng(1).normal(size=v.shape), jnp.float32)
  loss = lambda v, s, ct, spec: (lsq.lsq(v, s, spec) * ct).sum()  # noqa: E731
  dv, ds = jax.grad(loss, (0, 1))(v, s, ct, spec)
  for c in range(3):
    one = AffineSpec(bits=4)
    s_c = lsq.lsq_init(v[:, c], one)
    np.testing.assert_allclose(s[0, c], s_c, rtol=1e-6)
    got = jax.grad(loss, (0, 1))(v[:, c], s[0, c], ct[:, c], one)
    np.testing.assert_allclose(got[0], dv[:, c], rtol=1e-6)
    np.testing.assert_allclose(got[1], ds[0, c], rtol=1e-5)
  grouped = AffineSpec(bits=4, granularity='group', group_size=5)
  s = lsq.lsq_init(v, grouped)
  assert s.shape == (3, 1, 3)
  np.testing.assert_allclose(
    s[2, 0], 2 * jnp.abs(v[10:]).mean(0) / np.sqrt(7), rtol=1e-6
  )
  assert jax.grad(loss, 1)(v, s, ct, grouped).shape == s.shape


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_forward_is_the_exported_grid(dtype):
  v = V.astype(dtype)
  s = jnp.float32(0.3)
  q = lsq.lsq_qparams(s, SIGNED)
  got = jax.jit(lambda v, s: lsq.lsq(v, s, SIGNED))(v, s)
  codes = affine.quantize(v, q, SIGNED)
  expected = affine.dequantize(codes, q, SIGNED, dtype=dtype)
  assert got.dtype == dtype
  np.testing.assert_array_equal(
    got.astype(jnp.float32), expected.astype(jnp.float32)
  )
  dv, ds = jax.grad(lambda v, s: lsq.lsq(v, s, SIGNED).sum(), (0, 1))(v, s)
  assert (dv.dtype, ds.dtype) == (dtype, jnp.float32)


def test_steps_that_reach_zero_stay_finite_and_come_back():
  for s in (0.0, -1.0):
    value, slope = jax.value_and_grad(
      lambda s: ((lsq.lsq(V, s, SIGNED) - V) ** 2).sum()
    )(jnp.float32(s))
    assert jnp.isfinite(value) and slope < 0
  assert lsq.lsq_init(jnp.zeros((3,)), SIGNED) == 1


def test_count_sets_the_gradient_scale():
  grad = jax.grad(lambda s, n: lsq.lsq(V, s, SIGNED, count=n).sum())
  s = jnp.float32(0.5)
  np.testing.assert_allclose(grad(s, 2), 2 * grad(s, 8), rtol=1e-6)


def test_offset():
  beta = jnp.float32(0.125)
  s = jnp.float32(0.5)
  run = lambda b: lsq.lsq(V, s, SIGNED, offset=b)  # noqa: E731
  z = np.clip((np.asarray(V) - 0.125) / 0.5, -4, 3)
  np.testing.assert_allclose(run(beta), np.round(z) * 0.5 + 0.125, rtol=1e-6)
  outside = [1, 0, 0, 0, 0, 0, 0, 1]
  scaling = 1 / np.sqrt(8 * 3)
  got = jax.jacrev(run)(beta) / scaling
  np.testing.assert_allclose(got, outside, atol=1e-6)


# bounds, zero point, codes less the zero point, d/ds, d/dv, sum of d/ds
ASYMMETRIC = [
  (
    'unsigned',
    2,
    [-2, -2, -1, 0, 1, 2, 3, 5],
    [-2, -2, 0.4, -0.4, -0.48, 0.48, -0.2, 5],
    [0, 0, 1, 1, 1, 1, 1, 0],
    5,
  ),
  (
    'full',
    1,
    [-5, -3, -1, 0, 1, 2, 2, 2],
    [-5, -0.4, 0.4, -0.4, -0.48, 0.48, 2, 2],
    [0, 1, 1, 1, 1, 1, 0, 0],
    2,
  ),
]


@pytest.mark.parametrize('bounds, zero, codes, ds, dv, most', ASYMMETRIC)
def test_fixed_zero_point_by_hand(bounds, zero, codes, ds, dv, most):
  # Q_N = Z - qmin, Q_P = qmax - Z.
  spec = AffineSpec(bits=3, symmetric=False, bounds=bounds)
  zero = jnp.int32(zero)
  s = jnp.float32(0.5)
  run = lambda v, s: lsq.lsq(v, s, spec, zero_point=zero)  # noqa: E731
  assert spec.qmax - int(zero) == most
  np.testing.assert_array_equal(run(V, s), np.float32(codes) / 2)
  scaling = 1 / np.sqrt(8 * most)
  per_element = jax.jacrev(run, 1)(V, s)
  np.testing.assert_allclose(per_element / scaling, ds, atol=2e-5)
  got_v, got_s = jax.jit(jax.grad(lambda v, s: run(v, s).sum(), (0, 1)))(V, s)
  np.testing.assert_array_equal(got_v, dv)
  np.testing.assert_allclose(got_s, np.sum(ds) * scaling, rtol=1e-4)


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize('bits', [4, 8, 16])
@pytest.mark.parametrize('bounds', ['unsigned', 'full'])
def test_fixed_zero_point_is_the_exported_grid(bounds, bits, dtype):
  spec = AffineSpec(bits=bits, symmetric=False, bounds=bounds)
  v = jax.random.normal(jax.random.key(bits), (3, 500)).astype(dtype)
  q = ranges.qparams_from_range(jnp.float32(-1.1), jnp.float32(2.3), spec)
  assert spec.qmin < q.zero_point < spec.qmax
  exported = lsq.lsq_qparams(q.scale, spec, zero_point=q.zero_point)
  run = lambda v, s: lsq.lsq(v, s, spec, zero_point=q.zero_point)  # noqa: E731
  expected = affine.fake_quantize(v, exported, spec)
  codes = affine.quantize(v, exported, spec)
  for got in (
    run(v, q.scale),
    jax.jit(run)(v, q.scale),
    affine.dequantize(codes, exported, spec, dtype=dtype),
  ):
    assert got.dtype == dtype
    assert np.asarray(got).tobytes() == np.asarray(expected).tobytes()


def test_zero_point_at_an_end():
  # Values that are never negative: Q_N = 0, as of an unsigned symmetric grid.
  spec = AffineSpec(bits=3, symmetric=False, bounds='unsigned')
  s = jnp.float32(0.5)
  value = lambda s, **o: lsq.lsq(V, s, o.pop('spec'), **o).sum()  # noqa: E731
  zero = jax.value_and_grad(value)(s, spec=spec, zero_point=jnp.int32(0))
  plain = AffineSpec(bits=3, bounds='unsigned')
  assert zero == jax.value_and_grad(value)(s, spec=plain)
  # Q_P = 0: the gradient's scale stays finite.
  top = jax.grad(value)(s, spec=spec, zero_point=jnp.int32(7))
  assert jnp.isfinite(top)


def test_learning_finds_a_better_step():
  v = jnp.asarray(np.random.default_rng(2).normal(size=500), jnp.float32)
  spec = AffineSpec(bits=3, bounds='full')
  s = lsq.lsq_init(v, spec)
  loss = lambda s: ((lsq.lsq(v, s, spec) - v) ** 2).mean()  # noqa: E731
  first = loss(s)
  step = jax.jit(lambda s: s - 3.0 * jax.grad(loss)(s))
  for _ in range(100):
    s = step(s)
  assert loss(s) < 0.8 * first


@pytest.mark.parametrize(
  'spec',
  [
    AffineSpec(symmetric=False),
    AffineSpec(dynamic=True),
    AffineSpec(power_of_two=True),
    AffineSpec(rounding='stochastic'),
  ],
)
def test_specs_that_make_no_sense(spec):
  with pytest.raises(InputError):
    lsq.lsq(V, jnp.float32(1), spec)


@pytest.mark.parametrize('shape', [(64,), (3, 5, 8)])
def test_compact_gradient_is_the_gradient(shape):
  spec = AffineSpec(bits=4, symmetric=False, bounds='unsigned')
  x = jax.random.normal(jax.random.key(0), shape)
  weights = jax.random.normal(jax.random.key(1), shape)

  def loss(x, step, compact):
    options = {'zero_point': jnp.int32(6), 'compact': compact}
    return (lsq.lsq(x, step, spec, **options) * weights).sum()

  value_and_grad = jax.jit(jax.value_and_grad(loss, (0, 1)), static_argnums=2)
  step = jnp.float32(0.2)
  exact, (dx, ds) = value_and_grad(x, step, False)
  out, (dx_compact, ds_compact) = value_and_grad(x, step, True)
  np.testing.assert_allclose(out, exact, rtol=1e-6)
  np.testing.assert_array_equal(dx_compact, dx)
  scale = 1 / np.sqrt(x.size * 9)
  bound = scale * np.abs(weights).sum() / 504
  assert abs(ds_compact - ds) <= bound
