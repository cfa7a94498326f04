"""Second derivatives, and Optimal Brain Damage's saliency over them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress.errors import InputError
from compress.prune.curvature import (
  empirical_fisher,
  flatten_params,
  gauss_newton_diagonal,
  hessian_diagonal,
  hutchinson_diagonal,
)
from compress.prune.optimal_brain_damage import brain_damage_saliency

HESSIAN = np.array([[2.0, 1.0], [1.0, 2.0]], np.float32)


def quadratic(w, batch):
  return 0.5 * w @ batch @ w


def net(outputs=1, n=7):
  k = jax.random.split(jax.random.key(0), 5)
  params = {
    'hidden': {
      'kernel': jax.random.normal(k[0], (3, 4)),
      'bias': jax.random.normal(k[1], (4,)),
    },
    'out': {'kernel': jax.random.normal(k[2], (4, outputs))},
  }
  x = jax.random.normal(k[3], (n, 3))
  y = jax.random.normal(k[4], (n, outputs))
  return params, (x, y)


def predict(params, x):
  hidden = jnp.tanh(x @ params['hidden']['kernel'] + params['hidden']['bias'])
  return jnp.tanh(hidden @ params['out']['kernel'])


def squared(outputs, y):
  return jnp.square(y - outputs).sum()


def loss_fn(params, batch):
  x, y = batch
  return jax.vmap(lambda x, y: squared(predict(params, x), y))(x, y).mean()


def layered_recursion(params, batch, levenberg_marquardt):
  """LeCun et al.'s pass backward, in numpy float64, one output."""
  kernel = np.asarray(params['hidden']['kernel'], np.float64)
  out = np.asarray(params['out']['kernel'], np.float64)[:, 0]
  total = [np.zeros_like(kernel), np.zeros(4), np.zeros(4)]
  for x, d in zip(*(np.asarray(b, np.float64) for b in batch), strict=True):
    hidden = np.tanh(x @ kernel + np.asarray(params['hidden']['bias']))
    y = np.tanh(hidden @ out)
    slope, bend = 1 - y**2, -2 * y * (1 - y**2)
    slopes, bends = 1 - hidden**2, -2 * hidden * (1 - hidden**2)
    h_out = 2 * slope**2
    h_hidden = slopes**2 * out**2 * h_out
    if not levenberg_marquardt:
      h_out = h_out - 2 * (d[0] - y) * bend
      down = -2 * (d[0] - y) * slope * out
      h_hidden = slopes**2 * out**2 * h_out + bends * down
    for t, term in zip(
      total,
      (np.outer(x**2, h_hidden), h_hidden, h_out * hidden**2),
      strict=True,
    ):
      t += term / len(batch[0])
  return {
    'hidden/kernel': total[0],
    'hidden/bias': total[1],
    'out/kernel': total[2][:, None],
  }


def close(got, expected, **tolerance):
  assert set(got) == set(expected)
  for path in got:
    np.testing.assert_allclose(got[path], expected[path], **tolerance)


def test_golden_saliency():
  w = jnp.array([1.0, 0.5])
  diagonal = hessian_diagonal(quadratic, w, jnp.asarray(HESSIAN))
  np.testing.assert_allclose(diagonal[''], [2, 2])
  np.testing.assert_allclose(
    brain_damage_saliency(w, diagonal)[''], [1.0, 0.25]
  )


def test_exact_diagonal_is_that_of_the_hessian():
  params, batch = net(outputs=2)
  vector, unflatten = flatten_params(params)
  hessian = jax.hessian(lambda v: loss_fn(unflatten(v), batch))(vector)
  expected = unflatten(jnp.diagonal(hessian))
  got = jax.jit(lambda p: hessian_diagonal(loss_fn, p, batch, chunk=5))(params)
  np.testing.assert_allclose(
    got['hidden/kernel'], expected['hidden']['kernel'], rtol=1e-4, atol=1e-5
  )
  np.testing.assert_allclose(
    got['out/kernel'], expected['out']['kernel'], rtol=1e-4, atol=1e-5
  )


def test_exact_diagonal_is_the_papers_recursion():
  params, batch = net()
  expected = layered_recursion(params, batch, levenberg_marquardt=False)
  got = hessian_diagonal(loss_fn, params, batch)
  close(got, expected, rtol=1e-4, atol=1e-5)


