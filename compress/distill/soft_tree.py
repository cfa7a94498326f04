r"""Soft decision trees: gates that are linear, leaves that are fixed.

Frosst, Hinton 2017, 'Distilling a Neural Network Into a Soft Decision Tree',
arXiv:1711.09784. Inner node i sends x to its right child with probability

  p_i(x) = sigmoid(beta_i (w_i . x + b_i)) ,

leaf l holds one distribution Q^l = softmax(phi^l), and P^l(x) is the product of
the probabilities on the path to it. With T a teacher's probabilities and
CE_l = - sum_k T_k log Q^l_k, the losses are

  A = mean_x sum_l P^l(x) CE_l(x) ,    B = mean_x - log sum_l P^l exp(-CE_l) .

The paper's equation 3 takes the logarithm of the sum in A with its sign turned,
which is negative; A is what implementations minimise, B a bound on the mixture,
and A is never below B. To keep both halves of a node in use, with

  alpha_i = sum_x P^i(x) p_i(x) / sum_x P^i(x) ,
  C = - lambda sum_i 2^-depth(i) (log alpha_i + log(1 - alpha_i)) / 2

is added (equations 4 and 5). Nodes are counted level by level from the left:
node i has the children 2 i + 1 (left) and 2 i + 2. Paths are products of many
probabilities, so they are kept as logarithms.
"""

from typing import Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp

from compress.errors import InputError

# Mean probability below which a node has no alpha.
_REACHED = 1e-12
_LEAST = 1e-20


class SoftTree(NamedTuple):
  """A soft decision tree of depth d over D inputs and K classes.

  Attributes:
    weight: float32 `[2^d - 1, D]`, w.
    bias: float32 `[2^d - 1]`, b.
    steepness: float32 `[2^d - 1]`, beta.
    leaves: float32 `[2^d, K]`, phi.
  """

  weight: jax.Array
  bias: jax.Array
  steepness: jax.Array
  leaves: jax.Array


class SoftTreeState(NamedTuple):
  """Running sums of alpha over batches; both parts float32 `[2^d - 1]`.

  Attributes:
    right: the numerator, what went right of what arrived.
    arrived: the denominator.
  """

  right: jax.Array
  arrived: jax.Array


class SoftTreePrediction(NamedTuple):
  """What a tree says of a batch.

  Attributes:
    best_path: float32 `[B, K]`, the distribution of the most probable leaf.
    mixture: float32 `[B, K]`, all leaves, weighed by their probabilities.
    leaf: int32 `[B]`, the most probable leaf, from the left.
  """

  best_path: jax.Array
  mixture: jax.Array
  leaf: jax.Array


def init_soft_tree(
  key: jax.Array, *, features: int, classes: int, depth: int = 8
) -> tuple[SoftTree, SoftTreeState]:
  """A tree with random gates, whose leaves hardly differ.

  Args:
    key: draws gates, N(0, 1 / D), and leaves, N(0, 0.01).
    features: D, length of the flattened input.
    classes: K.
    depth: d, 1 or more; the paper has 8.

  Returns:
    The tree (beta = 1), and a state for `balance_penalty`.

  Raises:
    InputError: a size below 1.
  """
  if min(features, classes, depth) < 1:
    raise InputError(
      f'a tree of depth {depth}, {features} features, {classes} classes; '
      'right is 1 or more of each'
    )
  inner, leaves = 2**depth - 1, 2**depth
  gate_key, leaf_key = jax.random.split(key)
  weight = jax.random.normal(gate_key, (inner, features)) / features**0.5
  tree = SoftTree(
    weight,
    jnp.zeros(inner),
    jnp.ones(inner),
    0.1 * jax.random.normal(leaf_key, (leaves, classes)),
  )
  return tree, SoftTreeState(jnp.zeros(inner), jnp.zeros(inner))


