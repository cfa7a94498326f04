import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress.compressor import KEEP
from compress.errors import InputError
from compress.prune import sparsegpt
from compress.prune.matrix_form import NM


def normal(seed, *shape):
  return jax.random.normal(jax.random.key(seed), shape)


def moments(inputs):
  empty = sparsegpt.empty_hessian(inputs.shape[-1])
  return sparsegpt.add_inputs(empty, inputs).matrix


def solve(weight, hessian, **options):
  options = {'damping': 0.0, 'block': 4, **options}
  return sparsegpt.solve_sparsegpt(weight, hessian, **options)


@pytest.mark.parametrize(
  ('weight', 'expected'), [((0.5, 1.0), (0.0, 1.25)), ((1.0, 0.5), (1.0, 0.0))]
)
def test_golden_two_columns(weight, expected):
  # Scores are w0^2 * 1.5 and w1^2 * 2; w = (1, .5) has (1.5, .5), so column
  # 1 goes and nothing is left to make up for it.
  hessian = jnp.array([[2.0, 1.0], [1.0, 2.0]])
  got, keep = solve(jnp.array([weight]), hessian, target=0.5)
  np.testing.assert_allclose(got[0], expected, atol=1e-6)
  np.testing.assert_array_equal(keep[0], np.array(expected) != 0)


def test_golden_first_column_cut():
  # Scores compared within one column: of (1, .5) the first entry goes, and
  # the second becomes 1, as in exact optimal brain surgery.
  hessian = jnp.array([[2.0, 1.0], [1.0, 2.0]])
  weight = jnp.array([[1.0, 0.5], [9.0, 0.1]])
  got, _ = solve(weight, hessian, target=0.5, block=1)
  np.testing.assert_allclose(got, [[0.0, 1.0], [9.0, 0.0]], atol=1e-6)


def exact_surgery(w, hessian, q):
  inverse = np.linalg.inv(hessian)
  return w - w[q] / inverse[q, q] * inverse[:, q]


def test_first_column_equals_exact_surgery():
  hessian = np.array(moments(normal(0, 50, 4)), np.float64)
  w = np.array([0.01, 2.0, -3.0, 4.0])
  got, _ = solve(
    jnp.array(w[None], jnp.float32), jnp.array(hessian, 'float32'), target=0.25
  )
  np.testing.assert_allclose(got[0], exact_surgery(w, hessian, 0), atol=1e-5)


def reference(weight, hessian, sparsity, block):
  """Plain loops over blocks and columns, no lazy updates."""
  w = np.array(weight, np.float64)
  u = np.linalg.cholesky(np.linalg.inv(np.array(hessian, np.float64))).T
  keep = np.ones(w.shape, bool)
  for start in range(0, w.shape[1], block):
    at = slice(start, min(start + block, w.shape[1]))
    scores = (w[:, at] / np.diag(u)[at]) ** 2
    cut = scores.size - int(scores.size * (1 - sparsity) + 1e-9)
    chosen = np.ones(scores.size, bool)
    chosen[np.argsort(scores.ravel())[:cut]] = False
    keep[:, at] = chosen.reshape(scores.shape)
    for j in range(at.start, at.stop):
      error = np.where(keep[:, j], 0.0, w[:, j]) / u[j, j]
      w[:, j:] -= error[:, None] * u[j, j:]
      w[~keep[:, j], j] = 0
  return w, keep


@pytest.mark.parametrize(('columns', 'block'), [(8, 4), (10, 4), (6, 128)])
def test_equals_plain_loops(columns, block):
  weight, inputs = normal(0, 5, columns), normal(1, 64, columns)
  hessian = moments(inputs)
  got, keep = solve(weight, hessian, target=0.6, block=block)
  expected, mask = reference(weight, hessian, 0.6, block)
  np.testing.assert_array_equal(keep, mask)
  np.testing.assert_allclose(got, expected, atol=1e-4)
  assert (np.array(got)[~mask] == 0).all()


def test_isotropic_inputs_give_magnitude_pruning():
  weight = normal(0, 6, 8)
  got, keep = solve(weight, 3.0 * jnp.eye(8), target=0.5, block=8)
  order = np.argsort(-np.abs(np.array(weight)).ravel())
  expected = np.zeros(48, bool)
  expected[order[:24]] = True
  np.testing.assert_array_equal(np.array(keep).ravel(), expected)
  np.testing.assert_allclose(got, jnp.where(keep, weight, 0.0), atol=1e-6)


