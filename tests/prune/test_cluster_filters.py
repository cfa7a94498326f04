"""Clusters of filters, their representatives and what becomes of the rest."""

import jax.numpy as jnp
import numpy as np
import pytest

from compress import graph
from compress.errors import InputError
from compress.prune import (
  absorb_clusters,
  cluster_channels,
  cluster_filters,
  filter_features,
  group_features,
  single_shot_threshold,
)

X = jnp.array([[1.0, -2.0], [0.5, 3.0]])
# Units 0 and 2 are equal; unit 1 goes another way.
VARIABLES = {
  'a': {
    'kernel': jnp.array([[1.0, -2.0, 1.0], [2.0, 0.5, 2.0]]),
    'bias': jnp.array([0.5, 0.1, 0.5]),
  },
  'b': {'kernel': jnp.array([[1.0, 3.0], [0.0, 1.0], [-2.0, 1.0]])},
}


def apply(variables, x):
  x = x @ variables['a']['kernel'] + variables['a']['bias'].reshape(1, 3)
  return jnp.maximum(x, 0) @ variables['b']['kernel']


GROUPS = graph.channels(graph.trace(apply, VARIABLES, X)).groups


def test_features_of_units_are_their_weights():
  expected = [[1, 2, 1, 3], [-2, 0.5, 0, 1], [1, 2, -2, 1]]
  found = group_features(VARIABLES, GROUPS)['a']
  np.testing.assert_array_equal(found, expected)
  a, b = VARIABLES['a'], VARIABLES['b']
  found = filter_features(a['kernel'], b['kernel'])
  np.testing.assert_array_equal(found, expected)
  with_bias = group_features(VARIABLES, GROUPS, with_bias=True)['a']
  np.testing.assert_allclose(with_bias[:, 4], [0.5, 0.1, 0.5], rtol=1e-6)
  np.testing.assert_array_equal(
    filter_features(a['kernel'], b['kernel'], bias=a['bias']), with_bias
  )


def test_features_of_filters_are_norms():
  kernel = np.zeros((1, 2, 1, 2))
  kernel[0, :, 0] = [[3, 1], [4, 0]]  # Two positions of two filters.
  dense = np.array([[1.0], [2.0], [2.0], [-1.0]])  # Two positions first.
  np.testing.assert_allclose(
    filter_features(kernel, dense), [[5, 5**0.5], [1, 5**0.5]]
  )
  np.testing.assert_allclose(
    filter_features(kernel, kernel.swapaxes(2, 3)), [[5, 5], [1, 1]]
  )
  np.testing.assert_allclose(filter_features(kernel), [[5], [1]])


def test_groups_and_kernels_agree_behind_a_flattening():
  def flat(variables, x):
    x = jnp.einsum('bpi,io->bpo', x, variables['a']['kernel'])
    return x.reshape(len(x), -1) @ variables['b']['kernel']

  kernels = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(6, 2)
  variables = {'a': {'kernel': kernels[0]}, 'b': {'kernel': kernels[1]}}
  traced = graph.trace(flat, variables, jnp.ones((1, 2, 2)))
  found = group_features(variables, graph.channels(traced).groups)['a']
  np.testing.assert_allclose(found, filter_features(*kernels))


def test_clusters_by_hand():
  points = np.array([[0.0], [1.0], [10.0], [10.5], [-4.0]])
  found = cluster_filters(points, threshold=1.0)
  assert found.keep.tolist() == [False, True, False, True, True]
  assert found.representative.tolist() == [1, 1, 3, 3, 4]


def test_widths_fall_as_the_threshold_rises():
  points = np.random.default_rng(0).normal(size=(12, 5))
  widths = [
    cluster_filters(points, threshold=t).keep.sum()
    for t in (0, 0.5, 1, 2, 3, 5, 8, 1e9)
  ]
  assert widths[0] == 12 and widths[-1] == 1
  assert widths == sorted(widths, reverse=True)
  assert cluster_filters(np.ones((1, 2)), threshold=0.5).keep.tolist() == [True]
  twins = cluster_filters(np.ones((3, 2)), threshold=1e-9)
  assert twins.keep.tolist() == [True, False, False]


def test_equal_filters_change_the_output_unless_absorbed():
  # By what comes in alone, units 0 and 2 are one.
  found = cluster_filters(
    filter_features(VARIABLES['a']['kernel']), threshold=0.1
  )
  assert found.keep.tolist() == [True, True, False]
  keep, expected = {'a': found.keep}, apply(VARIABLES, X)
  small = graph.shrink(apply, VARIABLES, keep, X, groups=GROUPS)
  lost = np.abs(small.apply(small.variables, X) - expected).max()
  absorbed = absorb_clusters(VARIABLES, GROUPS, {'a': found})
  np.testing.assert_array_equal(
    absorbed['b']['kernel'], [[-1, 4], [0, 1], [0, 0]]
  )
  left = graph.take_kept(absorbed, small.kept)
  np.testing.assert_allclose(small.apply(left, X), expected, rtol=1e-6)
  assert lost > 1


def test_groups_are_clustered_by_one_threshold():
  # Ward distance of units 0 and 2 is ||(3, 2)||, of the others more.
  for threshold, width in ((3.6, 3), (3.61, 2), (100, 1)):
    found = cluster_channels(VARIABLES, GROUPS, threshold=threshold)
    assert found['a'].keep.sum() == width
  assert found['a'].keep.tolist() == [True, False, False]


def test_single_shot_schedule():
  assert [single_shot_threshold(e) for e in (0, 10)] == [0.3, 0.6]


@pytest.mark.parametrize(
  'call, message',
  [
    (lambda: cluster_filters(np.ones(3), threshold=1), r'finite \[n, F\]'),
    (lambda: cluster_filters(np.ones((3, 1)), threshold=-1), 'threshold=-1'),
    (lambda: filter_features(np.ones((2, 3)), np.ones((2, 2))), 'follows one'),
    (lambda: group_features({}, GROUPS), 'the variables do not'),
    (
      lambda: absorb_clusters(
        VARIABLES, GROUPS, {'c': cluster_filters(np.ones((2, 1)), threshold=1)}
      ),
      "clusters of group 'c'",
    ),
  ],
)
def test_bad_input(call, message):
  with pytest.raises(InputError, match=message):
    call()
