"""Turning arrays from outside into the variables of a module, checked."""

import hashlib
import os
import pathlib
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from compress.errors import InputError
from compress.models.layers import IMAGE_SHAPE


def read_file(path: str | os.PathLike, *, right: str) -> bytes:
  """Reads a weights file.

  Args:
    path: the file.
    right: what the file should be, for the message.

  Returns:
    Its bytes.

  Raises:
    InputError: there is no such file, or it is empty.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise InputError(f'{path}: no such file; right is {right}')
  data = path.read_bytes()
  if not data:
    raise InputError(f'{path}: the file is empty; right is {right}')
  return data


def sha256(path: str | os.PathLike) -> str:
  """Returns the SHA-256 digest of a file, 64 hexadecimal digits."""
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def variables_for(
  module: nn.Module,
  flat: Mapping[str, np.ndarray],
  *,
  path: str | os.PathLike,
  right: str,
) -> dict:
  """Nests the arrays into the module's variables.

  Args:
    module: the network the arrays are for.
    flat: arrays by path, e.g. `params/stage1/block0/conv1/kernel`.
    path: the file they came from, for messages.
    right: what the file should be, for messages.

  Returns:
    `{'params': ..., 'batch_stats': ...}`, float32.

  Raises:
    InputError: an array is missing, left over, of another shape or not finite.
  """

  def fail(reason):
    raise InputError(f'{path}: {reason}; right is {right}')

  shapes = traverse_util.flatten_dict(_variable_shapes(module), sep='/')
  if missing := sorted(shapes.keys() - flat.keys()):
    fail(f'{len(missing)} arrays are missing, first {missing[0]}')
  if extra := sorted(flat.keys() - shapes.keys()):
    fail(f'{len(extra)} arrays are left over, first {extra[0]}')
  for name, want in shapes.items():
    if flat[name].shape != want.shape:
      fail(
        f'{name} has shape {list(flat[name].shape)} '
        f'instead of {list(want.shape)}'
      )
    if not np.isfinite(flat[name]).all():
      fail(f'{name} holds values that are not finite')
  arrays = {name: jnp.asarray(flat[name], jnp.float32) for name in shapes}
  return traverse_util.unflatten_dict(arrays, sep='/')


def _variable_shapes(module):
  images = jax.ShapeDtypeStruct((1, *IMAGE_SHAPE), jnp.float32)
  return jax.eval_shape(module.init, jax.random.key(0), images)
