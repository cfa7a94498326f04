"""Histograms: exact growth, percentiles, least error, least divergence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from compress.quantize import affine, histogram, kl, ranges
from compress.quantize.spec import AffineSpec

COUNT = 100_001


def quantiles(name):
  u = (np.arange(COUNT) + 0.5) / COUNT
  law = stats.norm if name == 'gauss' else stats.laplace
  return jnp.asarray(law.ppf(u).astype(np.float32))


def observed(observer, *xs):
  update = jax.jit(observer.update)
  state = observer.init(())
  for x in xs:
    state = update(state, x)
  return state


def test_growth_is_exact():
  rng = np.random.default_rng(0)
  xs = [
    jnp.asarray((rng.normal(size=500) * s).astype(np.float32))
    for s in (0.01, 3.0, 0.2, 70.0)
  ]
  parts = observed(histogram.mse(bins=32), *xs)
  whole = observed(histogram.mse(bins=32), jnp.concatenate(xs))
  other = observed(histogram.mse(bins=32), *xs[::-1])
  for state in (parts, other):
    jax.tree.map(np.testing.assert_array_equal, state, whole)
  edges = np.asarray(histogram.edges(whole))
  assert edges[-1] in (128, 256, 512) and edges[0] == -edges[-1]
  expected, _ = np.histogram(np.concatenate(xs), edges)
  np.testing.assert_array_equal(whole.counts, expected)
  assert whole.counts.sum() == 2000


@pytest.mark.parametrize('x', [0.0, 4.0, -4.0, 1e-40, 3e38, -3e38])
def test_single_values(x):
  state = observed(histogram.mse(bins=16), jnp.full((3,), x))
  assert state.counts.sum() == 3
  for observer in (histogram.mse(bins=16), histogram.percentile(bins=16)):
    lo, hi = observer.range(state, AffineSpec(bits=4))
    assert jnp.isfinite(lo) and jnp.isfinite(hi)


@pytest.mark.parametrize(
  'name, p, expected',
  [
    ('gauss', 99.9, 3.2877),
    ('gauss', 99.99, 3.8674),
    ('laplace', 99.9, 6.8978),
    ('laplace', 99.99, 9.1150),
  ],
)
def test_percentiles(name, p, expected):
  observer = histogram.percentile(p=p)
  state = observed(observer, quantiles(name))
  for symmetric in (True, False):
    lo, hi = observer.range(state, AffineSpec(symmetric=symmetric))
    np.testing.assert_allclose([-lo, hi], [expected] * 2, rtol=1e-3)


def test_percentile_of_a_skewed_tensor_cuts_each_tail():
  x = jnp.asarray(np.arange(-1000, 9001, dtype=np.float32))
  observer = histogram.percentile(p=98)
  lo, hi = observer.range(
    observed(observer, x), AffineSpec(symmetric=False, bounds='unsigned')
  )
  np.testing.assert_allclose([lo, hi], [-900, 8900], atol=3)
  full = histogram.percentile(p=100)
  lo, hi = full.range(observed(full, x), AffineSpec(symmetric=False))
  assert (lo, hi) == (-1000, 9000)


MSE = [
  ('gauss', 2, 1.22401, 0.190174),
  ('gauss', 3, 1.95231, 0.046860),
  ('gauss', 4, 2.47388, 0.012889),
  ('gauss', 5, 2.89873, 0.003693),
  ('gauss', 6, 3.27011, 0.0010693),
  ('gauss', 8, 3.92050, 8.831e-5),
  ('laplace', 2, 2.00000, 0.528482),
  ('laplace', 3, 3.48640, 0.166173),
  ('laplace', 4, 4.81992, 0.054790),
  ('laplace', 5, 6.09804, 0.018170),
  ('laplace', 6, 7.35859, 0.0059590),
  ('laplace', 8, 9.88265, 6.066e-4),
]


@pytest.mark.parametrize('name, bits, alpha, error', MSE)
def test_least_squares_ranges(name, bits, alpha, error):
  x = quantiles(name)
  spec = AffineSpec(bits=bits)
  search = {'grid': 200, 'shrink': 0.95, 'exponent': 2.0}
  observer = histogram.mse(**search)
  state = observed(observer, x)
  _, hi = jax.jit(lambda s: observer.range(s, spec))(state)
  np.testing.assert_allclose(hi, alpha, rtol=0.02)
  # The error over the whole law; the sample ends where its quantiles do.
  grid = np.linspace(-40, 40, 800_001)
  law = stats.norm if name == 'gauss' else stats.laplace
  q = ranges.qparams_from_range(-hi, hi, spec)
  grid32 = jnp.asarray(grid.astype(np.float32))
  off = np.asarray(affine.fake_quantize(grid32, q, spec), np.float64) - grid
  got = np.sum(off**2 * law.pdf(grid)) * (grid[1] - grid[0])
  np.testing.assert_allclose(got, error, rtol=0.01)


def test_search_of_a_tensor_agrees_and_beats_min_max():
  x = quantiles('laplace')[::50].reshape(-1, 1) * jnp.array([[1.0, 3.0]])
  for fields in (
    {'granularity': 'tensor'},
    {'granularity': 'channel'},
    {'granularity': 'group', 'group_size': 128},
  ):
    spec = AffineSpec(bits=4, **fields)
    lo, hi = jax.jit(lambda x, s=spec: histogram.mse_range(x, s))(x)
    assert lo.shape == ranges.tensor_range(x, spec)[0].shape

    def error(q, spec=spec):
      return jnp.sum(jnp.abs(affine.fake_quantize(x, q, spec) - x) ** 2.4)

    best = error(ranges.qparams_from_range(lo, hi, spec))
    assert best < error(ranges.tensor_qparams(x, spec))
    if spec.granularity == 'tensor':
      observer = histogram.mse()
      np.testing.assert_allclose(
        observer.range(observed(observer, x), spec)[1], hi, rtol=0.02
      )


def test_search_grid_is_gptqs():
  x = jnp.concatenate([jnp.linspace(-1, 1, 4001), jnp.array([50.0])])
  lo, hi = histogram.mse_range(x, AffineSpec(bits=4, symmetric=False))
  factors = np.float32(1) - np.arange(80, dtype=np.float32) / np.float32(100)
  assert np.isclose(hi / 50, factors).any() and np.isclose(-lo, hi / 50)


KL = [
  ('gauss', 8, 4.418),
  ('laplace', 8, 9.91),
  ('gauss', 4, 3.56),
  ('laplace', 4, 6.30),
]


@pytest.mark.parametrize('name, bits, expected', KL)
def test_divergence_thresholds(name, bits, expected):
  x = quantiles(name)
  top = float(jnp.abs(x).max())
  counts, _ = np.histogram(np.abs(x), 2048, (0, top))
  search = jax.jit(kl.kl_threshold, static_argnums=1)
  kept = search(jnp.asarray(counts.astype(np.float32)), 2 ** (bits - 1))
  np.testing.assert_allclose(top * int(kept) / 2048, expected, rtol=5e-3)
  observer = kl.kl()
  spec = AffineSpec(bits=bits)
  state = observed(observer, x[::2], x[1::2])
  lo, hi = jax.jit(lambda s: observer.range(s, spec))(state)
  np.testing.assert_allclose([-lo, hi], [expected] * 2, rtol=0.03)


def test_divergence_of_a_small_histogram():
  """Every threshold of 6 bins on 2 levels, against plain NumPy."""
  counts = np.array([9, 4, 0, 2, 1, 1], np.float64)

  def loss(i):
    p = counts[:i].copy()
    p[-1] += counts[i:].sum()
    q = np.zeros(i)
    groups = np.arange(i) * 2 // i
    for g in range(2):
      part = (groups == g) & (counts[:i] > 0)
      q[part] = counts[:i][groups == g].sum() / max(part.sum(), 1)
    for h in (p, q):
      empty = h == 0
      h -= np.where(empty, -1e-4, 1e-4 * empty.sum() / (~empty).sum())
    p, q = p / p.sum(), q / q.sum()
    return (p * np.log(p / q)).sum()

  expected = min(range(2, 7), key=loss)
  got = kl.kl_threshold(jnp.asarray(counts.astype(np.float32)), 2)
  assert got == expected
  for i in range(2, 7):
    value = kl._divergence(jnp.asarray(counts.astype(np.float32)), 0, i, 2)
    np.testing.assert_allclose(value, loss(i), rtol=1e-4, atol=1e-6)


def test_divergence_signed():
  x = quantiles('laplace')
  observer = kl.kl(signed=True, candidate_bins=256, bins=4096)
  state = observed(observer, x)
  lo, hi = observer.range(state, AffineSpec(bits=4))
  np.testing.assert_allclose(hi, 6.30, rtol=0.1)
  assert lo == -hi
  skewed = observed(observer, jnp.maximum(x, -0.5))
  lo, hi = observer.range(skewed, AffineSpec(bits=4, symmetric=False))
  assert lo == -0.5 and hi < x.max()


def test_as_many_levels_as_bins_is_no_clipping():
  observer = kl.kl(candidate_bins=128, bins=256)
  x = quantiles('gauss')
  lo, hi = observer.range(observed(observer, x), AffineSpec())
  assert (lo, hi) == (x.min(), x.max())
