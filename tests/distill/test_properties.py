"""What every loss of features and logits keeps, whatever it compares.

Equal networks, compiled and eager values, half precision, seeds side by side,
images of no contrast, a teacher that no gradient reaches, and the global batch
inside `shard_map`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from compress import distill

BATCH, PLACES, WIDTH, CLASSES = 8, 3, 4, 5
LABELS = jnp.arange(BATCH) % CLASSES


def _maps(key):
  return jax.random.normal(key, (BATCH, PLACES, PLACES, WIDTH))


def _vectors(key):
  return jax.random.normal(key, (BATCH, WIDTH))


def _logits(key):
  return jax.random.normal(key, (BATCH, CLASSES))


def _named(loss):
  return lambda s, t: loss({'a': s}, {'a': t})


def _staged(loss, **options):
  # The second stage must differ from the first, or a flow is symmetric.
  return lambda s, t: loss([s, s * 0.5 + 1], [t, t * 0.5 + 1], **options)


def _contrast(student, teacher):
  params = distill.init_crd(jax.random.key(5), student=WIDTH, teacher=WIDTH)
  memory = distill.init_crd_memory(jax.random.key(6), examples=20, width=128)
  indices = jnp.arange(BATCH)
  negatives = jnp.arange(8, 16)
  return distill.crd_loss(student, teacher, params, memory, indices, negatives)[
    0
  ]


def _variational(student, teacher):
  params = distill.init_variational(
    jax.random.key(5), student=WIDTH, teacher=WIDTH
  )
  return distill.variational_loss(student, teacher, params)


def _factors(student, teacher):
  keys = jax.random.split(jax.random.key(5))
  return distill.factor_loss(
    student,
    teacher,
    distill.init_translator(keys[0], student=WIDTH, teacher=WIDTH),
    distill.init_paraphraser(keys[1], channels=WIDTH),
  )


# Name -> loss of (student, teacher), what it takes, whether equal ones give 0.
LOSSES = {
  'soft targets': (
    functools.partial(distill.soft_target_loss, temperature=4.0),
    _logits,
    True,
  ),
  'logits': (distill.logit_loss, _logits, True),
  'hinton': (
    lambda s, t: distill.hinton_loss(s, t, LABELS),
    _logits,
    False,
  ),
  'born again': (
    lambda s, t: distill.born_again_loss(s, t, LABELS),
    _logits,
    False,
  ),
  'confidence': (
    lambda s, t: distill.confidence_weighted_loss(s, t, LABELS),
    _logits,
    False,
  ),
  'hints': (distill.hint_loss, _maps, True),
  'attention': (_named(distill.attention_loss), _maps, True),
  'similarity': (distill.similarity_loss, _maps, True),
  'correlation': (distill.correlation_loss, _vectors, True),
  'probabilities': (distill.probabilistic_loss, _vectors, True),
  'distances': (distill.relational_distance_loss, _vectors, True),
  'angles': (distill.relational_angle_loss, _vectors, True),
  'relations': (distill.relational_loss, _vectors, True),
  'selectivity': (distill.selectivity_loss, _maps, True),
  'flow': (_staged(distill.flow_loss), _maps, True),
  'boundary': (_staged(distill.boundary_loss), _maps, False),
  'factors': (_factors, _maps, False),
  'variational': (_variational, _maps, False),
  'direction': (distill.cosine_feature_loss, _vectors, True),
  'embedding': (distill.embedding_loss, _vectors, True),
  'contrast': (_contrast, _vectors, False),
  'contrast in the batch': (distill.info_nce_loss, _vectors, False),
}
every_loss = pytest.mark.parametrize('name', LOSSES)


def _pair(name, seed=0):
  loss, draw, _ = LOSSES[name]
  keys = jax.random.split(jax.random.key(seed))
  return loss, draw(keys[0]), draw(keys[1])


@pytest.mark.parametrize('name', [k for k, v in LOSSES.items() if v[2]])
def test_equal_networks_pay_nothing(name):
  loss, student, _ = _pair(name)
  np.testing.assert_allclose(loss(student, student), 0.0, atol=2e-6)
  slope = jax.grad(loss)(student, student)
  assert np.isfinite(slope).all()


@every_loss
def test_compiled_and_eager_values_agree(name):
  loss, student, teacher = _pair(name)
  eager = loss(student, teacher)
  assert eager.shape == () and eager.dtype == jnp.float32
  np.testing.assert_allclose(
    jax.jit(loss)(student, teacher), eager, rtol=2e-5, atol=1e-6
  )


@every_loss
def test_no_gradient_reaches_the_teacher(name):
  loss, student, teacher = _pair(name)
  ours, theirs = jax.jit(jax.grad(loss, argnums=(0, 1)))(student, teacher)
  assert np.isfinite(ours).all() and np.abs(ours).max() > 0
  np.testing.assert_array_equal(theirs, jnp.zeros_like(theirs))


@every_loss
@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_half_precision_is_computed_in_float32(name, dtype):
  loss, student, teacher = _pair(name)
  student, teacher = student.astype(dtype), teacher.astype(dtype)
  found = jax.jit(loss)(student, teacher)
  assert found.dtype == jnp.float32
  whole = loss(student.astype(jnp.float32), teacher.astype(jnp.float32))
  np.testing.assert_allclose(found, whole, rtol=1e-4, atol=1e-5)


@every_loss
@pytest.mark.parametrize('value', [0.0, 1.0])
def test_features_without_contrast_have_finite_slopes(name, value):
  loss, student, _ = _pair(name)
  flat = jnp.full_like(student, value)
  found, slope = jax.jit(jax.value_and_grad(loss))(flat, flat)
  assert np.isfinite(found) and np.isfinite(slope).all()
  found, slope = jax.jit(jax.value_and_grad(loss))(student, flat)
  assert np.isfinite(found) and np.isfinite(slope).all()


@every_loss
def test_seeds_side_by_side_are_seeds_alone(name):
  loss = LOSSES[name][0]
  pairs = [_pair(name, seed)[1:] for seed in range(3)]
  students, teachers = (jnp.stack(side) for side in zip(*pairs, strict=True))
  together = jax.jit(jax.vmap(loss))(students, teachers)
  alone = jnp.stack([loss(*pair) for pair in pairs])
  np.testing.assert_allclose(together, alone, rtol=5e-5, atol=1e-6)


@every_loss
def test_gathered_rows_give_the_loss_of_the_global_batch(name):
  loss, student, teacher = _pair(name)
  width = student.shape[-1]
  weights = jnp.eye(width) + jnp.linspace(0.0, 0.5, width**2).reshape(
    width, width
  )

  def step(weights, student, teacher, axis_name=None):
    def value(weights):
      ours = jnp.einsum('...i,ij->...j', student, weights)
      return loss(*distill.gather_batch((ours, teacher), axis_name))

    return jax.value_and_grad(value)(weights)

  def shard(*arrays):
    value, slope = step(*arrays, 'data')
    return value[None], jax.lax.pmean(slope, 'data')

  mapped = jax.shard_map(
    shard,
    mesh=jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,)),
    in_specs=(P(), P('data'), P('data')),
    out_specs=(P('data'), P()),
    check_vma=False,
  )
  values, slope = jax.jit(mapped)(weights, student, teacher)
  value, expected = jax.jit(step)(weights, student, teacher)
  assert np.abs(expected).max() > 0
  np.testing.assert_allclose(values, jnp.full(8, value), rtol=2e-5, atol=1e-6)
  np.testing.assert_allclose(
    slope, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max()
  )


def test_without_an_axis_nothing_is_gathered():
  rows = {'a': jnp.ones((2, 3))}
  assert distill.gather_batch(rows, None) is rows
