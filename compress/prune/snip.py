r"""SNIP: connection sensitivity at initialization.

Lee, Ajanthan, Torr 2019, 'SNIP: Single-shot Network Pruning based on Connection
Sensitivity', arXiv:1810.02340. With a factor c_j on every weight, the
sensitivity of connection j is the derivative of the loss with respect to c_j
at c = 1, on one batch (balanced over classes) at a variance-scaled
initialization; equations 5 and 6:

  s_j = |g_j w_j| / sum_k |g_k w_k|,    g = dL/dw

The largest stay, compared over the whole network (`allocation`'s global
scope), and the survivors are trained from where they stand.

The loss decides in which mode BatchNorm runs: the paper's is that of training,
with the statistics of the batch. At extreme sparsities whole layers go;
`empty_leaves` names them. The sensitivities depend on the variance of
the initialization, layer against layer.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from compress.prune.paths import KERNELS, matching, put

LossFn = Callable[[Any, Any], jax.Array]


def snip_saliency(
  loss_fn: LossFn, params, batch, *, prunable: str = KERNELS
) -> dict[str, jax.Array]:
  """Sensitivity of the loss to each connection; Lee et al. 2019, equation 6.

  Args:
    loss_fn: `(params, batch) -> scalar`, the mean over the batch.
    params: pytree of arrays, as initialized.
    batch: what the loss takes; the paper's has one batch of the training set.
    prunable: regular expression over whole leaf paths.

  Returns:
    Leaf path to float32 array of the leaf's shape, all at least 0; over all
    leaves they sum to 1 (to 0, where no weight matters to the loss). Higher =
    keep.

  Raises:
    InputError: nothing matches `prunable`.
  """
  leaves = matching(params, prunable)
  grads = jax.grad(lambda some: loss_fn(put(params, some), batch))(leaves)
  scores = {p: jnp.abs(_float(grads[p]) * _float(w)) for p, w in leaves.items()}
  total = sum(jnp.sum(s) for s in scores.values())
  return {p: s / jnp.where(total > 0, total, 1) for p, s in scores.items()}


def _float(x):
  return x.astype(jnp.float32)
