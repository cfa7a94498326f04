"""Second derivatives of a loss with respect to every weight.

What methods that look beyond the gradient need: diagonals of the Hessian and
of its stand-ins, and the vectors whose outer products make up the Gauss-Newton
matrix. `loss_fn(params, batch)` is a scalar, the mean over the batch;
`batch` is any pytree of arrays whose leading axis holds N examples. Functions
of a single example are called on it with that axis removed.

A diagonal is {leaf path: array of the leaf's shape}. The leaves of `params`
must be of one floating type; close over what is not to be differentiated.
Everything here can be jitted. BatchNorm must use its running statistics, or
the examples of a batch are no longer separate.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from compress.errors import InputError
from compress.prune.paths import by_path


def flatten_params(params) -> tuple[jax.Array, Callable[[jax.Array], Any]]:
  """All weights in one vector, leaf after leaf, and the way back.

  Args:
    params: pytree of arrays of one dtype; an array is one, too.

  Returns:
    [n] and a function that gives a vector of n entries (of any dtype) the
    structure of `params`.

  Raises:
    InputError: no leaf, or leaves of several dtypes.
  """
  leaves, tree = jax.tree.flatten(params)
  dtypes = sorted({str(jnp.asarray(leaf).dtype) for leaf in leaves})
  if len(dtypes) != 1:
    raise InputError(f'leaves have types {dtypes}; right is a single one')
  sizes = [math.prod(leaf.shape) for leaf in leaves]

  def unflatten(vector):
    out, start = [], 0
    for leaf, size in zip(leaves, sizes, strict=True):
      out.append(vector[start : start + size].reshape(leaf.shape))
      start += size
    return jax.tree.unflatten(tree, out)

  return jnp.concatenate([leaf.reshape(-1) for leaf in leaves]), unflatten


def hessian_diagonal(
  loss_fn, params, batch, *, chunk: int = 16
) -> dict[str, jax.Array]:
  """The exact diagonal, one Hessian-vector product a weight: small nets only.

  Args:
    loss_fn: `(params, batch) -> scalar`.
    params: pytree of arrays, n weights in all.
    batch: what `loss_fn` takes.
    chunk: products computed side by side.

  Returns:
    The diagonal; entries may be negative away from a minimum.
  """
  vector, unflatten = flatten_params(params)

  def gradient(v):
    return jax.grad(lambda u: loss_fn(unflatten(u), batch))(v)

  def entry(i):
    unit = jnp.zeros_like(vector).at[i].set(1)
    return jax.jvp(gradient, (vector,), (unit,))[1][i]

  indices = jnp.arange(vector.size)
  diagonal = jax.lax.map(entry, indices, batch_size=min(chunk, vector.size))
  return by_path(unflatten(diagonal))


def hutchinson_diagonal(
  loss_fn, params, batch, *, key: jax.Array, probes: int = 32
) -> dict[str, jax.Array]:
  """An unbiased estimate of the diagonal, the mean of v * Hv.

  Bekas, Kokiopoulou, Saad 2007, 'An Estimator for the Diagonal of a Matrix',
  with v of independent random signs: exact for a diagonal Hessian, else of
  variance sum_{j != i} H_ij^2 / probes in entry i.

  Args:
    loss_fn: `(params, batch) -> scalar`.
    params: pytree of arrays.
    batch: what `loss_fn` takes.
    key: random key.
    probes: Hessian-vector products, >= 1.

  Returns:
    The diagonal.
  """
  vector, unflatten = flatten_params(params)

  def gradient(v):
    return jax.grad(lambda u: loss_fn(unflatten(u), batch))(v)

  def add(total, key):
    v = jax.random.rademacher(key, vector.shape, vector.dtype)
    return total + v * jax.jvp(gradient, (vector,), (v,))[1], None

  keys = jax.random.split(key, probes)
  total, _ = jax.lax.scan(add, jnp.zeros_like(vector), keys)
  return by_path(unflatten(total / probes))


def empirical_fisher(
  loss_fn, params, batch, *, chunk: int = 32
) -> dict[str, jax.Array]:
  """Mean over examples of the squared gradient.

  It squares each example's own gradient. The square of a batch's mean gradient
  is something else, smaller by about the batch size. Near a minimum of a
  likelihood it stands in for the Hessian; with real labels it is the
  empirical, not the true Fisher matrix (Kunstner, Balles, Hennig 2019,
  arXiv:1905.12558).

  Args:
    loss_fn: `(params, batch) -> scalar`, called on batches of one example.
    params: pytree of arrays.
    batch: pytree of arrays [N, ...].
    chunk: examples whose gradients are held at once.

  Returns:
    The diagonal, >= 0.
  """
  vector, unflatten = flatten_params(params)

  def squares(example):
    alone = jax.tree.map(lambda x: x[None], example)
    gradient = jax.grad(lambda u: loss_fn(unflatten(u), alone))(vector)
    return jnp.square(gradient)

  return by_path(unflatten(_mean(squares, batch, chunk)))


def gauss_newton_vectors(
  predict, loss, params, example, *, key=None, samples: int | None = None
) -> jax.Array:
  """Vectors x_k of one example whose sum of x_k x_k^T is its Gauss-Newton.

  Schraudolph 2002, 'Fast Curvature Matrix-Vector Products': the generalised
  Gauss-Newton matrix is J^T H J with J the outputs' Jacobian and H the second
  derivatives of the loss at the outputs. With H = L L^T, x_k = J^T L e_k.

  Args:
    predict: `(params, x) -> outputs`, a single example's x and outputs [K].
    loss: `(outputs [K], y) -> scalar`, convex in the outputs; a negative
      eigenvalue of H counts as 0.
    params: pytree of arrays, n weights in all.
    example: `(x, y)` of one example.
    key: random key, for samples.
    samples: None for all K vectors, exact. Else that many vectors
      J^T L v / sqrt(samples), v of random signs: the same in the mean.

  Returns:
    [K or samples, n].
  """
  vector, unflatten = flatten_params(params)
  x, y = example
  outputs, pull = jax.vjp(lambda u: predict(unflatten(u), x), vector)
  values, basis = jnp.linalg.eigh(jax.hessian(loss)(outputs, y))
  directions = (basis * jnp.sqrt(jnp.maximum(values, 0))[None]).T
  if samples is not None:
    shape = (samples, directions.shape[0])
    signs = jax.random.rademacher(key, shape, directions.dtype)
    directions = signs @ directions / math.sqrt(samples)
  return jax.vmap(lambda d: pull(d)[0])(directions)


def gauss_newton_diagonal(
  predict, loss, params, batch, *, key=None, samples=None, chunk: int = 32
) -> dict[str, jax.Array]:
  """Mean over examples of the Gauss-Newton matrix's diagonal.

  Args:
    predict: `(params, x) -> outputs [K]`, of a single example.
    loss: `(outputs [K], y) -> scalar`, convex in the outputs.
    params: pytree of arrays.
    batch: `(x, y)`, pytrees of arrays [N, ...].
    key: random key, needed for samples.
    samples: None for the exact diagonal, K backward passes an example; else
      that many passes with random signs over the outputs, right in the mean.
    chunk: examples computed side by side.

  Returns:
    The diagonal, >= 0.

  Raises:
    InputError: samples without a key.
  """
  if samples is not None and key is None:
    raise InputError('sampled Gauss-Newton without a key; right is key=')
  _, unflatten = flatten_params(params)
  count = jax.tree.leaves(batch)[0].shape[0]
  keys = None if key is None else jax.random.split(key, count)

  def squares(item):
    vectors = gauss_newton_vectors(
      predict, loss, params, item[0], key=item[1], samples=samples
    )
    return jnp.square(vectors).sum(0)

  return by_path(unflatten(_mean(squares, (batch, keys), chunk)))


def _mean(function, batch, chunk):
  """Mean of a function of single examples, `chunk` of them at once."""
  count = jax.tree.leaves(batch)[0].shape[0]
  if count == 0:
    raise InputError('batch of 0 examples; right is 1 or more')
  chunk = min(chunk, count)
  whole = count - count % chunk

  def total(examples):
    return jax.vmap(function)(examples).sum(0)

  def add(sums, examples):
    return sums + total(examples), None

  chunks = jax.tree.map(
    lambda x: x[:whole].reshape(-1, chunk, *x.shape[1:]), batch
  )
  rest = jax.tree.map(lambda x: x[whole:], batch)
  like = jax.eval_shape(function, jax.tree.map(lambda x: x[0], batch))
  sums, _ = jax.lax.scan(add, jnp.zeros(like.shape, like.dtype), chunks)
  return (sums + total(rest) if whole < count else sums) / count
