"""A small training problem whose loss is over all pairs of the global batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from compress import train

BATCH = 16
STEPS = 12


def pair_loss(params, carried, batch, key, *, axis_name=None):
  """Match cosine similarities with identities, seen from a random side."""
  hidden = jnp.tanh(batch['x'] @ params['first']['kernel'])
  embeddings = hidden @ params['second']['kernel']
  identities = batch['identity']
  if axis_name is not None:
    embeddings, identities = (
      jax.lax.all_gather(value, axis_name, tiled=True)
      for value in (embeddings, identities)
    )
  side = jax.random.normal(key, (1, embeddings.shape[1]))
  embeddings = embeddings + 0.1 * side
  norms = jnp.linalg.norm(embeddings, axis=1, keepdims=True)
  embeddings = embeddings / norms
  cosines = embeddings @ embeddings.T
  same = identities[:, None] == identities[None]
  error = jnp.square(cosines - carried['anchor'] - same.astype(jnp.float32))
  carried = {
    'anchor': 0.9 * carried['anchor'] + 0.1 * jnp.mean(cosines),
    'seen': carried['seen'] + identities.shape[0],
  }
  return jnp.mean(error), (carried, {'same': jnp.sum(same)})


def row_loss(params, carried, batch, key, *, axis_name=None):
  """Mean squared error, row by row."""
  del key, axis_name
  error = batch['x'] @ params['kernel'] - batch['y']
  return jnp.mean(jnp.square(error)), (carried, {})


def optimizer(rate=0.1):
  return train.sgd(train.cosine(rate, steps=STEPS, warmup=2))


def data():
  random = np.random.default_rng(7)
  return {
    'x': random.normal(size=(100, 6)).astype(np.float32),
    'identity': random.integers(0, 9, 100).astype(np.int32),
  }


def initial(width=8):
  random = np.random.default_rng(11)

  def draw(*shape):
    return jnp.asarray(random.normal(size=shape), jnp.float32)

  params = {
    'first': {'kernel': draw(6, width)},
    'second': {'kernel': draw(width, 4)},
  }
  carried = {'anchor': jnp.zeros(()), 'seen': jnp.zeros((), jnp.int32)}
  return train.init_state(params, optimizer(), carried, jax.random.key(5))


def step():
  return train.make_step(pair_loss, optimizer())


@functools.cache
def compiled(kind='jit'):
  """Return the step, ready to run; one compilation per process and kind."""
  make = {
    'jit': functools.partial(jax.jit, donate_argnums=0),
    'mesh': train.jit_step,
    'pmap': train.pmap_step,
  }
  return make[kind](step())


def batches(**options):
  return train.array_batches(data(), batch=BATCH, seed=3, **options)


def host(state):
  """Return the leaves of a state as numpy arrays, keys as their words."""
  leaves = [
    jax.random.key_data(leaf)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    else leaf
    for leaf in jax.tree.leaves(state)
  ]
  return [np.asarray(leaf) for leaf in leaves]


def assert_bit_equal(left, right):
  assert jax.tree.structure(left) == jax.tree.structure(right)
  for one, other in zip(host(left), host(right), strict=True):
    assert one.dtype == other.dtype
    assert one.tobytes() == other.tobytes()
