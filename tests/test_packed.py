import jax
import jax.numpy as jnp
import numpy as np

from compress import packed as packed_lib
from compress.packed import Dense, Quantized


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
