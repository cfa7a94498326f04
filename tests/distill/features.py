"""Features of closed form, and what every loss of features must satisfy."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P


def vectors():
  """`[4, 6]` of a student, of a teacher."""
  i, j = np.arange(1, 5)[:, None], np.arange(6)[None]
  return tuple(
    jnp.asarray(x, jnp.float32)
    for x in (np.sin(0.3 * i * (j + 1)), np.cos(0.7 * i + j**2))
  )


def maps():
  """`[2, 4, 4, 3]` of a student, of a teacher."""
  b, h, w, c = np.meshgrid(*map(np.arange, (2, 4, 4, 3)), indexing='ij')
  return tuple(
    jnp.asarray(x, jnp.float32)
    for x in (
      np.sin(1 + b + 2 * c + 3 * h + 5 * w),
      np.cos(0.5 * b + c + 0.7 * h * w),
    )
  )


def normal(seed, *shape):
  return jax.random.normal(jax.random.key(seed), shape)


def check_loss(loss, student, teacher):
  """Types, jit, the teacher's gradient, and gradients at degenerate features.

  `student` and `teacher` are trees of arrays.
  """
  both = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))

  def tree(function, features):
    return jax.tree.map(function, features)

  value, _ = both(student, teacher)
  np.testing.assert_allclose(value, loss(student, teacher), rtol=2e-5)
  assert value.dtype == jnp.float32 and value.shape == ()
  for change in (
    lambda x: x,
    jnp.zeros_like,
    jnp.ones_like,
    lambda x: x.at[1:].set(x[:1]),
    lambda x: x.at[0].set(0),
    lambda x: 1e3 * jnp.sign(x),
  ):
    for pair in (
      (tree(change, student), teacher),
      (student, tree(change, teacher)),
      (tree(change, student), tree(change, teacher)),
    ):
      value, (ours, theirs) = both(*pair)
      leaves = jax.tree.leaves((value, ours))
      assert all(np.isfinite(leaf).all() for leaf in leaves)
      assert all((leaf == 0).all() for leaf in jax.tree.leaves(theirs))
  half = tree(lambda x: x.astype(jnp.bfloat16), (student, teacher))
  again = tree(lambda x: x.astype(jnp.float32), half)
  value, (slope, _) = both(*half)
  assert value.dtype == jnp.float32
  np.testing.assert_allclose(value, both(*again)[0], rtol=1e-5)
  assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(slope))
  seeds = tree(lambda x: jnp.stack([x, x]), student)
  several = jax.jit(jax.vmap(loss, in_axes=(0, None)))(seeds, teacher)
  np.testing.assert_allclose(several, loss(student, teacher), rtol=2e-5)


def check_sharded(loss, student, teacher):
  """The value and gradient of a batch over eight devices are those on one."""
  step = jax.jit(jax.value_and_grad(loss))
  expected = step(student, teacher)
  mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
  spread = jax.device_put((student, teacher), NamedSharding(mesh, P('data')))
  assert len(jax.tree.leaves(spread)[0].sharding.device_set) == 8
  value, slope = step(*spread)
  np.testing.assert_allclose(value, expected[0], rtol=1e-5)
  for ours, theirs in zip(
    jax.tree.leaves(slope), jax.tree.leaves(expected[1]), strict=True
  ):
    assert np.abs(theirs).max() > 0
    np.testing.assert_allclose(
      ours, theirs, rtol=1e-4, atol=1e-5 * np.abs(theirs).max()
    )
