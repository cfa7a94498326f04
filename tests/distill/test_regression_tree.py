"""Regression trees against scikit-learn, and against what they must do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.tree import DecisionTreeRegressor

from compress import distill
from compress.errors import InputError

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(120, 5)).astype(np.float32)
TARGETS = np.stack(
  [np.sin(INPUTS[:, 0] * k) + INPUTS[:, 1] * (k - 1) for k in range(3)], axis=1
)


def error(depth, **options):
  tree = distill.fit_regression_tree(INPUTS, TARGETS, depth=depth, **options)
  found = distill.regression_tree_predict(tree, jnp.asarray(INPUTS))
  return np.sum((np.asarray(found, np.float64) - TARGETS) ** 2)


def test_depth_zero_is_the_mean():
  tree = distill.fit_regression_tree(INPUTS, TARGETS, depth=0)
  found = distill.regression_tree_predict(tree, jnp.asarray(INPUTS[:4]))
  expected = np.broadcast_to(TARGETS.mean(0), (4, 3))
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
  assert distill.regression_tree_nbytes(tree) == 4 * (4 + 3)


def test_error_falls_with_depth():
  errors = [error(depth) for depth in range(6)]
  assert np.all(np.diff(errors) < 0)
  assert error(6, min_leaf=30) > error(6)


@pytest.mark.parametrize('depth', [1, 4, 20])
def test_agrees_with_scikit_learn(depth):
  tree = distill.fit_regression_tree(INPUTS, TARGETS, depth=depth)
  theirs = DecisionTreeRegressor(max_depth=depth, random_state=0)
  theirs.fit(INPUTS, TARGETS)
  new = RNG.normal(size=(50, 5)).astype(np.float32)
  inputs = np.concatenate([INPUTS, new])
  found = jax.jit(distill.regression_tree_predict)(tree, jnp.asarray(inputs))
  np.testing.assert_allclose(
    found, theirs.predict(inputs), rtol=1e-5, atol=1e-6
  )
  assert tree.depth == theirs.get_depth()
  leaves = distill.regression_tree_leaf(tree, jnp.asarray(inputs))
  np.testing.assert_array_equal(leaves, theirs.apply(inputs))


def test_thresholds_between_neighbouring_floats():
  # scikit-learn takes values within 1e-7 of each other as equal.
  low = np.float32(100.0)
  high = np.nextafter(low, np.float32(200.0))
  inputs = np.array([[low], [high]])
  tree = distill.fit_regression_tree(inputs, np.eye(2), depth=1)
  found = distill.regression_tree_predict(tree, jnp.asarray(inputs))
  np.testing.assert_array_equal(found, np.eye(2))


def test_recovers_a_piecewise_constant_target():
  pieces = np.array([[1.0, 0.0], [0.0, 3.0], [2.0, 2.0], [-1.0, 5.0]])
  which = 2 * (INPUTS[:, 3] > 0.1) + (INPUTS[:, 2] > -0.4)
  tree = distill.fit_regression_tree(INPUTS, pieces[which], depth=20)
  found = distill.regression_tree_predict(tree, jnp.asarray(INPUTS))
  np.testing.assert_allclose(found, pieces[which], atol=1e-6)


def test_a_common_affine_change_leaves_the_classes():
  first = distill.fit_regression_tree(INPUTS, TARGETS, depth=3)
  second = distill.fit_regression_tree(INPUTS, 4 * TARGETS - 8, depth=3)
  classes = [
    distill.regression_tree_predict(tree, jnp.asarray(INPUTS))
    for tree in (first, second)
  ]
  assert distill.agreement(*classes) == 1


def test_targets_and_agreement():
  logits = jnp.array([[1.0, 3.0], [4.0, 2.0], [0.0, 1.0]])
  scaled = distill.tree_targets(logits, temperature=2.0)
  np.testing.assert_array_equal(scaled, logits / 2)
  soft = distill.tree_targets(logits, temperature=2.0, probabilities=True)
  np.testing.assert_allclose(soft.sum(1), 1, rtol=1e-6)
  np.testing.assert_allclose(soft[0, 1], 1 / (1 + np.exp(-1.0)), rtol=1e-6)
  other = jnp.array([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
  assert distill.agreement(logits, other) == pytest.approx(2 / 3)


def test_wrong_input_says_what_is_right():
  for options, message in (
    ({'depth': -1}, 'depth -1'),
    ({'depth': 1, 'min_leaf': 0}, 'min_leaf 0'),
  ):
    with pytest.raises(InputError, match=message):
      distill.fit_regression_tree(INPUTS, TARGETS, **options)
  with pytest.raises(InputError, match='120, 5'):
    distill.fit_regression_tree(INPUTS, TARGETS[:3], depth=1)
  with pytest.raises(InputError, match='B at least 1'):
    distill.fit_regression_tree(INPUTS[:0], TARGETS[:0], depth=1)
  with pytest.raises(InputError, match='finite'):
    distill.fit_regression_tree(INPUTS, TARGETS * np.nan, depth=1)
  with pytest.raises(InputError, match='temperature'):
    distill.tree_targets(jnp.ones((1, 2)), temperature=0.0)


@pytest.mark.parametrize('depth', [0, 2])
def test_inputs_of_another_length_are_refused(depth):
  tree = distill.fit_regression_tree(INPUTS, TARGETS, depth=depth)
  with pytest.raises(InputError, match='inputs of 3 values; the tree has 5'):
    distill.regression_tree_predict(tree, jnp.ones((4, 3)))
