"""Attention maps and restoration: by hand, at equality, at zero norms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import distill
from compress.errors import InputError
from tests.distill.features import maps


def feature(seed, channels=3, scale=1.0):
  return scale * jax.random.normal(jax.random.key(seed), (2, 3, 2, channels))


def test_map_by_hand():
  # Two places: (1, 2) and (2, 4), sums of squares 5 and 20.
  features = jnp.array([[[1.0, 2], [2, -4]]])
  np.testing.assert_allclose(
    distill.attention_map(features), [[1 / 17**0.5, 4 / 17**0.5]], rtol=1e-6
  )
  np.testing.assert_allclose(
    distill.attention_map(features, power=1),
    [[1 / 5**0.5, 2 / 5**0.5]],
    rtol=1e-6,
  )


def test_loss_by_hand_across_widths():
  # Unit maps (1, 0) and (0.6, 0.8): squared distance 0.16 + 0.64.
  student = {'a': jnp.array([[[2.0], [0.0]]])}
  teacher = {'a': jnp.array([[[3**0.5, 0, 0], [0, 2, 0]]])}
  loss = distill.attention_loss(student, teacher)
  np.testing.assert_allclose(loss, 0.8, rtol=1e-5)
  loss = distill.attention_loss(
    {**student, 'b': student['a']}, {**teacher, 'b': teacher['a']}
  )
  np.testing.assert_allclose(loss, 1.6, rtol=1e-5)


@pytest.mark.parametrize(
  'reduction, expected',
  [
    ('reference', 0.0004628365954653173),
    ('paper', 0.08598555523294063),
    ('squares', 16 * 0.0004628365954653173),
  ],
)
def test_golden(reduction, expected):
  student, teacher = maps()
  loss = distill.attention_loss(
    {'a': student}, {'a': teacher}, reduction=reduction
  )
  np.testing.assert_allclose(loss, expected, rtol=2e-5)


def test_larger_maps_are_averaged_first():
  student, teacher = maps()
  larger = jnp.repeat(jnp.repeat(student, 2, axis=1), 3, axis=2)
  np.testing.assert_allclose(
    distill.attention_loss({'a': larger}, {'a': teacher}),
    distill.attention_loss({'a': student}, {'a': teacher}),
    rtol=1e-5,
  )


def test_scale_and_channel_order_change_nothing():
  features = feature(0)
  loss = distill.attention_loss({'a': features}, {'a': 5 * features[..., ::-1]})
  assert loss < 1e-12


def test_an_equal_student_has_the_cross_entropy_alone():
  logits = jax.random.normal(jax.random.key(0), (2, 4))
  features, labels = feature(1), jnp.array([1, 3])

  def restore(logits_s, features_s):
    return distill.restoration_loss(
      logits_s,
      logits,
      labels,
      {'a': features_s},
      {'a': features},
      attention_weight=100.0,
    )

  both = jax.jit(jax.value_and_grad(restore, argnums=(0, 1)))
  loss, (logits_grad, features_grad) = both(logits, features)
  expected, grad = jax.jit(jax.value_and_grad(distill.cross_entropy))(
    logits, labels
  )
  np.testing.assert_allclose(loss, expected, rtol=1e-6)
  np.testing.assert_allclose(logits_grad, grad, atol=1e-6)
  np.testing.assert_allclose(features_grad, 0, atol=1e-5)


@pytest.mark.parametrize('reduction', ['squares', 'paper'])
def test_gradients_are_finite_at_zero_and_stay_off_the_teacher(reduction):
  dead = feature(0).at[0].set(0)

  @jax.jit
  @jax.grad
  def slope(pair):
    ours, theirs = ({'a': x} for x in pair)
    return distill.attention_loss(ours, theirs, reduction=reduction)

  for pair in ((dead, feature(1)), (feature(1), dead), (dead, dead)):
    ours, theirs = slope(pair)
    assert np.isfinite(ours).all()
    np.testing.assert_array_equal(theirs, 0)
  np.testing.assert_array_equal(slope((dead, feature(1)))[0][0], 0)


def test_errors():
  with pytest.raises(InputError, match='right are the same names'):
    distill.attention_loss({'a': feature(0)}, {'b': feature(0)})
  with pytest.raises(InputError, match='only the channels may differ'):
    distill.attention_loss({'a': feature(0)[0]}, {'a': feature(0)[0, :1]})
  with pytest.raises(InputError, match='batches of different size|images'):
    distill.attention_loss({'a': feature(0)}, {'a': feature(0)[:1]})
  with pytest.raises(InputError, match='right is one of squares, paper'):
    distill.attention_loss(
      {'a': feature(0)}, {'a': feature(0)}, reduction='sum'
    )
  with pytest.raises(InputError, match='no places'):
    distill.attention_map(jnp.ones((2, 3)))
  with pytest.raises(InputError, match='1 or more'):
    distill.attention_map(feature(0), power=0.5)
  with pytest.raises(InputError, match='right is 0 or more'):
    distill.restoration_loss(
      jnp.ones((2, 4)),
      jnp.ones((2, 4)),
      jnp.array([0, 1]),
      {'a': feature(0)},
      {'a': feature(0)},
      soft_weight=-1.0,
    )
