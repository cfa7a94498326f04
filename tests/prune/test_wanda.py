import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import graph as graph_lib
from compress.errors import InputError
from compress.prune import matrix_form, wanda
from compress.prune.matrix_form import NM

W = jnp.array([[4.0, 0.0, 1.0, -1.0], [3.0, -2.0, -1.0, -3.0]])
SQUARES = jnp.array([1.0, 2.0, 8.0, 3.0]) ** 2


def normal(seed, *shape):
  return jax.random.normal(jax.random.key(seed), shape)


def test_golden():
  score = wanda.wanda_score(W, SQUARES)
  np.testing.assert_allclose(score, [[4, 0, 8, 3], [3, 4, 8, 9]], 1e-6)
  keep = wanda.row_mask(score, target=0.5)
  np.testing.assert_array_equal(
    jnp.where(keep, W, 0.0), [[4, 0, 1, 0], [0, 0, -1, -3]]
  )


def test_golden_n_m():
  keep = wanda.row_mask(
    jnp.abs(jnp.array([[0.1, -0.5, 0.3, 0.2]])), target=NM(2, 4)
  )
  np.testing.assert_array_equal(keep, [[False, True, True, False]])


def test_equal_norms_are_row_wise_magnitude():
  weight = normal(0, 5, 8)
  keep = wanda.row_mask(
    wanda.wanda_score(weight, 4.0 * jnp.ones(8)), target=0.5
  )
  cut = jnp.sort(jnp.abs(weight), axis=1)[:, 3:4]
  np.testing.assert_array_equal(keep, jnp.abs(weight) > cut)


@pytest.mark.parametrize('sparsity', [0.0, 0.3, 0.5, 0.9])
def test_every_row_keeps_the_same_number(sparsity):
  keep = wanda.row_mask(jnp.ones((3, 10)), target=sparsity)
  count = round(10 * (1 - sparsity))
  np.testing.assert_array_equal(keep, [[i < count for i in range(10)]] * 3)


@pytest.mark.parametrize('sparsity', [0.2, 0.5, 0.8])
def test_cumulative_mask_hits_the_sparsity(sparsity):
  score = jnp.abs(normal(0, 30, 100)) * jnp.exp(normal(1, 30, 1))
  keep, alpha = jax.jit(lambda s: wanda.cumulative_mask(s, sparsity=sparsity))(
    score
  )
  assert abs(1 - keep.mean() - sparsity) <= 1e-3
  lost = jnp.where(keep, 0.0, score).sum(1) / score.sum(1)
  assert (lost <= alpha + 1e-5).all()
  assert (lost > alpha - 0.1).all()
  assert jnp.where(keep, score, jnp.inf).min(1).min() >= 0
  smallest_kept = jnp.where(keep, score, jnp.inf).min(1)
  assert (smallest_kept >= jnp.where(keep, 0.0, score).max(1)).all()


@pytest.mark.parametrize('target', [1.0, NM(0, 4), NM(3, 5), True])
def test_bad_targets(target):
  with pytest.raises(InputError):
    wanda.row_mask(jnp.ones((2, 8)), target=target)


def filled(shapes):
  # Cheaper than to compile the initialisers.
  generator = np.random.default_rng(0)

  def fill(leaf):
    scale = max(leaf.size / leaf.shape[-1], 1) ** -0.5
    values = generator.normal(0.0, scale, leaf.shape)
    return jnp.array(values, leaf.dtype)

  return jax.tree.map(fill, shapes)


class Net(nn.Module):
  @nn.compact
  def __call__(self, x):
    x = nn.relu(nn.Conv(8, (3, 2), strides=2, name='conv')(x))
    x = nn.relu(nn.Conv(8, (3, 3), feature_group_count=2, name='grouped')(x))
    x = nn.DenseGeneral((2, 4), axis=(1, 2, 3), name='general')(x)
    return nn.Dense(3, name='fc')(x.reshape(x.shape[0], -1))


