"""SPEQ's loss: by hand, at equality, at one-hot teachers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import distill
from compress.errors import InputError
from tests.distill.features import check_loss, check_sharded, normal

STUDENT = jnp.array([[2.0, 1, 0]])
TEACHER = jnp.array([[3.0, 0.5, 0]])


@pytest.mark.parametrize('temperature, gap', [(1, 0.0390025), (2, 0.0372098)])
def test_golden(temperature, gap):
  loss = distill.cosine_response_loss(STUDENT, TEACHER, temperature=temperature)
  np.testing.assert_allclose(loss, temperature**2 * gap, rtol=2e-5)
  both = distill.stochastic_precision_loss(
    STUDENT, TEACHER, jnp.array([1]), temperature=temperature, weight=0.5
  )
  hard = -jax.nn.log_softmax(STUDENT)[0, 1]
  np.testing.assert_allclose(both, hard + 0.5 * loss, rtol=1e-6)


def test_agreement_has_no_loss_and_no_gradient():
  logits = 3 * normal(0, 5, 4)
  loss, gradient = jax.jit(jax.value_and_grad(distill.cosine_response_loss))(
    logits, logits
  )
  assert loss == 0
  np.testing.assert_array_equal(gradient, 0)


def test_loss_is_at_most_one():
  student, teacher = jnp.array([[900.0, 0]]), jnp.array([[-jnp.inf, 0]])
  loss, gradient = jax.value_and_grad(distill.cosine_response_loss)(
    student, teacher
  )
  np.testing.assert_allclose(loss, 1, rtol=1e-6)
  assert np.isfinite(gradient).all()


def test_what_every_loss_keeps():
  student, teacher = normal(0, 8, 5), normal(1, 8, 5)
  check_loss(distill.cosine_response_loss, student, teacher)
  check_sharded(distill.cosine_response_loss, student, teacher)


def test_bad_options():
  with pytest.raises(InputError, match='temperature is 0'):
    distill.cosine_response_loss(STUDENT, TEACHER, temperature=0)
  with pytest.raises(InputError, match='weight is -1'):
    distill.stochastic_precision_loss(
      STUDENT, TEACHER, jnp.array([1]), weight=-1
    )