@pytest.mark.parametrize('target', [0.5, NM(2, 4)])
@pytest.mark.parametrize('seed', range(3))
def test_output_error_below_magnitude(target, seed):
  mix = normal(seed, 16, 16)
  inputs = normal(seed + 10, 200, 16) @ mix
  weight = normal(seed + 20, 8, 16)
  got, _ = solve(weight, moments(inputs), target=target, damping=0.01, block=16)
  _, plain = solve(weight, jnp.eye(16), target=target, block=16)
  error = jnp.square(inputs @ (got - weight).T).sum()
  magnitude = jnp.square(inputs @ jnp.where(plain, 0.0, weight).T).sum()
  assert error < magnitude


def test_n_m_keeps_n_of_every_m_whatever_the_block():
  weight, hessian = normal(0, 5, 16), moments(normal(1, 64, 16))
  got, keep = solve(weight, hessian, target=NM(2, 4), block=4)
  assert (keep.reshape(5, 4, 4).sum(-1) == 2).all()
  other, _ = solve(weight, hessian, target=NM(2, 4), block=16)
  np.testing.assert_allclose(got, other, atol=1e-4)


def test_dead_columns_lose_their_weights():
  inputs = normal(0, 50, 4).at[:, 2].set(0.0)
  got, _ = solve(normal(1, 3, 4), moments(inputs), target=0.0, damping=0.01)
  assert (got[:, 2] == 0).all()
  assert jnp.isfinite(got).all()


def rounder(weight):
  scale = jnp.abs(weight).max(1) / 7
  return lambda column: jnp.round(column / scale) * scale


def test_quantizer_is_joint():
  weight, inputs = normal(0, 6, 8), normal(1, 100, 8) @ normal(2, 8, 8)
  got, keep = solve(
    weight, moments(inputs), target=0.5, block=8, quantizer=rounder
  )
  grid = got / (jnp.abs(weight).max(1, keepdims=True) / 7)
  np.testing.assert_allclose(grid, jnp.round(grid), atol=1e-4)
  assert (jnp.where(keep, 0.0, got) == 0).all()
  # Alone, with nothing pruned, it beats rounding to nearest.
  got, _ = solve(
    weight, moments(inputs), target=0.0, block=8, quantizer=rounder
  )
  after = jnp.stack([rounder(weight)(c) for c in weight.T], 1)
  error = jnp.square(inputs @ (got - weight).T).sum()
  assert error < jnp.square(inputs @ (after - weight).T).sum()


def test_running_mean_equals_one_pass():
  inputs = normal(0, 12, 5)
  hessian = sparsegpt.empty_hessian(5)
  for part in (inputs[:3], inputs[3:4], inputs[4:]):
    hessian = sparsegpt.add_inputs(hessian, part)
  assert hessian.count == 12
  np.testing.assert_allclose(hessian.matrix, 2 * inputs.T @ inputs / 12, 1e-5)


@pytest.mark.parametrize(
  ('target', 'block'), [(1.0, 4), (-0.1, 4), (NM(3, 2), 4), (NM(2, 4), 6)]
)
def test_bad_targets(target, block):
  with pytest.raises(InputError):
    solve(jnp.ones((2, 8)), jnp.eye(8), target=target, block=block)


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
    x = nn.relu(nn.Conv(8, (3, 3), strides=2, name='conv')(x))
    x = nn.relu(nn.Conv(8, (3, 3), feature_group_count=2, name='grouped')(x))
    return nn.Dense(3, name='fc')(x.reshape(x.shape[0], -1))


@functools.cache
def network():
  x = normal(0, 6, 6, 6, 3)
  return (
    Net().apply,
    filled(jax.eval_shape(Net().init, jax.random.key(1), x)),
    x,
  )