@functools.cache
def network():
  x = normal(0, 5, 6, 6, 3)
  return (
    Net().apply,
    filled(jax.eval_shape(Net().init, jax.random.key(1), x)),
    x,
  )


def test_matrix_form_computes_the_site():
  apply, variables, x = network()

  def rule(site, op, lhs, rhs):
    out = op(lhs, rhs)
    weight = matrix_form.weight_matrix(site, rhs)
    inputs = matrix_form.input_matrix(site, lhs)
    again = matrix_form.weight_operand(site, weight)
    squares = matrix_form.input_squares(site, lhs)
    product = jnp.einsum('gsk,grk->sgr', inputs, weight)
    difference = out.reshape(-1) - product.reshape(-1)
    near = jnp.square(inputs).sum(1) - squares
    return graph_lib.Emit(out, (difference, again - rhs, near))

  rewritten = jax.jit(graph_lib.rewrite(apply, rule, has_aux=True))
  _, aux = rewritten(variables, x)
  assert sorted(aux) == ['conv', 'fc', 'general', 'grouped']
  for values in aux.values():
    for value in values:
      assert jnp.abs(value).max() < 1e-4


def test_driver_first_layer_by_hand():
  apply, variables, x = network()
  pruned = wanda.prune_wanda(apply, variables, [('.*kernel', 0.5)], x)
  assert pruned.skipped == {}
  kernel = variables['params']['conv']['kernel']
  padded = jnp.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0)))
  norms = jnp.stack(
    [
      jnp.stack(
        [
          jnp.square(padded[:, i : i + 5 : 2, j : j + 5 : 2]).sum((0, 1, 2))
          for j in range(2)
        ]
      )
      for i in range(3)
    ]
  )
  score = (jnp.abs(kernel) * jnp.sqrt(norms)[..., None]).reshape(18, 8)
  keep = wanda.row_mask(score.T, target=0.5).T.reshape(kernel.shape)
  np.testing.assert_array_equal(pruned.masks['conv/kernel'], keep)
  for path, mask in pruned.masks.items():
    name = path.split('/')[0]
    before = variables['params'][name]['kernel']
    after = pruned.variables['params'][name]['kernel']
    np.testing.assert_array_equal(after, jnp.where(mask, before, 0.0))


def test_sums_of_batches_stand_for_all():
  apply, variables, x = network()
  whole = wanda.input_squares(apply, variables, x)
  parts = [wanda.input_squares(apply, variables, p) for p in (x[:2], x[2:])]
  added = jax.tree.map(jnp.add, *parts)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, 1e-4, 1e-5), whole, added
  )
  rules = [('conv/kernel', 0.5)]
  a = wanda.prune_wanda(apply, variables, rules, x, squares=added)
  b = wanda.prune_wanda(apply, variables, rules, x)
  np.testing.assert_array_equal(a.masks['conv/kernel'], b.masks['conv/kernel'])


def test_cumulative_driver_and_its_limits():
  apply, variables, x = network()
  rules = [('conv/kernel', 0.5)]
  pruned = wanda.prune_wanda(apply, variables, rules, x, cumulative=True)
  # 144 entries: the nearest sparsity may lie a few of them off.
  assert abs(pruned.masks['conv/kernel'].mean() - 0.5) < 0.02
  with pytest.raises(InputError, match='conv/kernel'):
    wanda.prune_wanda(
      apply, variables, [('conv/kernel', NM(1, 3))], x, cumulative=True
    )


def test_n_m_is_along_input_channels():
  apply, variables, x = network()
  pruned = wanda.prune_wanda(apply, variables, [('.*kernel', NM(2, 4))], x)
  assert list(pruned.skipped) == ['conv/kernel']
  assert (pruned.masks['grouped/kernel'].sum(2) == 2).all()


def test_rules_that_cover_nothing():
  apply, variables, x = network()
  with pytest.raises(InputError, match='no rule'):
    wanda.prune_wanda(apply, variables, [('nowhere', 0.5)], x)
