import numpy as np
import pytest

from compress.errors import InputError
from compress.prune import image_similarity as lib


def images(count=5):
  return np.random.default_rng(0).uniform(size=(count, 9, 7, 3))


@pytest.mark.parametrize(
  'measure',
  [
    lib.color_similarity,
    lib.texture_similarity,
    lambda x: lib.texture_similarity(x, method='gram'),
    lib.similarity,
  ],
)
def test_similarity_is_symmetric_with_ones_on_the_diagonal(measure):
  stack = images()
  stack[3] = stack[0]
  stack[4] = 0.5
  found = measure(stack)
  np.testing.assert_allclose(found, found.T, atol=1e-12)
  np.testing.assert_allclose(np.diag(found), 1, atol=1e-12)
  np.testing.assert_allclose(found[0, 3], 1, atol=1e-12)
  assert found[0, 4] < 0.99


def test_golden_histogram_intersection():
  # Half black, half white beside a quarter black, the rest white.
  one = np.repeat([0.0, 0.0, 1.0, 1.0], 3).reshape(1, 2, 2, 3)
  two = np.repeat([0.0, 1.0, 1.0, 1.0], 3).reshape(1, 2, 2, 3)
  found = lib.color_similarity(np.concatenate([one, two]))
  np.testing.assert_allclose(found, [[1, 0.75], [0.75, 1]])


def test_texture_does_not_see_brightness():
  stack = images(2)
  stack[1] = 0.5 * stack[0] + 0.25
  np.testing.assert_allclose(lib.texture_similarity(stack), 1, atol=1e-12)
  gram = lib.texture_similarity(stack, method='gram')
  np.testing.assert_allclose(gram, 1, atol=1e-12)


def test_greedy_removal_by_hand():
  similar = np.eye(4)
  for i, j, value in [(0, 1, 0.9), (1, 2, 0.8), (2, 3, 0.7), (0, 2, 0.6)]:
    similar[i, j] = similar[j, i] = value
  # 0-1 first: 1 goes and takes 1-2 along; 2-3: equal norms, the later goes.
  found = lib.removal_similarity(similar, np.array([3.0, 1.0, 2.0, 2.0]))
  np.testing.assert_array_equal(found, [-np.inf, 0.9, 0.6, 0.7])


def test_bad_input_gets_one_line():
  with pytest.raises(InputError, match='lbp'):
    lib.texture_similarity(images(), method='fourier')
  with pytest.raises(InputError, match='color_weight'):
    lib.similarity(images(), color_weight=2.0)
