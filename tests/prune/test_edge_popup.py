import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from compress import packed, train
from compress.compressor import State
from compress.errors import InputError
from compress.prune.edge_popup import (
  edge_popup,
  kaiming_uniform_scores,
  signed_kaiming_constant,
)
from compress.prune.rounding import LIBRARY

KEY = jax.random.key(3)


def make_params():
  init = signed_kaiming_constant()
  keys = jax.random.split(jax.random.key(0), 2)
  return {
    'a': {'kernel': init(keys[0], (6, 16))},
    'b': {'kernel': init(keys[1], (16, 2))},
  }


def forward(params, x):
  return jnp.maximum(x @ params['a']['kernel'], 0) @ params['b']['kernel']


@pytest.mark.parametrize('sparsity', [0.0, 0.3, 0.7, 0.99])
def test_keeps_exactly_as_many_of_the_highest_absolute_scores(sparsity):
  params = make_params()
  method = edge_popup([('.*kernel', sparsity)], key=KEY)
  state = method.init(params)
  out = method.apply(params, state)
  for name, n in (('a', 96), ('b', 32)):
    kept = np.asarray(out[name]['kernel'] != 0)
    size = np.abs(state.learned[f'{name}/kernel'])
    assert kept.sum() == n - int(sparsity * n)
    if not kept.all():
      assert size[kept].min() >= size[~kept].max()
    np.testing.assert_array_equal(
      out[name]['kernel'][kept], params[name]['kernel'][kept]
    )


def test_ties_and_another_rounding():
  params = {'kernel': jnp.ones((2, 5))}
  method = edge_popup([('kernel', 0.75)], key=KEY, rounding=LIBRARY)
  state = State({'kernel': jnp.ones((2, 5))}, {'step': jnp.int32(0)})
  np.testing.assert_array_equal(
    method.apply(params, state)['kernel'],
    [[1, 1, 0, 0, 0], [0, 0, 0, 0, 0]],
  )


def test_gradient_is_that_of_the_mask():
  w = jnp.array([[2.0, -3.0, 5.0, 7.0]])
  scores = jnp.array([[0.9, -0.1, -0.8, 0.2]])
  method = edge_popup([('kernel', 0.5)], key=KEY)

  def loss(w, scores):
    state = State({'kernel': scores}, {'step': jnp.int32(0)})
    return (method.apply({'kernel': w}, state)['kernel'] * 10).sum()

  to_weights, to_scores = jax.grad(loss, (0, 1))(w, scores)
  assert not np.any(to_weights)
  # dL/dm = 10 w at every edge, masked or not; |s| turns the sign.
  np.testing.assert_allclose(to_scores, [[20, 30, -50, 70]])


def test_a_swap_lowers_the_loss_of_a_linear_network():
  # One edge of four; the loss wants an output of 1.
  w, x = jnp.array([[0.9], [-0.5], [0.2], [0.1]]), jnp.ones((1, 4))
  method = edge_popup([('kernel', 0.75)], key=KEY)

  def loss(scores):
    state = State({'kernel': scores}, {'step': jnp.int32(0)})
    return ((x @ method.apply({'kernel': w}, state)['kernel'] - 1) ** 2).sum()

  scores = jnp.array([[0.1], [0.5], [0.2], [0.3]])
  before = loss(scores)
  for _ in range(100):
    new = scores - 0.01 * jax.grad(loss)(scores)
    if np.argmax(np.abs(new)) != np.argmax(np.abs(scores)):
      break
    scores = new
  assert np.argmax(np.abs(new)) == 0
  assert loss(new) < before


def test_training_moves_scores_and_no_weight():
  params = make_params()
  before = jax.tree.map(np.array, params)
  method = edge_popup([('.*kernel', 0.5)], key=KEY)
  state = method.init(params)
  x = jax.random.normal(jax.random.key(1), (64, 6))
  y = jnp.stack([x[:, 0] > 0, x[:, 0] <= 0], axis=1).astype(jnp.float32)

  def loss(learned, carried, batch, key, *, axis_name):
    out = forward(method.apply(params, State(learned, carried)), batch)
    return optax.softmax_cross_entropy(out, y).mean(), (carried, {})

  optimizer = optax.chain(
    optax.add_decayed_weights(1e-4), optax.sgd(0.5, momentum=0.9)
  )
  step = jax.jit(train.make_step(loss, optimizer))
  run = train.init_state(state.learned, optimizer, state.carried, KEY)
  losses = []
  for _ in range(60):
    run, metrics = step(run, x)
    losses.append(float(metrics['loss']))
  assert losses[-1] < 0.5 * losses[0]
  out = method.apply(params, State(run.params, run.carried))
  for name in ('a', 'b'):
    np.testing.assert_array_equal(
      params[name]['kernel'], before[name]['kernel']
    )
    assert (
      int((out[name]['kernel'] != 0).sum()) == out[name]['kernel'].size // 2
    )


def test_sampled_masks():
  params = {'kernel': jnp.ones((100, 100))}
  method = edge_popup([('kernel', 0.5)], key=KEY, sampled=True)
  scores = jnp.full((100, 100), jax.scipy.special.logit(0.3))
  state = State({'kernel': scores}, {'step': jnp.int32(0)})
  first = method.apply(params, state)['kernel']
  assert float(first.mean()) == pytest.approx(0.3, abs=0.02)
  np.testing.assert_array_equal(first, method.apply(params, state)['kernel'])
  later = method.update(params, state, step=1)
  assert np.any(first != method.apply(params, later)['kernel'])

  def loss(scores):
    return method.apply(params, State({'kernel': scores}, later.carried))[
      'kernel'
    ].sum()

  # Straight through the sample, and through the sigmoid's slope.
  np.testing.assert_allclose(jax.grad(loss)(scores), 0.21, rtol=1e-5)


def test_initializers():
  w = signed_kaiming_constant()(KEY, (3, 3, 8, 10), jnp.float32)
  np.testing.assert_allclose(np.abs(w), np.sqrt(2 / 72), rtol=1e-6)
  assert 250 < int((w > 0).sum()) < 470
  w = signed_kaiming_constant(density=0.25)(KEY, (50, 10), jnp.bfloat16)
  assert w.dtype == jnp.bfloat16
  np.testing.assert_allclose(
    np.abs(w.astype(jnp.float32)), np.sqrt(2 / 12.5), rtol=1e-2
  )
  scores = kaiming_uniform_scores(KEY, (25, 40))
  assert 0.19 < float(jnp.abs(scores).max()) <= 0.2


def test_same_key_same_scores_and_packed_bytes():
  params = make_params()
  method = edge_popup([('.*kernel', 0.5)], key=KEY)
  for path, leaf in method.init(params).learned.items():
    np.testing.assert_array_equal(leaf, method.init(params).learned[path])
  tree = method.pack(params, method.init(params))
  # A bit a weight and four bytes a survivor.
  assert packed.tree_nbytes(tree) == (96 + 32) // 8 + 64 * 4


def test_refuses_sparsities_out_of_range():
  with pytest.raises(InputError, match='sparsity 1 lies outside'):
    edge_popup([('.*', 1.0)], key=KEY)
