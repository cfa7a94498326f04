"""A compressed network after each stage of Deep Compression, as real files.

Every file is what `encode.save` writes, header included; what differs is the
form of the tensors and the codecs it may choose from.
"""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compress import encode, quantize
from compress import packed as packed_lib
from compress.packed import Dense, Quantized, Sparse, is_packed

CODED = ('codebook', 'huffman', 'ans', 'context')
"""Files of the same codes."""
STAGES = ('float32', 'pruned', *CODED, 'deepcabac')

_PLAIN, _HUFFMAN = encode.plain(), encode.huffman()
_ANS = encode.ans(), encode.adaptive_ans()


def codecs_of(stage: str):
  """What a stage's file may choose from, for `encode.save`.

  Args:
    stage: of `STAGES`. `pruned` and `codebook` have relative indices and codes
      of a fixed number of bits; `huffman` codes both streams by Huffman, `ans`
      by asymmetric numeral systems; `context` and `deepcabac` code all places
      by context-adaptive binary arithmetic coding, without indices.

  Returns:
    `(*, row_length) -> codecs`.
  """

  def codecs(*, row_length: int | None = None):
    if stage in ('context', 'deepcabac'):
      return (encode.context_coder(row_length=row_length),)
    inner = {'huffman': (_HUFFMAN,), 'ans': _ANS}.get(stage, (_PLAIN,))
    return *inner, encode.sparse(inner)

  return codecs


def save_stage(
  folder: pathlib.Path, stage: str, tree: Any, metadata: dict[str, Any]
) -> int:
  """Writes the file of a stage.

  Args:
    folder: made if it is not there.
    stage: of `STAGES`; the file is called so.
    tree: a packed tensor at every leaf; sparse codebooks become codebooks with
      a code for zero, as Deep Compression stores them.
    metadata: for the header.

  Returns:
    Bytes of the file.
  """
  folder.mkdir(parents=True, exist_ok=True)
  tree = jax.tree.map(quantize.with_zero_code, tree, is_leaf=is_packed)
  path = folder / f'{stage}.safetensors'
  return encode.save(path, tree, metadata, codecs=codecs_of(stage))


def read_stage(folder: pathlib.Path, stage: str):
  """The arrays in the file of a stage."""
  tree = encode.load(folder / f'{stage}.safetensors').tree
  return jax.tree.map(jnp.asarray, packed_lib.unpack_tree(tree))


def file_parts(folder: pathlib.Path, stage: str) -> dict[str, int]:
  """Where the bytes of a stage's file are.

  Args:
    folder: that holds it.
    stage: of `STAGES`.

  Returns:
    Path of a kernel among the parameters to bytes of its codes and tables,
    then `other tensors`, such as biases, and `header`; the sum is the file.
  """
  path = folder / f'{stage}.safetensors'
  kernels, others = {}, 0
  with encode.File(path) as file:
    for name in file.names:
      size = file.nbytes(name)
      if file.entries[name]['kind'] == 'dense':
        others += size
      else:
        kernels[name.removeprefix('params/')] = size
  header = path.stat().st_size - sum(kernels.values()) - others
  return {**kernels, 'other tensors': others, 'header': header}


def sparse_tree(variables):
  """A tree for a file: kernels with their survivors alone, the rest dense."""

  def at(leaf):
    if jnp.ndim(leaf) < 2:
      return Dense(jnp.asarray(leaf))
    return Sparse(leaf != 0, Dense(jnp.asarray(leaf)))

  return jax.tree.map(at, variables)


def uniform_tree(variables, *, step: float, rate: float):
  """Kernels on a uniform grid, their codes chosen for the context coder.

  In the manner of DeepCABAC (Wiedemann et al. 2020, arXiv:1907.11900): no
  codebook, no training afterwards; a code may move if that saves enough bits.

  Args:
    variables: the pruned network; zeros stay.
    step: of the grid, in root mean squares of a kernel's survivors.
    rate: squared steps that a bit may cost.

  Returns:
    A packed tensor at every leaf.
  """

  def at(leaf):
    values = np.asarray(leaf)
    kept = values != 0
    if values.ndim < 2 or not kept.any():
      return Dense(jnp.asarray(leaf))
    size = np.float32(step * np.sqrt((values[kept] ** 2).mean()))
    codes = encode.choose_codes(
      values, step=size, rate=rate, bounds=(-127, 127)
    )
    codes = np.where(kept, codes, 0).astype(np.int8)
    scale = jnp.full((1,) * values.ndim, size)
    return Quantized(jnp.asarray(codes), scale, None, bits=8)

  return jax.tree.map(at, variables)