def test_driver_prunes_in_order():
  apply, variables, x = network()
  pruned = sparsegpt.prune_sparsegpt(
    apply, variables, [('.*kernel', 0.5)], x, chunk=4
  )
  assert sorted(pruned.masks) == ['conv/kernel', 'fc/kernel', 'grouped/kernel']
  assert pruned.skipped == {}
  for path, mask in pruned.masks.items():
    leaf = pruned.variables['params'][path.split('/')[0]]['kernel']
    assert leaf.shape == mask.shape
    assert (jnp.where(mask, 0.0, leaf) == 0).all()
    assert mask.sum() == mask.size // 2
  same = [(p, 'bias') for p in ('conv', 'grouped', 'fc')]
  for a, b in same:
    np.testing.assert_array_equal(
      pruned.variables['params'][a][b], variables['params'][a][b]
    )

  # The last layer again, by hand, on what the pruned prefix makes.
  def prefix(x):
    v = {'params': dict(pruned.variables['params'])}
    v['params']['fc'] = {'kernel': jnp.eye(72), 'bias': jnp.zeros(72)}
    x = nn.Conv(8, (3, 3), strides=2).apply({'params': v['params']['conv']}, x)
    grouped = nn.Conv(8, (3, 3), feature_group_count=2)
    x = grouped.apply({'params': v['params']['grouped']}, nn.relu(x))
    return nn.relu(x).reshape(x.shape[0], -1)

  kernel = variables['params']['fc']['kernel']
  by_hand, _ = sparsegpt.solve_sparsegpt(
    kernel.T, moments(prefix(x)), target=0.5, block=72
  )
  np.testing.assert_allclose(
    pruned.variables['params']['fc']['kernel'], by_hand.T, atol=1e-4
  )


def test_driver_beats_magnitude_on_the_output():
  apply, variables, x = network()
  x = jnp.concatenate([x, normal(5, 40, 6, 6, 3)])
  rules = [('conv/kernel', KEEP), ('.*kernel', 0.5)]
  pruned = sparsegpt.prune_sparsegpt(apply, variables, rules, x)
  assert 'conv/kernel' not in pruned.masks

  def magnitude(w):
    cut = jnp.median(jnp.abs(w))
    return jnp.where(jnp.abs(w) > cut, w, 0.0) if w.ndim > 1 else w

  plain = jax.tree.map(magnitude, variables)
  plain['params']['conv'] = variables['params']['conv']
  out = apply(variables, x)
  error = jnp.square(apply(pruned.variables, x) - out).mean()
  assert error < jnp.square(apply(plain, x) - out).mean()


def test_n_m_is_along_input_channels():
  apply, variables, x = network()
  pruned = sparsegpt.prune_sparsegpt(
    apply, variables, [('.*kernel', NM(2, 4))], x
  )
  assert list(pruned.skipped) == ['conv/kernel']
  assert '3 input channels' in pruned.skipped['conv/kernel']
  mask = pruned.masks['grouped/kernel']
  assert (mask.sum(2) == 2).all()
  fc = pruned.masks['fc/kernel'].reshape(18, 4, 3)
  assert (fc.sum(1) == 2).all()


def test_jit_agrees():
  apply, variables, x = network()
  rules = [('fc/kernel', 0.5)]

  def run(variables, x):
    return sparsegpt.prune_sparsegpt(apply, variables, rules, x).variables

  plain, jitted = run(variables, x), jax.jit(run)(variables, x)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), plain, jitted
  )


def test_stack_under_scan():
  w = normal(0, 3, 4, 4)

  def apply(v, x):
    return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, v['w'])[0]

  x = normal(1, 30, 4)
  pruned = sparsegpt.prune_sparsegpt(apply, {'w': w}, [('w', 0.5)], x)
  assert (pruned.masks['w'].sum((1, 2)) == 8).all()
  first, _ = sparsegpt.solve_sparsegpt(w[0].T, moments(x), target=0.5, block=4)
  np.testing.assert_allclose(pruned.variables['w'][0], first.T, atol=1e-5)


def test_singular_moments_ask_for_damping():
  def apply(v, x):
    return x @ v['w']

  x = jnp.ones((3, 4))
  with pytest.raises(InputError, match='damping'):
    sparsegpt.prune_sparsegpt(
      apply, {'w': normal(0, 4, 2)}, [('w', 0.5)], x, damping=0.0
    )


def test_shared_leaf_stays_dense():
  def apply(v, x):
    return jnp.tanh(x @ v['w']) @ v['w']

  pruned = sparsegpt.prune_sparsegpt(
    apply, {'w': normal(0, 4, 4)}, [('w', 0.5)], normal(1, 9, 4)
  )
  assert pruned.masks == {}
  assert 'once' in pruned.skipped['w']
