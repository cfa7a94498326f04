"""What a compressed tensor is, in memory.

A method's `pack` turns every leaf of a parameter tree into one of these. Each
is a pytree, knows the bytes that it takes when its codes are packed to their
bits, and unpacks to the array that the method's `apply` gives.
"""

from compress.packed.forms import Bucketed as Bucketed
from compress.packed.forms import Codebook as Codebook
from compress.packed.forms import Dense as Dense
from compress.packed.forms import Packed as Packed
from compress.packed.forms import Quantized as Quantized
from compress.packed.forms import Sparse as Sparse
from compress.packed.forms import index_bits as index_bits
from compress.packed.forms import is_packed as is_packed
from compress.packed.forms import sparse as sparse
from compress.packed.sizes import nbytes as nbytes
from compress.packed.sizes import nominal_bits as nominal_bits
from compress.packed.sizes import pattern_indices as pattern_indices
from compress.packed.sizes import tree_nbytes as tree_nbytes
from compress.packed.sizes import tree_nominal_bytes as tree_nominal_bytes
from compress.packed.values import between as between
from compress.packed.values import bucket_rows as bucket_rows
from compress.packed.values import codes_in_place as codes_in_place
from compress.packed.values import even_levels as even_levels
from compress.packed.values import expand_groups as expand_groups
from compress.packed.values import unpack as unpack
from compress.packed.values import unpack_tree as unpack_tree
