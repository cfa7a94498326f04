import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress.errors import InputError
from compress.prune.masking import empty_leaves
from compress.prune.synflow import synflow_masks, synflow_saliency


def chain(variables, x):
  for name in sorted(variables['params']):
    x = jax.nn.relu(x @ variables['params'][name]['kernel'])
  return x


def variables_of(*widths, seed=0, scale=1.0):
  keys = jax.random.split(jax.random.key(seed), len(widths) - 1)
  shapes = zip(keys, widths[:-1], widths[1:], strict=True)
  return {
    'params': {
      f'layer{i:03}': {'kernel': scale * jax.random.normal(key, (a, b))}
      for i, (key, a, b) in enumerate(shapes)
    }
  }


class Net(nn.Module):
  @nn.compact
  def __call__(self, x, train=False):
    x = nn.Conv(4, (3, 3), use_bias=False)(x)
    x = nn.BatchNorm(use_running_average=not train)(x)
    x = nn.relu(x).mean((1, 2))
    return nn.Dense(3)(x)


def count(masks):
  return sum(int(m.sum()) for m in masks.values())


def test_golden():
  # Rows of W are outputs in the specification; a kernel is its transpose.
  variables = {
    'params': {
      'layer0': {'kernel': jnp.array([[1.0, -3.0], [-2.0, 4.0]])},
      'layer1': {'kernel': jnp.array([[-1.0], [1.0]])},
    }
  }
  scores = synflow_saliency(chain, variables, jnp.ones((1, 2)), normalize=False)
  np.testing.assert_array_equal(scores['layer0/kernel'], [[1, 3], [2, 4]])
  np.testing.assert_array_equal(scores['layer1/kernel'], [[3], [7]])
  assert [float(s.sum()) for s in scores.values()] == [10, 10]


@pytest.mark.parametrize('widths', [(4, 9, 3), (3, 20, 7, 2, 5)])
def test_flow_is_conserved(widths):
  variables = variables_of(*widths)
  before = jax.tree.map(np.array, variables)
  scores = synflow_saliency(chain, variables, jnp.ones((1, widths[0])))
  for leaf in scores.values():
    assert float(leaf.sum()) == pytest.approx(1, rel=1e-5)
  jax.tree.map(np.testing.assert_array_equal, variables, before)


def test_a_deep_network_does_not_overflow():
  variables = variables_of(*[16] * 13, scale=1e3)
  ones = jnp.ones((1, 16))
  positive = jax.tree.map(jnp.abs, variables)
  assert not np.isfinite(chain(positive, ones)).all()
  scores = synflow_saliency(chain, variables, ones)
  for leaf in scores.values():
    assert float(leaf.sum()) == pytest.approx(1, rel=1e-4)
  masks = synflow_masks(chain, variables, ones, density=0.1, rounds=5)
  assert count(masks) == 12 * 256 // 10
  with pytest.raises(InputError, match='not finite'):
    synflow_saliency(chain, variables, ones, normalize=False)


def test_rounds_save_the_layer_that_one_round_empties():
  variables = variables_of(30, 100, 10, 4)
  total = 3000 + 1000 + 40
  ones = jnp.ones((1, 30))
  options = {'density': 20 / total}
  once = synflow_masks(chain, variables, ones, rounds=1, **options)
  assert 'layer000/kernel' in empty_leaves(once)
  often = synflow_masks(chain, variables, ones, rounds=50, **options)
  assert empty_leaves(often) == ()
  assert count(once) == count(often) == 20


def test_maximal_critical_compression():
  variables = variables_of(6, 8, 7, 5)
  total = 6 * 8 + 8 * 7 + 7 * 5
  masks = synflow_masks(
    chain, variables, jnp.ones((1, 6)), density=3 / total, rounds=100
  )
  assert [int(m.sum()) for m in masks.values()] == [1, 1, 1]


def test_masks_of_a_network_with_batch_norm():
  model, ones = Net(), jnp.ones((1, 6, 6, 2))
  variables = model.init(jax.random.key(0), ones)
  masks = synflow_masks(model.apply, variables, ones, density=0.5, rounds=10)
  total = 3 * 3 * 2 * 4 + 4 * 3
  assert set(masks) == {'Conv_0/kernel', 'Dense_0/kernel'}
  assert count(masks) == total // 2
  assert all(m.dtype == bool for m in masks.values())
  scores = synflow_saliency(model.apply, variables, ones, masks=masks)
  for path, leaf in scores.items():
    assert leaf.dtype == jnp.float32
    assert not np.any(leaf[~masks[path]])


def test_density_of_one_keeps_everything():
  variables = variables_of(3, 4)
  masks = synflow_masks(chain, variables, jnp.ones((1, 3)), density=1.0)
  assert count(masks) == 12


def test_refuses_training_mode_and_numbers_out_of_range():
  model, ones = Net(), jnp.ones((1, 6, 6, 2))
  variables = model.init(jax.random.key(0), ones)

  def training(variables, x):
    return model.apply(variables, x, train=True, mutable=['batch_stats'])

  with pytest.raises(InputError, match='evaluation mode'):
    synflow_saliency(training, variables, ones)
  with pytest.raises(InputError, match="no 'params'"):
    synflow_saliency(model.apply, variables['params'], ones)
  with pytest.raises(InputError, match='density is 0'):
    synflow_masks(model.apply, variables, ones, density=0)
  with pytest.raises(InputError, match='rounds is 0'):
    synflow_masks(model.apply, variables, ones, density=0.1, rounds=0)