def test_gauss_newton_is_the_levenberg_marquardt_recursion():
  params, batch = net()
  expected = layered_recursion(params, batch, levenberg_marquardt=True)
  got = gauss_newton_diagonal(predict, squared, params, batch)
  close(got, expected, rtol=1e-4, atol=1e-6)


def test_hutchinson_is_exact_for_a_diagonal_hessian():
  h = jnp.diag(jnp.array([1.0, -2.0, 3.0]))
  got = hutchinson_diagonal(
    quadratic, jnp.ones(3), h, key=jax.random.key(0), probes=1
  )
  np.testing.assert_allclose(got[''], [1, -2, 3], rtol=1e-6)


def test_hutchinson_approaches_the_diagonal():
  got = hutchinson_diagonal(
    quadratic,
    jnp.array([1.0, 0.5]),
    jnp.asarray(HESSIAN),
    key=jax.random.key(0),
    probes=4096,
  )
  np.testing.assert_allclose(got[''], [2, 2], atol=5 / 64)


@pytest.mark.parametrize('chunk', [3, 100])
def test_gauss_newton_of_cross_entropy(chunk):
  params, (x, y) = net(outputs=3)
  labels = jnp.argmax(y, -1)

  def cross_entropy(outputs, label):
    return -jax.nn.log_softmax(outputs)[label]

  got = gauss_newton_diagonal(
    predict, cross_entropy, params, (x, labels), chunk=chunk
  )
  vector, unflatten = flatten_params(params)
  total = jnp.zeros_like(vector)
  for i in range(7):
    outputs = predict(params, x[i])
    p = jax.nn.softmax(outputs)
    jacobian = jax.jacobian(lambda v, i=i: predict(unflatten(v), x[i]))(vector)
    middle = jnp.diag(p) - jnp.outer(p, p)
    total += jnp.einsum('kp,kl,lp->p', jacobian, middle, jacobian) / 7
  expected = unflatten(total)
  np.testing.assert_allclose(
    got['hidden/kernel'], expected['hidden']['kernel'], rtol=1e-3, atol=1e-6
  )


def test_sampled_gauss_newton_is_right_in_the_mean():
  params, batch = net(outputs=3)
  exact = gauss_newton_diagonal(predict, squared, params, batch)
  sampled = gauss_newton_diagonal(
    predict, squared, params, batch, key=jax.random.key(1), samples=2000
  )
  for path in exact:
    np.testing.assert_allclose(
      sampled[path], exact[path], atol=0.1 * float(exact[path].max())
    )
  with pytest.raises(InputError, match='without a key'):
    gauss_newton_diagonal(predict, squared, params, batch, samples=1)


@pytest.mark.parametrize('chunk', [3, 100])
def test_fisher_squares_each_examples_gradient(chunk):
  params, (x, y) = net(outputs=2)
  got = empirical_fisher(loss_fn, params, (x, y), chunk=chunk)
  grads = [
    jax.grad(loss_fn)(params, (x[i : i + 1], y[i : i + 1])) for i in range(7)
  ]
  expected = np.mean([np.square(g['out']['kernel']) for g in grads], 0)
  np.testing.assert_allclose(got['out/kernel'], expected, rtol=1e-4, atol=1e-6)
  mean = np.square(np.mean([g['out']['kernel'] for g in grads], 0))
  assert (got['out/kernel'] >= mean * (1 - 1e-5)).all()


def test_bad_input_is_refused():
  with pytest.raises(InputError, match='0 examples'):
    empirical_fisher(quadratic, jnp.ones(2), jnp.zeros((0, 2, 2)))
  with pytest.raises(InputError, match="no leaf 'b'"):
    brain_damage_saliency({'a': jnp.ones(2)}, {'b': jnp.ones(2)})
  with pytest.raises(InputError, match=r'right is \(2,\)'):
    brain_damage_saliency({'a': jnp.ones(2)}, {'a': jnp.ones(3)})


def test_saliency_is_equivariant_to_the_order_of_units():
  params, batch = net()
  order = np.array([2, 0, 3, 1])
  shuffled = {
    'hidden': {
      'kernel': params['hidden']['kernel'][:, order],
      'bias': params['hidden']['bias'][order],
    },
    'out': {'kernel': params['out']['kernel'][order]},
  }
  one, two = (
    brain_damage_saliency(p, gauss_newton_diagonal(predict, squared, p, batch))
    for p in (params, shuffled)
  )
  np.testing.assert_allclose(
    two['hidden/kernel'], one['hidden/kernel'][:, order], rtol=1e-4, atol=1e-6
  )
