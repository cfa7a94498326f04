"""Regression trees with one output a class, grown on a teacher's logits.

Liu, Wang, Matwin 2018, 'Improving the Interpretability of Deep Neural Networks
with Knowledge Distillation', arXiv:1812.10924; the tree is the multi-output
CART of Breiman, Friedman, Olshen, Stone 1984. A leaf holds the mean target, a
split is the one that leaves the smallest sum of squared errors over all
outputs, and the class is the largest output. The paper finds such a tree more
accurate than one of the same depth grown on labels, and less than its teacher.

scikit-learn grows the tree on the host; what is kept are five arrays, and
inference is JAX, a loop of gathers. How far a tree follows its teacher is
`gap.agreement` of their outputs, its size `regression_tree_nbytes`.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from compress.distill.response import check_temperature
from compress.errors import InputError


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RegressionTree:
  """A tree of N nodes, the root first; a leaf is its own child.

  Attributes:
    feature: int32 `[N]`, which input a node looks at; 0 at a leaf.
    threshold: float32 `[N]`; an input that is not above it goes left.
    left: int32 `[N]`.
    right: int32 `[N]`.
    value: float32 `[N, K]`, the mean target of the examples that came to it.
    depth: splits on the longest path; static.
    features: D, numbers of an input; static.
  """

  feature: jax.Array
  threshold: jax.Array
  left: jax.Array
  right: jax.Array
  value: jax.Array
  depth: int = dataclasses.field(metadata={'static': True})
  features: int = dataclasses.field(metadata={'static': True})


def tree_targets(
  logits: jax.Array, *, temperature: float = 1.0, probabilities: bool = False
) -> jax.Array:
  """What a tree is grown on: `z / T` or `softmax(z / T)`.

  The scale of logits does not change the tree. Probabilities do: outliers
  among logits weigh much in the sum of squares, and T decides how much less.

  Args:
    logits: z of the teacher, `[B, K]`.
    temperature: T > 0.
    probabilities: the softmax instead of the logits.

  Returns:
    Float32 `[B, K]`, without gradient.

  Raises:
    InputError: the temperature is not positive.
  """
  check_temperature(temperature)
  scaled = jax.lax.stop_gradient(logits.astype(jnp.float32)) / temperature
  return jax.nn.softmax(scaled) if probabilities else scaled


def fit_regression_tree(
  inputs: np.ndarray,
  targets: np.ndarray,
  *,
  depth: int,
  min_leaf: int = 1,
  seed: int = 0,
) -> RegressionTree:
  """Grows a multi-output CART by scikit-learn, on the host.

  Args:
    inputs: real `[B, ...]`, flattened to `[B, D]`, taken as float32.
    targets: real `[B, K]`, such as of `tree_targets`.
    depth: splits on the longest path at most, 0 or more.
    min_leaf: examples that a leaf has at least.
    seed: of the order in which features of equal gain are preferred.

  Returns:
    The tree.

  Raises:
    InputError: shapes that do not fit, no examples, values that are not
      finite, a depth below 0 or leaves below 1; scikit-learn is missing.
  """
  x = np.asarray(inputs, np.float32)
  y = np.asarray(targets, np.float64)
  if y.ndim != 2 or not x.size or len(x) != len(y):
    raise InputError(
      f'inputs {list(x.shape)} and targets {list(y.shape)}; right is [B, ...] '
      'and [B, K], B at least 1'
    )
  x = x.reshape(x.shape[0], -1)
  if not (np.isfinite(x).all() and np.isfinite(y).all()):
    raise InputError('inputs or targets are not finite')
  if depth < 0 or min_leaf < 1:
    raise InputError(
      f'depth {depth}, min_leaf {min_leaf}; right is 0 or more, 1 or more'
    )
  if depth == 0:
    none = np.zeros(1, np.int32)
    return _tree(
      none, none - 2.0, none - 1, none - 1, y.mean(0)[None], 0, x.shape[1]
    )
  grown = _regressor(
    max_depth=depth, min_samples_leaf=min_leaf, random_state=seed
  )
  grown = grown.fit(x, y).tree_
  return _tree(
    grown.feature,
    grown.threshold,
    grown.children_left,
    grown.children_right,
    grown.value[:, :, 0],
    grown.max_depth,
    x.shape[1],
  )


def regression_tree_leaf(tree: RegressionTree, inputs: jax.Array) -> jax.Array:
  """The leaf that every input comes to.

  Args:
    tree: the tree.
    inputs: real `[B, ...]`, as when it was grown.

  Returns:
    int32 `[B]`, a node of the tree.

  Raises:
    InputError: inputs of another length.
  """
  x = inputs.reshape(inputs.shape[0], -1).astype(jnp.float32)
  if x.shape[1] != tree.features:
    raise InputError(
      f'inputs of {x.shape[1]} values; the tree has {tree.features}'
    )

  def step(_, node):
    feature = tree.feature[node]
    seen = jnp.take_along_axis(x, feature[:, None], axis=1).squeeze(1)
    below = seen <= tree.threshold[node]
    return jnp.where(below, tree.left[node], tree.right[node])

  start = jnp.zeros(x.shape[0], jnp.int32)
  return jax.lax.fori_loop(0, tree.depth, step, start)


def regression_tree_predict(
  tree: RegressionTree, inputs: jax.Array
) -> jax.Array:
  """Outputs of the tree; their argmax is the class.

  Args:
    tree: the tree.
    inputs: real `[B, ...]`.

  Returns:
    Float32 `[B, K]`.

  Raises:
    InputError: inputs of another length.
  """
  return tree.value[regression_tree_leaf(tree, inputs)]


def regression_tree_nbytes(tree: RegressionTree) -> int:
  """Bytes of the five arrays as they are, before any coding.

  Args:
    tree: the tree.

  Returns:
    Bytes: 4 (4 + K) a node.
  """
  return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _regressor(**options):
  try:
    # Imported here: it takes a second, and not everybody has it.
    from sklearn.tree import DecisionTreeRegressor
  except ImportError as error:
    raise InputError(
      'regression trees need scikit-learn, which is missing: '
      "pip install -e '.[vision]'"
    ) from error
  return DecisionTreeRegressor(**options)


def _tree(feature, threshold, left, right, value, depth, features):
  """Arrays of scikit-learn, where a leaf has child -1, as a tree."""
  leaf = left < 0
  own = np.arange(len(left))
  # float32 inputs compare alike with a float64 bound and with the largest
  # float32 that is not above it.
  rounded = threshold.astype(np.float32)
  rounded = np.where(
    rounded > threshold, np.nextafter(rounded, np.float32(-np.inf)), rounded
  )
  return RegressionTree(
    jnp.asarray(np.where(leaf, 0, feature), jnp.int32),
    jnp.asarray(np.where(leaf, 0, rounded), jnp.float32),
    jnp.asarray(np.where(leaf, own, left), jnp.int32),
    jnp.asarray(np.where(leaf, own, right), jnp.int32),
    jnp.asarray(value, jnp.float32),
    int(depth),
    features,
  )
