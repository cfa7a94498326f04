"""Defensive distillation: its losses, and that it does not defend."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from compress import audit, distill
from compress import train as compress_train
from compress.errors import InputError

ROWS, CLASSES = np.arange(4)[:, None], np.arange(5)[None, :]
STUDENT = jnp.asarray(np.sin(1 + 3 * ROWS + CLASSES), jnp.float32)
TEACHER = jnp.asarray(2 * np.cos(0.5 + ROWS * CLASSES), jnp.float32)
LABELS = jnp.asarray([0, 2, 4, 1])
TEMPERATURE = 100.0


def test_the_teachers_loss():
  loss = distill.defensive_teacher_loss(STUDENT, LABELS, temperature=1.0)
  assert float(loss) == pytest.approx(2.222600637200089, rel=1e-6)
  soft = distill.defensive_teacher_loss(20 * STUDENT, LABELS, temperature=20.0)
  assert float(soft) == pytest.approx(2.222600637200089, rel=1e-6)


def test_the_students_loss_is_the_divergence_and_the_teachers_entropy():
  for temperature, divergence in ((1.0, 0.8355250814040285), (4.0, None)):
    q = jax.nn.softmax(TEACHER / temperature)
    entropy = -(q * jnp.log(q)).sum(1).mean()
    if divergence is None:
      divergence = 1.2596685694605152 / temperature**2
    loss = distill.defensive_loss(STUDENT, TEACHER, temperature=temperature)
    assert float(loss - entropy) == pytest.approx(divergence, rel=1e-5)


def test_gradients_and_precision():
  loss = functools.partial(distill.defensive_loss, temperature=20.0)
  slopes = jax.grad(loss, argnums=(0, 1))(STUDENT, TEACHER)
  assert np.abs(slopes[0]).max() > 0 and not np.abs(slopes[1]).any()
  sure = jnp.where(jax.nn.one_hot(LABELS, 5, dtype=bool), 0.0, -jnp.inf)
  hard = distill.defensive_teacher_loss(STUDENT, LABELS, temperature=20.0)
  assert float(loss(STUDENT, sure)) == pytest.approx(float(hard), rel=1e-6)
  assert np.isfinite(jax.grad(loss)(STUDENT, sure)).all()
  low = loss(STUDENT.astype(jnp.bfloat16), TEACHER.astype(jnp.bfloat16))
  assert low.dtype == jnp.float32


def test_a_class_that_neither_network_allows_counts_nothing():
  loss = jax.value_and_grad(
    functools.partial(distill.defensive_loss, temperature=20.0)
  )
  few = [0, 1, 2, 4]
  expected, slopes = loss(STUDENT[:, few], TEACHER[:, few])
  found, gradient = loss(
    STUDENT.at[:, 3].set(-jnp.inf), TEACHER.at[:, 3].set(-jnp.inf)
  )
  assert float(found) == pytest.approx(float(expected), rel=1e-6)
  np.testing.assert_allclose(gradient[:, few], slopes, atol=1e-7)
  assert not np.any(gradient[:, 3])


@pytest.mark.parametrize('label', [-1, 5])
def test_a_label_that_is_no_class_makes_the_loss_nan(label):
  labels = LABELS.at[0].set(label)
  loss = distill.defensive_teacher_loss(STUDENT, labels, temperature=20.0)
  assert np.isnan(loss)


def test_saturation_golden():
  """In float32 entries of `p - y` become exactly 0 as logits grow."""
  logits = jnp.asarray([[4.0, 2.0, -1.0]])
  labels = jnp.asarray([0])
  zeros = [
    int(
      (
        jax.grad(lambda z: audit.cross_entropies(z, labels).sum())(
          scale * logits
        )
        == 0
      ).sum()
    )
    for scale in (1, 10, 40, 100)
  ]
  assert zeros == [0, 1, 2, 3]


def blobs(seed, count):
  rng = np.random.default_rng(seed)
  centres = np.random.default_rng(0).uniform(0.2, 0.8, (5, 20))
  labels = rng.integers(0, 5, count)
  images = centres[labels] + rng.normal(0, 0.08, (count, 20))
  return jnp.asarray(images.clip(0, 1), jnp.float32), jnp.asarray(labels)


def network(params, x):
  hidden = jax.nn.relu((x - 0.5) @ params['a'] + params['b'][None])
  return hidden @ params['c'] + params['d'][None]


def init(key):
  a, c = jax.random.split(key)
  return {
    'a': jax.random.normal(a, (20, 32)) * 20**-0.5 * 2,
    'b': jnp.zeros(32),
    'c': jax.random.normal(c, (32, 5)) * 32**-0.5,
    'd': jnp.zeros(5),
  }


def train(params, loss, *, steps=1500):
  optimizer = compress_train.adam(0.02)

  @jax.jit
  def run(params):
    def step(carry, _):
      params, state = carry
      slope = jax.grad(loss)(params)
      update, state = optimizer.update(slope, state, params)
      return (optax.apply_updates(params, update), state), None

    begin = params, optimizer.init(params)
    return jax.lax.scan(step, begin, None, length=steps)[0][0]

  return run(params)


@pytest.fixture(scope='module')
def networks():
  """A plain network and a defensively distilled one, as predictors."""
  images, labels = blobs(1, 200)
  plain = train(
    init(jax.random.key(0)),
    lambda p: distill.cross_entropy(network(p, images), labels),
    steps=100,
  )
  teacher = train(
    init(jax.random.key(0)),
    lambda p: distill.defensive_teacher_loss(
      network(p, images), labels, temperature=TEMPERATURE
    ),
  )
  answers = network(teacher, images)
  student = train(
    init(jax.random.key(1)),
    lambda p: distill.defensive_loss(
      network(p, images), answers, temperature=TEMPERATURE
    ),
  )
  return [functools.partial(network, p) for p in (plain, student)]


def success(predict, images, labels, **options):
  found = audit.fgsm(predict, images, labels, epsilon=0.25, **options)
  return audit.judge_attack(predict(images), predict(found), labels)


def test_the_defence_hides_the_gradient_and_nothing_else(networks):
  plain, defended = networks
  images, labels = blobs(2, 200)
  before = success(plain, images, labels)
  seeming = success(defended, images, labels)
  assert before.accuracy > 0.97 and seeming.accuracy > before.accuracy - 0.02
  assert before.success > 0.9
  assert seeming.success < 0.2
  slopes = [
    np.asarray(audit.input_gradient(predict, images, labels))
    for predict in networks
  ]
  assert not (slopes[0] == 0).any()
  assert (slopes[1] == 0).mean() > 0.8

  # What Carlini and Wagner did: the same attack on logits over T, or on a
  # loss of logits, and the same attack through the softened network.
  divided = success(defended, images, labels, temperature=TEMPERATURE)
  margin = success(defended, images, labels, loss=audit.margins)
  soft = distill.softened(defended, temperature=TEMPERATURE)
  through = success(soft, images, labels)
  assert divided.success > 0.9 and margin.success > 0.9
  assert through == divided
  assert 'Carlini' in distill.NOT_A_DEFENCE


def test_softened_decides_the_same(networks):
  images, _ = blobs(3, 50)
  soft = distill.softened(networks[1], temperature=TEMPERATURE)
  a, b = networks[1](images), soft(images)
  np.testing.assert_allclose(np.asarray(a) / TEMPERATURE, b, rtol=1e-6)


def test_bad_inputs():
  for call in (
    lambda: distill.defensive_loss(STUDENT, TEACHER, temperature=0),
    lambda: distill.defensive_teacher_loss(STUDENT, LABELS, temperature=0),
    lambda: distill.softened(lambda x: x, temperature=0),
  ):
    with pytest.raises(InputError, match='temperature is 0'):
      call()
