"""Shared values, product and residual quantization: figures and invariants."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import packed, prune
from compress.compressor import State, chain
from compress.errors import InputError
from compress.quantize import (
  ProductSpec,
  ResidualSpec,
  SharedSpec,
  SignSpec,
  binarize_signs,
  kmeans,
  lookup_product,
  product_ratio,
  quantize_products,
  quantize_residuals,
  residual_ratio,
  share_weights,
  sharing_ratio,
  with_zero_code,
)

# Figure 3 of Deep Compression.
WEIGHTS = np.array(
  [
    [2.09, -0.98, 1.48, 0.09],
    [0.05, -0.14, -1.08, 2.12],
    [-0.91, 1.92, 0, -1.03],
    [1.87, 0, 1.53, 1.49],
  ],
  np.float32,
)
GRADIENT = np.array(
  [
    [-0.03, -0.01, 0.03, 0.02],
    [-0.01, 0.01, -0.02, 0.12],
    [-0.01, 0.02, 0.04, 0.01],
    [-0.07, -0.02, 0.01, -0.02],
  ],
  np.float32,
)


def gauss(count, seed=0):
  return np.random.default_rng(seed).normal(size=count).astype(np.float32)


@functools.partial(jax.jit, static_argnums=(1, 2))
def cluster(values, count, initial, iterations, kept):
  start = kmeans.initial_centroids(
    values, count=count, initial=initial, kept=kept, key=jax.random.key(1)
  )
  return kmeans.cluster_numbers(values, start, kept=kept, iterations=iterations)


def run(values, count, initial='linear', iterations=200, kept=None):
  return cluster(jnp.asarray(values), count, initial, iterations, kept)


def error(values, found):
  return float(((values - found.centroids[found.codes]) ** 2).mean())


def test_deep_compressions_example():
  """Zeros are weights here: the figure's matrix is not pruned."""
  found = run(WEIGHTS.reshape(-1), 4)
  np.testing.assert_allclose(found.centroids, [-1, 0, 1.5, 2], atol=1e-6)
  grouped = jax.ops.segment_sum(
    jnp.asarray(GRADIENT.reshape(-1)), found.codes, num_segments=4
  )
  np.testing.assert_allclose(grouped, [-0.03, 0.04, 0.02, 0.04], atol=1e-6)
  assert sharing_ratio(16, centroids=4) == pytest.approx(3.2)


def test_a_centroids_gradient_is_the_sum_of_its_weights():
  weights = {'kernel': jnp.asarray(np.where(WEIGHTS == 0, 1e-6, WEIGHTS))}
  method = share_weights([('kernel', SharedSpec(centroids=4))])
  state = method.init(weights)

  def loss(learned):
    seen = method.apply(weights, State(learned, state.carried))
    return (seen['kernel'] * GRADIENT).sum()

  grads = jax.grad(loss)(state.learned)['kernel'].reshape(-1)
  np.testing.assert_allclose(grads, [-0.03, 0.04, 0.02, 0.04], atol=1e-6)
  moved = state.learned['kernel'].reshape(-1) - grads
  np.testing.assert_allclose(moved, [-0.97, -0.04, 1.48, 1.96], atol=1e-5)


def test_linear_initialisation():
  values = jnp.array([-1.0, 7.0, 0.0, 3.0])
  found = kmeans.initial_centroids(values, count=5)
  np.testing.assert_allclose(found, [-1, 1, 3, 5, 7])
  kept = values != 7
  found = kmeans.initial_centroids(values, count=3, kept=kept)
  np.testing.assert_allclose(found, [-1, 1, 3])


def test_density_initialisation_is_of_quantiles():
  values = jnp.asarray(np.arange(100, dtype=np.float32)[::-1].copy())
  found = kmeans.initial_centroids(values, count=4, initial='density')
  np.testing.assert_array_equal(found, [12, 37, 62, 87])


def test_random_initialisation_draws_numbers_that_count():
  values = jnp.arange(50.0)
  found = kmeans.initial_centroids(
    values,
    count=8,
    initial='random',
    kept=values % 2 == 1,
    key=jax.random.key(0),
  )
  assert len(set(found.tolist())) == 8
  assert (found % 2 == 1).all()


@pytest.mark.parametrize(
  'count, right',
  [(2, 0.363380), (4, 0.117482), (16, 0.009501)],
)
def test_lloyd_and_max_on_a_gaussian(count, right):
  values = gauss(100_000)
  found = run(values, count, 'density', iterations=400)
  assert error(values, found) == pytest.approx(right, rel=0.02)
  if count == 4:
    levels = [-1.510418, -0.452780, 0.452780, 1.510418]
    np.testing.assert_allclose(found.centroids, levels, atol=0.03)


