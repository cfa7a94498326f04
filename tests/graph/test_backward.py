import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from compress import graph


class Net(nn.Module):
  @nn.compact
  def __call__(self, x):
    x = nn.Conv(4, (3, 3), name='a')(x)
    x = nn.relu(nn.BatchNorm(use_running_average=True)(x))
    y = nn.Conv(4, (3, 3), feature_group_count=2, name='b')(x)
    x = nn.max_pool(x + y, (2, 2), (2, 2))
    x = x.mean(axis=1).reshape((x.shape[0], -1))
    return nn.Dense(3, name='c')(jax.lax.stop_gradient(x) + nn.swish(x))


def build():
  net, x = Net(), jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
  return net.apply, net.init(jax.random.key(1), x), x


def differentiate(operation, arrived):
  return operation.pull(arrived)


def test_the_rule_of_differentiation_gives_the_gradient():
  apply, variables, x = build()

  @jax.jit
  def back(variables, x):
    found = graph.backward(apply, differentiate, jnp.ones_like, variables, x)
    return found.out, found.inputs[0]

  out, gradient = back(variables, x)
  expected = jax.grad(lambda x: jnp.sum(apply(variables, x)))(x)
  np.testing.assert_allclose(out, apply(variables, x), atol=1e-6)
  np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_sites_carry_their_names_and_the_first_is_known():
  apply, variables, x = build()
  firsts = []

  def rule(operation, arrived):
    if operation.first:
      firsts.append(operation.site.name)
    return operation.pull(arrived)

  back = graph.backward(apply, rule, jnp.ones_like, variables, x)
  assert set(back.sites) == {'a', 'b', 'c'}
  assert firsts == ['a']
  assert back.sites['b'].value.shape == (2, 8, 8, 4)


def test_what_nothing_came_back_to_is_zero_and_integers_none():
  def apply(variables, x, y, index):
    return variables['w'] * x[index]

  x = jnp.arange(3.0)
  back = graph.backward(
    apply, differentiate, jnp.ones_like, {'w': jnp.array(2.0)}, x, x, 1
  )
  np.testing.assert_array_equal(back.inputs[0], [0, 2, 0])
  np.testing.assert_array_equal(back.inputs[1], [0, 0, 0])
  assert back.inputs[2] is None


def test_a_loop_comes_to_the_rule_whole():
  seen = []

  def rule(operation, arrived):
    seen.append(operation.name)
    return operation.pull(arrived)

  def apply(variables, x):
    step = lambda x, w: (x * w, None)  # noqa: E731
    return jax.lax.scan(step, x, variables)[0]

  w = jnp.array([2.0, 3.0])
  back = graph.backward(apply, rule, jnp.ones_like, w, jnp.array(1.0))
  assert seen == ['scan']
  assert back.inputs[0] == 6


def test_what_arrives_at_a_layer_adds_up_over_its_uses():
  def apply(variables, x):
    for _ in range(2):
      x = x @ variables['w']
    return x

  back = graph.backward(
    apply, differentiate, jnp.ones_like, {'w': jnp.eye(2)}, jnp.ones((3, 2))
  )
  totals = graph.unit_totals(back.sites)
  np.testing.assert_array_equal(totals['w'], [6, 6])


def test_axes_of_units_whichever_operand_is_the_weight():
  def apply(w, x):
    return jnp.einsum('oi,bi->ob', w, x)

  def wide(w, x):
    return jnp.einsum('bi,ihd->bhd', x, w)

  (site,) = graph.trace(apply, jnp.ones((5, 3)), jnp.ones((2, 3))).sites
  (axis,) = graph.channel_axes(site)
  assert site.out_shape[axis] == 5
  (site,) = graph.trace(wide, jnp.ones((3, 4, 5)), jnp.ones((2, 3))).sites
  assert [site.out_shape[a] for a in graph.channel_axes(site)] == [4, 5]
