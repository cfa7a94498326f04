"""Maps of one size: windows by hand, means kept, errors."""

import jax.numpy as jnp
import numpy as np
import pytest

from compress import distill
from compress.errors import InputError
from tests.distill.features import normal


def test_windows_by_hand():
  row = jnp.arange(1.0, 6)[None, None, :, None]
  # Five places to two: means of the first three and of the last three.
  np.testing.assert_allclose(
    distill.adaptive_average_pool(row, places=(1, 2)).ravel(), [2, 4]
  )
  np.testing.assert_allclose(
    distill.adaptive_average_pool(row, places=(1, 3)).ravel(), [1.5, 3, 4.5]
  )


def test_even_windows_are_block_means():
  maps = normal(0, 2, 6, 4, 3)
  pooled = distill.adaptive_average_pool(maps, places=(3, 2))
  blocks = np.asarray(maps).reshape(2, 3, 2, 2, 2, 3).mean((2, 4))
  np.testing.assert_allclose(pooled, blocks, rtol=1e-5, atol=1e-6)


def test_the_larger_map_is_reduced_on_each_axis():
  ours, theirs = distill.match_places(
    normal(0, 2, 6, 3, 5), normal(1, 2, 4, 4, 7).astype(jnp.bfloat16)
  )
  assert ours.shape == (2, 4, 3, 5) and theirs.shape == (2, 4, 3, 7)
  assert ours.dtype == theirs.dtype == jnp.float32
  same = normal(2, 2, 4, 4, 3)
  for maps in distill.match_places(same, same):
    np.testing.assert_array_equal(maps, same)


def test_errors():
  with pytest.raises(InputError, match=r'right is \[B, H, W, C\]'):
    distill.adaptive_average_pool(jnp.ones((2, 3)), places=(1, 1))
  with pytest.raises(InputError, match='right is 1 or more'):
    distill.adaptive_average_pool(jnp.ones((2, 3, 3, 1)), places=(0, 1))
  with pytest.raises(InputError, match='same images'):
    distill.match_places(jnp.ones((2, 3, 3, 1)), jnp.ones((3, 3, 3, 1)))
