import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress.errors import InputError
from compress.prune import grouped_execution as lib


@pytest.mark.parametrize('block', [1, 3, 4, 20])
@pytest.mark.parametrize('actions', [[0] * 7, [2, 0, 2, 1, 0, 2, 2]])
def test_every_sample_goes_through_its_branch(actions, block):
  branches = [lambda x, k=k: (k + 1) * x[:, :2] + k for k in range(4)]
  x = jax.random.normal(jax.random.key(0), (7, 3))
  action = jnp.array(actions)
  run = jax.jit(lambda a, x: lib.run_grouped(branches, a, x, block=block))
  factor = (action[:, None] + 1).astype(x.dtype)
  expected = factor * x[:, :2] + (factor - 1)
  np.testing.assert_allclose(run(action, x), expected, rtol=1e-6)


def test_gradients_go_through_the_branch_taken():
  branches = [lambda x: 2 * x, lambda x: 3 * x]
  action = jnp.array([1, 0, 1])

  def loss(x):
    return jnp.sum(lib.run_grouped(branches, action, x, block=2))

  found = jax.grad(loss)(jnp.ones((3, 1)))
  np.testing.assert_array_equal(found, [[3], [2], [3]])


def conv(x, kernel):
  dims = ('NHWC', 'HWIO', 'NHWC')
  return jax.lax.conv_general_dilated(
    x, kernel, (1, 1), 'SAME', dimension_numbers=dims
  )


def test_slim_branches_equal_gates():
  keys = jax.random.split(jax.random.key(0), 4)
  x = jax.random.normal(keys[0], (9, 5, 5, 3))
  first = jax.random.normal(keys[1], (3, 3, 3, 6))
  second = jax.random.normal(keys[2], (3, 3, 6, 3))
  shift = jax.random.normal(keys[3], (6,))
  gates = np.array(
    [[1, 0, 2, 0, 0, 1], [0, 0.5, 0, 0, 3, 0], [0] * 6], np.float32
  )
  action = jnp.array([0, 1, 2, 1, 1, 0, 0, 1, 1])

  def block(x, first, second, kept):
    hidden = conv(x, first) + shift[kept][None, None, None]
    return x + conv(jax.nn.relu(hidden), second)

  gate = gates[action][:, None, None]
  hidden = (conv(x, first) + shift[None, None, None]) * gate
  expected = x + conv(jax.nn.relu(hidden), second)
  branches = lib.slim_branches(gates, first, second, block)
  found = jax.jit(lambda x: lib.run_grouped(branches, action, x, block=3))(x)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_bad_input_gets_one_line():
  with pytest.raises(InputError, match='block=0'):
    lib.run_grouped([jnp.sin], jnp.zeros(2, int), jnp.zeros(2), block=0)
  with pytest.raises(InputError, match='0 branches'):
    lib.run_grouped([], jnp.zeros(2, int), jnp.zeros(2), block=1)
  with pytest.raises(InputError, match='right is .m, C.'):
    lib.slim_branches(np.ones((2, 3)), jnp.ones((2, 4)), jnp.ones((3, 2)), None)
