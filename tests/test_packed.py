import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compress import packed as packed_lib
from compress.packed import Codebook, Dense, Quantized, Sparse


def test_quantized_unpacks_by_hand():
  packed = Quantized(
    jnp.array([[0, 3], [7, 1]], jnp.uint8),
    jnp.array([[0.5, 2.0]]),
    jnp.array([[1, 0]], jnp.int32),
    bits=3,
  )
  np.testing.assert_array_equal(
    packed_lib.unpack(packed), [[-0.5, 6.0], [3.0, 2.0]]
  )
  assert packed_lib.nbytes(packed) == 2 + 8 + 2  # 12 bits, 2 scales, 2 zeros
  assert packed_lib.nominal_bits(packed) == 12


def test_groups_run_over_the_input():
  scale = jnp.array([[[1.0, 10.0]], [[2.0, 20.0]]])  # [G=2, 1, C=2]
  expanded = packed_lib.expand_groups(scale, (3, 2), axis=-1, group_size=2)
  np.testing.assert_array_equal(expanded, [[1, 10], [1, 10], [2, 20]])
  packed = Quantized(
    jnp.ones((3, 2), jnp.int8), scale, None, bits=4, group_size=2
  )
  np.testing.assert_array_equal(packed_lib.unpack(packed), expanded)


def test_sizes_of_a_tree():
  codes = jnp.zeros((10,), jnp.int8)
  tree = {
    'a': Quantized(codes, jnp.float32(1), None, bits=6),
    'b': Dense(jnp.zeros((3,))),
  }
  assert packed_lib.tree_nbytes(tree) == 8 + 4 + 12
  assert packed_lib.tree_nominal_bytes(tree) == 7.5 + 12
  unpacked = packed_lib.unpack_tree(tree)
  assert jax.tree.map(jnp.shape, unpacked) == {'a': (10,), 'b': (3,)}


def test_unpacks_under_jit():
  packed = Quantized(
    jnp.arange(4, dtype=jnp.int8), jnp.float32(0.5), None, bits=4
  )
  np.testing.assert_array_equal(
    jax.jit(packed_lib.unpack)(packed), packed_lib.unpack(packed)
  )


def test_sparse_by_hand():
  mask = jnp.array([[True, False, False], [False, True, True]])
  dense = Dense(jnp.arange(6.0).reshape(2, 3) + 1)
  packed = Sparse(mask, dense)
  np.testing.assert_array_equal(
    packed_lib.unpack(packed), [[1, 0, 0], [0, 5, 6]]
  )
  assert packed_lib.nbytes(packed) == 1 + 3 * 4
  assert packed_lib.nominal_bits(packed) == 3 * 32
  codes = jnp.array([[1, 2, 3], [4, 5, 6]], jnp.int8)
  quantized = Quantized(codes, jnp.float32(0.5), None, bits=4)
  packed = packed_lib.sparse(mask, quantized)
  np.testing.assert_array_equal(
    packed_lib.unpack(packed), [[0.5, 0, 0], [0, 2.5, 3]]
  )
  assert packed_lib.nbytes(packed) == 1 + 2 + 4  # bitmap, 12 bits, scale
  assert packed_lib.nominal_bits(packed) == 12
  assert packed_lib.is_packed(packed)


def test_what_two_masks_leave():
  inner = Sparse(jnp.array([True, True, False]), Dense(jnp.ones(3)))
  packed = packed_lib.sparse(jnp.array([False, True, True]), inner)
  assert isinstance(packed.inner, Dense)
  np.testing.assert_array_equal(packed_lib.unpack(packed), [0, 1, 0])


@pytest.mark.parametrize(
  ('pattern', 'kept', 'index_bytes'),
  [
    ((1, 4, 0), 4, 1),  # four indices of two bits
    ((2, 4, 0), 8, 2),
    ((1, 8, 0), 2, 1),
    ((1, 2, 0), 8, 1),
    ((1, 3, 0), 4, 2),  # no multiple: a bitmap
    ((4, 8, 0), 8, 2),  # 12 bits a block: a bitmap is smaller
    (None, 5, 2),
  ],
)
def test_n_m_is_stored_as_indices_where_they_are_smaller(
  pattern, kept, index_bytes
):
  mask = np.zeros((8, 2), bool)
  if pattern is None or 8 % pattern[1]:
    mask.reshape(-1)[:kept] = True
  else:
    n, m, _ = pattern
    mask = np.tile(np.arange(8)[:, None] % m < n, (1, 2))
  packed = Sparse(mask, Dense(jnp.ones((8, 2))), pattern=pattern)
  assert packed_lib.nbytes(packed) == index_bytes + kept * 4


def test_a_mask_that_leaves_its_pattern_is_a_bitmap():
  mask = np.array([True, False, False, False, True, True, False, False])
  assert packed_lib.pattern_indices(mask, (1, 4, 0)) is None
  mask[5] = False
  indices = packed_lib.pattern_indices(mask, (1, 4, 0))
  np.testing.assert_array_equal(indices, [[0], [0]])


def test_shared_values_by_hand():
  codes = jnp.array([[[0, 2, 1], [1, 1, 0]]], jnp.uint8)
  centroids = jnp.array([-1.0, 0.5, 4.0]).reshape(1, 1, 3, 1)
  packed = Codebook(codes, centroids, (2, 3))
  values = [[-1, 4, 0.5], [0.5, 0.5, -1]]
  np.testing.assert_array_equal(packed_lib.unpack(packed), values)
  assert packed.bits == 2 and packed.elementwise
  assert packed_lib.nbytes(packed) == 2 + 12  # 6 codes of 2 bits, 3 centroids
  assert packed_lib.nominal_bits(packed) == 12
  turned = Codebook(codes, centroids, (3, 2), axis=0)
  np.testing.assert_array_equal(packed_lib.unpack(turned), np.transpose(values))
  np.testing.assert_array_equal(
    packed_lib.codes_in_place(turned), [[0, 1], [2, 1], [1, 0]]
  )
  mask = jnp.array([[True, False, False], [True, True, False]])
  sparse = packed_lib.sparse(mask, packed)
  np.testing.assert_array_equal(
    packed_lib.unpack(sparse), np.where(mask, values, 0)
  )
  assert packed_lib.nbytes(sparse) == 1 + 1 + 12
  single = Codebook(jnp.ones((1, 1, 1), jnp.uint8), centroids, ())
  assert packed_lib.unpack(single) == 0.5


def test_product_and_residual_codes_by_hand():
  # Two stages, two segments of two values, three centroids each.
  centroids = jnp.arange(24.0).reshape(2, 2, 3, 2)
  codes = jnp.array([[[0, 1], [2, 2]], [[1, 0], [0, 0]]], jnp.uint8)
  packed = Codebook(codes, centroids, (2, 4))
  first = [[0, 1, 8, 9], [4, 5, 10, 11]]
  second = [[14, 15, 18, 19], [12, 13, 18, 19]]
  np.testing.assert_array_equal(
    packed_lib.unpack(packed), np.add(first, second)
  )
  assert not packed.elementwise
  assert packed_lib.nbytes(packed) == 2 + 4 * 24  # 8 codes of 2 bits
  mask = jnp.eye(2, 4, dtype=bool)
  sparse = packed_lib.sparse(mask, packed)
  assert packed_lib.nbytes(sparse) == 1 + 2 + 4 * 24
