"""Factor transfer: by hand, shapes, what is trained, devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import distill
from compress.errors import InputError
from tests.distill.features import check_loss, check_sharded, maps, normal

KEY = jax.random.key(0)


def test_factors_by_hand():
  # Flattened (3, 4) and (0, 1); unit norm (.6, .8) and (0, 1).
  student = jnp.array([[[[3.0, 4]]]])
  teacher = jnp.array([[[[0.0, 1]]]])
  np.testing.assert_allclose(
    distill.factor_loss(student, teacher), 0.6 + 0.2, rtol=1e-6
  )
  np.testing.assert_allclose(
    distill.factor_loss(student, teacher, power=2), 0.36 + 0.04, rtol=1e-6
  )
  # Two places, squares averaged over channels: (1, 4) and (3, 4).
  student = jnp.array([[[[1.0, -1]], [[2, 2]]]])
  teacher = jnp.array([[[[3**0.5]], [[2]]]])
  loss = distill.factor_loss(student, teacher, reduction='reference')
  expected = abs(1 / 17**0.5 - 0.6) + abs(4 / 17**0.5 - 0.8)
  np.testing.assert_allclose(loss, expected / 2, rtol=1e-6)


def test_scale_changes_nothing_and_equal_factors_are_zero():
  student, teacher = maps()
  for reduction in ('paper', 'reference'):

    def loss(ours, theirs, reduction=reduction):
      return distill.factor_loss(ours, theirs, reduction=reduction)

    assert loss(student, student) == 0
    np.testing.assert_array_equal(jax.grad(loss)(student, student), 0)
    np.testing.assert_allclose(
      loss(5 * student, 0.1 * teacher), loss(student, teacher), rtol=1e-5
    )


def test_shapes_of_the_networks():
  params = distill.init_paraphraser(KEY, channels=6, rate=0.5)
  shapes = [layer.kernel.shape for layer in (*params.encoder, *params.decoder)]
  assert [shape[2:] for shape in shapes] == [
    (6, 6),
    (6, 3),
    (3, 3),
    (3, 3),
    (3, 6),
    (6, 6),
  ]
  translator = distill.init_translator(KEY, student=4, teacher=6)
  student, teacher = normal(0, 2, 4, 4, 4), normal(1, 2, 4, 4, 6)
  assert distill.extract_factors(teacher, params).shape == (2, 4, 4, 3)
  assert distill.extract_factors(student, translator).shape == (2, 4, 4, 3)


def test_a_paraphraser_learns():
  teacher = jax.nn.relu(normal(0, 4, 4, 4, 4))
  params = distill.init_paraphraser(KEY, channels=4, rate=1.0)
  step = jax.jit(
    jax.value_and_grad(lambda p: distill.reconstruction_loss(teacher, p))
  )
  first, _ = step(params)
  for _ in range(40):
    _, slope = step(params)
    params = jax.tree.map(lambda p, g: p - 0.1 * g, params, slope)
  last, _ = step(params)
  assert last < 0.6 * first


def test_gradients_types_devices():
  paraphraser = distill.init_paraphraser(KEY, channels=4)
  translator = distill.init_translator(KEY, student=3, teacher=4)
  student, teacher = normal(0, 8, 4, 4, 3), normal(1, 8, 2, 2, 4)

  def loss(ours, theirs, nets=(translator, paraphraser)):
    return distill.factor_loss(ours, theirs, *nets) + distill.factor_loss(
      ours, theirs, *nets, reduction='reference'
    )

  check_loss(loss, student, teacher)
  check_sharded(loss, student, teacher)
  ours, theirs = jax.grad(loss, argnums=2)(
    student, teacher, (translator, paraphraser)
  )
  assert all((np.abs(leaf) > 0).any() for leaf in jax.tree.leaves(ours))
  assert all((leaf == 0).all() for leaf in jax.tree.leaves(theirs))


def test_errors():
  student, teacher = maps()
  with pytest.raises(InputError, match='power is 3'):
    distill.factor_loss(student, teacher, power=3)
  with pytest.raises(InputError, match='right are the same'):
    distill.factor_loss(student, teacher[..., :2])
  with pytest.raises(InputError, match='leaves a factor'):
    distill.init_paraphraser(KEY, channels=3, rate=0.1)
  with pytest.raises(InputError, match='input channels'):
    distill.reconstruction_loss(
      teacher, distill.init_paraphraser(KEY, channels=4)
    )
  with pytest.raises(InputError, match='reduction'):
    distill.factor_loss(student, teacher, reduction='sum')
