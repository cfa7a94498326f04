import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import packed as packed_lib
from compress.compressor import KEEP, State
from compress.errors import InputError
from compress.quantize import (
  AffineSpec,
  QParams,
  mse_range,
  quantize_weights,
  ranges,
)

# spec: the 2 x 4 weight whose four quantizations are known. Its rows are the
# output channels there; here the last axis is.
GOLDEN = jnp.array(
  [[-1, -0.3, 0.55, 0.9], [0.1, 0.22, 0.31, 0.4]], jnp.float32
).T
FOUR_BITS = AffineSpec(bits=4)
ASYMMETRIC = {'symmetric': False, 'bounds': 'unsigned'}


@pytest.mark.parametrize(
  'spec, codes, error',
  [
    ({}, [[-7, -2, 4, 6], [1, 2, 2, 3]], 1.257653e-3),
    (
      {'granularity': 'channel'},
      [[-7, -2, 4, 6], [2, 4, 5, 7]],
      4.209184e-4,
    ),
    (ASYMMETRIC, [[0, 6, 12, 15], [9, 10, 10, 11]], 1.230556e-3),
    (
      {'granularity': 'channel', **ASYMMETRIC},
      [[0, 6, 12, 15], [4, 8, 12, 15]],
      5.75e-4,
    ),
  ],
)
@pytest.mark.parametrize('dynamic', [False, True])
def test_golden(spec, codes, error, dynamic):
  spec = AffineSpec(bits=4, dynamic=dynamic, **spec)
  method = quantize_weights([('fc/kernel', spec)])
  params = {'fc': {'kernel': GOLDEN}}
  state = method.init(params)
  packed = method.pack(params, state)['fc']['kernel']
  np.testing.assert_array_equal(packed.codes, np.transpose(codes))
  out = method.apply(params, state)['fc']['kernel']
  np.testing.assert_array_equal(packed_lib.unpack(packed), out)
  np.testing.assert_allclose(((out - GOLDEN) ** 2).mean(), error, rtol=1e-5)


def test_static_ranges_stay_and_dynamic_ones_follow():
  params = {'static': GOLDEN, 'dynamic': GOLDEN}
  method = quantize_weights(
    [
      ('static', AffineSpec(bits=4)),
      ('dynamic', AffineSpec(bits=4, dynamic=True)),
    ]
  )
  state = method.init(params)
  assert list(state.carried['qparams']) == ['static']
  assert state.learned == {}
  doubled = jax.tree.map(lambda x: 2 * x, params)
  out = method.apply(doubled, state)
  np.testing.assert_array_equal(
    out['dynamic'], 2 * method.apply(params, state)['dynamic']
  )
  # Beyond the range that `init` saw, which ends at 1.
  np.testing.assert_allclose(jnp.abs(out['static']).max(), 1, rtol=1e-6)


def test_learned_steps_start_from_the_range_and_get_a_gradient():
  params = {'w': GOLDEN, 'b': jnp.ones((3,))}
  spec = AffineSpec(bits=4, granularity='channel')
  range_fn = lambda x, spec: (jnp.full((1, 2), -0.56), jnp.full((1, 2), 0.5))  # noqa: E731
  method = quantize_weights([('w', spec)], learned=True, range_fn=range_fn)
  state = method.init(params)
  np.testing.assert_allclose(state.learned['w'], [[0.08, 0.08]], rtol=1e-6)
  static = quantize_weights([('w', spec)], range_fn=range_fn)
  np.testing.assert_array_equal(
    method.apply(params, state)['w'],
    static.apply(params, static.init(params))['w'],
  )

  def total(params, learned):
    return method.apply(params, State(learned, state.carried))['w'].sum()

  grads = jax.grad(total, (0, 1))(params, state.learned)
  np.testing.assert_array_equal(grads[0]['w'].T, [[0, 1, 1, 0], [1, 1, 1, 1]])
  # w / s is -12.5, -3.75, 6.875, 11.25 and 1.25, 2.75, 3.875, 5.
  each = np.array([[-7, -0.25, 0.125, 7], [-0.25, 0.25, 0.125, 0]])
  np.testing.assert_allclose(
    grads[1]['w'][0], each.sum(1) / np.sqrt(4 * 7), rtol=1e-4
  )


