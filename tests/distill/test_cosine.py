"""The cosine loss of features: by hand, at equality, at zero norms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import distill
from compress.errors import InputError

both = jax.jit(jax.value_and_grad(distill.cosine_feature_loss, (0, 1)))


@pytest.mark.parametrize(
  'student, expected', [([3.0, 0], 0.4), ([0.6, 0.8], 0), ([-6.0, -8], 2)]
)
def test_golden(student, expected):
  loss = distill.cosine_feature_loss(
    jnp.array([student]), jnp.array([[3.0, 4]])
  )
  np.testing.assert_allclose(loss, expected, atol=1e-6)


def test_equal_features_have_no_loss_and_no_gradient():
  features = jax.random.normal(jax.random.key(0), (3, 4, 2))
  loss, (ours, _) = both(features, features)
  np.testing.assert_allclose(loss, 0, atol=1e-12)
  np.testing.assert_allclose(ours, 0, atol=1e-7)


def test_zero_norms_are_finite():
  features = jax.random.normal(jax.random.key(0), (2, 4, 2)).at[0].set(0)
  loss, (ours, theirs) = both(features, jnp.ones((2, 4, 2)))
  assert np.isfinite(loss)
  np.testing.assert_array_equal(ours[0], 0)
  assert np.isfinite(ours).all() and ours[1].any()
  np.testing.assert_array_equal(theirs, 0)
  zero = jnp.zeros((2, 4, 2))
  assert both(zero, zero)[0] == 0
  np.testing.assert_allclose(both(zero, jnp.ones((2, 4, 2)))[0], 0.5)


def test_projection_across_widths():
  student = jnp.array([[[1.0, 2]]])
  projection = jnp.array([[1.0, 0, 1], [0, 1, 1]])
  loss = distill.cosine_feature_loss(
    student, jnp.array([[[2.0, 4, 6]]]), projection=projection
  )
  np.testing.assert_allclose(loss, 0, atol=1e-6)
  drawn = distill.init_projection(jax.random.key(0), student=400, teacher=50)
  assert drawn.shape == (400, 50)
  np.testing.assert_allclose(drawn.std(), 1 / 20, rtol=0.05)


def test_errors():
  with pytest.raises(InputError, match='a projection where the widths differ'):
    distill.cosine_feature_loss(jnp.ones((2, 3)), jnp.ones((2, 4)))
  with pytest.raises(InputError, match=r'right is \[3, 4\]'):
    distill.cosine_feature_loss(
      jnp.ones((2, 3)), jnp.ones((2, 4)), projection=jnp.ones((4, 3))
    )


def test_other_ranks_are_bad_input():
  with pytest.raises(InputError, match='right are the same places'):
    distill.cosine_feature_loss(jnp.ones((2, 3)), jnp.ones((2, 1, 3)))
