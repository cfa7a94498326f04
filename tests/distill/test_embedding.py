"""QuantFace's embedding loss: golden values, scale, zero norms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from compress import distill

value_and_slope = jax.jit(jax.value_and_grad(distill.embedding_loss))


def pair(cosine, size):
  """Two embeddings [1, size] at a given cosine, of norms 3 and 7."""
  student = np.zeros((1, size), np.float32)
  teacher = np.zeros((1, size), np.float32)
  student[0, 0] = 3
  teacher[0, :2] = 7 * cosine, 7 * np.sqrt(1 - cosine**2)
  return jnp.array(student), jnp.array(teacher)


@pytest.mark.parametrize(
  'cosine, expected', [(0.99, 3.90625e-5), (0.9, 3.90625e-4)]
)
def test_golden(cosine, expected):
  loss = distill.embedding_loss(*pair(cosine, 512))
  np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_is_mean_of_cosine_distance_and_ignores_norms():
  student, teacher = jax.random.normal(jax.random.key(0), (2, 6, 8))
  cosine = jnp.sum(
    distill.normalize(student) * distill.normalize(teacher), axis=1
  )
  loss = distill.embedding_loss(student, teacher)
  np.testing.assert_allclose(loss, jnp.mean(2 - 2 * cosine) / 8, rtol=1e-5)
  norms = jnp.array([[1e-12], [0.1], [1.0], [7.0], [1e3], [1e12]])
  scaled = distill.embedding_loss(norms * student, teacher / norms)
  np.testing.assert_allclose(scaled, loss, rtol=1e-5)


def test_zero_loss_and_gradient_at_the_teacher():
  teacher = jax.random.normal(jax.random.key(1), (6, 8))
  loss, gradient = value_and_slope(teacher, teacher)
  assert loss < 1e-12 and np.all(np.abs(gradient) < 1e-7)
  student = teacher + 1
  assert not np.any(
    jax.grad(distill.embedding_loss, argnums=1)(student, teacher)
  )


@pytest.mark.parametrize('axis', [0, 1])
def test_normalize_of_zero_is_zero_with_zero_gradient(axis):
  vectors = jnp.zeros((3, 3)).at[1, 1].set(5.0)
  unit = distill.normalize(vectors, axis=axis)
  np.testing.assert_array_equal(unit, jnp.zeros((3, 3)).at[1, 1].set(1.0))
  gradient = jax.jit(
    jax.grad(lambda v: jnp.sum(jnp.sin(distill.normalize(v, axis=axis))))
  )(vectors)
  assert np.all(np.isfinite(gradient))
  _, gradient = value_and_slope(jnp.zeros((2, 4)), jnp.ones((2, 4)))
  assert not np.any(gradient)


def test_gradient_by_finite_differences():
  student, teacher = jax.random.normal(jax.random.key(2), (2, 3, 4))
  check_grads(
    jax.jit(lambda s: 100 * distill.embedding_loss(s, teacher)),
    (student,),
    order=1,
    modes=['rev'],
    atol=1e-2,
    rtol=1e-2,
    eps=1e-2,
  )


@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.float16])
def test_half_precision_inputs_give_float32(dtype):
  student, teacher = pair(0.9, 512)
  loss, gradient = value_and_slope(student.astype(dtype), teacher.astype(dtype))
  assert loss.dtype == jnp.float32 and gradient.dtype == dtype
  np.testing.assert_allclose(loss, 3.90625e-4, rtol=1e-2)


def test_jit_and_vmap_agree_with_eager():
  student, teacher = jax.random.normal(jax.random.key(3), (2, 5, 4, 8))
  eager = [
    distill.embedding_loss(s, t) for s, t in zip(student, teacher, strict=True)
  ]
  mapped = jax.jit(jax.vmap(distill.embedding_loss))(student, teacher)
  np.testing.assert_allclose(mapped, jnp.stack(eager), rtol=1e-6)
