"""Hints: goldens, regressors by hand, sizes, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import distill
from compress.distill.hints import Adapter, Regressor
from compress.errors import InputError
from tests.distill.features import check_loss, check_sharded, normal, vectors

KEY = jax.random.key(0)


def test_golden():
  student, teacher = vectors()
  np.testing.assert_allclose(
    distill.hint_loss(student, teacher, reduction='reference'),
    1.5205192274034818,
    rtol=1e-6,
  )
  np.testing.assert_allclose(
    distill.hint_loss(student, teacher), 4.561557682210445, rtol=1e-6
  )


def test_sum_form_is_mean_form_times_half_the_elements():
  student, teacher = normal(0, 2, 3, 4, 5), normal(1, 2, 3, 4, 5)
  np.testing.assert_allclose(
    distill.hint_loss(student, teacher),
    distill.hint_loss(student, teacher, reduction='reference') * 3 * 4 * 5 / 2,
    rtol=1e-5,
  )


def test_identity_regressors_are_zero_at_equality():
  maps, rows = normal(0, 2, 3, 3, 4), normal(1, 3, 4)
  eye = Regressor(jnp.eye(4), jnp.zeros(4))
  assert distill.hint_loss(rows, rows, eye) == 0
  eye = Regressor(jnp.eye(4)[None, None], jnp.zeros(4))
  assert distill.hint_loss(maps, maps, eye) == 0
  # Rectified, it cannot meet what is negative.
  assert distill.hint_loss(maps, maps, eye, relu=True) > 0
  assert distill.hint_loss(abs(maps), abs(maps), eye, relu=True) == 0


def test_vector_regressor_by_hand():
  params = Regressor(jnp.array([[1.0, 2, 0], [0, 1, -1]]), jnp.ones(3))
  np.testing.assert_array_equal(
    distill.regress(jnp.array([[1.0, 2]]), params), [[2, 5, -1]]
  )
  np.testing.assert_array_equal(
    distill.regress(jnp.array([[1.0, 2]]), params, relu=True), [[2, 5, 0]]
  )


def test_the_papers_kernel_makes_sizes_agree():
  params = distill.init_regressor(KEY, student=(8, 7, 3), teacher=(5, 6, 4))
  assert params.kernel.shape == (4, 2, 3, 4)
  maps = normal(0, 2, 8, 7, 3)
  out = distill.regress(maps, params)
  assert out.shape == (2, 5, 6, 4)
  np.testing.assert_allclose(
    out[1, 2, 3],
    np.einsum('ijc,ijcd->d', maps[1, 2:6, 3:5], params.kernel),
    rtol=1e-4,
    atol=1e-5,
  )
  params = distill.init_regressor(KEY, student=(6,), teacher=(4,))
  assert distill.regress(normal(0, 2, 6), params).shape == (2, 4)


@pytest.mark.parametrize(
  'student, teacher, kernel',
  [((8, 8), (4, 4), 3), ((4, 4), (8, 8), 4), ((7, 7), (4, 4), 4)],
)
def test_adapter_sizes(student, teacher, kernel):
  params = distill.init_adapter(
    KEY, student=(*student, 3), teacher=(*teacher, 5)
  )
  assert params.kernel.shape == (kernel, kernel, 3, 5)
  maps = normal(0, 4, *student, 3)
  out = distill.adapt(maps, params, places=teacher, relu=False)
  assert out.shape == (4, *teacher, 5)
  np.testing.assert_allclose(out.mean((0, 1, 2)), 0, atol=1e-5)
  np.testing.assert_allclose(out.std((0, 1, 2)), 1, rtol=1e-3)
  np.testing.assert_allclose(
    distill.adapt(maps, params, places=teacher), jax.nn.relu(out)
  )


def test_transposed_adapter_spreads_one_place_by_its_kernel():
  maps = jnp.zeros((1, 3, 3, 1)).at[0, 1, 1].set(1)
  kernel = jnp.arange(1.0, 17).reshape(4, 4, 1, 1)
  out = distill.adapt(
    maps,
    Adapter(kernel, jnp.ones(1), jnp.zeros(1)),
    places=(6, 6),
    relu=False,
  )[0, :, :, 0]
  # Sixteen places around (2 .. 3) take the sixteen weights, mirrored.
  np.testing.assert_allclose(out[0], out[0, 0], rtol=1e-6)
  spread = out[1:5, 1:5] - out[0, 0]
  np.testing.assert_allclose(
    spread / spread[3, 3], kernel[::-1, ::-1, 0, 0], rtol=1e-4
  )


def test_gradients_types_devices():
  student, teacher = normal(0, 8, 4, 4, 2), normal(1, 8, 2, 2, 3)
  shapes = {'student': (4, 4, 2), 'teacher': (2, 2, 3)}
  adapter = distill.init_adapter(KEY, **shapes)
  regressor = distill.init_regressor(KEY, **shapes)

  def loss(ours, theirs):
    return distill.hint_loss(ours, theirs, adapter) + distill.hint_loss(
      ours, theirs, regressor
    )

  check_loss(loss, student, teacher)
  check_sharded(loss, student, teacher)
  slope = jax.grad(lambda p: distill.hint_loss(student, teacher, p))(regressor)
  assert all((np.abs(leaf) > 0).any() for leaf in slope)


def test_errors():
  maps = jnp.ones((2, 4, 4, 3))
  with pytest.raises(InputError, match='reduction'):
    distill.hint_loss(maps, maps, reduction='sum')
  with pytest.raises(InputError, match='by a regressor'):
    distill.hint_loss(maps, maps[..., :2])
  with pytest.raises(InputError, match='same images'):
    distill.hint_loss(maps, maps[:1])
  with pytest.raises(InputError, match='at least as large'):
    distill.init_regressor(KEY, student=(3, 3, 1), teacher=(4, 4, 1))
  with pytest.raises(InputError, match='for both'):
    distill.init_regressor(KEY, student=(3,), teacher=(4, 4, 1))
  with pytest.raises(InputError, match='half as many'):
    distill.init_adapter(KEY, student=(3, 3, 1), teacher=(4, 4, 1))
  with pytest.raises(InputError, match='right is .H, W, C'):
    distill.init_adapter(KEY, student=(3,), teacher=(4,))
  params = distill.init_regressor(KEY, student=(4,), teacher=(4,))
  with pytest.raises(InputError, match='input channels'):
    distill.regress(maps, params)
  adapter = distill.init_adapter(KEY, student=(8, 8, 3), teacher=(4, 4, 3))
  with pytest.raises(InputError, match='made for these sizes'):
    distill.adapt(maps, adapter, places=(4, 4))


def test_an_adapter_is_for_maps():
  params = distill.init_adapter(KEY, student=(4, 4, 3), teacher=(4, 4, 5))
  maps = jnp.ones((2, 4, 4, 3)), jnp.ones((2, 4, 4, 5))
  for pair in ((maps[0][:, 0, 0], maps[1]), (maps[0], maps[1][:, 0, 0])):
    with pytest.raises(InputError, match='right are maps'):
      distill.hint_loss(*pair, params)