@pytest.mark.parametrize('initial', ['linear', 'density', 'random'])
def test_distortion_never_rises(initial):
  values = np.concatenate([gauss(500), gauss(3, 1) + 30])
  errors = [error(values, run(values, 12, initial, i)) for i in range(0, 20)]
  assert (np.diff(errors) <= 1e-7).all()


@pytest.mark.parametrize('initial', ['linear', 'density', 'random'])
def test_no_error_where_centroids_suffice(initial):
  values = np.array([0, 0.01, 1, 1, 1, 0, 5.5, -3, 0.02] * 5, np.float32)
  found = run(values, 7, initial)
  np.testing.assert_array_equal(found.centroids[found.codes], values)


def test_more_centroids_than_numbers():
  found = run([1.0, 2.0], 9, 'random')
  assert np.isfinite(found.centroids).all()
  found = run([0.0, 0.0], 3, kept=jnp.zeros(2, bool))
  assert np.isfinite(found.centroids).all()


def pruned_kernel(shape=(20, 12), seed=0, sparsity=0.75):
  weights = gauss(shape, seed)
  cut = np.quantile(np.abs(weights), sparsity)
  return jnp.asarray(np.where(np.abs(weights) > cut, weights, 0))


def test_zeros_stay_and_take_no_centroid():
  kernel = pruned_kernel()
  method = share_weights([('.*', SharedSpec(centroids=4))])
  state = method.init({'kernel': kernel})
  out = method.apply({'kernel': kernel}, state)['kernel']
  np.testing.assert_array_equal(out == 0, kernel == 0)
  found = run(kernel[kernel != 0], 4)
  np.testing.assert_allclose(
    state.learned['kernel'].reshape(-1), found.centroids, rtol=1e-5
  )


def test_pruned_then_shared_packs_survivors_alone():
  params = {'kernel': jnp.asarray(gauss((20, 12))), 'bias': jnp.zeros(12)}
  method = chain(
    prune.prune_weights([('.*', 0.75)]),
    share_weights([('.*kernel', SharedSpec(centroids=4))]),
  )
  tree = method.pack(params, method.init(params))
  found = tree['kernel']
  assert isinstance(found, packed.Sparse)
  assert isinstance(found.inner, packed.Codebook)
  assert found.mask.sum() == 60
  # A bitmap, two bits a survivor, four centroids.
  assert packed.nbytes(found) == 30 + 15 + 16


def test_a_dense_kernel_packs_to_what_the_papers_count():
  params = {'kernel': jnp.asarray(gauss((64, 64)))}
  specs = [('.*', SharedSpec(centroids=16))]
  method = share_weights(specs, learned=False)
  found = method.pack(params, method.init(params))['kernel']
  assert isinstance(found, packed.Codebook)
  ratio = 4 * 64 * 64 / packed.nbytes(found)
  assert ratio == pytest.approx(sharing_ratio(4096, centroids=16))


@pytest.mark.parametrize('shape', [(20, 12), (3, 3, 4, 8), (40,), ()])
def test_a_zero_code_says_the_same(shape):
  kernel = pruned_kernel(shape, sparsity=0.5) if shape else jnp.float32(2)
  method = chain(
    prune.prune_weights([('.*', 0.5)], prunable=lambda path, leaf: True),
    share_weights([('.*', SharedSpec(centroids=4))]),
  )
  tree = method.pack({'w': kernel}, method.init({'w': kernel}))
  found = with_zero_code(tree['w'])
  assert isinstance(found, packed.Codebook)
  np.testing.assert_array_equal(packed.unpack(found), packed.unpack(tree['w']))
  values = np.abs(found.centroids.reshape(-1))
  assert values[0] == 0 and (np.diff(values) >= 0).all()


def test_what_is_not_sparse_has_no_zero_code():
  dense = packed.Dense(jnp.ones(3))
  assert with_zero_code(dense) is dense


def test_signs():
  params = {'kernel': jnp.array([[1.0, -3.0], [0.0, 2.0]])}
  method = binarize_signs([('.*', SignSpec())])
  out = method.apply(params, method.init(params))['kernel']
  np.testing.assert_array_equal(out, [[2, -2], [0, 2]])
  method = binarize_signs([('.*', SignSpec(scaled=False))])
  out = method.apply(params, method.init(params))['kernel']
  np.testing.assert_array_equal(out, [[1, -1], [0, 1]])


