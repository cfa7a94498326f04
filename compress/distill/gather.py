"""The global batch inside a mapped function, for losses of pairs.

Under `jit` over a mesh arrays are global and every loss of this package is that
of the global batch. Inside `shard_map` or `pmap` a device has its own rows
only, and a loss that compares images would quietly become another one.
"""

from collections.abc import Hashable
from typing import Any

import jax


def gather_batch(tree: Any, axis_name: Hashable | None) -> Any:
  """Rows of all devices, in their order; the same on every device.

  Call it on everything that a loss takes of the batch: features and logits of
  both networks, labels, indices. Every device then computes the loss of the
  global batch, and the mean over devices of the gradients (`lax.pmean`), as
  `compress.train.make_step` takes it, is the gradient of that loss. Under
  `shard_map` with `check_vma`, where the gradient of replicated parameters
  arrives already summed, take the `lax.pmean` of the loss instead.

  Args:
    tree: arrays `[B, ...]`, B rows a device.
    axis_name: of the enclosing `shard_map`, `pmap` or `vmap`; None gives the
      tree back.

  Returns:
    Arrays `[devices * B, ...]`, with gradients to the rows of all devices.
  """
  if axis_name is None:
    return tree
  return jax.lax.all_gather(tree, axis_name, tiled=True)
