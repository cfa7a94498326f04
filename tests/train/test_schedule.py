import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from compress import train
from compress.errors import InputError


def values(schedule, steps):
  return [float(jax.jit(schedule)(jnp.int32(step))) for step in steps]


def test_constant():
  assert values(train.constant(0.5), [0, 9]) == [0.5, 0.5]
  got = values(train.constant(0.5, warmup=4), [0, 1, 2, 4, 9])
  np.testing.assert_allclose(got, [0, 0.125, 0.25, 0.5, 0.5])


def test_cosine():
  schedule = train.cosine(2.0, steps=10, warmup=2, end=0.5)
  got = values(schedule, [0, 1, 2, 4, 6, 8, 10, 12])
  quarter = 0.5 + 1.5 * (1 + np.cos(np.pi / 4)) / 2
  expected = [0, 1, 2, quarter, 1.25, 2.5 - quarter, 0.5, 0.5]
  np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_staircase():
  schedule = train.staircase(1.0, boundaries=[4, 6], factor=0.1, warmup=2)
  got = values(schedule, [0, 1, 2, 3, 4, 5, 6, 7])
  np.testing.assert_allclose(
    got, [0, 0.5, 1, 1, 0.1, 0.1, 0.01, 0.01], rtol=1e-6
  )


def test_decay_leaves_out_norms_scales_slopes_and_learned_state():
  params = {
    'stem': {'kernel': 0, 'bias': 0},
    'block0': {
      'conv1': {'kernel': 0},
      'bn1': {'scale': 0, 'bias': 0},
      'BatchNorm_0': {'gamma': 0},
      'prelu': {'slope': 0},
    },
    'features_bn': {'weight': 0},
    'head': {'kernel': 0},
    'learned': {'stem': {'kernel': 0}},
  }
  got = jax.tree_util.tree_leaves_with_path(train.decayed(params))
  names = {
    jax.tree_util.keystr(path, simple=True, separator='/')
    for path, decays in got
    if decays
  }
  assert names == {'stem/kernel', 'block0/conv1/kernel', 'head/kernel'}
  only = train.decayed(params, exclude=['head'])
  assert only['stem']['bias'] and not only['head']['kernel']


def run(optimizer, gradients, params):
  state = optimizer.init(params)
  for gradient in gradients:
    updates, state = optimizer.update(gradient, state, params)
    params = optax.apply_updates(params, updates)
  return params


def problem():
  random = np.random.default_rng(0)

  def draw():
    return {
      'kernel': random.normal(size=(3, 2)).astype(np.float32),
      'scale': random.normal(size=(2,)).astype(np.float32),
    }

  return draw(), [jax.tree.map(lambda x: 4 * x, draw()) for _ in range(4)]


@pytest.mark.parametrize('nesterov', [True, False])
def test_sgd_written_by_hand(nesterov):
  params, gradients = problem()
  got = run(train.sgd(0.1, nesterov=nesterov), gradients, params)
  weights = {name: value.astype(np.float64) for name, value in params.items()}
  speed = {name: 0.0 for name in weights}
  for gradient in gradients:
    norm = np.sqrt(
      sum((g.astype(np.float64) ** 2).sum() for g in gradient.values())
    )
    assert norm > 5
    for name in weights:
      g = gradient[name] * 5 / norm
      if name == 'kernel':
        g = g + 5e-4 * weights[name]
      speed[name] = 0.9 * speed[name] + g
      move = g + 0.9 * speed[name] if nesterov else speed[name]
      weights[name] = weights[name] - 0.1 * move
  for name in weights:
    np.testing.assert_allclose(got[name], weights[name], rtol=1e-5)


def test_adam_written_by_hand():
  params, gradients = problem()
  got = run(train.adam(0.01, weight_decay=0.1), gradients, params)
  for name, start in params.items():
    weight = start.astype(np.float64)
    first = second = 0.0
    for t, gradient in enumerate(gradients, start=1):
      g = gradient[name]
      first = 0.9 * first + 0.1 * g
      second = 0.999 * second + 0.001 * g**2
      move = first / (1 - 0.9**t)
      move = move / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
      if name == 'kernel':
        move = move + 0.1 * weight
      weight = weight - 0.01 * move
    np.testing.assert_allclose(got[name], weight, rtol=1e-4)


def test_plain_gradient_descent():
  params, gradients = problem()
  tool = train.sgd(0.1, momentum=0, nesterov=False, weight_decay=0, clip=None)
  got = run(tool, gradients[:1], params)
  np.testing.assert_allclose(
    got['kernel'], params['kernel'] - 0.1 * gradients[0]['kernel'], rtol=1e-6
  )


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda: train.constant(1.0, warmup=-1), 'warm-up'),
    (lambda: train.cosine(1.0, steps=5, warmup=5), 'does not fit'),
    (lambda: train.staircase(1.0, boundaries=[4, 4]), 'must rise'),
    (lambda: train.staircase(1.0, boundaries=[1], warmup=2), 'in the warm-up'),
    (lambda: train.sgd(0.1, momentum=1.0), 'momentum'),
    (lambda: train.sgd(0.1, clip=0.0), 'clipping norm'),
    (lambda: train.adam(0.1, weight_decay=-1.0), 'weight decay'),
  ],
)
def test_bad_numbers(make, message):
  with pytest.raises(InputError, match=message):
    make()