def test_clipped_weights_get_no_gradient_and_others_all():
  params = {'w': jnp.array([-3.0, -0.2, 0.4, 3.0])}
  spec = AffineSpec(bits=4)
  q = {'w': QParams(jnp.float32(0.1), jnp.int32(0))}
  state = State({}, {'qparams': q, 'step': jnp.int32(0)})
  for gradient, expected in (('clipped', [0, 1, 1, 0]), ('identity', [1] * 4)):
    clipped = AffineSpec(bits=4, gradient=gradient)
    method = quantize_weights([('w', clipped)])
    grad = jax.grad(lambda p, m=method: m.apply(p, state)['w'].sum())(params)
    np.testing.assert_array_equal(grad['w'], expected)
  assert spec.qmax == 7


def test_range_function():
  outlier = jnp.concatenate([jnp.linspace(-1, 1, 200), jnp.array([1.5])])
  plain = quantize_weights([('w', FOUR_BITS)]).init({'w': outlier})
  least = quantize_weights([('w', FOUR_BITS)], range_fn=mse_range)
  state = least.init({'w': outlier})
  scale = state.carried['qparams']['w'].scale
  assert scale < plain.carried['qparams']['w'].scale
  expected = ranges.qparams_from_range(
    *mse_range(outlier, FOUR_BITS), FOUR_BITS
  )
  assert scale == expected.scale


def test_stochastic_rounding_is_unbiased_and_drawn_anew_by_update():
  params = {'a': jnp.full((4000,), 0.3), 'b': jnp.full((4000,), 0.3)}
  spec = AffineSpec(bits=2, rounding='stochastic')
  method = quantize_weights(
    [('.*', spec)],
    range_fn=lambda x, spec: (jnp.float32(-1), jnp.float32(1)),
    key=jax.random.key(0),
  )
  state = method.init(params)
  first = method.apply(params, state)
  assert set(np.unique(first['a'])) == {0.0, 1.0}
  # Three standard errors of a coin with p = 0.3.
  assert abs(first['a'].mean() - 0.3) < 3 * np.sqrt(0.21 / 4000)
  assert (first['a'] != first['b']).any()
  np.testing.assert_array_equal(first['a'], method.apply(params, state)['a'])
  later = method.apply(params, method.update(params, state, step=1))
  assert (first['a'] != later['a']).any()


def test_plans():
  params = {'conv': {'kernel': GOLDEN}, 'fc': {'kernel': GOLDEN}}
  method = quantize_weights([('conv/.*', KEEP), ('.*kernel', FOUR_BITS)])
  out = method.apply(params, method.init(params))
  assert out['conv']['kernel'] is params['conv']['kernel']
  assert (out['fc']['kernel'] != GOLDEN).any()


@pytest.mark.parametrize(
  'spec',
  [
    AffineSpec(symmetric=False),
    AffineSpec(dynamic=True),
    AffineSpec(rounding='stochastic'),
    AffineSpec(power_of_two=True),
  ],
)
def test_specs_that_cannot_be_learned(spec):
  with pytest.raises(InputError):
    quantize_weights([('w', spec)], learned=True).init({'w': GOLDEN})


def test_a_key_is_asked_for():
  spec = AffineSpec(rounding='stochastic')
  with pytest.raises(InputError, match='key'):
    quantize_weights([('w', spec)])


def test_no_such_axis():
  spec = AffineSpec(granularity='channel', axis=3)
  with pytest.raises(InputError, match='axis=3'):
    quantize_weights([('w', spec)]).init({'w': GOLDEN})