def soft_tree_paths(
  tree: SoftTree, inputs: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Log-probabilities of arriving at nodes and leaves.

  Args:
    tree: the tree.
    inputs: `[B, ...]`, flattened to `[B, D]`; best standardised.

  Returns:
    Float32 `(gates, nodes, leaves)`: logits of going right
    `[B, 2^d - 1]`, log P of inner nodes `[B, 2^d - 1]` and of leaves
    `[B, 2^d]`. The leaves' probabilities sum to 1.

  Raises:
    InputError: inputs of another length.
  """
  x = inputs.reshape(inputs.shape[0], -1).astype(jnp.float32)
  if x.shape[1] != tree.weight.shape[1]:
    raise InputError(
      f'inputs of {x.shape[1]} values; the tree has {tree.weight.shape[1]}'
    )
  product = jnp.matmul(x, tree.weight.T, precision=jax.lax.Precision.HIGHEST)
  gates = tree.steepness[None] * (product + tree.bias[None])
  right, left = jax.nn.log_sigmoid(gates), jax.nn.log_sigmoid(-gates)
  level = jnp.zeros((x.shape[0], 1), jnp.float32)
  nodes = []
  while level.shape[1] < tree.leaves.shape[0]:
    width = level.shape[1]
    here = slice(width - 1, 2 * width - 1)
    nodes.append(level)
    children = (level + left[:, here], level + right[:, here])
    level = jnp.stack(children, axis=-1).reshape(-1, 2 * width)
  return gates, jnp.concatenate(nodes, axis=1), level


def soft_tree_loss(
  tree: SoftTree,
  inputs: jax.Array,
  teacher: jax.Array,
  *,
  form: Literal['A', 'B'] = 'A',
) -> jax.Array:
  """Loss A or B of the head of this file, averaged over the batch.

  Args:
    tree: the student.
    inputs: `[B, ...]`.
    teacher: probabilities `[B, K]`, soft or one-hot; no gradient.
    form: 'A', the paths' mean cross-entropy, or 'B', the mixture's bound.

  Returns:
    Float32 scalar >= 0, in nats.

  Raises:
    InputError: another form, inputs or classes that do not fit.
  """
  if form not in ('A', 'B'):
    raise InputError(f'form is {form!r}; right is A or B')
  chex.assert_rank(teacher, 2)
  chex.assert_equal_shape_prefix([inputs, teacher], 1)
  if teacher.shape[1] != tree.leaves.shape[1]:
    raise InputError(
      f'a teacher of {teacher.shape[1]} classes, a tree of '
      f'{tree.leaves.shape[1]}'
    )
  paths = soft_tree_paths(tree, inputs)[2]
  target = jax.lax.stop_gradient(teacher.astype(jnp.float32))
  log_q = jax.nn.log_softmax(tree.leaves.astype(jnp.float32))
  # -inf, a leaf that rules a class out, times 0 would be NaN.
  terms = jnp.where(target[:, None] > 0, target[:, None] * log_q[None], 0.0)
  entropy = -terms.sum(-1)
  if form == 'A':
    return (jnp.exp(paths) * entropy).sum(1).mean()
  return -jax.nn.logsumexp(paths - entropy, axis=1).mean()


def balance_penalty(
  tree: SoftTree,
  inputs: jax.Array,
  state: SoftTreeState | None = None,
  *,
  weight: float = 0.1,
  window: float = 1.0,
) -> tuple[jax.Array, SoftTreeState]:
  """The penalty C on nodes that send all one way; equations 4 and 5.

  The paper averages alpha over batches, with a window that grows twofold with
  each level, as nodes see less and less; how it averages is not said. Here the
  two sums of alpha are averaged exponentially, with decay 1 - 1 / n where
  n = window 2^depth(i), at least 1: the default is the batch alone at the
  root. Past batches get no gradient. Shares count as 1e-20 at least.

  Args:
    tree: the tree.
    inputs: `[B, ...]`, the global batch.
    state: of the batch before, or that of `init_soft_tree`; None takes alpha
      of this batch alone.
    weight: lambda, 0 or more.
    window: number of batches averaged at the root, 1 or more.

  Returns:
    Float32 scalar, at least `weight * d * log 2` (d the depth; there alpha is
    1/2 everywhere), and the new state.

  Raises:
    InputError: a weight below 0, a window below 1, inputs that do not fit.
  """
  if not (weight >= 0 and window >= 1):
    raise InputError(
      f'weight {weight}, window {window}; right is 0 or more, 1 or more'
    )
  gates, log_nodes, _ = soft_tree_paths(tree, inputs)
  nodes = jnp.exp(log_nodes)
  right = (nodes * jax.nn.sigmoid(gates)).mean(0)
  # Not the rest of `arrived`: of a node that sends all right, too small for it.
  left = (nodes * jax.nn.sigmoid(-gates)).mean(0)
  arrived = nodes.mean(0)
  depths = _depths(arrived.size)
  if state is not None:
    right, left = _moved(state, right, left, window * 2.0**depths)
    arrived = right + left
  # A node that nothing reaches is not judged (the derivative of its alpha has
  # the square of `arrived` below); one that splits nothing is, but finitely.
  reached = arrived > _REACHED
  both = (
    jnp.where(reached, x, 0.5) / jnp.where(reached, arrived, 1.0)
    for x in (right, left)
  )
  each = -0.5 * sum(jnp.log(jnp.maximum(x, _LEAST)) for x in both)
  penalty = weight * (2.0**-depths * each).sum()
  new = SoftTreeState(right, arrived)
  return penalty, jax.tree.map(jax.lax.stop_gradient, new)


def soft_tree_predict(tree: SoftTree, inputs: jax.Array) -> SoftTreePrediction:
  """Distributions by the best path and by the mixture: report which.

  The paper answers from the most probable leaf, which is explained by its path;
  the mixture of all leaves is often more accurate and explains nothing.

  Args:
    tree: the tree.
    inputs: `[B, ...]`.

  Returns:
    Both, and the leaf.

  Raises:
    InputError: inputs of another length.
  """
  paths = soft_tree_paths(tree, inputs)[2]
  q = jax.nn.softmax(tree.leaves.astype(jnp.float32))
  leaf = paths.argmax(1).astype(jnp.int32)
  mixture = jnp.matmul(jnp.exp(paths), q, precision=jax.lax.Precision.HIGHEST)
  return SoftTreePrediction(q[leaf], mixture, leaf)


def _depths(inner: int) -> jax.Array:
  """Depth of every inner node, float32 `[inner]`, the root's 0."""
  return jnp.asarray(
    [(i + 1).bit_length() - 1 for i in range(inner)], jnp.float32
  )


def _moved(state, right, left, window):
  """Sums averaged over `window` batches; the first batch stands alone."""
  old = jax.tree.map(jax.lax.stop_gradient, state)
  first = jnp.all(old.arrived == 0)
  share = jnp.where(first, 1.0, 1.0 / window)
  before = jnp.maximum(old.arrived - old.right, 0.0)
  return (
    old.right + share * (right - old.right),
    before + share * (left - before),
  )
