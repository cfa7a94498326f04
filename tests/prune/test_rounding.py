import numpy as np
import pytest

from compress import prune
from compress.errors import InputError
from compress.prune import rounding


@pytest.mark.parametrize(
  ('preset', 'n', 'sparsity', 'kept'),
  [
    (prune.LIBRARY, 1000, 0.8, 200),  # 1 - 0.8 lies below 0.2
    (prune.LIBRARY, 10**8, 0.8, 2 * 10**7),
    (prune.LIBRARY, 10, 0.75, 2),
    (prune.LIBRARY, 3, 0.99, 1),
    (prune.JAXPRUNER, 10, 0.75, 2),  # 2.5, half to even
    (prune.JAXPRUNER, 10, 0.65, 4),
    (prune.JAXPRUNER, 3, 0.99, 1),
    (prune.SYNFLOW, 10, 0.75, 3),
    (prune.EDGE_POPUP, 7, 0.5, 4),
    (prune.RIGL, 7, 0.5, 4),
    (prune.SOFT_FILTER, 16, 0.3, 12),
    (prune.TORCH_PRUNING, 64, 0.2, 51),
    (prune.AMC, 64, 0.5, 32),
    (prune.AMC, 64, 0.6, 32),  # 26, up to 32
    (prune.AMC, 30, 0.1, 24),  # 27, up to 32, which there are not
    (prune.AMC, 5, 0.5, 5),
    (prune.SPARSEGPT, 8, 0.5, 3),
    (prune.SHRINKBENCH, 5, 0.5, 3),  # the quantile is the third: it stays
  ],
)
def test_survivors(preset, n, sparsity, kept):
  assert preset.count(n, sparsity) == kept


@pytest.mark.parametrize('name', prune.PRESETS)
def test_none_goes_at_sparsity_zero(name):
  assert prune.PRESETS[name].count(37, 0.0) == 37


@pytest.mark.parametrize('sparsity', [0.1, 0.25, 0.5, 0.77, 0.9])
def test_shrinkbench_is_the_interpolated_quantile(sparsity):
  scores = np.random.default_rng(0).integers(0, 12, 41).astype(np.float32)
  expected = scores >= np.quantile(scores, sparsity)
  kept = prune.SHRINKBENCH.count(scores.size, sparsity)
  mask = prune.top_k(scores, kept, ties=prune.SHRINKBENCH.ties)
  np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize('sparsity', [0.1, 0.3, 0.5, 0.8])
def test_synflow_removes_up_to_the_kth_value(sparsity):
  scores = np.random.default_rng(1).integers(0, 12, 40).astype(np.float32)
  expected = scores > np.sort(scores)[int(sparsity * 40) - 1]
  kept = prune.SYNFLOW.count(40, sparsity)
  mask = prune.top_k(scores, kept, ties=prune.SYNFLOW.ties)
  np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize('sparsity', [0.1, 0.3, 0.5, 0.8])
def test_sparsegpt_removes_one_more(sparsity):
  scores = np.random.default_rng(2).permutation(40).astype(np.float32)
  expected = scores > np.sort(scores)[int(sparsity * 40)]
  kept = prune.SPARSEGPT.count(40, sparsity)
  mask = prune.top_k(scores, kept, ties=prune.SPARSEGPT.ties)
  np.testing.assert_array_equal(mask, expected)
  assert expected.sum() == 40 - int(sparsity * 40) - 1


@pytest.mark.parametrize('sparsity', [1.0, -0.1, 1.5, float('nan'), 'half'])
def test_sparsity_outside_its_range(sparsity):
  with pytest.raises(InputError, match=r'conv/kernel.*\[0, 1\)'):
    rounding.check_sparsity(sparsity, 'conv/kernel')
