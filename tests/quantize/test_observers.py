"""Observers of ends and moments, and ACIQ."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from compress.errors import InputError
from compress.quantize import aciq, histogram, kl, observers, ranges
from compress.quantize.spec import AffineSpec

SPEC = AffineSpec(symmetric=False, bounds='unsigned')
SIMPLE = {
  'minmax': observers.minmax,
  'cumulative': observers.cumulative,
  'ema': observers.ema_minmax,
  'debiased': lambda axis=None: observers.ema_minmax(debias=True, axis=axis),
  'samples': observers.sample_minmax,
  'mean_std': lambda axis=None: observers.mean_std(k=2.0, axis=axis),
  'laplace': aciq.aciq,
  'gauss': lambda axis=None: aciq.aciq(prior='gauss', axis=axis),
}
HISTOGRAMS = {
  'percentile': lambda: histogram.percentile(p=99, bins=64),
  'mse': lambda: histogram.mse(bins=64),
  'kl': lambda: kl.kl(candidate_bins=160, bins=256),
}
ALL = {**SIMPLE, **HISTOGRAMS}
EXACT_MERGE = {'minmax', 'cumulative', 'samples', 'mean_std', *HISTOGRAMS}


def batches(count=3, shape=(8, 5, 6), seed=0):
  rng = np.random.default_rng(seed)
  return [
    jnp.asarray(rng.normal(0.3, 2, shape).astype(np.float32))
    for _ in range(count)
  ]


def run(observer, xs):
  state = observer.init(xs[0].shape)
  for x in xs:
    state = observer.update(state, x)
  return state


def close(a, b, rtol=1e-5):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6), a, b
  )


@pytest.mark.parametrize('name', ALL)
def test_contract(name):
  observer = ALL[name]()
  xs = batches()
  lo, hi = observer.range(observer.init(xs[0].shape), SPEC)
  assert lo == 0 and hi == 0 and lo.shape == ()
  state = run(observer, xs)
  _, scanned = jax.lax.scan(
    lambda s, x: (observer.update(s, x),) * 2,
    observer.init(()),
    jnp.stack(xs),
  )
  close(jax.tree.map(lambda s: s[-1], scanned), state)
  lo, hi = jax.jit(lambda s: observer.range(s, SPEC))(state)
  assert lo.dtype == hi.dtype == jnp.float32
  assert lo < 0 < hi
  everything = jnp.stack(xs)
  assert lo >= everything.min() and hi <= everything.max()
  q = ranges.qparams_from_range(lo, hi, SPEC)
  assert jnp.isfinite(q.scale)
  jax.tree.map(lambda a, b: None, state, observer.init(()))


@pytest.mark.parametrize('name', ALL)
def test_merge(name):
  observer = ALL[name]()
  xs = batches(4)
  merged = observer.merge(run(observer, xs[:2]), run(observer, xs[2:]))
  if name in EXACT_MERGE:
    close(merged, run(observer, xs))
  empty = observer.init(xs[0].shape)
  if name not in ('ema', 'debiased'):
    close(observer.merge(empty, merged), merged)
    close(observer.merge(merged, empty), merged)
  stacked = jax.tree.map(
    lambda *s: jnp.stack(s), run(observer, xs[:2]), run(observer, xs[2:])
  )
  mapped = jax.vmap(
    lambda s: observers.across(observer, s, 'devices'), axis_name='devices'
  )(stacked)
  for i in range(2):
    close(jax.tree.map(lambda s, i=i: s[i], mapped), merged)


@pytest.mark.parametrize('name', SIMPLE)
def test_channels_equal_one_observer_each(name):
  xs = batches()
  whole = SIMPLE[name](axis=-1)
  lo, hi = whole.range(run(whole, xs), SPEC)
  assert lo.shape == hi.shape == (1, 1, 6)
  one = SIMPLE[name]()
  for c in range(6):
    expected = one.range(run(one, [x[..., c : c + 1] for x in xs]), SPEC)
    close((lo[0, 0, c], hi[0, 0, c]), expected)


def test_axis_out_of_range():
  with pytest.raises(InputError, match='axis=3'):
    observers.minmax(axis=3).init((2, 3))
  with pytest.raises(InputError, match='axis 0'):
    observers.sample_minmax(axis=0).init((2, 3))


@pytest.mark.parametrize(
  'make',
  [
    lambda: observers.ema_minmax(decay=1.0),
    lambda: observers.mean_std(k=0),
    lambda: aciq.aciq(prior='cauchy'),
    lambda: aciq.clip_multiplier(0),
    lambda: histogram.percentile(p=0),
    lambda: histogram.percentile(p=100.1),
    lambda: histogram.percentile(bins=100),
    lambda: histogram.mse(grid=0),
    lambda: histogram.mse(shrink=1.0),
    lambda: kl.kl(candidate_bins=1),
  ],
)
def test_bad_settings(make):
  with pytest.raises(InputError):
    make()


def test_ends_by_hand():
  xs = [jnp.array([[1.0, 2.0], [3.0, 5.0]]), jnp.array([[2.0, -1.0]])]

  def ends(observer, xs=xs):
    return [float(v) for v in observer.range(run(observer, xs), SPEC)]

  assert ends(observers.minmax()) == [-1, 5]
  assert ends(observers.cumulative(), xs[:1]) == [0, 5]
  assert ends(observers.minmax(), xs[:1]) == [1, 5]
  np.testing.assert_allclose(
    ends(observers.ema_minmax(decay=0.75)), [0.5, 4.25], rtol=1e-6
  )
  # From zero, 0.25 of the first: 0.25, 1.25; then 0.75 old + 0.25 new.
  np.testing.assert_allclose(
    ends(observers.ema_minmax(decay=0.75, debias=True)),
    [(0.75 * 0.25 - 0.25) / 0.4375, (0.75 * 1.25 + 0.5) / 0.4375],
    rtol=1e-6,
  )
  np.testing.assert_allclose(
    ends(observers.sample_minmax()), [1.0, 3.0], rtol=1e-6
  )


def test_averages_start_at_the_data():
  x = batches(1)[0]
  for debias in (False, True):
    observer = observers.ema_minmax(decay=0.99, debias=debias)
    for count in (1, 5):
      got = observer.range(run(observer, [x] * count), SPEC)
      close(got, (x.min(), x.max()))


def test_mean_std_does_not_cancel():
  x = 1e4 + batches(1, (4000,))[0]
  observer = observers.mean_std(k=1.0)
  lo, hi = observer.range(run(observer, [x[:2500], x[2500:]]), SPEC)
  exact = np.asarray(x, np.float64)
  np.testing.assert_allclose((hi - lo) / 2, exact.std(), rtol=1e-3)


def test_infinite_and_missing_numbers_show():
  for name in ('minmax', 'percentile', 'laplace'):
    observer = ALL[name]()
    lo, _ = observer.range(run(observer, [jnp.array([1.0, jnp.nan])]), SPEC)
    assert jnp.isnan(lo), name


ACIQ = [
  (1, 1.862817, 0.599643, 1.239905, 0.215010, 2.830683),
  (2, 2.830683, 0.284878, 1.710635, 0.087148, 3.897229),
  (3, 3.897229, 0.119702, 2.151593, 0.031429, 5.028640),
  (4, 5.028640, 0.046021, 2.559136, 0.010493, 6.204766),
  (5, 6.204766, 0.016572, 2.936201, 0.0033226, 7.413126),
  (6, 7.413126, 0.0056788, 3.286914, 0.0010129, 8.645620),
  (7, 8.645620, 0.0018725, 3.615114, 0.00030022, 9.896760),
  (8, 9.896760, 0.00059885, 3.924037, 8.708e-5, 11.162685),
]


@pytest.mark.parametrize(
  'bits, laplace, laplace_mse, gauss, gauss_mse, one', ACIQ
)
def test_aciq_table(bits, laplace, laplace_mse, gauss, gauss_mse, one):
  for got, expected in (
    (aciq.clip_multiplier(bits), laplace),
    (aciq.clip_multiplier(bits, prior='gauss'), gauss),
    (aciq.clip_multiplier(bits, one_sided=True), one),
  ):
    np.testing.assert_allclose(got, expected, atol=1.5e-6)
  for prior, alpha, density, expected in (
    ('laplace', laplace, stats.laplace.pdf, laplace_mse),
    ('gauss', gauss, stats.norm.pdf, gauss_mse),
  ):

    def error(alpha, density=density):
      clipped, _ = integrate.quad(
        lambda x: 2 * (x - alpha) ** 2 * density(x), alpha, 60
      )
      return clipped + alpha**2 / (3 * 4**bits)

    np.testing.assert_allclose(error(alpha), expected, rtol=1e-3)
    best = aciq.clip_multiplier(bits, prior=prior)
    assert error(best) <= min(error(best * 1.01), error(best * 0.99))


def test_aciq_range_by_hand():
  x = jnp.asarray(stats.laplace.ppf((np.arange(20001) + 0.5) / 20001))
  x = x.astype(jnp.float32)
  four = AffineSpec(bits=4)
  b = float(jnp.abs(x).mean())
  observer = aciq.aciq()
  lo, hi = observer.range(run(observer, [3 + 2 * x]), four)
  np.testing.assert_allclose(hi, 3 + 2 * b * 5.028640, rtol=1e-4)
  np.testing.assert_allclose(lo, 3 - 2 * b * 5.028640, rtol=1e-4)
  y = jnp.maximum(x, 0)
  lo, hi = observer.range(run(observer, [y]), four)
  width = float(jnp.abs(y - y.mean()).mean())
  assert lo == 0
  np.testing.assert_allclose(hi, y.mean() + width * 6.204766, rtol=1e-4)


def test_cumulative_range_is_quantface_calibration():
  """Boutros et al. 2022: ends only grow, from 0; then they stay."""
  observer = observers.cumulative()
  xs = [x + 3 for x in batches(4)]
  state, lows, highs = observer.init(()), [], []
  for x in xs:
    state = observer.update(state, x)
    lo, hi = observer.range(state, SPEC)
    lows.append(float(lo))
    highs.append(float(hi))
  assert lows == [
    float(v)
    for v in np.minimum(0, np.minimum.accumulate([x.min() for x in xs]))
  ]
  assert highs == [
    float(v) for v in np.maximum.accumulate([x.max() for x in xs])
  ]