def test_ratios_of_the_paper():
  assert sharing_ratio(4096**2, centroids=4) == pytest.approx(15.9999, abs=1e-4)
  assert sharing_ratio(4096**2, centroids=16) == pytest.approx(7.9999, abs=1e-4)
  for rows, columns, segments, count, right in [
    (4096, 4096, 1024, 16, 28.4444),
    (4096, 9216, 2304, 256, 8.0),
    (1000, 4096, 1024, 256, 3.1397),
  ]:
    found = product_ratio(rows, columns, segments=segments, centroids=count)
    assert found == pytest.approx(right, abs=1e-4)
  one = residual_ratio(1000, 64, stages=1, centroids=16)
  assert one == pytest.approx(product_ratio(1000, 64, segments=1, centroids=16))
  two = residual_ratio(1000, 64, stages=2, centroids=16)
  assert one == pytest.approx(2 * two)


def applied(method, kernel):
  params = {'kernel': kernel}
  return method.apply(params, method.init(params))['kernel']


def test_products_are_exact_where_vectors_suffice():
  pieces = gauss((3, 4))
  picks = np.random.default_rng(0).integers(0, 3, (10, 2))
  kernel = jnp.asarray(pieces[picks].reshape(10, 8).T)  # [in 8, out 10]
  method = quantize_products([('.*', ProductSpec(centroids=3, length=4))])
  np.testing.assert_allclose(applied(method, kernel), kernel, atol=1e-6)


def test_products_of_whole_rows_are_residuals_of_one_stage():
  kernel, key = jnp.asarray(gauss((6, 40))), jax.random.key(4)
  product = quantize_products(
    [('.*', ProductSpec(centroids=5, length=None))], key=key
  )
  out = applied(product, kernel)
  assert len(np.unique(np.asarray(out), axis=1).T) == 5
  residual = quantize_residuals(
    [('.*', ResidualSpec(centroids=5, stages=1))], key=key
  )
  loss = float(((out - kernel) ** 2).mean())
  other = float(((applied(residual, kernel) - kernel) ** 2).mean())
  assert loss < float((kernel**2).mean())
  assert other == pytest.approx(loss, rel=0.2)


def test_residuals_fall_with_stages():
  kernel = jnp.asarray(gauss((6, 40)))
  errors = []
  for stages in (1, 2, 3):
    spec = ResidualSpec(centroids=4, stages=stages)
    out = applied(quantize_residuals([('.*', spec)]), kernel)
    errors.append(float(((out - kernel) ** 2).mean()))
  assert (np.diff(errors) < 0).all()


def test_sizes_of_products_and_residuals():
  params = {'kernel': jnp.asarray(gauss((8, 32)))}
  method = quantize_products([('.*', ProductSpec(centroids=4, length=2))])
  found = method.pack(params, method.init(params))['kernel']
  ratio = 4 * 8 * 32 / packed.nbytes(found)
  right = product_ratio(32, 8, segments=4, centroids=4)
  assert ratio == pytest.approx(right)
  method = quantize_residuals([('.*', ResidualSpec(centroids=4, stages=2))])
  found = method.pack(params, method.init(params))['kernel']
  right = residual_ratio(32, 8, stages=2, centroids=4)
  assert 4 * 8 * 32 / packed.nbytes(found) == pytest.approx(right)


def test_a_layer_from_its_codebook():
  kernel, inputs = jnp.asarray(gauss((8, 5))), jnp.asarray(gauss((3, 8), 1))
  method = quantize_products([('.*', ProductSpec(centroids=3, length=2))])
  book = method.pack({'k': kernel}, method.init({'k': kernel}))['k']
  out = lookup_product(inputs, book)
  np.testing.assert_allclose(out, inputs @ packed.unpack(book), atol=1e-5)
  with pytest.raises(InputError, match='cut along its inputs'):
    lookup_product(inputs, packed.Codebook(**{**vars(book), 'axis': 1}))


@pytest.mark.parametrize(
  'make, message',
  [
    (lambda: SharedSpec(centroids=0), 'centroids=0'),
    (lambda: SharedSpec(initial='best'), 'linear, density, random'),
    (lambda: ProductSpec(length=0), 'length=0'),
    (lambda: ResidualSpec(stages=0), 'stages=0'),
    (
      lambda: applied(
        quantize_products([('.*', ProductSpec(length=3))]), jnp.ones((4, 5))
      ),
      'kernel: axis -2 of shape .4, 5. cannot be cut into segments of 3',
    ),
    (
      lambda: applied(quantize_products([('.*', ProductSpec())]), jnp.ones(4)),
      'has no axis -2',
    ),
    (
      lambda: applied(
        share_weights([('.*', SharedSpec(initial='random'))]), jnp.ones(4)
      ),
      'needs a key',
    ),
  ],
)
def test_refuses_what_cannot_be(make, message):
  with pytest.raises(InputError, match=message):
    make()
