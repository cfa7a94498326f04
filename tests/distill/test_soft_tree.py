"""Soft decision trees against golden values and their identities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from compress import distill
from compress.errors import InputError

ROWS, FEATURES, CLASSES = np.arange(4)[:, None], np.arange(6), np.arange(5)
INPUTS = jnp.asarray(np.sin(0.3 * (ROWS + 1) * (FEATURES + 1)), jnp.float32)
TEACHER = jax.nn.softmax(
  jnp.asarray(2 * np.cos(0.5 + ROWS * CLASSES), jnp.float32)
)
TREE = distill.SoftTree(
  jnp.asarray(np.cos(0.5 * ROWS[:3] + 0.3 * FEATURES), jnp.float32),
  jnp.array([0.1, -0.2, 0.3]),
  jnp.array([1.0, 1.5, 0.5]),
  jnp.asarray(np.sin(ROWS + 0.7 * CLASSES), jnp.float32),
)


def test_golden_paths():
  gates, nodes, leaves = distill.soft_tree_paths(TREE, INPUTS)
  np.testing.assert_allclose(
    np.exp(leaves[0]),
    [0.02392522, 0.04578473, 0.58784439, 0.34244566],
    atol=2e-7,
  )
  np.testing.assert_allclose(np.exp(leaves).sum(1), 1, rtol=1e-6)
  left = jax.nn.sigmoid(-gates[:, 0])
  np.testing.assert_allclose(np.exp(nodes[:, 1]), left, rtol=1e-5)


@pytest.mark.parametrize(
  ('form', 'expected'), [('A', 1.6066944173898388), ('B', 1.6018042309028306)]
)
def test_golden_losses(form, expected):
  loss = distill.soft_tree_loss(TREE, INPUTS, TEACHER, form=form)
  np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_golden_penalty():
  penalty, state = distill.balance_penalty(TREE, INPUTS)
  np.testing.assert_allclose(penalty, 0.17689940918329985, rtol=1e-5)
  np.testing.assert_allclose(
    state.right / state.arrived,
    [0.8360843475, 0.7560230265, 0.5777211139],
    rtol=1e-6,
  )


def drawn(depth, seed=0, scale=1.0):
  key, other = jax.random.split(jax.random.key(seed))
  tree, state = distill.init_soft_tree(key, features=6, classes=5, depth=depth)
  return tree._replace(leaves=3 * tree.leaves, weight=scale * tree.weight), (
    state,
    jax.random.normal(other, (16, 6)),
  )


def test_a_is_never_below_b():
  for seed in range(5):
    tree, (_, inputs) = drawn(3, seed, scale=4.0)
    teacher = jax.nn.softmax(3 * inputs[:, :5])
    a, b = (
      distill.soft_tree_loss(tree, inputs, teacher, form=form) for form in 'AB'
    )
    assert a >= b > 0


def test_penalty_is_least_where_all_is_split_evenly():
  depth, weight = 4, 0.3
  tree, (_, inputs) = drawn(depth)
  even = tree._replace(weight=jnp.zeros_like(tree.weight))
  least, state = distill.balance_penalty(even, inputs, weight=weight)
  np.testing.assert_allclose(least, weight * depth * np.log(2), rtol=1e-6)
  np.testing.assert_allclose(state.right, state.arrived / 2, rtol=1e-6)
  assert distill.balance_penalty(tree, inputs, weight=weight)[0] > least


def test_state_averages_longer_deeper_down():
  tree, (start, inputs) = drawn(2, scale=3.0)
  alone, first = distill.balance_penalty(tree, inputs[:8], start, window=2.0)
  expected, _ = distill.balance_penalty(tree, inputs[:8])
  np.testing.assert_allclose(alone, expected, rtol=1e-6)
  _, batch = distill.balance_penalty(tree, inputs[8:])
  _, second = distill.balance_penalty(tree, inputs[8:], first, window=2.0)
  share = np.array([1 / 2, 1 / 4, 1 / 4])
  for old, new, found in zip(first, batch, second, strict=True):
    expected = (1 - share) * old + share * new
    np.testing.assert_allclose(found, expected, rtol=1e-5)
  assert jax.tree.structure(start) == jax.tree.structure(second)


def test_steep_gates_are_an_ordinary_tree():
  tree, (_, inputs) = drawn(3)
  hard = tree._replace(steepness=jnp.full_like(tree.steepness, 1e6))
  found = distill.soft_tree_predict(hard, inputs)
  weight, bias = np.asarray(tree.weight), np.asarray(tree.bias)
  for i, x in enumerate(np.asarray(inputs)):
    node = 0
    for _ in range(3):
      node = 2 * node + 1 + int(weight[node] @ x + bias[node] > 0)
    assert found.leaf[i] == node - 7
  np.testing.assert_allclose(found.best_path, found.mixture, atol=1e-6)
  np.testing.assert_allclose(
    found.best_path, jax.nn.softmax(tree.leaves)[found.leaf], rtol=1e-6
  )


@pytest.mark.parametrize('form', ['A', 'B'])
def test_gradients_are_finite_and_spare_the_teacher(form):
  tree, (_, inputs) = drawn(8, scale=100.0)
  one_hot = jax.nn.one_hot(jnp.arange(16) % 5, 5)

  @jax.jit
  def slopes(tree, inputs, teacher):
    def total(tree, teacher):
      loss = distill.soft_tree_loss(tree, inputs, teacher, form=form)
      return loss + distill.balance_penalty(tree, inputs)[0]

    return jax.value_and_grad(total, argnums=(0, 1))(tree, teacher)

  for x in (inputs, jnp.zeros_like(inputs), 1e4 * inputs):
    loss, (grads, teachers) = slopes(tree, x, one_hot)
    assert np.isfinite(loss)
    assert all(np.isfinite(leaf).all() for leaf in grads)
    assert not np.any(teachers)


def test_bfloat16_is_computed_in_float32():
  loss = distill.soft_tree_loss(
    TREE, INPUTS.astype(jnp.bfloat16), TEACHER.astype(jnp.bfloat16)
  )
  assert loss.dtype == jnp.float32
  np.testing.assert_allclose(loss, 1.6066944, rtol=2e-2)


def test_sharded_batch_gives_the_same():
  tree, (_, inputs) = drawn(3, scale=3.0)
  teacher = jax.nn.softmax(inputs[:, :5])

  @jax.jit
  def total(tree, inputs, teacher):
    loss = distill.soft_tree_loss(tree, inputs, teacher, form='B')
    return loss, distill.balance_penalty(tree, inputs)

  mesh = jax.make_mesh((8,), ('batch',), axis_types=(AxisType.Auto,))
  split = NamedSharding(mesh, PartitionSpec('batch'))
  whole = NamedSharding(mesh, PartitionSpec())
  sharded = total(
    jax.device_put(tree, whole), *jax.device_put((inputs, teacher), split)
  )
  for found, expected in zip(
    jax.tree.leaves(sharded),
    jax.tree.leaves(total(tree, inputs, teacher)),
    strict=True,
  ):
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_wrong_input_says_what_is_right():
  with pytest.raises(InputError, match='A or B'):
    distill.soft_tree_loss(TREE, INPUTS, TEACHER, form='C')
  with pytest.raises(InputError, match='tree has 6'):
    distill.soft_tree_predict(TREE, INPUTS[:, :5])
  with pytest.raises(InputError, match='tree of 5'):
    distill.soft_tree_loss(TREE, INPUTS, TEACHER[:, :4])
  with pytest.raises(InputError, match='window'):
    distill.balance_penalty(TREE, INPUTS, window=0.5)
  with pytest.raises(InputError, match='depth 0'):
    distill.init_soft_tree(jax.random.key(0), features=1, classes=2, depth=0)


def test_a_node_that_sends_all_one_way_is_drawn_back():
  """The case that the penalty is for: 1 - 2e-9 of the images go left."""
  tree = TREE._replace(weight=TREE.weight * 0, bias=jnp.array([-20.0, 0, 0]))
  penalty, slope = jax.value_and_grad(
    lambda x: distill.balance_penalty(x, INPUTS, weight=1.0)[0]
  )(tree)
  # Half of the root's -20 is the logarithm of its share.
  np.testing.assert_allclose(penalty, 10 + np.log(2), rtol=1e-5)
  np.testing.assert_allclose(slope.bias[0], -0.5, rtol=1e-5)
  _, state = distill.balance_penalty(tree, INPUTS)
  again = jax.grad(
    lambda x: distill.balance_penalty(x, INPUTS, state, weight=1.0)[0]
  )(tree)
  np.testing.assert_allclose(again.bias, slope.bias, rtol=1e-4, atol=1e-6)


def test_a_teacher_for_every_input():
  with pytest.raises(AssertionError):
    distill.soft_tree_loss(TREE, INPUTS, TEACHER[:1])
