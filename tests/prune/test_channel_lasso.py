"""Channels chosen by LASSO, and kernels refitted to do without the others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name
from sklearn import linear_model

from compress import graph
from compress.errors import InputError
from compress.prune import (
  channel_lasso,
  lasso,
  lasso_channels,
  moments,
  refit,
  relative_error,
)
from compress.prune.site_rows import from_matrix, read_rows, to_matrix

RNG = np.random.default_rng(0)


def normal(*shape):
  return RNG.normal(size=shape).astype(np.float32)


def test_lasso_of_orthonormal_columns_is_a_soft_threshold():
  found = lasso(np.eye(4), np.array([3.0, -2.0, 0.5, -0.5]), penalty=1.0)
  np.testing.assert_allclose(found, [2, -1, 0, 0])


def test_lasso_is_that_of_a_library():
  x, y = RNG.normal(size=(50, 6)), RNG.normal(size=50)
  x[:, 1] = x[:, 0] + 0.1 * x[:, 1]
  x[:, 4] = 0
  other = linear_model.Lasso(alpha=0.05, fit_intercept=False, tol=1e-10)
  found = lasso(x.T @ x / 50, x.T @ y / 50, penalty=0.05)
  np.testing.assert_allclose(found, other.fit(x, y).coef_, atol=1e-6)
  assert found[4] == 0 and np.count_nonzero(found) < 6


def test_exactly_the_wanted_number_stays():
  x = RNG.normal(size=(40, 8))
  x[:, 5], x[:, 2] = x[:, 3], 0
  gram, products = x.T @ x / 40, x.T @ (x @ np.arange(1.0, 9)) / 40
  for count in range(1, 9):
    keep, beta = lasso_channels(gram, products, count)
    assert keep.sum() == count
    assert count == 8 or not (beta[~keep] != 0).any()
    assert count == 8 or not keep[2]
  # The strongest contribution is the last to leave.
  assert lasso_channels(np.eye(3), np.array([1.0, 3, 2]), 1)[0].tolist() == [
    False,
    True,
    False,
  ]
  # All leave at once: the lowest index stays.
  assert lasso_channels(np.eye(3), np.ones(3), 1)[0].tolist() == [1, 0, 0]


def test_refit_is_least_squares():
  x, kernel = RNG.normal(size=(30, 4)), RNG.normal(size=(4, 2))
  y = RNG.normal(size=(30, 2))
  found, keep = moments(x, y), np.array([True, False, True, True])
  fitted = refit(found, kernel, keep, ridge=0.0)
  expected = np.linalg.lstsq(x[:, keep], y, rcond=None)[0]
  np.testing.assert_allclose(fitted[keep], expected, rtol=1e-10)
  np.testing.assert_array_equal(fitted[1], 0)
  error = np.square(y - x @ fitted).sum() / np.square(y).sum()
  np.testing.assert_allclose(relative_error(found, fitted), error, rtol=1e-10)


def test_nothing_removed_reproduces_the_kernel():
  x, kernel = RNG.normal(size=(9, 12)), RNG.normal(size=(12, 2))
  found = moments(x, x @ kernel)  # Fewer samples than inputs.
  fitted = refit(found, kernel, np.ones(12, bool), ridge=1e-3)
  np.testing.assert_allclose(fitted, kernel, rtol=1e-12)
  assert relative_error(found, fitted) < 1e-12


@pytest.mark.parametrize(
  'layout, shape, kernel',
  [
    (('NHWC', 'HWIO', 'NHWC'), (2, 5, 6, 3), (3, 2, 3, 4)),
    (('NCHW', 'OIHW', 'NCHW'), (2, 3, 5, 6), (4, 3, 3, 2)),
  ],
)
def test_a_convolution_is_a_matrix_product(layout, shape, kernel):
  def conv(variables, x):
    return jax.lax.conv_general_dilated(
      x,
      variables['a'],
      (2, 1),
      'SAME',
      rhs_dilation=(1, 2),
      dimension_numbers=layout,
    )

  variables, x = {'a': normal(*kernel)}, normal(*shape)
  (site,) = graph.trace(conv, variables, x).sites
  rows = jax.jit(read_rows(conv, site))(variables, x)
  matrix = to_matrix(variables['a'], site)
  assert matrix.shape == (18, 4) and rows.inputs.shape == (2 * 3 * 6, 18)
  np.testing.assert_allclose(rows.inputs @ matrix, rows.outputs, atol=1e-5)
  back = from_matrix(matrix, kernel, site)
  np.testing.assert_array_equal(back, variables['a'])
  # Taps of one channel lie side by side.
  axis = layout[1].index('I')
  np.testing.assert_array_equal(
    matrix[:6].ravel(),
    np.moveaxis(np.take(variables['a'], 0, axis), 0, 2 if axis == 1 else 0)
    .reshape(6, 4)
    .ravel(),
  )


def small(variables, x):
  x = jax.lax.conv_general_dilated(
    x,
    variables['a'],
    (1, 1),
    'SAME',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
  x = jnp.maximum(x, 0).reshape(len(x), -1)
  x = jnp.maximum(x @ variables['b'], 0)
  return x @ variables['c']


def test_what_is_redundant_leaves_without_loss():
  variables = {
    'a': normal(3, 3, 1, 4),
    'b': normal(16, 3),
    'c': normal(3, 2),
  }
  # What channel 3 gives is twice what channel 0 gives; likewise of b's units.
  variables['a'][..., 3] = 2 * variables['a'][..., 0]
  variables['b'][3::4] = variables['b'][::4]
  variables['b'][:, 1] = variables['b'][:, 2]
  variables['c'][1] = 2 * variables['c'][2]
  variables = jax.tree.map(jnp.asarray, variables)
  x = normal(40, 2, 2, 1)
  groups = graph.channels(graph.trace(small, variables, x)).groups
  found = channel_lasso(
    small, variables, x, groups, {'a': 0.25, 'b': 0.3}, batch_size=20
  )
  assert found.keep['a'].tolist() == [False, True, True, True]
  assert found.keep['b'].tolist() == [True, True, False]
  assert max(found.errors.values()) < 1e-6
  left = graph.shrink(small, found.variables, found.keep, x, groups=groups)
  np.testing.assert_allclose(
    left.apply(left.variables, x), small(variables, x), rtol=1e-2, atol=1e-2
  )


def branches(variables, x):
  shortcut = jnp.maximum(x @ variables['p'], 0) @ variables['q']
  branch = jnp.maximum(x @ variables['a'], 0) @ variables['b']
  return checkpoint_name(branch + shortcut, 'sum') @ variables['c']


def test_a_branch_absorbs_what_the_shortcut_lost():
  shapes = {'p': (3, 4), 'q': (4, 2), 'a': (3, 4), 'b': (4, 2), 'c': (2, 2)}
  variables = {name: normal(*shape) for name, shape in shapes.items()}
  variables['a'][:, 1] = 0
  variables = jax.tree.map(jnp.asarray, variables)
  x = normal(30, 3)
  groups = graph.channels(graph.trace(branches, variables, x)).groups
  expected = branches(variables, x)

  def lost(sums):
    found = channel_lasso(
      branches, variables, x, groups, {'p': 0.5, 'a': 0.25}, sums=sums
    )
    assert found.keep['a'].tolist() == [True, False, True, True]
    assert found.keep['p'].sum() == 2 and found.coefficients['a'][1] == 0
    out = branches(found.variables, x) - expected
    return found.errors['a'], float(jnp.square(out).sum())

  alone, together = lost(None), lost({'b': 'sum'})
  assert alone[0] < 1e-6 < together[0] and together[1] < 0.9 * alone[1]


@pytest.mark.parametrize(
  'call, message',
  [
    (lambda: lasso_channels(np.eye(2), np.ones(2), 3), '3 channels of 2'),
    (
      lambda: channel_lasso(*MODEL, {'z': 0.5}),
      "no group of channels is called 'z'",
    ),
    (lambda: channel_lasso(*MODEL, {'p': 1.0}), 'p: sparsity 1'),
    (
      lambda: channel_lasso(*MODEL, {'p': 0.5}, sums={'q': 'all'}),
      "no value 'all'",
    ),
    (
      lambda: channel_lasso(*SHARED, {'p': 0.5}),
      'p: not read by exactly one layer',
    ),
  ],
)
def test_bad_input(call, message):
  with pytest.raises(InputError, match=message):
    call()


def shared(variables, x):
  x = x @ variables['p']
  return x @ variables['q'] + x @ variables['a']


def model(apply, **shapes):
  variables = {name: jnp.ones(shape) for name, shape in shapes.items()}
  x = jnp.ones((1, 3))
  return (
    apply,
    variables,
    x,
    graph.channels(graph.trace(apply, variables, x)).groups,
  )


MODEL = model(branches, p=(3, 4), q=(4, 2), a=(3, 4), b=(4, 2), c=(2, 2))
SHARED = model(shared, p=(3, 4), q=(4, 2), a=(4, 2))
